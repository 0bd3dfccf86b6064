"""A second SIMULATED instrument: the thumbnails of the first as another lamp, optics, camera and archive would show them.

Some changes are of the kinds that the training's jitter makes (gain, noise, blur), the others are not; a model that was
trained on the first instrument is judged on both. Background and noise of the first instrument are in the counts already
and are carried along, so a thumbnail is at least as noisy as it was.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from ctcml.frames_in_silico import COUNTS_PER_ELECTRON, READ_VARIANCE
from ctcml.images import FULL_SCALE, SIZE, Counts, background, to_camera_scale
from ctcml.pencil import CD45, CK, DAPI
from ctcml.records import PLANES

DARKEST_FRAME = 900.0  # counts: a frame without a bright object still has hot pixels of 300 to 900


@dataclass(frozen=True, kw_only=True)
class Instrument:
    """How an instrument differs from the one that was trained on; without arguments it is that one.

    `gain` is a factor a plane, `background` and `read_noise` are factors, `blur_px` is the standard deviation of blur on
    top of the first optics, `gradient` the share by which brightness changes from the middle of the network's window to
    its edge, `ck_into_cd45` and `dapi_into_ck` the shares of a signal that a neighbouring filter lets through, `zoom` the
    first instrument's pixel size over this one's, `gamma` bends the camera's scale, `untagged` says that 8-bit frames are
    kept without the tags that restore their range.
    """

    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    background: float = 1.0
    read_noise: float = 1.0
    blur_px: float = 0.0
    gradient: float = 0.0
    ck_into_cd45: float = 0.0
    dapi_into_ck: float = 0.0
    zoom: float = 1.0
    gamma: float = 1.0
    untagged: bool = False


Changes = Mapping[str, Any]  # arguments of `Instrument`

FIRST = "first instrument"
# What the project measured for a CellSpotter beside a CellTracks: gains, background, read noise, and a point spread
# function 1.25 times as wide as one of about 1 pixel, which adds sqrt(1.25² - 1) pixels.
JITTERED: Mapping[str, Changes] = {
    "gain": {"gain": (0.6, 1.35, 0.55)},
    "noise": {"background": 1.6, "read_noise": 1.8},
    "blur": {"blur_px": 0.75},
}
# Ours: large enough to be seen in a thumbnail. Where two name the same number, the later counts when all come together.
FOREIGN: Mapping[str, Changes] = {
    "illumination gradient": {"gradient": 0.3},
    "bleed-through": {"ck_into_cd45": 0.08, "dapi_into_ck": 0.06},
    "larger pixels": {"zoom": 0.8},
    "smaller pixels": {"zoom": 1.25},
    "gamma": {"gamma": 0.8},
    "8 bit without tags": {"untagged": True},
}
JITTERED_TOGETHER, FOREIGN_TOGETHER = "gain, noise and blur together", "all the others together"
INSTRUMENTS: Mapping[str, Instrument] = {
    FIRST: Instrument(),
    **{name: Instrument(**changes) for name, changes in JITTERED.items()},
    JITTERED_TOGETHER: Instrument(**{name: value for one in JITTERED.values() for name, value in one.items()}),
    **{name: Instrument(**changes) for name, changes in FOREIGN.items()},
    FOREIGN_TOGETHER: Instrument(**{name: value for one in FOREIGN.values() for name, value in one.items()}),
}


def seen_by(instrument: Instrument, pixels: Counts, rng: np.random.Generator) -> Counts:
    """Return a thumbnail (3, h, w) of the first instrument as `instrument` shows it: uint16 counts up to 4095.

    Height and width change with the pixel size. The order is that of the light: optics, filters, lamp, pixels, noise of
    the added background and of the camera, then the archive.

    >>> thumbnail = np.arange(300, dtype=np.uint16).reshape(3, 10, 10)
    >>> bool((seen_by(Instrument(), thumbnail, np.random.default_rng(0)) == thumbnail).all())
    True
    >>> seen_by(Instrument(zoom=0.8), thumbnail, np.random.default_rng(0)).shape
    (3, 8, 8)
    """
    gain = np.array(instrument.gain, np.float32)[:, None, None]
    floor = background(pixels, 10.0).astype(np.float32)[:, None, None]
    signal = gaussian_filter(pixels - floor, (0, instrument.blur_px, instrument.blur_px))
    signal[CD45] += instrument.ck_into_cd45 * signal[CK]
    signal[CK] += instrument.dapi_into_ck * signal[DAPI]
    light = (floor * instrument.background + signal) * gain * _lamp(instrument.gradient, pixels.shape[1:], rng)
    light = zoom(light, (1, instrument.zoom, instrument.zoom), order=1, mode="nearest", grid_mode=True)
    added_variance = (
        COUNTS_PER_ELECTRON * gain * floor * (instrument.background - 1)
        + (instrument.read_noise**2 - 1) * READ_VARIANCE
    )
    seen = light + np.sqrt(added_variance) * rng.standard_normal(light.shape)
    bent = FULL_SCALE * (seen / FULL_SCALE).clip(0, 1) ** instrument.gamma
    counts: Counts = np.rint(bent).astype(np.uint16)
    return _without_tags(counts, rng) if instrument.untagged else counts


def _lamp(gradient: float, shape: tuple[int, ...], rng: np.random.Generator) -> Any:
    """Brightness (h, w) that rises along a random direction, 1 in the middle."""
    direction = rng.uniform(0, 2 * np.pi)
    down, across = (np.arange(side, dtype=np.float32) - (side - 1) / 2 for side in shape)
    along = np.sin(direction) * down[:, None] + np.cos(direction) * across[None, :]
    return (1 + gradient * along / (SIZE / 2)).clip(0).astype(np.float32)


def _without_tags(counts: Counts, rng: np.random.Generator) -> Counts:
    """8 bit over the range of the frame that a thumbnail was cut from, which nobody knows any more: a plane at a time."""
    drawn = np.exp(rng.uniform(np.log(DARKEST_FRAME), np.log(FULL_SCALE), len(PLANES)))
    brightest = np.maximum(drawn, counts.max(axis=(1, 2)))[:, None, None]
    stored = np.rint(counts * (255 / brightest)).astype(np.uint16)
    return to_camera_scale(stored, bit_depth=8, restored=False, recipe="")
