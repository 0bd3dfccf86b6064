"""Reporting checklists, drafted from what the project knows: REMARK, TRIPOD+AI and CLAIM; what it does not know is marked.

Items have the numbers of the references and short titles of our own; their wording belongs to their authors and has to be
read there. Nothing is invented: a text with a fact that is not known is not written at all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Literal

import yaml

FOLDER = Path(__file__).with_name("checklist_items")
FILES = ("remark", "tripod_ai", "claim")
UNKNOWN = "UNKNOWN — to be filled in by the authors"

State = Literal["answered", "partly answered", "UNKNOWN"]


@dataclass(frozen=True, kw_only=True)
class Item:
    """One item of a checklist: what can be said, and what is left for the authors (either may be empty)."""

    number: str
    section: str
    title: str
    text: str
    ask: str

    @property
    def state(self) -> State:
        if not self.text:
            return "UNKNOWN"
        return "partly answered" if self.ask else "answered"


@dataclass(frozen=True, kw_only=True)
class Checklist:
    """One guideline with its items in order."""

    key: str
    name: str
    about: str
    reference: str
    items: tuple[Item, ...]

    @property
    def main_items(self) -> int:
        """Items as the guideline counts them: 12a to 12g are one."""
        return len({one.number.rstrip("abcdefg") for one in self.items})


def drafted(facts: Mapping[str, str | None]) -> tuple[Checklist, ...]:
    """The three checklists with all that `facts` can answer.

    >>> [(one.name, one.main_items) for one in drafted({})]
    [('REMARK', 20), ('TRIPOD+AI', 27), ('CLAIM 2024 Update', 44)]
    """
    return tuple(_drafted(key, facts) for key in FILES)


def _drafted(key: str, facts: Mapping[str, str | None]) -> Checklist:
    content = yaml.safe_load((FOLDER / f"{key}.yaml").read_text(encoding="utf-8"))
    known = {name: value for name, value in facts.items() if value}
    return Checklist(
        key=key,
        name=content["name"],
        about=content["about"],
        reference=content["reference"],
        items=tuple(_item(one, known) for one in content["items"]),
    )


def _item(one: Mapping[str, str], known: Mapping[str, str]) -> Item:
    says, ask = one.get("says", ""), one.get("ask", "")
    missing = [name for name in wanted(says) if name not in known]
    text = says.format(**known) if not missing else ""
    if not text:  # without a text the item is as open as the guideline has it
        ask = "; ".join([*([ask] if ask else []), *(f"{name.replace('_', ' ')}" for name in missing)]) or one["title"]
    return Item(number=one["item"], section=one["section"], title=one["title"], text=_sentence(text), ask=ask)


def _sentence(text: str) -> str:
    """Without needless blanks, beginning as a sentence does."""
    whole = " ".join(text.split())
    return whole[:1].upper() + whole[1:]


def wanted(says: str) -> list[str]:
    """The facts that a text asks for.

    >>> wanted("{endpoint} of {patients_n}")
    ['endpoint', 'patients_n']
    """
    return [name for _, name, _, _ in Formatter().parse(says) if name]


def as_markdown(checklist: Checklist, *, simulated: bool) -> str:
    """One checklist as Markdown: a table with a row an item."""
    lines = [
        f"# {checklist.name}: {checklist.about}",
        "",
        f"Drafted by ctcml after {checklist.reference}. Titles are short ones of our own: read each item's wording there.",
        "What stands here was taken from the workspace; check it before you use it. Research use only.",
        *(["", "**SIMULATED DATA: nothing below describes real patients.**"] if simulated else []),
        "",
        counted(checklist),
        "",
        "| item | section | title | state | text |",
        "| --- | --- | --- | --- | --- |",
    ]
    lines += [f"| {one.number} | {one.section} | {one.title} | {one.state} | {_cell(one)} |" for one in checklist.items]
    return "\n".join(lines) + "\n"


def counted(checklist: Checklist) -> str:
    """How many items are answered, partly answered and unknown, in a sentence."""
    states: Sequence[State] = [one.state for one in checklist.items]
    lines = f" ({len(states)} lines)" if len(states) != checklist.main_items else ""
    return (
        f"{checklist.main_items} items{lines}: {states.count('answered')} answered, {states.count('partly answered')} partly answered, "
        f"{states.count('UNKNOWN')} unknown."
    )


def left_open(one: Item) -> str:
    """What the authors have to fill in, marked so that it cannot be overlooked; empty where nothing is left."""
    return f"{UNKNOWN}: {one.ask}" if one.ask else ""


def _cell(one: Item) -> str:
    parts = [one.text, f"**{left_open(one)}**" if one.ask else ""]
    return " ".join(part for part in parts if part).replace("|", "\\|")
