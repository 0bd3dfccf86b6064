"""What two chains of the same workspace keep apart, and what an anchor file may hold beside its own head."""

from pathlib import Path

import pytest
from factories import KEY, NOON

from ctcml.chain import GENESIS, Chain, Head, parse_beside, parse_head, read_head, write_head
from ctcml.errors import BrokenRecord
from ctcml.ledger import Draft, Ledger


def a_chain(path: Path, *words: str, name: str = "words") -> Chain:
    chain = Chain(path, name=name, cure="ask somebody")
    chain.append(lambda: [{"word": word} for word in words])
    return chain


def test_ledgers_are_written_and_signed_as_before_there_were_two_chains(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    body = {"a": [1, 2.5, None], "b": "ü"}
    head = ledger.append([Draft(kind="mode", by="Gärtner", why="w", body=body)], now=NOON)
    digest = "324fd869abd319e6d96cef8e88ddf70c0e0df78b7e2a5d90d0ec96ec68b3b559"  # by the module as of commit ac821ad
    assert ledger.path.read_text(encoding="utf-8") == (
        '{"at":"2026-03-02T12:00:00+00:00","body":{"a":[1,2.5,null],"b":"ü"},"by":"Gärtner",'
        f'"hash":"{digest}","kind":"mode","prev":"{GENESIS}","schema":2,"seq":0,"why":"w"}}\n'
    )
    assert ledger.chain.signed(head, KEY) == Head(
        length=1, hash=digest, signature="f2642e527ce91a4dd07628b79208ee82eacd6ac3751d3ac9f7af9bda3234f60d"
    )


def test_the_head_of_one_chain_does_not_pass_for_that_of_another(tmp_path: Path) -> None:
    words, others = a_chain(tmp_path / "a.jsonl", "x"), a_chain(tmp_path / "b.jsonl", "x", name="others")
    assert words.head() == others.head()
    assert words.is_signed(words.signed(words.head(), KEY), KEY)
    assert not others.is_signed(words.signed(words.head(), KEY), KEY)
    assert not words.is_signed(Head(length=1, hash=words.head().hash, signature="é"), KEY)


def test_nobody_writes_before_the_head_was_told(tmp_path: Path) -> None:
    chain, told = a_chain(tmp_path / "c.jsonl"), []
    head = chain.append(lambda: [{"word": "x"}], then=lambda one: told.append((one, chain.path.read_text())))
    assert told == [(head, chain.path.read_text())]


@pytest.mark.parametrize("raw", ["[]", "{}", "7", "no json", '{"hash":"x"}', '{"hash":"x","seq":"0","prev":""}'])
def test_a_line_that_is_no_link_is_named(tmp_path: Path, raw: str) -> None:
    chain = a_chain(tmp_path / "c.jsonl", "x")
    chain.path.write_text(chain.path.read_text() + raw + "\n")
    with pytest.raises(BrokenRecord, match="line 2 is not an event of ours; ask somebody"):
        chain.verify()


def test_an_anchor_holds_heads_of_other_chains_by_name_and_former_ones_hold_none(tmp_path: Path) -> None:
    own, other = Head(length=3, hash="a" * 64, signature="s"), Head(length=7, hash="b" * 64, signature="t")
    write_head(own, tmp_path / "head.json", audit=other)
    text = (tmp_path / "head.json").read_text()
    assert read_head(tmp_path / "head.json") == parse_head(text, "here") == own
    assert parse_beside(text, "here", "audit") == other
    write_head(own, tmp_path / "head.json")
    assert parse_beside((tmp_path / "head.json").read_text(), "here", "audit") is None
    with pytest.raises(BrokenRecord, match="here: not an anchor"):
        parse_beside('{"length": 1, "hash": "x", "audit": []}', "here", "audit")
