"""The inbox on a real Prefect server: the clock's process takes in what has arrived, and a bad delivery stops no other."""

import csv
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pandas as pd
import pytest
from factories import NOON

from ctcml.dataversions import create_workspace
from ctcml.ledger import Ledger
from ctcml.servers import prefect_service
from ctcml.services import Services, free_port
from ctcml.tables import MANIFEST, read_folder
from ctcml.versioning import versions
from ctcml.workspace import Workspace
from flows.serving import Engines, start_schedules


def delivery(laboratory: Path, folder: Path, samples: list[str]) -> None:
    """Some samples of the simulated laboratory as a delivery of their own."""
    for sample in samples:
        (source,) = laboratory.glob(f"export/*/frames/{sample}")
        shutil.copytree(source, folder / source.relative_to(laboratory))
        table = source.parent.parent / "output" / f"{sample}.xlsx"
        (folder / table.relative_to(laboratory)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(table, folder / table.relative_to(laboratory))
    clinical = pd.read_csv(laboratory / "clinical.csv", dtype=str)
    clinical[clinical["sample"].isin(samples)].to_csv(folder / "clinical.csv", index=False)


@pytest.fixture(scope="module")
def ran(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workspace, dict[str, Any], str]]:
    """A workspace whose inbox held two good deliveries and a bad one, after one run of the scheduled flow."""
    ws = Workspace(tmp_path_factory.mktemp("inbox") / "lab")
    create_workspace(ws, now=NOON)
    ws.params.write_text(ws.params.read_text().replace("quiet_minutes: 10", "quiet_minutes: 0"))
    with (laboratory / "clinical.csv").open(newline="") as file:
        samples = [row["sample"] for row in csv.DictReader(file)]
    delivery(laboratory, ws.inbox / "monday", samples[:10])  # enough for several processes
    delivery(laboratory, ws.inbox / "tuesday", samples[10:12])
    (ws.inbox / "wednesday").mkdir()
    (ws.inbox / "wednesday" / "clinical.csv").write_text("patient\nx\n")
    with Services(ws.services / "running.json") as services:
        prefect = prefect_service(ws.services / "prefect", "127.0.0.1", free_port())
        services.start(prefect)
        start_schedules(services, ws, Engines(prefect=prefect.url, mlflow=""))
        with httpx.Client(base_url=f"{prefect.url}/api", timeout=30, trust_env=False) as api:
            deployment = api.get("/deployments/name/inbox/nightly").raise_for_status().json()
            run = api.post(f"/deployments/{deployment['id']}/create_flow_run", json={}).raise_for_status().json()
            for _ in range(240):
                state = api.get(f"/flow_runs/{run['id']}").raise_for_status().json()["state"]
                if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                    break
                time.sleep(0.5)
        yield ws, deployment, f"{state['type']}: {state['message']}"


def test_the_clock_is_set_as_the_parameters_say(ran: tuple[Workspace, dict[str, Any], str]) -> None:
    _, deployment, _ = ran
    (schedule,) = deployment["schedules"]
    assert schedule["active"]
    assert schedule["schedule"]["cron"] == "0 2 * * *"


def test_good_deliveries_are_versions_and_the_bad_one_fails_the_run_by_name(
    ran: tuple[Workspace, dict[str, Any], str],
) -> None:
    ws, _, state = ran
    assert state.startswith("FAILED")
    assert "inbox/wednesday" in state
    assert read_folder(ws.manifest, MANIFEST)["sample_uid"].nunique() == 12
    assert [one.tag for one in versions(ws.root)] == ["data-v1", "data-v2"]
    assert [event.body["samples"] for event in Ledger(ws.ledger).events("intake")] == [10, 2]
