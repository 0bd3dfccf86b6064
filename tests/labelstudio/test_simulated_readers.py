"""SIMULATED readers decide as they should; that they answer real servers is in test_servers.py."""

import numpy as np

from ctcml.records import PAPER_CLASSES, Confidence
from labelstudio.client import Answer
from labelstudio.simulated_readers import decide
from labelstudio.tasks import NEW_CLASS

TRUTH = {f"{number:024x}": "ctc" if number % 2 else "cd45ev" for number in range(2000)}


def _decide(reader_error: float, seed: int = 3) -> dict[str, Answer]:
    return decide(TRUTH, classes=PAPER_CLASSES, reader_error=reader_error, rng=np.random.default_rng(seed))


def test_a_reader_without_error_says_the_truth_and_names_what_the_page_does_not_offer() -> None:
    said = _decide(0.0)
    assert {said[uid].label for uid, true in TRUTH.items() if true == "ctc"} == {"ctc"}
    assert {(said[uid].label, said[uid].new_name) for uid, true in TRUTH.items() if true == "cd45ev"} == {
        (NEW_CLASS, "CD45EV")
    }


def test_a_reader_errs_as_often_as_told_and_never_right_by_error() -> None:
    wrong = _wrong(0.1)
    assert 160 <= len(wrong) <= 240  # 200 expected, standard deviation 13


def _wrong(reader_error: float) -> set[str]:
    said, right = _decide(reader_error), _decide(0.0)
    return {uid for uid in TRUTH if said[uid].label != right[uid].label}


def test_a_reader_who_errs_is_less_often_sure_but_not_always_in_doubt() -> None:
    said, wrong = _decide(0.2), _wrong(0.2)
    sure = {uid for uid in TRUTH if said[uid].confidence is Confidence.SURE}
    assert 0.1 < len(sure & wrong) / len(wrong) < 0.3  # 0.20 expected
    assert 0.65 < len(sure - wrong) / (len(TRUTH) - len(wrong)) < 0.75  # 0.70 expected
    assert {one.confidence for one in said.values()} == set(Confidence)


def test_a_reader_who_always_errs_still_answers_everything() -> None:
    assert len(_wrong(1.0)) == len(TRUTH)


def test_two_readers_err_apart_and_one_reader_errs_the_same_again() -> None:
    assert _decide(0.1, seed=3) == _decide(0.1, seed=3)
    assert _decide(0.1, seed=3) != _decide(0.1, seed=4)
