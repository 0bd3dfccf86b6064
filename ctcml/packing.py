"""One sample from its source into the data: shard, manifest, the source's own features, a receipt; in this order.

A sample counts as taken in once its manifest is there, and its receipt only spares the next intake the reading. Killed
between any two writes, the next intake finishes the sample. A shard is never changed: what a later export adds to a sample
becomes a supplement, `<sample_uid>-2.parquet`, and an object that differs from the one taken in is refused.
"""

import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout

from ctcml.checkup import CheckupJob, Finding, findings_on_pixels
from ctcml.errors import BrokenRecord, ServiceDown
from ctcml.identity import pseudonym
from ctcml.images import SIZE
from ctcml.quarantine import set_aside
from ctcml.shards import Packed, content_hash, file_hash, pack_shard, read_shard, shard_paths
from ctcml.sources import Source, files_of, folder_of, read_source
from ctcml.tables import FEATURE_PREFIX, GIVEN_FEATURES, MANIFEST, atomic_path, read_table, write_table
from ctcml.thumbnails import RawThumbnail, Refused, one_line
from ctcml.workspace import Workspace

FINDINGS = "findings"  # in a receipt, beside what recognises the files


@dataclass(frozen=True, kw_only=True)
class PackingJob:
    """What a worker needs to take in one sample; `workers` is for sources that are read by several processes."""

    source: Source
    sample_uid: str
    patient_uid: str
    ws: Workspace
    key: bytes
    page_order: tuple[str, ...]
    now: datetime
    workers: int = 1


@dataclass(frozen=True, kw_only=True)
class PackedSample:
    """What taking in one sample brought; `labels` are the source's own, by cell_uid, `receipt` and `findings` are for `write_receipt`."""

    sample_id: str
    sample_uid: str
    new: int
    known: int
    grown: bool
    refused: int
    labels: Mapping[str, str]
    receipt: Mapping[str, str | int]
    findings: tuple[Finding, ...] = ()


def pack_sample(job: PackingJob) -> PackedSample:
    """Read one sample and write what is new of it."""
    receipt = _stamp(job.source, job.key)  # before reading: a file that changes meanwhile is looked at again
    try:
        found, refused = read_source(job.source, page_order=job.page_order, workers=job.workers)
    except Exception as error:  # a reader's own fault must not stop the other samples
        reason = f"could not be read ({type(error).__name__}: {one_line(error)}); report it"
        found, refused = [], [Refused(file=job.source.sample_id, reason=reason)]
        receipt = {}
    uid_of = {one.object_index: pseudonym(job.key, "cell", one.sample_id, str(one.object_index)) for one in found}
    taken = _taken(job.ws, job.sample_uid)
    new, changed = _compare(found, uid_of, taken)
    refused = [*refused, *changed]
    set_aside(
        refused, source=job.source.sample_id, folder=folder_of(job.source), quarantine=job.ws.quarantine, now=job.now
    )
    if new or not taken:
        _write(job, new, uid_of)
    return PackedSample(
        sample_id=job.source.sample_id,
        sample_uid=job.sample_uid,
        new=len(new),
        known=len(found) - len(new) - len(changed),
        grown=bool(taken and new),
        refused=len(refused),
        labels={uid_of[one.object_index]: one.label for one in found if one.label},
        receipt=receipt,
        findings=findings_on_pixels(
            CheckupJob(source=job.source, root=folder_of(job.source), page_order=job.page_order), list(found)
        ),
    )


def write_receipt(packed: PackedSample, ws: Workspace) -> None:
    """Let the next intake recognise this sample's files, and keep the checkup's findings on them; to be called when all
    that they brought is written down."""
    if packed.receipt:
        found = [{"level": one.level, "code": one.code, "message": one.message} for one in packed.findings]
        with atomic_path(ws.receipts / f"{packed.sample_uid}.json") as unfinished:
            unfinished.write_text(json.dumps({**packed.receipt, FINDINGS: found}) + "\n")


def kept_findings(ws: Workspace) -> dict[str, list[dict[str, str]]]:
    """What the checkup found when a sample was taken in: `level`, `code` and `message` of each finding, by sample_uid.

    Samples that were taken in before findings were kept are left out. Nobody's own names stand in them.
    """
    found = {}
    for receipt in sorted(ws.receipts.glob("*.json")):
        try:
            told = json.loads(receipt.read_text())
            if FINDINGS in told:
                found[receipt.stem] = [dict(one) for one in told[FINDINGS]]
        except (OSError, ValueError, TypeError):
            raise BrokenRecord(
                f"{receipt}: not a receipt of ours; remove it, and the next intake writes it anew"
            ) from None
    return found


@contextmanager
def no_intake(ws: Workspace) -> Iterator[None]:
    """Keep other intakes out for as long as the block lasts; `ServiceDown` while one is at work."""
    ws.private.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(ws.private / "intake.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ServiceDown(f"{ws.root}: an intake is at work; wait until it has ended and run it again") from None
    try:
        yield
    finally:
        lock.release()


def is_known(source: Source, sample_uid: str, ws: Workspace, key: bytes) -> bool:
    """Whether the sample's files are, by name, size and time, those that were taken in before."""
    receipt = ws.receipts / f"{sample_uid}.json"
    if not receipt.exists() or not (ws.manifest / f"{sample_uid}.parquet").exists():
        return False
    try:
        told = json.loads(receipt.read_text())
        return bool({name: value for name, value in told.items() if name != FINDINGS} == _stamp(source, key))
    except (ValueError, AttributeError):
        return False


def manifest_paths(ws: Workspace, sample_uid: str) -> list[Path]:
    """The manifests of one sample: the first, then those of its supplements."""
    return shard_paths(ws.manifest, sample_uid)


def verify_sample(ws: Workspace, sample_uid: str) -> list[str]:
    """Hash a sample's shards and pictures again; returns what differs from the manifest, one sentence each."""
    wrong = []
    for path in manifest_paths(ws, sample_uid):
        rows = read_table(path, MANIFEST)
        shard = ws.shards / path.name
        try:
            if not shard.exists():
                wrong.append(f"{shard.name}: the shard is missing; bring it back with `ctcml checkout`")
                continue
            if set(rows["shard_sha256"]) - {file_hash(shard)}:
                wrong.append(f"{shard.name}: the file's hash is not the manifest's; bring it back")
            content = {one.cell_uid: one.content_sha256 for one in read_shard(shard, verify=True)}
            if content != dict(zip(rows["cell_uid"], rows["content_sha256"], strict=True)):
                wrong.append(f"{shard.name}: its cells are not those of the manifest; bring both back")
        except BrokenRecord as error:
            wrong.append(str(error))
    return wrong


def _stamp(source: Source, key: bytes) -> dict[str, str | int]:
    """Number, bytes and a keyed hash of names, sizes and times of a sample's files; names are identifiers."""
    digest, count, size = hmac.new(key, digestmod=hashlib.sha256), 0, 0
    root = f"{folder_of(source)}/"
    for path in map(str, files_of(source)):
        try:
            about = os.lstat(path)
        except OSError:
            continue
        count, size = count + 1, size + about.st_size
        line = f"{path.removeprefix(root)}|{about.st_size}|{about.st_mtime_ns}\n"
        digest.update(line.encode(errors="surrogateescape"))
    return {"files": count, "bytes": size, "stamp": digest.hexdigest()}


def _taken(ws: Workspace, sample_uid: str) -> dict[int, str]:
    """Content hashes of what was taken in of a sample, by object index; empty for a new sample."""
    tables = [
        read_table(path, MANIFEST, columns=["object_index", "content_sha256"])
        for path in manifest_paths(ws, sample_uid)
    ]
    return {int(index): str(sha) for one in tables for index, sha in one.itertuples(index=False)}


def _compare(
    found: Sequence[RawThumbnail], uid_of: Mapping[int, str], taken: Mapping[int, str]
) -> tuple[list[RawThumbnail], list[Refused]]:
    new, changed = [], []
    for one in found:
        before = taken.get(one.object_index)
        if before is None:
            new.append(one)
        elif before != content_hash(one.planes, one.pixels):
            reason = f"differs from what was taken in as cell {uid_of[one.object_index]}; the first stays, check which export is right"
            changed.append(Refused(file=f"object {one.object_index}", reason=reason))
    return new, changed


def to_packed(one: RawThumbnail, *, cell_uid: str, sample_uid: str) -> Packed:
    """A thumbnail as a shard holds it, under the names that it gets there."""
    return Packed(
        cell_uid=cell_uid,
        sample_uid=sample_uid,
        object_index=one.object_index,
        planes=one.planes,
        pixels=one.pixels,
        mask=one.mask,
        source_bit_depth=one.source_bit_depth,
        source_order=one.source_order,
        restore_low=one.restore_low,
        restore_high=one.restore_high,
        recipe=one.recipe,
    )


def _write(job: PackingJob, new: Sequence[RawThumbnail], uid_of: Mapping[int, str]) -> None:
    # The first place without a manifest: where one was lost, its cells are written there again, and no other is touched.
    names = (
        f"{job.sample_uid}.parquet" if number == 1 else f"{job.sample_uid}-{number}.parquet" for number in count(1)
    )
    name = next(name for name in names if not (job.ws.manifest / name).exists())
    packed = [to_packed(one, cell_uid=uid_of[one.object_index], sample_uid=job.sample_uid) for one in new]
    shard = job.ws.shards / name
    shard.unlink(missing_ok=True)  # left by a crash before its manifest: it never counted
    shard_sha256 = pack_shard(packed, shard)
    _write_given_features(new, uid_of, job.ws.given_features / name)
    manifest = pd.DataFrame(
        {
            "cell_uid": [one.cell_uid for one in packed],
            "sample_uid": job.sample_uid,
            "patient_uid": job.patient_uid,
            "object_index": [one.object_index for one in packed],
            "height": [one.pixels.shape[1] for one in packed],
            "width": [one.pixels.shape[2] for one in packed],
            "has_mask": [one.mask is not None for one in packed],
            "oversize": [max(one.pixels.shape[1:]) > SIZE for one in packed],
            "proposed": pd.array([one.proposed for one in new], dtype="boolean"),
            "assigned": pd.array([one.assigned for one in new], dtype="boolean"),
            "frame": pd.array([one.frame for one in new], dtype="Int16"),
            "x_px": pd.array([one.x_px for one in new], dtype="Float32"),
            "y_px": pd.array([one.y_px for one in new], dtype="Float32"),
            "content_sha256": [one.content_sha256 for one in packed],
            "shard_sha256": shard_sha256,
        }
    )
    write_table(manifest, MANIFEST, job.ws.manifest / name)


def _write_given_features(new: Sequence[RawThumbnail], uid_of: Mapping[int, str], path: Path) -> None:
    if any(one.features for one in new):
        table = pd.DataFrame([dict(one.features) for one in new], dtype="float64")
        table.insert(0, "cell_uid", [uid_of[one.object_index] for one in new])
        write_table(table, GIVEN_FEATURES, path, extra_prefix=FEATURE_PREFIX)
