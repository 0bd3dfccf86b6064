"""A real MLflow server with models of random weights."""

import getpass
import hashlib
import json
import math
import platform
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient
from packaging.requirements import Requirement

from ctcml import artefacts, registry
from ctcml.embed import load_scorer, score
from ctcml.environment import environment_lock
from ctcml.errors import BadInput, BrokenRecord, ServiceDown
from ctcml.model import AECNN, StandardCNN, save_weights
from ctcml.servers import mlflow_client_environment, mlflow_service
from ctcml.services import Services, free_port

CLASSES = ["ctc", "tdev", "wbc"]
LEARNT = {"ctc": 3, "tdev": 2, "wbc": 2}
COMPLETED = {artefacts.ONNX, artefacts.INPUT, artefacts.CARD, artefacts.SEALS}  # what a registered version has besides
DATA_MD5 = "0123456789abcdef0123456789abcdef.dir"
COLLAPSED = "phase 1 (beta 0): the reconstruction collapsed"


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture(scope="session")
def uri(home: Path) -> Iterator[str]:
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
        {"phase": phase, "beta": beta, "epoch": epoch, "loss": 9.5 - epoch, "latent_norm": 2.0, "seconds": 4.25}
        for phase, beta, epoch in ((1, 0.0, 1), (1, 0.0, 2), (2, 10.0, 1))
    ]
    (folder / "history.json").write_text(json.dumps(rows))
    (folder / "reconstructions-beta-10.png").write_bytes(b"a picture")
    (folder / "learning.png").write_bytes(b"another")
    (folder / "stray.pickle").write_bytes(b"not to be taken along")
    card = {
        "architecture": "AE-CNN",
        "classes": CLASSES,
        "recipe": "asinh",
        "hidden": "linear",
        "betas": [0.0, 10.0],
        "jitter": {"share": 0.5},
        "n_train_per_class": LEARNT,
        "ailments": [COLLAPSED],
        "weights_sha256": digest,
    }
    (folder / "model.json").write_text(json.dumps(card))
    return folder


def standard_model_folder(folder: Path, seed: int) -> Path:
    """The same of the standard CNN: no phase without the classifier, no reconstruction and no picture of one."""
    model_folder(folder, seed)
    torch.manual_seed(seed)
    card = json.loads((folder / "model.json").read_text()) | {
        "architecture": "standard CNN",
        "ailments": [],
        "weights_sha256": save_weights(StandardCNN(len(CLASSES)), folder / "weights.safetensors"),
    }
    (folder / "model.json").write_text(json.dumps(card))
    row = {"phase": 2, "beta": 10.0, "epoch": 1, "loss": 8.5, "reconstruction": math.nan}
    (folder / "history.json").write_text(json.dumps([row]))
    (folder / "reconstructions-beta-10.png").unlink()
    return folder


def labelled_cells(first_label: str = "ctc") -> pd.DataFrame:
    """What the model of `model_folder` learnt from: seven cells of two patients."""
    labels = [first_label, "ctc", "ctc", "tdev", "tdev", "wbc", "wbc"]
    uids = [f"cell-secret-{place}" for place in range(7)]
    patients = ["patient-secret-1"] * 3 + ["patient-secret-2"] * 4
    return pd.DataFrame({"cell_uid": uids, "patient_uid": patients, "class_id": labels})


def register(
    uri: str,
    folder: Path,
    *,
    data_version: str = "data-v1",
    cells: pd.DataFrame | None = None,
    beside: dict[str, Path] | None = None,
) -> str:
    return registry.log_training(
        uri,
        model_folder=folder,
        cells=labelled_cells() if cells is None else cells,
        data_version=data_version,
        data_md5=DATA_MD5,
        code_commit="c0ffee",
        beside=beside,
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


def run_of(uri: str, version: str) -> mlflow.entities.Run:
    client = MlflowClient(uri)
    return client.get_run(str(client.get_model_version(registry.MODEL, version).run_id))


def phases_of(uri: str, run: mlflow.entities.Run) -> list[mlflow.entities.Run]:
    of_run = f"tags.mlflow.parentRunId = '{run.info.run_id}'"
    found = MlflowClient(uri).search_runs([run.info.experiment_id], of_run)
    return sorted(found, key=lambda phase: float(phase.data.params["beta"]))


def test_a_training_is_one_run_with_a_nested_run_a_phase(uri: str, version: str) -> None:
    client, run = MlflowClient(uri), run_of(uri, version)
    assert run.data.tags["data_version"] == "data-v1"
    assert run.data.tags["code_commit"] == run.data.tags["mlflow.source.git.commit"] == "c0ffee"
    first, second = phases_of(uri, run)
    assert (first.data.params["beta"], second.data.params["beta"]) == ("0.0", "10.0")
    assert [point.value for point in client.get_metric_history(first.info.run_id, "loss")] == [8.5, 7.5]
    assert [point.value for point in client.get_metric_history(first.info.run_id, "seconds")] == [4.25, 4.25]
    assert [point.value for point in client.get_metric_history(second.info.run_id, "latent_norm")] == [2.0]
    assert [file.path for file in client.list_artifacts(second.info.run_id)] == ["reconstructions-beta-10.png"]
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 3
    pictures = {file.path for file in client.list_artifacts(run.info.run_id, "pictures")}
    assert pictures == {"pictures/learning.png", "pictures/reconstructions-beta-10.png"}


def test_the_parameters_of_a_run_are_those_of_the_models_card(uri: str, version: str) -> None:
    found = run_of(uri, version).data.params
    assert (found["betas"], found["jitter/share"], found["n_train_per_class/ctc"]) == ("[0.0, 10.0]", "0.5", "3")


def test_what_ails_a_model_is_written_on_its_run_and_on_its_version(uri: str, version: str) -> None:
    run = run_of(uri, version)
    assert run.data.tags["ailments"] == COLLAPSED
    assert run.data.tags["mlflow.note.content"] == f"Ailments: {COLLAPSED}"
    assert MlflowClient(uri).get_model_version(registry.MODEL, version).tags["ailments"] == COLLAPSED


def test_the_training_set_is_a_data_set_of_the_run(uri: str, version: str) -> None:
    (used,) = run_of(uri, version).inputs.dataset_inputs
    assert {tag.key: tag.value for tag in used.tags} == {"mlflow.data.context": "training"}
    assert used.dataset.name == "data-v1"
    assert json.loads(used.dataset.source) == {"data_version": "data-v1", "data_md5": DATA_MD5}
    assert json.loads(used.dataset.profile) == {"images": 7, "patients": 2, "per_class": LEARNT}


def test_the_digest_of_a_training_set_changes_with_a_label_and_not_with_the_order() -> None:
    def digest(cells: pd.DataFrame) -> str:
        return str(registry._training_set(cells, "data-v1", DATA_MD5).dataset.digest)

    assert digest(labelled_cells()) == digest(labelled_cells()[::-1])
    assert digest(labelled_cells()) != digest(labelled_cells("wbc"))
    assert len(digest(labelled_cells())) <= 36  # MLflow refuses more


def test_a_training_set_that_the_model_did_not_learn_from_is_not_written_down_as_its_own(
    uri: str, tmp_path: Path
) -> None:
    with pytest.raises(BrokenRecord, match=r"'ctc': 3.*'ctc': 2.*ctcml repro train"):
        register(uri, model_folder(tmp_path / "stale", seed=6), cells=labelled_cells("wbc"))


def test_the_run_keeps_the_environment_lock(uri: str, version: str, tmp_path: Path) -> None:
    run = run_of(uri, version).info.run_id
    kept = Path(MlflowClient(uri).download_artifacts(run, "environment.txt", str(tmp_path)))
    assert kept.read_text() == environment_lock()


def test_the_environment_lock_pins_each_distribution_once_and_names_no_place() -> None:
    first, *lines = environment_lock().splitlines()
    assert first.startswith(f"# CPython {platform.python_version()}, {platform.system()}")
    pins = [Requirement(line) for line in lines]
    assert [pin.name for pin in pins] == sorted({pin.name for pin in pins})
    assert all(str(pin.specifier).startswith("==") and pin.url is None for pin in pins)
    assert f"torch=={torch.__version__}" in lines
    assert "/" not in first + "".join(lines)


def test_no_patient_cell_account_or_machine_path_is_in_the_registry(uri: str, home: Path, version: str) -> None:
    """Everything that the server stored, to the last row and byte."""
    assert version
    with sqlite3.connect(home / "mlflow.db") as database:
        told = "\n".join(database.iterdump())
    for file in (home / "artifacts").rglob("*"):
        if file.is_file():
            told += file.read_bytes().decode("latin-1")
    program = Path(sys.argv[0])
    for secret in (
        "cell-secret",
        "patient-secret",
        tempfile.gettempdir(),
        str(Path.home()),
        str(Path.cwd()),
        str(program),
    ):
        assert secret not in told
    assert f"'{getpass.getuser()}'" not in told
    assert "'mlflow.user','ctcml'" in told


def test_the_standard_cnn_is_registered_without_reconstructions(uri: str, tmp_path: Path) -> None:
    folder = standard_model_folder(tmp_path / "standard", seed=8)
    version = register(uri, folder)
    run = run_of(uri, version)
    assert run.data.tags["architecture"] == "standard CNN"
    assert run.data.tags["ailments"] == "none"
    (phase,) = phases_of(uri, run)
    assert MlflowClient(uri).list_artifacts(phase.info.run_id) == []
    mlflow.set_tracking_uri(uri)
    told = mlflow.pyfunc.load_model(f"models:/ctc/{version}").predict(registry.EXAMPLE)
    assert told[["error_cd45", "error_dapi", "error_ck"]].isna().all(axis=None)


def test_a_model_whose_weights_do_not_fit_its_card_is_not_registered(uri: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "unfit", seed=9)
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | {"classes": ["ctc", "tdev"]}))
    with pytest.raises(BrokenRecord, match="do not fit its card"):
        register(uri, folder)
    versions = MlflowClient(uri).search_model_versions(f"tags.weights_sha256 = '{card['weights_sha256']}'")
    assert list(versions) == []


def test_a_registered_model_comes_back_file_for_file(uri: str, folder: Path, version: str, tmp_path: Path) -> None:
    fetched = registry.download_model(uri, version, tmp_path / "deeper" / "champion")
    assert fetched == tmp_path / "deeper" / "champion"
    wanted = {file.name: file.read_bytes() for file in folder.iterdir() if file.suffix != ".pickle"}
    came = {file.name: file.read_bytes() for file in fetched.iterdir()}
    assert came.keys() == wanted.keys() | COMPLETED
    assert {name: came[name] for name in wanted} == wanted
    assert [file.name for file in fetched.parent.iterdir()] == ["champion"]


def test_what_other_stages_made_of_a_model_is_kept_beside_it_and_comes_back_with_it(uri: str, tmp_path: Path) -> None:
    folder, chart, replay = model_folder(tmp_path / "model", seed=10), tmp_path / "maps", tmp_path / "of-today.json"
    (chart / "deep").mkdir(parents=True)
    np.savez(chart / "deep" / "tsne.npz", places=np.eye(2))
    (chart / "reducer.json").write_text("{}")
    (chart / "stray.pickle").write_bytes(b"not to be taken along")
    replay.write_text("[1, 2]")
    version = register(uri, folder, beside={"chart": chart, "replay.json": replay})
    fetched = registry.download_model(uri, version, tmp_path / "fetched")
    came = {str(file.relative_to(fetched)) for file in fetched.rglob("*") if file.is_file()}
    assert came == {
        "weights.safetensors", "model.json", "history.json", "learning.png", "reconstructions-beta-10.png",
        "chart/deep/tsne.npz", "chart/reducer.json", "replay.json", *COMPLETED,
    }  # fmt: skip
    assert (fetched / "chart/deep/tsne.npz").read_bytes() == (chart / "deep" / "tsne.npz").read_bytes()
    assert (fetched / "replay.json").read_text() == "[1, 2]"
    mlflow.set_tracking_uri(uri)
    assert len(mlflow.pyfunc.load_model(f"models:/ctc/{version}").predict(registry.EXAMPLE)) == 1


def test_a_model_whose_maps_are_missing_or_would_hide_its_own_files_is_not_registered(uri: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "alone", seed=11)
    with pytest.raises(BrokenRecord, match=r"kept with the model as chart, but it is not there; run `ctcml repro`"):
        register(uri, folder, beside={"chart": tmp_path / "nowhere"})
    with pytest.raises(BrokenRecord, match=r"alone/ has a model\.json of its own"):
        register(uri, folder, beside={"model.json": folder / "history.json"})


def test_nothing_in_a_registered_model_is_pickled(uri: str, version: str, tmp_path: Path) -> None:
    whole = Path(
        mlflow.artifacts.download_artifacts(f"models:/ctc/{version}", dst_path=str(tmp_path), tracking_uri=uri)
    )
    files = [file for file in whole.rglob("*") if file.is_file()]
    assert {file.suffix for file in files} <= {
        ".safetensors",
        ".json",
        ".png",
        ".py",
        ".yaml",
        ".yml",
        ".txt",
        ".onnx",
        ".md",
        "",
    }
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


def test_a_process_that_knows_no_workspace_loads_a_model_and_scores_its_example(
    uri: str, folder: Path, version: str, tmp_path: Path
) -> None:
    program = """if True:
        import sys, mlflow
        model = mlflow.pyfunc.load_model(sys.argv[1])
        answer = model.predict(model.input_example)
        assert [column["name"] for column in model.metadata.get_output_schema().to_dict()] == list(answer)
        print(answer.to_json(orient="records", double_precision=15))
    """
    arguments = [sys.executable, "-I", "-c", program, f"models:/ctc/{version}"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True)  # the server by its environment
    assert done.returncode == 0, done.stderr
    (answer,) = json.loads(done.stdout)
    expected = score(load_scorer(folder), registry.EXAMPLE)
    assert answer["predicted"] == expected.predicted[0]
    assert [answer[f"p_{name}"] for name in CLASSES] == pytest.approx(expected.probabilities[0].tolist(), abs=1e-6)
    assert [answer[f"z{i}"] for i in range(50)] == pytest.approx(expected.latents[0].tolist(), abs=1e-6)


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


def test_any_file_that_was_changed_in_the_store_is_named_and_the_model_neither_handed_out_nor_loaded(
    uri: str, home: Path, tmp_path: Path
) -> None:
    version = register(uri, model_folder(tmp_path / "changed", seed=12))
    client = MlflowClient(uri)
    assert client.get_model_version(registry.MODEL, version).description.startswith("#")  # its card, for people
    model = str(client.get_model_version(registry.MODEL, version).source).removeprefix("models:/")
    (history,) = (file for file in home.rglob("history.json") if model in file.parts)
    history.write_text(history.read_text() + " ")
    with pytest.raises(BrokenRecord, match=r"model/history\.json: SHA-256"):
        registry.download_model(uri, version, tmp_path / "model")
    mlflow.set_tracking_uri(uri)
    with pytest.raises(BrokenRecord, match=r"history\.json: SHA-256"):
        mlflow.pyfunc.load_model(f"models:/ctc/{version}")


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
    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    halfway = model_folder(tmp_path / "halfway", seed=5)
    with monkeypatch.context() as at_the_end:
        at_the_end.setattr(MlflowClient, "create_model_version", killed)
        with pytest.raises(KeyboardInterrupt):
            register(uri, halfway)
    version = register(uri, halfway)
    ours = f"tags.weights_sha256 = '{json.loads((halfway / 'model.json').read_text())['weights_sha256']}'"
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(registry.EXPERIMENT)
    assert experiment is not None
    told = client.get_model_version(registry.MODEL, version)
    runs = client.search_runs([experiment.experiment_id], ours)
    assert [run.info.run_id for run in runs] == [told.run_id]
    models = client.search_logged_models([experiment.experiment_id], ours)
    assert [f"models:/{model.model_id}" for model in models] == [told.source]


def test_a_server_that_is_not_there_is_one_line_at_once(tmp_path: Path) -> None:
    with pytest.raises(ServiceDown, match=r"MLflow at http.*ctcml up") as caught:
        registry.get_alias(f"http://127.0.0.1:{free_port()}", "champion")
    assert "\n" not in str(caught.value)
