"""A training run on disk after each epoch: one safetensors file, from which a killed run goes on to the very same bits.

No state of a random generator is kept, since the dice of an epoch are made from its number alone.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from ctcml.errors import BrokenRecord
from ctcml.tables import atomic_path


@dataclass
class Course:
    """A run under way: everything that its next epoch depends on, and what it has to show so far."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    history: list[dict[str, float]] = field(default_factory=list)
    kept: dict[str, Tensor] = field(default_factory=dict)  # weights of the phase whose model is wanted
    pictures: dict[str, Tensor] = field(default_factory=dict)


def run_key(numbers: dict[str, Any], arrays: Sequence[NDArray[Any]]) -> str:
    """Name a run by all that it is made from: 32 hex characters.

    >>> run_key({"seed": 1}, []) == run_key({"seed": 1}, [np.zeros(1)])
    False
    """
    digest = hashlib.sha256(json.dumps(numbers, sort_keys=True).encode())
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:32]


def store(course: Course, path: Path) -> None:
    """Write the run as it stands, atomically."""
    tensors = {f"model.{name}": value for name, value in course.model.state_dict().items()}
    tensors |= {f"kept.{name}": value for name, value in course.kept.items()}
    tensors |= {f"picture.{name}": value for name, value in course.pictures.items()}
    for number, weights in enumerate(course.model.parameters()):
        moments = course.optimizer.state.get(weights, {})
        tensors |= {f"moment.{number}.{name}": value for name, value in moments.items()}
    whole = {name: value.detach().contiguous() for name, value in tensors.items()}
    with atomic_path(path) as unfinished:
        unfinished.write_bytes(save(whole, {"history": json.dumps(course.history)}))


def resume(course: Course, path: Path) -> None:
    """Bring a run to where its checkpoint left it; without a checkpoint it stays at its beginning.

    Raises `BrokenRecord` for a file that is not a checkpoint of such a run.
    """
    if not path.exists():
        return
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "kept": {}, "picture": {}, "moment": {}}
    try:
        with safe_open(path, framework="pt") as file:
            course.history = json.loads(file.metadata()["history"])
            for name in file.keys():  # noqa: SIM118  (a file of safetensors is no mapping)
                part, rest = name.split(".", 1)
                parts[part][rest] = file.get_tensor(name)
        course.model.load_state_dict(parts["model"])
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise BrokenRecord(f"checkpoint {path}: not readable ({reason}); delete it and train again") from None
    course.kept, course.pictures = parts["kept"], parts["picture"]
    for number, weights in enumerate(course.model.parameters()):
        moments = {
            name.split(".")[1]: value for name, value in parts["moment"].items() if name.split(".")[0] == f"{number}"
        }
        if moments:
            course.optimizer.state[weights] = {name: _laid_out_like(weights, value) for name, value in moments.items()}


def _laid_out_like(weights: Tensor, moment: Tensor) -> Tensor:
    """Moments keep the memory layout of their weights, else the same numbers could be rounded on another path."""
    return moment.to(weights.device) if moment.ndim == 0 else torch.empty_like(weights).copy_(moment)
