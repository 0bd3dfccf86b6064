"""The clock of a deployment with a work pool: the scheduled flows are put into the pool, and this process works for it.

`ctcml up` starts it instead of `flows.schedules`. Other workers of the same pool may run beside it, see deploy/README.md.
"""

import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectAlreadyExists
from prefect.workers.process import ProcessWorker

from ctcml.dataversions import SOURCE
from ctcml.params import Params, load_params
from ctcml.workspace import Workspace

PREFECT = [sys.executable, "-m", "prefect", "--no-prompt"]


def main(root: str, tracking_uri: str, pool: str) -> None:
    """Make the pool if it is new, deploy the flows of the workspace at `root`, and become a worker of the pool."""
    ws = Workspace(Path(root))
    make_pool(pool)
    file = ws.services / "schedules" / "prefect.yaml"
    file.write_text(yaml.safe_dump(deployments(load_params(ws.params)), sort_keys=False), encoding="utf-8")
    names = {"CTCML_WORKSPACE": root, "CTCML_WORK_POOL": pool, "MLFLOW_TRACKING_URI": tracking_uri}
    deploy = [*PREFECT, "deploy", "--all", "--prefect-file", str(file)]
    subprocess.run(deploy, env=os.environ | names, cwd=file.parent, stdin=subprocess.DEVNULL, check=True)
    work = ["worker", "start", "--pool", pool, "--type", "process", "--with-healthcheck", "--install-policy", "never"]
    os.execv(sys.executable, [*PREFECT, *work])


def make_pool(pool: str) -> None:
    """A pool whose workers run each flow in a process of its own; one of that name stays as it is."""
    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client, suppress(ObjectAlreadyExists):
        client.create_work_pool(WorkPoolCreate(name=pool, type=ProcessWorker.type, base_job_template=template))


def deployments(params: Params) -> dict[str, Any]:
    """What `prefect.yaml` says, at the hours of a workspace's own parameters."""
    told: dict[str, Any] = yaml.safe_load((SOURCE / "prefect.yaml").read_text(encoding="utf-8"))
    hours = {"nightly": params.intake.schedule, "reading": params.review.schedule, "weekly": params.retrain.schedule}
    for one in told["deployments"]:
        for schedule in one.get("schedules", []):
            schedule["cron"] = hours[one["name"]]
    return told


if __name__ == "__main__":
    main(*sys.argv[1:])
