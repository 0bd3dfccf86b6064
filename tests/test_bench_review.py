"""Reviews by the queue and by chance differ in the cells they choose and in nothing else; SIMULATED cells."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from ctcml.bench_review import (
    ABSENT,
    KNOWN,
    QUEUE,
    RANDOM,
    READERS,
    Plan,
    Review,
    Reviewed,
    Standing,
    bench_review,
    figures_of,
    judged,
    key_of,
    labels_of,
    readings_saved,
    review,
    set_up,
    standard_plan,
)
from ctcml.dataversions import SOURCE
from ctcml.errors import BadInput
from ctcml.params import load_params
from ctcml.records import Purpose, Reading

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def plan() -> Plan:
    whole = standard_plan(load_params(SOURCE / "params.yaml"), patients=24, objects=16, pool=180)
    return replace(whole, start=90, rounds=1, budget=50, presentations=600, clusters=20)


@pytest.fixture(scope="module")
def real(plan: Plan, one_thread: None) -> dict[str, Reviewed]:
    return {way: review(Review(seed=100, way=way, plan=plan)) for way in (RANDOM, QUEUE)}


def of_one_cell(row: int, *labels: str) -> list[Reading]:
    return [
        Reading(
            read_uid=f"{reader}-{row}", cell_uid=str(row), reader=reader, label=label, occasion="first",
            purpose=Purpose.TRAINING,
        )
        for reader, label in zip(READERS, labels, strict=True)
    ]  # fmt: skip


def reviewed(way: str, seed: int, recalls: tuple[float, ...], *, accuracy: float = 0.9) -> Reviewed:
    standings = tuple(
        Standing(
            read=250 * at, labels=500 + 225 * at, absent_read=50 * at, absent_settled=45 * at, flagged=0, flagged_absent=0.0,
            recall_of_absent=recall, worst_cluster_f1=0.5, accuracy=accuracy, ctc_recall=0.9,
        )
        for at, recall in enumerate(recalls)
    )  # fmt: skip
    return Reviewed(seed=seed, way=way, standings=standings, tested=2000, cpu_s=1.0)


def test_all_ways_start_from_the_same_network_which_finds_no_cell_of_the_absent_class(
    real: dict[str, Reviewed],
) -> None:
    assert real[QUEUE].standings[0] == real[RANDOM].standings[0]
    first = real[QUEUE].standings[0]
    assert (first.read, first.labels, first.absent_settled, first.recall_of_absent) == (0, 90, 0, 0.0)
    assert first.accuracy > 0.3  # six classes, the largest a third of the cells


def test_the_queue_brings_more_cells_of_the_absent_class_than_chance_at_the_same_budget(
    real: dict[str, Reviewed],
) -> None:
    ours, chance = real[QUEUE].standings[1], real[RANDOM].standings[1]
    assert ours.read == chance.read == 50
    assert ours.absent_read >= 1.5 * chance.absent_read > 0
    assert ours.flagged_absent > 0.6
    assert chance.flagged == 0
    for one in (ours, chance):
        assert one.absent_settled <= one.absent_read
        assert 90 + 0.75 * one.read < one.labels < 90 + one.read  # about a tenth is lost to readers who differ


def test_nobody_is_judged_by_who_was_read_and_the_absent_class_has_no_label(plan: Plan) -> None:
    lab = set_up(plan, 100)
    assert (lab.given != "").sum() == 90
    assert set(lab.given[lab.given != ""]) == set(KNOWN)
    assert (lab.kinds[lab.given == ""] == ABSENT).any()
    assert len(lab.kinds) == 90 + 180
    assert not {image.tobytes() for image in lab.test_images} & {image.tobytes() for image in lab.images}


def test_a_cohort_that_is_too_small_is_refused(plan: Plan) -> None:
    with pytest.raises(BadInput, match="expected 5000 and 30, of all classes; raise patients above 24"):
        set_up(replace(plan, pool=5000), 100)


def test_a_new_name_is_trained_on_only_when_enough_cells_are_settled_by_it() -> None:
    given = np.array(["ctc"] + [""] * 12, dtype=object)
    nine = [one for row in range(1, 10) for one in of_one_cell(row, f"new:{ABSENT}", f"new:{ABSENT}")]
    assert labels_of(nine, given, 10).tolist() == given.tolist()
    ten = nine + of_one_cell(10, f"new:{ABSENT}", f"new:{ABSENT}")
    assert labels_of(ten, given, 10).tolist() == ["ctc", *[ABSENT] * 10, "", ""]
    assert labels_of([*ten, *of_one_cell(11, ABSENT, ABSENT)], given, 10)[11] == ABSENT, "it is a class by then"


def test_a_cell_on_which_readers_differ_is_lost() -> None:
    read = of_one_cell(0, "ctc", "tdev") + of_one_cell(1, "tdev", "tdev")
    assert labels_of(read, np.array(["", "", ""], dtype=object), 10).tolist() == ["", "tdev", ""]


def test_the_worst_cluster_is_that_of_a_class_which_the_network_does_not_know() -> None:
    truth = np.array(["ctc"] * 4 + ["wbc"] * 4 + [ABSENT] * 2)
    called = np.array(["ctc"] * 4 + ["wbc"] * 4 + ["tdev"] * 2)
    found = judged(truth, called, [np.arange(4), np.arange(4, 10)])
    assert found["recall_of_absent"] == 0
    assert found["ctc_recall"] == 1
    assert found["accuracy"] == 0.8
    assert found["worst_cluster_f1"] == pytest.approx(4 / 6)  # wbc 1 for 4 of 6 cells, the others 0


def test_labels_saved_are_read_off_the_curve_of_chance() -> None:
    done = [
        reviewed(RANDOM, 0, (0.0, 0.6, 0.8)), reviewed(QUEUE, 0, (0.0, 0.7, 0.9)),
        reviewed(RANDOM, 1, (0.0, 0.6, 0.8)), reviewed(QUEUE, 1, (0.0, 0.9, 0.9)),
    ]  # fmt: skip
    assert readings_saved(done, QUEUE, "recall_of_absent") == "500 (by seed: 375, more than 500)"


def test_a_lead_is_claimed_only_when_its_interval_leaves_out_0() -> None:
    def lead(*ours: float) -> str:
        done = [reviewed(QUEUE, seed, (0.0, one)) for seed, one in enumerate(ours)]
        done += [reviewed(RANDOM, seed, (0.0, 0.8)) for seed in range(len(ours))]
        return next(one.value for one in figures_of(done) if one.name == "after 250 | recall of CD45EV")

    assert lead(0.9, 0.91, 0.92).endswith("difference +11.0 points (+8.5 to +13.5, 3 seeds): ahead")
    assert lead(0.7, 0.9, 1.0).endswith("no difference shown")


def test_what_a_killed_bench_had_done_is_not_done_again(tmp_path: Path, plan: Plan, real: dict[str, Reviewed]) -> None:
    lines = [
        json.dumps({"key": key_of(Review(seed=100, way=way, plan=plan)), **asdict(one)}) for way, one in real.items()
    ]
    book = tmp_path / "reviews.jsonl"
    book.write_text("\n".join([*lines, lines[0][:50]]))
    said: list[str] = []
    found = bench_review([100], plan=plan, folder=tmp_path, workers=1, say=said.append)
    assert said == [f"0 reviews to do, 2 are in {book} already"]
    assert book.read_text() == "\n".join([*lines, ""])
    recall = real[QUEUE].standings[1].recall_of_absent
    assert f"{recall:.1%}" in next(one.value for one in found if one.name == "after 50 | recall of CD45EV")
    assert {one.name for one in tmp_path.iterdir()} == {"reviews.jsonl", "learning-curves.png", "learning-curves.svg"}
    assert key_of(Review(seed=100, way=QUEUE, plan=replace(plan, ratio=4.0))) not in book.read_text()


@pytest.mark.trial
def test_a_review_in_a_process_of_its_own_is_kept_in_the_book(
    tmp_path: Path, plan: Plan, real: dict[str, Reviewed]
) -> None:
    bench_review([100], plan=plan, folder=tmp_path, workers=1, say=lambda _: None)
    kept = [json.loads(line) for line in (tmp_path / "reviews.jsonl").read_text().splitlines()]
    assert [one["standings"] for one in kept] == [
        [asdict(one) for one in real[way].standings] for way in (RANDOM, QUEUE)
    ]
