"""Who is asked what: patient sets, caps and fair draws of the two queues."""

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ctcml.errors import BadInput, ProtocolBreach
from ctcml.queries import discovery_queue, evaluation_queue
from ctcml.records import Role
from ctcml.tables import QUEUE, check

WANTED = {"novel": 30, "uncertain": 10, "random": 12, "per_patient": 12}


def make_discovery(cells: int = 400, *, patients: int = 10, flagged: int = 80) -> tuple[pd.DataFrame, dict[str, str]]:
    """Cells spread over patients in turn; the first ones lie in flagged cluster 0, every fifth has a label."""
    uids = [f"c{number:04d}" for number in range(cells)]
    in_reference = np.arange(cells) % 5 == 0
    is_flagged = (np.arange(cells) < flagged) & ~in_reference
    table = pd.DataFrame(
        {
            "cell_uid": uids,
            "cluster": np.where(is_flagged, 0, 1),
            "novelty": 0.5,
            "uncertainty": np.linspace(0, 1, cells),
            "in_reference": in_reference,
            "flagged": is_flagged,
        }
    )
    return table, {uid: f"p{number % patients}" for number, uid in enumerate(uids)}


TRAIN = {f"p{number}": "train" for number in range(400)}


def draw(
    table: pd.DataFrame, owner: dict[str, str], roles: dict[str, Any] = TRAIN, seed: int = 1, **changes: Any
) -> pd.DataFrame:
    asked = {"exclude": set(), "rng": np.random.default_rng(seed), **WANTED, **changes}
    return discovery_queue(table, owner, roles=roles, **asked)


def kinds(queue: pd.DataFrame) -> dict[str, int]:
    return dict(queue["reason"].str.split(":").str[0].value_counts())


def test_a_round_holds_what_was_asked_with_a_reason_for_each_cell() -> None:
    queue = draw(*make_discovery())
    assert kinds(queue) == {"novel": 30, "uncertain": 10, "random": 12}
    assert set(queue["purpose"]) == {"training"}
    assert queue["rank"].tolist() == list(range(52))
    assert "novel: cluster 0" in set(queue["reason"])
    check(queue, QUEUE, "queue")


@pytest.mark.parametrize("role", [Role.STEERING, Role.SEALED, "sealed"])
def test_no_cell_of_a_held_out_patient_reaches_the_discovery_queue(role: str) -> None:
    table, owner = make_discovery()
    with pytest.raises(ProtocolBreach, match=rf"discovery: 1 patient\(s\) are not in train, first p3 \({role}\)"):
        draw(table, owner, {**TRAIN, "p3": role})


def test_a_cell_whose_patient_nobody_knows_is_refused() -> None:
    table, owner = make_discovery()
    del owner["c0007"]
    with pytest.raises(ProtocolBreach, match=r"not in train, first .*unassigned"):
        draw(table, owner)


def test_labelled_and_excluded_cells_are_not_read_again() -> None:
    table, owner = make_discovery()
    gone = set(table["cell_uid"][:40])
    queue = draw(table, owner, exclude=gone)
    labelled = set(table.loc[table["in_reference"], "cell_uid"])
    assert not set(queue["cell_uid"]) & (gone | labelled)


def test_no_patient_gives_more_than_the_cap_even_if_all_finds_are_his() -> None:
    table, owner = make_discovery()
    owner = {uid: "p0" if number < 80 else owner[uid] for number, uid in enumerate(owner)}
    queue = draw(table, owner)
    load = queue["cell_uid"].map(owner).value_counts()
    assert load.max() == WANTED["per_patient"]
    assert len(queue) == 52  # the places of novel cells that may not be taken go to uncertain ones


def test_uncertain_cells_are_those_of_the_smallest_margin() -> None:
    table, owner = make_discovery()
    queue = draw(table, owner, novel=0, random=0, per_patient=400)
    most = table[~table["in_reference"]].nlargest(10, "uncertainty")["cell_uid"]
    assert set(queue["cell_uid"]) == set(most)


def test_without_anything_flagged_the_round_is_filled_with_uncertain_cells() -> None:
    assert kinds(draw(*make_discovery(flagged=0))) == {"uncertain": 40, "random": 12}


def test_the_random_arm_takes_flagged_cells_as_often_as_others() -> None:
    table, owner = make_discovery()
    free = table[~table["in_reference"]]
    drawn = pd.concat(
        draw(table, owner, seed=seed, novel=0, uncertain=0, random=40, per_patient=400) for seed in range(60)
    )
    share = drawn["cell_uid"].isin(free.loc[free["flagged"], "cell_uid"]).mean()
    assert share == pytest.approx(free["flagged"].mean(), abs=0.03)


def test_the_order_of_the_queue_does_not_tell_the_reason() -> None:
    queue = draw(*make_discovery())
    first_half = queue["reason"].str.startswith("novel")[:26].sum()
    assert 8 <= first_half <= 22


def test_the_same_dice_give_the_same_queue_whatever_the_order_of_files() -> None:
    table, owner = make_discovery()
    shuffled = table.sample(frac=1, random_state=3)
    pd.testing.assert_frame_equal(draw(table, owner), draw(shuffled, owner))
    assert not draw(table, owner).equals(draw(table, owner, seed=2))


def test_a_cell_listed_twice_is_refused() -> None:
    table, owner = make_discovery()
    with pytest.raises(BadInput, match="listed twice"):
        draw(pd.concat([table, table[:1]]), owner)


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
