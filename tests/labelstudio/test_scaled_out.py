"""The servers of a deployment on a real Postgres and an S3 server: what `deploy/README.md` promises.

Skipped where Debian's Postgres cannot be had, but never in CI. Two are trials, because they cost a minute of processor time:
Label Studio makes its tables, and a worker of the pool runs a flow.
"""

import json
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import boto3
import httpx
import psutil
import pytest
import torch
import yaml
from moto.server import ThreadedMotoServer
from pg8000.exceptions import DatabaseError, InterfaceError
from pg8000.native import Connection
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from reading_rooms import CLASSES, furnish, need_label_studio

from ctcml import registry, versioning
from ctcml.dataversions import SOURCE
from ctcml.deployment import Postgres
from ctcml.errors import ServiceDown
from ctcml.model import AECNN, save_weights
from ctcml.params import load_params
from ctcml.servers import ensure_database
from ctcml.services import Services, free_port
from ctcml.workspace import Workspace
from flows import pool, schedules
from flows.serving import Engines, start_engines, start_reading_rooms, start_schedules
from labelstudio.client import Answer, answer, pull

HOST, BUCKET, POOL = "127.0.0.1", "laboratory", "cells"
PASSWORD = "p@ss/w:rd %1-" + secrets.token_hex(8)  # with all that must be encoded somewhere
KEY = "secret-" + secrets.token_hex(8)


@dataclass(frozen=True, kw_only=True)
class Scaled:
    ws: Workspace
    engines: Engines
    services: Services
    postgres: Postgres
    s3: str

    def sql(self, database: str, statement: str) -> list[list[object]]:
        account = self.postgres
        speak = Connection(
            account.user, host=account.host, port=account.port, database=database, password=account.password
        )
        try:
            return list(speak.run(statement) or [])
        finally:
            speak.close()

    def in_bucket(self, folder: str) -> list[str]:
        client = boto3.client(
            "s3", endpoint_url=self.s3, region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        return [one["Key"] for one in client.list_objects_v2(Bucket=BUCKET, Prefix=folder).get("Contents", [])]


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    """A Postgres of our own with an account that may make databases and nothing more; it refuses to run as root."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb")) or [Path(shutil.which("initdb") or "")]
    if not found[-1].is_file() and not os.environ.get("CI"):
        pytest.skip("Postgres is not installed; run .ci/install-postgres")
    programs, port = found[-1].parent, free_port()
    owner = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="ctcml-postgres-"))
    try:
        (folder / "password").write_text(PASSWORD)
        if owner:
            account = pwd.getpwnam("postgres")
            for path in (folder, folder / "password"):
                os.chown(path, account.pw_uid, account.pw_gid)
        make = ["initdb", "-D", folder / "data", "-U", "admin", "-A", "scram-sha-256", "--pwfile", folder / "password"]
        make += ["--no-sync", "--no-locale", "--encoding", "UTF8", "--no-instructions"]
        run = ["postgres", "-D", folder / "data", "-p", str(port), "-h", HOST, "-k", folder]
        run += ["-c", "fsync=off", "-c", "shared_buffers=32MB", "-c", "timezone=UTC", "-c", "log_timezone=UTC"]
        with (folder / "log").open("wb") as log:
            about = {"cwd": folder, "stdout": log, "stderr": log} | owner
            subprocess.run([programs / make[0], *make[1:]], check=True, **about)  # type: ignore[call-overload]
            server = subprocess.Popen([programs / run[0], *run[1:]], **about)  # type: ignore[call-overload]
            try:
                yield _account(port)
            finally:
                server.terminate()  # at once afterwards: connections that servers left would hold a gentle end up
                server.send_signal(2)
                server.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _account(port: int) -> Postgres:
    for _ in range(300):
        try:
            admin = Connection("admin", host=HOST, port=port, database="postgres", password=PASSWORD)
            break
        except (InterfaceError, DatabaseError):  # not there yet, or starting up
            time.sleep(0.1)
    else:
        raise AssertionError("Postgres did not start")
    admin.run(f"CREATE ROLE lab LOGIN CREATEDB PASSWORD '{PASSWORD}'")
    admin.close()
    return Postgres(user="lab", password=PASSWORD, host=HOST, port=port, name="none")


@contextmanager
def s3_server() -> Iterator[str]:
    server = ThreadedMotoServer(HOST, port=free_port(), verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        httpx.put(f"http://{host}:{port}/{BUCKET}", trust_env=False).raise_for_status()
        yield f"http://{host}:{port}"
    finally:
        server.stop()


def deployment(postgres: Postgres, s3: str) -> str:
    url = f"postgresql://lab:{quote(PASSWORD, safe='')}@{HOST}:{postgres.port}"
    return yaml.safe_dump(
        {
            "mlflow": {"database": f"{url}/mlflow", "artifacts": f"s3://{BUCKET}/mlflow"},
            "prefect": {"database": f"{url}/prefect", "work_pool": POOL},
            "labelstudio": {"database": f"{url}/labelstudio"},
            "dvc": {"remote": f"s3://{BUCKET}/data"},
            "s3": {
                "endpoint_url": s3,
                "region": "eu-central-1",
                "access_key_id": "laboratory",
                "secret_access_key": KEY,
            },
        }
    )


@pytest.fixture(scope="module")
def scaled(new_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scaled]:
    """A workspace whose servers all keep their records on Postgres and S3."""
    ws = Workspace(tmp_path_factory.mktemp("scaled") / "lab")
    shutil.copytree(new_workspace, ws.root)
    former = dict(os.environ)
    for name in [name for name in former if name.startswith("AWS_")]:
        del os.environ[name]
    try:
        with postgres_server() as postgres, s3_server() as s3, Services(ws.services / "running.json") as services:
            ws.deployment.touch(mode=0o600)
            ws.deployment.write_text(deployment(postgres, s3))
            engines = start_engines(services, ws)
            start_schedules(services, ws, engines)
            yield Scaled(ws=ws, engines=engines, services=services, postgres=postgres, s3=s3)
    finally:
        os.environ.clear()
        os.environ.update(former)


def test_a_model_is_registered_and_loaded_with_its_record_on_postgres_and_its_files_on_s3(
    scaled: Scaled, tmp_path: Path
) -> None:
    import pandas as pd

    torch.manual_seed(1)
    folder, uri = tmp_path / "candidate", scaled.engines.mlflow
    folder.mkdir()
    card = {
        "architecture": "AE-CNN",
        "classes": ["ctc", "wbc"],
        "recipe": "asinh",
        "hidden": "linear",
        "n_train_per_class": {"ctc": 1, "wbc": 1},
        "weights_sha256": save_weights(AECNN(2), folder / "weights.safetensors"),
    }
    (folder / "model.json").write_text(json.dumps(card))
    (folder / "history.json").write_text("[]")
    cells = pd.DataFrame({"cell_uid": ["a", "b"], "patient_uid": ["p", "q"], "class_id": ["ctc", "wbc"]})
    version = registry.log_training(
        uri, model_folder=folder, cells=cells, data_version="data-v1", data_md5="0" * 32 + ".dir", code_commit=None
    )
    registry.set_alias(uri, "champion", version)
    fetched = registry.download_model(uri, str(registry.get_alias(uri, "champion")), tmp_path / "fetched")
    assert (fetched / "weights.safetensors").read_bytes() == (folder / "weights.safetensors").read_bytes()
    assert scaled.sql("mlflow", "SELECT alias FROM registered_model_aliases") == [["champion"]]
    assert any(key.endswith("weights.safetensors") for key in scaled.in_bucket("mlflow/"))
    assert not any((scaled.ws.services / "mlflow").glob("mlflow.db*"))
    assert not (scaled.ws.services / "mlflow" / "artifacts").exists()


def test_prefect_keeps_its_record_on_postgres_and_the_flows_wait_in_the_pool_for_its_worker(scaled: Scaled) -> None:
    with prefect_api(scaled) as api:
        deployed = api.post("/deployments/filter", json={}).raise_for_status().json()
        workers = api.post(f"/work_pools/{POOL}/workers/filter", json={}).raise_for_status().json()
    assert {one["name"]: one["work_pool_name"] for one in deployed} == dict.fromkeys(
        ["nightly", "reading", "weekly", "promoted"], POOL
    )
    assert [one["status"] for one in workers] == ["ONLINE"]
    assert len(scaled.sql("prefect", "SELECT id FROM deployment")) == len(deployed)
    assert scaled.sql("prefect", "SELECT name FROM automation") == [["a champion was made"]]
    assert not list((scaled.ws.services / "prefect").glob("prefect.db*"))


def test_a_work_pool_runs_the_same_flows_at_the_same_hours_as_the_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    served: list[RunnerDeployment] = []
    monkeypatch.setattr(schedules, "serve", lambda *all_, **_: served.extend(all_))  # Prefect's, which would not return
    schedules.main(str(SOURCE), "http://mlflow")
    declared = yaml.safe_load((SOURCE / "prefect.yaml").read_text())
    values = {"{{ $CTCML_WORKSPACE }}": str(SOURCE), "{{ $MLFLOW_TRACKING_URI }}": "http://mlflow"}
    for deployment, one in zip(served, declared["deployments"], strict=True):
        limit = one["concurrency_limit"]
        assert (deployment.name, deployment.entrypoint) == (one["name"], one["entrypoint"])
        assert deployment.parameters == {name: values[value] for name, value in one["parameters"].items()}
        crons = [each.schedule.cron for each in deployment.schedules or [] if isinstance(each.schedule, CronSchedule)]
        assert crons == [each["cron"] for each in one.get("schedules", [])]
        assert deployment.concurrency_limit == (limit if isinstance(limit, int) else limit["limit"])
        options = deployment.concurrency_options
        strategy = options.collision_strategy.value if options else None
        assert strategy == (None if isinstance(limit, int) else limit["collision_strategy"])
        events = [each.expect for each in deployment.triggers]
        assert events == [set(each["expect"]) for each in one.get("triggers", [])]
    assert pool.deployments(load_params(SOURCE / "params.yaml")) == declared
    later = load_params(SOURCE / "params.yaml")
    later = later.model_copy(update={"retrain": later.retrain.model_copy(update={"schedule": "0 4 * * 1"})})
    assert pool.deployments(later)["deployments"][2]["schedules"][0]["cron"] == "0 4 * * 1"


def prefect_api(scaled: Scaled) -> httpx.Client:
    return httpx.Client(base_url=f"{scaled.engines.prefect}/api", timeout=30, trust_env=False)


def test_a_clone_of_the_workspace_has_its_data_from_the_bucket_alone(scaled: Scaled, tmp_path: Path) -> None:
    scaled.ws.shards.mkdir(parents=True, exist_ok=True)
    (scaled.ws.shards / "one.bin").write_text("cells of one sample")
    version = versioning.commit_data_version(scaled.ws.root, message="one sample")
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", scaled.ws.root, clone], check=True, capture_output=True)
    (clone / ".ctcml").mkdir(mode=0o700)
    shutil.copy2(scaled.ws.deployment, clone / ".ctcml")
    assert versioning.checkout(clone, version.tag) == version
    assert (clone / "data" / "shards" / "one.bin").read_text() == "cells of one sample"
    assert versioning.files_of(clone, version) == versioning.files_of(scaled.ws.root, version)


def test_no_secret_is_in_an_argument_a_log_or_git(scaled: Scaled) -> None:
    _check_secrets(scaled)
    assert scaled.ws.deployment.stat().st_mode & 0o777 == 0o600


def _check_secrets(scaled: Scaled) -> None:
    hidden = (PASSWORD, quote(PASSWORD, safe=""), KEY)
    for process in psutil.process_iter(["cmdline"]):
        assert not any(secret in " ".join(process.info["cmdline"] or []) for secret in hidden)
    for file in scaled.ws.root.rglob("*"):
        if file.is_file() and file != scaled.ws.deployment:
            content = file.read_bytes()
            assert not any(secret.encode() in content for secret in hidden), file


def test_a_database_that_cannot_be_made_is_told_in_one_line_without_the_password(scaled: Scaled) -> None:
    about = scaled.postgres
    with pytest.raises(ServiceDown, match="password authentication failed") as error:
        ensure_database(Postgres(user="lab", password="hush", host=HOST, port=about.port, name="x"))
    assert "hush" not in str(error.value)
    with pytest.raises(ServiceDown, match="no answer"):
        ensure_database(Postgres(user="lab", password="hush", host=HOST, port=free_port(), name="x"))


@pytest.mark.trial
def test_a_reader_answers_on_a_database_of_their_own(scaled: Scaled) -> None:
    need_label_studio()
    server = start_reading_rooms(scaled.services, scaled.ws, ["reader-a"])["reader-a"]
    room = furnish(server, 2)
    assert answer(room.as_reader, {room.uids[0]: Answer(label="ctc")}) == 1
    (reading,) = pull(room.queue, CLASSES).valid
    assert reading.label == "ctc"
    assert scaled.sql("labelstudio_reader_a", "SELECT count(*) FROM task_completion") == [[1]]
    assert not list(server.service.home.rglob("*.sqlite3"))
    _check_secrets(scaled)


@pytest.mark.trial
def test_a_worker_of_the_pool_runs_what_is_deployed(scaled: Scaled) -> None:
    with prefect_api(scaled) as api:
        nightly = api.get("/deployments/name/inbox/nightly").raise_for_status().json()
        run = api.post(f"/deployments/{nightly['id']}/create_flow_run", json={}).raise_for_status().json()
        for _ in range(600):
            state = api.get(f"/flow_runs/{run['id']}").raise_for_status().json()["state"]
            if state["type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                break
            time.sleep(0.5)
    assert state["type"] == "COMPLETED", state["message"]
    assert scaled.sql("prefect", f"SELECT state_type FROM flow_run WHERE id = '{run['id']}'") == [["COMPLETED"]]
