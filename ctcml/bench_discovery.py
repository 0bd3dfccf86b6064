"""`ctcml bench discovery`: new kinds, small ones, none, a shifted instrument and planted artefacts, on SIMULATED cells; and 50,000.

Each seed is a cohort of its own. Networks are trained without the CD45EVs on three fifths of the patients; the others' cells
play the archive. Every case goes through the pieces that the stage `cluster` is made of.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.bench_score import write_random_model
from ctcml.clinical import COVARIATE
from ctcml.clusters import ARTEFACT, NEW, REPRESENTATIONS, Flags, Rule, flag_clusters, place
from ctcml.discovery import cleared, shifts_of
from ctcml.drawn_cells import DrawnCell, draw_cells
from ctcml.embed import Scorer, look
from ctcml.grouping import group
from ctcml.images import to_inputs
from ctcml.instruments_in_silico import INSTRUMENTS, JITTERED_TOGETHER, seen_by
from ctcml.measuring import Figure, run_measured
from ctcml.model import Network
from ctcml.novelty import Seen
from ctcml.replay import ARCHIVE_SHARE, joined, train_blind
from ctcml.shards import Packed, pack_shard
from ctcml.tables import CLINICAL, MANIFEST, TRUTH, write_table
from ctcml.workspace import Workspace

HIDDEN = "cd45ev"
PERCENTILE, ASINH_SCALE = 10.0, 60.0  # as in params.yaml
KNOWN_CELLS = 2000  # of the archive in the cases of few
FEW = (40, 15)
STREAKS = 60  # cells of the planted artefact
SHARD_CELLS = 200

Say = Callable[[str], None]
Images = NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True, eq=False)
class Scene:
    """What lies in the archive of one case: pictures, which of them are of the hidden class or planted, and whence."""

    images: Images
    sought: NDArray[np.bool_]
    samples: Sequence[str]
    instrument: str = "first"
    xy: NDArray[np.float64] | None = None


def bench_discovery(
    folder: Path, *, seeds: Sequence[int], numbers: Mapping[str, Any], clusters: int, min_cells: int, ratio: float, patients: int, objects: int, cells: int, say: Say
) -> list[Figure]:  # fmt: skip
    """Run every case for every seed; `numbers` are those of `train` without the network. A row a case and representation."""
    found: dict[str, list[str]] = {}
    for seed in seeds:
        say(f"seed {seed}: drawing {patients} SIMULATED patients, training two networks without {HIDDEN}")
        reference, labels, owners, scenes = draw_scenes(seed, patients=patients, objects=objects, cells=cells)
        for number, network in enumerate(("standard", "autoencoder")):
            scorer = train_blind(
                reference, labels, network=_network(network), recipe="asinh", seed=seed, numbers=numbers
            )
            seen = look(scorer, reference)
            for name, scene in scenes.items():
                archive = look(scorer, scene.images)
                for representation in REPRESENTATIONS if number else REPRESENTATIONS[:1]:
                    space = network if representation == "latents" else "appearance"
                    rule = Rule(representation=representation, ratio=ratio, clusters=clusters, min_cells=min_cells)
                    told = _told(scorer, seen, owners, archive, scene, rule, seed)
                    found.setdefault(f"{name}, {space}", []).append(told)
                    say(f"seed {seed}, {name}, {space}: {told}")
    return [Figure(name=name, value=" | ".join(told), asked=_asked(name)) for name, told in sorted(found.items())]


def draw_scenes(
    seed: int, *, patients: int, objects: int, cells: int
) -> tuple[Images, list[str], list[str], dict[str, Scene]]:
    """The reference, its labels and patients, and the archive of each case."""
    drawn, rng = draw_cells(seed, patients=patients, objects=objects), np.random.default_rng([seed, 11])
    archive_patients = set(rng.permutation(patients)[: round(ARCHIVE_SHARE * patients)].tolist())
    order = rng.permutation(len(drawn))
    mine = [drawn[at] for at in order if drawn[at].patient not in archive_patients and drawn[at].kind != HIDDEN][:cells]
    theirs = [drawn[at] for at in order if drawn[at].patient in archive_patients]
    known, hidden = [one for one in theirs if one.kind != HIDDEN], [one for one in theirs if one.kind == HIDDEN]
    other = [
        DrawnCell(**{**vars(one), "restored": seen_by(INSTRUMENTS[JITTERED_TOGETHER], one.restored, rng)})
        for one in known
    ]
    streaks = _streaks(known[:STREAKS], rng)
    scenes = {"natural share": _scene([*known, *hidden])}
    scenes |= {f"{few} among {KNOWN_CELLS:,}": _scene([*known[:KNOWN_CELLS], *hidden[:few]]) for few in FEW}
    scenes["nothing new"] = _scene(known)
    scenes["shifted instrument"] = _scene(other, instrument="second")
    scenes["artefact cartridge"] = _with_streaks(known, streaks, rng, one_cartridge=True)
    scenes["artefact region"] = _with_streaks(known, streaks, rng, one_cartridge=False)
    return _inputs(mine), [one.kind for one in mine], [f"s{one.patient}" for one in mine], scenes


def _inputs(cells: Sequence[DrawnCell]) -> Images:
    return to_inputs(
        [one.restored for one in cells], recipe="asinh", background_percentile=PERCENTILE, asinh_scale=ASINH_SCALE
    )


def _scene(cells: Sequence[DrawnCell], *, instrument: str = "first") -> Scene:
    return Scene(
        images=_inputs(cells),
        sought=np.array([one.kind == HIDDEN for one in cells]),
        samples=[f"s{one.patient}" for one in cells],
        instrument=instrument,
    )


def _streaks(cells: Sequence[DrawnCell], rng: np.random.Generator) -> Images:
    """Thumbnails with a bright streak through all channels, as a hair or a scratch leaves it; a kind never seen before."""
    images = _inputs(cells).astype(int)
    y, x = np.mgrid[:80, :80]
    for image in images:
        slope, width = rng.uniform(0.8, 1.2), rng.uniform(2, 4)
        image[np.abs(y - 40 - slope * (x - 40)) < width] += rng.integers(120, 160)
    return images.clip(0, 255).astype(np.uint8)


def _with_streaks(
    cells: Sequence[DrawnCell], streaks: Images, rng: np.random.Generator, *, one_cartridge: bool
) -> Scene:
    """The known cells and streaks: on one cartridge, or over many at one place of the frame."""
    images = np.concatenate([_inputs(cells), streaks])
    samples = [f"s{one.patient}" for one in cells]
    there = [samples[0]] * len(streaks) if one_cartridge else rng.choice(samples, len(streaks)).tolist()
    xy = rng.uniform((0, 0), (1384, 1036), (len(images), 2))
    if not one_cartridge:
        xy[len(cells) :] = rng.uniform((600, 500), (680, 560), (len(streaks), 2))
    sought = np.arange(len(images)) >= len(cells)
    return Scene(images=images, sought=sought, samples=[*samples, *there], xy=xy)


def _told(
    scorer: Scorer, reference: Seen, owners: Sequence[str], archive: Seen, scene: Scene, rule: Rule, seed: int
) -> str:
    """Judge one archive as the stage does, and say what came out."""
    both = joined(reference, archive)
    in_reference = np.arange(len(both)) < len(reference)
    samples = [*owners, *scene.samples]
    cells = pd.DataFrame(
        {
            "sample_uid": samples,
            "patient_uid": samples,
            "instrument": np.where(in_reference, "first", scene.instrument),
            "predicted": np.array(scorer.classes)[both.probabilities.argmax(axis=1)],
            "in_reference": in_reference,
        }
    )
    if scene.xy is not None:
        unknown = np.full((len(reference), 2), np.nan)
        cells[["x_px", "y_px"]] = np.concatenate([unknown, scene.xy])
    shift, own = shifts_of(cells, both, np.random.default_rng([seed, 8]))[scene.instrument]
    aside = set() if cleared(shift, own_reference=own) else {scene.instrument}
    placed = place(both, in_reference, rule.representation)
    made = group(placed, method="kmeans", clusters=rule.clusters, min_cells=rule.min_cells, seed=seed)
    flags = flag_clusters(cells, placed, made, rule, shifted=aside)
    return _in_words(flags, in_reference, scene.sought, shifted=bool(aside))


def _in_words(flags: Flags, in_reference: NDArray[np.bool_], sought: NDArray[np.bool_], *, shifted: bool) -> str:
    flagged = flags.of_cells(in_reference)[~in_reference]
    clusters = flags.verdicts.count(NEW)
    named = ["shift"] * shifted
    artefacts = [number for number, verdict in enumerate(flags.verdicts) if verdict.startswith(ARTEFACT)]
    if artefacts:
        held = np.isin(flags.grouping.member, artefacts)[~in_reference]
        named.append(f"artefact, {int((held & sought).sum())} of {int(sought.sum())} planted")
    if clusters:
        recall = f", recall {flagged[sought].mean():.2f}" if sought.any() else ""
        named.append(f"{clusters} new, {int(flagged.sum())} cells, purity {sought[flagged].mean():.2f}{recall}")
    return "; ".join(named) or "nothing flagged"


def _asked(name: str) -> str:
    return {
        "natural share": "purity >= .90, recall >= .85",
        "40 among 2,000": "purity and recall >= .6 in 2 of 3",
        "15 among 2,000": "no promise",
        "nothing new": "0 clusters in 2 of 3, never more than 1",
        "shifted instrument": "shift, no class, 3 of 3",
        "artefact cartridge": "artefact, no class, 3 of 3",
        "artefact region": "artefact, no class",
    }[name.rsplit(", ", 1)[0]]


def _network(name: str) -> Network:
    return "standard" if name == "standard" else "autoencoder"


def bench_many(folder: Path, *, thumbnails: int, seed: int, say: Say) -> list[Figure]:
    """Time the stages `embed` and `cluster` on a workspace of so many SIMULATED thumbnails, each a program of its own."""
    ws = Workspace(folder / "lab")
    say(f"a workspace of {thumbnails} SIMULATED thumbnails (not part of any figure)")
    write_workspace(ws, thumbnails=thumbnails, seed=seed)
    embedded, clustered = (
        run_measured([sys.executable, "-m", "ctcml", stage, "--workspace", str(ws.root)])
        for stage in ("embed", "cluster")
    )
    return [
        Figure(name=f"{thumbnails:,} thumbnails: embed", value=f"{embedded.seconds:.0f} s, {embedded.peak_mb:.0f} MB"),
        Figure(name="cluster and flag", value=f"{clustered.seconds:.0f} s, {clustered.peak_mb:.0f} MB"),
        Figure(name="both", value=f"{embedded.seconds + clustered.seconds:.0f} s, {max(embedded.peak_mb, clustered.peak_mb):.0f} MB", asked="<= 300 s on 2 cores, <= 4,000 MB"),
        Figure(name="said", value=clustered.said),
    ]  # fmt: skip


def write_workspace(ws: Workspace, *, thumbnails: int, seed: int) -> None:
    """Write what the stages `embed` and `cluster` read: drawn cells, repeated with turns until there are enough; half are labelled.

    The model has learnt nothing, so the figures are of time alone.
    """
    drawn, rng = draw_cells(seed, patients=min(40, max(4, thumbnails // 75)), objects=75), np.random.default_rng(seed)
    rows: dict[str, list[dict[str, Any]]] = {"manifest": [], "truth": [], "clinical": []}
    for first in range(0, thumbnails, SHARD_CELLS):
        sample = f"s{first // SHARD_CELLS:04d}"
        packed = []
        for number in range(first, min(first + SHARD_CELLS, thumbnails)):
            one = drawn[number % len(drawn)]
            noise = rng.integers(0, 3, one.restored.shape, dtype=np.uint16)  # no two alike
            pixels = np.ascontiguousarray(np.rot90(one.restored + noise, number // len(drawn), axes=(1, 2)))
            packed.append(
                Packed(
                    cell_uid=f"c{number}", sample_uid=sample, object_index=number + 1, planes=("CD45", "DAPI", "CK"), pixels=pixels,
                    mask=None, source_bit_depth=16, source_order="CD45,DAPI,CK", restore_low=(), restore_high=(),
                )
            )  # fmt: skip
            rows["manifest"].append(
                dict.fromkeys(MANIFEST)
                | {"cell_uid": f"c{number}", "sample_uid": sample, "patient_uid": f"p{sample}", "object_index": number + 1, "height": pixels.shape[1], "width": pixels.shape[2], "has_mask": False, "oversize": False, "content_sha256": "", "shard_sha256": sample}
            )  # fmt: skip
            if one.kind != HIDDEN and rng.random() < 0.5:
                label = {"class_id": one.kind, "role": "train", "purpose": "training", "how": "both readers"}
                rows["truth"].append(
                    {"cell_uid": f"c{number}", "sample_uid": sample, "patient_uid": f"p{sample}"} | label
                )
        pack_shard(packed, ws.shards / f"{sample}.parquet")
        rows["clinical"].append(
            dict.fromkeys(CLINICAL)
            | {"sample_uid": sample, "patient_uid": f"p{sample}", "sample_kind": "patient", "cancer_type": "breast", "instrument": "first", "blood_volume_ml": 7.5, f"{COVARIATE}simulated": "yes"}
        )  # fmt: skip
    write_table(pd.DataFrame(rows["manifest"]), MANIFEST, ws.manifest / "all.parquet")
    write_table(pd.DataFrame(rows["truth"]), TRUTH, ws.truth)
    write_table(pd.DataFrame(rows["clinical"]), CLINICAL, ws.clinical, extra_prefix=COVARIATE)
    ws.roles.write_text(json.dumps({row["patient_uid"]: "train" for row in rows["clinical"]}), encoding="utf-8")
    ws.params.write_bytes((Path(__file__).parent.parent / "params.yaml").read_bytes())
    ws.calibration.write_text('{"temperature": 1.0}', encoding="utf-8")
    write_random_model(ws.champion, seed=seed)
    (ws.champion / "version.json").write_text('{"version": "0"}', encoding="utf-8")
    choice = {
        "score": "appearance_density",
        "threshold": None,
        "representation": "appearance",
        "ratio": 3.0,
        "cases": 0,
    }
    (ws.champion / "replay.json").write_text(json.dumps({"choice": choice}), encoding="utf-8")
