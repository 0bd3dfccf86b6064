"""The bench of the recount measures programs that do the whole work; SIMULATED cells."""

import json
from pathlib import Path

import pytest

from ctcml.bench_recount import Recounted, bench_recount, figures_of, recount, write_archive
from ctcml.tables import EMBEDDING, MANIFEST, read_folder
from ctcml.workspace import Workspace


def took(embed_s: float) -> Recounted:
    return Recounted(whole_s=embed_s + 5, start_s=4.0, embed_s=embed_s, count_s=1.0, peak_mb=900.0, samples=300)


def test_the_ratio_of_the_workers_is_that_of_their_work_without_their_start() -> None:
    figures = figures_of(60_000, ours=took(40.0), one=took(80.0), two=took(44.0), plain_s=120.0)
    found = {one.name: one.value for one in figures}
    assert found["ratio of embedding, start-up apart"] == "1.82 x"
    assert found["60,000 thumbnails of 300 samples recounted, cold process"] == "45.0 s"
    assert found["plain way: embedding"] == "120.0 s, 3.0 x ours"


@pytest.mark.trial
def test_a_recount_is_a_program_that_embeds_and_counts_every_sample(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "lab")
    write_archive(ws, thumbnails=24, seed=2)
    found = recount(ws, kind="here", workers=1)
    assert found.samples == 1
    assert min(found.start_s, found.embed_s, found.count_s) > 0
    assert found.whole_s >= found.start_s + found.embed_s + found.count_s
    assert len(read_folder(ws.embeddings, EMBEDDING)) == len(read_folder(ws.manifest, MANIFEST)) == 24
    assert json.loads((ws.embeddings / "made_of.json").read_text())["model_version"] == "0"


@pytest.mark.trial
def test_two_workers_of_dask_recount_faster_than_one(tmp_path: Path, figure: object) -> None:
    found = {one.name: one.value for one in bench_recount(tmp_path, thumbnails=4000, seed=2, plain=False, say=print)}
    for name, value in found.items():
        figure(name, value)  # type: ignore[operator]
    assert float(found["ratio of embedding, start-up apart"].split()[0]) > 1.3  # the machine may be busy
