"""Wrong labels planted among SIMULATED cells: found, ranked, and not invented where there are none."""

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from ctcml.appearance import appearance
from ctcml.drawn_cells import draw_cells
from ctcml.errors import BadInput
from ctcml.images import to_inputs
from ctcml.label_noise import COLUMNS, label_noise
from ctcml.trials import with_wrong_labels

CLASSES = np.array(["bare_nucleus", "ctc", "tdev", "wbc"])


def some_cells(
    cells: int, *, patients: int = 40, noise: float = 0.05, seed: int = 0, apart: float = 5.0
) -> tuple[pd.DataFrame, NDArray[np.float32], NDArray[np.bool_]]:
    """Labels, features of four clouds with a shift of each patient, and which labels were planted wrongly."""
    rng = np.random.default_rng(seed)
    truth, patient = rng.integers(0, 4, cells), rng.integers(0, patients, cells)
    centres, shifts = rng.normal(0, apart / 2, (4, 12)), rng.normal(0, 0.5, (patients, 12))
    features = (centres[truth] + shifts[patient] + rng.normal(0, 1, (cells, 12))).astype(np.float32)
    given = with_wrong_labels(truth, 4, noise, rng)
    return listed(CLASSES[given], patient), features, given != truth


def listed(class_ids: NDArray[np.str_], patients: NDArray[np.int64]) -> pd.DataFrame:
    """A table of labels; the number in a cell_uid is its row."""
    return pd.DataFrame(
        {
            "cell_uid": [f"c{row:05d}" for row in range(len(class_ids))],
            "patient_uid": [f"p{one:03d}" for one in patients],
            "class_id": class_ids,
        }
    )


def rows_of(found: pd.DataFrame) -> NDArray[np.int64]:
    return found["cell_uid"].str[1:].astype(int).to_numpy()


def test_planted_labels_are_found_and_stand_first() -> None:
    labels, features, wrong = some_cells(1200)
    found = label_noise(labels, features, folds=5, rng=np.random.default_rng(0))
    assert list(found.columns) == COLUMNS
    hit = wrong[rows_of(found)]
    assert hit.mean() > 0.9
    assert hit.sum() > 0.8 * wrong.sum()
    assert hit[:50].mean() > 0.97
    assert found["self_confidence"].is_monotonic_increasing
    assert (found["given"] != found["suggested"]).all()


def test_labels_planted_among_drawn_cells_are_found_by_their_appearance() -> None:
    cells = draw_cells(5, patients=30, objects=20)
    kinds, truth = np.unique([one.kind for one in cells], return_inverse=True)
    images = to_inputs([one.restored for one in cells], recipe="asinh", background_percentile=10.0, asinh_scale=60.0)
    given = with_wrong_labels(truth, len(kinds), 0.05, np.random.default_rng(1))
    labels = listed(kinds[given], np.array([one.patient for one in cells]))
    found = label_noise(labels, appearance(images), folds=5, rng=np.random.default_rng(0))
    hit, wrong = (given != truth)[rows_of(found)], given != truth
    assert hit.mean() > 0.6
    assert hit.sum() > 0.7 * wrong.sum()


def test_right_labels_of_well_parted_classes_are_not_doubted() -> None:
    labels, features, _ = some_cells(800, noise=0.0, apart=9.0)
    assert len(label_noise(labels, features, folds=5, rng=np.random.default_rng(0))) < 8


def test_a_patient_whose_labels_are_all_wrong_is_found_by_what_others_look_like() -> None:
    labels, features, _ = some_cells(1200, noise=0.0, apart=9.0)
    theirs = labels["patient_uid"].eq("p007") & labels["class_id"].eq("wbc")
    labels.loc[theirs, "class_id"] = "ctc"
    found = label_noise(labels, features, folds=5, rng=np.random.default_rng(0))
    assert set(labels.loc[theirs, "cell_uid"]) <= set(found["cell_uid"])
    assert set(found.loc[found["cell_uid"].isin(labels.loc[theirs, "cell_uid"]), "suggested"]) == {"wbc"}


def test_the_same_dice_find_the_same_whatever_the_order_of_the_rows() -> None:
    labels, features, _ = some_cells(400)
    turned = np.random.default_rng(9).permutation(len(labels))
    one, same, other_order = (
        label_noise(table, columns, folds=5, rng=np.random.default_rng(3))
        for table, columns in (
            (labels, features),
            (labels, features),
            (labels.iloc[turned].reset_index(drop=True), features[turned]),
        )
    )
    pd.testing.assert_frame_equal(one, same)
    pd.testing.assert_frame_equal(one, other_order)


def test_cells_of_a_class_from_few_patients_are_not_judged() -> None:
    labels, features, _ = some_cells(400, noise=0.0)
    few = labels["patient_uid"].isin(["p001", "p002", "p003", "p004"])
    labels.loc[few, "class_id"] = "doublet"
    found = label_noise(labels, features, folds=5, rng=np.random.default_rng(0))
    assert "doublet" not in set(found["given"]) | set(found["suggested"])


@pytest.mark.parametrize("cells", [0, 1, 6])
def test_too_few_cells_give_an_empty_table_with_its_columns(cells: int) -> None:
    labels, features, _ = some_cells(40)
    found = label_noise(labels.head(cells), features[:cells], folds=5, rng=np.random.default_rng(0))
    assert list(found.columns) == COLUMNS
    assert found.empty


def test_features_that_do_not_match_the_labels_are_refused() -> None:
    labels, features, _ = some_cells(40)
    with pytest.raises(BadInput, match=r"features are \(39, 12\) for 40 labels"):
        label_noise(labels, features[:39], folds=5, rng=np.random.default_rng(0))


def test_it_says_nothing_on_the_screen(capfd: pytest.CaptureFixture[str]) -> None:
    labels, features, _ = some_cells(300)
    label_noise(labels, features, folds=5, rng=np.random.default_rng(0))
    assert capfd.readouterr() == ("", "")
