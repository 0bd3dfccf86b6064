"""A trace that leaves the house says of itself whether it is whole, and lets nobody without the key say so."""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from factories import NOON
from PIL import Image
from test_trace import largest

from ctcml import trace_file
from ctcml.errors import BadInput, BrokenRecord
from ctcml.identity import load_key
from ctcml.images import overlay
from ctcml.shards import read_pixels
from ctcml.trace import Said, Trace
from ctcml.trace_file import PAGE, RECORD, SIGNATURE, SUMS, signed_trace, verify_trace
from ctcml.trace_page import trace_page
from ctcml.workspace import Workspace

Members = list[tuple[str, bytes]]


@pytest.fixture(scope="module")
def found(counted_lab: Workspace) -> Trace:
    return largest(counted_lab)


@pytest.fixture(scope="module")
def key(counted_lab: Workspace) -> bytes:
    return load_key(counted_lab.key)


@pytest.fixture(scope="module")
def whole(counted_lab: Workspace, found: Trace) -> bytes:
    return signed_trace(counted_lab, found, now=NOON)


def members_of(content: bytes) -> Members:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        return [(one.filename, file.read(one)) for one in file.infolist()]


def written(path: Path, members: Members, *, packed: int = zipfile.ZIP_STORED) -> Path:
    """A ZIP with these members, made as ours are; also with a name twice."""
    with zipfile.ZipFile(path, "w", packed) as file:
        for name, content in members:
            about = zipfile.ZipInfo(name, trace_file.NEVER)
            about.create_system, about.external_attr, about.compress_type = 3, 0o100644 << 16, packed
            file.writestr(about, content)
    return path


def test_the_same_trace_at_the_same_moment_gives_the_same_bytes(
    counted_lab: Workspace, found: Trace, whole: bytes
) -> None:
    assert signed_trace(counted_lab, largest(counted_lab), now=NOON) == whole
    assert signed_trace(counted_lab, found, now=NOON.replace(hour=13)) != whole


def test_a_whole_file_is_verified_and_gives_its_record_back(
    tmp_path: Path, whole: bytes, key: bytes, found: Trace
) -> None:
    (tmp_path / "trace.zip").write_bytes(whole)
    record = verify_trace(tmp_path / "trace.zip", key)
    assert record["count"] == found.count
    assert [one["cell_uid"] for one in record["cells"]] == [one.cell_uid for one in found.cells]
    assert record["made"] == NOON.isoformat()


def test_the_hashes_can_be_checked_without_us(tmp_path: Path, whole: bytes) -> None:
    members = dict(members_of(whole))
    lines = members[SUMS].decode().splitlines()
    assert len(lines) == len(members) - 2
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256(members[name]).hexdigest() == digest


def test_each_picture_is_the_overlay_of_the_stored_pixels(counted_lab: Workspace, found: Trace, whole: bytes) -> None:
    members = dict(members_of(whole))
    pixels = read_pixels(counted_lab.shards, found.sample_uid)
    pictures = {name: content for name, content in members.items() if name.endswith(".png")}
    assert len(pictures) == found.count["count"]
    for (name, content), one in zip(pictures.items(), found.cells, strict=True):
        assert one.cell_uid in name
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), overlay(pixels[one.cell_uid]))


def test_the_page_needs_no_network_says_simulated_and_names_every_cell(found: Trace, whole: bytes) -> None:
    page = dict(members_of(whole))[PAGE].decode()
    assert "SIMULATED DATA" in page
    assert "Research use only" in page
    assert not re.search(r"""(src|href)=["'](?!data:image/png;base64,|#)""", page)
    assert not re.search(r"<script|<link|@import|url\(", page)
    assert page.count("<img ") == 2 * found.count["count"]
    for one in found.cells:
        assert one.cell_uid in page
        assert one.content_sha256 in page


def test_what_people_typed_is_text_on_the_page_and_never_markup(counted_lab: Workspace, found: Trace) -> None:
    evil = "<script>alert(1)</script>"
    said = Said(reader=evil, duty=evil, label=evil, confidence=evil, reasons=evil, occasion=evil, at=evil)
    cell = replace(
        found.cells[0], readings=(said,), settled=(evil, evil), predicted=evil, cluster_name=evil, shard=evil
    )
    page = trace_page(replace(found, cells=(cell,), class_name=evil, data_version=evil), {cell.cell_uid: b""}, now=NOON)
    assert "<script" not in page
    assert evil in unescape(page)


def test_a_trace_of_no_cell_is_whole_too(counted_lab: Workspace, found: Trace, key: bytes, tmp_path: Path) -> None:
    none = replace(found, cells=(), count={**found.count, "count": 0})
    (tmp_path / "none.zip").write_bytes(signed_trace(counted_lab, none, now=NOON))
    assert verify_trace(tmp_path / "none.zip", key)["cells"] == []
    assert "nothing to show" in dict(members_of((tmp_path / "none.zip").read_bytes()))[PAGE].decode()


def refused(path: Path, key: bytes) -> str:
    with pytest.raises((BrokenRecord, BadInput)) as caught:
        verify_trace(path, key)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_byte_changed_in_any_member_names_that_member(tmp_path: Path, whole: bytes, key: bytes) -> None:
    members = members_of(whole)
    for at, (name, content) in enumerate(members):
        for place in (0, len(content) // 2, len(content) - 1):
            changed = bytearray(content)
            changed[place] ^= 1
            path = written(tmp_path / "t.zip", [*members[:at], (name, bytes(changed)), *members[at + 1 :]])
            told = refused(path, key)
            assert name in told or (name == SUMS and ("changed" in told or "missing" in told))


def test_a_changed_byte_anywhere_in_the_file_is_noticed(tmp_path: Path, whole: bytes, key: bytes) -> None:
    places = {
        *np.random.default_rng(3).integers(0, len(whole), 80).tolist(),
        *range(30),
        *range(len(whole) - 120, len(whole)),
    }
    for place in sorted(places):
        changed = bytearray(whole)
        changed[place] ^= 0x21
        (tmp_path / "t.zip").write_bytes(changed)
        refused(tmp_path / "t.zip", key)


def without(name: str) -> Callable[[Members], Members]:
    return lambda members: [one for one in members if one[0] != name]


def with_member(name: str, content: bytes = b"x") -> Callable[[Members], Members]:
    return lambda members: [*members, (name, content)]


def renamed(members: Members) -> Members:
    return [
        ("cells/other.png" if name.endswith(".png") and at == 2 else name, content)
        for at, (name, content) in enumerate(members)
    ]


def swapped(members: Members) -> Members:
    """Two pictures under each other's name."""
    (first, one), (second, other) = members[2], members[3]
    return [*members[:2], (first, other), (second, one), *members[4:]]


def twice(members: Members) -> Members:
    return [*members, members[0]]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without(PAGE), "'index.html' is missing"),
        (without(RECORD), "'trace.json' is missing"),
        (without(SUMS), "'SHA256SUMS' is missing"),
        (without(SIGNATURE), "'signature' is missing"),
        (with_member("readme.txt"), "'readme.txt' was added"),
        (with_member("../../evil"), "'../../evil' was added"),
        (with_member("/tmp/evil"), "'/tmp/evil' was added"),
        (renamed, "is missing; 'cells/other.png' was added"),
        (swapped, "was changed; 'cells/"),
        (twice, "'index.html' is there twice"),
        (lambda members: members[::-1], "bytes around its members"),
    ],
)
def test_members_added_lost_renamed_swapped_or_moved_are_named(
    tmp_path: Path, whole: bytes, key: bytes, change: Callable[[Members], Members], told: str
) -> None:
    assert told in refused(written(tmp_path / "t.zip", change(members_of(whole))), key)
    assert not Path("/tmp/evil").exists()


def test_a_forger_who_writes_the_hashes_anew_lacks_the_key(tmp_path: Path, whole: bytes, key: bytes) -> None:
    members = dict(members_of(whole))
    record = json.loads(members[RECORD])
    record["count"]["count"] += 1
    members[RECORD] = json.dumps(record).encode()
    sums = "".join(
        f"{hashlib.sha256(content).hexdigest()}  {name}\n"
        for name, content in members.items()
        if name not in (SUMS, SIGNATURE)
    ).encode()
    for signature in (members[SIGNATURE], trace_file._signature(sums, b"x" * 32), b"", "é".encode()):
        forged = {**members, SUMS: sums, SIGNATURE: signature}
        assert "another workspace's key" in refused(written(tmp_path / "t.zip", list(forged.items())), key)
    (tmp_path / "t.zip").write_bytes(whole)
    assert "another workspace's key" in refused(tmp_path / "t.zip", b"x" * 32)


def test_nothing_is_unpacked_that_is_packed_as_ours_are_not(tmp_path: Path, whole: bytes, key: bytes) -> None:
    bomb = [*members_of(whole), ("cells/bomb.png", bytes(30_000_000))]
    assert "'index.html' is packed as ours are not" in refused(
        written(tmp_path / "t.zip", bomb, packed=zipfile.ZIP_DEFLATED), key
    )


@pytest.mark.parametrize("kept", [0, 10, 1000, -1, -22])
def test_a_cut_file_is_no_trace(tmp_path: Path, whole: bytes, key: bytes, kept: int) -> None:
    (tmp_path / "t.zip").write_bytes(whole[:kept])
    assert "not a trace, or damaged" in refused(tmp_path / "t.zip", key)


def test_bytes_before_and_behind_the_zip_are_noticed(tmp_path: Path, whole: bytes, key: bytes) -> None:
    for content in (b"#!/bin/sh\n" + whole, whole + b"more"):
        (tmp_path / "t.zip").write_bytes(content)
        refused(tmp_path / "t.zip", key)


def test_a_text_and_a_missing_file_are_no_trace(tmp_path: Path, key: bytes) -> None:
    (tmp_path / "t.zip").write_text("no zip at all")
    assert "not a trace" in refused(tmp_path / "t.zip", key)
    assert "not a trace" in refused(tmp_path / "missing.zip", key)
