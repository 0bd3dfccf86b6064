"""Groups of cells that no label and no model has a say in."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories import a_sample

from ctcml import subgroups
from ctcml.appearance import appearance
from ctcml.clinical import COVARIATE
from ctcml.errors import BadInput
from ctcml.shards import Packed, pack_shard
from ctcml.subgroups import describe
from ctcml.tables import CLINICAL, MANIFEST, write_table
from ctcml.workspace import Workspace

SAMPLES = {  # sample: patient, role, kind, cancer type, instrument
    "s1": ("p1", "train", "patient", "breast", "CellTracks 1"),
    "s2": ("p2", "sealed", "benign", "breast", None),
    "s3": ("p3", "train", "cell_line", "SKBR-3", "CellTracks 2"),
}
PER_SAMPLE = 30


def brightened(cell: str, sample: str, number: int, level: int) -> Packed:
    """A bright square on a dark ground, as large and as bright as the level says."""
    rng, pixels = np.random.default_rng([number, level]), np.full((3, 40, 40), 100, dtype=np.uint16)
    pixels[2 if level > 1 else 0, 10 : 20 + 5 * level, 10 : 20 + 5 * level] = 400 * level + 300
    pixels = pixels + rng.integers(0, 20, pixels.shape).astype(np.uint16)
    return Packed(
        cell_uid=cell, sample_uid=sample, object_index=number, planes=("CD45", "DAPI", "CK"), pixels=pixels, mask=None,
        source_bit_depth=16, source_order="CD45,DAPI,CK", restore_low=(), restore_high=(),
    )  # fmt: skip


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Three samples of thirty cells that look like one of three things, twice as often the first as each other one."""
    ws = Workspace(tmp_path_factory.mktemp("described") / "lab")
    clinical = []
    for sample, (patient, _, kind, cancer_type, instrument) in SAMPLES.items():
        looks = [[1, 1, 2, 3][number % 4] for number in range(PER_SAMPLE)]
        packed = [brightened(f"{sample}-{at}-{look}", sample, at, look) for at, look in enumerate(looks)]
        about = {name: [None] * PER_SAMPLE for name in MANIFEST} | {
            "cell_uid": [one.cell_uid for one in packed],
            "sample_uid": sample,
            "patient_uid": patient,
            "object_index": range(PER_SAMPLE),
            "content_sha256": [one.content_sha256 for one in packed],
            "shard_sha256": pack_shard(packed, ws.shards / f"{sample}.parquet"),
        }
        write_table(pd.DataFrame(about), MANIFEST, ws.manifest / f"{sample}.parquet")
        clinical.append({"sample_uid": sample, "patient_uid": patient, "sample_kind": kind, "cancer_type": cancer_type,
                         "instrument": instrument})  # fmt: skip
    table = pd.DataFrame(clinical).reindex(columns=list(CLINICAL))
    write_table(table, CLINICAL, ws.clinical, extra_prefix=COVARIATE)
    ws.derived.mkdir()
    ws.roles.write_text(json.dumps({patient: role for patient, role, *_ in SAMPLES.values()}))
    return ws


@pytest.fixture
def three_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subgroups, "GROUPS", 3)
    monkeypatch.setattr(subgroups, "FEWEST", 1)


def asked(ws: Workspace) -> pd.DataFrame:
    """The sealed cells, and a few others, not in the order of the shards."""
    rows = [(f"{sample}-{at}-{[1, 1, 2, 3][at % 4]}", sample) for sample in ("s2", "s3") for at in range(PER_SAMPLE)]
    return pd.DataFrame(rows[::-1], columns=["cell_uid", "sample_uid"], index=range(100, 160)).assign(class_id="ctc")


def test_cells_that_look_alike_are_in_one_group_and_the_commonest_look_is_the_first(
    ws: Workspace, three_groups: None
) -> None:
    cells = asked(ws)
    found = describe(ws, cells)
    assert list(found.columns) == [*cells.columns, "cancer_type", "instrument", "cluster"]
    assert found.index.equals(cells.index)
    looks = found.groupby(found["cell_uid"].str[-1])["cluster"].unique()
    assert all(len(names) == 1 for names in looks)  # a group a look
    assert looks["1"][0] == "appearance 01"
    assert len({names[0] for names in looks}) == 3


def test_benign_samples_and_cell_lines_stand_apart_and_an_unknown_instrument_says_so(ws: Workspace) -> None:
    found = describe(ws, asked(ws)).groupby("sample_uid")[["cancer_type", "instrument"]].first()
    assert found.loc["s2"].tolist() == ["benign breast", "not known"]
    assert found.loc["s3"].tolist() == ["cell line SKBR-3", "CellTracks 2"]


def test_the_groups_do_not_know_what_the_held_out_cells_look_like(ws: Workspace, three_groups: None) -> None:
    """Only cells of training patients make the groups: which of the others are asked about changes no name."""
    cells = asked(ws)
    whole = describe(ws, cells).set_index("cell_uid")["cluster"]
    alone = describe(ws, cells.iloc[:7]).set_index("cell_uid")["cluster"]
    assert alone.equals(whole[alone.index])
    assert describe(ws, cells.iloc[:0])["cluster"].tolist() == []


def test_without_a_training_patient_or_a_clinical_row_one_line_says_what_to_do(ws: Workspace, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="sample s9: no row in the clinical table"):
        describe(ws, pd.DataFrame({"cell_uid": ["c"], "sample_uid": ["s9"]}))
    other = Workspace(tmp_path / "lab")
    a_sample(other, ["c1"])
    other.clinical.write_bytes(ws.clinical.read_bytes())
    other.derived.mkdir()
    other.roles.write_text('{"p1": "sealed"}')
    with pytest.raises(BadInput, match="no cell of a training patient; take in more patients"):
        describe(other, pd.DataFrame({"cell_uid": ["c1"], "sample_uid": ["s1"]}))


def test_images_that_came_preprocessed_are_looked_at_as_they_came(tmp_path: Path) -> None:
    ws, rng = Workspace(tmp_path / "lab"), np.random.default_rng(4)
    packed = [
        Packed(
            cell_uid=f"c{at}", sample_uid="s1", object_index=at, planes=("CD45", "DAPI", "CK"), mask=None,
            pixels=rng.integers(0, 256, (3, 80, 80)).astype(np.uint16), source_bit_depth=8,
            source_order="CD45,DAPI,CK", restore_low=(), restore_high=(), recipe="paper",
        )
        for at in range(3)
    ]  # fmt: skip
    pack_shard(packed, ws.shards / "s1.parquet")
    cells = pd.DataFrame({"cell_uid": ["c2", "c0"], "sample_uid": "s1"})
    given = np.stack([packed[at].pixels.transpose(1, 2, 0) for at in (2, 0)]).astype(np.uint8)
    assert np.array_equal(subgroups._looks(ws, cells), appearance(given))
