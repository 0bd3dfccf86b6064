"""Pictures of subclasses: what has no hazard ratio says so, and all of them are stamped."""

from pathlib import Path

from matplotlib.image import imread

from ctcml.subclass_pictures import hazards_plot


def a_report(number: int, hr: float | None) -> dict[str, object]:
    fit = hr and {"hr": hr, "low": hr / 1.5, "high": hr * 1.5, "p": 0.03}
    return {
        "class_id": "tdev",
        "subclass": number,
        "n": 40,
        "cox_log_count": fit,
        "p_corrected": hr and 0.06,
        "tests": 2,
    }


def test_a_subclass_without_a_hazard_ratio_keeps_its_row_and_limits_that_run_away_are_cut(tmp_path: Path) -> None:
    heights = []
    for name, reports in {
        "two": [a_report(1, 1.4), a_report(2, 0.8)],
        "three": [a_report(1, 1.4), a_report(2, None), a_report(3, 900.0)],
        "none": [a_report(1, None)],
    }.items():
        path = tmp_path / f"{name}.png"
        hazards_plot(reports, path, endpoint="os", simulated=True)
        picture = imread(path)
        assert (picture[..., :3] < 0.5).any(axis=2).sum() > 1000  # something is written and drawn
        heights.append(picture.shape[0])
    assert heights[1] > heights[0] > heights[2]


def test_the_same_figures_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.svg", "b.svg"):
        hazards_plot([a_report(1, 1.4)], tmp_path / name, endpoint="pfs", simulated=False)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
