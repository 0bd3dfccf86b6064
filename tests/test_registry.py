"""A real MLflow server with models of random weights."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow.tracking import MlflowClient

from ctcml import registry
from ctcml.embed import load_scorer, score
from ctcml.errors import BadInput, BrokenRecord, ServiceDown
from ctcml.model import AECNN, save_weights
from ctcml.servers import mlflow_client_environment, mlflow_service
from ctcml.services import Services, free_port

CLASSES = ["ctc", "tdev", "wbc"]
PARAMS = {"betas": (0.0, 10.0), "epochs": (2, 1), "seed": 20}


@pytest.fixture(scope="session")
def uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    home = tmp_path_factory.mktemp("mlflow")
    server = mlflow_service(home, "127.0.0.1", free_port())
    with pytest.MonkeyPatch.context() as environment, Services(home / "state.json") as services:
        for name, value in mlflow_client_environment(server.url).items():
            environment.setenv(name, value)
        services.start(server)
        yield server.url


def model_folder(folder: Path, seed: int) -> Path:
    """What `ctcml train` leaves, with weights that learnt nothing."""
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    digest = save_weights(AECNN(len(CLASSES)), folder / "weights.safetensors")
    rows = [
        {"phase": phase, "beta": beta, "epoch": epoch, "loss": 9.5 - epoch, "accuracy": 0.5}
        for phase, beta, epoch in ((1, 0.0, 1), (1, 0.0, 2), (2, 10.0, 1))
    ]
    (folder / "history.json").write_text(json.dumps(rows))
    (folder / "reconstructions-beta-10.png").write_bytes(b"a picture")
    (folder / "learning.png").write_bytes(b"another")
    (folder / "stray.pickle").write_bytes(b"not to be taken along")
    card = {"classes": CLASSES, "recipe": "asinh", "hidden": "linear", "n_train_per_class": {"ctc": 12}}
    (folder / "model.json").write_text(json.dumps(card | {"weights_sha256": digest}))
    return folder


def register(uri: str, folder: Path, *, data_version: str = "data-v1") -> str:
    return registry.log_training(
        uri, model_folder=folder, data_version=data_version, code_commit="c0ffee", params=PARAMS
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_folder(tmp_path_factory.mktemp("models") / "candidate", seed=1)


@pytest.fixture(scope="module")
def version(uri: str, folder: Path) -> str:
    return register(uri, folder)


def test_the_same_weights_are_registered_once(uri: str, folder: Path, version: str) -> None:
    assert register(uri, folder) == version
    assert register(uri, folder, data_version="data-v2") == version


def test_a_training_is_one_run_with_a_nested_run_a_phase(uri: str, version: str) -> None:
    client = MlflowClient(uri)
    run = client.get_run(str(client.get_model_version(registry.MODEL, version).run_id))
    assert run.data.tags["data_version"] == "data-v1"
    assert run.data.tags["code_commit"] == "c0ffee"
    assert run.data.params["betas"] == "(0.0, 10.0)"
    nested = client.search_runs([run.info.experiment_id], f"tags.mlflow.parentRunId = '{run.info.run_id}'")
    assert sorted(each.data.params["beta"] for each in nested) == ["0.0", "10.0"]
    first = next(each for each in nested if each.data.params["beta"] == "0.0")
    assert [point.value for point in client.get_metric_history(first.info.run_id, "loss")] == [8.5, 7.5]
    second = next(each for each in nested if each.data.params["beta"] == "10.0")
    assert [file.path for file in client.list_artifacts(second.info.run_id)] == ["reconstructions-beta-10.png"]
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 3


def test_a_registered_model_comes_back_file_for_file(uri: str, folder: Path, version: str, tmp_path: Path) -> None:
    fetched = registry.download_model(uri, version, tmp_path / "deeper" / "champion")
    assert fetched == tmp_path / "deeper" / "champion"
    wanted = {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix != ".pickle"}
    assert {file.name: file.read_bytes() for file in fetched.iterdir()} == wanted
    assert [file.name for file in fetched.parent.iterdir()] == ["champion"]


def test_nothing_in_a_registered_model_is_pickled(uri: str, version: str, tmp_path: Path) -> None:
    whole = Path(
        mlflow.artifacts.download_artifacts(f"models:/ctc/{version}", dst_path=str(tmp_path), tracking_uri=uri)
    )
    files = [file for file in whole.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {".safetensors", ".json", ".png", ".py", ".yaml", ".yml", ".txt", ""}
    assert not [file for file in files if file.read_bytes()[:2] == b"\x80\x04"]


def test_mlflow_itself_scores_as_the_stage_does(uri: str, folder: Path, version: str) -> None:
    images = np.random.default_rng(7).integers(0, 256, (3, 80, 80, 3), dtype=np.uint8)
    mlflow.set_tracking_uri(uri)
    model = mlflow.pyfunc.load_model(f"models:/ctc/{version}")
    told = model.predict(images)
    expected = score(load_scorer(folder), images)
    assert list(told["predicted"]) == expected.predicted
    assert np.array_equal(told[[f"p_{name}" for name in CLASSES]].to_numpy(), expected.probabilities)
    with pytest.raises(mlflow.exceptions.MlflowException, match="uint8"):
        model.predict(images.astype(np.float32))


def test_an_alias_points_to_a_version_and_can_be_moved(uri: str, version: str, tmp_path: Path) -> None:
    assert registry.get_alias(uri, "champion") is None
    registry.set_alias(uri, "champion", version)
    assert registry.get_alias(uri, "champion") == version
    other = register(uri, model_folder(tmp_path / "other", seed=2))
    assert other != version
    registry.set_alias(uri, "champion", other)
    assert registry.get_alias(uri, "champion") == other


def test_a_version_that_is_not_there_is_refused(uri: str, version: str, tmp_path: Path) -> None:
    for call in (
        lambda: registry.set_alias(uri, "champion", "99"),
        lambda: registry.tag_version(uri, "99", "signed_by", "nobody"),
        lambda: registry.download_model(uri, "99", tmp_path / "model"),
        lambda: registry.log_scorecard(uri, "latest", {}),
    ):
        with pytest.raises(BadInput, match=r"not in the registry, which has \[1"):
            call()
    assert not list(tmp_path.iterdir())


def test_a_scorecard_is_kept_whole_and_its_numbers_can_be_compared(uri: str, version: str, tmp_path: Path) -> None:
    picture = tmp_path / "confusion.png"
    picture.write_bytes(b"a picture")
    report = {
        "verdict": "refuse",
        "reasons": ["too few"],
        "challenger": {"recall": {"ctc": 0.5}, "interval": [0.1, 0.9]},
    }
    registry.log_scorecard(uri, version, report, [picture])
    registry.tag_version(uri, version, "signed_by", "reader-a")
    client = MlflowClient(uri)
    registered = client.get_model_version(registry.MODEL, version)
    assert (registered.tags["gate"], registered.tags["signed_by"]) == ("refuse", "reader-a")
    run = client.get_run(str(registered.run_id))
    assert run.data.metrics["gate/challenger/recall/ctc"] == 0.5
    assert {file.path for file in client.list_artifacts(run.info.run_id, "gate")} == {
        "gate/report.json",
        "gate/confusion.png",
    }


def test_weights_that_were_exchanged_in_the_store_are_not_handed_out(uri: str, version: str, tmp_path: Path) -> None:
    """Also not with a card that was made to fit them."""
    other = model_folder(tmp_path / "exchanged", seed=3)
    fetched = register(uri, other)
    MlflowClient(uri).set_model_version_tag(registry.MODEL, fetched, "weights_sha256", "0" * 64)
    with pytest.raises(BrokenRecord, match="not 000000000000 as registered"):
        registry.download_model(uri, fetched, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_candidate_whose_card_tells_of_other_weights_is_not_registered(uri: str, tmp_path: Path) -> None:
    torn = model_folder(tmp_path / "torn", seed=4)
    with (torn / "weights.safetensors").open("ab") as weights:
        weights.write(b"more")
    found = hashlib.sha256((torn / "weights.safetensors").read_bytes()).hexdigest()[:12]
    with pytest.raises(BrokenRecord, match=found):
        register(uri, torn)
    (torn / "weights.safetensors").unlink()
    with pytest.raises(BrokenRecord, match="train it again"):
        register(uri, torn)


def test_a_call_that_was_killed_halfway_is_told_anew(uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    halfway = model_folder(tmp_path / "halfway", seed=5)
    with monkeypatch.context() as broken:
        broken.setattr(registry, "MODEL_CODE", tmp_path / "lost.py")
        with pytest.raises(mlflow.exceptions.MlflowException, match=r"lost\.py"):
            register(uri, halfway)
    version = register(uri, halfway)
    weights = hashlib.sha256((halfway / "weights.safetensors").read_bytes()).hexdigest()
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(registry.EXPERIMENT)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], f"tags.weights_sha256 = '{weights}'")
    assert [run.info.run_id for run in runs] == [client.get_model_version(registry.MODEL, version).run_id]


def test_a_server_that_is_not_there_is_one_line_at_once(tmp_path: Path) -> None:
    with pytest.raises(ServiceDown, match=r"MLflow at http.*ctcml up") as caught:
        registry.get_alias(f"http://127.0.0.1:{free_port()}", "champion")
    assert "\n" not in str(caught.value)
