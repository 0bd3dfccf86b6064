"""What the readers' agreement is taken from: which readings make a pair, and who is compared with whom."""

import json
import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score

from ctcml import tables
from ctcml.agreement import agreement_report, reader_pairs
from ctcml.contingency import gwets_ac1

CLASSES = ("ctc", "tdev", "wbc", "bare_nucleus", "other")


def a_row(
    cell: str, reader: str, label: str, *, occasion: str = "round-1", duty: str = "reader", purpose: str = "training",
    repeat: bool = False, confidence: str = "", seconds: float | None = 2.0,
) -> dict[str, Any]:  # fmt: skip
    """One reading; cells whose names start alike are of one patient."""
    return {
        "cell_uid": cell, "patient_uid": f"p-{cell[0]}", "purpose": purpose, "occasion": occasion, "reader": reader,
        "duty": duty, "label": label, "confidence": confidence, "reasons": "", "lead_time_s": seconds,
        "at": f"2026-03-0{occasion[-1]}T12:00:00+00:00", "repeat": repeat,
    }  # fmt: skip


def opinions(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A table as the ledger would give it: what is no table of opinions fails here."""
    table = pd.DataFrame(rows, columns=list(tables.OPINIONS))
    return tables.check(table, tables.OPINIONS, "opinions").to_pandas()


def report(rows: Sequence[dict[str, Any]], **more: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"classes": CLASSES, "settled": {}, "cluster": {}, "predicted": {}, "bootstrap": 50}
    made = agreement_report(opinions(rows), **given | more, rng=np.random.default_rng(0))
    json.dumps(made, allow_nan=False)  # whatever the input, it can be written
    return made


def both(cell: str, first: str, second: str, **more: Any) -> list[dict[str, Any]]:
    """A cell as anna and ben read it."""
    return [a_row(cell, "anna", first, **more), a_row(cell, "ben", second, **more)]


def simulated(cells: int, *, readers: int = 3, patients: int = 30, seed: int = 0) -> list[dict[str, Any]]:
    """SIMULATED readings: each cell by two of the readers, who are right in nine of ten."""
    rng = np.random.default_rng(seed)
    rows = []
    for cell in range(cells):
        truth = int(rng.integers(0, 5))
        purpose, occasion = "evaluation" if cell % 3 == 0 else "training", f"round-{1 + cell * 4 // cells}"
        for reader in rng.choice(readers, 2, replace=False):
            label = CLASSES[truth if rng.random() < 0.9 else int(rng.integers(0, 5))]
            row = a_row(f"c{cell}", f"reader-{reader}", label, occasion=occasion, purpose=purpose)
            rows.append(row | {"patient_uid": f"p{cell % patients}"})
    return rows


def test_overall_kappa_is_scikit_learns_of_the_pairs_in_order_of_name() -> None:
    rows = simulated(400)
    table = opinions(rows).sort_values(["cell_uid", "reader"])
    first, second = table.groupby("cell_uid")["label"].first(), table.groupby("cell_uid")["label"].last()
    made = report(rows)
    assert made["n"] == 400
    assert made["patients"] == 30
    assert abs(made["kappa"]["value"] - cohen_kappa_score(first, second)) < 1e-9
    assert made["exact_share"]["value"] == pytest.approx((first == second).mean())


def test_ac1_counts_every_class_on_offer_and_unreadable() -> None:
    rows = [*both("a1", "ctc", "ctc"), *both("b1", "wbc", "wbc"), *both("c1", "ctc", "wbc")]
    table = np.zeros((6, 6))  # five classes, of which two were said, and unreadable
    table[0, 0], table[1, 1], table[0, 1] = 1, 1, 1
    assert abs(report(rows)["ac1"]["value"] - float(gwets_ac1(table))) < 1e-9


def test_who_reads_first_in_time_does_not_matter() -> None:
    rows = simulated(60)
    turned = [row for at in range(0, len(rows), 2) for row in (rows[at + 1], rows[at])]
    assert report(rows) == report(turned)


def test_a_class_accepted_between_two_readings_is_one_label() -> None:
    assert report(both("a1", "new:cd45ev", "cd45ev"))["exact_share"]["value"] == 1


def test_repeats_adjudications_and_checks_make_no_pair() -> None:
    rows = [
        *both("a1", "ctc", "wbc"),
        a_row("a1", "carl", "ctc", duty="adjudicator"),
        a_row("b1", "anna", "ctc"),
        a_row("b1", "carl", "ctc", duty="check"),
        a_row("b1", "anna", "ctc", occasion="round-2", repeat=True),
    ]
    assert reader_pairs(opinions(rows))["cell_uid"].tolist() == ["a1"]


def test_a_cell_read_again_counts_once_and_its_second_pair_apart() -> None:
    rows = [
        *both("a1", "ctc", "ctc"),
        *both("b1", "wbc", "wbc"),
        a_row("a1", "carl", "wbc", occasion="round-2"),
        a_row("a1", "dora", "ctc", occasion="round-2"),
    ]
    made = report(rows)
    assert (made["n"], made["exact_share"]["value"]) == (2, 1)
    assert (made["rereads"]["n"], made["rereads"]["exact_share"]["value"]) == (1, 0)


def test_cells_that_one_or_both_could_not_read_are_counted() -> None:
    rows = [
        *both("a1", "unreadable", "unreadable"),
        *both("b1", "ctc", "unreadable"),
        *both("c1", "ctc", "ctc"),
        *both("d1", "wbc", "wbc"),
    ]
    made = report(rows)
    assert made["unreadable_pairs"] == {"pairs": 4, "by_one": 1, "by_both": 1}
    assert made["n"] == 3
    assert made["exact_share"]["value"] == pytest.approx(2 / 3)
    assert "unreadable" not in made["by_class"]


def test_purposes_pairs_of_readers_and_clusters_part_the_cells() -> None:
    rows = simulated(300)
    made = report(rows, cluster={f"c{cell}": f"k-{cell % 7}" for cell in range(200)})
    assert sum(one["n"] for one in made["by_purpose"].values()) == 300
    assert [one["readers"] for one in made["by_pair"]] == [
        [f"reader-{a}", f"reader-{b}"] for a, b in ((0, 1), (0, 2), (1, 2))
    ]
    assert sum(one["n"] for one in made["by_pair"]) == 300
    assert sum(one["n"] for one in made["by_cluster"].values()) == 200
    largest_first = [one["n"] for one in made["by_cluster"].values()]
    assert largest_first == sorted(largest_first, reverse=True)


def test_occasions_follow_each_other_and_add_up() -> None:
    made = report([*both("a1", "ctc", "ctc", occasion="round-2"), *both("b1", "ctc", "wbc", occasion="round-3")])
    assert [one["occasion"] for one in made["over_time"]] == ["round-2", "round-3"]
    assert [one["exact_share"]["value"] for one in made["over_time"]] == [1, 0]
    assert [one["cumulative"]["exact_share"]["value"] for one in made["over_time"]] == [1, 0.5]
    assert made["over_time"][0]["first_at"].startswith("2026-03-02")


def test_each_reader_stands_beside_the_model_against_what_was_settled() -> None:
    rows = [*both("a1", "ctc", "wbc"), *both("b1", "ctc", "ctc"), *both("c1", "wbc", "wbc"), *both("d1", "wbc", "ctc")]
    made = report(
        rows,
        settled={"a1": "ctc", "b1": "ctc", "c1": "new:wbc"},  # d1 waits for the adjudicator
        predicted={"a1": "ctc", "b1": "wbc", "d1": "ctc"},
    )["versus_settled"]["training"]
    assert made["readers"]["anna"]["exact_share"]["value"] == 1
    assert made["readers"]["ben"]["exact_share"]["value"] == pytest.approx(2 / 3)
    assert made["readers"]["ben"]["model"]["n"] == 2
    assert made["model"]["exact_share"]["value"] == 0.5


def test_the_model_as_a_reader_is_compared_on_the_cells_that_both_readers_judged() -> None:
    rows = [
        *both("a1", "ctc", "ctc", purpose="evaluation"),
        *both("b1", "wbc", "ctc", purpose="evaluation"),
        *both("c1", "wbc", "unreadable", purpose="evaluation"),  # nobody can agree with ben here
        *both("d1", "wbc", "wbc", purpose="evaluation"),  # the model has not seen it
    ]
    made = report(rows, predicted={"a1": "ctc", "b1": "wbc", "c1": "wbc"})["model_as_reader"]
    anna = made["evaluation"]["readers"]["anna"]
    assert (anna["model"]["n"], anna["model"]["exact_share"]["value"]) == (2, 1)
    assert (anna["other_reader"]["n"], anna["other_reader"]["exact_share"]["value"]) == (2, 0.5)
    assert anna["difference"]["exact_share"]["value"] == 0.5
    assert made["evaluation"]["all"]["n"] == 2
    assert made["evaluation"]["all"]["model"]["exact_share"]["value"] == 0.75
    assert made["training"]["all"]["n"] == 0


def test_a_model_that_says_what_the_other_reader_says_differs_by_nothing() -> None:
    rows = simulated(100, readers=2)
    said = {row["cell_uid"]: row["label"] for row in rows if row["reader"] == "reader-1"}
    one = report(rows, predicted=said)["model_as_reader"]["evaluation"]["readers"]["reader-0"]
    assert one["model"] == one["other_reader"]
    assert one["difference"]["kappa"] == {"value": 0.0, "low": None, "high": None}


def test_a_reader_is_compared_with_the_same_reader_alone() -> None:
    rows = [
        *both("a1", "ctc", "wbc"),
        *both("b1", "wbc", "wbc"),
        a_row("a1", "anna", "ctc", occasion="round-2", repeat=True),
        a_row("a1", "ben", "ctc", occasion="round-2", repeat=True),
        a_row("b1", "ben", "wbc", occasion="round-2", repeat=True),
        a_row("c1", "anna", "ctc", occasion="round-2", repeat=True),  # never read before
    ]
    made = report(rows)["within_reader"]
    assert {name: (one["n"], one["exact_share"]["value"]) for name, one in made["readers"].items()} == {
        "anna": (1, 1),
        "ben": (2, 0.5),
    }
    assert made["all"]["n"] == 3


def test_checks_are_of_cells_on_which_two_agreed() -> None:
    rows = [
        *both("a1", "ctc", "ctc"),
        a_row("a1", "carl", "ctc", duty="check"),
        *both("b1", "wbc", "wbc"),
        a_row("b1", "carl", "other", duty="check"),
        *both("c1", "wbc", "ctc"),
        a_row("c1", "carl", "wbc", duty="check"),  # they differed: this is no check of an agreement
        *both("d1", "tdev", "tdev"),
        a_row("d1", "carl", "unreadable", duty="check"),  # does not confirm it
    ]
    made = report(rows)["checks"]
    assert made["n"] == 3
    assert made["differs"]["value"] == pytest.approx(2 / 3)


def test_a_reader_s_work_is_told_by_duty_time_and_confidence() -> None:
    rows = [
        a_row("a1", "anna", "ctc", confidence="sure", seconds=2),
        a_row("b1", "anna", "unreadable", confidence="guess", seconds=6),
        a_row("c1", "anna", "wbc", seconds=None),
        a_row("a1", "anna", "ctc", repeat=True, occasion="round-2", confidence="sure", seconds=3),
        a_row("d1", "carl", "ctc", duty="check", seconds=None),
    ]
    anna, carl = report(rows)["readers"]["anna"], report(rows)["readers"]["carl"]
    assert (anna["readings"], anna["repeats"], anna["median_lead_time_s"]) == (4, 1, 3)
    assert anna["confidence"] == {
        "sure": pytest.approx(2 / 3),
        "probable": 0,
        "doubtful": 0,
        "guess": pytest.approx(1 / 3),
    }
    assert anna["unreadable_share"] == 0.25
    assert carl["by_duty"] == {"reader": 0, "adjudicator": 0, "check": 1}
    assert carl["median_lead_time_s"] is None
    assert set(carl["confidence"].values()) == {None}


@pytest.mark.parametrize(
    "rows", [[], [a_row("a1", "anna", "ctc")], both("a1", "ctc", "ctc"), both("a1", "unreadable", "unreadable")]
)
def test_what_cannot_be_computed_is_none(rows: list[dict[str, Any]]) -> None:
    made = report(rows, settled={"a1": "ctc"}, predicted={"a1": "ctc"}, cluster={"a1": "k-1"})
    assert made["kappa"]["value"] is None
    assert set(made["by_class"]) == set(CLASSES)


def test_the_same_seed_gives_the_same_report() -> None:
    assert report(simulated(50)) == report(simulated(50))


def test_ten_thousand_readings_with_a_thousand_draws_take_seconds() -> None:
    rows = opinions(simulated(5000, patients=300))
    spent = math.inf
    for _ in range(2):  # the machine may be busy
        begun = time.process_time()
        agreement_report(
            rows, classes=CLASSES, settled={}, cluster={f"c{cell}": f"k-{cell % 30}" for cell in range(5000)},
            predicted={f"c{cell}": "ctc" for cell in range(5000)}, bootstrap=1000, rng=np.random.default_rng(0),
        )  # fmt: skip
        spent = min(spent, time.process_time() - begun)
    assert spent < 10
