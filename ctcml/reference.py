"""The training cells that go with a model, as it sees them: what novelty is measured against where there is no workspace."""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from ctcml.errors import BrokenRecord
from ctcml.novelty import Seen
from ctcml.tables import atomic_path

PLACE = Path("chart") / "reference.npz"  # below a model's folder; the stage `chart` makes it


@dataclass(frozen=True, kw_only=True, eq=False)
class Reference:
    """Known cells with their settled labels, and the name of the novelty score to use with them."""

    seen: Seen
    labels: tuple[str, ...]
    score: str


def write_reference(path: Path, seen: Seen, labels: Sequence[str]) -> None:
    """Keep known cells as plain arrays, no cell and no patient named; the same cells give the same bytes."""
    content = io.BytesIO()
    arrays = {one.name: getattr(seen, one.name) for one in fields(seen)}
    np.savez(content, labels=np.array(labels, dtype=str), **arrays)
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(content.getvalue())


def read_reference(model: Path) -> Reference | None:
    """The reference in a model's folder; None for a model that came without one, or without the replay that chose a score.

    Raises `BrokenRecord` for a file that is not ours.
    """
    file, replay = model / PLACE, model / "replay.json"
    if not (file.exists() and replay.exists()):
        return None
    try:
        with np.load(file, allow_pickle=False) as found:
            seen = Seen(**{one.name: found[one.name] for one in fields(Seen)})
            labels = tuple(found["labels"].tolist())
        score = str(json.loads(replay.read_text(encoding="utf-8"))["choice"]["score"]).split(".")[-1]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenRecord(f"{file}: not readable ({' '.join(str(error).split())}); fetch the model again") from None
    return Reference(seen=seen, labels=labels, score=score)
