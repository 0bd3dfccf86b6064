"""One step of training on the device that there is: forward, loss, backward, update, and what the history wants to know.

On CUDA a step of 16 small images is bound by launching some hundred kernels, so the step is recorded once a batch size
and replayed as a graph; on the CPU and on MPS it simply runs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from ctcml.loss import Loss
from ctcml.model import AECNN, StandardCNN

SUMS = ("loss", "reconstruction", "cross_entropy", "latent_norm", "accuracy", "classifying", "sse", "energy")
WARM_UP = 3  # steps before a recording, as torch asks for; they are taken back


@dataclass
class Told:
    """What an epoch's steps add up to: sums over the images, by name, and the range of each neuron before the output."""

    sums: Tensor  # (len(SUMS),) float64, or float32 where the device has no double
    lowest: Tensor  # (classes,)
    highest: Tensor  # (classes,)

    def add(self, other: "Told") -> None:
        self.sums += other.sums
        torch.minimum(self.lowest, other.lowest, out=self.lowest)
        torch.maximum(self.highest, other.highest, out=self.highest)


@dataclass
class Stepper:
    """A model and its optimiser, ready to take steps under one loss."""

    model: StandardCNN
    optimizer: torch.optim.Optimizer
    loss: Loss
    bf16: bool
    _recorded: dict[int, tuple[Any, Tensor, Tensor, Told]] = field(default_factory=dict)

    def step(self, x: Tensor, targets: Tensor, rate: float) -> Told:
        """Images (N, 3, 80, 80) in 0..1 and labels (N,), both on the model's device; `rate` is the learning rate."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        if x.device.type != "cuda":
            return self._work(x, targets)
        if len(x) not in self._recorded:
            self._recorded[len(x)] = self._record(x, targets)
        graph, x_slot, targets_slot, told = self._recorded[len(x)]
        x_slot.copy_(x)
        targets_slot.copy_(targets)
        graph.replay()
        return told

    def _work(self, x: Tensor, targets: Tensor) -> Told:
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16, cache_enabled=x.device.type != "cuda"):
            latent = self.model.to_latent(x)
            logits, hidden = self.model.classify(latent)
            drawn = self.model.decode_logits(latent).float() if isinstance(self.model, AECNN) else None
        latent, logits = latent.float(), logits.float()
        entropy = cross_entropy(logits, targets, reduction="none")
        classifying = self.loss.classifying(entropy, targets)
        nothing = torch.zeros_like(entropy)
        rebuilding = nothing if drawn is None else self.loss.rebuilding(drawn, x)
        losses = rebuilding + self.loss.settling(latent)
        if self.loss.beta > 0:  # at beta = 0 the classifier gets no gradient and stays as it is, as in the paper
            losses = losses + classifying
        torch.autograd.backward(losses.mean())
        self.optimizer.step()
        with torch.no_grad():
            sse = nothing if drawn is None else (drawn.sigmoid() - x).square().sum((1, 2, 3))
            right, norm = logits.argmax(1) == targets, latent.norm(dim=1)
            energy = nothing if drawn is None else x.square().sum((1, 2, 3))
            sizes = (losses, rebuilding, entropy, norm, right, classifying, sse, energy)
            sums = torch.stack([size.detach().sum().to(_widest(x.device)) for size in sizes])
            hidden = hidden.detach().float()
            return Told(sums, hidden.amin(0), hidden.amax(0))

    def _record(self, x: Tensor, targets: Tensor) -> tuple[Any, Tensor, Tensor, Told]:
        """The step as a CUDA graph, with the slots that its inputs go into; weights and moments stay as they are."""
        x_slot, targets_slot = x.clone(), targets.clone()
        aside = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            self.rehearse(x_slot, targets_slot)
        torch.cuda.current_stream().wait_stream(aside)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            told = self._work(x_slot, targets_slot)
        return graph, x_slot, targets_slot, told

    def rehearse(self, x: Tensor, targets: Tensor) -> None:
        """Take a few steps and take them back in place: libraries have chosen their ways, moments exist, nothing is learnt."""
        before = [(value, value.detach().clone()) for value in self._state()]
        known = {id(value) for value, _ in before}
        for _ in range(WARM_UP):
            self._work(x, targets)
        with torch.no_grad():
            for value, old in before:
                value.copy_(old)
            for value in self._state():
                if id(value) not in known:  # a moment that the rehearsal made: at the beginning it is zero
                    value.zero_()

    def _state(self) -> Iterator[Tensor]:
        for weights in self.model.parameters():
            yield weights
            yield from (value for value in self.optimizer.state.get(weights, {}).values() if isinstance(value, Tensor))


def nothing_told(n_classes: int, device: torch.device) -> Told:
    """The sum of no steps."""
    infinite = torch.full((n_classes,), torch.inf, device=device)
    return Told(torch.zeros(len(SUMS), dtype=_widest(device), device=device), infinite, -infinite)


def _widest(device: torch.device) -> torch.dtype:
    return torch.float32 if device.type == "mps" else torch.float64
