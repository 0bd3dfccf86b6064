"""A trace as one signed file: a ZIP with the page, the record, the pictures, their hashes, and a signature over the hashes.

The signature is an HMAC with the workspace's key, as that of the ledger's heads: who holds the key can tell whether any byte
of the file was changed, and nobody else can make one. Members are stored as they are, in a fixed order and without a clock,
so that the same trace at the same moment gives the same bytes, and a file is whole only if its members give it again.
"""

import hashlib
import hmac
import io
import json
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd

from ctcml.errors import BadInput, BrokenRecord
from ctcml.identity import load_key
from ctcml.images import encode_png
from ctcml.shards import read_overlays
from ctcml.trace import Trace
from ctcml.trace_page import trace_page
from ctcml.workspace import Workspace

FORMAT = 1
PAGE, RECORD, SUMS, SIGNATURE = "index.html", "trace.json", "SHA256SUMS", "signature"
LARGEST = 1 << 30  # bytes; a trace of 100,000 cells is smaller
NEVER = (1980, 1, 1, 0, 0, 0)  # the earliest moment that a ZIP can tell


def signed_trace(ws: Workspace, trace: Trace, *, now: datetime) -> bytes:
    """The whole file; `BrokenRecord` when the workspace has lost its key."""
    key = load_key(ws.key)
    pictures = trace_pictures(ws, trace)
    record = {"format": FORMAT, "ctcml": version("ctcml"), "made": now.astimezone(UTC).isoformat(timespec="seconds")}
    members = {
        PAGE: trace_page(trace, pictures, now=now).encode(),
        RECORD: (json.dumps(record | trace.to_dict(), indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode(),
        **{f"cells/{number:05d}-{uid}.png": png for number, (uid, png) in enumerate(pictures.items(), start=1)},
    }
    sums = "".join(f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in members.items()).encode()
    return _zipped({**members, SUMS: sums, SIGNATURE: _signature(sums, key)})


def trace_pictures(ws: Workspace, trace: Trace) -> dict[str, bytes]:
    """A PNG of each cell of a trace by cell_uid, in the trace's order: red CD45, green cytokeratin, blue DAPI."""
    uids = [one.cell_uid for one in trace.cells]
    drawn = read_overlays(ws.shards, pd.DataFrame({"cell_uid": uids, "sample_uid": trace.sample_uid}))
    return {uid: encode_png(drawn[uid]) for uid in uids}


def verify_trace(path: Path, key: bytes) -> dict[str, Any]:
    """Read a trace's record from its file if every byte of that is as it was signed.

    Nothing is unpacked. Raises `BadInput` for what is no such file, `BrokenRecord` which names each member that was
    changed, added or lost, or says that another key signed.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise BadInput(f"{path}: larger than any trace; name a file that `ctcml trace --out` made")
        content = path.read_bytes()
        members, unreadable = _members(content)
    except (OSError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError, RuntimeError):
        raise BadInput(
            f"{path}: not a trace, or damaged as a whole; name a file that `ctcml trace --out` made"
        ) from None
    wrong = _differences(members, unreadable)
    if wrong:
        raise BrokenRecord(f"{path}: {'; '.join(wrong)}; take another copy, or trace the count anew")
    if not hmac.compare_digest(members[SIGNATURE], _signature(members[SUMS], key)):
        raise BrokenRecord(
            f"{path}: {SUMS} or {SIGNATURE} was changed, or another workspace's key signed it; take another copy"
        )
    in_order = [line.partition("  ")[2] for line in members[SUMS].decode().splitlines()]
    if content != _zipped({name: members[name] for name in (*in_order, SUMS, SIGNATURE)}):
        raise BrokenRecord(f"{path}: bytes around its members were changed; take another copy")
    record: dict[str, Any] = json.loads(members[RECORD])
    return record


def _members(content: bytes) -> tuple[dict[str, bytes], list[str]]:
    """The members by name, and what is wrong with those that cannot be read; names are never used as paths."""
    found: dict[str, bytes] = {}
    wrong = []
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        for one in file.infolist():
            if one.filename in found:
                wrong.append(f"{one.filename!r} is there twice")
            elif one.compress_type != zipfile.ZIP_STORED or one.file_size != one.compress_size:
                wrong.append(f"{one.filename!r} is packed as ours are not")  # nor is anything of another size unpacked
                found[one.filename] = b""
            else:
                try:
                    found[one.filename] = file.read(one)
                except (zipfile.BadZipFile, EOFError):
                    wrong.append(f"{one.filename!r} was changed")
                    found[one.filename] = b""
    return found, wrong


def _differences(members: Mapping[str, bytes], unreadable: list[str]) -> list[str]:
    """What the hashes say against the members, in words."""
    lost = [f"{name!r} is missing" for name in (PAGE, RECORD, SUMS, SIGNATURE) if name not in members]
    if lost or unreadable:
        return [*unreadable, *lost]
    lines = [line.partition("  ") for line in members[SUMS].decode("utf-8", "replace").splitlines()]
    told = {name: digest for digest, _, name in lines}
    present = {name: content for name, content in members.items() if name not in (SUMS, SIGNATURE)}
    return [
        *(f"{name!r} is missing" for name in told if name not in present),
        *(f"{name!r} was added" for name in present if name not in told),
        *(
            f"{name!r} was changed"
            for name, content in present.items()
            if name in told and hashlib.sha256(content).hexdigest() != told[name]
        ),
    ]


def _signature(sums: bytes, key: bytes) -> bytes:
    return (hmac.new(key, b"ctcml trace\n" + sums, hashlib.sha256).hexdigest() + "\n").encode()


def _zipped(members: Mapping[str, bytes]) -> bytes:
    """A ZIP of these members in this order; the same members give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as file:
        for name, content in members.items():
            about = zipfile.ZipInfo(name, NEVER)
            about.create_system, about.external_attr = 3, 0o100644 << 16  # as on Unix, on every machine
            file.writestr(about, content)
    return buffer.getvalue()
