"""Pictures lie where a reader's own server looks for them, and say nothing else."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ctcml.images import reader_panels
from labelstudio.panels import panels_of, remove_panels, write_panels
from labelstudio.tasks import PICTURES_OF_A_READ, build_task, panel_file

UID, OTHER = "0" * 24, "1" * 24
PIXELS = np.random.default_rng(1).integers(100, 2000, (4, 30, 40)).astype(np.uint16)


def test_each_address_in_a_task_is_the_very_picture_on_disk(tmp_path: Path) -> None:
    write_panels(PIXELS, {UID: tmp_path})
    addresses = {name: value.split("?d=")[1] for name, value in build_task(UID).items() if name != "read_uid"}
    for name, picture in reader_panels(PIXELS).items():
        with Image.open(tmp_path / addresses.pop(name)) as shown:
            np.testing.assert_array_equal(np.asarray(shown), picture)
    assert not addresses


def test_two_readers_get_the_same_pictures_under_different_names(tmp_path: Path) -> None:
    write_panels(PIXELS, {UID: tmp_path / "a", OTHER: tmp_path / "b"})
    for name in PICTURES_OF_A_READ:
        mine, theirs = tmp_path / "a" / panel_file(UID, name), tmp_path / "b" / panel_file(OTHER, name)
        assert mine.read_bytes() == theirs.read_bytes()
    assert not (tmp_path / "a" / panel_file(OTHER, "auto")).exists()


def test_pictures_that_are_there_are_kept_and_a_missing_one_is_made(tmp_path: Path) -> None:
    write_panels(PIXELS, {UID: tmp_path})
    auto, fixed = (tmp_path / panel_file(UID, name) for name in PICTURES_OF_A_READ)
    before = auto.stat().st_mtime_ns
    fixed.unlink()
    write_panels(PIXELS, {UID: tmp_path})
    assert auto.stat().st_mtime_ns == before
    assert fixed.exists()


def test_readers_whose_pictures_lie_on_different_disks_get_them_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_disk(self: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", other_disk)
    write_panels(PIXELS, {UID: tmp_path / "a", OTHER: tmp_path / "b"})
    for name in PICTURES_OF_A_READ:
        mine, theirs = tmp_path / "a" / panel_file(UID, name), tmp_path / "b" / panel_file(OTHER, name)
        assert mine.read_bytes() == theirs.read_bytes()


def test_removing_one_readers_pictures_leaves_the_others(tmp_path: Path) -> None:
    write_panels(PIXELS, {UID: tmp_path / "a", OTHER: tmp_path / "b"})
    remove_panels(panels_of([(UID, tmp_path / "a")]))
    assert len(panels_of([(OTHER, tmp_path / "b")])) == 2


KILLED = """
import itertools, sys
from pathlib import Path
import numpy as np
from labelstudio.panels import write_panels
pixels = np.random.default_rng(1).integers(100, 2000, (4, 80, 80)).astype(np.uint16)
for number in itertools.count():
    write_panels(pixels, {f"{number:024x}": Path(sys.argv[1])})
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_no_half_picture_under_its_name(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        for _ in range(5):
            writer.stdout.readline()
        os.kill(writer.pid, signal.SIGKILL)
    found = list((tmp_path / "cells").glob("*.png"))
    assert len(found) >= 10
    for path in found:
        with Image.open(path) as picture:
            picture.load()  # raises where the file is cut short


def test_pictures_of_reads_are_found_and_removed_also_half_ones_and_others_stay(tmp_path: Path) -> None:
    write_panels(PIXELS, {UID: tmp_path, OTHER: tmp_path})
    (tmp_path / "cells" / "example-ctc.png").write_bytes(b"of the protocol")
    unfinished = tmp_path / "cells" / f".{UID}-auto.png.x7"
    unfinished.write_bytes(b"left by a killed writer")
    mine = panels_of([(UID, tmp_path), ("2" * 24, tmp_path), (UID, tmp_path / "elsewhere")])
    assert mine == [unfinished, *(tmp_path / panel_file(UID, name) for name in PICTURES_OF_A_READ)]
    remove_panels(mine)
    left = {path.name for path in (tmp_path / "cells").iterdir()}
    assert left == {"example-ctc.png", *(Path(panel_file(OTHER, name)).name for name in PICTURES_OF_A_READ)}
