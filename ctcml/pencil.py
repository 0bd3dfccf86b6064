"""The drawing tools of the simulated microscope: one patient's staining, and soft shapes on a small canvas.

Planes are float32 of shape (side, side), in counts above background or in shares from 0 to 1.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from ctcml.records import PIXEL_SIZE_UM

Plane = npt.NDArray[np.float32]
Planes = npt.NDArray[np.float32]  # (4, side, side)
Place = tuple[float, float]  # rows and columns from the middle of the canvas, px

CHANNELS = ("CD45", "DAPI", "CK", "FITC")
CD45, DAPI, CK, FITC = range(4)
CANVAS_PX = 96
STEEPEST = np.float32(20)  # exp(20) is far beyond what the camera can tell from nothing


@dataclass(frozen=True, kw_only=True)
class Stain:
    """How one patient's cartridge was stained and imaged: the random effects that all its objects share.

    Tuples have one number a channel, in the order of `CHANNELS`.
    """

    gain: tuple[float, ...]
    background_counts: tuple[float, ...]
    psf_px: tuple[float, ...]
    shift_px: tuple[Place, ...]  # chromatic shift
    size_factor: float
    ck_factor: float
    ck_habits: tuple[float, ...]  # shares of filled, ring, crescent and speckled cytokeratin
    bleed: tuple[float, float, float]  # CK into CD45, DAPI into CK, CK into FITC


def draw_stain(rng: np.random.Generator) -> Stain:
    """Draw the random effects of one patient; the gains are lognormal with .22 to .26."""
    into_cd45, into_ck, into_fitc = (float(rng.lognormal(np.log(share), 0.4)) for share in (0.012, 0.01, 0.03))
    return Stain(
        gain=tuple(float(rng.lognormal(0, sigma)) for sigma in (0.22, 0.26, 0.26, 0.25)),
        background_counts=tuple(float(rng.lognormal(np.log(counts), 0.25)) for counts in (90, 110, 130, 100)),
        psf_px=tuple(float(rng.uniform(0.75, 1.1)) for _ in CHANNELS),
        shift_px=tuple((float(rng.normal(0, 0.35)), float(rng.normal(0, 0.35))) for _ in CHANNELS),
        size_factor=float(rng.lognormal(0, 0.08)),
        ck_factor=float(rng.lognormal(0, 0.3)),
        ck_habits=tuple(float(share) for share in rng.dirichlet((4.5, 2.5, 1.5, 1.5))),
        bleed=(into_cd45, into_ck, into_fitc),
    )


def soft_step(distance: Plane, softness_px: float) -> Plane:
    """Fall from 1 to 0 where `distance` passes zero, over about `softness_px`.

    >>> soft_step(np.array([-9.0, 0.0, 9.0], np.float32), 1.0).round(2).tolist()
    [1.0, 0.5, 0.0]
    """
    step: Plane = 1 / (1 + np.exp(np.clip(distance / np.float32(softness_px), -STEEPEST, STEEPEST)))
    return step


@dataclass(frozen=True)
class Pencil:
    """A square canvas, the dice, and the patient's habits."""

    stain: Stain
    rng: np.random.Generator
    side: int = CANVAS_PX

    @cached_property
    def axis(self) -> Plane:
        """Pixels from the middle of the canvas."""
        return np.arange(self.side, dtype=np.float32) - np.float32((self.side - 1) / 2)

    def turned(self, channel: int, at: Place, angle: float) -> tuple[Plane, Plane]:
        """Coordinates along and across a direction, from a place, as this channel's optics see them."""
        down, right = self.stain.shift_px[channel]
        rows, columns = (
            (self.axis - np.float32(at[0] + down))[:, None],
            (self.axis - np.float32(at[1] + right))[None, :],
        )
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        return columns * cos + rows * sin, rows * cos - columns * sin

    def blob(
        self,
        channel: int,
        radius: float,
        *,
        at: Place = (0, 0),
        stretch: float = 1.0,
        angle: float = 0.0,
        rough: float = 0.1,
        soft: float = 0.6,
    ) -> Plane:
        """A closed, slightly irregular shape: 1 inside, 0 outside; its length to width is `stretch` squared.

        The outline is an ellipse with harmonics that fall as 1/k (equal harmonics would look like stars).
        """
        along, across = self.turned(channel, at, angle)
        along, across = along / np.float32(stretch), across * np.float32(stretch)
        distance = np.hypot(along, across) - np.float32(radius)
        if rough > 0:
            direction = np.arctan2(across, along)
            for harmonic in range(2, 6):
                height, phase = self.rng.normal(0, rough / harmonic), self.rng.uniform(0, 2 * np.pi)
                distance -= np.float32(radius * height) * np.cos(harmonic * direction + np.float32(phase))
        return soft_step(distance, soft)

    def thread(self, channel: int, *, length_px: float, width_px: float, angle: float, aside_px: float = 0.0) -> Plane:
        """A bent thread of even width, through the middle or to one side of it."""
        along, across = self.turned(channel, (0, 0), angle)
        across = across - np.float32(aside_px) - np.float32(self.rng.normal(0, 0.012)) * along**2
        profile: Plane = np.exp(-(across**2) / np.float32(2 * width_px**2))
        return profile * soft_step(np.abs(along) - np.float32(length_px / 2), 1.5)

    def specks(self, channel: int, within_px: float, number: int, size_px: tuple[float, float]) -> Plane:
        """Separate round specks scattered within a radius."""
        plane = np.zeros((self.side, self.side), np.float32)
        for _ in range(number):
            away, angle = within_px * np.sqrt(self.rng.uniform()), self.rng.uniform(0, 2 * np.pi)
            size, bright = self.rng.uniform(*size_px), self.rng.lognormal(0, 0.5)
            rows, columns = self.turned(channel, (away * np.sin(angle), away * np.cos(angle)), np.pi / 2)
            plane += np.float32(bright) * np.exp(-(rows**2 + columns**2) / np.float32(2 * size * size))
        return plane

    def ramp(self, channel: int, softness_px: float) -> Plane:
        """A soft half-plane at a random angle, for crescents and uneven staining."""
        along, _ = self.turned(channel, (0, 0), self.rng.uniform(0, 2 * np.pi))
        return soft_step(along, softness_px)

    def texture(self, grain_px: float, strength: float) -> Plane:
        """Smooth positive mottling around 1."""
        dice = self.rng.standard_normal((self.side, self.side), dtype=np.float32)
        noise = gaussian_filter(dice, grain_px, mode="wrap")
        mottled: Plane = np.exp(np.float32(strength) * noise / (noise.std() + np.float32(1e-6)))
        return mottled

    def counts(self, median: float, spread: float) -> np.float32:
        """A lognormal brightness."""
        return np.float32(self.rng.lognormal(np.log(median), spread))

    def tint(self, medians: tuple[float, float, float, float], spread: float) -> Planes:
        """A lognormal brightness a channel, shape (4, 1, 1)."""
        return self.rng.lognormal(np.log(medians), spread).astype(np.float32)[:, None, None]

    def radius_px(self, median_um: float, spread: float, *, low_um: float, high_um: float) -> float:
        """Half of a lognormal diameter, between two limits and times the patient's size factor."""
        diameter_um = float(np.clip(self.rng.lognormal(np.log(median_um), spread), low_um, high_um))
        return diameter_um * self.stain.size_factor / 2 / PIXEL_SIZE_UM

    def angle(self) -> float:
        return float(self.rng.uniform(0, np.pi))

    def blank(self) -> Planes:
        return np.zeros((len(CHANNELS), self.side, self.side), np.float32)
