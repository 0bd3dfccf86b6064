"""Label Studio servers, one a reader: their template, settings, accounts and logins.

The open edition knows no permissions: whoever has an account on a server can read everything on it. Blinding is
therefore kept by a server of their own for each reader, with its own secret, accounts, pictures and loopback address.
"""

import json
import os
import re
import secrets
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path

import httpx

from ctcml.errors import BadInput, BrokenRecord, ServiceDown
from ctcml.services import Service, Services, check_port_free, free_port
from ctcml.tables import atomic_path
from labelstudio.client import account, session
from labelstudio.tasks import PICTURES

DATABASE = "label_studio.sqlite3"
NOWHERE = "http://127.0.0.1:9"  # where calls to the outside end at once; some have no switch (tips on the login page)
READER = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")  # it names a folder and an account
LOOPBACK = "127.0.0.1,127.0.0.2,127.0.0.3,localhost"


@dataclass(frozen=True, kw_only=True)
class Login:
    """The accounts of one reader's server; kept in `login.json` with mode 0600, and nowhere else."""

    reader: str
    reader_email: str
    reader_password: str = field(repr=False)
    admin_email: str = "admin@ctcml.invalid"
    admin_password: str = field(repr=False)
    admin_token: str = field(repr=False)
    base_url: str = ""  # of the last start
    reader_token: str = field(default="", repr=False)
    reader_user_id: int = 0


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
    reader: str, *, home: Path, host: str, port: int, venv_python: Path, template: Path
) -> LabelStudioServer:
    """Describe a reader's server and, the first time, make its home: database from the template, new secrets.

    Raises `ServiceDown` if the port is taken here or on 127.0.0.1: there Label Studio looks, and silently moves on.
    """
    if not READER.fullmatch(reader):
        raise BadInput(f"reader {reader!r}: expected lower-case letters, digits and hyphens; rename the reader")
    for address in {host, "127.0.0.1"}:
        check_port_free(address, port)
    home = home.resolve()
    data, pictures, url = home / "data", home / "pictures", f"http://{host}:{port}"
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    (pictures / PICTURES).mkdir(parents=True, exist_ok=True)
    login = _new_or_known_login(reader, home / "login.json")
    if not (data / DATABASE).exists():
        _copy_template(template, data)
    environment = _environment(home=home, data=data, pictures=pictures, url=url) | {
        "LABEL_STUDIO_USERNAME": login.admin_email,
        "LABEL_STUDIO_PASSWORD": login.admin_password,
        "LABEL_STUDIO_USER_TOKEN": login.admin_token,
    }
    command = [*_command(venv_python), "start", "--no-browser", "--internal-host", host, "--port", str(port)]
    service = Service(f"labelstudio-{reader}", command, environment, home, host, port, "/health")
    return LabelStudioServer(reader=reader, service=service)


def provision(server: LabelStudioServer) -> Login:
    """Make sure that it is our server that answers and that its reader can log in; returns and keeps the login."""
    login, url = read_login(server.login_file), server.service.url
    who = account(url, login.admin_token)
    if who.get("email") != login.admin_email:
        raise ServiceDown(
            f"{url}: expected our server for {server.reader}, found one of {who.get('email')!r}; stop that one"
        )
    reader_token, reader_user_id = _reader_account(url, login)
    login = Login(**asdict(login) | {"base_url": url, "reader_token": reader_token, "reader_user_id": reader_user_id})
    _keep_login(login, server.login_file)
    return login


def start_servers(
    services: Services, readers: Sequence[str], *, folder: Path, venv_python: Path, template: Path
) -> dict[str, LabelStudioServer]:
    """Start a server for each reader side by side in `folder/<reader>`, on 127.0.0.1, 127.0.0.2, …; make accounts."""
    if len(set(readers)) != len(readers):
        raise BadInput(f"readers {list(readers)}: two have the same name; give each their own")
    ports: list[int] = []
    while len(ports) < len(readers):
        if (port := free_port("127.0.0.1")) not in ports:
            ports.append(port)
    servers = {
        reader: label_studio_server(
            reader,
            home=folder / reader,
            host=f"127.0.0.{place}",  # browsers keep one login an address, whatever the port
            port=port,
            venv_python=venv_python,
            template=template,
        )
        for place, (reader, port) in enumerate(zip(readers, ports, strict=True), start=1)
    }
    services.start_all(server.service for server in servers.values())
    for server in servers.values():
        provision(server)
    return servers


def read_login(file: Path) -> Login:
    """Read `login.json`; `BrokenRecord` if it is damaged."""
    try:
        return Login(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BrokenRecord(
            f"{file}: not readable as a login ({error}); put your copy back or remove this server's home"
        ) from None


def _new_or_known_login(reader: str, file: Path) -> Login:
    if not file.exists():
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
    file.chmod(0o600)


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
        "NO_PROXY": LOOPBACK,
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
