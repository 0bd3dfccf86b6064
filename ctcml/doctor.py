"""The import doctor: what is wrong with an export before anything is taken in; it reads, and writes nothing anywhere."""

import re
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from ctcml.cartridges import Cartridge
from ctcml.checkup import EXAMPLES, CheckedSample, CheckupJob, Finding, Level, check_up, first_few
from ctcml.clinical import read_clinical
from ctcml.errors import BadInput
from ctcml.identifiers import hidden, masked, search
from ctcml.records import PLANES
from ctcml.sources import find_sources
from ctcml.staining import CLEARLY, CLEARLY_ALONE, FEWEST_OBJECTS, Order, Staining, likelier_order
from ctcml.thumbnails import checked_page_order

FEW_SAMPLES = 8  # up to here, starting processes costs more than it saves
BLOOD_VOLUME_ML = 7.5  # CellSearch's tube, to which counts and cut-offs refer
GIVEN = re.compile(r"'[^']*'|[^\s;,()]+\.\w{3,4}\b")  # what a message quotes from outside: values, and names of files
LEVELS: tuple[Level, ...] = ("error", "warning", "note")

ADVICE: Mapping[str, str] = {  # what to do, by code
    "nothing-found": "name the folder that holds frames/<sample>/Thumbs, a manifest.csv, an .npz or a cartridge",
    "refused": "put the file right, or export it again: it is not taken in",
    "page-count": "export every channel of the sample again, one page a channel",
    "fewer-rows": "export thumbnails and feature table together: a row would be given to the wrong object",
    "px2-sizes": "export the table from the original cartridge: its Size columns are left out",
    "selection": "export all events: cells of a random draw cannot be counted, and intake refuses them",
    "only-proposed": "export all events if they are wanted; counts on all events are not possible from these",
    "exported-twice": "take in one of the exports, and move the other away",
    "empty-sample": "export the sample again, or remove its folder",
    "swapped-channels": "look at some thumbnails, then correct the page order or the export",
    "clipped": "such objects lie at a frame's edge or were cut too small; their features are too small as well",
    "oversize": "the network sees the middle of such an object only",
    "gaps": "nothing, if ACCEPT left out empty thumbnails; else look for the missing files",
    "more-rows": "nothing, if ACCEPT left out empty thumbnails at the end; else look for the missing files",
    "duplicates": "find out which sample the thumbnails belong to, and remove the other copy",
    "empty-channel": "export that channel again: cells cannot be told apart without it",
    "saturated": "look at the exposure: what is brighter than the camera can tell is not measured",
    "blank-mask": "export the masks again; features of such objects are empty",
    "no-mask": "nothing, or export the masks: without them, objects are outlined anew",
    "lossy": "export without JPEG: dim stains suffer most",
    "eight-bit": "export 16 bit, or the archive's own frames: dim CD45 has only a few grey levels left",
    "no-table": "let ACCEPT export the feature table, if counts on CellSearch's own events are wanted",
    "identifier": "rename or remove it at the source, and keep it out of mails and screenshots",
    "odd-label": "name the class by a word that begins with a letter: such a label is left out",
    "published-array": "know this before the pictures are used",
    "clinical-table": "correct the table: intake refuses it as it is",
    "no-clinical-row": "add the sample to the clinical table: intake refuses samples without a row",
    "no-export": "export the sample, or expect it later",
    "blood-volume": "check the volume: cut-offs were validated on 7.5 ml",
}

Progress = Callable[[int, int], None]  # samples done, of how many


@dataclass(frozen=True, kw_only=True)
class Report:
    """What the doctor found, worst first, and what was looked at.

    `kinds` counts samples by where they come from, `page_orders` thumbnails by the order in which their pages were taken.
    """

    findings: tuple[Finding, ...]
    samples: int
    thumbnails: int
    kinds: Mapping[str, int]
    page_order: tuple[str, ...]
    page_orders: Mapping[str, int]

    def number_of(self, level: Level) -> int:
        return sum(one.level == level for one in self.findings)


def examine(
    root: Path,
    *,
    page_order: tuple[str, ...] = PLANES,
    clinical: Path | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> Report:
    """Examine an export, a listed folder, an array or cartridges at or below `root`, by up to `workers` processes.

    What looks like an identifier is hidden in everything that is returned. Raises `BadInput` when `root` does not exist or
    `page_order` is impossible; whatever else is wrong is a finding.
    """
    checked_page_order(page_order)
    if not root.exists():
        raise BadInput(f"{root}: no such file or folder; name the folder that holds the thumbnails or cartridges")
    sources, refused = find_sources(root)
    top = root.resolve() if root.is_dir() else root.parent
    jobs = [CheckupJob(source=one, root=top, page_order=page_order) for one in sources]
    checked = list[CheckedSample]()
    for done, one in enumerate(_check_all(jobs, workers), start=1):
        checked.append(one)
        if progress:
            progress(done, len(jobs))
    found = [Finding(level="error", code="refused", sample="", file=one.file, message=one.reason) for one in refused]
    if not sources:
        message = "no thumbnails, arrays or cartridges were found here"
        found.append(Finding(level="error", code="nothing-found", sample="", file="", message=message))
    patient_of, of_table = _clinical(clinical, checked)
    found += [
        *(one for sample in checked for one in sample.findings),
        *_exported_twice(checked),
        *_page_counts(checked),
        *_swapped(checked, page_order),
        *_duplicates(checked, patient_of),
        *of_table,
    ]
    shown = {_shown(one) for one in found}
    return Report(
        findings=tuple(sorted(shown, key=lambda one: (LEVELS.index(one.level), *asdict(one).values()))),
        samples=len(checked),
        thumbnails=sum(one.thumbnails for one in checked),
        kinds=dict(Counter(one.kind for one in checked)),
        page_order=page_order,
        page_orders=dict(sum((one.orders for one in checked), Counter[str]())),
    )


def _check_all(jobs: Sequence[CheckupJob], workers: int) -> Iterator[CheckedSample]:
    """Examine samples side by side; a cartridge is large enough to have all processes to itself."""
    together = [job for job in jobs if not isinstance(job.source, Cartridge)]
    if workers == 1 or len(together) <= FEW_SAMPLES:
        yield from map(check_up, together)
    else:
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            yield from pool.map(check_up, together, chunksize=2)
    yield from (check_up(replace(job, workers=workers)) for job in jobs if isinstance(job.source, Cartridge))


def _shown(finding: Finding) -> Finding:
    """Hide identifiers in a finding: in its names and wherever these, values or files from outside stand in its message."""
    message = finding.message
    for name in (finding.sample, finding.file):
        for one in search(name):
            known = name[one.start : one.end]
            message = message.replace(known, hidden(known))
    message = GIVEN.sub(lambda given: masked(given[0]), message)
    return replace(finding, sample=masked(finding.sample), file=masked(finding.file), message=message)


# What shows only when samples are compared.


def _exported_twice(checked: Sequence[CheckedSample]) -> Iterator[Finding]:
    places = defaultdict[str, list[str]](list)
    for one in checked:
        places[one.sample_id].append(one.place)
    for sample, several in places.items():
        if len(several) > 1:
            message = f"the sample is here {len(several)} times"
            yield Finding(level="error", code="exported-twice", sample=sample, file=several[1], message=message)


def _page_counts(checked: Sequence[CheckedSample]) -> Iterator[Finding]:
    """Name samples whose thumbnails have another number of planes than most of their kind."""
    for kind in {one.kind for one in checked}:
        of_kind = [one for one in checked if one.kind == kind]
        counted = sum((one.planes for one in of_kind), Counter[int]())
        usual = max(counted, key=lambda planes: (counted[planes], planes), default=0)
        for one in of_kind:
            other = {planes: number for planes, number in sorted(one.planes.items()) if planes != usual}
            for planes, number in other.items():
                message = (
                    f"{number} of {one.thumbnails} thumbnails have {planes} pages, most of this delivery have {usual}"
                )
                yield Finding(level="warning", code="page-count", sample=one.sample_id, file=one.place, message=message)


def _swapped(checked: Sequence[CheckedSample], page_order: tuple[str, ...]) -> Iterator[Finding]:
    """Name deliveries, and single samples of a sound delivery, that look like another order of channels."""
    groups = defaultdict[tuple[str, str], list[tuple[CheckedSample, Staining]]](list)
    for one in checked:
        if one.staining is not None and one.orders:
            groups[one.kind, one.orders.most_common(1)[0][0]].append((one, one.staining))
    for (kind, pages), members in groups.items():
        if sum(staining.objects for _, staining in members) < FEWEST_OBJECTS:
            continue
        order, ratio = likelier_order([staining for _, staining in members])
        if ratio >= CLEARLY:
            message = f"{len(members)} samples ({kind}) {_looks_like(order, ratio, pages)}"
            yield Finding(level="warning", code="swapped-channels", sample="", file="", message=message)
            continue
        for one, staining in members:
            order, ratio = likelier_order([staining])
            if ratio >= CLEARLY_ALONE and staining.objects >= FEWEST_OBJECTS:
                message = f"the sample {_looks_like(order, ratio, pages)}, unlike the others"
                yield Finding(
                    level="warning", code="swapped-channels", sample=one.sample_id, file=one.place, message=message
                )


def _looks_like(order: Order, ratio: float, pages: str) -> str:
    looks = {PLANES[plane]: stain for plane, stain in zip(order, PLANES, strict=True)}
    likelier = ", ".join(looks.get(page, page) for page in pages.split(","))
    return (
        f"look like pages {likelier}, and were taken as {pages.replace(',', ', ')} (log likelihood ratio {ratio:.1f})"
    )


def _duplicates(checked: Sequence[CheckedSample], patient_of: Mapping[str, str]) -> Iterator[Finding]:
    first_of = dict[bytes, CheckedSample]()
    pairs = defaultdict[tuple[str, str], list[int]](list)
    place_of = {one.sample_id: one.place for one in checked}
    for one in checked:
        for number, content in one.hashes:
            first = first_of.setdefault(content, one)
            if first.sample_id != one.sample_id:
                pairs[one.sample_id, first.sample_id].append(number)
    for (sample, other), numbers in pairs.items():
        known = {patient_of.get(sample), patient_of.get(other)}
        level: Level = "error" if len(known) == 2 and None not in known else "warning"
        whose = (
            "another patient"
            if level == "error"
            else "the same patient"
            if None not in known
            else "who knows which patient"
        )
        message = f"{len(numbers)} thumbnails ({first_few(numbers)}) are those of sample {masked(other)}, of {whose}"
        yield Finding(level=level, code="duplicates", sample=sample, file=place_of[sample], message=message)


# The clinical table.


def _clinical(path: Path | None, checked: Sequence[CheckedSample]) -> tuple[dict[str, str], list[Finding]]:
    """Return sample -> patient, under pseudonyms that are gone afterwards, and what is wrong with the table."""
    if path is None:
        return {}, []
    try:
        table, uid_of = read_clinical(path, secrets.token_bytes(32))
    except BadInput as error:
        return {}, [Finding(level="error", code="clinical-table", sample="", file=path.name, message=str(error))]
    rows = table.set_index("sample_uid")
    here = {one.sample_id for one in checked}

    def about(level: Level, code: str, sample: str, message: str) -> Finding:
        return Finding(level=level, code=code, sample=sample, file=path.name, message=message)

    found = [about("error", "no-clinical-row", one, "the sample has no row") for one in here - set(uid_of)]
    found += [about("warning", "no-export", one, "the row has no sample here") for one in set(uid_of) - here]
    for sample, uid in uid_of.items():
        volume = float(rows.at[uid, "blood_volume_ml"])
        if volume != BLOOD_VOLUME_ML:
            message = f"blood_volume_ml is {volume:g}, expected {BLOOD_VOLUME_ML}"
            found.append(about("warning", "blood-volume", sample, message))
    return {sample: str(rows.at[uid, "patient_uid"]) for sample, uid in uid_of.items()}, found


# For people, and for programs.


def table_of(report: Report) -> str:
    """Write a report for a person: a paragraph a code with up to five examples, and what was looked at at the end."""
    groups = defaultdict[tuple[Level, str], list[Finding]](list)
    for one in report.findings:
        groups[one.level, one.code].append(one)
    lines = list[str]()
    for (level, code), members in groups.items():
        lines.append(f"{level.upper():8}{code} ({len(members)}): {ADVICE[code]}")
        lines += [f"    {_example(one)}" for one in members[:EXAMPLES]]
        lines += [f"    … and {len(members) - EXAMPLES} more"] if len(members) > EXAMPLES else []
    kinds = ", ".join(f"{number} × {kind}" for kind, number in report.kinds.items()) or "no sample"
    orders = "; ".join(f"{number} as {order.replace(',', ', ')}" for order, number in report.page_orders.items())
    lines.append(
        f"{report.thumbnails} thumbnails of {report.samples} samples ({kinds}); pages taken: {orders or 'none'}"
    )
    errors, warnings, notes = (report.number_of(level) for level in LEVELS)
    lines.append(
        f"{errors} errors, {warnings} warnings, {notes} notes; page order assumed: {', '.join(report.page_order)}"
    )
    return "\n".join(lines)


def _example(one: Finding) -> str:
    sample = "" if one.sample in one.file else one.sample
    return " ".join(": ".join(filter(None, (" ".join(filter(None, (sample, one.file))), one.message))).split())


def document_of(report: Report) -> dict[str, Any]:
    """Return a report as one JSON-ready document."""
    return {
        "samples": report.samples,
        "thumbnails": report.thumbnails,
        "kinds": dict(report.kinds),
        "page_order": list(report.page_order),
        "page_orders": dict(report.page_orders),
        "errors": report.number_of("error"),
        "warnings": report.number_of("warning"),
        "notes": report.number_of("note"),
        "findings": [{**asdict(one), "advice": ADVICE[one.code]} for one in report.findings],
    }
