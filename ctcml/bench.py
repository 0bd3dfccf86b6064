"""`ctcml bench …`: what our way costs, measured beside what a user would do instead, in one run, as a ratio.

Machines differ and are noisy, so no test asserts a time: a ratio from one run is what can be compared. Each way runs in a
process of its own, from a cold start, one after the other.
"""

import csv
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ctcml.cartridges_in_silico import compare_detection, write_cartridge
from ctcml.measuring import Figure, Measured, run_measured
from ctcml.simulate import simulate_laboratory

Say = Callable[[str], None]


# What a user would write: one TIFF after the other, one PNG a cell that loses nothing (16 bit, planes below each other), DVC
# on the folder. It leaves the masks, the feature tables, pseudonyms, checks and the push out.
PEER_INTAKE = """
import subprocess, sys
from pathlib import Path
import numpy as np, tifffile
from PIL import Image
export, target = Path(sys.argv[1]), Path(sys.argv[2])
for path in sorted(export.rglob("*_thumb_*.tif")):
    if not path.name.endswith("_segm.tif"):
        with tifffile.TiffFile(path) as tiff:  # imread alone stumbles over pages that are compressed differently
            pages = np.stack([page.asarray() for page in tiff.pages])
        sample = target / "cells" / path.parent.parent.name
        sample.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(pages)).save(sample / f"{path.stem}.png")
for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"], [sys.executable, "-m", "dvc", "add", "-q", "cells"]):
    subprocess.run(command, cwd=target, check=True)
"""


def bench_intake(folder: Path, *, samples: int, objects: int, seed: int, say: Say) -> list[Figure]:
    """Measure intake on a SIMULATED export of `samples` samples with about `objects` objects each, below `folder`.

    One sample is held back and taken in last, to see how many bytes one more sample moves. Raises `CtcmlError` when one
    of the programs fails.
    """
    say(f"simulating {samples} samples of about {objects} objects (not part of any figure)")
    inbox, late = folder / "inbox", folder / "late"
    made = simulate_laboratory(
        inbox, patients=samples, objects_per_patient=objects, historic_share=0.6, ambiguous_share=0.1, seed=seed
    )
    whole = inbox / "clinical.csv"
    before = folder / "clinical-before.csv"
    held_back = _hold_back(inbox / "export", late, whole, before)
    files = sum(1 for _ in (inbox / "export").rglob("*.tif"))

    lab = folder / "lab"
    run_measured([sys.executable, "-m", "ctcml", "init", str(lab)])
    take = [sys.executable, "-m", "ctcml", "intake", str(inbox / "export"), "--workspace", str(lab), "--clinical"]
    say(f"{made.thumbnails} thumbnails, {files} files: ours (shards, DVC add and push, commit, tag)")
    ours = run_measured([*take, str(before)])
    say("the plain loop (imread, a PNG a cell, DVC add; no masks, no pseudonyms, no push)")
    plain = folder / "plain"
    plain.mkdir()
    peer = run_measured([sys.executable, "-c", PEER_INTAKE, str(inbox / "export"), str(plain)])
    shutil.rmtree(plain)
    say("the same export again, then with --verify, then one more sample")
    again = run_measured([*take, str(before)])
    verified = run_measured([*take, str(before), "--verify"])
    stored = stored_bytes(lab)
    held_back_bytes = stored_bytes(late)
    for path in (late / "frames", late / "output"):
        shutil.copytree(path, inbox / "export" / held_back.parent.parent.name / path.name, dirs_exist_ok=True)
    more = run_measured([*take, str(whole)])
    moved = stored_bytes(lab) - stored
    return [
        Figure(name=f"{made.thumbnails} thumbnails of {samples} samples -> versioned", value=f"{ours.seconds:.1f} s"),
        Figure(name="plain loop on the same export", value=f"{peer.seconds:.1f} s"),
        Figure(name="ratio", value=f"{peer.seconds / ours.seconds:.1f} x", asked=">= 5 x"),
        Figure(name="peak memory, all processes", value=f"{ours.peak_mb:.0f} MB", asked="<= 1,500 MB"),
        Figure(name="same export again", value=f"{again.seconds:.1f} s: {again.said}", asked="<= 15 s, 0 new"),
        Figure(name="same export again, --verify", value=f"{verified.seconds:.1f} s: {verified.said}"),
        Figure(name="one more sample", value=f"{more.seconds:.1f} s: {more.said}"),
        Figure(
            name="bytes it moved / its own bytes",
            value=f"{moved / 1e6:.2f} MB / {held_back_bytes / 1e6:.2f} MB = {moved / held_back_bytes:.2f}",
            asked="<= 2",
        ),
    ]


# What a user would write for a cartridge: one frame after the other, scikit-image by the book, one process.
PEER_CARTRIDGE = """
import sys, warnings
from pathlib import Path
import numpy as np, pandas as pd, tifffile
from skimage.filters import gaussian, threshold_triangle
from skimage.measure import label, regionprops
warnings.simplefilter("ignore", FutureWarning)
rows = []
for number, path in enumerate(sorted(Path(sys.argv[1]).rglob("*.tif")), start=1):
    with tifffile.TiffFile(path) as tiff:
        planes = []
        for page in tiff.pages:
            low, high, img = page.tags[755].value, page.tags[756].value, page.asarray().astype(float)
            planes.append(low + img * (high - low) / max(img.max(), 1))
    mask = np.zeros(planes[0].shape, bool)
    for plane in planes:
        above = gaussian(plane, 1) - gaussian(plane, 50)
        mask |= above > threshold_triangle(above)
    for region in regionprops(label(mask, connectivity=1), intensity_image=np.stack(planes, axis=-1)):
        top, left, bottom, right = region.bbox
        if region.area >= 10 and top > 0 and left > 0 and bottom < mask.shape[0] and right < mask.shape[1]:
            _ = region.eccentricity, region.perimeter, region.intensity_mean, region.intensity_max
            rows.append((number, (left + right - 1) / 2, (top + bottom - 1) / 2))
pd.DataFrame(rows, columns=["frame", "x", "y"]).to_csv(sys.argv[2], index=False)
"""

OURS_CARTRIDGE = """
import os, sys
from pathlib import Path
import pandas as pd
from ctcml.cartridges import find_samples, layout_of, read_sample
from ctcml.cartridges_in_silico import HEIGHT_PX, WIDTH_PX
if __name__ == "__main__":
    (cartridge,), _ = find_samples(Path(sys.argv[1]))
    found, refused = read_sample(cartridge, workers=os.cpu_count() or 1)
    places = {one.object_index: layout_of(len(cartridge.frames)).place(one.frame) for one in found}
    rows = [
        (one.frame, one.x_px - places[one.object_index][1] * WIDTH_PX, one.y_px - places[one.object_index][0] * HEIGHT_PX)
        for one in found
    ]
    pd.DataFrame(rows, columns=["frame", "x", "y"]).to_csv(sys.argv[2], index=False)
"""


def bench_cartridge(folder: Path, *, seed: int, say: Say) -> list[Figure]:
    """Measure detection on a SIMULATED cartridge of 175 frames of 1384x1036x4, below `folder`, against what was planted."""
    workers = os.cpu_count() or 1
    figures = []
    for isolated in (True, False):
        place = folder / f"{'alone' if isolated else 'clumped'}-{seed}.1.1"
        say(f"simulating a cartridge, {'objects apart' if isolated else '13 % of the objects beside another one'}")
        planted = write_cartridge(place, seed=seed, isolated=isolated, workers=workers)
        ours = _detected(OURS_CARTRIDGE, place, folder)
        quality = compare_detection(planted, ours.found)
        kind = "" if isolated else "clumped: "
        figures += [
            Figure(
                name=f"{kind}isolated objects of 4 um and SNR 5 or more found",
                value=f"{quality.found_share:.2%} of {quality.sought}",
                asked=">= 99 %",
            ),
            Figure(name=f"{kind}false objects", value=f"{quality.false_share:.2%} of {quality.found}", asked="<= 2 %"),
            Figure(name=f"{kind}seconds a cartridge, {workers} processes", value=f"{ours.run.seconds:.1f} s"),
        ]
        if isolated:
            say("the naive loop: one process, scikit-image by the book")
            naive = _detected(PEER_CARTRIDGE, place, folder)
            peer = compare_detection(planted, naive.found)
            figures += [
                Figure(name="naive loop, seconds", value=f"{naive.run.seconds:.1f} s"),
                Figure(name="ratio", value=f"{naive.run.seconds / ours.run.seconds:.1f} x"),
                Figure(name="naive loop, found", value=f"{peer.found_share:.2%}"),
                Figure(name="naive loop, false", value=f"{peer.false_share:.2%} of {peer.found}"),
            ]
        else:
            figures.append(
                Figure(
                    name="objects beside another one, found as one of their own",
                    value=f"{quality.close_share:.1%} of {quality.close}",
                )
            )
        shutil.rmtree(place)
    return figures


@dataclass(frozen=True, kw_only=True, eq=False)
class Detected:
    """What a program found, one row an object (frame, x, y), and what it cost."""

    found: pd.DataFrame
    run: Measured


def _detected(program: str, cartridge: Path, folder: Path) -> Detected:
    # A file and not `-c`: processes that it spawns must be able to import it.
    script, table = folder / "program.py", folder / "found.csv"
    script.write_text(program)
    run = run_measured([sys.executable, str(script), str(cartridge), str(table)])
    return Detected(found=pd.read_csv(table), run=run)


def stored_bytes(folder: Path) -> int:
    """Bytes of all files below a folder; a file that is linked several times counts once.

    >>> import tempfile
    >>> here = Path(tempfile.mkdtemp()); _ = (here / "a").write_bytes(b"12345"); os.link(here / "a", here / "b")
    >>> stored_bytes(here)
    5
    """
    found = {}
    for place, _, names in os.walk(folder):
        for name in names:
            about = (Path(place) / name).lstat()
            found[about.st_ino] = about.st_size
    return sum(found.values())


def _hold_back(export: Path, aside: Path, clinical: Path, before: Path) -> Path:
    """Move the last sample out of the export and leave it out of the first clinical table; returns where it lay."""
    sample = sorted(export.glob("*/frames/*"))[-1]
    with clinical.open(newline="") as file:
        rows = list(csv.DictReader(file))
    with before.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(row for row in rows if row["sample"] != sample.name)
    table = sample.parent.parent / "output" / f"{sample.name}.xlsx"
    for path in (sample, table):
        target = aside / path.relative_to(sample.parent.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return sample
