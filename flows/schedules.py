"""The clock: one long-running process that serves the scheduled flows of a workspace; `ctcml up` starts it."""

import sys
from pathlib import Path

from prefect import serve
from prefect.deployments.runner import EntrypointType

from ctcml.params import load_params
from ctcml.workspace import Workspace
from flows.intake import inbox


def main(root: str) -> None:
    """Serve the flows of the workspace at `root` until this process is ended."""
    params = load_params(Workspace(Path(root)).params)
    nightly = inbox.to_deployment(
        name="nightly",
        cron=params.intake.schedule,
        parameters={"root": root},
        concurrency_limit=1,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    # Stopping the process must not pause the schedule for good.
    serve(nightly, pause_on_shutdown=False, webserver=True)


if __name__ == "__main__":
    main(sys.argv[1])
