"""The clock: one long-running process that serves the scheduled flows of a workspace; `ctcml up` starts it.

Nothing waits for people: their answers are looked for every few minutes, and when a round is complete the next step is
taken. Label Studio refuses webhooks to loopback unless its protection is lifted, so there is no hint from it.
"""

import sys
from pathlib import Path

from prefect import serve
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
from prefect.deployments.runner import EntrypointType
from prefect.events import DeploymentEventTrigger

from ctcml.params import load_params
from ctcml.workspace import Workspace
from flows.intake import inbox
from flows.loop import review
from flows.promotion import PROMOTED
from flows.recount import recount
from flows.retraining import retraining


def main(root: str, tracking_uri: str) -> None:
    """Serve the flows of the workspace at `root` until this process is ended."""
    params = load_params(Workspace(Path(root)).params)
    nightly = inbox.to_deployment(
        name="nightly",
        cron=params.intake.schedule,
        parameters={"root": root},
        concurrency_limit=1,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    reading = review.to_deployment(
        name="reading",
        cron=params.review.schedule,
        parameters={"root": root, "tracking_uri": tracking_uri},
        concurrency_limit=ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW),
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    weekly = retraining.to_deployment(
        name="weekly",
        cron=params.retrain.schedule,
        parameters={"root": root, "tracking_uri": tracking_uri},
        concurrency_limit=1,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    promoted = recount.to_deployment(
        name="promoted",
        parameters={"root": root},
        triggers=[DeploymentEventTrigger(name="a champion was made", expect={PROMOTED})],
        concurrency_limit=1,
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    # Stopping the process must not pause the schedule for good.
    serve(nightly, reading, weekly, promoted, pause_on_shutdown=False, webserver=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
