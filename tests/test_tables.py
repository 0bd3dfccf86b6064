"""Tables are what they declare, and are written whole or not at all."""

from pathlib import Path

import pandas as pd
import pytest

from ctcml.errors import BadTable
from ctcml.tables import CLINICAL, MAP, QUEUE, atomic_path, check, read_folder, read_table, write_table


def a_queue(*cells: str) -> pd.DataFrame:
    return pd.DataFrame({"cell_uid": cells, "purpose": "training", "reason": "random", "rank": range(len(cells))})


def test_a_table_comes_back_as_it_was_written(tmp_path: Path) -> None:
    write_table(a_queue("a", "b"), QUEUE, tmp_path / "queue.parquet")
    assert read_table(tmp_path / "queue.parquet", QUEUE).equals(a_queue("a", "b").astype({"rank": "int32"}))


def test_missing_and_unknown_columns_are_both_named() -> None:
    with pytest.raises(BadTable, match=r"missing columns \['reason'\], unknown columns \['why'\]"):
        check(a_queue("a").rename(columns={"reason": "why"}), QUEUE, "queue")


def test_a_wrong_type_names_the_column() -> None:
    with pytest.raises(BadTable, match="'rank'"):
        check(a_queue("a").assign(rank="first"), QUEUE, "queue")


def test_another_table_under_the_right_name_is_refused(tmp_path: Path) -> None:
    write_table(a_queue("a"), QUEUE, tmp_path / "map.parquet")
    with pytest.raises(BadTable, match="make it again"):
        read_table(tmp_path / "map.parquet", MAP)
    (tmp_path / "map.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(BadTable, match="not readable"):
        read_table(tmp_path / "map.parquet", MAP)


def fail_in_the_middle(path: Path) -> None:
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(b"half")
        raise ZeroDivisionError


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "queue.parquet"
    write_table(a_queue("a"), QUEUE, path)
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        fail_in_the_middle(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_empty_folder_is_an_empty_table(tmp_path: Path) -> None:
    assert list(read_folder(tmp_path, QUEUE, columns=["cell_uid"]).columns) == ["cell_uid"]
    assert len(read_folder(tmp_path, QUEUE)) == 0


def test_further_columns_are_kept_only_under_their_prefix(tmp_path: Path) -> None:
    row: dict[str, object] = {name: [None] for name in CLINICAL}
    table = pd.DataFrame({**row, "sample_uid": ["s"], "covariate_ldh": ["210"]})
    write_table(table, CLINICAL, tmp_path / "clinical.parquet", extra_prefix="covariate_")
    assert read_table(tmp_path / "clinical.parquet", CLINICAL, extra_prefix="covariate_")["covariate_ldh"].tolist() == [
        "210"
    ]
    with pytest.raises(BadTable, match="covariate_ldh"):
        check(table, CLINICAL, "clinical")
