"""Which servers a workspace needs, started together; for the demo and for daily use."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

from ctcml.access import private_sign_in
from ctcml.dataversions import SOURCE
from ctcml.deployment import Deployment, read_deployment
from ctcml.errors import ServiceDown
from ctcml.ledger import Ledger
from ctcml.people import people_of
from ctcml.servers import (
    ensure_database,
    mlflow_client_environment,
    mlflow_service,
    prefect_client_environment,
    prefect_service,
    schedules_service,
    streamlit_service,
)
from ctcml.services import Service, Services, free_port, running
from ctcml.workspace import Workspace
from labelstudio.server import LabelStudioServer, revive_rooms, start_servers

HOST = "127.0.0.1"
LABEL_STUDIO_PYTHON = SOURCE / ".venv-labelstudio" / "bin" / "python"
TEMPLATE = SOURCE / ".venv-labelstudio" / "template"


@dataclass(frozen=True, kw_only=True)
class Engines:
    """Addresses of the two engines."""

    prefect: str
    mlflow: str


def start_engines(services: Services, ws: Workspace) -> Engines:
    """Start Prefect and MLflow side by side and point this process (and its children) at them."""
    there = read_deployment(ws.deployment)
    prefect = prefect_service(ws.services / "prefect", HOST, free_port(HOST), database=there.prefect.database)
    mlflow = mlflow_service(
        ws.services / "mlflow",
        HOST,
        free_port(HOST),
        database=there.mlflow.database,
        artifacts=there.mlflow.artifacts,
        s3=there.s3.environment() if there.mlflow.artifacts else None,
    )
    _make_databases(there)
    services.start_all([prefect, mlflow])
    return _point_at(ws, prefect.url, mlflow.url)


def _make_databases(there: Deployment) -> None:
    for database in (there.prefect.database, there.mlflow.database):
        if database is not None:
            ensure_database(database)


def use_engines(ws: Workspace) -> Engines:
    """Point this process at the engines that `ctcml up` started; `ServiceDown` when they do not run."""
    found = running(ws.services / "running.json")
    if not {"prefect", "mlflow"} <= found.keys():
        raise ServiceDown(f"{ws.root}: its servers do not run; start them with `ctcml up`")
    return _point_at(ws, found["prefect"], found["mlflow"])


def _point_at(ws: Workspace, prefect: str, mlflow: str) -> Engines:
    os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] = (
        "WARNING"  # the terminal keeps our lines, Prefect's page has all
    )
    os.environ.update(prefect_client_environment(f"{prefect}/api", ws.services / "prefect"))
    os.environ.update(mlflow_client_environment(mlflow))
    return Engines(prefect=prefect, mlflow=mlflow)


def start_schedules(services: Services, ws: Workspace, engines: Engines) -> Service:
    """Start the clock: scheduled flows run from now on, the inbox among them."""
    service = schedules_service(
        ws.services / "schedules",
        HOST,
        free_port(HOST),
        root=ws.root,
        prefect_api=f"{engines.prefect}/api",
        prefect_home=ws.services / "prefect",
        mlflow=engines.mlflow,
        work_pool=read_deployment(ws.deployment).prefect.work_pool,
    )
    services.start(service)
    return service


def start_reading_rooms(services: Services, ws: Workspace, readers: Sequence[str]) -> dict[str, LabelStudioServer]:
    """Start one Label Studio server a reader, each on an address of its own (cookies ignore ports)."""
    folder, database = ws.services / "labelstudio", read_deployment(ws.deployment).labelstudio.database
    return start_servers(
        services, readers, folder=folder, venv_python=LABEL_STUDIO_PYTHON, template=TEMPLATE, database=database
    )


def revive_reading_rooms(ws: Workspace, readers: Sequence[str] | None = None) -> list[str]:
    """Bring back readers' servers that died while the workspace's servers run, and start those of new readers.

    Returns whose were started; none where the servers are not up at all.
    """
    state = ws.services / "running.json"
    if "prefect" not in running(state):
        return []
    wanted = readers or [one.name for one in people_of(Ledger(ws.ledger).events("reader_added", "reader_removed"))]
    folder, database = ws.services / "labelstudio", read_deployment(ws.deployment).labelstudio.database
    return revive_rooms(
        state, wanted, folder=folder, venv_python=LABEL_STUDIO_PYTHON, template=TEMPLATE, database=database
    )


def start_dashboard(services: Services, ws: Workspace) -> Service:
    """Start the cohort dashboard on this workspace; people have to sign in where the workspace names a provider."""
    port = read_deployment(ws.deployment).dashboard.port or free_port(HOST)
    service = streamlit_service(
        ws.services / "dashboard",
        HOST,
        port,
        script=SOURCE / "dashboards" / "app.py",
        arguments=["--workspace", str(ws.root)],
        secrets=private_sign_in(ws),
    )
    services.start(service)
    return service
