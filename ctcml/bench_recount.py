"""`ctcml bench recount`: a whole archive counted again by another model, on SIMULATED cells; two workers of Dask beside one.

Each way is a program of its own, one after the other, on an archive of which nothing is kept. The network has learnt nothing:
its answers mean nothing, and cost what a trained network's cost.
"""

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ctcml.bench_discovery import write_workspace
from ctcml.executor import Kind
from ctcml.measuring import Figure, run_measured
from ctcml.tables import MANIFEST, OPINIONS, read_table, write_table
from ctcml.workspace import Workspace

Say = Callable[[str], None]

# Workers are started and open the model before the clock of the work begins; then what a promotion does with the archive.
OURS = """
import json, sys, time
from pathlib import Path
from ctcml.archive import embed_archive, make_ready
from ctcml.executor import open_executor
from ctcml.params import load_params
from ctcml.recounting import as_csv, changes, recounted
from ctcml.workspace import Workspace

ws, ticks = Workspace(Path(sys.argv[1])), [time.perf_counter()]
params = load_params(ws.params)
with open_executor(kind=sys.argv[2], workers=int(sys.argv[3])) as executor:
    executor.map(make_ready, [ws.champion] * 4 * executor.workers)
    ticks.append(time.perf_counter())
    embed_archive(ws, ws.champion, ws.embeddings, executor=executor, say=lambda line: None, little=0)
    ticks.append(time.perf_counter())
counts = recounted(ws, ws.champion, ws.embeddings, counts=params.counts, survival=params.survival)
rows = len(as_csv(changes(counts, counts)).splitlines()) - 1
ticks.append(time.perf_counter())
print(json.dumps({"start": ticks[1] - ticks[0], "embed": ticks[2] - ticks[1], "count": ticks[3] - ticks[2], "rows": rows}))
"""

# What a user would write: one process, torch as it comes, sample after sample.
PLAIN = """
import json, sys, time
from pathlib import Path
import numpy as np, torch
from ctcml.appearance import appearance
from ctcml.model import load_model
from ctcml.shards import read_inputs, sample_uids
from ctcml.tables import EMBEDDING
import pandas as pd

lab, out = Path(sys.argv[1]), Path(sys.argv[2])
model, card = load_model(lab / "models" / "champion")
model.eval()
begun = time.perf_counter()
for sample in sample_uids(lab / "data" / "shards"):
    uids, images = read_inputs(lab / "data" / "shards", [sample], **card["image"])
    parts = []
    with torch.no_grad():
        for first in range(0, len(images), 64):
            x = torch.from_numpy(images[first : first + 64]).permute(0, 3, 1, 2).contiguous().float() / 255
            logits, latents, drawn = model(x)
            error = (drawn - x).square().sum((2, 3)) / x.square().sum((2, 3)).clamp(min=1.0)
            parts.append([logits.softmax(1), latents, error, -logits.logsumexp(1)])
    chances, latents, error, energy = (torch.cat(some).numpy() for some in zip(*parts))
    pd.DataFrame({"cell_uid": uids, "predicted": [card["classes"][k] for k in chances.argmax(1)], "probabilities": list(chances),
        "latent": list(latents), "reconstruction_error": list(error), "energy": energy, "appearance": list(appearance(images))}
    ).to_parquet(out / f"{sample}.parquet")
print(json.dumps({"embed": time.perf_counter() - begun}))
"""


@dataclass(frozen=True, kw_only=True)
class Recounted:
    """Seconds of one program: whole, and of it until the workers were ready, embedding, and counting with the table."""

    whole_s: float
    start_s: float
    embed_s: float
    count_s: float
    peak_mb: float
    samples: int


def bench_recount(folder: Path, *, thumbnails: int, seed: int, plain: bool, say: Say) -> list[Figure]:
    """Recount so many thumbnails in processes, on Dask with two workers and with one, and embed them the plain way."""
    ws = Workspace(folder / "lab")
    say(f"an archive of {thumbnails:,} SIMULATED thumbnails (not part of any figure)")
    write_archive(ws, thumbnails=thumbnails, seed=seed)
    say("recount in processes, one a core")
    ours = recount(ws, kind="processes", workers=0)
    say("recount on Dask: one worker, then two, of one compute thread each")
    one, two = (recount(ws, kind="dask", workers=workers) for workers in (1, 2))
    plain_s = _plainly(ws, folder / "plain", say=say) if plain else None
    return figures_of(thumbnails, ours=ours, one=one, two=two, plain_s=plain_s)


def figures_of(
    thumbnails: int, *, ours: Recounted, one: Recounted, two: Recounted, plain_s: float | None
) -> list[Figure]:
    """The rows of the table: in processes, on Dask with one worker and with two, and the plain way where it was asked for."""
    figures = [
        Figure(name=f"{thumbnails:,} thumbnails of {ours.samples} samples recounted, cold process", value=f"{ours.whole_s:.1f} s", asked="<= 90 s on 2 cores"),
        Figure(name="of it: start-up, embedding, counting", value=f"{ours.start_s:.1f}, {ours.embed_s:.1f}, {ours.count_s:.1f} s"),
        Figure(name="peak memory, all processes", value=f"{ours.peak_mb:,.0f} MB"),
        Figure(name="Dask, one worker: start-up, embedding", value=f"{one.start_s:.1f}, {one.embed_s:.1f} s"),
        Figure(name="Dask, two workers: start-up, embedding", value=f"{two.start_s:.1f}, {two.embed_s:.1f} s"),
        Figure(name="ratio of embedding, start-up apart", value=f"{one.embed_s / two.embed_s:.2f} x", asked=">= 1.6 x"),
        Figure(name="load of the machine meanwhile", value=f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"),
    ]  # fmt: skip
    if plain_s is not None:
        figures.append(
            Figure(name="plain way: embedding", value=f"{plain_s:.1f} s, {plain_s / ours.embed_s:.1f} x ours")
        )
    return figures


def _plainly(ws: Workspace, out: Path, *, say: Say) -> float:
    say("the plain way: torch, one process, sample after sample")
    out.mkdir()
    took = run_measured([sys.executable, "-c", PLAIN, str(ws.root), str(out)])
    return float(json.loads(took.said)["embed"])


def recount(ws: Workspace, *, kind: Kind, workers: int) -> Recounted:
    """Recount an archive of which nothing is kept, in a program of its own."""
    shutil.rmtree(ws.kept_embeddings, ignore_errors=True)
    took = run_measured([sys.executable, "-c", OURS, str(ws.root), kind, str(workers)])
    said = json.loads(took.said)
    return Recounted(
        whole_s=took.seconds,
        start_s=said["start"],
        embed_s=said["embed"],
        count_s=said["count"],
        peak_mb=took.peak_mb,
        samples=said["rows"],
    )


def write_archive(ws: Workspace, *, thumbnails: int, seed: int) -> None:
    """A workspace that can be recounted: shards and manifests a sample, nothing settled, nobody asked."""
    ws.derived.mkdir(parents=True)
    write_workspace(ws, thumbnails=thumbnails, seed=seed)
    whole = ws.manifest / "all.parquet"
    rows = read_table(whole, MANIFEST)
    whole.unlink()
    for sample_uid, of_sample in rows.assign(proposed=True).groupby("sample_uid"):
        write_table(of_sample, MANIFEST, ws.manifest / f"{sample_uid}.parquet")
    write_table(pd.DataFrame(columns=list(OPINIONS)), OPINIONS, ws.opinions)
