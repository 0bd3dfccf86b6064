"""The servers that come with the main environment, described: Prefect, MLflow and Streamlit.

Owns their commands and settings: each has a home of its own, listens on loopback, and reports to nobody. Where a
deployment names a database or a bucket, a server keeps its records there; passwords travel in environments alone.
"""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctcml.deployment import Postgres
from ctcml.errors import BadInput, ServiceDown
from ctcml.services import Service, clean_environment


def prefect_client_environment(api_url: str, home: Path) -> dict[str, str]:
    """What a process must have in its environment before it imports prefect; `api_url` is `<server>/api`."""
    return {
        "PREFECT_API_URL": api_url,
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",  # a missing server is an error, not a second server
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "true",
    }


def mlflow_client_environment(uri: str) -> dict[str, str]:
    """What a process must have in its environment before it imports mlflow."""
    return {
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
    }


def ensure_database(database: Postgres) -> None:
    """Make a database where there is none; `ServiceDown` says what Postgres answered, without the password."""
    if _sql(database, database.name, "SELECT 1") == NO_DATABASE:
        made = _sql(database, "postgres", 'CREATE DATABASE "{}"'.format(database.name.replace('"', '""')))
        if made not in ("", MADE_MEANWHILE):
            raise ServiceDown(
                f"database {database.name!r} on {database.host}:{database.port}: {database.user!r} may not make it; "
                "let the administrator make it, or give the account CREATEDB"
            )


NO_DATABASE, MADE_MEANWHILE, MAY_NOT = "3D000", "42P04", "42501"  # Postgres' own codes


def _sql(account: Postgres, name: str, statement: str) -> str:
    """Say one statement to the database of this name; the code of a refusal that callers know, or nothing."""
    try:
        from pg8000.exceptions import DatabaseError, InterfaceError
        from pg8000.native import Connection
    except ImportError:
        raise ServiceDown("Postgres: its driver is not installed; install ctcml with the extra `deploy`") from None
    where = f"Postgres at {account.host}:{account.port}"
    try:
        speak = Connection(
            account.user, host=account.host, port=account.port, database=name, password=account.password, timeout=30
        )
        try:
            speak.run(statement)
        finally:
            speak.close()
    except DatabaseError as error:
        said: Mapping[str, Any] = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        if said.get("C") in (NO_DATABASE, MADE_MEANWHILE, MAY_NOT):
            return str(said["C"])
        raise ServiceDown(f"{where}: {said.get('M', 'refused')}; see deployment.yaml") from None
    except (InterfaceError, OSError) as error:
        raise ServiceDown(f"{where}: no answer ({error}); start it, or see deployment.yaml") from None
    return ""


def prefect_service(home: Path, host: str, port: int, *, database: Postgres | None = None) -> Service:
    """A Prefect server with its own page and scheduler, and its own SQLite file unless a database is named."""
    environment = clean_environment() | {
        "HOME": str(home),
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_UI_API_URL": f"http://{host}:{port}/api",  # without it the page calls port 4200
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    }
    if database is not None:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database.url("asyncpg")
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port)]
    return Service("prefect", command, environment, home, host, port, "/api/health")


def schedules_service(
    home: Path,
    host: str,
    port: int,
    *,
    root: Path,
    prefect_api: str,
    prefect_home: Path,
    mlflow: str,
    work_pool: str | None = None,
) -> Service:
    """The process that serves the workspace's scheduled flows; its port says whether it still polls the Prefect server.

    With a work pool it is a worker of that pool, beside which others may work on other machines.
    """
    environment = clean_environment() | prefect_client_environment(prefect_api, prefect_home)
    environment |= mlflow_client_environment(mlflow)
    if work_pool is None:
        environment |= {"PREFECT_RUNNER_SERVER_HOST": host, "PREFECT_RUNNER_SERVER_PORT": str(port)}
        command = [sys.executable, "-m", "flows.schedules", str(root), mlflow]
    else:
        environment |= {"PREFECT_WORKER_WEBSERVER_HOST": host, "PREFECT_WORKER_WEBSERVER_PORT": str(port)}
        command = [sys.executable, "-m", "flows.pool", str(root), mlflow, work_pool]
    return Service("schedules", command, environment, home, host, port, "/health")


def mlflow_service(
    home: Path,
    host: str,
    port: int,
    *,
    database: Postgres | None = None,
    artifacts: str | None = None,
    s3: Mapping[str, str] | None = None,
) -> Service:
    """An MLflow server with its own SQLite file and folder, unless a database and a bucket are named.

    Artifacts go through it, so that they may move and only the server needs the keys (`s3`, environment variables).
    """
    own = home.resolve() / "mlflow.db"
    if database is not None and own.exists():
        raise BadInput(f"{own}: holds a registry already; bring it to the new database first, see deploy/README.md")
    environment = clean_environment() | {
        "HOME": str(home),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 2 processes instead of 10
        "MLFLOW_BACKEND_STORE_URI": database.url("pg8000") if database else f"sqlite:///{own}",
        "MLFLOW_ARTIFACTS_DESTINATION": artifacts or str(home.resolve() / "artifacts"),
        **(s3 or {}),
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += ["--allowed-hosts", f"{host}:{port},localhost:{port}"]
    return Service("mlflow", command, environment, home, host, port, "/health")


def streamlit_service(
    home: Path, host: str, port: int, *, script: Path, arguments: Sequence[str] = (), secrets: Path | None = None
) -> Service:
    """The dashboard; `arguments` go to the script, `secrets` name the identity provider where people have to sign in."""
    command = [sys.executable, "-m", "streamlit", "run", str(script.resolve())]
    command += [
        f"--server.address={host}",
        f"--server.port={port}",
        "--server.headless=true",
        "--server.fileWatcherType=none",
    ]
    command += [] if secrets is None else [f"--secrets.files={secrets}"]
    command += ["--browser.gatherUsageStats=false", "--client.toolbarMode=minimal", "--", *arguments]
    return Service("streamlit", command, clean_environment() | {"HOME": str(home)}, home, host, port, "/_stcore/health")
