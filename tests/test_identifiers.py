"""What could identify a person is found and hidden; what laboratories need is left alone."""

import io
import struct

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from ctcml.identifiers import masked, search, search_tag, tiff_texts


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("1961-03-14", "date"),
        ("scan 14.03.1961", "date"),
        ("03/14/1961", "date"),
        ("3_4_2019", "date"),
        ("20190314_breast", "date"),
        ("14-Mar-1961", "date"),
        ("14 mars 1961", "date"),
        ("2024:03:02 12:00:00", "date"),
        ("1234567", "accession number"),
        ("H19-004711", "accession number"),
        ("MRN00471123", "accession number"),
        ("MRN1234567_thumb_1.tif", "accession number"),
        ("S_00123456_a", "accession number"),
        ("Doe_Jane", "person's name"),
        ("Müller Anna", "person's name"),
        ("mueller_anna", "person's name"),
        ("MUELLER, ANNA", "person's name"),
        ("Yilmaz, Deniz", "person's name"),
        ("DOE^JANE", "person's name"),
        ("JaneDoe", "person's name"),
        ("Frau Schmidt", "person's name"),
        ("Herr_Özdemir", "person's name"),
        ("Doe.Jane", "person's name"),
    ],
)
def test_an_identifier_is_found_and_hidden(text: str, kind: str) -> None:
    (one,) = search(text)
    assert one.kind == kind
    hidden = masked(text)
    assert len(hidden) == len(text)
    assert text[one.start + 1 : one.end] not in hidden
    assert search(hidden) == []


@pytest.mark.parametrize(
    "text",
    [
        "Full Detection_0.1/frames/SIM-0001.1.1/Thumbs",
        "Marker Characterization_0.1/frames/171651.1.2/selected_Thumbs/171651_1_2_thumb_1234567_segm.tif",
        "Candidate Selection_0.1/output/171651.1.2.xlsx",
        "171651.1.2/processed/171651.1.2-0-009.tif",
        "1234567_thumb_prior.tif",
        "xtrain_5class_prepr.npy",
        "Breast Cancer Batch 2",
        "Bare Nucleus",
        "White Blood Cell",
        "CK, DAPI, CD45",
        "CellTracks Analyzer II",
        "0.645123 µm",
        "0123456789abcdef01234567",
        "ImageJ=1.53a\nimages=4",
        "2023",
        "patient 12",
        "MCF7 SKBR3 spike",
    ],
)
def test_what_a_laboratory_needs_is_left_alone(text: str) -> None:
    assert search(text) == []
    assert masked(text) == text


def test_a_programs_words_with_capitals_are_no_name_but_a_given_name_is() -> None:
    assert search_tag("Software", "Nikon Elements") == set()
    assert search_tag("ImageDescription", '<OME Creator="Some Thing">') == set()
    assert search_tag("ImageDescription", "Some Thing") == {"person's name"}
    assert search_tag("Software", "written by Jane Doe") == {"person's name"}


def test_whatever_names_the_artist_or_the_computer_is_personal() -> None:
    assert search_tag("Artist", "jd") == {"the name of a person"}
    assert search_tag("HostComputer", "ws-07") == {"the name of a computer"}


@given(st.text(alphabet=st.sampled_from("Doe_Jan, 0123456789.-/^ Xé"), max_size=40))
def test_whatever_is_hidden_is_not_found_again(text: str) -> None:
    assert search(masked(masked(text))) == []


@pytest.mark.parametrize("form", [{}, {"byteorder": ">"}, {"bigtiff": True}, {"bigtiff": True, "byteorder": ">"}])
def test_the_texts_of_every_page_are_read_in_every_form_of_tiff(form: dict[str, object]) -> None:
    buffer = io.BytesIO()
    texts = [("a text that is longer than its entry", "short"), ("the second page", "abc")]
    with tifffile.TiffWriter(buffer, **form) as file:
        for description, name in texts:
            file.write(
                np.zeros((4, 5), np.uint16),
                description=description,
                metadata=None,
                software=False,
                extratags=[(269, 2, 0, name, True), (65001, 2, 0, "private", True), (700, 1, 4, b"<x/>", True)],
            )
    assert tiff_texts(buffer.getvalue()) == {
        "ImageDescription": "\n".join(one for one, _ in texts),
        "DocumentName": "short\nabc",
        "tag 65001": "private",
        "XMP": "<x/>",
    }


@given(st.binary(max_size=200))
def test_a_broken_tiff_is_passed_over(rest: bytes) -> None:
    for head in (b"II*\0", b"MM\0*", b"II+\0\x08\0\0\0", b""):
        assert isinstance(tiff_texts(head + struct.pack("<I", 8) + rest), dict)


def test_pages_in_a_circle_come_to_an_end() -> None:
    assert tiff_texts(b"II*\0" + struct.pack("<IHI", 8, 0, 8) + bytes(8)) == {}
