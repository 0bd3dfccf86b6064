"""Samples that moved are told from samples that merely differ; instruments alarm by more than chance; the random arm is read right."""

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from factories import NOON, a_historic, a_ledger, a_patient, a_queued
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from ctcml import stages
from ctcml.appearance import NAMES, appearance
from ctcml.clinical import COVARIATE
from ctcml.drawn_cells import DrawnCell, draw_cells
from ctcml.drift import OF_ALL, OF_INSTRUMENT, OWN, RUN_DATE, drift_share, drift_table
from ctcml.errors import BadInput
from ctcml.images import to_inputs
from ctcml.instruments_in_silico import FIRST, INSTRUMENTS, seen_by
from ctcml.ledger import Draft, Ledger, snapshot
from ctcml.params import load_params
from ctcml.random_arm import random_arm
from ctcml.records import PAPER_CLASSES
from ctcml.sample_distances import MEASURES, Looks, sample_distances
from ctcml.tables import CLINICAL, DRIFT, EMBEDDING, TRUTH, read_table, write_table
from ctcml.usual import exchangeability, most_by_chance, usual
from ctcml.workspace import Workspace

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
NUMBERS: dict[str, Any] = {"rate": 0.05, "min_cells": 15, "reference_cells": 200, "seed": 20}
CLASSES = [one.class_id for one in PAPER_CLASSES]
Floats = npt.NDArray[np.float64]


# How far a sample lies.


def tubes(number: int, *, seed: int, per_tube: int = 60, kinds: int = 4, prefix: str = "t", moved: float = 0.0, shares: Sequence[float] | None = None) -> Looks:  # fmt: skip
    """Classes that lie far apart, in tubes that differ by their stain; `moved` moves one appearance and one latent."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(0, 6, (kinds, len(NAMES)))
    tube = np.repeat(np.arange(number), per_tube)
    kind = rng.choice(kinds, len(tube), p=shares)
    looks = centres[kind] + rng.normal(0, 0.3, (number, len(NAMES)))[tube] + rng.normal(0, 1, (len(tube), len(NAMES)))
    looks[:, NAMES.index("ck_brightness")] += moved
    return Looks(
        latents=looks[:, ::2].copy(), appearance=looks, predicted=np.array([f"class {one}" for one in kind]),
        samples=np.array([f"{prefix}{one:02d}" for one in tube]),
    )  # fmt: skip


def test_only_what_moved_lies_far_and_neither_many_ctcs_nor_few_cells_nor_being_in_the_reference_does() -> None:
    reference = tubes(24, seed=1)
    found = {
        "own": sample_distances(reference, reference, min_cells=20),
        "new": sample_distances(reference, tubes(24, seed=2), min_cells=20),
        "one class": sample_distances(reference, tubes(24, seed=3, shares=[0.9, 0.1, 0, 0]), min_cells=20),
        "small": sample_distances(reference, tubes(24, seed=4, per_tube=25), min_cells=20),
        "moved": sample_distances(reference, tubes(24, seed=5, moved=-2.0), min_cells=20),
    }
    middles = {name: one[list(MEASURES)].median() for name, one in found.items()}
    for name in ("own", "one class", "small"):
        assert middles[name]["latents"] == pytest.approx(middles["new"]["latents"], abs=0.02), name
        assert middles[name]["appearance"] == pytest.approx(middles["new"]["appearance"], abs=0.02), name
        assert middles[name]["intensity"] < 0.4, name
    assert found["moved"]["appearance"].min() > found["new"]["appearance"].max()
    assert found["moved"]["intensity"].median() > found["new"]["intensity"].max()
    assert found["moved"]["ck_level"].max() < 0.3
    assert found["moved"]["dapi_level"].median() == pytest.approx(0.5, abs=0.15)
    assert found["moved"]["cells"].eq(60).all()


def test_cells_of_a_class_that_the_reference_hardly_has_are_left_out_and_too_few_cells_are_not_judged() -> None:
    reference, cells = tubes(12, seed=1, kinds=3), tubes(3, seed=2)  # of a fourth class the reference has none
    found = sample_distances(reference, cells, min_cells=20)
    known = pd.Series(cells.predicted != "class 3").groupby(cells.samples).sum()
    assert found["cells"].tolist() == known.tolist()
    assert found["latents"].max() < 0.3
    assert sample_distances(reference, cells, min_cells=60)[list(MEASURES)].isna().all(axis=None)
    with pytest.raises(BadInput, match="one row a cell"):
        Looks(latents=np.zeros((2, 1)), appearance=np.zeros((2, 33)), predicted=np.array(["a"]), samples=np.array(["s", "s"]))  # fmt: skip


# What is usual, and what chance explains.


@pytest.mark.parametrize("known", [5, 15, 40])
def test_the_bound_is_exceeded_as_often_as_it_says_however_few_samples_it_comes_from(known: int) -> None:
    rng = np.random.default_rng(7)
    beyond = [
        rng.normal(0.2, 0.05, 200) > usual(rng.normal(0.2, 0.05, known), rate=0.05, rng=rng).bound for _ in range(25)
    ]
    assert np.mean(beyond) == pytest.approx(0.05, abs=0.03)


def test_a_tenth_of_drifted_samples_among_those_it_comes_from_hardly_moves_the_bound() -> None:
    rng = np.random.default_rng(8)
    sound = rng.normal(0.2, 0.05, 20)
    spoilt = np.concatenate([sound[:18], [0.9, 0.9]])
    drifted = 0.5
    assert usual(spoilt, rate=0.05, rng=rng).bound < drifted
    assert np.sort(spoilt)[-1] > drifted  # as an order statistic would have it
    with pytest.raises(BadInput, match="2 finite ones"):
        usual(np.array([0.1, np.nan]), rate=0.05, rng=rng)


def test_chance_gives_more_samples_beyond_a_bound_that_comes_from_few() -> None:
    rng = np.random.default_rng(9)
    few, many = (most_by_chance(known, 20, measures=3, rate=0.05, chance=0.01, rng=rng) for known in (6, 100))
    assert many in (4, 5)  # binomial: P(more than 4 of 20 at 5 %) = 0.003
    assert few > many


def test_exchangeable_samples_seldom_raise_the_capital_and_a_change_does() -> None:
    rng = np.random.default_rng(10)
    calm = [exchangeability(rng.normal(size=60), rng).max() for _ in range(100)]
    assert np.mean(np.array(calm) >= 20) <= 0.08  # Ville: 1 / 20 at the most
    moved = [exchangeability(np.r_[rng.normal(size=40), rng.normal(3, 1, 15)], rng).max() for _ in range(40)]
    assert np.mean(np.array(moved) >= 100) > 0.75
    assert exchangeability(np.ones(30), rng).shape == (30,)  # ties are dealt by lot


# A workspace.


def a_workspace(root: Path, looks: Looks, clinical: pd.DataFrame, roles: Sequence[str], *later: Draft) -> Workspace:
    """What the stage reads, for samples of the patients p00, p01, …: half of the cells of those that are not sealed are labelled.

    The model "2" learnt from them, but for samples c…, which came later; `later` ends the ledger.
    """
    ws = Workspace(root / "lab")
    samples = clinical["sample_uid"].tolist()
    patients = [f"p{number:02d}" for number in range(len(samples))]
    embedding = pd.DataFrame({"cell_uid": [f"{sample}-{number}" for number, sample in enumerate(looks.samples)], "sample_uid": looks.samples, "predicted": looks.predicted, "latent": list(looks.latents), "appearance": list(looks.appearance), "energy": 0.0})  # fmt: skip
    embedding = embedding.assign(probabilities=[[1.0]] * len(looks.samples), reconstruction_error=[[0.0]] * len(looks.samples))  # fmt: skip
    write_table(embedding[list(EMBEDDING)], EMBEDDING, ws.embeddings / "all.parquet")
    (ws.embeddings / "made_of.json").write_text(json.dumps({"model_version": "2", "classes": sorted(set(looks.predicted))}))  # fmt: skip
    truth = embedding.iloc[::2][["cell_uid", "sample_uid"]].assign(class_id=looks.predicted[::2], how="both readers")
    truth["role"] = truth["sample_uid"].map(dict(zip(samples, roles, strict=True)))
    truth["patient_uid"] = truth["sample_uid"].map(dict(zip(samples, patients, strict=True)))
    truth["purpose"] = np.where(truth["role"] == "train", "training", "evaluation")
    truth = truth[truth["role"] != "sealed"]
    write_table(truth[list(TRUTH)], TRUTH, ws.truth)
    clinical = clinical.assign(patient_uid=patients, cancer_type="breast", blood_volume_ml=7.5)
    clinical = clinical.reindex(columns=[*CLINICAL, *(name for name in clinical if name.startswith(COVARIATE))])
    write_table(clinical, CLINICAL, ws.clinical, extra_prefix=COVARIATE)
    ws.roles.write_text(json.dumps(dict(zip(patients, roles, strict=True))))
    late = truth["sample_uid"].str.startswith("c")
    drafts = [
        *(a_patient(*one) for one in zip(patients, roles, strict=True)),
        *a_historic(*truth.loc[~late, "cell_uid"]),
        Draft(kind="data_version", by="test", body={"tag": "data-1"}),
        Draft(kind="training", by="test", body={"version": "2", "data_version": "data-1"}),
        *a_historic(*truth.loc[late, "cell_uid"]),
    ]
    snapshot(a_ledger(ws.ledger, *drafts, *later), ws.ledger_snapshot)
    return ws


def clinic(samples: Sequence[str], **columns: Any) -> pd.DataFrame:
    plain = {"sample_kind": "patient", "instrument": "CellTracks 1", "site": "A", f"{COVARIATE}simulated": "yes"}
    return pd.DataFrame({"sample_uid": list(samples)}).assign(**plain | columns)


ROLES = ["train"] * 5 + ["steering"] * 2 + ["sealed"]  # by eights


def together(*parts: Looks) -> Looks:
    return Looks(**{name: np.concatenate([getattr(one, name) for one in parts]) for name in vars(parts[0])})


def test_the_stage_names_the_instrument_that_moved_and_what_moved_and_leaves_the_other_in_peace(tmp_path: Path) -> None:
    looks = together(tubes(32, seed=1, per_tube=40, prefix="a"), tubes(24, seed=2, per_tube=40, prefix="b"), tubes(16, seed=3, per_tube=40, prefix="c", moved=-3.0))  # fmt: skip
    samples = sorted(set(looks.samples))
    instruments = ["CellTracks 1"] * 32 + ["CellTracks 2"] * 40
    read_since = [f"c{number // 40:02d}-{56 * 40 + number}" for number in range(0, 80, 2)]
    queued = [*a_queued("a00-0", "a01-40", occasion="round-1"), *a_queued(*read_since, occasion="round-2")]
    ws = a_workspace(tmp_path, looks, clinic(samples, instrument=instruments), ROLES * 9, *queued)
    said: list[str] = []
    stages.drift(ws, seed=20, drift=PARAMS.drift.model_copy(update={"bootstrap": 50}), say=said.append)
    report, table = json.loads(ws.drift.read_text()), read_table(ws.drift_samples, DRIFT)
    assert report["alarmed"] == ["instrument CellTracks 2"]
    assert report["alarm"]
    calm, moved = (report["instruments"][f"CellTracks {number}"] for number in (1, 2))
    assert calm["says"] == "no drift seen"
    assert moved["latest_drifting"] > moved["most_by_chance"]
    assert moved["martingale"] >= PARAMS.drift.bound
    assert "CK is darker than 99% of the same class" in report["alarms"][0]
    assert "have cells of it read" in report["alarms"][0]
    assert said[0] == report["alarms"][0]
    # Steering samples are among those that moved, and training samples too, whose labels the model never saw.
    drifted = table["sample_uid"].str.startswith("c")
    assert table.loc[drifted & ~table["in_usual"], "drifts"].mean() > 0.9
    assert table.loc[~drifted, "drifts"].mean() < 0.12
    assert (table.loc[table["drifts"], "departure"] > 1).all()
    assert (table.loc[table["drifts"], "p"] < 0.06).all()
    assert set(table["reference"]) == {OWN}
    assert report["usual_from"] == f"what is usual comes from {table['in_usual'].sum()} steering samples"
    assert report["simulated"]
    first, second = report["random_arm"]["rounds"]
    assert (first["learnt"], second["learnt"], second["cells"], second["wrong"]) == (True, False, 40, 0)
    assert not report["random_arm"]["alarm"]
    drawn = ["random-arm.png", "random-arm.svg", "samples.png", "samples.svg"]
    assert sorted(one.name for one in ws.pictures.glob("drift/*")) == drawn
    again, _ = drift_table(ws, ws.embeddings, **NUMBERS | {"min_cells": PARAMS.drift.min_cells})
    assert again["departure"].to_numpy() == pytest.approx(table["departure"].to_numpy(), abs=1e-6)


def test_the_reference_is_the_nearest_that_is_large_enough_and_cell_lines_are_left_out(tmp_path: Path) -> None:
    looks = tubes(24, seed=1)
    samples = sorted(set(looks.samples))
    places = {
        "instrument": ["one"] * 16 + ["two"] * 7 + ["one"],
        "site": [*"A" * 13, *"B" * 3, *"A" * 8],
        "sample_kind": ["patient"] * 23 + ["cell_line"],
    }
    ws = a_workspace(tmp_path, looks, clinic(samples, **places), ROLES * 3)
    table, bounds = drift_table(ws, ws.embeddings, **NUMBERS)
    found = table.groupby(["instrument", "site"])["reference"].unique().map(list).to_dict()
    assert found == {("one", "A"): [OWN], ("one", "B"): [OF_INSTRUMENT], ("two", "A"): [OF_ALL]}
    assert len(table) == 23
    assert set(bounds) == set(MEASURES)


def test_samples_are_in_order_of_the_run_date_where_all_have_one_else_of_intake(tmp_path: Path) -> None:
    looks = tubes(16, seed=1, per_tube=20)
    samples = sorted(set(looks.samples))
    dates = [f"2026-03-{16 - number:02d}" for number in range(8)] + ["2026-03-01"] * 7 + [None]
    dated = {"instrument": ["one"] * 8 + ["two"] * 8, RUN_DATE: dates}
    ws = a_workspace(tmp_path, looks, clinic(samples, **dated), ROLES * 2)
    table, _ = drift_table(ws, ws.embeddings, **NUMBERS)
    assert table.loc[table["instrument"] == "one", "sample_uid"].tolist() == samples[7::-1]
    assert table.loc[table["instrument"] == "two", "sample_uid"].tolist() == samples[8:]
    assert table.groupby("instrument")["dated"].all().to_dict() == {"one": True, "two": False}


def test_the_share_for_the_gate_is_of_the_model_s_own_latents_and_nothing_is_told_from_nothing(tmp_path: Path) -> None:
    looks = together(tubes(24, seed=1, per_tube=40, prefix="a"), tubes(8, seed=3, per_tube=40, prefix="d"))
    samples, roles = sorted(set(looks.samples)), [*ROLES * 3, *["sealed"] * 8]
    touchy = looks.latents.copy()
    touchy[np.char.startswith(looks.samples, "d")] += 1.0
    shares = []
    for name, latents in (("champion", looks.latents), ("challenger", touchy)):
        ws = a_workspace(tmp_path / name, Looks(**vars(looks) | {"latents": latents}), clinic(samples), roles)
        shares.append(drift_share(ws, ws.embeddings, **NUMBERS))
    assert shares[0] < 0.15
    assert shares[1] == pytest.approx(shares[0] + 8 / 26, abs=0.08)
    write_table(read_table(ws.truth, TRUTH).iloc[:0], TRUTH, ws.truth)
    assert np.isnan(drift_share(ws, ws.embeddings, **NUMBERS))
    stages.drift(ws, seed=20, drift=PARAMS.drift, say=lambda _: None)
    report = json.loads(ws.drift.read_text())
    assert (report["judged"], report["alarm"]) == (0, False)
    assert report["usual_from"].startswith("too few steering and training samples")


# The random arm.


def test_the_random_arm_is_judged_by_round_and_says_what_the_champion_has_learnt() -> None:
    def settled(cell: str) -> Draft:
        return Draft(kind="settlement", by="test", body={"cell_uid": cell})

    cells = [f"c{number}" for number in range(8)]
    drafts = [
        *a_queued(*cells[:4], occasion="round-1"),
        *a_queued("c8", occasion="round-1", reason="border"),
        *[settled(cell) for cell in cells[:4]],
        Draft(kind="data_version", by="test", body={"tag": "data-1"}),
        *a_queued(*cells[4:], occasion="round-2"),
        *[settled(cell) for cell in [*cells[4:], "c8"]],
        Draft(kind="training", by="test", body={"version": "2", "data_version": "data-1"}),
    ]
    events = ledger_of(drafts)
    table = pd.DataFrame({"cell_uid": [*cells, "c8"], "patient_uid": list("aabbccdde")})
    table = table.assign(class_id=["wbc"] * 7 + ["new", "wbc"], predicted=["wbc", "ctc"] + ["wbc"] * 6 + ["ctc"])
    numbers: dict[str, Any] = {"classes": ["ctc", "wbc"], "bootstrap": 200, "rng": np.random.default_rng(1)}
    first, second = random_arm(events, table, version="2", **numbers)
    assert (first["occasion"], first["cells"], first["patients"], first["wrong"]) == ("round-1", 4, 2, 1)
    assert (second["wrong"], second["unknown"], second["error"]) == (1, 1, 0.25)
    assert (first["learnt"], second["learnt"]) == (True, False)
    assert first["low"] == 0
    assert first["high"] == 0.5
    # A ledger that was frozen before the champion's training was all there to learn from.
    assert all(one["learnt"] for one in random_arm(events[:-1], table, version="2", **numbers))


def ledger_of(drafts: Sequence[Draft]) -> list[Any]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "ledger.jsonl")
        ledger.append(drafts, now=NOON)
        return list(ledger.events())


# Simulated instruments.


def pictured(cells: Sequence[DrawnCell], instrument: str, seed: int) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(seed)
    seen = [seen_by(INSTRUMENTS[instrument], one.restored, rng) for one in cells]
    return to_inputs(seen, recipe="asinh", background_percentile=10.0, asinh_scale=60.0)


def shares_beyond(
    reference: Looks, steering: Looks, judged: dict[str, Looks], *, min_cells: int, seed: int
) -> dict[str, float]:
    """The share of samples of each kind beyond any bound, as the stage has it."""
    rng = np.random.default_rng(seed)
    known = sample_distances(reference, steering, min_cells=min_cells)
    bounds = [usual(known[name].dropna().to_numpy(), rate=0.05 / len(MEASURES), rng=rng).bound for name in MEASURES]
    shares = {}
    for name, looks in judged.items():
        found = sample_distances(reference, looks, min_cells=min_cells)[list(MEASURES)].dropna()
        shares[name] = float((found.to_numpy() > bounds).any(axis=1).mean())
    return shares


def test_simulated_instruments_are_caught_and_the_first_one_hardly_ever() -> None:
    """With a linear discriminant of appearance in the network's place; the trial below trains one."""
    drawn = draw_cells(4, patients=30, objects=24)
    kinds, patient = np.array([one.kind for one in drawn]), np.array([one.patient for one in drawn])
    looks = appearance(pictured(drawn, FIRST, 1))
    learnt = LinearDiscriminantAnalysis().fit(looks[patient < 12], kinds[patient < 12])

    def seen(rows: npt.NDArray[Any], how: npt.NDArray[np.float32]) -> Looks:
        samples = np.array([f"p{one:02d}" for one in patient[rows]])
        return Looks(latents=learnt.transform(how), appearance=how, predicted=learnt.predict(how), samples=samples)

    parts = {"train": patient < 12, "steering": (patient >= 12) & (patient < 22), "new": patient >= 22}
    new = np.flatnonzero(parts["new"])
    judged = {"first": seen(new, looks[new])} | {
        name: seen(new, appearance(pictured([drawn[at] for at in new], name, 2))) for name in ("gain", "larger pixels")
    }
    train, steering = (seen(np.flatnonzero(parts[name]), looks[parts[name]]) for name in ("train", "steering"))
    shares = shares_beyond(train, steering, judged, min_cells=10, seed=4)
    assert shares["first"] <= 0.2
    assert shares["gain"] > 0.6
    assert shares["larger pixels"] > 0.6


@pytest.mark.trial
@pytest.mark.parametrize("seed", range(2))
def test_undrifted_samples_alarm_at_the_nominal_rate_and_shifted_ones_are_caught(
    seed: int, figure: Callable[[str, str], None], tmp_path: Path, one_thread: None
) -> None:
    """A network trained on 50 simulated patients; 25 steering patients give the bounds, 45 new ones are judged."""
    import torch

    from ctcml.train import train

    drawn = draw_cells(seed, patients=120, objects=36)
    kinds, patient = np.array([one.kind for one in drawn]), np.array([one.patient for one in drawn])
    images = pictured(drawn, FIRST, seed)
    classes = sorted(set(kinds))
    trained = train(
        images[patient < 50], np.array([classes.index(kind) for kind in kinds[patient < 50]]), classes=classes, seed=seed,
        recipe="asinh", start=None, checkpoints=tmp_path, steering=None, progress=lambda _: None, jitter=None, device="cpu",
        **PARAMS.train.numbers("modern") | {"network": "standard", "betas": (100.0,), "epochs": (6,), "keep_phase": 1},
    )  # fmt: skip
    trained.model.eval()

    def seen(rows: npt.NDArray[Any], pictures: npt.NDArray[np.uint8]) -> Looks:
        with torch.inference_mode():
            parts = [
                trained.model.encode(torch.from_numpy(pictures[at : at + 64]).permute(0, 3, 1, 2).float() / 255)
                for at in range(0, len(pictures), 64)
            ]
        says, latents = (torch.cat([part[at] for part in parts]).numpy() for at in (0, 1))
        samples = np.array([f"p{one:03d}" for one in patient[rows]])
        return Looks(latents=latents, appearance=appearance(pictures), predicted=np.array(classes)[says.argmax(axis=1)], samples=samples)  # fmt: skip

    train_rows, steering_rows, new = (np.flatnonzero((patient >= low) & (patient < high)) for low, high in ((0, 50), (50, 75), (75, 120)))  # fmt: skip
    judged = {FIRST: seen(new, images[new])}
    for name in ("gain", "noise", "blur", "gamma", "illumination gradient", "bleed-through", "larger pixels", "8 bit without tags"):  # fmt: skip
        judged[name] = seen(new, pictured([drawn[at] for at in new], name, seed + 100))
    shares = shares_beyond(seen(train_rows, images[train_rows]), seen(steering_rows, images[steering_rows]), judged, min_cells=15, seed=seed)  # fmt: skip
    for name, share in shares.items():
        figure(f"drift, seed {seed}: samples beyond the bound, {name}", f"{share:.0%}")
    assert shares.pop(FIRST) <= 0.15
    assert np.mean(list(shares.values())) > 0.75


@pytest.mark.real
@pytest.mark.skipif("CTCML_REAL_DATA" not in os.environ, reason="CTCML_REAL_DATA names no folder")
def test_a_dimmer_lamp_is_seen_on_published_cells_and_montages_of_one_experiment_are_alike() -> None:
    """Jurkat cells by imaging flow cytometry (Blasi et al., Nat Commun 7:10256, 2016): five montages of one experiment."""
    with np.load(Path(os.environ["CTCML_REAL_DATA"]) / "jurkat_ifc.npz") as real:
        groups, images = real["groups"].astype(str), real["images"]
    montages = np.char.startswith(groups, "exp2")
    looks, samples = appearance(images[montages]), groups[montages]
    dimmer = appearance((images[montages] * 0.8).astype(np.uint8))
    both = [
        Looks(latents=one[:, :9], appearance=one, predicted=np.full(len(samples), "g1"), samples=samples)
        for one in (looks, dimmer)
    ]
    same, other = (sample_distances(both[0], one, min_cells=20) for one in both)
    assert len(same) == 5
    for measure in MEASURES:
        assert other[measure].min() > same[measure].max(), measure
