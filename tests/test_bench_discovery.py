"""The cases of the discovery bench are what they are called, and a small one is judged as the stage would."""

import json
from pathlib import Path

import numpy as np
import pytest

from ctcml.bench_discovery import HIDDEN, STREAKS, Scene, bench_discovery, draw_scenes, write_workspace
from ctcml.params import load_params
from ctcml.shards import read_inputs, sample_uids
from ctcml.tables import MANIFEST, TRUTH, read_folder, read_table
from ctcml.workspace import Workspace

NUMBERS = load_params(Path(__file__).parents[1] / "params.yaml").train.shortened("modern", (1,)) | {"betas": (100.0,)}


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, list[str], list[str], dict[str, Scene]]:
    return draw_scenes(3, patients=20, objects=20, cells=120)


def test_nobody_who_is_trained_on_lies_in_an_archive_and_the_hidden_class_is_hidden(
    drawn: tuple[np.ndarray, list[str], list[str], dict[str, Scene]],
) -> None:
    images, labels, owners, scenes = drawn
    assert len(images) == len(labels) == len(owners) == 120
    assert HIDDEN not in labels
    for scene in scenes.values():
        assert not set(owners) & set(scene.samples)
        assert len(scene.images) == len(scene.sought) == len(scene.samples)
    assert scenes["natural share"].sought.sum() > 15
    assert scenes["15 among 2,000"].sought.sum() == 15
    assert not scenes["nothing new"].sought.any()


def test_the_other_instrument_shows_the_same_cells_otherwise(
    drawn: tuple[np.ndarray, list[str], list[str], dict[str, Scene]],
) -> None:
    known, other = drawn[3]["nothing new"], drawn[3]["shifted instrument"]
    assert other.samples == known.samples
    assert other.instrument != known.instrument
    assert (other.images != known.images).any(axis=(1, 2, 3)).all()


def test_streaks_lie_on_one_cartridge_or_at_one_place_of_many(
    drawn: tuple[np.ndarray, list[str], list[str], dict[str, Scene]],
) -> None:
    cartridge, region = drawn[3]["artefact cartridge"], drawn[3]["artefact region"]
    assert cartridge.sought.sum() == region.sought.sum() == STREAKS
    assert len({cartridge.samples[at] for at in np.flatnonzero(cartridge.sought)}) == 1
    assert len({region.samples[at] for at in np.flatnonzero(region.sought)}) > 4
    assert region.xy is not None
    assert np.ptp(region.xy[region.sought], axis=0).max() < 100 < np.ptp(region.xy[~region.sought], axis=0).min()


def test_a_small_bench_has_a_row_a_case_and_space(tmp_path: Path, one_thread: None) -> None:
    found = bench_discovery(
        tmp_path, seeds=[3], numbers=NUMBERS, clusters=20, min_cells=8, ratio=3.0, patients=20, objects=20, cells=120,
        say=lambda _: None,
    )  # fmt: skip
    rows = {one.name: one.value for one in found}
    assert len(rows) == 7 * 3
    # Twelve patients on a side and a network of one epoch: only what is coarse can be asked.
    assert all(
        "purity" not in rows[f"shifted instrument, {space}"] for space in ("standard", "autoencoder", "appearance")
    )


def test_the_workspace_of_the_timing_is_one_that_the_stages_can_read(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "lab")
    write_workspace(ws, thumbnails=450, seed=1)
    manifest, truth = read_folder(ws.manifest, MANIFEST), read_table(ws.truth, TRUTH)
    assert (len(manifest), manifest["sample_uid"].nunique()) == (450, 3)
    assert 100 < len(truth) < 300
    uids, images = read_inputs(ws.shards, sample_uids(ws.shards), recipe="asinh", background_percentile=10.0, asinh_scale=60.0)  # fmt: skip
    assert sorted(uids) == sorted(manifest["cell_uid"])
    assert len(np.unique(images.reshape(450, -1), axis=0)) == 450
    assert set(json.loads(ws.roles.read_text()).values()) == {"train"}
