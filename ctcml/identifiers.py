"""Finding what could identify a person in the names and texts that come with thumbnails, and hiding it when it is shown.

A search by rules finds the usual and misses the rest: it warns, and proves nothing. Numbers that laboratories need
(CellTracks' `171651.1.2`, the object number after `_thumb_`) are not taken for identifiers.
"""

import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

Kind = Literal["date", "person's name", "accession number"]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec|mai|okt|dez"
DATE = re.compile(
    r"(?<!\d)(?:"
    r"(?:19|20)\d\d([-./_: ]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"  # 1961-03-14, 19610314, TIFF's 1961:03:14
    r"|(?:0?[1-9]|[12]\d|3[01])([-./_ ])(?:0?[1-9]|[12]\d|3[01])\2(?:19|20)\d\d"  # 14.03.1961, 3/14/1961
    rf"|(?:0?[1-9]|[12]\d|3[01])[-./_ ]*(?:{MONTHS})[a-z]*[-./_ ]*(?:19|20)\d\d"  # 14-Mar-1961
    r")(?!\d)",
    re.IGNORECASE,
)
CARTRIDGE = re.compile(r"(?<![0-9A-Za-z])\d{5,6}([._])\d{1,2}\1\d{1,2}(?!\d)")  # CellTracks' own counting of tubes
OBJECT = re.compile(r"_thumb_\d+|(?<![0-9A-Za-z])\d+_thumb(?!_\d)", re.IGNORECASE)
NUMBER = re.compile(r"(?<![0-9A-Za-z])(?<!\d\.)[A-Za-z]{0,4}\d{6,14}(?![0-9A-Za-z])")
WORD = re.compile(r"[A-ZÀ-ÖØ-Þ]?[a-zß-öø-ÿ]+|[A-ZÀ-ÖØ-Þ]+(?![a-zß-öø-ÿ])")
LAST_FIRST = re.compile(r"[^\W\d_][\w'’-]+(?:\^|, ?)[^\W\d_][\w'’-]+")
TITLE = re.compile(r"(?<![A-Za-z])(?:Mr|Mrs|Ms|Miss|Mme|Mevr|Frau|Herr|Sra?|Signora?)\.?[ _]+[A-ZÀ-ÖØ-Þ][\w'’-]+")
# Frequent given names that are no other word of a laboratory; one beside another word makes a person's name.
GIVEN_NAMES = _words(
    """
    adam ahmed alex alexander ali alice amy anders andrea andreas andrew angela anja anke ann anna anne anneke annette
    anton antonio arthur barbara bart bernd birgit bob brian carla carlos carol caroline catherine charles charlotte
    christian christina christine claudia daniel david deborah diana dieter dirk donald donna dorothy edward elena
    elisabeth elizabeth ella els emily emma eric erik eva fatima frank frans franz fred gabriele george gerda gerhard
    giovanni giulia hannah hans heike heinz helen helena helga helmut hendrik henk henry ingrid irene isabel jack jacob
    james jan jane janet jason jean jennifer jens jessica joan johan johann johanna johannes john jonas jorge jose josef
    joseph juan judith julia julie jürgen karen karin karl katharina kevin klaus kurt lars laura lena linda lisa lucia
    luis luisa maarten manfred manuel marco margaret maria marie marieke marion markus marta martha martin martina mary
    matthias michael michelle miguel mohamed mohammed monika nancy nicole nina olga oliver otto patricia paul paula pedro
    peter petra philip pieter rachel ralf rebecca renate richard robert roberto ronald ruth sabine samuel sandra sara
    sarah sharon silke simon sofia sophie stefan stephan stephen steven susan susanne sven thomas tom ulrich ursula uwe
    vera walter werner wilhelm willem william wolfgang yvonne
    """
)
# Words that begin with a capital in names of folders, processors, gates and programs, and stand beside others.
LABORATORY_WORDS = _words(
    """
    accept adobe aliquot all analysis analyzer archive area arm artefact artifact assay background bare baseline batch
    benign big bladder blood bone breast cancer candidate candidates cartridge case castration cell cells cellsearch
    celltracks center central centre channel characterization characterisation class classes clinical cohort colon
    colorectal color colour control copy count counts cycle cytokeratin data date day debris default demo detection donor
    dose draw early events export exports false feature features file files final folder follow followup frame frames full
    gastric gate gated gates group healthy high hospital image images imaging in info input instrument intensity lab laboratory
    large late left line lines list listed liver low lung magnest manual marker markers mask masks mean median medium
    metastatic mode month more nagel negative new no normal not nuclear nucleus null number object objects of old on only
    open other out output ovarian overview page pages pancreatic panel part patient patients phase pilot pixel pixels plate
    position positive post pre prior processed processing prostate protocol quality random raw read reader region report
    research resolution result results review right round run runs sample samples saved scan scans segmentation selected
    selection sensitivity series set sets short signal simulated single site size slide small software spike spiked stage
    stain stained staining standard studio study subject summary tagged tags test tests the thumb thumbnail thumbnails
    thumbs time to total university institute clinic train training treatment trial true tube tubes tumor tumour type unit untitled validation version
    visit vesicle vesicles volume week white with without year
    """
)
SHORTEST_WORD = 3  # letters of a word that may be part of a person's name

TEXT_TAGS = {
    269: "DocumentName", 270: "ImageDescription", 271: "Make", 272: "Model", 285: "PageName", 305: "Software",
    306: "DateTime", 315: "Artist", 316: "HostComputer", 337: "TargetPrinter", 700: "XMP", 33432: "Copyright",
    33723: "IPTC", 34377: "Photoshop",
}  # fmt: skip
PERSONAL_TAGS = {"Artist": "a person", "HostComputer": "a computer"}  # whatever their text is
WRITTEN_BY_PROGRAMS = {"Make", "Model", "Software", "XMP", "IPTC", "Photoshop"}  # full of capitals
ASCII, BYTE, UNDEFINED = 2, 1, 7
LONGEST_TEXT = 65_536
MOST_PAGES, MOST_TAGS = 64, 256


@dataclass(frozen=True, kw_only=True)
class Identifier:
    """What could identify a person in a text, and where it stands there."""

    kind: Kind
    start: int
    end: int


def search(text: str, *, capitals_are_names: bool = True) -> list[Identifier]:
    """Find dates with their day, numbers of six digits or more, and persons' names, in order of place.

    `capitals_are_names`: two words with capitals beside each other are a name, unless a laboratory uses one of them;
    without it a name needs a frequent given name, a title, or the form `Last, First` or `LAST^FIRST`.

    >>> [one.kind for one in search("Doe_Jane 1961-03-14/MRN7654321")]
    ["person's name", 'date', 'accession number']
    >>> search("Full Detection_0.1/frames/171651.1.2/Thumbs/171651_1_2_thumb_1234567.tif")
    []
    """
    found = [Identifier(kind="date", start=one.start(), end=one.end()) for one in DATE.finditer(text)]
    harmless = [one.span() for pattern in (CARTRIDGE, OBJECT) for one in pattern.finditer(text)]
    found += [
        Identifier(kind="accession number", start=one.start(), end=one.end())
        for one in NUMBER.finditer(text)
        if not _overlaps(one.span(), [*harmless, *((other.start, other.end) for other in found)])
    ]
    for start, end in sorted(_names(text, capitals_are_names)):
        if not _overlaps((start, end), [(other.start, other.end) for other in found]):
            found.append(Identifier(kind="person's name", start=start, end=end))
    return sorted(found, key=lambda one: one.start)


def _overlaps(span: tuple[int, int], others: Sequence[tuple[int, int]]) -> bool:
    return any(span[0] < end and start < span[1] for start, end in others)


def _names(text: str, capitals_are_names: bool) -> Iterator[tuple[int, int]]:
    for match in (*TITLE.finditer(text), *LAST_FIRST.finditer(text)):
        words = [one[0] for one in WORD.finditer(match[0])]
        capitals = all(_is_capitalised(word) or word.isupper() for word in words)
        sure = "^" in match[0] or any(word.lower() in GIVEN_NAMES for word in words) or TITLE.fullmatch(match[0])
        if sure or (capitals and all(_is_capitalised(word) and _is_personal(word) for word in words)):
            yield match.span()
    words_of_text = [one for one in WORD.finditer(text) if len(one[0]) >= 2]
    for first, second in pairwise(words_of_text):
        between = text[first.end() : second.start()]
        if not re.fullmatch(r"(?:[ ._-]|, )?", between) or not (_is_personal(first[0]) and _is_personal(second[0])):
            continue
        given = first[0].lower() in GIVEN_NAMES or second[0].lower() in GIVEN_NAMES
        capitals = capitals_are_names and between != "" and _is_capitalised(first[0]) and _is_capitalised(second[0])
        if given or capitals:
            yield first.start(), second.end()


def _is_capitalised(word: str) -> bool:
    return word[:1].isupper() and word[1:].islower()


def _is_personal(word: str) -> bool:
    return len(word) >= SHORTEST_WORD and word.lower() not in LABORATORY_WORDS


def masked(text: str) -> str:
    """Hide what could identify a person, but for the first character.

    >>> masked("Doe_Jane/1961-03-14/scan 7.tif")
    'D••_••••/1•••-••-••/scan 7.tif'
    """
    for one in search(text):
        text = text[: one.start] + hidden(text[one.start : one.end]) + text[one.end :]
    return text


def hidden(identifier: str) -> str:
    """An identifier with all its letters and digits hidden, but the first.

    >>> hidden("Doe, Jane"), hidden("1961-03-14")
    ('D••, ••••', '1•••-••-••')
    """
    return identifier[:1] + re.sub(r"[^\W_]", "•", identifier[1:])


# Texts inside a TIFF.


def tiff_texts(content: bytes) -> dict[str, str]:
    """Return the texts of a TIFF's tags by name, over all its pages, without reading a pixel.

    Whatever is broken is passed over: what a file must be is for its reader to say.
    """
    texts = dict[str, dict[str, None]]()
    for code, value in _text_tags(content):
        text = value[:LONGEST_TEXT].rstrip(b"\0").decode("utf-8", errors="replace").strip()
        texts.setdefault(TEXT_TAGS.get(code, f"tag {code}"), {})[text] = None
    return {name: "\n".join(filter(None, values)) for name, values in texts.items() if any(values)}


def _text_tags(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Give number and value of every tag that holds text, of a classic TIFF or a BigTIFF."""
    order = {b"II": "<", b"MM": ">"}.get(content[:2])
    if order is None or len(content) < 16:
        return
    big = 43 in content[2:4]
    number, pointer = (order + "Q", order + "Q") if big else (order + "H", order + "I")
    entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
    seen = set[int]()
    with suppress(struct.error, OverflowError):  # an offset beyond the end, or beyond any file
        (at,) = struct.unpack_from(pointer, content, 8 if big else 4)
        while at and at not in seen and len(seen) < MOST_PAGES:
            seen.add(at)
            (tags,) = struct.unpack_from(number, content, at)
            at += struct.calcsize(number)
            for place in range(at, at + min(tags, MOST_TAGS) * entry.size, entry.size):
                code, kind, count, value = entry.unpack_from(content, place)
                if kind == ASCII or (code in TEXT_TAGS and kind in (BYTE, UNDEFINED)):
                    (where,) = struct.unpack(pointer, value)  # of a value that has no room in its entry
                    yield code, value[:count] if count <= len(value) else content[where : where + count]
            (at,) = struct.unpack_from(pointer, content, at + tags * entry.size)


def search_tag(name: str, text: str) -> set[str]:
    """Say which kinds of identifiers a TIFF tag's text holds.

    >>> search_tag("DateTime", "2024:03:02 12:00:00"), search_tag("Software", "Adobe Photoshop 2024")
    ({'date'}, set())
    """
    if name in PERSONAL_TAGS:
        return {f"the name of {PERSONAL_TAGS[name]}"}
    of_a_program = name in WRITTEN_BY_PROGRAMS or text[:1] in ("<", "{")
    return {one.kind for one in search(text, capitals_are_names=not of_a_program)}
