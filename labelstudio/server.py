"""Label Studio servers, one a reader: their template, settings, accounts and logins.

The open edition knows no permissions: whoever has an account on a server can read everything on it. Blinding is
therefore kept by a server of their own for each reader, with its own secret, accounts, pictures and loopback address.
A laboratory may name a server of its own for a reader; that one is neither started nor stopped here.
"""

import ipaddress
import json
import os
import secrets
import shutil
import socket
import sqlite3
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import httpx
from filelock import FileLock

from ctcml.deployment import Postgres
from ctcml.errors import BadInput, BrokenRecord, ProtocolBreach, ServiceDown
from ctcml.people import NAME
from ctcml.servers import ensure_database
from ctcml.services import Service, Services, check_port_free, free_port, revive, running
from ctcml.tables import atomic_path
from labelstudio.client import account, session
from labelstudio.tasks import PICTURES

DATABASE = "label_studio.sqlite3"
NOWHERE = "http://127.0.0.1:9"  # where calls to the outside end at once; some have no switch (tips on the login page)
LAST_ADDRESS = 254  # of 127.0.0.1 to 127.0.0.254
STARTS_WITHIN_S, MIGRATES_WITHIN_S = 180, 900  # on Postgres there is no template: the first start makes every table


@dataclass(frozen=True, kw_only=True)
class Login:
    """The accounts of one reader's server; kept in `login.json` with mode 0600, and nowhere else.

    An `external` server is the laboratory's own: `reader_password` only signs on the dashboard, `pictures` is its document root, and the
    administrator's token is one that was given to us.
    """

    reader: str
    reader_email: str
    reader_password: str = field(repr=False)
    admin_email: str = "admin@ctcml.invalid"
    admin_password: str = field(repr=False)
    admin_token: str = field(repr=False)
    base_url: str = ""  # of the last start; where a reader's server was, it comes back
    reader_token: str = field(default="", repr=False)
    reader_user_id: int = 0
    external: bool = False
    pictures: str = ""  # empty: `pictures` in the reader's home


@dataclass(frozen=True, kw_only=True)
class LabelStudioServer:
    """One reader's server: what to start, where its pictures lie, and where its logins are kept."""

    reader: str
    service: Service

    @property
    def pictures(self) -> Path:
        """The document root: `cells/` below it holds this reader's pictures and nothing else."""
        return self.service.home / "pictures"

    @property
    def login_file(self) -> Path:
        return self.service.home / "login.json"


def prepare_template(venv_python: Path, template: Path) -> None:
    """Make a data directory with an empty, migrated database once, so that each server starts in seconds.

    It holds no account and no secret. A template of this very version of Label Studio is left as it is.
    """
    version = _version(venv_python)
    made_by = template / "version"
    if made_by.exists() and made_by.read_text().strip() == version:
        return
    template.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=template.parent, prefix=f".{template.name}.") as name:
        home, data = Path(name), Path(name) / "data"
        data.mkdir()
        environment = _environment(home=home, data=data, pictures=home, url="http://127.0.0.1")
        _run([*_command(venv_python), "version"], environment, doing="migrating the template's database")
        # Each server makes a secret key of its own: with a shared one the tokens of one would open the other.
        (data / ".env").unlink(missing_ok=True)
        # Remembered in the file: with a write-ahead log the many small writes of an answer wait less for the disk.
        with closing(sqlite3.connect(data / DATABASE)) as database:
            database.execute("PRAGMA journal_mode=WAL")
        (data / "version").write_text(version + "\n")
        shutil.rmtree(template, ignore_errors=True)
        data.rename(template)


def label_studio_server(
    reader: str,
    *,
    home: Path,
    host: str,
    port: int,
    venv_python: Path,
    template: Path,
    database: Postgres | None = None,
) -> LabelStudioServer:
    """Describe a reader's server and, the first time, make its home: database from the template, new secrets.

    With `database` the server keeps its records in the reader's own one on that Postgres, which is made when missing.

    Raises `ServiceDown` if the port is taken here or on 127.0.0.1: there Label Studio looks, and silently moves on.
    """
    _check_name(reader)
    for address in {host, "127.0.0.1"}:
        check_port_free(address, port)
    home = home.resolve()
    data, pictures, url = home / "data", home / "pictures", f"http://{host}:{port}"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (pictures / PICTURES).mkdir(parents=True, exist_ok=True)
    login = login_for(reader, home)
    if login.external:
        raise BadInput(f"{home}: reader {reader!r} reads on {login.base_url}, which is not ours to start")
    environment = _environment(home=home, data=data, pictures=pictures, url=url)
    if database is not None:
        environment |= _on_postgres(reader, data, database)
    elif not (data / DATABASE).exists():
        _copy_template(template, data)
    environment |= {
        "LABEL_STUDIO_USERNAME": login.admin_email,
        "LABEL_STUDIO_PASSWORD": login.admin_password,
        "LABEL_STUDIO_USER_TOKEN": login.admin_token,
    }
    command = [*_command(venv_python), "start", "--no-browser", "--internal-host", host, "--port", str(port)]
    patience = STARTS_WITHIN_S if database is None else MIGRATES_WITHIN_S
    service = Service(_service_name(reader), command, environment, home, host, port, "/health", patience)
    return LabelStudioServer(reader=reader, service=service)


def _on_postgres(reader: str, data: Path, database: Postgres) -> dict[str, str]:
    """Settings for the reader's own database, which is there afterwards; no server reaches another's by its settings."""
    if (data / DATABASE).exists():
        raise BadInput(f"{data / DATABASE}: {reader!r} reads there; end the open round, then remove {data}")
    data.mkdir(exist_ok=True)
    own = database.for_reader(reader)
    ensure_database(own)
    return {
        "DJANGO_DB": "default",  # Label Studio's name for Postgres
        "POSTGRE_HOST": own.host,
        "POSTGRE_PORT": str(own.port),
        "POSTGRE_USER": own.user,
        "POSTGRE_PASSWORD": own.password,
        "POSTGRE_NAME": own.name,
    }


def _service_name(reader: str) -> str:
    return f"labelstudio-{reader}"


def provision(server: LabelStudioServer) -> Login:
    """Make sure that it is our server that answers and that its reader can log in; returns and keeps the login."""
    return _provision(server.reader, server.login_file, server.service.url)


def _provision(reader: str, login_file: Path, url: str) -> Login:
    login = read_login(login_file)
    who = account(url, login.admin_token)
    if who.get("email") != login.admin_email:
        raise ServiceDown(f"{url}: expected our server for {reader}, found one of {who.get('email')!r}; stop that one")
    reader_token, reader_user_id = _reader_account(url, login)
    login = replace(login, base_url=url, reader_token=reader_token, reader_user_id=reader_user_id)
    _keep_login(login, login_file)
    return login


def _is_provisioned(home: Path, url: str) -> bool:
    """Whether whoever started the server came to the end; it may have been killed in between."""
    login = read_login(home / "login.json")
    return bool(login.reader_token) and login.base_url == url


def start_servers(
    services: Services,
    readers: Sequence[str],
    *,
    folder: Path,
    venv_python: Path,
    template: Path,
    database: Postgres | None = None,
) -> dict[str, LabelStudioServer]:
    """Start a server for each reader side by side in `folder/<reader>`, on an address of its own; make accounts.

    Who reads on a laboratory's own server is passed over.
    """
    if len(set(readers)) != len(readers):
        raise BadInput(f"readers {list(readers)}: two have the same name; give each their own")
    servers = _describe(readers, folder=folder, venv_python=venv_python, template=template, database=database)
    services.start_all(server.service for server in servers.values())
    for server in servers.values():
        provision(server)
    return servers


def revive_rooms(
    state_file: Path,
    readers: Sequence[str],
    *,
    folder: Path,
    venv_python: Path,
    template: Path,
    database: Postgres | None = None,
) -> list[str]:
    """Bring the servers of these readers back that should run and do not; the readers whose servers were started.

    They return to their former address, so that a reader's page stays where it was; a reader who is new gets a server.
    Raises `ServiceDown` when no run was kept, see `services.revive`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".rooms.lock"):  # two callers would make two databases for a new reader
        alive = running(state_file)
        dead = [reader for reader in readers if _service_name(reader) not in alive]
        servers = _describe(dead, folder=folder, venv_python=venv_python, template=template, database=database)
        try:
            revive(state_file, [server.service for server in servers.values()])
        finally:
            alive = running(state_file)
            for reader in readers:
                url = alive.get(_service_name(reader))
                if url and (reader in servers or not _is_provisioned(folder / reader, url)):
                    _provision(reader, folder / reader / "login.json", url)
    return list(servers)


def _describe(
    readers: Sequence[str], *, folder: Path, venv_python: Path, template: Path, database: Postgres | None
) -> dict[str, LabelStudioServer]:
    ours = [reader for reader in readers if not _is_external(folder / reader)]
    return {
        reader: label_studio_server(
            reader,
            home=folder / reader,
            host=host,
            port=port,
            venv_python=venv_python,
            template=template,
            database=database,
        )
        for reader, (host, port) in _addresses(ours, folder).items()
    }


def _addresses(readers: Sequence[str], folder: Path) -> dict[str, tuple[str, int]]:
    """Where each reader's server shall listen: where it did before, else on the lowest address that no reader has.

    Browsers keep one login an address, whatever the port, and a reader's bookmarks shall last. A port that a stranger
    took is replaced.
    """
    former = {home.name: known for home in sorted(folder.glob("*/")) if (known := _former_address(home))}
    hosts = {reader: former[reader][0] for reader in readers if reader in former}
    if len(set(hosts.values())) < len(hosts):  # two had the same one at different times
        hosts = {reader: host for reader, host in hosts.items() if list(hosts.values()).count(host) == 1}
    taken = {host for reader, (host, _) in former.items() if reader not in readers} | set(hosts.values())
    free = (host for number in range(1, LAST_ADDRESS + 1) if (host := f"127.0.0.{number}") not in taken)
    ports: list[int] = []
    found = {}
    for reader in readers:
        host = hosts.get(reader) or next(free, "")
        if not host:
            raise BadInput(f"reader {reader!r}: all {LAST_ADDRESS} addresses are in use; remove readers' homes")
        ports.append(_port(host, former.get(reader, (host, 0))[1], ports))
        found[reader] = (host, ports[-1])
    return found


def _port(host: str, wanted: int, others: Iterable[int]) -> int:
    """The `wanted` port if it can be had here and on 127.0.0.1, else another one that can."""
    while True:
        with suppress(ServiceDown):
            if wanted and wanted not in others:
                for address in {host, "127.0.0.1"}:
                    check_port_free(address, wanted)
                return wanted
        wanted = free_port(host)


def _former_address(home: Path) -> tuple[str, int] | None:
    if not (home / "login.json").exists():
        return None
    login = read_login(home / "login.json")
    address = httpx.URL(login.base_url)
    return None if login.external or not address.port else (address.host, address.port)


def _is_external(home: Path) -> bool:
    return (home / "login.json").exists() and read_login(home / "login.json").external


def adopt_server(home: Path, *, reader: str, base_url: str, token: str, reader_email: str, pictures: Path) -> Login:
    """Take a laboratory's own server for one reader: check it, and keep how to speak with it in `home/login.json`.

    `pictures` must be that server's document root for local files, and ours to write; this is tried with a picture and
    a project that are removed again. Nobody else who reads may have an account there: in the open edition whoever has
    one sees everything. `ProtocolBreach` where another reader uses the server; else `BadInput` or `ServiceDown`.
    """
    _check_name(reader)
    base_url = base_url.rstrip("/")
    _check_address(base_url)
    if (home / "login.json").exists() and not _is_external(home):
        raise BadInput(f"{home}: {reader!r} has a server of ours already; give the reader on {base_url} another name")
    if not pictures.is_dir() or not os.access(pictures, os.W_OK):
        raise BadInput(f"{pictures}: expected the folder from which {base_url} serves local files, writable for us")
    others = _other_logins(home)
    for other in others:
        if other.base_url and _endpoints(other.base_url) & _endpoints(base_url):
            raise ProtocolBreach(
                f"{base_url}: {other.reader} reads there, and would see {reader}'s answers; name another"
            )
    admin_email = str(account(base_url, token).get("email"))
    with session(base_url, token, f"looking for the account of {reader}") as http:
        accounts = {str(each["email"]).lower(): int(each["id"]) for each in http.get("/api/users/").json()}
    if reader_email.lower() not in accounts:
        raise BadInput(f"{base_url}: no account {reader_email!r}; let {reader} sign up there first")
    if intruders := sorted(other.reader for other in others if other.reader_email.lower() in accounts):
        raise ProtocolBreach(
            f"{base_url}: {intruders} have accounts there, and would see {reader}'s answers; remove them"
        )
    _check_pictures(base_url, token, pictures)
    login = Login(
        reader=reader,
        reader_email=reader_email,
        reader_password=secrets.token_urlsafe(
            12
        ),  # signs on the dashboard; that of the account there is not ours to know
        admin_email=admin_email,
        admin_password="",
        admin_token=token,
        base_url=base_url,
        reader_user_id=accounts[reader_email.lower()],
        external=True,
        pictures=str(pictures.resolve()),
    )
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    _keep_login(login, home / "login.json")
    return login


def _check_name(reader: str) -> None:
    if not NAME.fullmatch(reader):
        raise BadInput(f"reader {reader!r}: expected lower-case letters, digits and hyphens; rename the reader")


def _check_address(base_url: str) -> None:
    """A token and pictures of patients' cells must not travel in the clear."""
    try:
        address = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise BadInput(f"server {base_url!r}: not an address ({error}); expected https://host") from None
    local = address.scheme == "http" and _is_loopback(address.host)
    if not address.host or not (address.scheme == "https" or local) or address.userinfo or address.query:
        raise BadInput(f"server {base_url!r}: expected https://host, or http:// on this machine alone")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _endpoints(base_url: str) -> set[tuple[str, int]]:
    """Under which addresses and port a server is reached; two names may mean the same."""
    address = httpx.URL(base_url)
    port = address.port or {"https": 443}.get(address.scheme, 80)
    with suppress(OSError):
        return {(address.host, port), *((str(one[4][0]), port) for one in socket.getaddrinfo(address.host, port))}
    return {(address.host, port)}


def _other_logins(home: Path) -> list[Login]:
    return [read_login(file) for file in sorted(home.parent.glob("*/login.json")) if file.parent.name != home.name]


def _check_pictures(base_url: str, token: str, pictures: Path) -> None:
    """Whether the server shows what we write below `pictures`, tried with a project that is removed again."""
    (pictures / PICTURES).mkdir(exist_ok=True)
    probe = pictures / PICTURES / f"{secrets.token_hex(12)}.txt"
    content = secrets.token_hex(12)
    doing = f"trying whether it serves local files from {pictures}, which must be its LOCAL_FILES_DOCUMENT_ROOT"
    probe.write_text(content)
    try:
        with session(base_url, token, doing) as http:
            project = int(http.post("/api/projects/", json={"title": "a trial of pictures"}).json()["id"])
            try:
                folder = {"project": project, "path": str(probe.parent.resolve()), "use_blob_urls": True}
                http.post("/api/storages/localfiles", json=folder | {"title": "trial", "regex_filter": "^$"})
                seen = http.get("/data/local-files/", params={"d": f"{PICTURES}/{probe.name}"}).text
            finally:
                http.delete(f"/api/projects/{project}/")
    finally:
        probe.unlink()
    if seen != content:
        raise BadInput(f"{base_url}: shows another file than the one in {pictures}; name its LOCAL_FILES_DOCUMENT_ROOT")


def read_login(file: Path) -> Login:
    """Read `login.json`; `BrokenRecord` if it is damaged."""
    try:
        return Login(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BrokenRecord(
            f"{file}: not readable as a login ({error}); put your copy back or remove this server's home"
        ) from None


def login_for(reader: str, home: Path) -> Login:
    """The login of one reader's server; made, with new secrets, when there is none yet."""
    _check_name(reader)
    file = home / "login.json"
    if not file.exists():
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = Login(
            reader=reader,
            reader_email=f"{reader}@reader.invalid",
            reader_password=secrets.token_urlsafe(12),
            admin_password=secrets.token_urlsafe(24),
            admin_token=secrets.token_hex(20),
        )
        _keep_login(new, file)
    known = read_login(file)
    if known.reader != reader:
        raise BadInput(
            f"{file}: this home belongs to reader {known.reader!r}, not {reader!r}; give each reader their own"
        )
    return known


def _keep_login(login: Login, file: Path) -> None:
    with atomic_path(file) as unfinished:
        unfinished.write_text(json.dumps(asdict(login), indent=1) + "\n", encoding="utf-8")
    file.chmod(0o600)  # between the two lines the home's mode, 0700, keeps it


def _copy_template(template: Path, data: Path) -> None:
    if not (template / DATABASE).exists():
        raise ServiceDown(f"{template}: the template of Label Studio's database is missing; run `make setup`")
    unfinished = data.with_name(".data")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(template, unfinished)
    unfinished.rename(data)


def _reader_account(url: str, login: Login) -> tuple[str, int]:
    """Token and number of the reader's account, which is made by invitation when missing."""
    doing = f"making the account of {login.reader}"
    with session(url, None, doing) as http:
        if not _post_form(http, "/user/login/", login):
            with session(url, login.admin_token, doing) as admin:
                link = admin.get("/api/invite").json()["invite_url"]
            if not _post_form(http, link.removeprefix(url), login):
                raise ServiceDown(f"{url}: the account of {login.reader} could not be made; remove this server's home")
        me = http.get("/api/current-user/whoami").json()
        token = http.get("/api/current-user/token").json()["token"]
    return str(token), int(me["id"])


def _post_form(http: httpx.Client, page: str, login: Login) -> bool:
    """Log in or sign up through the page's own form; whether the server let us in."""
    http.get(page)
    form = {"email": login.reader_email, "password": login.reader_password}
    headers = {"Referer": str(http.base_url.join(page))}
    return http.post(page, data=form | {"csrfmiddlewaretoken": http.cookies["csrftoken"]}, headers=headers).is_redirect


def _command(venv_python: Path) -> list[str]:
    return [str(venv_python), "-m", "label_studio.server"]


def _environment(*, home: Path, data: Path, pictures: Path, url: str) -> dict[str, str]:
    """The server's whole environment; it reads `LABEL_STUDIO_X` and bare `X` alike, so nothing else is inherited."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR") if name in os.environ}
    return kept | {
        "HOME": str(home),
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "ignore",
        "HTTP_PROXY": NOWHERE,
        "HTTPS_PROXY": NOWHERE,
        "NO_PROXY": url.split("/")[2].split(":")[0],  # itself alone: no calls to other readers' servers
        "DJANGO_DB": "sqlite",
        "DEBUG": "false",
        "LOG_LEVEL": "WARNING",
        "LABEL_STUDIO_BASE_DATA_DIR": str(data),
        "LABEL_STUDIO_HOST": url,
        "LABEL_STUDIO_LATEST_VERSION_CHECK": "false",
        "LABEL_STUDIO_COLLECT_ANALYTICS": "false",
        "LABEL_STUDIO_SENTRY_DSN": "",  # unset would mean the maker's own address
        "LABEL_STUDIO_FRONTEND_SENTRY_DSN": "",
        "LABEL_STUDIO_FEATURE_FLAGS_OFFLINE": "true",
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_DISABLE_SIGNUP_WITHOUT_LINK": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(pictures),
        "LABEL_STUDIO_CONVERTER_DOWNLOAD_RESOURCES": "false",
    }


def _version(venv_python: Path) -> str:
    ask = "import importlib.metadata as m; print(m.version('label-studio'))"
    return _run(
        [str(venv_python), "-c", ask], {"PATH": os.environ.get("PATH", "")}, doing="asking for its version"
    ).strip()


def _run(command: list[str], environment: Mapping[str, str], *, doing: str) -> str:
    try:
        ended = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except OSError as error:
        raise ServiceDown(
            f"Label Studio: {doing}: cannot run {command[0]} ({error.strerror}); run `make setup`"
        ) from None
    if ended.returncode != 0:
        said = " | ".join((ended.stderr or ended.stdout).strip().splitlines()[-2:])[:300]
        raise ServiceDown(f"Label Studio: {doing}: ended with code {ended.returncode} ({said}); run `make setup`")
    return ended.stdout
