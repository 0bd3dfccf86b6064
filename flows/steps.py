"""What every flow does the same way: load the workspace, run stages of dvc.yaml, retry only where there is a network."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker

from ctcml.deployment import parameters_of
from ctcml.params import Params
from ctcml.versioning import repro
from ctcml.workspace import Workspace

# A stage is cached by dvc.lock and by nothing else; a decision is never cached.
local = task(cache_policy=NO_CACHE)
over_network = task(cache_policy=NO_CACHE, retries=3, retry_delay_seconds=[1, 5, 20])


def workspace_and_params(root: str) -> tuple[Workspace, Params]:
    ws = Workspace(Path(root))
    return ws, parameters_of(ws)


def now() -> datetime:
    return datetime.now(UTC)


def say() -> Callable[[str], None]:
    """Where a step tells people what it does: the terminal, and the log of its Prefect run."""
    logger: Any = get_run_logger()

    def tell(line: str) -> None:
        print(f"        {line}", flush=True)
        logger.info(line)

    return tell


def say_goodbye() -> None:
    """Send Prefect what its threads still hold while its server is there; at exit they would wait a minute for a dead one."""
    for worker in (APILogWorker, EventsWorker):
        worker.drain_all(timeout=10)


@local
def run_stages(root: str, stages: list[str]) -> list[str]:
    """Run stages of dvc.yaml (and what they need) where they are out of date."""
    return repro(Path(root), stages, on_line=say())
