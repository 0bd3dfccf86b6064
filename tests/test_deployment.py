"""The file that says where a workspace's servers keep their records, and what they are told of it."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ctcml.dataversions import SOURCE
from ctcml.deployment import Deployment, Postgres, Workers, parameters_of, read_deployment
from ctcml.errors import BadInput, BadParams
from ctcml.params import Executor, load_params
from ctcml.servers import mlflow_service, prefect_service, schedules_service
from ctcml.versioning import GITIGNORE
from ctcml.workspace import Workspace

EXAMPLE = SOURCE / "deploy" / "deployment.example.yaml"


def written(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "deployment.yaml"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_without_the_file_everything_stays_in_the_workspace(tmp_path: Path) -> None:
    assert read_deployment(tmp_path / "deployment.yaml") == Deployment() == read_deployment(written(tmp_path, ""))
    services = [mlflow_service(tmp_path, "127.0.0.1", 5000), prefect_service(tmp_path, "127.0.0.1", 4200)]
    assert services[0].environment["MLFLOW_BACKEND_STORE_URI"] == f"sqlite:///{tmp_path}/mlflow.db"
    assert services[0].environment["MLFLOW_ARTIFACTS_DESTINATION"] == f"{tmp_path}/artifacts"
    assert not any("postgresql" in value for one in services for value in one.environment.values())


def test_the_example_is_a_deployment_that_names_every_setting(tmp_path: Path) -> None:
    found = read_deployment(written(tmp_path, EXAMPLE.read_text()))
    assert found.labelstudio.database is not None
    assert found.labelstudio.database.for_reader("reader-a").name == "labelstudio_reader_a"
    assert found.mlflow.artifacts == "s3://ctcml/mlflow"
    usual = Executor(kind="processes", workers=2, address="")
    assert found.executor.over(usual) == Executor(kind="dask", workers=2, address="tcp://scheduler.example:8786")
    assert Workers().over(usual) == usual
    told = yaml.safe_load(EXAMPLE.read_text())
    for name, about in Deployment.model_fields.items():
        assert set(told[name]) | {"workers"} == set(about.annotation.model_fields) | {"workers"}  # type: ignore[union-attr]


def test_where_the_work_runs_is_told_by_the_deployment_and_all_else_by_the_parameters(tmp_path: Path) -> None:
    ws = Workspace(tmp_path)
    ws.params.write_text((SOURCE / "params.yaml").read_text())
    assert parameters_of(ws) == load_params(ws.params)
    ws.private.mkdir()
    written(ws.private, "executor: {kind: threads, workers: 3}")
    found = parameters_of(ws)
    assert found.executor == Executor(kind="threads", workers=3, address="")
    assert found.gate == load_params(ws.params).gate


def test_every_mistake_is_told_at_once_and_none_quotes_a_secret(tmp_path: Path) -> None:
    text = """
    mlflow: {database: "mysql://lab:hush-1@db/mlflow", artifacts: "s3://key:hush-2@bucket/x"}
    prefect: {database: "postgresql://lab:hush-3@db:port/prefect", work_pool: "my pool"}
    labelstudio: {database: "postgresql://lab@db/labelstudio"}
    s3: {secret_access_key: hush-4, endpoint_url: "https://hush-5@s3"}
    dvc: {remote: hush-6}
    executor: {kind: hush-7}
    mlfow: {}
    """
    with pytest.raises(BadParams) as error:
        read_deployment(written(tmp_path, text))
    for place in (
        "mlflow.database",
        "mlflow.artifacts",
        "prefect.database",
        "prefect.work_pool",
        "labelstudio.database",
    ):
        assert f"{place}: " in str(error.value)
    for place in ("s3.endpoint_url", "dvc.remote", "executor.kind", "mlfow"):
        assert f"{place}: " in str(error.value)
    assert "9 mistake(s)" in str(error.value)
    assert "hush" not in str(error.value)
    with pytest.raises(BadParams, match="give both or neither") as error:
        read_deployment(written(tmp_path, "s3: {secret_access_key: hush-4}"))
    assert "hush" not in str(error.value)
    with pytest.raises(BadParams, match=r"line 2") as error:
        read_deployment(written(tmp_path, "s3:\n  secret_access_key: hush: hush"))
    assert "hush" not in str(error.value)


def test_a_deployment_that_others_may_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadParams, match=r"mode 640.*chmod 600"):
        read_deployment(written(tmp_path, "", mode=0o640))
    assert Workspace(Path("lab")).deployment == Path("lab/.ctcml/deployment.yaml")
    assert "/.ctcml/" in GITIGNORE.splitlines()


def test_a_password_is_in_no_argument_and_no_repr() -> None:
    database = Postgres(user="lab", password="p@ss/w:rd %1", host="::1", port=5433, name="mlflow")
    assert database.url("asyncpg") == "postgresql+asyncpg://lab:p%40ss%2Fw%3Ard%20%251@[::1]:5433/mlflow"
    keys = {"AWS_SECRET_ACCESS_KEY": "p@ss"}
    services = [
        mlflow_service(Path("home"), "127.0.0.1", 5000, database=database, artifacts="s3://lab", s3=keys),
        prefect_service(Path("home"), "127.0.0.1", 4200, database=database),
    ]
    assert all("p@ss" not in f"{one} {database}" and "p%40ss" not in f"{one}" for one in services)
    assert services[0].environment["AWS_SECRET_ACCESS_KEY"] == "p@ss"


def test_no_two_readers_share_a_database() -> None:
    stem = Postgres(user="lab", password="x", host="db", port=5432, name="labelstudio")
    with pytest.raises(BadInput, match="at most 63 bytes"):
        Postgres(user="lab", password="x", host="db", port=5432, name="a" * 40).for_reader("b" * 40)
    assert len({stem.for_reader(name) for name in ("a", "a-b", "a-b-c", "ab")}) == 4


def test_a_registry_in_the_workspace_is_not_left_behind_unseen(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").touch()
    database = Postgres(user="lab", password="x", host="db", port=5432, name="mlflow")
    with pytest.raises(BadInput, match="holds a registry already"):
        mlflow_service(tmp_path, "127.0.0.1", 5000, database=database)


def test_a_work_pool_takes_the_place_of_the_one_process(tmp_path: Path) -> None:
    def module(pool: str | None) -> list[str]:
        about: dict[str, Any] = {"root": tmp_path, "prefect_api": "p", "prefect_home": tmp_path, "mlflow": "m"}
        return schedules_service(tmp_path, "127.0.0.1", 4300, **about, work_pool=pool).command[2:]

    assert module(None) == ["flows.schedules", str(tmp_path), "m"]
    assert module("ctcml") == ["flows.pool", str(tmp_path), "m", "ctcml"]
