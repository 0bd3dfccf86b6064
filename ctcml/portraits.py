"""The portrait of a cluster: is it stable, what does it look like, where does it live, and what was it called before."""

import hashlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from scipy.stats import binom
from sklearn.mixture import GaussianMixture

from ctcml.errors import BadInput
from ctcml.records import PLANES

LARGEST_DRAW = 10_000  # cells clustered again in one draw

FEWEST_REFERENCE = 20  # cells from which a marker's cuts are taken
TWO_MODES = 2.0  # Ashman's D (Ashman, Bird & Zepf 1994, Astron J 108:2348): two modes lie apart above it
SMALLEST_MODE = 0.02  # of the reference; a smaller one is a handful of odd cells
TRIMMED = 1.0  # per cent of the reference left out at either end: blank planes, saturated debris
NARROWEST = 0.25  # log2: no mode of a camera image is narrower
DIM_BAND = 2.0  # log2: above the reach of a stain that the reference nowhere shows, up to four times as bright is dim

FRAME_PX = (1384, 1036)  # width and height of a CellTracks frame
STEPS = 8  # a region is a quarter of the frame's width and height and starts at any eighth of either
FEWEST_KNOWN = 10  # cells whose date or place is known, from which a share is taken
MOSTLY = 0.8  # a cluster with more than this share of one cartridge, region, frame or day may be an artefact
CLEARLY = 4.0  # ... if this many times fewer of its cells lie outside than of the whole archive's
BY_CHANCE = 0.001  # ... and cells taken from the archive at random would hardly do the same
ONE_CARTRIDGE, ONE_REGION = "lives on one cartridge", "lives in one region of the image"
ONE_FRAME, ONE_DAY = "lives in one frame", "lives on one day"

SAME = 0.5  # Jaccard index from which a cluster keeps its name; above it there is never more than one candidate
HALF = 0.5
NAME_DIGITS = 12  # hex: 4,000 names meet by chance once in 35 million archives; with 8 digits, once in 500

Floats = npt.NDArray[np.floating]
Members = npt.NDArray[np.integer]
Rows = npt.NDArray[np.integer]
Regroup = Callable[[Floats, int], Members]


def stability(
    placed: Floats, member: Members, *, regroup: Regroup, draws: int, rng: np.random.Generator
) -> npt.NDArray[np.float64]:
    """How well each cluster (K,) comes back when the cells (N, D) are drawn and clustered again: mean Jaccard, 0..1.

    Hennig 2007 (Comput Stat Data Anal 52:258): cells are drawn with replacement, at most 10,000 of them, and
    `regroup(places, seed)` gives each a cluster; a cluster scores its largest Jaccard index over the distinct cells drawn,
    with a new one or with all the new ones together that lie mostly in it: over-clustering cuts one kind into pieces, and
    elsewhere each time. By his rule of thumb a cluster below 0.5 dissolves and one from 0.75 on is stable. A cluster of
    which no cell is ever drawn has NaN.
    """
    number = int(member.max()) + 1
    total, times = np.zeros(number), np.zeros(number)
    for _ in range(draws):
        drawn = rng.integers(len(placed), size=min(len(placed), LARGEST_DRAW))
        again = regroup(placed[drawn], int(rng.integers(2**31)))
        cells, first = np.unique(drawn, return_index=True)
        old, new = member[cells], again[first]
        best = np.maximum(_jaccard(old, new, number).max(axis=1), _jaccard_of_pieces(old, new, number))
        present = np.bincount(member[cells], minlength=number) > 0
        total += np.where(present, best, 0.0)
        times += present
    return np.asarray(np.divide(total, times, out=np.full(number, np.nan), where=times > 0))


def _jaccard(one: Members, other: Members, number: int) -> npt.NDArray[np.float64]:
    """Jaccard index of each of `number` clusters of `one` with each of `other`, over the same cells; 0 for an empty one."""
    both = np.zeros((number, int(other.max(initial=0)) + 1))
    np.add.at(both, (one, other), 1)
    either = both.sum(axis=1, keepdims=True) + both.sum(axis=0) - both
    return np.asarray(np.divide(both, either, out=np.zeros_like(both), where=either > 0))


def _jaccard_of_pieces(old: Members, new: Members, number: int) -> npt.NDArray[np.float64]:
    """Jaccard index of each old cluster with all new ones together of which it holds more than half."""
    both = np.zeros((number, int(new.max(initial=0)) + 1))
    np.add.at(both, (old, new), 1)
    pieces = both > both.sum(axis=0) / 2
    shared, whole = (both * pieces).sum(axis=1), (pieces * both.sum(axis=0)).sum(axis=1)
    return np.asarray(shared / np.maximum(both.sum(axis=1) + whole - shared, 1))


@dataclass(frozen=True, kw_only=True)
class Exemplars:
    """Row numbers of cells to look at, no cell twice: nearest the centre, nearest another cluster, drawn at random."""

    typical: tuple[int, ...]
    border: tuple[int, ...]
    random: tuple[int, ...]


def exemplars(
    placed: Floats,
    rows: Rows,
    *,
    elsewhere: Floats,
    typical: int,
    border: int,
    random: int,
    rng: np.random.Generator,
) -> Exemplars:
    """Choose cells of the cluster `rows` of (N, D); `elsewhere` (K - 1, D) are the centres of the other clusters.

    Border cells have the smallest margin between the nearest other centre and their own; an only cluster has none.
    The random ones come from what is left. A small cluster runs out in this order.
    """
    own = cdist(placed[rows], placed[rows].mean(axis=0, keepdims=True))[:, 0]
    by_centre = np.argsort(own, kind="stable")
    left = np.sort(by_centre[typical:])
    near_border = left[:0]
    if len(elsewhere):
        margin = cdist(placed[rows[left]], elsewhere).min(axis=1) - own[left]
        near_border = left[np.argsort(margin, kind="stable")[:border]]
    rest = np.setdiff1d(left, near_border)
    drawn = rng.permutation(rest)[:random]
    return Exemplars(
        typical=_numbers(rows[by_centre[:typical]]), border=_numbers(rows[near_border]), random=_numbers(rows[drawn])
    )


def _numbers(rows: Rows) -> tuple[int, ...]:
    return tuple(int(row) for row in rows)


@dataclass(frozen=True, kw_only=True)
class MarkerProfile:
    """CD45, DAPI and CK of a cluster: the median level of each and its sign, `+`, `dim`, `-`, or `?` where unknown."""

    medians: tuple[float, ...]
    signs: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """The profile as an immunologist would say it.

        >>> MarkerProfile(medians=(14.2, 12.1, 17.0), signs=("dim", "-", "+")).sentence
        'CD45 dim, DAPI -, CK +'
        """
        return ", ".join(f"{plane} {sign}" for plane, sign in zip(PLANES, self.signs, strict=True))


def marker_profile(levels: Floats, rows: Rows, cuts: Floats) -> MarkerProfile:
    """Describe the cluster `rows` of levels (N, 3) against `marker_cuts`: up to the lower cut `-`, from the upper on `+`."""
    medians = [_median(column[np.isfinite(column)]) for column in levels[rows].T]
    return MarkerProfile(medians=tuple(medians), signs=tuple(map(_sign, medians, cuts)))


def _median(values: Floats) -> float:
    return float(np.median(values)) if len(values) else np.nan


def _sign(level: float, cuts: Floats) -> str:
    low, high = cuts
    if not np.isfinite([level, low, high]).all():
        return "?"
    if level <= low:
        return "-"
    return "+" if level >= high else "dim"


def marker_cuts(levels: Floats, reference: Rows) -> npt.NDArray[np.float64]:
    """Where `-` ends and where `+` begins (3, 2), in CD45, DAPI and CK, from the reference cells' levels alone.

    `levels` (N, 3) are log2(1 + summed brightness above background). Where a channel has two modes (a mixture of two
    normal distributions, fitted to the reference), `-` reaches two standard deviations above the lower one, but not past
    the point that is as many of them from either, and `+` begins one below the upper. With one mode the background of
    the darkest channel tells what it is: negative, if its centre lies there. Then nothing shows how bright the stain can
    be, and up to four times above the background counts as dim. All are NaN with fewer than 20 reference cells.

    Measured on simulated cells (seeds 5, 11, 12; 1,138 to 1,202 cells of 16 patients; no CD45EV in the reference): with
    each plane's median as background, as ACCEPT takes it, every kind gets the signs that define it, where vesicles are
    `+` or `dim` in their only stain. The 10th percentile leaves the noise of the whole thumbnail in the sum, and then the
    cytokeratin of tdEVs counted as `-` (seed 5).
    """
    modes = [_modes(column[np.isfinite(column)]) for column in levels[reference].T]
    floor = min((low + 2 * width for (low, width), _ in modes if np.isfinite(low)), default=np.nan)
    return np.array([_cuts(lower, upper, floor) for lower, upper in modes])


def _cuts(lower: tuple[float, float], upper: tuple[float, float], floor: float) -> tuple[float, float]:
    begin, end = upper[0] - upper[1], lower[0] + 2 * lower[1]
    if lower == upper:
        return (end, end + DIM_BAND) if lower[0] <= floor else (floor, max(floor, begin))
    between = (lower[0] * upper[1] + upper[0] * lower[1]) / (lower[1] + upper[1])
    return min(end, between), max(min(end, between), begin)


def _modes(values: Floats) -> tuple[tuple[float, float], tuple[float, float]]:
    """Centre and standard deviation of the lower and the upper mode of (N,), twice the same where there is only one."""
    if len(values) < FEWEST_REFERENCE:
        unknown = (np.nan, np.nan)
        return unknown, unknown
    low, high = np.percentile(values, [TRIMMED, 100 - TRIMMED])
    kept = values[(values >= low) & (values <= high)][:, None]
    fitted = GaussianMixture(2, random_state=0, reg_covar=NARROWEST**2).fit(kept)
    order = np.argsort(fitted.means_[:, 0])
    centre, width = fitted.means_[order, 0], np.sqrt(fitted.covariances_[order, 0, 0])
    apart = (centre[1] - centre[0]) / np.sqrt(np.mean(width**2))
    if apart > TWO_MODES and fitted.weights_.min() >= SMALLEST_MODE:
        return (float(centre[0]), float(width[0])), (float(centre[1]), float(width[1]))
    quarters = np.percentile(kept, [25, 50, 75])
    only = float(quarters[1]), max(NARROWEST, float(quarters[2] - quarters[0]) / 1.349)
    return only, only


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Over what a set of cells is spread; a share is that of the largest one, NaN where too few cells tell.

    `samples`, `patients` and `dates` count the different ones that are known. `dated`, `framed` and `placed` are the
    cells whose date, frame and place in the frame are known. A sample is a tube and so a cartridge.
    """

    cells: int
    samples: int
    patients: int
    dates: int
    dated: int
    framed: int
    placed: int
    sample_share: float
    patient_share: float
    date_share: float
    frame_share: float
    region_share: float


def spread(
    rows: Rows,
    *,
    samples: npt.ArrayLike,
    patients: npt.ArrayLike,
    dates: npt.ArrayLike | None,
    frames: npt.ArrayLike | None,
    xy: npt.ArrayLike | None,
    frame_px: tuple[int, int] = FRAME_PX,
) -> Spread:
    """Say over how many samples, patients, dates, frames and regions of the frame the cells `rows` are spread.

    All other arrays have one entry a cell of the archive; unknown ones are None or NaN, and None stands for a whole
    column that is unknown. `frames` are numbers in the cartridge, of which the same one counts together over all
    cartridges; `xy` (N, 2) are mosaic pixels, folded onto one frame of `frame_px`. Dates, frames and places are judged
    from 10 known ones on.
    """
    per_sample, per_patient, per_date, per_frame = (_tally(column, rows) for column in (samples, patients, dates, frames))  # fmt: skip
    placed, fullest = _fullest_region(xy, rows, frame_px)
    return Spread(
        cells=len(rows),
        samples=len(per_sample),
        patients=len(per_patient),
        dates=len(per_date),
        dated=int(per_date.sum()),
        framed=int(per_frame.sum()),
        placed=placed,
        sample_share=_largest_share(per_sample, fewest=1),
        patient_share=_largest_share(per_patient, fewest=1),
        date_share=_largest_share(per_date, fewest=FEWEST_KNOWN),
        frame_share=_largest_share(per_frame, fewest=FEWEST_KNOWN),
        region_share=fullest / placed if placed >= FEWEST_KNOWN else np.nan,
    )


def _tally(column: npt.ArrayLike | None, rows: Rows) -> npt.NDArray[np.int64]:
    """How many of the cells `rows` have each known value of a column."""
    if column is None:
        return np.zeros(0, np.int64)
    codes, _ = pd.factorize(pd.Series(column).iloc[rows])
    return np.bincount(codes[codes >= 0]).astype(np.int64)


def _largest_share(tally: npt.NDArray[np.int64], *, fewest: int) -> float:
    return float(tally.max() / tally.sum()) if tally.sum() >= fewest else np.nan


def _fullest_region(xy: npt.ArrayLike | None, rows: Rows, frame_px: tuple[int, int]) -> tuple[int, int]:
    """Cells whose place is known, and those in the fullest region of the frame.

    A region is two by two squares of an 8 × 8 grid wherever it lies: dirt on the border of two fixed patches would be
    halved.
    """
    known = np.zeros((0, 2)) if xy is None else np.asarray(xy, np.float64)[rows]
    known = known[np.isfinite(known).all(axis=1)]
    across, down = np.floor(known % frame_px * STEPS / frame_px).astype(np.intp).T
    squares = np.zeros((STEPS, STEPS), np.intp)
    np.add.at(squares, (across, down), 1)
    regions = squares[:-1, :-1] + squares[1:, :-1] + squares[:-1, 1:] + squares[1:, 1:]
    return len(known), int(regions.max())


def artefact(cluster: Spread, whole: Spread) -> str:
    """Return why a cluster is put down to its place or time and not to a kind of cell; empty when nothing speaks for it.

    More than 0.8 of its cells come from one cartridge, region, frame or day, four times fewer lie outside than of the
    whole archive, and as many by chance are unlikely (p < 0.001). With one cartridge in the archive nobody can tell a
    class from that cartridge's artefact, so it is always named; with one frame or day these say nothing.
    """
    if whole.samples == 1 or _confined(cluster.sample_share, whole.sample_share, cluster.cells):
        return ONE_CARTRIDGE
    if _confined(cluster.region_share, whole.region_share, cluster.placed):
        return ONE_REGION
    if _confined(cluster.frame_share, whole.frame_share, cluster.framed):
        return ONE_FRAME
    return ONE_DAY if _confined(cluster.date_share, whole.date_share, cluster.dated) else ""


def _confined(share: float, usual: float, cells: int) -> bool:
    """Compare with the archive's own largest share, or what is common there would be held against a cluster; NaN: no."""
    if not (share > MOSTLY and CLEARLY * (1 - share) < 1 - usual):
        return False
    return bool(binom.sf(round(share * cells) - 1, cells, usual) < BY_CHANCE)


def names(former: Mapping[str, str], cell_uids: Sequence[str], member: Members) -> list[str]:
    """Name each cluster (K,) by its cells, never by its number, so that it is known again in the next version.

    `former` gives the name of each cell's cluster in the version before, `member` (N,) the number of each cell's
    cluster now, from 0 without gaps. Over the cells that both versions know, clusters are matched so that the sum of
    their Jaccard indices is largest, and a match of 0.5 or more keeps the former name. Any other is `k-` and the hash of
    its cells, which is the same wherever these cells are one cluster; a name that is taken is never given twice.
    Raises `BadInput` when cells and numbers do not fit.
    """
    uids = _require_sound(cell_uids, member)
    digests = [_digest(uids[member == number]) for number in range(int(member.max()) + 1)]
    # In the order of the digests, so that not even a tie depends on the numbers.
    order = np.argsort(np.array(digests), kind="stable")
    kept = _matched(former, uids, np.argsort(order)[member])
    taken = set(former.values())
    given = dict[int, str]()
    for place, number in enumerate(order):
        given[int(number)] = kept[place] if place in kept else _new_name(digests[number], taken)
    return [given[number] for number in range(len(digests))]


def _digest(uids: npt.NDArray[np.object_]) -> str:
    return hashlib.sha256("\n".join(sorted(uids)).encode()).hexdigest()


def _new_name(digest: str, taken: set[str]) -> str:
    """A longer piece of the hash where the usual one is taken: by chance, or by a cluster that once had these cells."""
    name = next(f"k-{digest[:length]}" for length in range(NAME_DIGITS, 65) if f"k-{digest[:length]}" not in taken)
    taken.add(name)
    return name


def _matched(former: Mapping[str, str], uids: npt.NDArray[np.object_], member: Members) -> dict[int, str]:
    """The former name of each cluster that keeps one."""
    common = np.array([uid in former for uid in uids], np.bool_)
    if not common.any():
        return {}
    labels, before = np.unique([former[uid] for uid in uids[common]], return_inverse=True)
    alike = _jaccard(member[common], before, int(member.max()) + 1)
    alike[alike < SAME] = 0.0  # else many small likenesses might outweigh one cluster that is clearly the same
    now, then = linear_sum_assignment(alike, maximize=True)
    return {int(one): str(labels[other]) for one, other in zip(now, then, strict=True) if alike[one, other] >= SAME}


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """What became of names: `came_from`, a new name -> the former one of half or more of its known cells (a split);
    `went_to`, a name that ended -> the present one of half or more of its cells that are still there (a merger)."""

    came_from: dict[str, str]
    went_to: dict[str, str]


def lineage(former: Mapping[str, str], cell_uids: Sequence[str], named: Sequence[str]) -> Lineage:
    """Tell splits and mergers; `named` is the name of each cell's cluster now, in the order of `cell_uids`."""
    now = {uid: name for uid, name in zip(cell_uids, named, strict=True) if uid in former}
    begun, ended = set(now.values()) - set(former.values()), set(former.values()) - set(named)
    then = {uid: former[uid] for uid in now}
    return Lineage(came_from=_mostly(begun, now, then), went_to=_mostly(ended, then, now))


def _mostly(wanted: set[str], of: Mapping[str, str], other: Mapping[str, str]) -> dict[str, str]:
    """For each wanted name, the name on the other side that half or more of its cells have."""
    tallies = {name: Counter[str]() for name in sorted(wanted)}
    for uid, name in of.items():
        if name in tallies:
            tallies[name][other[uid]] += 1
    first = {name: min(tally, key=lambda one: (-tally[one], one)) for name, tally in tallies.items() if tally}
    return {name: one for name, one in first.items() if tallies[name][one] >= HALF * tallies[name].total()}


def _require_sound(cell_uids: Sequence[str], member: Members) -> npt.NDArray[np.object_]:
    uids = np.asarray(cell_uids, dtype=object)
    if not len(uids) or len(uids) != len(member) or len(set(uids)) != len(uids):
        raise BadInput(
            f"cluster names: {len(uids)} cells ({len(set(uids))} different) and {len(member)} cluster numbers; give one"
            " number a cell and each cell once"
        )
    if member.min() < 0 or not np.bincount(member).all():
        raise BadInput(
            f"cluster names: numbers {np.unique(member).tolist()[:20]}, expected 0, 1, 2, … without gaps; number the"
            " clusters anew"
        )
    return uids
