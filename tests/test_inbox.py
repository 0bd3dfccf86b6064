"""A delivery is a folder with a clinical table; it has arrived when nobody writes into it any more."""

import os
from datetime import timedelta
from pathlib import Path

from factories import NOON

from ctcml.inbox import deliveries


def deliver(folder: Path, *, minutes_ago: float, historic: bool = False) -> None:
    (folder / "export" / "frames").mkdir(parents=True)
    (folder / "export" / "frames" / "1.tif").touch()
    (folder / "clinical.csv").touch()
    if historic:
        (folder / "historic_labels.csv").touch()
    at = (NOON - timedelta(minutes=minutes_ago)).timestamp()
    for path in [folder, *folder.rglob("*")]:
        os.utime(path, (at, at))


def test_each_folder_with_a_clinical_table_is_a_delivery(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    deliver(inbox / "2026" / "march", minutes_ago=60, historic=True)
    deliver(inbox / "april", minutes_ago=60)
    (inbox / "no table yet").mkdir()
    found = {one.name: one for one in deliveries(inbox, quiet_minutes=10, now=NOON)}
    assert list(found) == ["inbox/2026/march", "inbox/april"]
    assert found["inbox/2026/march"].historic == inbox / "2026/march/historic_labels.csv"
    assert found["inbox/april"].historic is None
    assert all(one.arrived for one in found.values())


def test_a_delivery_into_which_somebody_still_writes_has_not_arrived(tmp_path: Path) -> None:
    deliver(tmp_path / "inbox", minutes_ago=60)
    late = tmp_path / "inbox" / "export" / "frames" / "1.tif"
    os.utime(late, (NOON.timestamp() - 60, NOON.timestamp() - 60))
    (one,) = deliveries(tmp_path / "inbox", quiet_minutes=10, now=NOON)
    assert not one.arrived
    (one,) = deliveries(tmp_path / "inbox", quiet_minutes=1, now=NOON)
    assert one.arrived


def test_an_empty_or_missing_inbox_holds_nothing(tmp_path: Path) -> None:
    assert deliveries(tmp_path / "inbox", quiet_minutes=10, now=NOON) == []
    (tmp_path / "inbox").mkdir()
    assert deliveries(tmp_path / "inbox", quiet_minutes=10, now=NOON) == []


def test_links_out_of_the_inbox_are_not_followed(tmp_path: Path) -> None:
    deliver(tmp_path / "elsewhere", minutes_ago=60)
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "link").symlink_to(tmp_path / "elsewhere")
    assert deliveries(tmp_path / "inbox", quiet_minutes=10, now=NOON) == []
