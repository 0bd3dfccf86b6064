"""Who is asked what: patient sets, caps, shares and fair draws of the two queues."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from factories import a_ledger, a_reading, reading_draft
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ctcml import stages
from ctcml.errors import BadInput, ProtocolBreach
from ctcml.label_noise import COLUMNS
from ctcml.ledger import Draft
from ctcml.params import load_params
from ctcml.queries import (
    ARM,
    ARMS,
    decision_critical,
    discovery_queue,
    doubtful_labels,
    evaluation_queue,
    hidden_repeats,
    kind_of,
    not_asked_before,
    places,
)
from ctcml.records import Purpose, Role
from ctcml.tables import COUNTS, DISCOVERY, EMBEDDING, MANIFEST, QUEUE, TRUTH, check, read_table, write_table
from ctcml.workspace import Workspace

SHARES = {"novel": 0.5, "border": 0.2, "random": 0.3}
ALL_SHARES = {"novel": 0.4, "border": 0.1, "critical": 0.2, "doubtful": 0.1, "repeat": 0.1, "random": 0.1}
TRAIN = {f"p{number}": "train" for number in range(400)}
CLASSES = ["ctc", "wbc"]


NO_NOISE = pd.DataFrame(columns=COLUMNS)


def make_cells(cells: int = 400, *, patients: int = 10, flagged: int = 80) -> pd.DataFrame:
    """Candidates of patients in turn; the first are flagged, three of four in cluster 0; each tenth looks like a CTC."""
    at = np.arange(cells)
    return pd.DataFrame(
        {
            "cell_uid": [f"c{number:04d}" for number in at],
            "patient_uid": [f"p{number % patients}" for number in at],
            "sample_uid": [f"s{number % patients}" for number in at],
            "predicted": np.where(at % 10 == 9, "ctc", "wbc"),
            "cluster": np.where(at < flagged, (at % 4 == 3).astype(int), 2),
            "novelty": 0.5,
            "uncertainty": at / cells,
            "flagged": at < flagged,
        }
    )


def an_arm(*cells: tuple[str, str], reason: str) -> pd.DataFrame:
    return pd.DataFrame([(uid, patient, "", reason) for uid, patient in cells], columns=ARM)


def make_others(patients: int = 10) -> dict[str, pd.DataFrame]:
    """Thirty labels that are doubted, thirty cells that were read, and the last thirty candidates at stake."""
    owner = [f"p{number % patients}" for number in range(400)]
    return {
        "doubtful": an_arm(*((f"d{n:04d}", owner[n]) for n in range(30)), reason="doubtful label: probability 0.01"),
        "repeat": an_arm(*((f"r{n:04d}", owner[n]) for n in range(30)), reason="hidden repeat"),
        "critical": an_arm(*((f"c{n:04d}", owner[n]) for n in range(370, 400)), reason="critical: flip risk 0.4"),
    }


def draw(
    cells: pd.DataFrame,
    roles: Mapping[str, Any] = TRAIN,
    seed: int = 1,
    **changes: Any,
) -> pd.DataFrame:
    asked = {"budget": 50, "shares": SHARES, "per_patient": 12, "rng": np.random.default_rng(seed), **changes}
    return discovery_queue(cells, roles=roles, **asked)


def kinds(queue: pd.DataFrame) -> dict[str, int]:
    return dict(queue["reason"].map(kind_of).value_counts())


def of_kind(queue: pd.DataFrame, kind: str) -> set[str]:
    return set(queue.loc[queue["reason"].map(kind_of) == kind, "cell_uid"])


def test_a_round_holds_the_budget_in_its_shares_with_a_reason_for_each_cell() -> None:
    queue = draw(make_cells(), shares=ALL_SHARES, others=make_others())
    assert kinds(queue) == {
        "novel": 20,
        "critical": 10,
        "border": 5,
        "doubtful label": 5,
        "hidden repeat": 5,
        "random": 5,
    }
    assert set(queue["purpose"]) == {"training"}
    assert queue["rank"].tolist() == list(range(50))
    assert {"novel: cluster 0", "critical: flip risk 0.4", "hidden repeat"} <= set(queue["reason"])
    check(queue, QUEUE, "queue")


def test_places_that_arms_leave_empty_go_to_border_cells() -> None:
    queue = draw(make_cells(flagged=0), shares=ALL_SHARES)
    assert kinds(queue) == {"border": 45, "random": 5}


@pytest.mark.parametrize("role", [Role.STEERING, Role.SEALED, "sealed"])
@pytest.mark.parametrize("arm", ["cells", "doubtful", "repeat", "critical"])
def test_no_cell_of_a_held_out_patient_reaches_the_discovery_queue(role: str, arm: str) -> None:
    cells, others = make_cells(), make_others()
    table = cells if arm == "cells" else others[arm]
    table.loc[3, "patient_uid"] = "held out"
    with pytest.raises(ProtocolBreach, match=rf"discovery: 1 patient\(s\) are not in train, first held out \({role}\)"):
        draw(cells, {**TRAIN, "held out": role}, others=others)


def test_a_cell_whose_patient_nobody_knows_is_refused() -> None:
    cells = make_cells()
    cells.loc[7, "patient_uid"] = ""
    with pytest.raises(ProtocolBreach, match=r"not in train, first .*unassigned"):
        draw(cells)


def test_no_patient_gives_more_than_the_cap_even_if_all_finds_are_his() -> None:
    cells = make_cells()
    cells.loc[:79, "patient_uid"] = "p0"
    queue = draw(cells)
    load = queue["cell_uid"].map(cells.set_index("cell_uid")["patient_uid"]).value_counts()
    assert load.max() == 12
    assert len(queue) == 50  # the places of novel cells that may not be taken go to border cells


def test_a_large_flagged_cluster_does_not_crowd_out_a_small_one() -> None:
    queue = draw(make_cells(), shares={"novel": 1}, budget=30, per_patient=400)
    assert queue["reason"].value_counts().to_dict() == {"novel: cluster 0": 15, "novel: cluster 1": 15}


def test_border_cells_are_those_of_the_smallest_margin_of_each_class() -> None:
    cells = make_cells()
    queue = draw(cells, budget=20, shares={"border": 1}, per_patient=400)
    for predicted in CLASSES:
        most = cells[cells["predicted"] == predicted].nlargest(10, "uncertainty")["cell_uid"]
        assert set(most) <= set(queue["cell_uid"])
    assert "border: margin 0.00" in set(queue["reason"])


def test_a_rare_class_has_its_share_at_the_border_also_where_the_cap_bites() -> None:
    cells = make_cells(patients=50)
    cells.loc[cells["predicted"] == "ctc", "patient_uid"] = "p0"
    cells.loc[::40, ["predicted", "patient_uid"]] = ["tdev", "p1"]
    queue = draw(cells, budget=30, shares={"border": 1}, per_patient=10)
    found = queue["cell_uid"].map(cells.set_index("cell_uid")["predicted"]).value_counts()
    assert found.to_dict() == {"ctc": 10, "tdev": 10, "wbc": 10}


def test_the_random_arm_takes_flagged_cells_as_often_as_others() -> None:
    cells = make_cells()
    drawn = pd.concat(draw(cells, seed=seed, shares={"random": 1}, budget=40, per_patient=400) for seed in range(60))
    share = drawn["cell_uid"].isin(cells.loc[cells["flagged"], "cell_uid"]).mean()
    assert share == pytest.approx(cells["flagged"].mean(), abs=0.03)


def test_the_order_of_the_queue_does_not_tell_the_reason() -> None:
    queue = draw(make_cells())
    first_half = queue["reason"].str.startswith("novel")[:25].sum()
    assert 6 <= first_half <= 19


def test_other_dice_give_another_queue() -> None:
    assert not draw(make_cells()).equals(draw(make_cells(), seed=2))


def test_a_cell_listed_twice_is_refused() -> None:
    cells, others = make_cells(), make_others()
    with pytest.raises(BadInput, match="listed twice"):
        draw(pd.concat([cells, cells[:1]]))
    with pytest.raises(BadInput, match="cell d0000: listed twice"):
        draw(cells, others={"doubtful": pd.concat([others["doubtful"], others["doubtful"][:1]])})


@pytest.mark.parametrize("shares", [{"novel": 0.5}, {"novel": 0.5, "luck": 0.5}, {"novel": 1.5, "border": -0.5}, {}])
def test_shares_that_are_none_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(BadInput, match="that sum to 1"):
        draw(make_cells(), shares=shares)


def test_a_round_without_any_candidate_is_empty() -> None:
    queue = draw(make_cells(0), others={"critical": make_others()["critical"][:0]})
    assert queue.empty
    check(queue, QUEUE, "queue")


# What must hold whatever the laboratory's cells are like.


@st.composite
def rounds(having: st.DrawFn) -> dict[str, Any]:
    """Any round: cells of patients of any size, any scores, re-reads, shares with at least a tenth for the random arm."""
    rng = np.random.default_rng(having(st.integers(0, 10_000)))
    patients, number = having(st.integers(1, 12)), having(st.integers(0, 120))
    cells = make_cells(number).assign(
        patient_uid=[f"p{one}" for one in rng.integers(patients, size=number)],
        predicted=rng.choice(["ctc", "wbc", "tdev"], number),
        cluster=rng.integers(4, size=number),
        uncertainty=rng.random(number),
        flagged=rng.random(number) < 0.3,
    )
    weights = np.array(having(st.lists(st.integers(0, 5), min_size=6, max_size=6)), dtype=float)
    weights[ARMS.index("random")] += 1 + weights.sum() / 8
    shares = dict(zip(ARMS, (weights / weights.sum()).tolist(), strict=True))
    others = {
        name: table[table["patient_uid"].isin(set(cells["patient_uid"])) & (rng.random(len(table)) < 0.5)]
        for name, table in make_others(patients).items()
    }
    at_stake = cells.sample(frac=0.2, random_state=1).assign(group="", reason="critical: flip risk 0.40")
    others["critical"] = at_stake[ARM]
    return {
        "cells": cells,
        "shares": shares,
        "others": others,
        "budget": having(st.integers(1, 80)),
        "per_patient": having(st.integers(1, 30)),
    }


some = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@some
@given(asked=rounds())
def test_budget_cap_and_shares_hold_and_no_cell_is_asked_twice(asked: dict[str, Any]) -> None:
    queue = draw(**asked)
    owner = pd.concat([asked["cells"], *asked["others"].values()]).drop_duplicates("cell_uid")
    load = queue["cell_uid"].map(owner.set_index("cell_uid")["patient_uid"]).value_counts()
    assert not queue["cell_uid"].duplicated().any()
    assert len(queue) <= asked["budget"]
    assert load.max() <= asked["per_patient"] or queue.empty
    room = places(asked["budget"], asked["shares"])
    names = {"repeat": "hidden repeat", "doubtful": "doubtful label"}
    for arm in set(ARMS) - {"border"}:
        assert len(of_kind(queue, names.get(arm, arm))) <= room[arm]
    room_for_all = asked["cells"]["patient_uid"].value_counts().clip(upper=asked["per_patient"]).sum()
    assert len(of_kind(queue, "random")) == min(room["random"], room_for_all)
    assert room["random"] >= asked["budget"] / 10
    assert sum(room.values()) == asked["budget"]


@some
@given(asked=rounds())
def test_the_same_dice_give_the_same_queue_whatever_the_order_of_files(asked: dict[str, Any]) -> None:
    mixed = {**asked, "cells": asked["cells"].sample(frac=1, random_state=3)}
    mixed["others"] = {**asked["others"], "repeat": asked["others"]["repeat"].sample(frac=1, random_state=3)}
    pd.testing.assert_frame_equal(draw(**asked), draw(**mixed))


@some
@given(asked=rounds(), other=st.integers(0, 1000))
def test_the_random_arm_is_blind_to_every_score_and_to_the_other_arms(asked: dict[str, Any], other: int) -> None:
    rng, cells = np.random.default_rng(other), asked["cells"]
    scored_otherwise = cells.assign(
        predicted=rng.permutation(cells["predicted"]),
        cluster=rng.integers(9, size=len(cells)),
        novelty=rng.random(len(cells)),
        uncertainty=rng.random(len(cells)),
        flagged=rng.random(len(cells)) < 0.5,
    )
    blind = of_kind(draw(**asked), "random")
    assert of_kind(draw(**{**asked, "cells": scored_otherwise}), "random") == blind
    assert of_kind(draw(**{**asked, "others": {}}), "random") == blind


@some
@given(asked=rounds(), at=st.integers(0, 10_000))
def test_one_held_out_patient_anywhere_stops_the_draw(asked: dict[str, Any], at: int) -> None:
    patients = sorted(
        {*asked["cells"]["patient_uid"], *(p for arm in asked["others"].values() for p in arm["patient_uid"])}
    )
    if patients:
        held_out = {**TRAIN, patients[at % len(patients)]: "sealed"}
        with pytest.raises(ProtocolBreach, match="not in train"):
            draw(roles=held_out, **asked)


# The arms that need more than the candidates.


def scored(sample: str, *ctc: float, proposed: bool | None = True) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "cell_uid": [f"{sample}-{number}" for number in range(len(ctc))],
            "patient_uid": f"patient of {sample}",
            "sample_uid": sample,
            "proposed": pd.Series([proposed] * len(ctc), dtype=object),
            "probabilities": [np.array([chance, 1 - chance], dtype=np.float32) for chance in ctc],
        }
    )


def a_count(sample: str, flip_risk: float, **changes: Any) -> dict[str, Any]:
    row = {"sample_uid": sample, "class_id": "ctc", "denominator": "proposed", "threshold": 0.0, "cutoff": 5.0}
    # The blood is undecided in every case; only what reading can change counts.
    own = {"tube_low": 2.0, "tube_high": 6.0, "tube_flip_risk": flip_risk, "flip_risk": 0.5, "side": "undecided"}
    return {**row, **own, **changes}


def critical(
    cells: pd.DataFrame, *counts: dict[str, Any], denominator: str = "proposed", **changes: Any
) -> pd.DataFrame:
    asked = {"classes": CLASSES, "flip_risk": 0.1, "between": (0.05, 0.95), **changes}
    return decision_critical(cells, pd.DataFrame(counts), denominator=denominator, **asked)


def test_cells_at_stake_are_the_most_open_ones_of_samples_near_the_cut_off() -> None:
    cells = pd.concat([scored("s1", 0.99, 0.9, 0.5, 0.01), scored("s2", 0.3, 0.6), scored("s3", 0.5)])
    found = critical(
        cells,
        a_count("s1", 0.2),
        a_count("s2", 0.4, cutoff=3.0),
        a_count("s3", 0.05, tube_low=5.0),
    )
    assert found["cell_uid"].tolist() == ["s2-1", "s2-0", "s1-2", "s1-1"]
    assert found["reason"].iloc[0] == "critical: flip risk 0.40 at the cut-off of 3 CTC per 7.5 ml"
    queue = draw(
        make_cells(flagged=0), {**TRAIN, "patient of s1": "train", "patient of s2": "train"}, budget=4,
        shares={"critical": 0.75, "random": 0.25}, others={"critical": found},
    )  # fmt: skip
    assert of_kind(queue, "critical") == {"s2-1", "s1-2", "s2-0"}  # samples take turns


def test_a_count_that_is_decided_but_risky_is_at_stake_too() -> None:
    assert len(critical(scored("s1", 0.5), a_count("s1", 0.11, tube_low=5.0))) == 1
    assert len(critical(scored("s1", 0.5), a_count("s1", 0.10, tube_low=5.0))) == 0


@pytest.mark.parametrize(
    "change",
    [{"class_id": "wbc"}, {"denominator": "all"}, {"threshold": 0.5}, {"cutoff": np.nan, "side": "none"}],
    ids=lambda change: next(iter(change)),
)
def test_only_the_count_in_use_of_ctcs_with_a_cut_off_is_looked_at(change: dict[str, Any]) -> None:
    assert critical(scored("s1", 0.5), a_count("s1", 0.4, **change)).empty


def test_events_that_the_count_leaves_out_are_not_at_stake() -> None:
    cells = pd.concat([scored("s1", 0.5, proposed=False), scored("s2", 0.5, proposed=None)])
    every = [a_count(sample, 0.4, denominator=name) for sample in ("s1", "s2") for name in ("proposed", "all")]
    assert critical(cells, *every).empty
    assert len(critical(cells, *every, denominator="all")) == 2


def test_a_model_without_the_class_of_ctcs_puts_nothing_at_stake() -> None:
    assert critical(scored("s1", 0.5), a_count("s1", 0.4), classes=["tdev", "wbc"]).empty


def test_labels_that_the_champion_does_not_believe_are_doubted_the_least_probable_first() -> None:
    labelled = scored("s1", 0.02, 0.9, 0.001, 0.999, 0.5).assign(class_id=["ctc", "ctc", "ctc", "wbc", "new_one"])
    found = doubtful_labels(labelled, NO_NOISE, classes=CLASSES, below=0.1)
    assert found["cell_uid"].tolist() == ["s1-2", "s1-3", "s1-0"]
    assert found["reason"].iloc[0] == "doubtful label: probability 0.001 of ctc"
    assert found.columns.tolist() == ARM


def test_what_judges_of_other_patients_doubt_comes_before_what_the_champion_doubts_and_not_twice() -> None:
    labelled = scored("s1", 0.02, 0.9, 0.001).assign(class_id="ctc")
    noisy = pd.DataFrame([("s1-1", "p-s1", "ctc", "wbc", 0.1), ("s1-2", "p-s1", "ctc", "tdev", 0.2)], columns=COLUMNS)
    found = doubtful_labels(labelled, noisy, classes=CLASSES, below=0.1)
    assert found["cell_uid"].tolist() == ["s1-1", "s1-2", "s1-0"]
    assert found["reason"].iloc[0] == "doubtful label: ctc looks like wbc to judges of other patients"
    assert set(found["reason"].map(kind_of)) == {"doubtful label"}
    assert doubtful_labels(labelled.iloc[:0], NO_NOISE, classes=CLASSES, below=0.1).columns.tolist() == ARM


def test_repeated_are_cells_that_two_readers_read_for_training() -> None:
    readings = [a_reading("c0001", reader, "ctc") for reader in ("reader-a", "reader-b")]
    readings += [a_reading("c0002", "reader-a", "ctc"), a_reading("c0002", "reader-a", "ctc", occasion="round-2")]
    readings += [a_reading("c0003", reader, "ctc", purpose=Purpose.EVALUATION) for reader in ("reader-a", "reader-b")]
    found = hidden_repeats(make_cells(), readings)
    assert found["cell_uid"].tolist() == ["c0001"]
    assert found.columns.tolist() == ARM


def test_a_cell_is_asked_for_once_for_each_kind_of_reason() -> None:
    asked = pd.DataFrame(
        [
            ("c1", "random"),
            ("c2", "novel: cluster 1"),
            ("c1", "hidden repeat"),
            ("c3", "hidden repeat"),
            ("c4", "doubtful label: probability 0.010 of ctc"),
            ("c5", "doubtful label: probability 0.010 of ctc"),
        ],
        columns=["cell_uid", "reason"],
    )
    before = [
        {"cell_uid": "c1", "reason": "border: margin 0.10"},
        {"cell_uid": "c3", "reason": "hidden repeat"},
        {"cell_uid": "c4", "reason": "doubtful label: probability 0.002 of ctc"},
    ]
    assert not_asked_before(asked, before)["cell_uid"].tolist() == ["c2", "c1", "c5"]
    assert not_asked_before(asked, []).equals(asked)
    assert not_asked_before(asked[:0], before).columns.tolist() == ["cell_uid", "reason"]


# The stage.

SHIPPED = load_params(Path(__file__).parents[1] / "params.yaml")


def make_workspace(root: Path, *drafts: Draft) -> Workspace:
    """Tables of 120 cells of twelve patients, p10 steering and p11 sealed: every seventh of the others has a label."""
    ws, cells = Workspace(root), make_cells(120, patients=12, flagged=24)
    ctc = np.linspace(0.03, 0.97, 120)
    scores = cells.assign(probabilities=[[one, 1 - one] for one in ctc], latent=[[0.0]] * 120)
    scores["reconstruction_error"] = scores["appearance"] = scores["latent"]
    write_table(scores.reindex(columns=list(EMBEDDING)), EMBEDDING, ws.embeddings / "all.parquet")
    manifest = cells.reindex(columns=list(MANIFEST)).assign(proposed=True, object_index=range(120))
    write_table(manifest, MANIFEST, ws.manifest / "all.parquet")
    held_out = {"p10": "steering", "p11": "sealed"}
    roles = {patient: held_out.get(patient, "train") for patient in cells["patient_uid"]}
    stages.write_json(ws.roles, roles)
    stages.write_json(ws.champion / "model.json", {"classes": CLASSES})
    stages.write_json(ws.calibration, {"temperature": 1.0})
    train = cells[cells["patient_uid"].map(roles) == "train"]
    labels = train[::7].assign(class_id="ctc", role="train", purpose="training", how="historic")
    write_table(labels.reindex(columns=list(TRUTH)), TRUTH, ws.truth)
    found = train.assign(in_reference=train["cell_uid"].isin(labels["cell_uid"]))
    write_table(found.reindex(columns=list(DISCOVERY)), DISCOVERY, ws.cell_discovery)
    counts = pd.DataFrame([a_count(f"s{number}", 0.3) for number in (5, 6, 11)]).reindex(columns=list(COUNTS))
    write_table(counts.assign(exploratory=False), COUNTS, ws.counts)
    a_ledger(ws.ledger_snapshot / "000000000001-000000000005.jsonl", *drafts)
    return ws


def queue_of(ws: Workspace) -> pd.DataFrame:
    stages.query(ws, seed=1, queue=SHIPPED.queue.model_copy(update={"budget": 60}), counts=SHIPPED.counts, say=print)
    return read_table(ws.queue, QUEUE)


def test_the_stage_draws_every_arm_and_the_evaluation_arm_beside_it(tmp_path: Path) -> None:
    queue = queue_of(make_workspace(tmp_path))
    cells = make_cells(120, patients=12).set_index("cell_uid")
    labelled = set(read_table(Workspace(tmp_path).truth, TRUTH)["cell_uid"])
    owner = queue["cell_uid"].map(cells["patient_uid"])
    for_training = queue["purpose"] == "training"
    assert set(owner[~for_training]) == {"p10", "p11"}
    assert not {"p10", "p11"} & set(owner[for_training])
    found = kinds(queue)
    assert found["novel"] + found["border"] == 60 - 8 - 6 - 2
    assert found["novel"] > 0
    assert {kind: found[kind] for kind in ("random", "critical", "doubtful label", "evaluation")} == {
        "random": 8,
        "critical": 6,
        "doubtful label": 2,
        "evaluation": 20,
    }
    assert set(cells.loc[sorted(of_kind(queue, "critical")), "sample_uid"]) == {"s5", "s6"}
    assert labelled & set(queue["cell_uid"]) == of_kind(queue, "doubtful label")


def test_the_stage_repeats_what_was_read_and_asks_for_nothing_else_again(tmp_path: Path) -> None:
    read = ["c0001", "c0002", "c0003"]  # the last of them was repeated in the second round
    asked = [("c0000", "doubtful label: probability 0.030 of ctc", "round-1")]
    asked += [(cell, "random", "round-1") for cell in read] + [("c0003", "hidden repeat", "round-2")]
    names = ("cell_uid", "reason", "occasion")
    drafts = [
        Draft(kind="queued", by="query", body={**dict(zip(names, one, strict=True)), "purpose": "training"})
        for one in asked
    ]
    drafts += [reading_draft(a_reading(cell, reader, "wbc")) for cell in read for reader in ("reader-a", "reader-b")]
    queue = queue_of(make_workspace(tmp_path, *drafts))
    assert of_kind(queue, "hidden repeat") == {"c0001", "c0002"}
    assert not {"c0000", "c0003"} & set(queue["cell_uid"])
    assert not queue["cell_uid"].duplicated().any()


# The evaluation arm.


def make_manifest() -> tuple[pd.DataFrame, dict[str, str]]:
    """Patients of very different size: p0..p5 train, p6..p7 steering, p8..p9 sealed."""
    sizes = [30] * 8 + [20, 180]
    owners = [f"p{number}" for number, size in enumerate(sizes) for _ in range(size)]
    manifest = pd.DataFrame({"cell_uid": [f"c{number:04d}" for number in range(len(owners))], "patient_uid": owners})
    roles = {f"p{number}": "train" if number < 6 else "steering" if number < 8 else "sealed" for number in range(10)}
    return manifest, roles


def evaluate(manifest: pd.DataFrame, roles: dict[str, Any], seed: int = 1, **changes: Any) -> pd.DataFrame:
    asked = {"sealed": 50, "steering": 20, "exclude": set(), "rng": np.random.default_rng(seed), **changes}
    return evaluation_queue(manifest, roles, **asked)


def test_the_evaluation_arm_reads_held_out_patients_only() -> None:
    manifest, roles = make_manifest()
    queue = evaluate(manifest, roles)
    role = queue["cell_uid"].map(manifest.set_index("cell_uid")["patient_uid"]).map(roles)
    assert role.value_counts().to_dict() == {"sealed": 50, "steering": 20}
    assert set(queue["purpose"]) == set(queue["reason"]) == {"evaluation"}
    check(queue, QUEUE, "queue")


def test_the_evaluation_arm_is_uniform_over_cells_not_over_patients() -> None:
    manifest, roles = make_manifest()
    owner = manifest.set_index("cell_uid")["patient_uid"]
    drawn = pd.concat(evaluate(manifest, roles, seed, steering=0) for seed in range(60))
    assert (drawn["cell_uid"].map(owner) == "p9").mean() == pytest.approx(180 / 200, abs=0.02)


def test_evaluation_cells_already_read_are_not_drawn_again_and_a_small_set_is_read_whole() -> None:
    manifest, roles = make_manifest()
    gone = set(manifest.loc[manifest["patient_uid"] == "p9", "cell_uid"])
    queue = evaluate(manifest, roles, exclude=gone)
    assert not set(queue["cell_uid"]) & gone
    assert len(queue) == 20 + 20


def test_a_patient_without_a_set_stops_the_evaluation_draw() -> None:
    manifest, roles = make_manifest()
    del roles["p2"]
    with pytest.raises(ProtocolBreach, match="p2: belongs to no set"):
        evaluate(manifest, roles)
