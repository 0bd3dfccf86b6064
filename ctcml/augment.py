"""Turned, mirrored, moved and re-stained copies of thumbnails, a batch at a time, from a generator that is passed in.

Dice are always drawn on the CPU, so that a run throws the same dice on every device; pixels stay where the batch is.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, grid_sample

from ctcml.images import FULL_SCALE

Kind = Literal["mild", "paper", "none"]
REACH = 4  # pixels of the mild shift
BLUR_REACH = 4  # pixels on each side that a blurred pixel draws from


def augment(batch: Tensor, *, kind: Kind, generator: torch.Generator) -> Tensor:
    """Return an augmented batch (N, 3, H, W) of the same type; every image draws its own dice.

    "mild" moves pixels without touching their values: quarter turns, a mirror, a shift of up to 4 pixels.
    "paper" is the paper's: rotation up to 40 degrees, shifts up to 15 %, zoom 80 to 120 % (each axis on its own, as
    Keras draws it), a left-right mirror, bilinear. Both fill with black, like the padding.

    >>> augment(torch.ones(2, 3, 80, 80), kind="none", generator=torch.Generator()).mean().item()
    1.0
    """
    if kind == "none":
        return batch
    return _mild(batch, generator) if kind == "mild" else _paper(batch, generator)


@dataclass(frozen=True, kw_only=True)
class Jitter:
    """What another instrument does to a thumbnail, drawn anew for a `share` of the images; all at 0 changes nothing.

    `gain` is the sigma of a lognormal factor on each channel, `noise_counts` the largest sigma of added noise in camera
    counts (of 4095), `blur_px` the largest sigma of a Gaussian blur in pixels. `asinh_scale` names the curve of the
    inputs (`image.asinh_scale`; 0 for a linear recipe), since instruments differ in counts and not along the curve.
    """

    share: float
    gain: float
    noise_counts: float
    blur_px: float
    asinh_scale: float

    def apply(self, batch: Tensor, generator: torch.Generator) -> Tensor:
        """Images (N, 3, H, W) in 0..1 -> the same shape and range; black padding around a thumbnail stays black."""
        n = len(batch)
        chosen = torch.rand(n, generator=generator) < self.share
        gain = torch.exp(torch.randn(n, 3, 1, 1, generator=generator) * self.gain)
        noise = torch.rand(n, 1, 1, 1, generator=generator) * self.noise_counts
        sigma = torch.rand(n, generator=generator) * self.blur_px
        grain = torch.randn(batch.shape, generator=generator)
        chosen, gain, noise, grain = (dice.to(batch.device) for dice in (chosen, gain, noise, grain))
        counts = _blurred(self._to_counts(batch), sigma.to(batch.device)) * gain + noise * grain
        seen = self._to_input(counts.clamp(0, FULL_SCALE)) * _inside(batch)
        return torch.where(chosen[:, None, None, None], seen, batch)

    def _to_counts(self, x: Tensor) -> Tensor:
        if not self.asinh_scale:
            return x * FULL_SCALE
        return self.asinh_scale * torch.sinh(x * math.asinh(FULL_SCALE / self.asinh_scale))

    def _to_input(self, counts: Tensor) -> Tensor:
        if not self.asinh_scale:
            return counts / FULL_SCALE
        return torch.asinh(counts / self.asinh_scale) / math.asinh(FULL_SCALE / self.asinh_scale)


def _inside(batch: Tensor) -> Tensor:
    """1 within the smallest box that holds every pixel above 0 of an image, 0 in the padding: (N, 1, H, W)."""
    lit = batch.amax(1) > 0
    rows, columns = lit.any(2), lit.any(1)

    def between(found: Tensor) -> Tensor:
        return (found.cummax(1).values & found.flip(1).cummax(1).values.flip(1)).to(batch.dtype)

    return (between(rows)[:, :, None] * between(columns)[:, None, :])[:, None]


def _blurred(batch: Tensor, sigma: Tensor) -> Tensor:
    """Each image (3, H, W) of a batch under a Gaussian of its own sigma (N,), in pixels."""
    n, planes, height, width = batch.shape
    reach = torch.arange(-BLUR_REACH, BLUR_REACH + 1, device=batch.device)
    bell = torch.exp(-0.5 * (reach / sigma.clamp(min=1e-3)[:, None]) ** 2)
    bell = (bell / bell.sum(1, keepdim=True)).repeat_interleave(planes, 0)
    flat = batch.reshape(1, n * planes, height, width)
    flat = conv2d(flat, bell[:, None, :, None], padding=(BLUR_REACH, 0), groups=n * planes)
    return conv2d(flat, bell[:, None, None, :], padding=(0, BLUR_REACH), groups=n * planes).reshape(batch.shape)


def _mild(batch: Tensor, generator: torch.Generator) -> Tensor:
    sides = (4, 2, 2 * REACH + 1, 2 * REACH + 1)
    dice = torch.stack([torch.randint(side, (len(batch),), generator=generator) for side in sides], 1)
    return moved_by_strides(batch, dice) if batch.device.type == "cpu" else moved_by_index(batch, dice)


def moved_by_strides(batch: Tensor, dice: Tensor) -> Tensor:
    """Quarter turns, mirror, shift down and across + 4 of each image, dice (N, 4); on the CPU.

    numpy turns and mirrors by strides alone: one copy an image, 5 to 20 times faster than the same with tensors.
    """
    height, width = batch.shape[2:]
    moved = torch.zeros_like(batch)
    for source, target, (turns, mirror, down, across) in zip(batch.numpy(), moved.numpy(), dice.tolist(), strict=True):
        turned = np.rot90(source, turns, (1, 2))[:, :, :: -1 if mirror else 1]
        y, x = down - REACH, across - REACH
        target[:, max(y, 0) : height + min(y, 0), max(x, 0) : width + min(x, 0)] = turned[
            :, max(-y, 0) : height - max(y, 0), max(-x, 0) : width - max(x, 0)
        ]
    return moved


def moved_by_index(batch: Tensor, dice: Tensor) -> Tensor:
    """The same as `moved_by_strides`, to the bit, as one gather on any device; images are square."""
    side = batch.shape[-1]
    turns, mirror, down, across = (column[:, None, None] for column in dice.to(batch.device).unbind(1))
    place = torch.arange(side, device=batch.device)
    shape = (len(batch), side, side)
    i = (place[None, :, None] - down + REACH).expand(shape)
    j = (place[None, None, :] - across + REACH).expand(shape)
    inside = ((i >= 0) & (i < side) & (j >= 0) & (j < side))[:, None]
    j = torch.where(mirror == 1, side - 1 - j, j)
    last = side - 1
    row = torch.where(turns == 0, i, torch.where(turns == 1, j, torch.where(turns == 2, last - i, last - j)))
    column = torch.where(turns == 0, j, torch.where(turns == 1, last - i, torch.where(turns == 2, last - j, i)))
    source = (row * side + column).clamp(0, side * side - 1).flatten(1)[:, None].expand(-1, batch.shape[1], -1)
    moved: Tensor = batch.flatten(2).gather(2, source).reshape(batch.shape) * inside
    return moved


def _paper(batch: Tensor, generator: torch.Generator) -> Tensor:
    n = len(batch)
    angle = (torch.rand(n, generator=generator) * 2 - 1) * math.radians(40)
    shift = (torch.rand(n, 2, generator=generator) * 2 - 1) * 0.15 * 2  # grid_sample counts an image's side as 2
    zoom = torch.rand(n, 2, generator=generator) * 0.4 + 0.8
    mirror = 1 - 2 * torch.randint(2, (n,), generator=generator).float()
    cosine, sine = torch.cos(angle), torch.sin(angle)
    across = torch.stack([cosine * zoom[:, 0] * mirror, -sine * zoom[:, 1], shift[:, 0]], 1)
    down = torch.stack([sine * zoom[:, 0] * mirror, cosine * zoom[:, 1], shift[:, 1]], 1)
    poses = torch.stack([across, down], 1).to(batch.device)
    planes = batch.to(torch.float32, memory_format=torch.contiguous_format)  # sampled quickest a plane at a time
    moved = grid_sample(planes, _grid(poses, *batch.shape[2:]), align_corners=False)
    return moved if batch.is_floating_point() else moved.round().to(batch.dtype)


def _grid(poses: Tensor, height: int, width: int) -> Tensor:
    """What torch's `affine_grid` makes of poses (N, 2, 3), from rows and columns alone and in a fifth of its time."""
    down = ((torch.arange(height, device=poses.device) * 2 + 1) / height - 1)[:, None]
    across = (torch.arange(width, device=poses.device) * 2 + 1) / width - 1
    a, b, c = poses[..., None, None].unbind(2)
    return torch.stack((a * across + (b * down + c)).unbind(1), -1)
