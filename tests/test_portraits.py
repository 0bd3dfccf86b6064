"""Portraits of clusters whose truth was planted."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.cluster import KMeans

from ctcml.errors import BadInput
from ctcml.portraits import (
    FRAME_PX,
    ONE_CARTRIDGE,
    ONE_DAY,
    ONE_FRAME,
    ONE_REGION,
    Spread,
    artefact,
    exemplars,
    lineage,
    marker_cuts,
    marker_profile,
    names,
    spread,
    stability,
)

Floats = npt.NDArray[np.floating]
Members = npt.NDArray[np.integer]


def regrouped(clusters: int) -> Any:
    return lambda placed, seed: KMeans(clusters, n_init=2, random_state=seed).fit_predict(placed)


# Stability


def test_three_kinds_come_back_whole_and_the_halves_of_a_fourth_do_not() -> None:
    rng = np.random.default_rng(0)
    member = np.repeat([0, 1, 2, 3, 4], [60, 60, 60, 40, 40])
    centres = np.array([[0, 0], [20, 0], [0, 20], [20, 20], [20, 20]])  # 3 and 4: one round cloud, cut at random
    placed = centres[member] + rng.normal(0, 1, (260, 2))
    found = stability(placed, member, regroup=regrouped(5), draws=20, rng=rng)
    assert (found[:3] > 0.75).all()  # Hennig: stable
    assert (found[3:] < 0.5).all()  # Hennig: dissolved


def test_a_cluster_that_is_always_found_again_has_stability_one_whatever_its_number() -> None:
    placed = np.repeat([[0.0], [10.0]], 50, axis=0)

    def the_other_way_round(places: Floats, seed: int) -> Members:
        return np.where(places[:, 0] > 5, 0, 1)

    member = np.repeat([0, 1], 50)
    found = stability(placed, member, regroup=the_other_way_round, draws=3, rng=np.random.default_rng(0))
    assert found.tolist() == [1.0, 1.0]


def test_stability_is_the_mean_of_the_largest_jaccard_over_the_distinct_cells_drawn() -> None:
    placed, member = np.arange(90.0)[:, None], np.repeat([0, 1, 2], 30)
    found = stability(
        placed, member, regroup=lambda places, seed: np.where(places[:, 0] < 60, 0, 1), draws=40, rng=np.random.default_rng(1)
    )  # fmt: skip
    assert found[:2] == pytest.approx([0.5, 0.5], abs=0.03)  # two of a like size that are taken for one
    assert found[2] == 1.0


def test_of_a_large_archive_at_most_ten_thousand_cells_are_clustered_again() -> None:
    seen = []

    def counted(places: Floats, seed: int) -> Members:
        seen.append(len(places))
        return np.zeros(len(places), np.int32)

    member = np.zeros(30_000, np.int32)
    found = stability(np.zeros((30_000, 1)), member, regroup=counted, draws=2, rng=np.random.default_rng(0))
    assert seen == [10_000, 10_000]
    assert found.tolist() == [1.0]


# Exemplars


@pytest.fixture
def line() -> Floats:
    """A cluster of 21 cells along a line from -10 to 10, before three cells of another one at 14."""
    return np.concatenate([np.arange(-10.0, 11.0), [14.0, 14.0, 14.0]])[:, None]


def chosen(line: Floats, **changes: Any) -> Any:
    wanted: dict[str, Any] = {"elsewhere": np.array([[14.0]]), "typical": 3, "border": 3, "random": 5}
    return exemplars(line, np.arange(21), **(wanted | changes), rng=np.random.default_rng(3))


def test_typical_cells_lie_in_the_middle_and_border_cells_towards_the_neighbour(line: Floats) -> None:
    found = chosen(line)
    assert found.typical == (10, 9, 11)
    assert found.border == (20, 19, 18)
    assert len(found.random) == 5


def test_no_cell_is_shown_twice_and_a_small_cluster_runs_out(line: Floats) -> None:
    found = chosen(line, random=100)
    assert sorted(found.typical + found.border + found.random) == list(range(21))
    few = exemplars(
        line, np.arange(4), elsewhere=np.array([[14.0]]), typical=3, border=3, random=3, rng=np.random.default_rng(0)
    )
    assert (len(few.typical), len(few.border), len(few.random)) == (3, 1, 0)


def test_an_only_cluster_has_no_border(line: Floats) -> None:
    assert chosen(line, elsewhere=np.zeros((0, 1))).border == ()


# Markers: CD45, DAPI, CK as log2 of the brightness


def kinds(rng: np.random.Generator, *, background: float = 11.0) -> dict[str, Floats]:
    """Levels of four kinds as on simulated thumbnails, and of CD45EVs, whose CD45 is weaker than a leukocyte's."""
    stained = {
        "wbc": (15, 15, background),
        "ctc": (background, 16, 17),
        "tdev": (background, background, 15),
        "bare_nucleus": (background, 15.5, background),
        "cd45ev": (13.3, background, background),
    }
    return {name: np.array(middle) + rng.normal(0, 0.7, (80, 3)) for name, middle in stained.items()}


def profiles(levels: dict[str, Floats], reference: list[str]) -> dict[str, str]:
    rows = {name: np.arange(80) + 80 * place for place, name in enumerate(levels)}
    together = np.concatenate(list(levels.values()))
    cuts = marker_cuts(together, np.concatenate([rows[name] for name in reference]))
    return {name: marker_profile(together, rows[name], cuts).sentence for name in levels}


def test_each_kind_gets_the_signs_that_define_it_and_a_new_one_that_is_not_in_the_reference_is_dim() -> None:
    found = profiles(kinds(np.random.default_rng(5)), ["wbc", "ctc", "tdev", "bare_nucleus"])
    assert found == {
        "wbc": "CD45 +, DAPI +, CK -",
        "ctc": "CD45 -, DAPI +, CK +",
        "tdev": "CD45 -, DAPI -, CK +",
        "bare_nucleus": "CD45 -, DAPI +, CK -",
        "cd45ev": "CD45 dim, DAPI -, CK -",
    }


def test_signs_do_not_depend_on_the_exposure() -> None:
    reference = ["wbc", "ctc", "tdev", "bare_nucleus"]
    levels = kinds(np.random.default_rng(5))
    brighter = {name: one + np.array([2.0, 0.0, -1.0]) for name, one in levels.items()}
    assert profiles(brighter, reference) == profiles(levels, reference)


def test_a_reference_of_one_kind_is_not_cut_in_two_halves() -> None:
    found = profiles(kinds(np.random.default_rng(6)), ["ctc"])
    assert found["ctc"] == "CD45 -, DAPI +, CK +"
    assert found["wbc"].endswith("CK -")
    assert "DAPI -" not in found["wbc"]
    assert found["tdev"].startswith("CD45 -, DAPI -")
    assert not found["wbc"].startswith("CD45 -")  # a stain that the reference does not show


def test_a_channel_without_any_stain_is_negative_and_brighter_cells_are_not() -> None:
    levels = kinds(np.random.default_rng(7))
    found = profiles(levels, ["tdev", "cd45ev"])
    assert "DAPI -" in found["tdev"]
    assert "DAPI +" in found["ctc"]


def test_a_few_blank_thumbnails_do_not_move_the_cuts() -> None:
    levels = np.concatenate(list(kinds(np.random.default_rng(8)).values()))
    spoilt = levels.copy()
    spoilt[::200] = 0.0
    every = np.arange(len(levels))
    np.testing.assert_allclose(marker_cuts(spoilt, every), marker_cuts(levels, every), atol=0.3)


def test_without_a_reference_or_a_level_the_sign_is_unknown() -> None:
    levels = kinds(np.random.default_rng(9))["wbc"]
    assert np.isnan(marker_cuts(levels, np.arange(19))).all()
    unseen = marker_profile(levels, np.arange(80), marker_cuts(levels, np.arange(19)))
    assert unseen.signs == ("?", "?", "?")
    no_ck = np.column_stack([levels[:, :2], np.full(80, np.nan)])
    assert marker_profile(no_ck, np.arange(80), marker_cuts(no_ck, np.arange(80))).signs[2] == "?"


# Spread and artefacts


class Archive:
    """2,000 cells of 20 samples on 10 days, evenly over 175 frames; the first 100 are the cluster that is judged."""

    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.samples = np.array([f"s{number}" for number in rng.integers(0, 20, 2000)], dtype=object)
        self.frames = rng.integers(1, 176, 2000).astype(np.float64)
        self.inside = rng.uniform((0, 0), FRAME_PX, (2000, 2))
        self.mosaic = np.array(FRAME_PX) * rng.integers(0, (35, 5), (2000, 2))
        self.days = np.array([int(name[1:]) // 2 for name in self.samples], dtype=object)

    def spread(self, rows: npt.NDArray[np.intp], **changes: Any) -> Spread:
        columns: dict[str, Any] = {
            "samples": self.samples,
            "patients": self.samples,
            "dates": self.days,
            "frames": self.frames,
            "xy": self.mosaic + self.inside,
        }
        return spread(rows, **(columns | changes))

    def judged(self, **changes: Any) -> str:
        return artefact(self.spread(np.arange(100), **changes), self.spread(np.arange(2000), **changes))


def test_cells_from_everywhere_are_no_artefact() -> None:
    assert [Archive(seed).judged() for seed in range(5)] == [""] * 5


def test_a_planted_cartridge_is_called_one() -> None:
    archive = Archive()
    archive.samples[:90] = "s7"
    assert archive.judged() == ONE_CARTRIDGE
    assert archive.spread(np.arange(100)).sample_share >= 0.9


@pytest.mark.parametrize("middle", [(150, 150), (692, 518), (1300, 640)])
def test_dirt_on_the_optics_is_found_at_any_place_of_the_image(middle: tuple[int, int]) -> None:
    archive = Archive()
    archive.inside[:90] = np.array(middle) + np.random.default_rng(1).uniform(-80, 80, (90, 2))
    assert archive.judged() == ONE_REGION


def test_a_frame_and_a_day_are_named_when_the_cells_come_from_many_cartridges() -> None:
    archive = Archive()
    archive.frames[:90] = 42
    assert archive.judged() == ONE_FRAME
    archive = Archive()
    archive.samples[:100] = np.resize(["s6", "s7"], 100)
    archive.days = np.array([int(name[1:]) // 2 for name in archive.samples], dtype=object)
    assert archive.judged() == ONE_DAY


def test_a_cluster_of_an_archive_with_one_cartridge_cannot_be_told_from_its_artefact() -> None:
    archive = Archive()
    assert archive.judged(samples=np.full(2000, "s1", dtype=object)) == ONE_CARTRIDGE


def test_the_only_frame_or_day_of_an_archive_says_nothing() -> None:
    assert Archive().judged(frames=np.ones(2000), dates=np.ones(2000)) == ""


def test_what_is_common_in_the_archive_is_not_held_against_a_cluster() -> None:
    archive = Archive()
    archive.samples[:1750] = "s1"  # 87 % of the archive and of the cluster come from the same cartridge
    archive.samples[:13] = "s2"
    assert archive.spread(np.arange(100)).sample_share > 0.8
    assert archive.judged() == ""


def test_ten_cells_on_the_day_of_most_of_the_archive_may_be_chance() -> None:
    archive = Archive()
    days = np.repeat([1, 2], [1400, 600])
    ten = archive.spread(np.arange(10), dates=days)
    assert ten.date_share == 1.0
    assert artefact(ten, archive.spread(np.arange(2000), dates=days)) == ""
    assert artefact(archive.spread(np.arange(100), dates=days), archive.spread(np.arange(2000), dates=days)) == ONE_DAY


def test_where_dates_and_places_are_unknown_they_are_not_judged() -> None:
    archive = Archive()
    archive.inside[:90] = 1.0
    found = archive.spread(np.arange(100), dates=None, frames=None, xy=None)
    assert np.isnan([found.date_share, found.frame_share, found.region_share]).all()
    assert (found.dates, found.dated, found.framed, found.placed) == (0, 0, 0, 0)
    assert archive.judged(dates=None, frames=None, xy=None) == ""


def test_known_dates_and_places_are_judged_from_ten_on() -> None:
    archive = Archive()
    archive.inside[:90] = 1.0
    xy = archive.mosaic + archive.inside
    xy[9:90] = np.nan  # nine are known
    xy[90:100] = np.nan
    assert archive.judged(xy=xy) == ""
    xy[9] = 1.0
    assert archive.judged(xy=xy) == ONE_REGION
    days = archive.days.copy()
    days[:95] = None
    assert archive.spread(np.arange(100), dates=days).dated == 5
    assert np.isnan(archive.spread(np.arange(100), dates=days).date_share)


# Names

UIDS = [f"cell{number:03}" for number in range(300)]


def named(former: dict[str, str], member: npt.ArrayLike, uids: list[str] = UIDS) -> dict[str, str]:
    """The name of each cell's cluster."""
    numbers = np.asarray(member)
    given = names(former, uids, numbers)
    return {uid: given[number] for uid, number in zip(uids, numbers, strict=True)}


@pytest.fixture
def former() -> dict[str, str]:
    return named({}, np.repeat([0, 1, 2], 100))


def test_names_do_not_depend_on_the_numbers_or_the_order_of_cells(former: dict[str, str]) -> None:
    assert len(set(former.values())) == 3
    assert named({}, np.repeat([2, 0, 1], 100)) == former
    assert named({}, np.repeat([1, 2, 0], 100), UIDS[::-1]) == former
    assert named(former, np.repeat([2, 0, 1], 100)) == former


def test_a_cluster_keeps_its_name_while_it_takes_in_new_cells_and_loses_some(former: dict[str, str]) -> None:
    member = np.repeat([1, 2, 0], 100)
    member[:30] = 2  # a third of the first goes to the second
    uids = UIDS + [f"late{number}" for number in range(500)]
    now = named(former, np.concatenate([member, np.full(500, 1)]), uids)
    assert now["cell050"] == former["cell050"] == now["late0"]
    assert now["cell150"] == former["cell150"] == now["cell000"]
    assert now["cell250"] == former["cell250"]


def test_of_a_split_the_larger_part_keeps_the_name_and_the_other_says_where_it_came_from(
    former: dict[str, str],
) -> None:
    member = np.repeat([0, 3, 1, 2], [60, 40, 100, 100])
    now = named(former, member)
    assert now["cell000"] == former["cell000"]
    assert now["cell080"] not in former.values()
    told = lineage(former, UIDS, list(now.values()))
    assert told.came_from == {now["cell080"]: former["cell000"]}
    assert told.went_to == {}


def test_of_a_merger_the_larger_keeps_its_name_and_the_smaller_says_where_it_went() -> None:
    former = named({}, np.repeat([0, 1, 2], [120, 80, 100]))
    now = named(former, np.repeat([0, 1], [200, 100]))
    assert set(now.values()) == {former["cell000"], former["cell250"]}
    told = lineage(former, UIDS, list(now.values()))
    assert told.went_to == {former["cell150"]: former["cell000"]}
    assert told.came_from == {}


def test_three_that_become_one_are_a_new_cluster_that_comes_from_none(former: dict[str, str]) -> None:
    now = named(former, np.zeros(300, int))
    (name,) = set(now.values())
    assert name not in former.values()
    told = lineage(former, UIDS, list(now.values()))
    assert told.came_from == {}
    assert told.went_to == dict.fromkeys(former.values(), name)


def test_two_equal_halves_do_not_both_keep_the_name_and_numbers_do_not_say_which(former: dict[str, str]) -> None:
    one, other = (named(former, np.repeat(numbers, [50, 50, 100, 100])) for numbers in ([0, 1, 2, 3], [1, 0, 2, 3]))
    assert one == other
    assert len({one["cell000"], one["cell099"], *former.values()}) == 4
    assert former["cell000"] in (one["cell000"], one["cell099"])


def test_only_cells_that_both_versions_know_are_compared(former: dict[str, str]) -> None:
    left = {
        uid: name for uid, name in former.items() if uid[-1] in "01"
    }  # the version before knew a fifth of the cells
    assert named(left, np.repeat([2, 1, 0], 100)) == former
    gone = UIDS[::2]  # and half of the cells are there no more
    now = named(former, np.repeat([1, 0, 2], 50), gone)
    assert now == {uid: former[uid] for uid in gone}


def test_a_name_that_is_taken_or_ended_is_not_given_to_other_cells(former: dict[str, str]) -> None:
    moved = dict.fromkeys(UIDS[50:200], former["cell000"]) | dict.fromkeys(UIDS[200:], former["cell250"])
    # The first hundred are a cluster again, but their old name has moved on to others, step by step.
    now = named(moved, np.repeat([0, 1, 2], [100, 100, 100]))
    assert len(set(now.values())) == 3
    assert now["cell000"].startswith(former["cell000"])
    assert now["cell000"] != former["cell000"] == now["cell150"]
    ended = named(former, np.repeat([0, 1], [200, 100]))
    later = named(ended, np.repeat([0, 1, 2], [150, 50, 100]))
    assert set(later.values()) & (set(former.values()) - set(ended.values())) == set()


def test_cells_given_twice_and_gaps_in_the_numbers_are_refused() -> None:
    with pytest.raises(BadInput, match="each cell once"):
        names({}, ["a", "a"], np.array([0, 1]))
    with pytest.raises(BadInput, match="one number a cell"):
        names({}, ["a", "b"], np.array([0]))
    for numbers in ([0, 2], [-1, 0]):
        with pytest.raises(BadInput, match="without gaps"):
            names({}, ["a", "b"], np.array(numbers))
