"""The two ways of stepping, with their schedules: the paper's ADADELTA with growing batches, and AdamW along one cycle."""

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import torch
from torch import nn

Kind = Literal["adamw", "adadelta"]
RHO, EPSILON = 0.95, 1e-7  # of Keras 2.1.5; torch's own defaults are 0.9 and 1e-6
UP = 0.3  # share of a phase in which the learning rate of one cycle rises


def make_optimizer(
    kind: Kind, weights: Iterable[nn.Parameter], *, learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    """An optimiser without a past; ADADELTA knows no weight decay, as in Keras."""
    weights = list(weights)
    on_gpu = weights[0].device.type == "cuda"  # there the step is replayed, and must keep its counters on the device
    if kind == "adadelta":
        return torch.optim.Adadelta(weights, lr=learning_rate, rho=RHO, eps=EPSILON, capturable=on_gpu)
    rate = torch.tensor(learning_rate, device=weights[0].device) if on_gpu else learning_rate
    return torch.optim.AdamW(weights, lr=rate, weight_decay=weight_decay, fused=True, capturable=on_gpu)


def batch_size_of(epoch: int, *, first: int, double_every: int) -> int:
    """Images a step in an epoch (from 0): "initially 16 and doubled every 15 epochs" (paper); 0 never doubles.

    >>> [batch_size_of(epoch, first=16, double_every=15) for epoch in (0, 14, 15, 74)]
    [16, 16, 32, 256]
    """
    return first * 2 ** (epoch // double_every) if double_every else first


def rates_of(kind: Kind, epoch: int, *, steps: Sequence[int], learning_rate: float) -> list[float]:
    """The learning rate of each step of an epoch; `steps` holds the number of steps of each epoch of the phase.

    >>> rates_of("adadelta", 1, steps=[3, 2], learning_rate=1.0)
    [1.0, 1.0]
    """
    if kind == "adadelta":
        return [learning_rate] * steps[epoch]
    before = sum(steps[:epoch])
    return [one_cycle(step, sum(steps), learning_rate) for step in range(before, before + steps[epoch])]


def one_cycle(step: int, steps: int, peak: float) -> float:
    """Learning rate of one step: up from peak / 25 to the peak, then down to nearly 0, both along a cosine.

    >>> [round(one_cycle(step, 10, 1.0), 3) for step in (0, 3, 9)]
    [0.04, 1.0, 0.0]
    """
    top = UP * steps
    if step < top:
        return peak * (1 + (1 / 25 - 1) * (1 + math.cos(math.pi * step / top)) / 2)
    return peak * (1 + math.cos(math.pi * (step - top) / max(steps - 1 - top, 1))) / 2
