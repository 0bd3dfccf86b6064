"""`ctcml bench score`: thumbnails to classes, ours beside the plain way, in one run, as a ratio.

The export is SIMULATED: a few thousand cells are drawn, and the rest are hard links to their files under other samples'
names, so the files lie in the page cache for both ways. The network is the paper's with random weights: its answers mean
nothing, and cost what a trained network's cost. Each way is a process of its own from a cold start, one after the other.
"""

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ctcml.cells_in_silico import KINDS
from ctcml.measuring import Figure, Measured, run_measured
from ctcml.model import ARCHITECTURE, initialise, make_model, save_weights
from ctcml.packing import to_packed
from ctcml.records import PLANES
from ctcml.shards import pack_shard
from ctcml.simulate import simulate_laboratory
from ctcml.sources import find_sources, folder_of, read_source

Say = Callable[[str], None]

DISTINCT, OBJECTS_A_SAMPLE = 3000, 100
IMAGE = {"recipe": "asinh", "background_percentile": 10.0, "asinh_scale": 60.0}  # as in params.yaml
# What `malloc.keep_freed_memory` does to our processes, for the plain way: set before it starts.
EQUAL_MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "8589934592", "MALLOC_TOP_PAD_": "268435456",
}  # fmt: skip

# The network as a user would run it: fp32, planes apart, batches of 64, and the threads that torch takes by itself.
EAGER = """
import sys, time
from pathlib import Path
import numpy as np, torch
from ctcml.model import load_model

def run(images):
    model, _ = load_model(Path(sys.argv[2]))
    model.eval().to(memory_format=torch.contiguous_format)
    logits, latents, begun = [], [], time.perf_counter()
    with torch.no_grad():
        for first in range(0, len(images), 64):
            x = torch.from_numpy(images[first : first + 64]).permute(0, 3, 1, 2).contiguous().float() / 255
            for kept, found in zip((logits, latents), model.encode(x)):
                kept.append(found.numpy())
    print(len(images) / (time.perf_counter() - begun))
    return np.concatenate(logits), np.concatenate(latents)
"""

# What a user would write for TIFF files: one after the other, page by page, no masks, no checks.
PLAIN_FILES = f"""{EAGER}
import tifffile
names, images = [], []
for path in sorted(Path(sys.argv[1]).rglob("*_thumb_*.tif")):
    if path.name.endswith("_segm.tif"):
        continue
    image = np.zeros((80, 80, 3), np.uint8)
    with tifffile.TiffFile(path) as tiff:
        for place in range(3):
            page = tiff.pages[place].asarray()
            page = np.clip(page - np.percentile(page, 10, method="lower").astype(float), 0, None)
            grey = np.round(255 * np.arcsinh(page / 60) / np.arcsinh(4095 / 60)).clip(0, 255)
            height, width = (min(side, 80) for side in grey.shape)
            down, across = ((side - kept) // 2 for side, kept in zip(grey.shape, (height, width)))
            top, left = (80 - height) // 2, (80 - width) // 2
            image[top : top + height, left : left + width, place] = grey[down : down + height, across : across + width]
    names.append((path.parent.parent.name, int(path.stem.rsplit("_", 1)[1])))
    images.append(image)
logits, latents = run(np.stack(images))
np.savez(sys.argv[3], sample=[one for one, _ in names], index=[one for _, one in names], logits=logits, latents=latents)
"""

PLAIN_SHARDS = f"""{EAGER}
from ctcml.shards import read_inputs
names, images = read_inputs(Path(sys.argv[1]), **{IMAGE!r})
logits, latents = run(images)
np.savez(sys.argv[3], names=names, logits=logits, latents=latents)
"""

# Our network alone: what `ctcml score` does once its processes have their images.
OUR_NETWORK = f"""
import os, sys, time
from multiprocessing import get_context
from pathlib import Path
import numpy as np
from ctcml.engines import load_engine
from ctcml.malloc import keep_freed_memory
from ctcml.shards import read_inputs

def run(part, start, pipe):
    keep_freed_memory()
    engine = load_engine(sys.argv[3], Path(sys.argv[2]))
    engine.score(images[part][:64])
    start.wait()
    begun = time.monotonic()
    engine.score(images[part])
    pipe.put((begun, time.monotonic()))

_, images = read_inputs(Path(sys.argv[1]), **{IMAGE!r})
context, cores = get_context("fork"), os.cpu_count() or 1
start, pipe = context.Barrier(cores), context.SimpleQueue()
processes = [context.Process(target=run, args=(slice(k, None, cores), start, pipe)) for k in range(cores)]
for one in processes:
    one.start()
times = [pipe.get() for _ in processes]
print(len(images) / (max(end for _, end in times) - min(begun for begun, _ in times)))
"""


def bench_score(folder: Path, *, thumbnails: int = 23377, seed: int, say: Say) -> list[Figure]:
    """Measure scoring of a SIMULATED export of so many thumbnails, below `folder`, from TIFF files and from shards.

    23,377 is the number of the paper's set of CTCs and other objects that it scored within 180 s on a GPU. Raises
    `CtcmlError` when one of the programs fails.
    """
    say(f"simulating {min(DISTINCT, thumbnails)} cells, linked to {thumbnails} thumbnails (not part of any figure)")
    export, shards, model = folder / "export", folder / "shards", folder / "model"
    write_export(export, folder, thumbnails=thumbnails, seed=seed)
    write_shards(export, shards)
    write_random_model(model, seed=seed)

    def ours(source: Path) -> Measured:
        command = [sys.executable, "-m", "ctcml", "score", str(source), "--model", str(model)]
        return run_measured([*command, "--out", str(folder / f"{source.name}.parquet")])

    def plain(program: str, source: Path, env: Mapping[str, str] | None = None) -> Measured:
        arguments = [str(source), str(model), str(folder / f"{source.name}.npz")]
        return run_measured([sys.executable, "-c", program, *arguments], env=env)

    say("from TIFF files: ours, then the plain way (tifffile, numpy percentile, eager fp32)")
    ours_files, plain_files = ours(export), plain(PLAIN_FILES, export)
    files = compared(folder, "export", ["sample", "object_index"])
    say("from shards: ours, then eager fp32 in a process of its own, with torch's usual malloc and with ours")
    ours_shards, plain_shards = ours(shards), plain(PLAIN_SHARDS, shards)
    from_shards = compared(folder, "shards", ["cell_uid"])
    equal_shards = plain(PLAIN_SHARDS, shards, env=EQUAL_MALLOC)
    say("the network alone, on images that are ready")
    engine = ours_shards.said.partition(" scored by ")[2]
    network = float(
        run_measured([sys.executable, "-c", OUR_NETWORK, str(shards), str(model), engine.partition(" (")[0]]).said
    )
    usual, equal = float(plain_shards.said), float(equal_shards.said)
    many = f"{thumbnails:,} thumbnails"
    return [
        Figure(name=f"{many} as TIFF files -> classes, cold process", value=f"{ours_files.seconds:.1f} s", asked="<= 15 s on a quiet machine, <= 60 s on a busy one"),
        Figure(name="load of the machine meanwhile", value=f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"),
        Figure(name="plain way on the same files", value=f"{plain_files.seconds:.1f} s"),
        Figure(name="ratio", value=f"{plain_files.seconds / ours_files.seconds:.1f} x", asked=">= 4 x"),
        Figure(name="same predictions", value=files),
        Figure(name=f"{many} from shards -> classes, cold process", value=f"{ours_shards.seconds:.1f} s"),
        Figure(name="eager fp32 on the same shards", value=f"{plain_shards.seconds:.1f} s, with equal malloc {equal_shards.seconds:.1f} s"),
        Figure(name="ratio", value=f"{plain_shards.seconds / ours_shards.seconds:.1f} x", asked=">= 3 x"),
        Figure(name="ratio, equal malloc", value=f"{equal_shards.seconds / ours_shards.seconds:.1f} x", asked=">= 3 x"),
        Figure(name="same predictions", value=from_shards),
        Figure(name="network alone", value=f"{network:,.0f} thumbnails/s", asked="about 4,000/s on 2 quiet cores"),
        Figure(name="network alone, eager fp32", value=f"{usual:,.0f} thumbnails/s, with equal malloc {equal:,.0f}"),
        Figure(name="ratio of the networks", value=f"{network / usual:.1f} x, with equal malloc {network / equal:.1f} x", asked=">= 3 x"),
        Figure(name="engine", value=engine),
        Figure(name="peak memory, all processes", value=f"{ours_files.peak_mb:.0f} MB from files, {ours_shards.peak_mb:.0f} MB from shards"),
    ]  # fmt: skip


def write_export(export: Path, folder: Path, *, thumbnails: int, seed: int) -> None:
    """Write an ACCEPT export of exactly `thumbnails`: drawn samples first, then links to their files as further samples."""
    patients = max(1, min(DISTINCT, thumbnails) // OBJECTS_A_SAMPLE)
    simulate_laboratory(
        folder / "drawn",
        patients=patients,
        objects_per_patient=OBJECTS_A_SAMPLE,
        historic_share=0.0,
        ambiguous_share=0.1,
        seed=seed,
    )
    drawn, _ = find_sources(folder / "drawn" / "export")
    left, turn = thumbnails, 0
    while left:
        for sample in drawn:
            left -= _link_sample(folder_of(sample), export, f"{turn}-{sample.sample_id}", most=left)
        turn += 1


def _link_sample(thumbs: Path, export: Path, name: str, *, most: int) -> int:
    """Link at most so many thumbnails of a sample, with their masks, under the sample name `name`; return how many."""
    old, new = thumbs.parent.name.replace(".", "_"), name.replace(".", "_")
    place = export / "frames" / name / "Thumbs"
    pairs = sorted(thumbs.glob("*_segm.tif"))[:most]
    if pairs:
        place.mkdir(parents=True)
        (export / "output").mkdir(exist_ok=True)
        os.link(thumbs.parents[2] / "output" / f"{thumbs.parent.name}.xlsx", export / "output" / f"{name}.xlsx")
    for mask in pairs:
        for path in (mask, mask.with_name(mask.name.replace("_segm", ""))):
            os.link(path, place / path.name.replace(old, new))
    return len(pairs)


def write_shards(export: Path, shards: Path) -> None:
    """Pack an export as shards, under its own names."""
    for source in find_sources(export)[0]:
        thumbnails = [
            to_packed(one, cell_uid=f"{one.sample_id}-{one.object_index}", sample_uid=one.sample_id)
            for one in read_source(source, page_order=PLANES)[0]
        ]
        pack_shard(thumbnails, shards / f"{source.sample_id}.parquet")


def write_random_model(folder: Path, *, seed: int) -> None:
    """Write an AE-CNN of the six simulated classes that has learnt nothing."""
    model = make_model("autoencoder", len(KINDS), hidden="linear")
    initialise(model, torch.Generator().manual_seed(seed))
    card = {
        "architecture": ARCHITECTURE["autoencoder"],
        "classes": list(KINDS),
        "hidden": "linear",
        "recipe": IMAGE["recipe"],
        "image": IMAGE,
        "weights_sha256": save_weights(model, folder / "weights.safetensors"),
    }
    (folder / "model.json").write_text(json.dumps(card), encoding="utf-8")


def compared(folder: Path, name: str, keys: list[str]) -> str:
    """Say how our table and the plain way's agree on the same thumbnails."""
    ours, plain = pd.read_parquet(folder / f"{name}.parquet"), np.load(folder / f"{name}.npz")
    theirs = pd.DataFrame(
        {"sample": plain["sample"], "object_index": plain["index"]}
        if "sample" in plain
        else {"cell_uid": plain["names"]}
    )
    theirs["row"] = np.arange(len(theirs))
    rows = ours[keys].merge(theirs, on=keys, how="left")["row"].to_numpy()
    if len(ours) != len(theirs) or np.isnan(rows).any():
        return f"no: {len(ours)} thumbnails by ours, {len(theirs)} by the plain way"
    logits = plain["logits"][rows.astype(int)]
    equal = (np.array(KINDS)[logits.argmax(1)] == ours["predicted"].to_numpy()).mean()
    ours_log = np.log(ours[[f"p_{kind}" for kind in KINDS]].to_numpy(np.float64))
    theirs_log = logits - np.log(np.exp(logits.astype(np.float64)).sum(1, keepdims=True))
    return (
        f"{equal:.3%} of {len(ours)}; largest difference of a log probability {np.abs(ours_log - theirs_log).max():.1e}"
    )
