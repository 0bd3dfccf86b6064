import csv
import json
import os
import shutil
import sys
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ctcml import bench_score, engines, scoring, tables
from ctcml.bench_score import PLAIN_FILES, write_export, write_random_model, write_shards
from ctcml.cells_in_silico import KINDS
from ctcml.embed import load_scorer, score
from ctcml.engines import load_engine
from ctcml.errors import BadInput, BrokenRecord, CtcmlError, ServiceDown
from ctcml.images import Recipe
from ctcml.records import PLANES
from ctcml.scoring import Scored, ScoredSample, StoredSample, Way, prepare, score_columns, score_path, work
from ctcml.shards import read_inputs, sample_uids
from ctcml.workspace import Workspace


@pytest.fixture(autouse=True)
def _quick_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "PROBED", 8)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_random_model(folder, seed=0)
    return folder


@pytest.fixture(scope="module")
def stored(laboratory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose shards hold the laboratory's thumbnails."""
    root = tmp_path_factory.mktemp("workspace")
    write_shards(laboratory / "export", Workspace(root).shards)
    return root


def with_recipe(model: Path, folder: Path, recipe: Recipe) -> Path:
    """The same weights under a card that asks for another recipe."""
    shutil.copytree(model, folder)
    card = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps(card | {"image": card["image"] | {"recipe": recipe}}))
    return folder


def scored(path: Path, model: Path, out: Path, *, workers: int = 1) -> Scored:
    return score_path(path, model, out, engine="onnx", workers=workers)


def refused(out: Path) -> list[dict[str, str]]:
    with out.with_name(f"{out.name}.refused.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def some_samples(laboratory: Path, folder: Path, n: int = 3) -> Path:
    """A copy of the first samples of an export that a test may damage."""
    for sample in sorted((laboratory / "export").glob("*/frames/*"))[:n]:
        shutil.copytree(sample, folder / "frames" / sample.name)
    return folder


def test_every_thumbnail_of_an_export_is_scored_as_the_stages_score_it(
    laboratory: Path, stored: Path, model: Path, tmp_path: Path
) -> None:
    done = scored(laboratory / "export", model, tmp_path / "scores.parquet")
    found = tables.read_table(tmp_path / "scores.parquet", score_columns(KINDS, stored=False))
    names, images = read_inputs(Workspace(stored).shards, **bench_score.IMAGE)
    truth = score(load_scorer(model), images)
    assert done.thumbnails == len(found) == len(pd.read_csv(laboratory / "simulated_truth.csv"))
    assert (done.samples, done.refused) == (found["sample"].nunique(), 0)
    assert [f"{one}-{index}" for one, index in zip(found["sample"], found["object_index"], strict=True)] == names
    assert found["predicted"].tolist() == truth.predicted
    np.testing.assert_allclose(found[[f"p_{kind}" for kind in KINDS]], truth.probabilities, atol=1e-5)
    np.testing.assert_allclose(found[[f"z{place}" for place in range(50)]], truth.latents, atol=1e-4)


def test_scores_are_those_of_the_plain_way_with_tifffile_and_numpy(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_export(tmp_path / "export", tmp_path, thumbnails=130, seed=4)
    done = scored(tmp_path / "export", model, tmp_path / "export.parquet")
    monkeypatch.setattr(sys, "argv", ["plain", str(tmp_path / "export"), str(model), str(tmp_path / "export.npz")])
    exec(PLAIN_FILES, {})
    assert done.thumbnails == 130
    assert bench_score.compared(tmp_path, "export", ["sample", "object_index"]).startswith("100.000% of 130")


def test_shards_and_arrays_that_came_prepared_are_predicted_as_the_files_are(
    laboratory: Path, stored: Path, model: Path, tmp_path: Path
) -> None:
    scored(laboratory / "export", model, tmp_path / "files.parquet")
    files = pd.read_parquet(tmp_path / "files.parquet")
    scored(stored, model, tmp_path / "stored.parquet")
    from_workspace = tables.read_table(tmp_path / "stored.parquet", score_columns(KINDS, stored=True))
    scored(Workspace(stored).shards, model, tmp_path / "shards.parquet")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "shards.parquet"), from_workspace)
    assert from_workspace["predicted"].tolist() == files["predicted"].tolist()

    names, images = read_inputs(Workspace(stored).shards, **bench_score.IMAGE)
    groups = [name.rpartition("-")[0] for name in names]
    np.savez(tmp_path / "prepared.npz", images=images, labels=np.array([""] * len(names)), groups=np.array(groups))
    scored(tmp_path / "prepared.npz", with_recipe(model, tmp_path / "given", "given"), tmp_path / "array.csv")
    assert pd.read_csv(tmp_path / "array.csv")["predicted"].tolist() == files["predicted"].tolist()


def test_two_processes_write_the_same_bits_as_one(laboratory: Path, model: Path, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    scored(laboratory / "export", model, tmp_path / "one.parquet")
    score_path(
        laboratory / "export",
        model,
        tmp_path / "two.parquet",
        engine="onnx",
        workers=2,
        progress=lambda *at: seen.append(at),
    )
    assert pq.read_table(tmp_path / "two.parquet").equals(pq.read_table(tmp_path / "one.parquet"))
    assert all(begun <= all_ == 16 for begun, all_ in seen)


class ScriptedPipe:
    """The worker's end of a pipe on which the engine's name arrives after so many looks."""

    def __init__(self, name: str, *, after: int) -> None:
        self.name, self.left, self.sent = name, after, dict[int, ScoredSample]()

    def poll(self) -> bool:
        self.left -= 1
        return self.left < 0

    def recv(self) -> str:
        return self.name

    def send(self, sent: dict[int, ScoredSample]) -> None:
        self.sent = sent


@pytest.mark.parametrize("after", [0, 1, 9])
@pytest.mark.parametrize("likely", ["reference", "onnx", "one that does not start"])
def test_what_was_begun_with_an_engine_that_is_not_chosen_is_scored_again(
    stored: Path, model: Path, likely: str, after: int
) -> None:
    shards = Workspace(stored).shards
    jobs = [StoredSample(shards=shards, sample_id=one) for one in sample_uids(shards)[:3]]
    way = Way(model=model, image=bench_score.IMAGE, page_order=PLANES)
    pipe = ScriptedPipe("onnx", after=after)
    work(pipe, get_context("spawn").Value("i", 0), jobs, way, likely)
    engine = load_engine("onnx", model)
    for number, job in enumerate(jobs):
        logits, latents = engine.score(prepare(job, way).images)
        assert (pipe.sent[number].logits == logits).all()
        assert (pipe.sent[number].latents == latents).all()


def test_csv_says_what_parquet_says(laboratory: Path, model: Path, tmp_path: Path) -> None:
    export = some_samples(laboratory, tmp_path / "export", 1)
    scored(export, model, tmp_path / "scores.csv")
    scored(export, model, tmp_path / "scores.parquet")
    parquet = pd.read_parquet(tmp_path / "scores.parquet")
    read = pd.read_csv(tmp_path / "scores.csv", dtype=dict(parquet.dtypes))
    pd.testing.assert_frame_equal(read, parquet, check_exact=True)


def test_a_file_that_cannot_be_read_is_listed_and_the_rest_is_scored(
    laboratory: Path, model: Path, tmp_path: Path
) -> None:
    export, out = some_samples(laboratory, tmp_path / "export"), tmp_path / "scores.parquet"
    whole = scored(export, model, out).thumbnails
    torn = sorted(path for path in export.rglob("*_thumb_*.tif") if "_segm" not in path.name)[0]
    content = torn.read_bytes()
    torn.write_bytes(content[:40])
    done = scored(export, model, out)
    (row,) = refused(out)
    assert (done.thumbnails, done.refused) == (whole - 1, 1)
    assert (row["sample"], row["file"]) == (torn.parents[1].name, torn.name)
    assert "truncated" in row["reason"] or "not readable" in row["reason"]
    assert str(done).endswith("; 1 refused (see scores.parquet.refused.csv)")
    assert torn.parents[1].name not in str(done)

    torn.write_bytes(content)
    scored(export, model, out)
    assert not done.refused_table.exists()  # the list of the run before would contradict the new table


def test_a_sample_that_was_exported_twice_is_refused_not_scored_twice(
    laboratory: Path, model: Path, tmp_path: Path
) -> None:
    export = some_samples(laboratory, tmp_path / "export")
    sample = sorted((export / "frames").iterdir())[0]
    shutil.copytree(sample, export / "again" / "frames" / sample.name)
    done = scored(export, model, tmp_path / "scores.parquet")
    assert sample.name not in set(pd.read_parquet(tmp_path / "scores.parquet")["sample"])
    assert (done.samples, done.refused) == (2, 1)
    assert refused(tmp_path / "scores.parquet")[0]["file"] == sample.name


@pytest.mark.parametrize("source", ["files", "shards"])
def test_camera_counts_are_not_given_to_a_model_of_prepared_images(
    laboratory: Path, stored: Path, model: Path, tmp_path: Path, source: str
) -> None:
    path = {"files": some_samples(laboratory, tmp_path / "export", 1), "shards": stored}[source]
    given = with_recipe(model, tmp_path / "given", "given")
    with pytest.raises(BadInput, match=r"none of its thumbnails could be scored; mend what .*refused\.csv names"):
        scored(path, given, tmp_path / "scores.parquet")
    assert not (tmp_path / "scores.parquet").exists()
    reasons = refused(tmp_path / "scores.parquet")
    assert all("holds camera counts" in row["reason"] for row in reasons)
    assert "object " in reasons[0]["file"] or "cell " in reasons[0]["reason"]


def test_prepared_arrays_are_not_transformed_twice(model: Path, tmp_path: Path) -> None:
    images = np.zeros((2, 80, 80, 3), np.uint8)
    np.savez(tmp_path / "prepared.npz", images=images, labels=np.array(["", ""]), groups=np.array(["a", "a"]))
    with pytest.raises(BadInput, match="none of its thumbnails"):
        scored(tmp_path / "prepared.npz", model, tmp_path / "scores.parquet")
    assert "came preprocessed (given:npz-uint8)" in refused(tmp_path / "scores.parquet")[1]["reason"]


def test_a_torn_shard_is_listed_by_its_pseudonym_and_the_others_are_scored(
    stored: Path, model: Path, tmp_path: Path
) -> None:
    shards = shutil.copytree(Workspace(stored).shards, tmp_path / "shards")
    torn = sorted(shards.iterdir())[3]
    torn.write_bytes(b"PAR1")
    done = scored(shards, model, tmp_path / "scores.parquet")
    assert (done.samples, done.refused) == (15, 1)
    (row,) = refused(tmp_path / "scores.parquet")
    assert row["file"] == torn.stem
    assert torn.name in row["reason"]


@pytest.mark.parametrize("what", ["no card", "no recipe", "other weights"])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_model_that_cannot_be_read_is_one_line_and_leaves_no_table(
    laboratory: Path, model: Path, tmp_path: Path, what: str, workers: int
) -> None:
    broken = shutil.copytree(model, tmp_path / "broken")
    if what == "no card":
        (broken / "model.json").unlink()
    elif what == "no recipe":
        (broken / "model.json").write_text(json.dumps({"classes": list(KINDS)}))
    else:
        (broken / "weights.safetensors").write_bytes(b"others")
    with pytest.raises(BrokenRecord) as told:
        scored(laboratory / "export", broken, tmp_path / "scores.parquet", workers=workers)
    assert "\n" not in str(told.value)
    assert [path.name for path in tmp_path.iterdir()] == ["broken"]


@pytest.mark.parametrize(
    ("path", "out", "match"),
    [
        ("nothing", "scores.parquet", "no such file or folder"),
        ("empty", "scores.parquet", "no shards found"),
        ("empty", "empty", "is a folder, expected the name of a new table"),
    ],
)
def test_what_cannot_be_scored_or_written_is_said_before_anything_is_done(
    model: Path, tmp_path: Path, path: str, out: str, match: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=match):
        scored(tmp_path / path, model, tmp_path / out)


@pytest.mark.parametrize("name", ["scores.parquet", "scores.csv"])
def test_a_disk_that_fills_up_leaves_the_old_table_whole(
    laboratory: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def full(_: object, path: Path, **__: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    export, out = some_samples(laboratory, tmp_path / "export", 1), tmp_path / name
    scored(export, model, out)
    before = out.read_bytes()
    monkeypatch.setattr(tables.pq, "write_table", full)
    monkeypatch.setattr(scoring, "write_csv", full)
    with pytest.raises(OSError, match="no space"):
        scored(export, model, out)
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["export", name]


def killed(*_: object) -> None:
    """What a worker does that the system ends for want of memory."""
    os._exit(9)


def test_a_process_that_is_killed_is_said_and_not_waited_for(
    laboratory: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "start_method", lambda: get_context("spawn"))
    monkeypatch.setattr(scoring, "work", killed)
    with pytest.raises(ServiceDown, match="fewer workers") as told:
        scored(laboratory / "export", model, tmp_path / "scores.parquet", workers=2)
    assert isinstance(told.value, CtcmlError)
    assert not (tmp_path / "scores.parquet").exists()
