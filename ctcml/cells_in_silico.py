"""How one simulated CellSearch object looks, before the camera: shapes and brightness of the six kinds of object.

Sizes and habits (lobed granulocyte nuclei with weak CD45; ring, crescent and speckled cytokeratin; vesicles up to
14 µm; eight kinds of artefact) follow descriptions of the assay; no real image was used.
"""

from collections.abc import Callable

import numpy as np
from scipy.ndimage import gaussian_filter

from ctcml.pencil import CD45, CK, DAPI, FITC, Pencil, Place, Plane, Planes, Stain

KINDS = ("ctc", "tdev", "wbc", "cd45ev", "bare_nucleus", "other")

# Two kinds, the channel that tells them apart, and its counts at either end of the way from the first to the second.
TRANSITIONS: tuple[tuple[str, str, int, float, float], ...] = (
    ("ctc", "tdev", DAPI, 230.0, 14.0),
    ("ctc", "bare_nucleus", CK, 230.0, 14.0),
    ("ctc", "other", CD45, 14.0, 230.0),
    ("tdev", "other", CD45, 14.0, 230.0),
    ("wbc", "bare_nucleus", CD45, 120.0, 10.0),
    ("wbc", "cd45ev", DAPI, 200.0, 12.0),
)

LEUKOCYTES: tuple[
    tuple[float, float, float, str, float], ...
] = (  # share, diameter µm, nucleus / cell, its shape, CD45
    (0.46, 9.0, 0.72, "round", 330.0),  # lymphocyte
    (0.39, 11.5, 0.66, "lobed", 125.0),  # granulocyte
    (0.15, 13.5, 0.62, "bean", 220.0),  # monocyte
)


def draw_object(kind: str, ambiguity: float, stain: Stain, rng: np.random.Generator) -> Planes:
    """Draw one object as noise-free counts above background, float32 (4, side, side), blurred by the optics.

    `ambiguity` is 0 for a clear case and near 1 for an object at the border to another class.
    """
    pencil = Pencil(stain, rng)
    sharp = _between(pencil, kind, ambiguity) if ambiguity > 0 else DRAW[kind](pencil)
    into_cd45, into_ck, into_fitc = stain.bleed
    ck, dapi = sharp[CK].copy(), sharp[DAPI].copy()
    sharp[CD45] += np.float32(into_cd45) * ck
    sharp[CK] += np.float32(into_ck) * dapi
    sharp[FITC] += np.float32(into_fitc) * ck
    focus = rng.uniform(0.9, 1.25)
    seen = [gaussian_filter(plane, sigma * focus) for plane, sigma in zip(sharp, stain.psf_px, strict=True)]
    blurred: Planes = np.stack(seen) * np.array(stain.gain, np.float32)[:, None, None]
    return blurred


def _between(pencil: Pencil, kind: str, ambiguity: float) -> Planes:
    """An object on the way from one kind to another, on `kind`'s side of the border."""
    steps = [step for step in TRANSITIONS if kind in step[:2]]
    first, _, channel, start, end = steps[int(pencil.rng.integers(len(steps)))]
    way = ambiguity / 2 if kind == first else 1 - ambiguity / 2
    planes = DRAW[first](pencil)
    if channel == CD45 and first != "wbc":
        shape = _membrane(pencil, pencil.radius_px(9, 0.2, low_um=4, high_um=16), at=(0, 0), stretch=1, angle=0)
    else:
        shape = planes[channel]
    planes[channel] = shape * np.float32(start * (end / start) ** way / max(float(shape.max()), 1e-6))
    return planes


def _nucleus(pencil: Pencil, radius: float, shape: str, at: Place) -> Plane:
    """Chromatin: a round, oval, bean-shaped or lobed nucleus with mottling."""
    rng, angle = pencil.rng, 2 * pencil.angle()
    if shape == "lobed":
        return _lobes(pencil, radius, at) * pencil.texture(1.6, 0.16)
    stretch = rng.uniform(1.1, 1.4) if shape == "oval" else rng.uniform(1.0, 1.12)
    body = pencil.blob(DAPI, radius, at=at, stretch=stretch, angle=angle)
    if shape == "bean":
        dent = (at[0] + 0.95 * radius * np.sin(angle + 1.6), at[1] + 0.95 * radius * np.cos(angle + 1.6))
        body = body * (1 - 0.85 * pencil.blob(DAPI, 0.6 * radius, at=dent, rough=0, soft=1.0))
    return body * pencil.texture(1.6, 0.16)


def _lobes(pencil: Pencil, radius: float, at: Place) -> Plane:
    """Two to four lobes along an arc, as in a granulocyte."""
    rng = pencil.rng
    body: Plane = np.zeros((pencil.side, pencil.side), np.float32)
    start, arc = 2 * pencil.angle(), rng.uniform(0.45, 0.75) * radius
    for lobe in range(int(rng.integers(2, 5))):
        where, size = start + lobe * rng.uniform(1.1, 1.6), radius * rng.uniform(0.42, 0.58)
        place = (at[0] + arc * np.sin(where), at[1] + arc * np.cos(where))
        oval = pencil.blob(DAPI, size, at=place, stretch=rng.uniform(1, 1.25), angle=where, rough=0)
        body = np.maximum(body, oval)
    return body


def _cytokeratin(pencil: Pencil, radius: float, at: Place, stretch: float, angle: float) -> Plane:
    """Cytokeratin of one cell in one of the four habits: filled, ring, crescent, speckled."""
    rng = pencil.rng
    body = pencil.blob(CK, radius, at=at, stretch=stretch, angle=angle, rough=0.16, soft=0.9)
    habit = rng.choice(4, p=np.array(pencil.stain.ck_habits) / sum(pencil.stain.ck_habits))
    if habit == 1:
        hollow = pencil.blob(CK, radius * rng.uniform(0.55, 0.72), at=at, stretch=stretch, angle=angle, soft=1.3)
        body = body * (1 - rng.uniform(0.45, 0.8) * hollow)
    elif habit == 2:
        body = body * (0.12 + pencil.ramp(CK, radius / 4))
    elif habit == 3:
        specks: Plane = np.minimum(pencil.specks(CK, radius, int(rng.integers(6, 16)), (0.8, 1.6)), 2.5)
        body = body * (0.3 + specks)
    return body * pencil.texture(2.0, 0.22)


def _membrane(pencil: Pencil, radius: float, at: Place, stretch: float, angle: float) -> Plane:
    """CD45: a grainy rim around a paler middle."""
    body = pencil.blob(CD45, radius, at=at, stretch=stretch, angle=angle, rough=0.1, soft=0.8)
    hollow = pencil.blob(CD45, radius * 0.68, at=at, stretch=stretch, angle=angle, rough=0.05, soft=1.2)
    return body * (1 - pencil.rng.uniform(0.2, 0.6) * hollow) * pencil.texture(1.1, 0.28)


def _partners(pencil: Pencil, radius: float, alone: float) -> list[Place]:
    """Where the cells of a single cell, doublet or small cluster lie."""
    rng = pencil.rng
    number = 1 if rng.uniform() < alone else int(rng.choice((2, 2, 2, 2, 2, 3, 3, 4)))
    places, angle = [(0.0, 0.0)], 2 * pencil.angle()
    for _ in range(number - 1):
        step = radius * rng.uniform(1.5, 1.9)
        places.append((places[-1][0] + step * np.sin(angle), places[-1][1] + step * np.cos(angle)))
        angle += rng.uniform(-1.2, 1.2)
    middle = np.mean(places, axis=0)
    return [(float(row - middle[0]), float(column - middle[1])) for row, column in places]


def draw_ctc(pencil: Pencil) -> Planes:
    """A tumour cell, or a small cluster: cytokeratin around a nucleus, without CD45."""
    rng, planes = pencil.rng, pencil.blank()
    radius = pencil.radius_px(12.5, 0.26, low_um=6, high_um=26)
    ck, dapi = pencil.counts(620, 0.65) * np.float32(pencil.stain.ck_factor), pencil.counts(520, 0.4)
    for at in _partners(pencil, radius, alone=0.94):
        stretch, angle = rng.uniform(1.0, 1.2) if rng.uniform() < 0.75 else rng.uniform(1.2, 1.45), pencil.angle()
        off, shape = radius * rng.uniform(0, 0.3), str(rng.choice(("round", "oval", "bean"), p=(0.5, 0.4, 0.1)))
        inside = (at[0] + off * np.sin(angle), at[1] + off * np.cos(angle))
        cytoplasm = _cytokeratin(pencil, radius, at, stretch, angle)
        nucleus = _nucleus(pencil, radius * rng.uniform(0.52, 0.72), shape, inside)
        planes[CK] = np.maximum(planes[CK], ck * rng.uniform(0.8, 1.2) * cytoplasm)
        planes[DAPI] = np.maximum(planes[DAPI], dapi * rng.uniform(0.8, 1.2) * nucleus)
    planes[CD45] = rng.uniform(0, 14) * _membrane(pencil, radius, (0, 0), 1, 0)
    return planes


def draw_wbc(pencil: Pencil) -> Planes:
    """A leukocyte: lymphocyte, granulocyte (lobed nucleus, weak CD45) or monocyte, sometimes two together."""
    rng, planes = pencil.rng, pencil.blank()
    _, size_um, fill, shape, cd45 = LEUKOCYTES[int(rng.choice(len(LEUKOCYTES), p=[row[0] for row in LEUKOCYTES]))]
    radius = pencil.radius_px(size_um, 0.1, low_um=6, high_um=18)
    strength, dapi = pencil.counts(cd45, 0.4), pencil.counts(430, 0.35)
    for at in _partners(pencil, radius, alone=0.93):
        rim = _membrane(pencil, radius, at, rng.uniform(1, 1.18), pencil.angle())
        nucleus = _nucleus(pencil, radius * fill, shape, at)
        planes[CD45] = np.maximum(planes[CD45], strength * rng.uniform(0.8, 1.2) * rim)
        planes[DAPI] = np.maximum(planes[DAPI], dapi * rng.uniform(0.85, 1.15) * nucleus)
    if rng.uniform() < 0.15:  # unspecific cytokeratin, well below a tumour cell's
        planes[CK] = rng.uniform(8, 30) * pencil.blob(CK, radius)
    return planes


def draw_bare_nucleus(pencil: Pencil) -> Planes:
    """A nucleus whose cell is gone; some are smeared."""
    rng, planes = pencil.rng, pencil.blank()
    radius = pencil.radius_px(8.0, 0.24, low_um=4.5, high_um=17)
    nucleus = _nucleus(
        pencil, radius, str(rng.choice(("round", "oval", "lobed", "bean"), p=(0.4, 0.3, 0.2, 0.1))), (0, 0)
    )
    if rng.uniform() < 0.2:
        smear = pencil.blob(DAPI, radius, stretch=rng.uniform(1.4, 1.7), angle=pencil.angle(), rough=0.3, soft=1.5)
        nucleus = nucleus + 0.35 * smear
    planes[DAPI] = pencil.counts(420, 0.45) * nucleus
    return planes


def _vesicle(pencil: Pencil, channel: int, radius: float) -> Plane:
    """A vesicle: dot, hollow ball, crescent, elongated body or a small heap."""
    rng = pencil.rng
    if rng.uniform() < 0.12:
        return pencil.specks(channel, 1.3 * radius, int(rng.integers(3, 8)), (0.8, 1.8))
    stretch, angle = rng.uniform(1, 1.25) if rng.uniform() < 0.8 else rng.uniform(1.3, 1.6), pencil.angle()
    body = pencil.blob(channel, radius, stretch=stretch, angle=angle, rough=0.14, soft=0.7)
    habit = rng.uniform() if radius > 3.2 else 1.0
    if habit < 0.4:
        hollow = pencil.blob(channel, 0.62 * radius, stretch=stretch, angle=angle, soft=1.0)
        body = body * (1 - rng.uniform(0.4, 0.8) * hollow)
    elif habit < 0.55:
        body = body * (0.15 + pencil.ramp(channel, radius / 3))
    return body * pencil.texture(1.6, 0.2)


def draw_tdev(pencil: Pencil) -> Planes:
    """A tumour-derived vesicle: cytokeratin without nucleus, 2 to 14 µm."""
    planes, radius = pencil.blank(), pencil.radius_px(5.0, 0.5, low_um=2.0, high_um=14)
    planes[CK] = pencil.counts(430, 0.65) * np.float32(pencil.stain.ck_factor) * _vesicle(pencil, CK, radius)
    planes[CD45] = pencil.rng.uniform(0, 10) * pencil.blob(CD45, radius)
    return planes


def draw_cd45ev(pencil: Pencil) -> Planes:
    """A leukocyte-derived vesicle: CD45 without nucleus or cytokeratin."""
    planes, radius = pencil.blank(), pencil.radius_px(5.2, 0.38, low_um=2.2, high_um=12)
    planes[CD45] = pencil.counts(240, 0.5) * _vesicle(pencil, CD45, radius)
    return planes


def _debris(pencil: Pencil) -> Planes:
    """An autofluorescent crumb, bright in every channel: what stands out of a noise field under a dome."""
    rng, radius = pencil.rng, pencil.radius_px(9.0, 0.45, low_um=3.5, high_um=26)
    stretch, grain = rng.uniform(1, 1.45), max(1.2, radius * rng.uniform(0.2, 0.4))
    dome = pencil.blob(CK, 1.1 * radius, stretch=stretch, angle=pencil.angle(), rough=0.25, soft=0.35 * radius)
    body: Plane = np.clip((dome * pencil.texture(grain, 0.35) - np.float32(0.5)) * 4, 0, 1)
    return pencil.tint((170, 150, 320, 260), 0.5) * body * pencil.texture(1.3, 0.35)


def _haze(pencil: Pencil) -> Planes:
    """A patch of smeared dye: torn veils along one direction with a few strands, in one or two channels."""
    rng, planes = pencil.rng, pencil.blank()
    angle, wide = pencil.angle(), rng.uniform(9, 22)
    veil = pencil.blob(CK, wide, stretch=rng.uniform(1, 1.5), angle=angle, rough=0.5, soft=0.3 * wide)
    veil = veil * pencil.texture(rng.uniform(2, 5), 0.6) * pencil.texture(9, 0.5)
    for _ in range(int(rng.integers(0, 4))):
        length, width, aside = wide * rng.uniform(0.8, 2.2), rng.uniform(0.7, 1.6), rng.normal(0, wide / 2)
        bearing = angle + rng.normal(0, 0.25)
        strand = pencil.thread(CK, length_px=length, width_px=width, angle=bearing, aside_px=aside)
        veil = veil + rng.uniform(0.4, 1.2) * strand
    veil = veil / np.float32(max(float(veil.max()), 1e-6))
    for channel in rng.choice((CK, CK, CD45, DAPI), size=2):
        planes[channel] = pencil.counts(170, 0.5) * veil
    planes[FITC] = pencil.counts(80, 0.5) * veil
    return planes


def _streak(pencil: Pencil) -> Planes:
    """A fibre or scratch."""
    length, width = pencil.rng.uniform(18, 85), pencil.rng.uniform(0.6, 2.0)
    thread = pencil.thread(CK, length_px=length, width_px=width, angle=pencil.angle())
    return pencil.tint((90, 160, 220, 160), 0.8) * thread * pencil.texture(2.5, 0.5)


def _out_of_focus(pencil: Pencil) -> Planes:
    """A cell far from the focal plane, or one that dissolves."""
    cell = draw_ctc(pencil) if pencil.rng.uniform() < 0.6 else draw_wbc(pencil)
    return np.stack([gaussian_filter(plane, pencil.rng.uniform(3.2, 5.5)) for plane in cell])


def _saturated(pencil: Pencil) -> Planes:
    """A clump of dye far above the camera's range, with a glow."""
    rng, radius = pencil.rng, pencil.radius_px(7, 0.4, low_um=3, high_um=20)
    body = pencil.blob(CK, radius, stretch=rng.uniform(1, 1.4), angle=pencil.angle(), rough=0.3)
    glow = 0.04 * pencil.blob(CK, 2.2 * radius, rough=0, soft=2.5)
    return pencil.tint((400, 300, 4200, 2500), 0.6) * (body + glow)


def _double_positive(pencil: Pencil) -> Planes:
    """A cell that carries both cytokeratin and CD45, such as a leukocyte that took up tumour debris."""
    rng, planes = pencil.rng, draw_wbc(pencil)
    radius = pencil.radius_px(10, 0.2, low_um=5, high_um=18)
    planes[CD45] *= np.float32(max(1.0, 150 / max(float(planes[CD45].max()), 1.0)))
    at, stretch = (rng.normal(0, 1.5), rng.normal(0, 1.5)), rng.uniform(1, 1.3)
    planes[CK] = pencil.counts(330, 0.5) * _cytokeratin(pencil, radius, at, stretch, pencil.angle())
    return planes


def _rubble(pencil: Pencil) -> Planes:
    """A scatter of particles, mostly in cytokeratin and CD45."""
    scatter = pencil.specks(CK, pencil.rng.uniform(6, 15), int(pencil.rng.integers(6, 18)), (0.7, 2.2))
    return pencil.tint((120, 25, 210, 90), 0.5) * scatter


def _bubble(pencil: Pencil) -> Planes:
    """The uneven bright rim of an air bubble, in all channels alike."""
    rng = pencil.rng
    radius, width = rng.uniform(6, 17), rng.uniform(1.0, 2.2)
    off = (rng.normal(0, 0.8), rng.normal(0, 0.8))
    rim = pencil.blob(CK, radius, rough=0.06, soft=0.8)
    rim = rim * (1 - pencil.blob(CK, radius - 2 * width, at=off, rough=0.1, soft=0.9))
    rim = rim * (0.15 + pencil.ramp(CK, radius / 3)) * pencil.texture(3, 0.25)
    return pencil.tint((120, 110, 170, 140), 0.4) * rim


OTHERS: dict[Callable[[Pencil], Planes], float] = {
    _debris: 0.22,
    _haze: 0.15,
    _streak: 0.11,
    _out_of_focus: 0.13,
    _saturated: 0.08,
    _double_positive: 0.16,
    _rubble: 0.11,
    _bubble: 0.04,
}


def draw_other(pencil: Pencil) -> Planes:
    """One of the eight kinds of artefact."""
    return list(OTHERS)[int(pencil.rng.choice(len(OTHERS), p=list(OTHERS.values())))](pencil)


DRAW: dict[str, Callable[[Pencil], Planes]] = {
    "ctc": draw_ctc,
    "tdev": draw_tdev,
    "wbc": draw_wbc,
    "cd45ev": draw_cd45ev,
    "bare_nucleus": draw_bare_nucleus,
    "other": draw_other,
}
