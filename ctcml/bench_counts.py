"""`ctcml bench counts`: do the intervals of counts hold the truth as often as they say? On SIMULATED tubes.

The truth is not drawn from the formula under test. Each event has a score for every class: its own class stands out, a
patient's scores are shifted together (staining), and there is noise. The network is the best one for the average
patient: it knows the size of the shifts and the usual frequency of each class, but not those of this patient. Its
probabilities are therefore right on average and wrong together within a patient, by a shift of the score and by the
patient's own frequency of the class. Labels come from three readers who err. Worlds differ in what the interval does
not know of.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import gamma, kstest

from ctcml.calibration import Calibration, calibrate, probabilities_of, reading_error, tempered
from ctcml.counts import ARG_MAX, TUBE_ML, CellsInTube, Errors, chances_among, count_cells, sample_counts
from ctcml.measuring import Figure
from ctcml.simulate import NO_CTC

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

CLASSES = ("ctc", *NO_CTC)
CUTOFFS = {"breast": 5.0, "colorectal": 3.0}
STANDS_OUT = 3.2  # of the own class's score, in units of the noise: about 95 % of the events are called rightly
PRESENTED = (0.9, *[0.5] * len(NO_CTC))  # chance that the simulated CellSearch presents an event of each class
READER_ERROR = 0.05  # as simulate.reader_error in params.yaml
NEVER_MOVE = 1e12  # events that hold the frequencies where they are
NEAR = 2.0  # near the cut-off: between its half and its double


@dataclass(frozen=True, kw_only=True)
class World:
    """What is true of the simulated patients, and how many settled cells the calibration may learn from."""

    name: str
    shift: float = 0.15  # standard deviation of a patient's shift of each score, in units of the noise
    heavy: bool = False  # shifts follow Student's t with 3 degrees of freedom instead of the normal distribution
    oversure: float = 1.0  # by which the network multiplies its logits
    settled: int = 80
    steering_patients: int = 15


WORLDS = (
    World(name="80 settled cells"),
    World(name="no settled cell: the priors alone", settled=0),
    World(name="1,000 settled cells of 60 patients", settled=1000, steering_patients=60),
    World(name="80 cells, shifts twice as large", shift=0.3),
    World(name="80 cells, shifts of Student's t, 3 degrees of freedom", heavy=True),
    World(name="80 cells, network oversure by 1.6", oversure=1.6),
    World(name="no settled cell, network oversure by 1.6", oversure=1.6, settled=0),
)


@dataclass(frozen=True, kw_only=True)
class Tubes:
    """Simulated samples: `events` as `count_cells` takes them with `true` and `settled` classes, `samples` with the
    `concentration` of CTCs that the instrument presents, per tube."""

    events: pd.DataFrame
    samples: pd.DataFrame


def draw_tubes(patients: int, world: World, rng: np.random.Generator) -> Tubes:
    """Draw one tube a patient; CTCs are lognormal around 5 and other events around 65, as in `ctcml.simulate`."""
    level = rng.normal(size=patients)
    concentration = np.clip(5 * np.exp(1.35 * level), None, 110)
    rest = 65 * rng.lognormal(0, 0.3, patients)[:, None] * np.array(list(NO_CTC.values()))
    expected = np.column_stack([concentration, rest * rng.lognormal(0, 0.25, rest.shape)])
    numbers = rng.poisson(expected)
    sample = np.repeat(np.arange(patients), numbers.sum(axis=1))
    true = np.concatenate([np.repeat(np.arange(len(CLASSES)), row) for row in numbers])
    said = _network(true, sample, patients, world, rng)
    names = np.array([f"tube-{at:05d}" for at in range(patients)], dtype=object)
    events = pd.DataFrame(
        {
            "cell_uid": [f"event-{at}" for at in range(len(true))],
            "sample_uid": names[sample],
            "proposed": rng.random(len(true)) < np.array(PRESENTED)[true],
            "predicted": np.array(CLASSES, dtype=object)[said.argmax(axis=1)],
            "probabilities": list(said.astype(np.float32)),
            "true": true,
            "settled": settle(true, len(CLASSES), READER_ERROR, rng),
        }
    )
    samples = pd.DataFrame(
        {
            "sample_uid": names,
            "patient_uid": names,
            "cancer_type": rng.choice(list(CUTOFFS), patients),
            "blood_volume_ml": TUBE_ML,
            "concentration": concentration * PRESENTED[0],
        }
    )
    return Tubes(events=events, samples=samples)


def _network(true: Ints, sample: Ints, patients: int, world: World, rng: np.random.Generator) -> Floats:
    """Bayes' rule on the scores, with what is known of the average patient only."""
    errors = (
        rng.standard_t(3, (patients, len(CLASSES))) / 3**0.5
        if world.heavy
        else rng.normal(size=(patients, len(CLASSES)))
    )
    scores = rng.normal(size=(len(true), len(CLASSES))) + world.shift * errors[sample]
    scores[np.arange(len(true)), true] += STANDS_OUT
    usual = np.log(np.bincount(true, minlength=len(CLASSES)) + 1.0)
    logits = STANDS_OUT * scores / (1 + world.shift**2) + usual
    return np.asarray(softmax(world.oversure * logits, axis=1))


def settle(true: Ints, classes: int, error: float, rng: np.random.Generator) -> Ints:
    """What two readers and, where they differ, an adjudicator make of each event; each errs with chance `error`."""
    wrong = rng.random((3, len(true))) < error
    first, second, third = np.where(wrong, (true + rng.integers(1, classes, wrong.shape)) % classes, true)
    return np.asarray(np.where(first == second, first, third))


def calibrated(world: World, numbers: Mapping[str, Any], rng: np.random.Generator) -> Calibration:
    """What the stage would make of this world's steering set: random cells of patients of its own."""
    events = draw_tubes(world.steering_patients, world, rng).events
    chosen = events.sample(min(world.settled, len(events)), random_state=int(rng.integers(2**31)))
    names = np.array(CLASSES, dtype=object)
    return calibrate(
        events,
        chosen.assign(patient_uid=chosen["sample_uid"], class_id=names[chosen["settled"]]),
        classes=CLASSES,
        temperature_sd=numbers["temperature_sd"],
        spread=numbers["patient_spread"],
        spread_sd=numbers["patient_spread_sd"],
        frequency_events=numbers["frequency_events"],
        reading_error=reading_error(
            1 - (1 - READER_ERROR) ** 2,
            world.settled,
            prior=numbers["readers_differ"],
            prior_cells=numbers["readers_differ_cells"],
        ),
        read_twice=world.settled,
    )


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Shares of samples, and mean widths in cells per 7.5 ml, of the CTCs that were presented.

    `ours`, `independent` (Poisson-binomial of the network's own probabilities, as if every event erred alone) and
    `poisson` (the count and nothing else) are intervals of the concentration; `tube` and `tube_independent` of what
    experts settle in the tube, of which a bare count knows no interval.
    """

    held: dict[str, float]
    near: dict[str, float]
    width: dict[str, float]
    pit: float  # of the concentration: share of its probability integral transforms between 2.5 and 97.5 %
    tube_pit: float  # the same of the tube, randomised because numbers of cells are whole
    tube_uniform: float  # Kolmogorov-Smirnov distance of the tube's transforms from the uniform distribution
    flips: float  # share of samples whose concentration lies on the other side of the cut-off
    flip_risk: float  # what was said of it on average
    tube_flips: float
    tube_flip_risk: float
    calibration: Calibration
    seconds: float
    rows: int


def judge_world(
    world: World, *, samples: int, numbers: Mapping[str, Any], seed: int, thresholds: Sequence[float] = ()
) -> Judged:
    """Calibrate on one draw of the world's patients, count another, and compare with the truth.

    `numbers` is the section `counts` of params.yaml. The same seed gives the same patients in every
    world of the same shifts.
    """
    rng, interval = np.random.default_rng([seed, 1]), float(numbers["interval"])
    calibration = calibrated(world, numbers, np.random.default_rng([seed, 2]))
    tubes = draw_tubes(samples, world, rng)
    begun = time.monotonic()
    events = numbers["frequency_events"]
    table = _count(tubes, calibration, thresholds, interval, events)
    seconds = time.monotonic() - begun
    ours, independent = _presented_ctc(table), _presented_ctc(_count(tubes, _alone(), (), interval, NEVER_MOVE))
    truth = _truth(tubes).loc[ours.index]
    tail = (1 - interval) / 2
    reach = {
        "ours": (ours["low"], ours["high"], truth["concentration"]),
        "independent": (independent["low"], independent["high"], truth["concentration"]),
        "poisson": (*(gamma.ppf(one, ours["count"] + 0.5) for one in (tail, 1 - tail)), truth["concentration"]),
        "tube": (ours["tube_low"], ours["tube_high"], truth["settled"]),
        "tube_independent": (independent["tube_low"], independent["tube_high"], truth["settled"]),
    }
    held = {name: np.asarray((low <= true) & (true <= high)) for name, (low, high, true) in reach.items()}
    close = {name: _near(true, ours["cutoff"]) for name, (_, _, true) in reach.items()}
    pit, tube_pit = _transforms(tubes, calibration, truth, events, rng)
    above = ours["per_7_5_ml"] >= ours["cutoff"]
    return Judged(
        held={name: float(one.mean()) for name, one in held.items()},
        near={name: float(one[close[name]].mean()) for name, one in held.items()},
        width={name: float(np.mean(high - low)) for name, (low, high, _) in reach.items()},
        pit=_between(pit, tail),
        tube_pit=_between(tube_pit, tail),
        tube_uniform=float(kstest(tube_pit, "uniform").statistic),
        flips=float(((truth["concentration"] >= ours["cutoff"]) != above).mean()),
        flip_risk=float(ours["flip_risk"].mean()),
        tube_flips=float(((truth["settled"] >= ours["cutoff"]) != above).mean()),
        tube_flip_risk=float(ours["tube_flip_risk"].mean()),
        calibration=calibration,
        seconds=seconds,
        rows=len(table),
    )


def _alone() -> Calibration:
    """Every event errs alone, and the network's probabilities are taken at their word."""
    none = dict.fromkeys(CLASSES, 0.0)
    usual = dict.fromkeys(CLASSES, 1 / len(CLASSES))
    return Calibration(temperature=1.0, usual=usual, spread=none, reading_error=0.0, cells=0, patients=0, read_twice=0)


def _count(
    tubes: Tubes, by: Calibration, thresholds: Sequence[float], interval: float, frequency_events: float
) -> pd.DataFrame:
    return count_cells(
        tubes.events,
        tubes.samples,
        classes=CLASSES,
        thresholds=thresholds,
        interval=interval,
        cutoffs=CUTOFFS,
        exploratory_cutoffs={},
        temperature=by.temperature,
        usual=by.usual,
        spread=by.spread,
        frequency_events=frequency_events,
        reading_error=by.reading_error,
    )


def _presented_ctc(table: pd.DataFrame) -> pd.DataFrame:
    chosen = (table["class_id"] == "ctc") & (table["denominator"] == "proposed") & (table["threshold"] == ARG_MAX)
    return table[chosen].set_index("sample_uid")


def _truth(tubes: Tubes) -> pd.DataFrame:
    """By sample: the concentration, and the CTCs among the presented events as the experts settle them."""
    presented = tubes.events[tubes.events["proposed"] & (tubes.events["settled"] == CLASSES.index("ctc"))]
    settled = presented["sample_uid"].value_counts()
    truth = tubes.samples.set_index("sample_uid")[["concentration"]]
    return truth.assign(settled=settled.reindex(truth.index, fill_value=0))


def _near(true: pd.Series, cutoff: pd.Series) -> NDArray[np.bool_]:
    return np.asarray((true >= cutoff / NEAR) & (true <= cutoff * NEAR))


def _transforms(
    tubes: Tubes, by: Calibration, truth: pd.DataFrame, frequency_events: float, rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Where the truth lies in each distribution, 0 to 1: of the concentration, and of the tube (randomised)."""
    found = []
    for sample_uid, tube in _tubes(tubes, by, frequency_events):
        concentration, settled = truth.loc[sample_uid]
        fewer, not_more = tube.fewer_than(np.array([settled]))[0], tube.fewer_than(np.array([settled + 1]))[0]
        found.append(
            (tube.concentration_below(np.array([concentration]))[0], fewer + rng.random() * (not_more - fewer))
        )
    blood, in_tube = np.array(found).T
    return blood, in_tube


def _tubes(tubes: Tubes, by: Calibration, frequency_events: float) -> Iterator[tuple[str, CellsInTube]]:
    """What `count_cells` knows of the presented CTCs of each sample."""
    usual, spread = (np.array([of[name] for name in CLASSES]) for of in (by.usual, by.spread))
    errors = Errors(usual=usual, spread=spread, reading_error=by.reading_error)
    for sample_uid, events in tubes.events.groupby("sample_uid", sort=True):
        said = probabilities_of(events, CLASSES)
        chances = chances_among(events, tempered(said, by.temperature), usual, frequency_events)
        counts = sample_counts(events, said, chances, CLASSES, ARG_MAX, errors)
        row = counts.denominators.index("proposed") * len(CLASSES) + CLASSES.index("ctc")
        yield str(sample_uid), CellsInTube(weights=counts.tube.weights[row : row + 1])


def _between(transforms: Floats, tail: float) -> float:
    return float(((transforms >= tail) & (transforms <= 1 - tail)).mean())


def bench_counts(
    *,
    samples: int,
    seed: int,
    numbers: Mapping[str, Any],
    say: Callable[[str], None],
    worlds: Sequence[World] = WORLDS,
) -> list[Figure]:
    """Judge the intervals in each world; only the first is asked for more than to be reported."""
    figures: list[Figure] = []
    for world in worlds:
        say(f"{world.name}: {samples} simulated tubes")
        asked = world == worlds[0]
        thresholds = numbers["thresholds"] if asked else ()
        judged = judge_world(world, samples=samples, numbers=numbers, seed=seed, thresholds=thresholds)
        figures += _figures(world.name, judged, asked)
    return figures


def _figures(world: str, judged: Judged, asked: bool) -> list[Figure]:
    held, near, width = judged.held, judged.near, judged.width
    spread = judged.calibration.spread["ctc"]

    def figure(name: str, value: str, wanted: str = "") -> Figure:
        return Figure(name=f"{world} | {name}", value=value, asked=wanted if asked else "")

    def beside(of: dict[str, float], form: str) -> str:
        ours, alone, poisson = (f"{of[name]:{form}}" for name in ("ours", "independent", "poisson"))
        return f"{ours} (independent events {alone}, Poisson alone {poisson})"

    def tube(of: dict[str, float], form: str) -> str:
        return f"{of['tube']:{form}} (independent events {of['tube_independent']:{form}})"

    return [
        figure(
            "calibration",
            f"temperature {judged.calibration.temperature:.2f}, spread of CTC {spread:.2f}, "
            f"reading error {judged.calibration.reading_error:.4f}",
        ),
        figure("blood: interval holds the concentration", beside(held, ".1%"), ">= 93 %"),
        figure("blood: the same near the cut-off", beside(near, ".1%"), ">= 90 %"),
        figure("blood: PIT between 2.5 and 97.5 %", f"{judged.pit:.1%}", "93-97 %"),
        figure("blood: mean width per 7.5 ml", beside(width, ".2f")),
        figure("blood: flips said and seen", f"{judged.flip_risk:.1%} and {judged.flips:.1%}"),
        figure("tube: interval holds what experts settle", tube(held, ".1%"), ">= 93 %"),
        figure("tube: the same near the cut-off", tube(near, ".1%"), ">= 90 %"),
        figure(
            "tube: randomised PIT between 2.5 and 97.5 %",
            f"{judged.tube_pit:.1%}, distance from uniform {judged.tube_uniform:.3f}",
            "93-97 %",
        ),
        figure("tube: mean width per 7.5 ml", tube(width, ".2f")),
        figure("tube: flips said and seen", f"{judged.tube_flip_risk:.1%} and {judged.tube_flips:.1%}"),
        figure("time", f"{judged.seconds:.1f} s for {judged.rows} counts"),
    ]
