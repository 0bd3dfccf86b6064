"""A simulated laboratory for demo, tests and benchmarks: an ACCEPT export, a clinical table, old labels and the truth.

Nothing here describes a real patient. The same seed gives the same bytes, whatever the number of processes.
"""

import io
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import tifffile
from openpyxl import Workbook
from scipy.special import ndtri

from ctcml.cells_in_silico import KINDS
from ctcml.errors import BadInput
from ctcml.frames_in_silico import Frame, Mask, photograph
from ctcml.pencil import CHANNELS, draw_stain
from ctcml.records import PIXEL_SIZE_UM

PROCESSOR = "Full Detection_0.1"
OBJECTS_PER_FRAME = 25
CANCER_TYPES = {"breast": 0.41, "colorectal": 0.35, "prostate": 0.16, "lung": 0.08}  # the paper's 199:172:76:39
NO_CTC = {"tdev": 0.265, "wbc": 0.345, "cd45ev": 0.215, "bare_nucleus": 0.093, "other": 0.082}  # after the paper's set
FEATURES = ("Size", "MeanIntensity", "MaxIntensity", "StandardDeviation")
PROPOSED_ABOVE = 70.0  # counts above background of DAPI and of CK at which the simulated CellSearch presents an event
HISTORIC_NOISE = 0.003
LOG_HAZARD_PER_LOG_CTC = 0.5
END_OF_STUDY_MONTHS = 60.0
FEW_SAMPLES = 8  # up to here, starting processes costs more than it saves
ZIP_DATE = (2000, 1, 1, 0, 0, 0)
EMPTY_CORE = '<cp:coreProperties xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties"/>'


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """What was written, and where."""

    folder: Path
    patients: int
    thumbnails: int
    by_class: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Cartridge:
    """The plan of one patient's tube, made before any pixel is drawn."""

    patient: str
    sample: str
    cancer_type: str
    counts: dict[str, int]
    ambiguous_share: float
    seed: np.random.SeedSequence


@dataclass(frozen=True)
class Event:
    """One object as it was written: what it is, and whether CellSearch's crude rule presents it."""

    sample: str
    object_index: int
    true_class: str
    ambiguity: float
    proposed: bool


def simulate_laboratory(
    folder: Path,
    *,
    patients: int,
    objects_per_patient: int,
    historic_share: float,
    ambiguous_share: float,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Simulated:
    """Write a simulated laboratory's export and tables into a new or empty folder.

    `objects_per_patient` is about the median; the number of CTCs is heavy-tailed. `progress` is told how many of how
    many patients are done. Raises `BadInput` if the folder holds anything.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(
            f"{folder}: expected a new or empty folder, found something there; choose another for simulated data"
        )
    if patients < 1 or objects_per_patient < 10:
        raise BadInput(
            f"{patients} patients with {objects_per_patient} objects: expected at least 1 with 10; raise them"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as aside:
        unfinished = Path(aside) / "laboratory"
        by_class = _write_laboratory(
            unfinished, patients, objects_per_patient, historic_share, ambiguous_share, seed, progress
        )
        unfinished.replace(folder)
    return Simulated(folder=folder, patients=patients, thumbnails=sum(by_class.values()), by_class=by_class)


def _write_laboratory(
    folder: Path,
    patients: int,
    objects_per_patient: int,
    historic_share: float,
    ambiguous_share: float,
    seed: int,
    progress: Callable[[int, int], None] | None,
) -> dict[str, int]:
    plan_seed, clinic_seed, archive_seed, draw_seed = np.random.SeedSequence(seed).spawn(4)
    cartridges = plan_cohort(
        patients, objects_per_patient, ambiguous_share, np.random.default_rng(plan_seed), draw_seed
    )
    export = folder / "export" / PROCESSOR
    (export / "output").mkdir(parents=True)
    events: list[Event] = []
    for done, written in enumerate(_write_all(cartridges, export), start=1):
        events += written
        if progress:
            progress(done, patients)
    clinical = draw_clinical(cartridges, events, np.random.default_rng(clinic_seed))
    historic = draw_historic_labels(events, historic_share, np.random.default_rng(archive_seed))
    truth = pd.DataFrame(
        [(event.sample, event.object_index, event.true_class, round(event.ambiguity, 4)) for event in events],
        columns=["sample", "object_index", "true_class", "ambiguity"],
    )
    clinical.to_csv(folder / "clinical.csv", index=False)
    historic.to_csv(folder / "historic_labels.csv", index=False)
    truth.to_csv(folder / "simulated_truth.csv", index=False)
    totals = truth.groupby("sample").size().reindex(clinical["sample"], fill_value=0).to_numpy()
    summary = {"sampleID": clinical["sample"], "totalCount": totals, "CS_CTC": clinical["manual_ctc"]}
    _write_xlsx(pd.DataFrame(summary), export / "summaryTable.xlsx")
    (folder / "READ_ME.txt").write_text(_read_me(seed, patients, len(events)), encoding="utf-8")
    return {kind: int((truth["true_class"] == kind).sum()) for kind in KINDS}


def plan_cohort(
    patients: int,
    objects_per_patient: int,
    ambiguous_share: float,
    rng: np.random.Generator,
    seed: np.random.SeedSequence,
) -> list[Cartridge]:
    """Decide each patient's cancer type and numbers of objects.

    CTCs are lognormal (median 5) over evenly spaced quantiles, so that in small cohorts too about half of the patients
    have fewer than 5. Fewer than 75 objects a patient thin the CTCs as well.
    """
    borders = np.round(np.cumsum(list(CANCER_TYPES.values())) * patients).astype(int)
    types = rng.permutation(np.repeat(list(CANCER_TYPES), np.diff(borders, prepend=0)))
    level = ndtri(rng.permutation((np.arange(patients) + rng.uniform(size=patients)) / patients))
    scale = objects_per_patient / 75
    cartridges = []
    for number, own_seed in enumerate(seed.spawn(patients)):
        ctc = np.clip(np.floor(5.0 * np.exp(1.35 * level[number])), 0, 110)
        rest = 65 * scale * rng.lognormal(0, 0.3)
        counts = {"ctc": round(float(ctc) * min(scale, 1.0))}
        for kind, share in NO_CTC.items():
            with_burden = np.exp(0.3 * level[number] - 0.045) if kind == "tdev" else 1.0
            counts[kind] = int(rng.poisson(rest * share * with_burden * rng.lognormal(0, 0.25)))
        cartridges.append(
            Cartridge(
                patient=f"SIM-{number + 1:04d}",
                sample=f"SIM-{number + 1:04d}.1.1",
                cancer_type=str(types[number]),
                counts=counts,
                ambiguous_share=ambiguous_share,
                seed=own_seed,
            )
        )
    return cartridges


def _write_all(cartridges: list[Cartridge], export: Path) -> Iterator[list[Event]]:
    """Write every sample, on all cores when there are enough samples to pay for starting processes."""
    cores = min(os.cpu_count() or 1, 8)
    if cores == 1 or len(cartridges) <= FEW_SAMPLES:
        yield from (write_sample(cartridge, export) for cartridge in cartridges)
        return
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        yield from pool.map(write_sample, cartridges, [export] * len(cartridges), chunksize=2)


def write_sample(cartridge: Cartridge, export: Path) -> list[Event]:
    """Draw one sample's frames, write its thumbnails and feature table, and give the objects that were written."""
    rng = np.random.default_rng(cartridge.seed)
    stain = draw_stain(rng)
    thumbs = export / "frames" / cartridge.sample / "Thumbs"
    thumbs.mkdir(parents=True)
    (thumbs / "ACCEPTThumbnails.txt").touch()
    kinds = rng.permutation([kind for kind, number in cartridge.counts.items() for _ in range(number)])
    stem = cartridge.sample.replace(".", "_")
    events: list[Event] = []
    rows: list[dict[str, float | None]] = []
    for start in range(0, len(kinds), OBJECTS_PER_FRAME):
        wanted = [
            (str(kind), float(rng.beta(2.0, 1.2)) if rng.uniform() < cartridge.ambiguous_share else 0.0)
            for kind in kinds[start : start + OBJECTS_PER_FRAME]
        ]
        frame, crops = photograph(wanted, stain, rng)
        for number, ((kind, ambiguity), crop) in enumerate(zip(wanted, crops, strict=True), start=1):
            while rng.uniform() < 0.04:  # ACCEPT numbers empty thumbnails too, and does not write them
                rows.append({"CellSearchIDs": None, "ThumbNr": number})
            pixels = frame[:, crop.rows, crop.columns]
            features = _features(pixels, crop.mask)
            proposed = min(features["ch_2_MaxIntensity"], features["ch_3_MaxIntensity"]) > PROPOSED_ABOVE
            rows.append({"CellSearchIDs": len(events) + 1 if proposed else None, "ThumbNr": number, **features})
            _write_pages(thumbs / f"{stem}_thumb_{len(rows)}.tif", pixels)
            _write_pages(thumbs / f"{stem}_thumb_{len(rows)}_segm.tif", crop.mask)
            events.append(Event(cartridge.sample, len(rows), kind, ambiguity, proposed))
    columns = ["CellSearchIDs", "ThumbNr", *(f"ch_{i + 1}_{name}" for i in range(len(CHANNELS)) for name in FEATURES)]
    _write_xlsx(pd.DataFrame(rows, columns=columns), export / "output" / f"{cartridge.sample}.xlsx")
    return events


def _features(pixels: Frame, mask: Mask) -> dict[str, float]:
    """A few of ACCEPT's features a channel: counts inside the mask above the median of the rest; sizes in µm²."""
    found: dict[str, float] = {}
    rest = ~mask.any(axis=0)
    for channel, (plane, inside) in enumerate(zip(pixels, mask, strict=True), start=1):
        background = np.median(plane[rest]) if rest.any() else np.median(plane)
        above = np.clip(plane[inside] - background, 0, None) if inside.any() else np.zeros(1)
        values = (inside.sum() * PIXEL_SIZE_UM**2, above.mean(), above.max(), above.std())
        for name, value in zip(FEATURES, values, strict=True):
            found[f"ch_{channel}_{name}"] = round(float(value), 3)
    return found


def _write_pages(path: Path, pages: Frame | Mask) -> None:
    """One page a channel: the first in LZW, the rest in PackBits, as MATLAB's imwrite leaves them."""
    with tifffile.TiffWriter(path) as tiff:
        for number, page in enumerate(pages):
            compression = "packbits" if number else "lzw"
            tiff.write(page, photometric="minisblack", compression=compression, metadata=None, software=False)


def _write_xlsx(table: pd.DataFrame, path: Path) -> None:
    """Write a table without any time stamp, so that the same seed gives the same bytes."""
    book, dated = Workbook(write_only=True), io.BytesIO()
    sheet = book.create_sheet("Sheet1")
    sheet.append(list(table.columns))
    for row in table.astype(object).itertuples(index=False):
        sheet.append([None if pd.isna(value) else value for value in row])
    book.save(dated)
    with zipfile.ZipFile(dated) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = EMPTY_CORE if name == "docProps/core.xml" else source.read(name)
            target.writestr(zipfile.ZipInfo(name, ZIP_DATE), content, zipfile.ZIP_DEFLATED)


def draw_clinical(cartridges: list[Cartridge], events: list[Event], rng: np.random.Generator) -> pd.DataFrame:
    """Draw one row a patient; the log hazard rises by 0.5 with each unit of log(1 + true number of CTCs)."""
    presented = pd.Series([e.sample for e in events if e.true_class == "ctc" and e.proposed], dtype=object)
    counted = presented.value_counts()
    rows = []
    for cartridge in cartridges:
        line, ecog = int(rng.integers(1, 4)), int(rng.choice(4, p=(0.4, 0.4, 0.15, 0.05)))
        log_hazard = LOG_HAZARD_PER_LOG_CTC * (np.log1p(cartridge.counts["ctc"]) - 1.8)
        log_hazard += 0.15 * (line - 2) + 0.2 * (ecog - 0.85)
        death = 34.0 * (rng.exponential() / np.exp(log_hazard)) ** (1 / 1.2)  # Weibull, months
        progression = 15.0 * (rng.exponential() / np.exp(log_hazard)) ** (1 / 1.1)
        end = min(END_OF_STUDY_MONTHS, float(rng.exponential(150)))
        presented_ctc = int(counted.get(cartridge.sample, 0))
        rows.append(
            {
                "patient": cartridge.patient,
                "sample": cartridge.sample,
                "sample_kind": "patient",
                "cancer_type": cartridge.cancer_type,
                "blood_volume_ml": 7.5,
                "manual_ctc": presented_ctc
                + int(rng.binomial(presented_ctc, 0.04) - rng.binomial(presented_ctc, 0.08)),
                "os_months": round(max(min(death, end), 0.1), 2),
                "os_event": int(death <= end),
                "pfs_months": round(max(min(death, progression, end), 0.1), 2),
                "pfs_event": int(min(death, progression) <= end),
                "draw_day": 0,
                "line_of_therapy": str(line),
                "site": f"site {rng.choice(list('ABC'))}",
                "instrument": f"CellTracks {int(rng.integers(1, 3))}",
                "age": round(float(np.clip(rng.normal(64, 10), 30, 92))),
                "ecog": ecog,
                "covariate_simulated": "yes",
            }
        )
    return pd.DataFrame(rows)


def draw_historic_labels(events: list[Event], share: float, rng: np.random.Generator) -> pd.DataFrame:
    """Draw the archive's old labels: `share` of the five known classes, less what two reviewers did not agree on.

    The paper's rule: only exact matches are kept. A reviewer takes an object for the other class with a chance that
    is logistic in its distance from the border, and leaves the most ambiguous ones out.
    """
    known = [kind for kind in KINDS if kind != "cd45ev"]
    rows = []
    for event in events:
        chosen, left_out, agreed, slipped = rng.uniform(size=4)
        mistaken = 1 / (1 + np.exp(6 * (1 - event.ambiguity))) if event.ambiguity else 0.0
        if event.true_class == "cd45ev" or chosen >= share or left_out < event.ambiguity:
            continue
        if agreed >= mistaken**2 + (1 - mistaken) ** 2:
            continue
        wrong = [kind for kind in known if kind != event.true_class]
        label = str(rng.choice(wrong)) if slipped < HISTORIC_NOISE else event.true_class
        rows.append((event.sample, event.object_index, label, "two reviewers, exact match (simulated)"))
    return pd.DataFrame(rows, columns=["sample", "object_index", "label", "source"])


def _read_me(seed: int, patients: int, thumbnails: int) -> str:
    return (
        "SIMULATED DATA. Nothing in this folder describes a real patient.\n\n"
        f"Made by `ctcml simulate` with seed {seed}: {patients} invented patients, {thumbnails} drawn thumbnails\n"
        "in the layout of an ACCEPT export.\n\n"
        "clinical.csv         invented survival, linked to the invented number of CTCs\n"
        "historic_labels.csv  labels that a laboratory would already have; never CD45EV\n"
        "simulated_truth.csv  what each object was drawn as; for simulated readers and tests only\n"
        "                     ambiguity: 0 a clear case, towards 1 the border between two classes\n"
    )
