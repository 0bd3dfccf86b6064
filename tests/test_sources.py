"""Whatever lies below a folder is found once, by the reader it belongs to."""

from pathlib import Path

import numpy as np
import pytest
from factories import a_cell
from malformed import THUMBS, healthy_delivery, npz, put, table, tiff

from ctcml.errors import BadInput
from ctcml.sources import files_of, find_sources, folder_of, kind_of, read_source

ORDER = ("CD45", "DAPI", "CK")


@pytest.fixture
def everything(tmp_path: Path) -> Path:
    """An ACCEPT export of two samples, a listed folder, an array of two groups and a cartridge side by side."""
    export = healthy_delivery(tmp_path, "layout") / "export"
    for number in range(1, 101):
        put(export, f"171651.1.2/processed/171651.1.2-{number:03}.tif", b"")  # found by name, before any is read
    return export


def test_each_kind_is_found_and_named(everything: Path) -> None:
    sources, refused = find_sources(everything)
    assert [(kind_of(one), one.sample_id) for one in sources] == [
        ("ACCEPT export", "H-1.1"),
        ("ACCEPT export", "H-2.1"),
        ("listed folder", "L-1"),
        ("labelled array", "N-1"),
        ("labelled array", "N-2"),
        ("CellTracks cartridge", "171651.1.2"),
    ]
    assert refused == []
    assert find_sources(everything) == (sources, refused)


def test_no_file_of_thumbnails_belongs_to_two_kinds_of_source(everything: Path) -> None:
    sources, _ = find_sources(everything)
    owner: dict[Path, str] = {}
    for one in sources:
        assert all(path.is_relative_to(folder_of(one)) or path.suffix == ".xlsx" for path in files_of(one))
        for path in files_of(one):
            assert owner.setdefault(path, kind_of(one)) == kind_of(one)
    assert len(owner) == 2 * 9 + 5 + 1 + 100


def test_an_array_inside_an_accept_export_is_an_array(everything: Path) -> None:
    put(everything.parent, f"{THUMBS}/labelled.npz", npz(groups=np.array(["M-1"] * 4)))
    sources, _ = find_sources(everything)
    assert [one.sample_id for one in sources if kind_of(one) == "labelled array"] == ["M-1", "N-1", "N-2"]
    (accept,) = (one for one in sources if one.sample_id == "H-1.1")
    assert len(read_source(accept, page_order=ORDER)[0]) == 4


def test_a_single_array_file_is_a_folder_of_its_own(everything: Path) -> None:
    sources, refused = find_sources(everything / "arrays" / "labelled.npz")
    assert ([one.sample_id for one in sources], refused) == (["N-1", "N-2"], [])
    assert {folder_of(one) for one in sources} == {everything / "arrays"}


def test_a_file_that_is_no_array_is_refused(tmp_path: Path) -> None:
    put(tmp_path, "cell.tif", tiff(a_cell(np.random.default_rng(1))))
    sources, (refused,) = find_sources(tmp_path / "cell.tif")
    assert (sources, refused.file) == ([], "cell.tif")


def test_a_manifest_over_accepts_own_thumbnails_does_not_double_them(everything: Path) -> None:
    rows = [("file", "sample", "object_index"), ("H-1_1_thumb_1.tif", "H-1.1", "1"), ("H-1_1_thumb_2.tif", "X", "2")]
    put(everything.parent, f"{THUMBS}/manifest.csv", table(rows))
    sources, refused = find_sources(everything)
    assert [kind_of(one) for one in sources].count("listed folder") == 1
    assert [one.file for one in refused] == [f"{THUMBS.removeprefix('export/')}/manifest.csv"] * 2
    assert "lists 1 files of sample X that an ACCEPT export" in refused[1].reason


def test_of_two_manifests_that_list_one_file_the_upper_counts(tmp_path: Path) -> None:
    for name in ("a.tif", "inner/b.tif", "inner/c.tif"):
        put(tmp_path, name, tiff(a_cell(np.random.default_rng(len(name)))))
    header = ("file", "sample", "object_index")
    put(tmp_path, "manifest.csv", table([header, ("a.tif", "U", "1"), ("inner/b.tif", "U", "2")]))
    put(tmp_path, "inner/manifest.csv", table([header, ("b.tif", "V", "1"), ("c.tif", "V", "2")]))
    sources, refused = find_sources(tmp_path)
    read = {one.sample_id: [t.object_index for t in read_source(one, page_order=ORDER)[0]] for one in sources}
    assert read == {"U": [1, 2], "V": [2]}
    assert [one.file for one in refused] == ["inner/manifest.csv"]


def test_a_hundred_listed_files_in_a_folder_of_their_own_are_no_cartridge(tmp_path: Path) -> None:
    rows = [("file", "sample", "object_index", "mask")]
    for number in range(1, 101):
        put(tmp_path, f"images/cell_{number}.tif", b"")
        rows.append((f"images/cell_{number}.tif", "S", str(number), f"images/mask_{number}.tif"))
    put(tmp_path, "manifest.csv", table(rows))
    sources, refused = find_sources(tmp_path)
    assert ([kind_of(one) for one in sources], refused) == (["listed folder"], [])


@pytest.mark.parametrize("name", ["S_thumb_{}.tif", "cell_{}.tif", "{}_seg.tif"])
def test_what_lies_in_accepts_folders_is_no_cartridge(tmp_path: Path, name: str) -> None:
    for number in range(1, 121):
        put(tmp_path, f"P/frames/S/Thumbs/{name.format(number)}", b"")
        put(tmp_path, f"P/frames/S/{name.format(number)}", b"")
    sources, _ = find_sources(tmp_path)
    assert [kind_of(one) for one in sources] == ["ACCEPT export"]


def test_the_page_order_reaches_the_readers_that_need_it(everything: Path) -> None:
    for one in find_sources(everything)[0][:3]:
        usual = {t.object_index: t for t in read_source(one, page_order=ORDER)[0]}
        for other in read_source(one, page_order=("CK", "DAPI", "CD45"))[0]:
            if other.source_order != "CD45,CK,DAPI":  # an RGB picture has colours, not pages
                np.testing.assert_array_equal(other.pixels[0], usual[other.object_index].pixels[2])
        with pytest.raises(BadInput, match="page order"):
            read_source(one, page_order=("CD45", "DAPI"))


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    assert [one.file for one in find_sources(tmp_path / "none")[1]] == ["none"]
