"""What a model says of an archive is worked out once, whoever works it out, and nothing of it outlives its patient."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from factories import KEY, a_ledger, a_patient, a_sample

from ctcml import archive, stages
from ctcml.archive import MODELS_KEPT, embed_archive
from ctcml.bench_score import write_random_model
from ctcml.embed import load_scorer, look
from ctcml.errors import BrokenRecord
from ctcml.executor import HERE, open_executor
from ctcml.params import Executor
from ctcml.shards import data_sha256, read_inputs
from ctcml.tables import EMBEDDING, read_table, write_table
from ctcml.withdrawal import find_held, remove
from ctcml.workspace import Workspace

pytestmark = pytest.mark.usefixtures("one_thread")
KILLS = 10
SAMPLES = {"s1": "p1", "s2": "p2", "s3": "p3"}


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    """A workspace of three samples and a champion that has learnt nothing."""
    ws = Workspace(tmp_path / "lab")
    for sample, patient in SAMPLES.items():
        a_sample(ws, [f"{sample}-{number}" for number in range(3)], sample=sample, patient=patient)
    write_random_model(ws.champion, seed=1)
    (ws.champion / "version.json").write_text('{"version": "7"}')
    return ws


def plainly(ws: Workspace, folder: Path) -> None:
    """Embed as the stage did before there was an executor or anything kept."""
    scorer, image = (
        load_scorer(ws.champion),
        json.loads((ws.champion / "model.json").read_text())["image"],
    )
    for sample in SAMPLES:
        uids, images = read_inputs(ws.shards, [sample], **image)
        seen = look(scorer, images)
        table = pd.DataFrame({"cell_uid": uids, "sample_uid": sample})
        table["predicted"] = [scorer.classes[at] for at in seen.probabilities.argmax(axis=1)]
        table["probabilities"], table["latent"] = list(seen.probabilities), list(seen.latents)
        table["reconstruction_error"], table["energy"] = list(seen.reconstruction_error), seen.energy
        table["appearance"] = list(seen.appearance)
        write_table(table, EMBEDDING, folder / f"{sample}.parquet")


def embedded(ws: Workspace, folder: Path | None = None, *, model: Path | None = None, **more: object) -> list[str]:
    """Embed the archive; what was said meanwhile."""
    told: list[str] = []
    embed_archive(
        ws,
        model or ws.champion,
        folder or ws.embeddings,
        say=told.append,
        **{"executor": HERE, **more},  # type: ignore[arg-type]
    )
    return told


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def kept(ws: Workspace) -> list[Path]:
    return sorted(ws.kept_embeddings.glob("*/*.parquet"))


def test_the_tables_are_those_of_the_plain_way_to_the_byte_whoever_makes_them(ws: Workspace, tmp_path: Path) -> None:
    plainly(ws, tmp_path / "plain")
    for kind in ("here", "threads", "processes"):
        lab = Workspace(tmp_path / f"lab-{kind}")
        lab.root.mkdir()
        for shared in ("data", "models"):
            (lab.root / shared).symlink_to(ws.root / shared)
        with open_executor(kind=kind, workers=1 if kind == "processes" else 2) as executor:  # type: ignore[arg-type]
            embedded(lab, executor=executor, little=0)
        found = content(lab.embeddings)
        made_of = json.loads(found.pop("made_of.json"))
        assert found == content(tmp_path / "plain"), kind
        assert (made_of["model_version"], made_of["shards_sha256"]) == ("7", data_sha256(ws.manifest))


def test_the_stage_writes_what_a_flow_writes_and_works_nothing_out_twice(ws: Workspace, tmp_path: Path) -> None:
    said: list[str] = []
    stages.embed(ws, executor=Executor(kind="processes", workers=2, address=""), say=said.append)
    assert said == ["3/3 samples scored"]  # so few are done here, without any process
    times = {file: file.stat().st_mtime_ns for file in kept(ws)}
    assert embedded(ws, tmp_path / "preview") == ["all 3 samples were scored before"]
    assert content(tmp_path / "preview") == content(ws.embeddings)
    assert times == {file: file.stat().st_mtime_ns for file in kept(ws)}


def test_what_a_run_finished_before_it_was_cut_off_is_not_done_again(ws: Workspace) -> None:
    whole = (ws.shards / "s3.parquet").read_bytes()
    (ws.shards / "s3.parquet").unlink()
    (ws.shards / "s3.parquet").write_bytes(b"cut off")
    with pytest.raises(BrokenRecord, match=r"s3.parquet"):
        embedded(ws)
    assert [file.name[:2] for file in kept(ws)] == ["s1", "s2"]
    assert not ws.embeddings.exists()
    (kept(ws)[0].parent / ".s3.unfinished").write_bytes(b"")  # as a kill in the middle of writing leaves it
    (ws.shards / "s3.parquet").write_bytes(whole)
    assert embedded(ws) == ["3/3 samples scored, 2 of them before"]
    assert not list(kept(ws)[0].parent.glob(".s3.*"))


def test_a_sample_with_other_pixels_is_embedded_again_and_one_that_is_gone_is_forgotten(ws: Workspace) -> None:
    embedded(ws)
    before = kept(ws)
    for folder in (ws.shards, ws.manifest):
        (folder / "s1.parquet").unlink()
    (ws.shards / "s2.parquet").unlink()
    a_sample(ws, ["s2-0", "s2-1"], sample="s2", patient="p2")
    assert embedded(ws) == ["2/2 samples scored, 1 of them before"]
    assert len(kept(ws)) == 2
    assert set(kept(ws)) & set(before) == {before[2]}
    assert len(read_table(ws.embeddings / "s2.parquet", EMBEDDING)) == 2
    assert not (ws.embeddings / "s1.parquet").exists()


def test_a_kept_table_without_its_content_is_made_again(ws: Workspace) -> None:
    embedded(ws)
    right = content(ws.embeddings)
    kept(ws)[1].write_bytes(b"\0" * 4000)  # as a machine that lost its power may leave it
    assert embedded(ws) == ["3/3 samples scored, 2 of them before"]
    assert content(ws.embeddings) == right


def test_other_weights_another_recipe_and_other_code_share_nothing_and_old_models_go(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    embedded(ws)
    card = json.loads((ws.champion / "model.json").read_text())
    card["image"]["background_percentile"] = 20.0
    (ws.champion / "model.json").write_text(json.dumps(card))
    assert embedded(ws) == ["3/3 samples scored"]
    monkeypatch.setattr(archive, "_made_with", lambda: {"code": "another"})
    assert embedded(ws) == ["3/3 samples scored"]
    for number, folder in enumerate(sorted(ws.kept_embeddings.iterdir())):
        os.utime(folder / "made_of.json", (number, number))
    for seed in range(2, 2 + MODELS_KEPT):
        write_random_model(tmp_path / f"model-{seed}", seed=seed)
        assert embedded(ws, tmp_path / "out", model=tmp_path / f"model-{seed}") == ["3/3 samples scored"]
    assert len(list(ws.kept_embeddings.iterdir())) == MODELS_KEPT
    assert json.loads((tmp_path / "out" / "made_of.json").read_text())["model_version"] is None
    assert embedded(ws) == ["3/3 samples scored"]  # the champion's had become the oldest


def test_a_patient_who_withdraws_is_in_no_kept_table(ws: Workspace) -> None:
    a_ledger(ws.ledger, *(a_patient(patient, "train") for patient in SAMPLES.values()))
    embedded(ws)
    held = find_held(ws, "p2", key=KEY)
    assert kept(ws)[1] in held.files
    remove(ws, held, key=KEY)
    assert [file.name[:2] for file in kept(ws)] == ["s1", "s3"]


def test_a_model_whose_weights_are_not_those_of_its_card_embeds_nothing(ws: Workspace) -> None:
    embedded(ws)
    (ws.champion / "weights.safetensors").write_bytes(b"other")
    with pytest.raises(BrokenRecord, match="SHA-256"):
        embedded(ws)
    (ws.champion / "model.json").unlink()
    with pytest.raises(BrokenRecord, match=r"not readable .*train it again or fetch it"):
        embedded(ws)


def test_the_bits_do_not_depend_on_how_many_threads_the_caller_may_use(ws: Workspace) -> None:
    """A batch that is not full is added up in another order by two threads than by one."""
    import torch

    embedded(ws)
    alone = content(ws.embeddings)
    for file in kept(ws):
        file.unlink()
    torch.set_num_threads(2)
    try:
        embedded(ws)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert content(ws.embeddings) == alone


@pytest.mark.trial
def test_killed_at_any_moment_the_next_run_ends_as_if_nothing_had_happened(
    ws: Workspace, tmp_path: Path, figure: Callable[[str, str], None]
) -> None:
    for number in range(4, 44):
        a_sample(ws, [f"s{number}-{at}" for at in range(20)], sample=f"s{number}", patient=f"p{number}")
    code = (
        "import sys\nfrom pathlib import Path\nfrom ctcml.archive import embed_archive\n"
        "from ctcml.executor import open_executor\nfrom ctcml.workspace import Workspace\n"
        "ws = Workspace(Path(sys.argv[1]))\n"
        "with open_executor(kind='processes', workers=2) as executor:\n"
        "    embed_archive(ws, ws.champion, ws.embeddings, executor=executor, say=lambda line: None, little=0)\n"
    )
    command = [sys.executable, "-c", code, str(ws.root)]
    begun = time.monotonic()
    subprocess.run(command, check=True)
    whole_s, right = time.monotonic() - begun, content(ws.embeddings)
    shutil.rmtree(ws.kept_embeddings)
    rng, done, lost, held = np.random.default_rng(15), set[Path](), 0, []
    for _ in range(KILLS):
        run = subprocess.Popen(command)
        with suppress(subprocess.TimeoutExpired):
            run.wait(timeout=rng.uniform(0.3, 1.0) * whole_s)
        run.kill()
        run.wait()
        lost += len(done - set(kept(ws)))
        done = set(kept(ws))
        held.append(len(done))
    subprocess.run(command, check=True)
    assert lost == 0
    assert content(ws.embeddings) == right
    figure(
        "embedding killed at random",
        f"{KILLS} kills, {lost} finished samples lost, bytes equal; finished at each: {held}",
    )
