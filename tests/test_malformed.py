"""Whatever is wrong with a delivery: intake names it, sets it aside, takes in the rest, and never leaves a half-written file."""

import csv
import hashlib
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pytest
from factories import KEY, NOON, a_ledger
from malformed import Harmless, Kind, SetAside, Stopped, Variant, healthy_delivery, variants

from ctcml.errors import CtcmlError
from ctcml.intake import Taken, take_in
from ctcml.ledger import Ledger
from ctcml.shards import file_hash
from ctcml.tables import MANIFEST, read_folder, read_table
from ctcml.workspace import Workspace

VARIANTS = variants()


@dataclass(frozen=True, kw_only=True)
class Arrived:
    """What lies in a workspace: each cell's hash of its pixels, and the cells that have a mask."""

    content: dict[str, str]
    masked: set[str]


@dataclass(frozen=True, kw_only=True)
class Healthy:
    """The delivery that variants are copies of, and what arrives of it."""

    delivery: Path
    arrived: Arrived


def taken(delivery: Path, ws: Workspace, **more: Any) -> Taken:
    sources = (delivery / "export", delivery / "clinical.csv", delivery / "historic_labels.csv")
    return take_in(*sources, ws, key=KEY, block=(5, 1, 2), seed=1, now=NOON, workers=1, **more)


def arrived(ws: Workspace) -> Arrived:
    rows = read_folder(ws.manifest, MANIFEST)
    return Arrived(
        content=dict(zip(rows["cell_uid"], rows["content_sha256"], strict=True)),
        masked=set(rows["cell_uid"][rows["has_mask"]]),
    )


def new_workspace(place: Path) -> Workspace:
    ws = Workspace(place)
    a_ledger(ws.ledger)
    return ws


@pytest.fixture(scope="session")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> dict[Kind, Healthy]:
    found = {}
    for kind in get_args(Kind):
        folder = tmp_path_factory.mktemp("healthy")
        delivery = healthy_delivery(folder / "delivery", kind)
        ws = new_workspace(folder / "lab")
        result = taken(delivery, ws)
        assert (result.refused, result.historic_labels_refused, refusals(ws)) == (0, 0, [])
        found[kind] = Healthy(delivery=delivery, arrived=arrived(ws))
    return found


def snapshot(folder: Path) -> dict[str, str]:
    """What every path below a folder is: its kind, and a hash of its bytes or its target."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(place, name)
            if path.is_symlink():
                content = path.readlink().as_posix()
            elif path.is_file() and os.access(path, os.R_OK):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                content = "-"
            found[str(path.relative_to(folder))] = f"{path.lstat().st_mode:o} {content}"
    return found


def refusals(ws: Workspace) -> list[dict[str, str]]:
    table = ws.quarantine / "refused.csv"
    if not table.exists():
        return []
    with table.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        return list(csv.DictReader(file))


def assert_sound(ws: Workspace) -> None:
    """Every manifest has its shard, nothing is half-written, the ledger verifies, and each refusal is one line."""
    manifests = sorted(ws.manifest.glob("*"))
    for file in manifests:
        assert set(read_table(file, MANIFEST)["shard_sha256"]) <= {file_hash(ws.shards / file.name)}
    assert [file.name for file in sorted(ws.shards.glob("*"))] == [file.name for file in manifests]
    written = [path for path in ws.root.rglob("*") if path != ws.private]
    assert not [path for path in written if path.name.startswith(".") or path.name.endswith(".tmp")]
    Ledger(ws.ledger).verify()
    for row in refusals(ws):
        assert row["reason"].strip()
        assert len(row["reason"].splitlines()) == 1
        assert "report it" not in row["reason"]  # a reader's own fault


def assert_the_rest_arrived(ws: Workspace, healthy: Arrived, expected: SetAside | Harmless) -> None:
    """All that is not lost is there, with the very pixels of the healthy delivery, or `other` where that is expected."""
    found = arrived(ws)
    other = expected.other if isinstance(expected, Harmless) else 0
    same = {uid for uid, content in found.content.items() if healthy.content.get(uid) == content}
    assert len(found.content) == len(healthy.content) - expected.lost
    assert len(found.content) - len(same) == other
    assert found.masked <= healthy.masked
    assert len(found.masked) == len(healthy.masked) - expected.masks_lost


@pytest.mark.timeout(60)
@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_what_is_wrong_is_named_and_the_rest_arrives(
    variant: Variant, healthy: dict[Kind, Healthy], tmp_path: Path
) -> None:
    if variant.needs_a_plain_user and os.getuid() == 0:
        pytest.skip("root may read every file")
    whole = healthy[variant.kind]
    delivery = Path(shutil.copytree(whole.delivery, tmp_path / "delivery"))
    variant.damage(delivery)
    before = snapshot(delivery)
    ws = new_workspace(tmp_path / "lab")
    empty = snapshot(ws.root)
    if isinstance(variant.expected, Stopped):
        for _ in range(2):
            with pytest.raises(CtcmlError) as caught:
                taken(delivery, ws)
            line = str(caught.value)
            assert len(line.splitlines()) == 1
            assert variant.expected.file in line
            assert re.search(variant.expected.reason, line)
        assert snapshot(ws.root) == empty
    else:
        result = taken(delivery, ws)
        rows = refusals(ws)
        if isinstance(variant.expected, Harmless):
            assert (rows, result.refused, result.historic_labels_refused) == ([], 0, 0)
        else:
            file, reason = variant.expected.file, variant.expected.reason
            assert [row for row in rows if file in row["file"] and re.search(reason, row["reason"])], rows
        assert_sound(ws)
        assert_the_rest_arrived(ws, whole.arrived, variant.expected)
        everything = snapshot(ws.root)
        # To look at every file again, but not at a hundred frames: that would take as long as ten other variants.
        again = taken(delivery, ws, verify=variant.kind != "cartridge")
        assert (again.anything_new, again.thumbnails) == (False, 0)
        assert snapshot(ws.root) == everything
    assert snapshot(delivery) == before


def test_there_are_at_least_two_hundred_ways_of_being_wrong_each_with_a_name_of_its_own() -> None:
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)
    assert sum(not isinstance(variant.expected, Harmless) for variant in VARIANTS) >= 200
