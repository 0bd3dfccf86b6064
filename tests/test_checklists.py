"""Drafted checklists are complete by number, invent nothing, and mark what the authors have to fill in."""

import re

import pytest
import yaml

from ctcml.checklists import FILES, FOLDER, UNKNOWN, Item, as_markdown, drafted, left_open, wanted

REMARK, TRIPOD, CLAIM = range(3)
TRIPOD_LINES = [
    "1",
    "2",
    "3a",
    "3b",
    "3c",
    "4",
    "5a",
    "5b",
    "6a",
    "6b",
    "6c",
    "7",
    "8a",
    "8b",
    "8c",
    "9a",
    "9b",
    "9c",
    "10",
    "11",
    "12a",
    "12b",
    "12c",
    "12d",
    "12e",
    "12f",
    "12g",
    "13",
    "14",
    "15",
    "16",
    "17",
    "18a",
    "18b",
    "18c",
    "18d",
    "18e",
    "18f",
    "19",
    "20a",
    "20b",
    "20c",
    "21",
    "22",
    "23a",
    "23b",
    "24",
    "25",
    "26",
    "27a",
    "27b",
    "27c",
]


def facts() -> dict[str, str]:
    """A made-up value for every fact that any text asks for."""
    texts = [
        one.get("says", "") for key in FILES for one in yaml.safe_load((FOLDER / f"{key}.yaml").read_text())["items"]
    ]
    return {name: f"«{name}»" for text in texts for name in wanted(text)}


@pytest.mark.parametrize(("which", "items", "lines"), [(REMARK, 20, 20), (TRIPOD, 27, 52), (CLAIM, 44, 44)])
def test_each_checklist_has_the_items_of_its_reference(which: int, items: int, lines: int) -> None:
    # McShane 2005 has 20 items, Collins 2024 27 in 52 lines, Tejani 2024 44
    one = drafted({})[which]
    assert (one.main_items, len(one.items)) == (items, lines)
    numbers = [item.number for item in one.items]
    assert numbers == (TRIPOD_LINES if which == TRIPOD else [f"{at}" for at in range(1, items + 1)])


def test_a_fact_that_is_not_known_is_never_written_and_its_item_is_marked() -> None:
    known = facts()
    del known["agreement"]
    before, after = (next(one for one in drafted(said)[CLAIM].items if one.number == "18") for said in (facts(), known))
    assert before.state == "answered"
    assert (after.state, after.text) == ("UNKNOWN", "")
    assert left_open(after) == f"{UNKNOWN}: agreement"


@pytest.mark.parametrize("number", ["6", "14", "17", "20"])
def test_what_no_program_can_know_stays_unknown_however_much_is_known(number: str) -> None:
    item = next(one for one in drafted(facts())[REMARK].items if one.number == number)
    assert item.state == "UNKNOWN"
    assert item.ask


@pytest.mark.parametrize("number", ["17", "18a", "18b", "18d", "19"])
def test_ethics_funding_conflicts_and_registration_are_the_authors(number: str) -> None:
    assert next(one for one in drafted(facts())[TRIPOD].items if one.number == number).state == "UNKNOWN"


def test_with_every_fact_known_each_text_is_filled_to_the_end() -> None:
    for checklist in drafted(facts()):
        for item in checklist.items:
            assert "{" not in item.text
            assert item.text or item.ask, f"{checklist.name} {item.number} says nothing and asks nothing"
            assert item.text[:1] == item.text[:1].upper()


def test_nothing_is_partly_answered_without_a_text() -> None:
    assert Item(number="1", section="", title="Funding", text="", ask="funding").state == "UNKNOWN"
    assert Item(number="1", section="", title="Funding", text="None.", ask="grants").state == "partly answered"


def test_titles_are_short_words_of_our_own() -> None:
    for checklist in drafted({}):
        assert all(len(item.title.split()) <= 6 for item in checklist.items), checklist.name


def test_markdown_has_a_row_an_item_marks_the_unknown_and_stamps_simulated_data() -> None:
    claim = drafted(facts() | {"reading": "a | b"})[CLAIM]
    text = as_markdown(claim, simulated=True)
    rows = re.findall(r"^\| (\d+) \|", text, re.M)
    assert rows == [f"{at}" for at in range(1, 45)]
    assert "SIMULATED DATA" in text
    assert "Radiol Artif Intell 2024" in text
    assert "A \\| b" in text  # a bar would end the cell
    assert text.count(UNKNOWN) == sum(bool(item.ask) for item in claim.items)
    assert "SIMULATED" not in as_markdown(claim, simulated=False)
