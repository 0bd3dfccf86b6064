"""Pictures lie where a reader's own server looks for them, and say nothing else."""

from pathlib import Path

import numpy as np
from PIL import Image

from labelstudio.panels import write_panels
from labelstudio.tasks import PANELS, build_task, panel_file

UID, OTHER = "0" * 24, "1" * 24
PIXELS = np.random.default_rng(1).integers(100, 2000, (4, 30, 40)).astype(np.uint16)


def test_each_address_in_a_task_is_a_picture_on_disk(tmp_path: Path) -> None:
    write_panels(PIXELS, {UID: tmp_path})
    addresses = [value.split("?d=")[1] for name, value in build_task(UID).items() if name != "read_uid"]
    for address in addresses:
        with Image.open(tmp_path / address) as picture:
            assert picture.size == (320, 320)


def test_two_readers_get_the_same_pictures_under_different_names(tmp_path: Path) -> None:
    write_panels(PIXELS, {UID: tmp_path / "a", OTHER: tmp_path / "b"})
    for panel in PANELS:
        mine, theirs = tmp_path / "a" / panel_file(UID, panel), tmp_path / "b" / panel_file(OTHER, panel)
        assert mine.read_bytes() == theirs.read_bytes()
    assert not (tmp_path / "a" / panel_file(OTHER, "ck")).exists()


def test_pictures_that_are_there_are_kept(tmp_path: Path) -> None:
    write_panels(PIXELS, {UID: tmp_path})
    before = (tmp_path / panel_file(UID, "ck")).stat().st_mtime_ns
    write_panels(PIXELS, {UID: tmp_path})
    assert (tmp_path / panel_file(UID, "ck")).stat().st_mtime_ns == before
