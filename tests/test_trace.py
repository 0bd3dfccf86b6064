"""From every count to the very cells behind it, or not at all."""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from factories import KEY, NOON, a_cell

from ctcml.audit import entries
from ctcml.cli import cli
from ctcml.counts import counted_cells
from ctcml.errors import BadInput, BrokenRecord
from ctcml.identity import load_key, pseudonym
from ctcml.shards import Packed, pack_shard, read_shard, rehashed
from ctcml.tables import (
    CLINICAL,
    COUNTS,
    DISCOVERY,
    EMBEDDING,
    MANIFEST,
    read_folder,
    read_table,
    write_json,
    write_table,
)
from ctcml.trace import Trace, find_sample, trace_count
from ctcml.trace_file import signed_trace
from ctcml.workspace import Workspace


@pytest.fixture
def lab(counted_lab: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the laboratory that a test may damage."""
    return Workspace(Path(shutil.copytree(counted_lab.root, tmp_path / "lab", symlinks=True)))


def roles(ws: Workspace) -> dict[str, str]:
    return dict(json.loads(ws.roles.read_text()))


def counts(ws: Workspace, *, role: str | None = None) -> pd.DataFrame:
    """Arg-max CTC counts of one set's patients, largest first."""
    table = read_table(ws.counts, COUNTS)
    table = table[(table["class_id"] == "ctc") & (table["threshold"] == 0)]
    if role:
        table = table[table["patient_uid"].map(roles(ws)) == role]
    return table.sort_values(["count", "sample_uid"], ascending=False)


def largest(ws: Workspace, *, role: str = "train") -> Trace:
    return trace_count(ws, counts(ws, role=role)["sample_uid"].iloc[0], denominator="all")


def test_every_count_of_the_archive_leads_to_exactly_as_many_cells(counted_lab: Workspace) -> None:
    table = read_table(counted_lab.counts, COUNTS)
    chosen = table[table["threshold"].isin([0, 0.5]) & table["class_id"].isin(["ctc", "wbc"])].iloc[::3]
    assert chosen["count"].sum() > 20
    for row in chosen.to_dict("records"):
        about = {name: row[name] for name in ("class_id", "denominator", "threshold")}
        found = trace_count(counted_lab, row["sample_uid"], **about)
        assert len(found.cells) == row["count"] == found.count["count"]
        assert len({one.cell_uid for one in found.cells}) == row["count"]


def test_cells_come_surest_first_and_are_those_that_the_count_names(counted_lab: Workspace) -> None:
    found = largest(counted_lab)
    chances = [one.probability for one in found.cells]
    assert len(chances) > 3
    assert chances == sorted(chances, reverse=True)
    cells = read_folder(counted_lab.embeddings, EMBEDDING)
    cells = cells.merge(read_folder(counted_lab.manifest, MANIFEST)[["cell_uid", "proposed"]], on="cell_uid")
    classes = json.loads((counted_lab.champion / "model.json").read_text())["classes"]
    named = counted_cells(cells, found.sample_uid, classes=classes, class_id="ctc", denominator="all")
    assert [one.cell_uid for one in found.cells] == named


def test_each_cell_names_its_pixels_its_file_and_its_place_as_the_manifest_does(counted_lab: Workspace) -> None:
    found = largest(counted_lab)
    manifest = read_folder(counted_lab.manifest, MANIFEST).set_index("cell_uid")
    for one in found.cells:
        row = manifest.loc[one.cell_uid]
        assert (one.object_index, one.content_sha256) == (row["object_index"], row["content_sha256"])
        shard = counted_lab.shards / one.shard
        assert hashlib.sha256(shard.read_bytes()).hexdigest() == one.shard_sha256 == row["shard_sha256"]
        assert one.cell_uid in {packed.cell_uid for packed in read_shard(shard)}
    assert found.shards_verified == 1


def test_model_data_and_code_are_named_as_they_are(counted_lab: Workspace) -> None:
    found = largest(counted_lab)
    weights = hashlib.sha256((counted_lab.champion / "weights.safetensors").read_bytes()).hexdigest()
    assert (found.model.version, found.model.weights_sha256) == ("1", weights)
    assert found.data_version == "data-v1"
    assert len(found.code_commit.removesuffix("-dirty")) == 40
    assert found.simulated


def test_readings_adjudication_and_settlement_of_a_training_cell_are_told(counted_lab: Workspace) -> None:
    table = counts(counted_lab, role="train")
    traces = [trace_count(counted_lab, uid, denominator="all") for uid in table["sample_uid"].unique()]
    read = [one for trace in traces for one in trace.cells if one.readings]
    assert read
    for one in read:
        said = [(reading.reader, reading.label, reading.duty) for reading in one.readings]
        if len(said) == 2:
            assert said == [("reader-a", "ctc", "reader"), ("reader-b", "ctc", "reader")]
            assert one.settled == ("ctc", "both readers")
        else:
            assert said[2] == ("reader-c", "wbc", "adjudicator")
            assert one.settled == ("wbc", "adjudicator")
    assert not any(trace.labels_sealed for trace in traces)


def test_what_readers_called_the_cells_of_a_sealed_patient_is_told_to_nobody(counted_lab: Workspace) -> None:
    table = counts(counted_lab, role="sealed")
    traces = [trace_count(counted_lab, uid, denominator="all") for uid in table["sample_uid"].unique()]
    assert traces
    assert all(trace.labels_sealed for trace in traces)
    read = [one for trace in traces for one in trace.cells if one.readings]
    assert read  # that they were read is no secret
    for one in read:
        assert {said.label for said in one.readings} == {"sealed"}
        assert {said.reasons for said in one.readings} == {""}
        assert one.settled is None


def test_a_cell_of_a_cluster_names_it(lab: Workspace) -> None:
    first = largest(lab).cells[0]
    row = {name: [None] for name in DISCOVERY} | {"cell_uid": [first.cell_uid], "cluster": [7], "cluster_name": ["k-7"]}
    write_table(pd.DataFrame(row), DISCOVERY, lab.cell_discovery)
    again = largest(lab)
    assert (again.cells[0].cluster, again.cells[0].cluster_name) == (7, "k-7")
    assert (again.cells[1].cluster, again.cells[1].cluster_name) == (None, None)


def test_a_count_that_its_cells_do_not_make_up_is_refused(lab: Workspace) -> None:
    table, uid = read_table(lab.counts, COUNTS), largest(lab).sample_uid
    raised = table["count"] + (table["sample_uid"] == uid)
    write_table(table.assign(count=raised), COUNTS, lab.counts)
    with pytest.raises(BrokenRecord, match=r"counts\.parquet tells \d+ ctc .* the embeddings name \d+ cells"):
        trace_count(lab, uid, denominator="all")


def repacked(path: Path, change: Callable[[Packed], Packed]) -> None:
    """Write a shard anew with other pixels."""
    cells = [change(one) for one in read_shard(path)]
    path.unlink()
    pack_shard(cells, path)


def brighter(one: Packed) -> Packed:
    pixels = one.pixels.copy()
    pixels[0, 0, 0] += 1
    return Packed(**{**vars(one), "pixels": pixels})  # its hash stays what intake wrote


def test_one_grey_level_changed_in_one_pixel_is_named(lab: Workspace) -> None:
    found = largest(lab)
    target = found.cells[2].cell_uid
    repacked(lab.shards / found.cells[0].shard, lambda one: brighter(one) if one.cell_uid == target else one)
    with pytest.raises(BrokenRecord, match=f"cell {target}: its pixels are not what intake wrote down"):
        trace_count(lab, found.sample_uid, denominator="all")


def test_a_shard_that_is_another_file_is_named_although_the_counted_cells_pixels_are_right(lab: Workspace) -> None:
    found = largest(lab)
    counted = {one.cell_uid for one in found.cells}
    shard = lab.shards / found.cells[0].shard
    repacked(shard, lambda one: one if one.cell_uid in counted else brighter(one))
    with pytest.raises(BrokenRecord, match="the file is not the one that intake wrote"):
        trace_count(lab, found.sample_uid, denominator="all")
    shard.unlink()
    with pytest.raises(BrokenRecord, match="its pixels are in no shard"):
        trace_count(lab, found.sample_uid, denominator="all")


def test_other_weights_than_the_card_describes_are_refused(lab: Workspace) -> None:
    with (lab.champion / "weights.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(BrokenRecord, match="not the weights that"):
        largest(lab)


def test_what_was_not_counted_cannot_be_traced_and_the_choices_are_said(lab: Workspace) -> None:
    uid = largest(lab).sample_uid
    with pytest.raises(BadInput, match=r"no count of 'dust'.* there are class_id .*ctc"):
        trace_count(lab, uid, class_id="dust", denominator="all")
    with pytest.raises(BadInput, match=r"threshold 0\.42; there are .*threshold 0, 0\.5"):
        trace_count(lab, uid, denominator="all", threshold=0.42)
    lab.counts.unlink()
    with pytest.raises(BadInput, match="run `ctcml repro count`"):
        trace_count(lab, uid)


def test_a_sample_is_found_by_its_beginning_and_by_the_laboratorys_own_name(
    counted_lab: Workspace, laboratory: Path
) -> None:
    names = pd.read_csv(laboratory / "clinical.csv", dtype=str)["sample"]
    known = set(read_table(counted_lab.clinical, CLINICAL, extra_prefix="covariate_")["sample_uid"])
    uid = find_sample(counted_lab, names[3])
    assert uid in known
    assert uid == pseudonym(load_key(counted_lab.key), "sample", names[3])
    assert find_sample(counted_lab, uid[:6]) == find_sample(counted_lab, uid) == uid


@pytest.mark.parametrize("named", ["", "ab", "not-a-sample", "../../etc", "*", "00000"])
def test_a_name_that_means_no_sample_or_a_slip_is_refused(counted_lab: Workspace, named: str) -> None:
    with pytest.raises(BadInput, match="no sample of this workspace has that name"):
        find_sample(counted_lab, named)


def test_the_rehash_is_that_of_the_stored_pixels(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    about = {"sample_uid": "s", "planes": ("CD45", "DAPI", "CK"), "mask": None, "source_bit_depth": 16}
    cells = [
        Packed(cell_uid=f"c{at}", object_index=at, pixels=a_cell(rng)[:3], source_order="", **about) for at in range(3)
    ]
    pack_shard(cells, tmp_path / "s.parquet")
    assert rehashed(tmp_path, "s", ["c0", "c2", "elsewhere"]) == {
        one.cell_uid: one.content_sha256 for one in (cells[0], cells[2])
    }


def five_hundred(root: Path) -> Workspace:
    """A workspace with one sample of 600 cells, 500 of them counted."""
    ws, rng, cells = Workspace(root), np.random.default_rng(2), [f"cell-{at:03d}" for at in range(600)]
    about = {"sample_uid": "s" * 24, "planes": ("CD45", "DAPI", "CK"), "mask": None, "source_bit_depth": 16}
    packed = [
        Packed(cell_uid=uid, object_index=at, pixels=a_cell(rng, 48, 48)[:3], source_order="", **about)
        for at, uid in enumerate(cells)
    ]
    digest = pack_shard(packed, ws.shards / f"{'s' * 24}.parquet")
    rows = {name: [None] * 600 for name in MANIFEST} | {
        "cell_uid": cells,
        "sample_uid": "s" * 24,
        "patient_uid": "p1",
        "proposed": True,
        "object_index": range(600),
        "content_sha256": [one.content_sha256 for one in packed],
        "shard_sha256": digest,
    }
    write_table(pd.DataFrame(rows), MANIFEST, ws.manifest / f"{'s' * 24}.parquet")
    sure = np.where(np.arange(600) < 500, 0.9, 0.1).astype(np.float32)
    said = {name: [None] * 600 for name in EMBEDDING} | {
        "cell_uid": cells,
        "sample_uid": "s" * 24,
        "predicted": np.where(sure > 0.5, "ctc", "wbc"),
        "probabilities": list(np.stack([sure, 1 - sure], axis=1)),
    }
    write_table(pd.DataFrame(said), EMBEDDING, ws.embeddings / f"{'s' * 24}.parquet")
    count = {name: [None] for name in COUNTS} | {"sample_uid": ["s" * 24], "patient_uid": ["p1"], "class_id": ["ctc"]}
    count |= {"denominator": ["proposed"], "threshold": [0.0], "count": [500], "events": [600], "exploratory": [False]}
    count |= {"per_7_5_ml": [500.0], "low": [450.0], "high": [550.0]}
    write_table(pd.DataFrame(count), COUNTS, ws.counts)
    clinical = {name: [None] for name in CLINICAL} | {"sample_uid": ["s" * 24], "patient_uid": ["p1"]}
    write_table(pd.DataFrame(clinical), CLINICAL, ws.clinical)
    write_json(ws.champion / "model.json", {"classes": ["ctc", "wbc"], "weights_sha256": "0" * 64})
    ws.key.parent.mkdir()
    ws.key.write_text(KEY.hex())
    return ws


def test_a_count_of_500_cells_is_traced_and_written_in_under_three_seconds(
    tmp_path: Path, figure: Callable[[str, str], None]
) -> None:
    ws = five_hundred(tmp_path / "lab")
    begun = time.monotonic()
    found = trace_count(ws, "s" * 24)
    traced = time.monotonic() - begun
    signed_trace(ws, found, now=NOON)
    whole = time.monotonic() - begun
    assert len(found.cells) == 500
    assert whole < 3
    assert (found.data_version, found.model.version, found.simulated) == ("in no version yet", "not registered", False)
    figure("trace of a count of 500 cells; with its signed file", f"{traced:.2f} s; {whole:.2f} s")


def test_the_command_prints_the_cells_under_their_count_and_tells_the_audit_log(
    lab: Workspace, laboratory: Path, tmp_path: Path
) -> None:
    names = pd.read_csv(laboratory / "clinical.csv", dtype=str)["sample"]
    uid = largest(lab).sample_uid
    (own,) = [name for name in names if pseudonym(load_key(lab.key), "sample", name) == uid]
    options = ["--among", "all", "--workspace", str(lab.root)]
    said = CliRunner().invoke(cli, ["trace", own, *options])
    assert said.exit_code == 0, said.output
    lines = said.output.splitlines()
    found = trace_count(lab, uid, denominator="all")
    assert lines[1].startswith(f"{len(found.cells)} CTC among {found.count['events']} events (all)")
    assert [line.split()[1] for line in lines if line[:1].isdigit()][2:] == [one.cell_uid for one in found.cells]
    out = tmp_path / "trace.zip"
    assert CliRunner().invoke(cli, ["trace", uid[:8], "--out", str(out), *options]).exit_code == 0
    assert out.stat().st_mode & 0o777 == 0o600
    told = CliRunner().invoke(cli, ["trace", "--verify", str(out), "--workspace", str(lab.root)])
    assert f"whole, signed with this workspace's key; {len(found.cells)} ctc of sample {uid}" in told.output
    log = list(entries(lab))
    assert [(one.action, one.about["sample_uid"]) for one in log] == [("view", uid), ("export", uid)]
    written = b"".join(file.read_bytes() for file in (lab.audit, out))
    assert own.encode() not in written
