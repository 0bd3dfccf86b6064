"""The only reader of `.ctcml/deployment.yaml`: where a workspace's servers keep their records, when not in its own folder.

Without the file everything is embedded: SQLite, local folders, one clock. The file may hold passwords, so it is private
(mode 0600), outside git, and no message of ours quotes a value from it. `deploy/README.md` explains each setting.
"""

import stat
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import quote, unquote, urlsplit

import yaml
from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, ValidationError, model_validator

from ctcml.errors import BadInput, BadParams
from ctcml.params import Executor, Params, Section, load_params
from ctcml.workspace import Workspace

NAME_BYTES = 63  # Postgres cuts a longer name, and two readers could then share a database


@dataclass(frozen=True, kw_only=True)
class Postgres:
    """One database on a Postgres server and the account that owns it."""

    user: str
    password: str = field(repr=False)
    host: str
    port: int
    name: str

    def __post_init__(self) -> None:
        if len(self.name.encode()) > NAME_BYTES:
            raise BadInput(f"database {self.name!r}: expected at most {NAME_BYTES} bytes; choose a shorter name")

    def url(self, driver: str) -> str:
        """As SQLAlchemy wants it; it holds the password.

        >>> Postgres(user="lab", password="a/b", host="db", port=5432, name="mlflow").url("pg8000")
        'postgresql+pg8000://lab:a%2Fb@db:5432/mlflow'
        """
        host = f"[{self.host}]" if ":" in self.host else self.host
        account = f"{quote(self.user, safe='')}:{quote(self.password, safe='')}"
        return f"postgresql+{driver}://{account}@{host}:{self.port}/{quote(self.name, safe='')}"

    def for_reader(self, reader: str) -> "Postgres":
        """The reader's own database on the same server: blinding needs one each.

        >>> Postgres(user="lab", password="secret", host="db", port=5432, name="labelstudio").for_reader("reader-a")
        Postgres(user='lab', host='db', port=5432, name='labelstudio_reader_a')
        """
        return replace(self, name=f"{self.name}_{reader.replace('-', '_')}")


def _postgres(value: object) -> Postgres:
    wanted = "expected postgresql://USER:PASSWORD@HOST:PORT/NAME"
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
        port = parts.port or 5432
    except ValueError:
        raise ValueError(f"{wanted}, with special characters of the password percent-encoded") from None
    name = unquote(parts.path.removeprefix("/"))
    if parts.scheme != "postgresql" or not (parts.username and parts.password and parts.hostname and name):
        raise ValueError(wanted)
    if parts.query or parts.fragment or "/" in name:
        raise ValueError(f"{wanted} and nothing after it; what a driver should know besides is set on the server")
    try:
        return Postgres(
            user=unquote(parts.username), password=unquote(parts.password), host=parts.hostname, port=port, name=name
        )
    except BadInput as error:
        raise ValueError(str(error)) from None


def _bucket(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme != "s3" or not parts.netloc or "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError("expected s3://BUCKET/FOLDER; keys belong into the section s3")
    return value.rstrip("/")


def _web_address(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise ValueError("expected https://HOST:PORT or http://HOST:PORT; keys belong beside it")
    return value.rstrip("/")


Database = Annotated[Postgres, BeforeValidator(_postgres)]
Bucket = Annotated[str, AfterValidator(_bucket)]


class Mlflow(Section):
    database: Database | None = None
    artifacts: Bucket | None = None


class Prefect(Section):
    database: Database | None = None
    work_pool: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")] | None = None


class LabelStudio(Section):
    database: Database | None = None


class Dvc(Section):
    remote: Bucket | None = None


class Dashboard(Section):
    """Where people sign in, the provider and the web server in front must know the port; else any free one will do."""

    port: Annotated[int, Field(ge=1024, le=65535)] | None = None


class S3(Section):
    """The S3 server that MLflow and DVC use; without keys those of the machine count (`AWS_…`, its role)."""

    endpoint_url: Annotated[str, AfterValidator(_web_address)] | None = None
    region: str | None = None
    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None

    @model_validator(mode="after")
    def keys_come_in_pairs(self) -> "S3":
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key belong together; give both or neither")
        return self

    def environment(self) -> dict[str, str]:
        """What a process must have in its environment to speak with it; empty values are left to the machine."""
        given = {
            "AWS_ENDPOINT_URL_S3": self.endpoint_url,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.access_key_id and self.access_key_id.get_secret_value(),
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key and self.secret_access_key.get_secret_value(),
        }
        return {name: value for name, value in given.items() if value}


class Workers(Section):
    """What this installation has instead of the section `executor` of params.yaml, as far as it is given."""

    kind: Literal["here", "threads", "processes", "dask", "ray"] | None = None
    workers: Annotated[int, Field(ge=0)] | None = None
    address: str | None = None

    def over(self, usual: Executor) -> Executor:
        """The settings of params.yaml with these in their place; `BadParams` where they do not go together."""
        try:
            return Executor.model_validate({**usual.model_dump(), **self.model_dump(exclude_none=True)})
        except ValidationError as error:
            raise BadParams(f"deployment.yaml: executor: {error.errors()[0]['msg']}") from None


class Deployment(Section):
    """All of `deployment.yaml`; what is not named stays embedded."""

    mlflow: Mlflow = Mlflow()
    prefect: Prefect = Prefect()
    labelstudio: LabelStudio = LabelStudio()
    dashboard: Dashboard = Dashboard()
    dvc: Dvc = Dvc()
    s3: S3 = S3()
    executor: Workers = Workers()


def parameters_of(ws: Workspace) -> Params:
    """The workspace's `params.yaml`, with what this installation has instead of its section `executor`."""
    params = load_params(ws.params)
    return params.model_copy(update={"executor": read_deployment(ws.deployment).executor.over(params.executor)})


def read_deployment(file: Path) -> Deployment:
    """Read and check the file, if there is one; `BadParams` names every mistake at once and quotes no value."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Deployment()
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:  # the error's own text would quote the line
        where = getattr(error, "problem_mark", None)
        line = f" (line {where.line + 1})" if where else ""
        raise BadParams(f"{file}: not readable as YAML{line}; mend the file") from None
    if mode & 0o077:
        raise BadParams(f"{file}: others may read it (mode {mode:o}), and it may hold passwords; run `chmod 600` on it")
    try:
        return Deployment.model_validate(found or {})
    except ValidationError as error:
        told = error.errors(include_url=False, include_context=False, include_input=False)
        mistakes = [f"{'.'.join(str(part) for part in one['loc']) or 'file'}: {one['msg']}" for one in told]
        raise BadParams(f"{file}: {len(mistakes)} mistake(s): " + "; ".join(mistakes)) from None
