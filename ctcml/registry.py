"""The only module that knows MLflow: training runs, registered models, and which of them is the champion.

Stages write files; these functions mirror them, keyed by the hash of the weights, so that calling twice does no harm.
Models are safetensors and JSON, loaded by `mlflow_model.py`: nothing is ever pickled. No run, model or file here
names a patient, a cell, a person's account or a path of the machine.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import httpx
import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import infer_signature
from mlflow.tracking import MlflowClient

from ctcml import artefacts, mlflow_model
from ctcml.embed import load_scorer
from ctcml.environment import environment_lock
from ctcml.errors import BadInput, BrokenRecord, ServiceDown

MODEL = "ctc"
EXPERIMENT = "ctcml"
KEPT = {
    ".safetensors",
    ".json",
    ".npz",
    ".png",
    ".html",
}  # what a model's folder may hold; anything else stays where it is
# A black image: a thumbnail here would be a patient's pixels in a place that a withdrawal does not tell of, as it does of
# the pictures of reconstructions.
EXAMPLE = np.zeros((1, 80, 80, 3), dtype=np.uint8)
# MLflow would write down who is logged in, the program's path, and the branch and address of the git around it.
OURS = {
    "mlflow.user": "ctcml",
    "mlflow.source.name": "ctcml",
    "mlflow.source.git.branch": "",
    "mlflow.source.git.repoURL": "",
}
SEALED = "artefacts_sha256"  # the tag of a version that seals all its files
ABSENT = {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}  # the second is what a missing alias gives


def log_training(
    tracking_uri: str,
    *,
    model_folder: Path,
    cells: pd.DataFrame,
    data_version: str,
    data_md5: str,
    code_commit: str | None,
    beside: Mapping[str, Path] | None = None,
) -> str:
    """Log the training that made `model_folder` and register its model; returns the version.

    One run with a nested run for each beta phase. `cells` are the labels that it learnt from (`truth.training_cells`),
    `data_md5` is DVC's hash of `data/`. The environment lock is that of this process. Weights that are registered
    already give their version again. `beside` names files and folders that other stages made of this very model: they
    are kept with it and come back below its folder under these names; one named `scorecard.json` goes into its model card. Points this process's MLflow to `tracking_uri`.
    Raises `BrokenRecord` when the model is not whole, `cells` are not what its card tells of, or one of `beside` is not
    there.
    """
    card, weights = _card(model_folder)
    _check_labels(model_folder, card, cells)
    kept_with_it = _beside(model_folder, beside or {})
    commit = code_commit or "unknown"
    tags = {
        "weights_sha256": weights,
        "data_version": data_version,
        "code_commit": commit,
        "architecture": str(card["architecture"]),
        "ailments": "; ".join(card.get("ailments", ["not looked for"])) or "none",
    }
    ours = OURS | {"mlflow.source.git.commit": commit}
    with _speaking_to(tracking_uri) as client:
        if former := _version_of(client, weights):
            return former
        mlflow.set_tracking_uri(tracking_uri)
        experiment = mlflow.set_experiment(EXPERIMENT).experiment_id
        _forget_half_told(client, experiment, weights)
        note = f"Ailments: {tags['ailments']}"
        with mlflow.start_run(run_name=f"training on {data_version}", tags=ours | tags, description=note) as run:
            settings = {name: value for name, value in card.items() if name not in ("weights_sha256", "ailments")}
            mlflow.log_params({name: str(value)[:500] for name, value in _leaves(settings)})
            client.log_inputs(run.info.run_id, [_training_set(cells, data_version, data_md5)])
            mlflow.log_text(environment_lock(), "environment.txt")
            history = _history(model_folder)
            for phase in sorted({int(row["phase"]) for row in history}):
                _log_phase(client, [row for row in history if row["phase"] == phase], model_folder, ours)
            if history:
                _log_rows(client, run.info.run_id, history)
            for picture in sorted(model_folder.glob("*.png")):
                mlflow.log_artifact(str(picture), "pictures")
            return _register(client, model_folder, kept_with_it, tags, ours)


def set_alias(tracking_uri: str, alias: str, version: str) -> None:
    """Point an alias (champion, challenger, previous) to a version; `BadInput` if there is no such version."""
    with _speaking_to(tracking_uri) as client:
        _model_version(client, version)
        client.set_registered_model_alias(MODEL, alias, version)


def get_alias(tracking_uri: str, alias: str) -> str | None:
    """The version that an alias points to, if it points to any."""
    with _speaking_to(tracking_uri) as client:
        try:
            return str(client.get_model_version_by_alias(MODEL, alias).version)
        except MlflowException as error:
            if error.error_code in ABSENT:
                return None
            raise


def tag_version(tracking_uri: str, version: str, key: str, value: str) -> None:
    """Write a remark on a registered version."""
    with _speaking_to(tracking_uri) as client:
        _model_version(client, version)
        client.set_model_version_tag(MODEL, version, key, value)


def download_model(tracking_uri: str, version: str, folder: Path) -> Path:
    """Fetch a registered model's files into `folder`, which must not exist; returns `folder`.

    Raises `BrokenRecord` unless every file is the one that was registered.
    """
    if folder.exists():
        raise BadInput(f"{folder}: expected a folder that is not there yet; name another")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (
        _speaking_to(tracking_uri) as client,
        tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetch-") as aside,
    ):
        tags = _model_version(client, version).tags
        registered = tags.get("weights_sha256")
        source = f"models:/{MODEL}/{version}/data/model"
        fetched = Path(mlflow.artifacts.download_artifacts(source, dst_path=aside, tracking_uri=tracking_uri))
        _, weights = _card(fetched)
        if weights != registered:
            raise BrokenRecord(
                f"model version {version}: its weights have SHA-256 {weights[:12]}, "
                f"not {str(registered)[:12]} as registered; restore MLflow's artifacts from the backup"
            )
        artefacts.require_whole(fetched, registered=tags.get(SEALED))
        fetched.rename(folder)
    return folder


def log_scorecard(
    tracking_uri: str, version: str, scorecard: Mapping[str, Any], files: Sequence[Path] = (), *, by: str = "gate"
) -> None:
    """Attach a report, of the gate or `by` another judge, to the run of a version: whole as JSON, its single numbers as
    metrics, its pictures."""
    with _speaking_to(tracking_uri) as client:
        run = str(_model_version(client, version).run_id)
        client.log_dict(run, dict(scorecard), f"{by}/report.json")
        for file in files:
            client.log_artifact(run, str(file), by)
        numbers = _numbers(scorecard, by)
        client.log_batch(run, metrics=[Metric(name, value, 0, 0) for name, value in numbers.items()][:1000])
        if "verdict" in scorecard:
            client.set_model_version_tag(MODEL, version, "gate", str(scorecard["verdict"]))


def _card(folder: Path) -> tuple[dict[str, Any], str]:
    """A model's card and the hash of its weights, which must agree."""
    try:
        card: dict[str, Any] = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        weights = hashlib.sha256((folder / "weights.safetensors").read_bytes()).hexdigest()
    except (OSError, ValueError) as error:
        raise BrokenRecord(f"{folder}: not a whole model ({error}); train it again") from None
    if card.get("weights_sha256") != weights:
        raise BrokenRecord(
            f"{folder}: weights have SHA-256 {weights[:12]}, model.json says {str(card.get('weights_sha256'))[:12]}; "
            "train it again"
        )
    return card, weights


def _check_labels(folder: Path, card: Mapping[str, Any], cells: pd.DataFrame) -> None:
    learnt, found = card.get("n_train_per_class"), _per_class(cells)
    if learnt != found:
        raise BrokenRecord(
            f"{folder}: its card tells of {learnt} training images, the ground truth of {found}; run `ctcml repro train`"
        )


def _beside(folder: Path, beside: Mapping[str, Path]) -> dict[str, Path]:
    """The files that are kept with a model, by their place below its folder."""
    found: dict[str, Path] = {}
    for name, path in beside.items():
        if not path.exists() or (folder / name).exists():
            why = "it is not there" if not path.exists() else f"{folder.name}/ has a {name} of its own"
            raise BrokenRecord(f"{path}: expected to be kept with the model as {name}, but {why}; run `ctcml repro`")
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        found |= {str(Path(name) / file.relative_to(path)): file for file in files if file.is_file()}
    return found


def _per_class(cells: pd.DataFrame) -> dict[str, int]:
    return {str(name): int(number) for name, number in cells["class_id"].value_counts().items()}


def _training_set(cells: pd.DataFrame, data_version: str, data_md5: str) -> DatasetInput:
    """The training set as MLflow's data set: a hash of which cell has which label, the version of the pixels, sizes."""
    labels = sorted(f"{uid} {class_id}" for uid, class_id in zip(cells["cell_uid"], cells["class_id"], strict=True))
    sizes = {"images": len(cells), "patients": int(cells["patient_uid"].nunique()), "per_class": _per_class(cells)}
    dataset = Dataset(
        name=data_version,
        digest=hashlib.sha256("\n".join(labels).encode()).hexdigest()[:32],  # MLflow keeps 36 characters
        source_type="dvc",
        source=json.dumps({"data_version": data_version, "data_md5": data_md5}),
        profile=json.dumps(sizes),
    )
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _history(folder: Path) -> list[dict[str, Any]]:
    file = folder / "history.json"
    return list(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else []


def _forget_half_told(client: MlflowClient, experiment: str, weights: str) -> None:
    """Remove the run and the model that a killed call left without a version."""
    of_it = f"tags.weights_sha256 = '{weights}'"
    for run in client.search_runs([experiment], of_it):
        client.delete_run(run.info.run_id)
    for model in client.search_logged_models([experiment], of_it):
        client.delete_logged_model(model.model_id)


def _log_phase(client: MlflowClient, rows: list[dict[str, Any]], folder: Path, ours: dict[str, str]) -> None:
    beta = rows[0]["beta"]
    with mlflow.start_run(run_name=f"phase {rows[0]['phase']}: beta {beta:g}", nested=True, tags=ours) as run:
        mlflow.log_params({"beta": beta, "epochs": len(rows)})
        _log_rows(client, run.info.run_id, rows)
        picture = folder / f"reconstructions-beta-{beta:g}.png"
        if picture.exists():
            mlflow.log_artifact(str(picture))


def _log_rows(client: MlflowClient, run: str, rows: list[dict[str, Any]]) -> None:
    """All numbers of all epochs, a thousand a request."""
    metrics = [
        Metric(name, value, 0, step)
        for step, row in enumerate(rows, start=1)
        for name, value in _numbers(row).items()
        if name not in ("phase", "epoch")
    ]
    for first in range(0, len(metrics), 1000):
        client.log_batch(run, metrics=metrics[first : first + 1000])


def _register(
    client: MlflowClient, folder: Path, beside: Mapping[str, Path], tags: dict[str, str], ours: dict[str, str]
) -> str:
    answer = mlflow_model.CellClassifier(load_scorer(folder)).predict(EXAMPLE)  # what cannot answer is not registered
    with tempfile.TemporaryDirectory() as aside:
        model = Path(aside) / "model"
        model.mkdir()
        own = {file.name: file for file in folder.iterdir() if file.is_file()}
        for name, file in {**own, **beside}.items():
            if file.suffix in KEPT:
                (model / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, model / name)
        tags = tags | {SEALED: _completed(model, tags)}
        text = (model / artefacts.CARD).read_text(encoding="utf-8")
        # By the loader's name and not from a file of code: MLflow would store the path of that file.
        logged = mlflow.pyfunc.log_model(
            name=MODEL,
            loader_module=mlflow_model.__name__,
            data_path=str(model),
            signature=infer_signature(EXAMPLE, answer),
            input_example=EXAMPLE,
            pip_requirements=[f"ctcml=={installed('ctcml')}"],
            tags=ours | tags,
        )
    with suppress(MlflowException):  # it is there from the second model on
        client.create_registered_model(MODEL)
    # With its tags in one call: a version without the hash that a second call looks for never exists.
    made = client.create_model_version(
        MODEL, logged.model_uri, run_id=logged.run_id, tags=tags, model_id=logged.model_id, description=text
    )
    return str(made.version)


def _completed(model: Path, tags: Mapping[str, str]) -> str:
    report = model / "scorecard.json"
    return artefacts.complete(
        model,
        scorecard=json.loads(report.read_text(encoding="utf-8"))["scorecard"] if report.exists() else None,
        data_version=tags["data_version"],
        code_commit=tags["code_commit"],
    )


def _version_of(client: MlflowClient, weights: str) -> str | None:
    found = client.search_model_versions(f"name = '{MODEL}' and tags.weights_sha256 = '{weights}'")
    return str(min(int(each.version) for each in found)) if found else None


def _model_version(client: MlflowClient, version: str) -> Any:
    try:
        return client.get_model_version(MODEL, version)
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        known = sorted(int(each.version) for each in client.search_model_versions(f"name = '{MODEL}'"))
        raise BadInput(
            f"model version {version!r}: not in the registry, which has {known}; name one of these"
        ) from None


def _leaves(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """The single values in nested tables, each with its path."""
    for name, value in content.items():
        path = f"{above}/{name}" if above else str(name)
        if isinstance(value, Mapping):
            yield from _leaves(value, path)
        else:
            yield path, value


def _numbers(content: Mapping[str, Any], above: str = "") -> dict[str, float]:
    """The single numbers in nested tables, named by their path.

    >>> _numbers({"n": 3, "by": {"ctc": 0.5}, "low_high": [0, 1], "sure": True})
    {'n': 3.0, 'by/ctc': 0.5}
    """
    return {
        path: float(value)
        for path, value in _leaves(content, above)
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


@contextmanager
def _speaking_to(tracking_uri: str) -> Iterator[MlflowClient]:
    """A client of a server that answers; MLflow itself would try for minutes."""
    try:
        if tracking_uri.startswith("http"):
            httpx.get(f"{tracking_uri}/health", timeout=10, trust_env=False).raise_for_status()
    except httpx.HTTPError as error:
        raise ServiceDown(f"MLflow at {tracking_uri}: {error}; start it with `ctcml up`") from None
    yield MlflowClient(tracking_uri)
