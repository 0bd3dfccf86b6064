"""SIMULATED readers: they answer open tasks through the real API, know the simulated truth, and err now and then."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ctcml.records import CellClass, Confidence
from labelstudio.client import Answer, ReadingQueue, answer, open_reads
from labelstudio.tasks import NEW_CLASS

# How sure a reader says to be, as shares of sure, probable, doubtful, guess: assumed, no study of readers behind it.
SURE_WHEN_RIGHT, SURE_WHEN_WRONG = (0.70, 0.22, 0.06, 0.02), (0.20, 0.30, 0.30, 0.20)
NEW_NAMES = {"cd45ev": "CD45EV"}  # what a reader would type for a class that the page does not offer


def decide(
    truth: Mapping[str, str], *, classes: Sequence[CellClass], reader_error: float, rng: np.random.Generator
) -> dict[str, Answer]:
    """What a simulated reader says of each read: the true class or, with probability `reader_error`, another on offer.

    Who errs is less often sure. The answers depend on `truth` as a whole and on `rng`, not on which reads are still open.
    """
    offered = [each.class_id for each in classes if not each.retired]
    luck = rng.random(len(truth))
    wrong = rng.random(len(truth))
    answers = {}
    for uid, drawn, draw in zip(sorted(truth), luck, wrong, strict=True):
        others = [class_id for class_id in offered if class_id != truth[uid]]
        err = drawn < reader_error and bool(others)
        said = others[int(draw * len(others))] if err else truth[uid]
        answers[uid] = _say(said, offered, _how_sure(drawn, reader_error, err=err))
    return answers


def _how_sure(drawn: float, reader_error: float, *, err: bool) -> Confidence:
    """The dice that said whether the reader errs says, stretched, also how sure the reader is."""
    low, high = (0.0, reader_error) if drawn < reader_error else (reader_error, 1.0)
    limits = np.cumsum(SURE_WHEN_WRONG if err else SURE_WHEN_RIGHT)[:-1]
    return list(Confidence)[int(np.searchsorted(limits, (drawn - low) / (high - low), side="right"))]


def _say(class_id: str, offered: Sequence[str], confidence: Confidence) -> Answer:
    if class_id in offered:
        return Answer(label=class_id, confidence=confidence)
    return Answer(label=NEW_CLASS, new_name=NEW_NAMES.get(class_id, class_id), confidence=confidence)


def answer_all(
    queues: Sequence[ReadingQueue],
    truths: Sequence[Mapping[str, str]],
    *,
    classes: Sequence[CellClass],
    reader_error: float,
    rng: np.random.Generator,
    told: Callable[[str, int, int], None] | None = None,
) -> int:
    """Let each queue's simulated reader answer what is open, all readers side by side; returns the number of answers.

    Queues carry the readers' own tokens; `truths` gives each queue the true class by `read_uid`. Open reads without a
    truth are left open. `told(reader, done, all)` is called after each answer.
    """
    decided = [decide(truth, classes=classes, reader_error=reader_error, rng=rng) for truth in truths]

    def read(queue: ReadingQueue, answers: Mapping[str, Answer]) -> int:
        waiting = {uid: answers[uid] for uid in open_reads(queue) if uid in answers}
        tell = None if told is None else (lambda done, whole: told(queue.reader, done, whole))
        return answer(queue, waiting, told=tell)

    with ThreadPoolExecutor(max(1, len(queues))) as pool:
        return sum(pool.map(read, queues, decided))
