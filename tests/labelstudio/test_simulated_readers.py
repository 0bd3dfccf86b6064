"""SIMULATED readers decide as they should; that they answer real servers is in test_servers.py."""

import numpy as np

from ctcml.records import PAPER_CLASSES
from labelstudio.client import Answer
from labelstudio.simulated_readers import decide
from labelstudio.tasks import NEW_CLASS

TRUTH = {f"{number:024x}": "ctc" if number % 2 else "cd45ev" for number in range(2000)}


def _decide(reader_error: float, seed: int = 3) -> dict[str, Answer]:
    return decide(TRUTH, classes=PAPER_CLASSES, reader_error=reader_error, rng=np.random.default_rng(seed))


def test_a_reader_without_error_says_the_truth_and_names_what_the_page_does_not_offer() -> None:
    said = _decide(0.0)
    assert {said[uid] for uid, true in TRUTH.items() if true == "ctc"} == {Answer(label="ctc")}
    assert {said[uid] for uid, true in TRUTH.items() if true == "cd45ev"} == {
        Answer(label=NEW_CLASS, new_name="CD45EV")
    }


def test_a_reader_errs_as_often_as_told_and_never_right_by_error() -> None:
    said = _decide(0.1)
    right = _decide(0.0)
    wrong = sum(said[uid] != right[uid] for uid in TRUTH)
    assert 160 <= wrong <= 240  # 200 expected, standard deviation 13


def test_two_readers_err_apart_and_one_reader_errs_the_same_again() -> None:
    assert _decide(0.1, seed=3) == _decide(0.1, seed=3)
    assert _decide(0.1, seed=3) != _decide(0.1, seed=4)
