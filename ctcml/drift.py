"""Whether the samples that come now still look like those that the champion was trained on, instrument by instrument.

Each sample is set beside the reference of its own instrument and site: of every training tube as many cells as
the model learnt there, but drawn from all of its cells, since what was labelled is no fair sample. What was labelled after
the model's training is no part of it: drifted samples are read soon, and would be their own reference. `sample_distances` says how
far it lies, class by class.

Tubes differ anyway. How much is usual is learned from steering samples, robustly, because some of them may have drifted too.
A single sample beyond the bound says little, as a known share of undrifted ones is. An instrument alarms when more of its
latest samples are than chance explains, or when a martingale shows that its samples are not exchangeable over time.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ctcml.clinical import COVARIATE
from ctcml.ledger import Event, Ledger
from ctcml.random_arm import error_of, first_labels, learnt_until, random_arm
from ctcml.records import PLANES, Role
from ctcml.sample_distances import LEVELS, MEASURES, Looks, looks_of, sample_distances
from ctcml.tables import CLINICAL, EMBEDDING, TRUTH, read_folder, read_table
from ctcml.truth import evaluation_cells, training_cells
from ctcml.usual import DRAWS, Usual, exchangeability, most_by_chance, normal_scores, usual
from ctcml.workspace import Workspace

FEWEST_TUBES = 6  # of an instrument's own reference, as in `ctcml.shift`
FEWEST_USUAL = 5  # steering samples from which the bounds come; with fewer, training samples stand in
MOST_REFERENCE, MOST_CELLS = 1500, 500  # cells of a reference and of a sample: more say nothing new and cost time
RUN_DATE = f"{COVARIATE}run_date"  # a column of the clinical table that a laboratory may fill
BLOOD = ("patient", "benign")  # kinds of samples that are compared; cell lines and controls look otherwise by nature
OWN, OF_INSTRUMENT, OF_ALL = "its own instrument and site", "its own instrument", "all instruments"

Say = Callable[[str], None]


def drift_table(
    ws: Workspace, embeddings: Path, *, rate: float, min_cells: int, reference_cells: int, seed: int
) -> tuple[pd.DataFrame, dict[str, Usual]]:
    """Judge every tube of blood in the eyes of the model that made `embeddings`; a row a sample, and each measure's bound.

    The columns are those of `tables.DRIFT`, role (of the patient) and dated. The bounds are empty when there is nobody to learn
    from; then nothing drifts.
    """
    cells = read_folder(embeddings, EMBEDDING, columns=["cell_uid", "sample_uid", "predicted", "latent", "appearance"])
    kinds = ("patient_assigned", "historic_label", "settlement", "training", "data_version")
    events = list(Ledger(ws.ledger_snapshot).events(*kinds))
    samples = _samples(ws, set(cells["sample_uid"]), events)
    samples["learnt"] = samples["sample_uid"].map(_learnt(ws, events, made_of(embeddings)["model_version"])).fillna(0)
    cells = cells[cells["sample_uid"].isin(samples["sample_uid"])].reset_index(drop=True)
    parts = []
    if samples["learnt"].any():
        looks = looks_of(cells)
        for (instrument, site), members in samples.groupby(["instrument", "site"]):
            which, reference = _reference(samples, instrument, site, reference_cells)
            rng = np.random.default_rng([seed, 20])  # the same cells stand for a tube in every group
            beside = looks.take(_drawn(looks, reference, rng))
            judged = looks.take(_drawn(looks, dict.fromkeys(members["sample_uid"], MOST_CELLS), rng))
            parts.append(sample_distances(beside, judged, min_cells=min_cells).assign(reference=which))
    nothing = samples[["sample_uid"]].assign(cells=0, reference=OF_ALL, **dict.fromkeys((*MEASURES, *LEVELS), np.nan))
    table = samples.merge(pd.concat(parts) if parts else nothing, on="sample_uid")
    table["in_usual"] = _to_learn_from(table)
    rng = np.random.default_rng([seed, 21])
    bounds = {}
    if table["in_usual"].any():
        known = table.loc[table["in_usual"], list(MEASURES)].to_numpy(dtype=np.float64)
        bounds = {
            name: usual(column, rate=rate / len(MEASURES), rng=rng)
            for name, column in zip(MEASURES, known.T, strict=True)
        }
    return _judged(table, bounds, rng), bounds


def _reference(
    samples: pd.DataFrame, instrument: str, site: str, reference_cells: int
) -> tuple[str, Mapping[str, int]]:
    """The nearest reference that is large enough, and how many cells stand in it for each sample."""
    learnt = samples[samples["learnt"] > 0]
    of_instrument = learnt["instrument"] == instrument
    nearest = {OWN: learnt[of_instrument & (learnt["site"] == site)], OF_INSTRUMENT: learnt[of_instrument]}
    large = [name for name, one in nearest.items() if one["learnt"].sum() >= reference_cells and len(one) >= FEWEST_TUBES]  # fmt: skip
    which = large[0] if large else OF_ALL
    learnt = nearest.get(which, learnt)
    share = min(1.0, MOST_REFERENCE / learnt["learnt"].sum())
    wanted = (share * learnt["learnt"]).round().clip(lower=1).astype(int)
    return which, dict(zip(learnt["sample_uid"], wanted, strict=True))


def _drawn(looks: Looks, wanted: Mapping[str, int], rng: np.random.Generator) -> NDArray[np.int64]:
    """Rows of at most so many cells of each sample, at random."""
    rows_of = pd.Series(np.arange(len(looks.samples))).groupby(looks.samples).indices
    return np.concatenate([np.sort(rng.permutation(rows_of[uid])[:most]) for uid, most in wanted.items()])


def made_of(embeddings: Path) -> dict[str, Any]:
    """What the stage `embed` says of its table: the model's version in the registry, or None, and its classes."""
    told: dict[str, Any] = json.loads((embeddings / "made_of.json").read_text())
    return told


def _learnt(ws: Workspace, events: Sequence[Event], version: str | None) -> "pd.Series[int]":
    """How many cells of each sample the model could learn."""
    cells = training_cells(read_table(ws.truth, TRUTH))
    known = cells["cell_uid"].map(first_labels(events)).fillna(-1) < learnt_until(events, version)
    return cells.loc[known, "sample_uid"].value_counts()


def _samples(ws: Workspace, embedded: set[str], events: Sequence[Event]) -> pd.DataFrame:
    """Tubes of blood in order of time within their instrument: sample_uid, instrument, site, place, dated, role.

    The order is that of the run date where the laboratory tells it of every tube of the instrument, else that in which
    patients came to intake (what is in the ledger), a patient's tubes by the day of the draw.
    """
    samples = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
    samples = samples[samples["sample_kind"].isin(BLOOD) & samples["sample_uid"].isin(embedded)].copy()
    for name in ("instrument", "site"):
        samples[name] = samples[name].fillna("").replace("", f"unknown {name}")
    came = {event.body["patient_uid"]: event.seq for event in events if event.kind == "patient_assigned"}
    samples["role"] = samples["patient_uid"].map(json.loads(ws.roles.read_text()))
    samples["came"] = samples["patient_uid"].map(came)
    dates = samples[RUN_DATE] if RUN_DATE in samples else pd.Series(None, index=samples.index, dtype=object)
    samples["date"] = pd.to_datetime(dates, errors="coerce", format="ISO8601", utc=True)
    samples["dated"] = samples["date"].notna().groupby(samples["instrument"]).transform("all")
    samples.loc[~samples["dated"], "date"] = pd.NaT
    samples = samples.sort_values(["instrument", "date", "came", "draw_day", "sample_uid"], ignore_index=True)
    samples["place"] = samples.groupby("instrument").cumcount()
    return samples[["sample_uid", "instrument", "site", "place", "dated", "role"]]


def _to_learn_from(table: pd.DataFrame) -> "pd.Series[bool]":
    """Steering samples of instruments that the reference knows; training samples with too few of them, else nobody.

    A training sample is set beside the other tubes, and lies no nearer to them than steering samples do (measured).
    """
    known = table.loc[table["learnt"] > 0, "instrument"].unique()
    fit = table["latents"].notna() & table["instrument"].isin(known)
    for role in (Role.STEERING, Role.TRAIN):
        chosen = fit & (table["role"] == role)
        if chosen.sum() >= FEWEST_USUAL:
            return chosen
    return fit & False


def _judged(table: pd.DataFrame, bounds: Mapping[str, Usual], rng: np.random.Generator) -> pd.DataFrame:
    """Add departure (1 at the bound), strongest, p, drifts, and the martingale over each instrument's samples."""
    judged = table["latents"].notna() & bool(bounds)
    table = table.assign(departure=np.nan, p=np.nan, strongest="", drifts=False, martingale=np.nan)
    if not judged.any():
        return table
    distances = table.loc[judged, list(MEASURES)].to_numpy(dtype=np.float64)
    all_usual = [bounds[name] for name in MEASURES]
    middle, spread, bound = (
        np.array([getattr(one, name) for one in all_usual]) for name in ("middle", "spread", "bound")
    )
    beyond = (distances - middle) / (bound - middle)
    normal = np.sort(normal_scores(all_usual[0].samples, 1, DRAWS, rng)[:, 0])
    rarer = 1 - np.searchsorted(normal, (distances - middle) / spread) / (DRAWS + 1)
    table.loc[judged, "departure"] = beyond.max(axis=1)
    table.loc[judged, "p"] = np.minimum(1.0, len(MEASURES) * rarer.min(axis=1))
    table.loc[judged, "strongest"] = np.array(MEASURES)[beyond.argmax(axis=1)]
    table.loc[judged, "drifts"] = beyond.max(axis=1) > 1
    for _, rows in table[judged].groupby("instrument"):
        table.loc[rows.index, "martingale"] = exchangeability(rows["departure"].to_numpy(dtype=np.float64), rng)
    return table


def drift_share(
    ws: Workspace, embeddings: Path, *, rate: float, min_cells: int, reference_cells: int, seed: int
) -> float:
    """The share of samples that drift in the latents of the model that made `embeddings`, the bound's own samples aside.

    By its own classes, reference and bound, so two models can be compared; NaN when there is nothing to tell it from.
    """
    table, bounds = drift_table(
        ws, embeddings, rate=rate, min_cells=min_cells, reference_cells=reference_cells, seed=seed
    )
    told = table[table["latents"].notna() & ~table["in_usual"]]
    if not bounds or not len(told):
        return float("nan")
    return float((told["latents"] > bounds["latents"].bound).mean())


def look_for_drift(
    ws: Workspace,
    *,
    rate: float,
    min_cells: int,
    reference_cells: int,
    recent: int,
    chance: float,
    bound: float,
    bootstrap: int,
    seed: int,
    simulated: bool,
    say: Say,
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Judge all samples in the champion's eyes; returns `drift_table` and the report, fit for JSON.

    `alarms` are sentences, `alarmed` names what alarms, the same as long as nothing changes.
    """
    table, bounds = drift_table(
        ws, ws.embeddings, rate=rate, min_cells=min_cells, reference_cells=reference_cells, seed=seed
    )
    rng = np.random.default_rng([seed, 22])
    known = next(iter(bounds.values())).samples if bounds else 0
    instruments = {
        str(name): _instrument(rows, known, rate=rate, recent=recent, chance=chance, bound=bound, rng=rng)
        for name, rows in table.groupby("instrument")
    }
    arm = random_arm_of(ws, bootstrap=bootstrap, rng=rng)
    by_name = {f"instrument {name}": one["says"] for name, one in instruments.items() if one["alarm"]}
    by_name |= {"random arm": arm["says"]} if arm["alarm"] else {}
    report: dict[str, Any] = {
        "simulated": simulated,
        "alarm": bool(by_name),
        "alarms": [f"{name.removeprefix('instrument ')}: {sentence}" for name, sentence in by_name.items()],
        "alarmed": list(by_name),
        "rate": rate,
        "usual_from": _learned_from(table),
        "usual": {name: asdict(one) for name, one in bounds.items()},
        "samples": len(table),
        "judged": int(table["departure"].notna().sum()),
        "drifting": int(table["drifts"].sum()),
        "instruments": instruments,
        "groups": _groups(table),
        "random_arm": arm,
    }
    for sentence in report["alarms"]:
        say(sentence)
    say(f"{report['drifting']} of {report['judged']} samples beyond the bound; {report['usual_from']}")
    return table, report


def _learned_from(table: pd.DataFrame) -> str:
    roles = table.loc[table["in_usual"], "role"]
    if not len(roles):
        return "too few steering and training samples to say what is usual: nothing alarms; take in more patients"
    few = "" if roles.iloc[0] == Role.STEERING else f", as fewer than {FEWEST_USUAL} steering samples can be judged"
    return f"what is usual comes from {len(roles)} {roles.iloc[0]} samples{few}"


def _instrument(
    rows: pd.DataFrame, known: int, *, rate: float, recent: int, chance: float, bound: float, rng: np.random.Generator
) -> dict[str, Any]:
    """One instrument's samples, in order: its latest ones, and exchangeability over time."""
    judged = rows[rows["departure"].notna()].sort_values("place")
    # Those from which the bound was learned lie below it by construction.
    latest = judged[~judged["in_usual"]].tail(recent)
    beyond = int(latest["drifts"].sum())
    most = (
        most_by_chance(known, len(latest), measures=len(MEASURES), rate=rate, chance=chance, rng=rng)
        if len(latest)
        else 0
    )
    path = judged["martingale"].to_numpy(dtype=np.float64)
    ended = float(path[-recent:].max()) if len(path) else 1.0
    ordered = "run date" if rows["dated"].all() else "intake"
    said = []
    if beyond > most:
        beside = " or ".join(sorted(latest["reference"].unique()))
        said.append(
            f"{beyond} of its last {len(latest)} samples look unlike the training cells of {beside} (chance gives {most} at most)"
        )
    if ended >= bound:
        said.append(f"its samples are not exchangeable in order of {ordered} (martingale {ended:.0f}, bound {bound:g})")
    if said:
        said += _moved(latest[latest["drifts"]] if beyond > most else judged.tail(recent))
        said.append("look at lamp, stain and exposure, then have cells of it read and train again")
    return {
        "samples": len(rows),
        "judged": len(judged),
        "drifting": int(judged["drifts"].sum()),
        "latest": len(latest),
        "latest_drifting": beyond,
        "most_by_chance": most,
        "martingale": ended,
        "highest": float(path.max()) if len(path) else 1.0,
        "bound": bound,
        "order": ordered,
        "alarm": bool(said),
        "says": "; ".join(said) or ("no drift seen" if len(judged) else "no sample could be judged"),
    }


def _moved(samples: pd.DataFrame) -> list[str]:
    """What moved in the channels, for people: those whose median cell lies where hardly any should."""
    levels = samples[list(LEVELS)].median()
    told = [
        f"{plane} is {'brighter' if level > 0.5 else 'darker'} than {min(max(level, 1 - level), 0.99):.0%} of the same class"
        for plane, level in zip(PLANES, levels, strict=True)
        if abs(level - 0.5) > 0.2
    ]
    return [", ".join(told)] if told else []


def _groups(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A row an instrument and site; the share of drifting samples leaves out those that the bound was learned from."""
    found = []
    for (instrument, site), rows in table.groupby(["instrument", "site"]):
        told = rows[rows["departure"].notna() & ~rows["in_usual"]]
        found.append(
            {
                "instrument": instrument,
                "site": site,
                "samples": len(rows),
                "judged": len(told),
                "drifting": int(told["drifts"].sum()),
                "share": float(told["drifts"].mean()) if len(told) else None,
                "reference": str(rows["reference"].iloc[0]),
            }
        )
    return found


def random_arm_of(ws: Workspace, *, bootstrap: int, rng: np.random.Generator) -> dict[str, Any]:
    """The champion's error on the standing random arm, round by round, beside that on settled steering cells."""
    cells = read_folder(ws.embeddings, EMBEDDING, columns=["cell_uid", "predicted"])
    truth = read_table(ws.truth, TRUTH).merge(cells, on="cell_uid")
    about = made_of(ws.embeddings)
    events = list(
        Ledger(ws.ledger_snapshot).events("queued", "settlement", "historic_label", "training", "data_version")
    )
    arm = random_arm(
        events,
        training_cells(truth),
        version=about["model_version"],
        classes=about["classes"],
        bootstrap=bootstrap,
        rng=rng,
    )
    beside = error_of(evaluation_cells(truth, Role.STEERING), about["classes"], bootstrap, rng)
    new = [one for one in arm if not one["learnt"]]
    alarm = bool(new and beside["cells"] and new[-1]["low"] > beside["high"])
    says = "no newer round to judge the champion by"
    if new:
        says = f"error {new[-1]['error']:.1%} ({new[-1]['low']:.1%} to {new[-1]['high']:.1%}) on {new[-1]['cells']} random cells of {new[-1]['occasion']}"
        says += f", on steering cells {beside['error']:.1%} ({beside['low']:.1%} to {beside['high']:.1%})" * bool(
            beside["cells"]
        )
        says += "; train again with what was read" * alarm
    return {"alarm": alarm, "says": says, "rounds": arm, "steering": beside}
