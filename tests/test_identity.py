"""Pseudonyms say nothing and the key is kept."""

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ctcml.errors import BrokenRecord
from ctcml.identity import create_key, load_key, pseudonym


def test_the_key_is_private_and_is_never_replaced(tmp_path: Path) -> None:
    key = create_key(tmp_path / ".ctcml" / "key")
    assert stat.S_IMODE((tmp_path / ".ctcml" / "key").stat().st_mode) == 0o600
    assert create_key(tmp_path / ".ctcml" / "key") == key == load_key(tmp_path / ".ctcml" / "key")


def test_a_lost_key_is_a_named_failure_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(BrokenRecord, match="put your copy of it back"):
        load_key(tmp_path / "key")
    (tmp_path / "key").write_text("not hex")
    with pytest.raises(BrokenRecord, match="expected 32 bytes"):
        load_key(tmp_path / "key")


@given(st.lists(st.text(), min_size=1, max_size=3), st.lists(st.text(), min_size=1, max_size=3))
def test_different_parts_never_share_a_pseudonym(one: list[str], other: list[str]) -> None:
    assert (pseudonym(b"k", "cell", *one) == pseudonym(b"k", "cell", *other)) == (one == other)


def test_a_cell_and_a_patient_of_the_same_name_differ() -> None:
    assert pseudonym(b"k", "cell", "A") != pseudonym(b"k", "patient", "A")
