"""The servers that come with the main environment, described: Prefect, MLflow and Streamlit.

Owns their commands and settings: each has a home of its own, listens on loopback, and reports to nobody.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

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


def prefect_service(home: Path, host: str, port: int) -> Service:
    """A Prefect server with its own SQLite file, page and scheduler."""
    environment = clean_environment() | {
        "HOME": str(home),
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_UI_API_URL": f"http://{host}:{port}/api",  # without it the page calls port 4200
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", host, "--port", str(port)]
    return Service("prefect", command, environment, home, host, port, "/api/health")


def schedules_service(
    home: Path, host: str, port: int, *, root: Path, prefect_api: str, prefect_home: Path, mlflow: str
) -> Service:
    """The process that serves the workspace's scheduled flows; its port says whether it still polls the Prefect server."""
    environment = clean_environment() | prefect_client_environment(prefect_api, prefect_home)
    environment |= mlflow_client_environment(mlflow)
    environment |= {"PREFECT_RUNNER_SERVER_HOST": host, "PREFECT_RUNNER_SERVER_PORT": str(port)}
    command = [sys.executable, "-m", "flows.schedules", str(root), mlflow]
    return Service("schedules", command, environment, home, host, port, "/health")


def mlflow_service(home: Path, host: str, port: int) -> Service:
    """An MLflow server with its own SQLite file; artifacts go through it, so that its folder may move."""
    environment = clean_environment() | {
        "HOME": str(home),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 2 processes instead of 10
    }
    command = [sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(port), "--workers", "1"]
    command += [
        "--backend-store-uri",
        f"sqlite:///{home.resolve()}/mlflow.db",
        "--artifacts-destination",
        str(home.resolve() / "artifacts"),
    ]
    command += ["--allowed-hosts", f"{host}:{port},localhost:{port}"]
    return Service("mlflow", command, environment, home, host, port, "/health")


def streamlit_service(home: Path, host: str, port: int, *, script: Path, arguments: Sequence[str] = ()) -> Service:
    """The dashboard; `arguments` go to the script."""
    command = [sys.executable, "-m", "streamlit", "run", str(script.resolve())]
    command += [
        f"--server.address={host}",
        f"--server.port={port}",
        "--server.headless=true",
        "--server.fileWatcherType=none",
    ]
    command += ["--browser.gatherUsageStats=false", "--client.toolbarMode=minimal", "--", *arguments]
    return Service("streamlit", command, clean_environment() | {"HOME": str(home)}, home, host, port, "/_stcore/health")
