import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from survival_cohorts import drawn, freireich, gbsg2

from ctcml.errors import BadInput
from ctcml.survival import analyse
from ctcml.survival_commands import survival_command


def cohort(tmp_path: Path) -> Path:
    path = tmp_path / "cohort.csv"
    freireich().to_csv(path, index=False)
    return path


def run(*options: str | Path) -> Result:
    columns = ("--count", "count", "--duration", "duration", "--event", "event")
    return CliRunner().invoke(survival_command, [*map(str, options), *columns], catch_exceptions=True)


def told(path: Path) -> dict[str, object]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def test_any_table_gets_its_figures_as_json_and_its_curves_as_a_picture(tmp_path: Path) -> None:
    out, plot = tmp_path / "o.json", tmp_path / "o.svg"
    result = run(cohort(tmp_path), "--cutoff", "5", "--json", out, "--plot", plot)
    assert result.exit_code == 0, result.output
    found = json.loads(out.read_text())
    assert [arm["name"] for arm in found["arms"]] == ["< 5", "≥ 5"]
    assert [(arm["n"], arm["events"], arm["median"]) for arm in found["arms"]] == [(21, 9, 23.0), (21, 21, 8.0)]
    assert found["arms"][1]["median_ci"] == [4.0, 11.0]
    assert found["logrank"]["chi2"] == pytest.approx(16.79, abs=0.01)
    assert found["cox"]["ci"] == [found["cox"]["low"], found["cox"]["high"]]
    assert found["cox"]["ph_p"] == found["cox"]["proportional_p"] == pytest.approx(0.8798, abs=1e-4)
    assert found["refusals"] == []
    assert "Hazard ratio 4.82" in plot.read_text()
    assert "hazard ratio 4.817 (95% CI 2.147 to 10.81)" in result.output


def test_the_json_holds_what_the_analysis_says(tmp_path: Path) -> None:
    out = tmp_path / "o.json"
    run(cohort(tmp_path), "--cutoff", "5", "--json", out)
    direct = analyse(freireich(), cutoff=5, label="cohort", min_events=5, exploratory=False).to_dict()
    found = told(out)
    for name in ("logrank", "spline", "concordance", "n", "events", "notes", "follow_up"):
        assert found[name] == json.loads(json.dumps(direct[name]))


def test_a_table_of_the_arms_and_a_png_are_made_by_the_ending(tmp_path: Path) -> None:
    table, plot = tmp_path / "arms.csv", tmp_path / "o.png"
    assert run(cohort(tmp_path), "--cutoff", "5", "--table", table, "--plot", plot).exit_code == 0
    assert table.read_text().splitlines()[:2] == ["arm,n,events,median,median_low,median_high", "< 5,21,9,23.0,13.0,"]
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_a_refused_comparison_is_written_with_its_sentences_and_is_no_failure(tmp_path: Path) -> None:
    out, plot = tmp_path / "o.json", tmp_path / "o.svg"
    result = run(cohort(tmp_path), "--cutoff", "5", "--min-events", "10", "--json", out, "--plot", plot)
    assert result.exit_code == 0
    assert "9 events among 21 patients, at least 10 are needed" in str(told(out)["refusals"])
    assert told(out)["cox"] is None
    assert "refused: arm < 5" in result.output
    assert "at least 10 are needed" in plot.read_text()


def test_counts_over_all_events_need_the_exploratory_stamp(tmp_path: Path) -> None:
    out = tmp_path / "o.json"
    run(cohort(tmp_path), "--cutoff", "5", "--denominator", "all", "--json", out)
    assert "exploratory stamp" in str(told(out)["refusals"])
    run(cohort(tmp_path), "--cutoff", "5", "--denominator", "all", "--exploratory", "--json", out)
    assert (told(out)["exploratory"], told(out)["refusals"]) == (True, [])


def test_blood_drawn_later_needs_a_landmark(tmp_path: Path) -> None:
    path, out = tmp_path / "late.csv", tmp_path / "o.json"
    drawn().assign(day=25).to_csv(path, index=False)
    run(path, "--cutoff", "5", "--draw-day", "day", "--json", out)
    assert "no curve from day 0" in str(told(out)["refusals"])
    run(path, "--cutoff", "5", "--draw-day", "day", "--landmark", "60.875", "--json", out)
    found = told(out)
    assert found["landmark_months"] == 2.0
    assert found["refusals"] == []
    assert found["n"] == int((drawn()["duration"] > 2).sum())


def test_a_landmark_counts_days_whatever_the_unit_of_the_durations(tmp_path: Path) -> None:
    path, out, plot = tmp_path / "gbsg2.csv", tmp_path / "o.json", tmp_path / "o.svg"
    gbsg2().to_csv(path, index=False)
    run(path, "--cutoff", "4", "--landmark", "365", "--unit", "days", "--json", out, "--plot", plot)
    assert told(out)["n"] == int((gbsg2()["duration"] > 365).sum())
    assert "Days from the landmark (at 365 days)" in plot.read_text()


def test_a_searched_cut_off_is_exploratory_and_its_p_corrected(tmp_path: Path) -> None:
    path, out = tmp_path / "drawn.csv", tmp_path / "o.json"
    drawn().to_csv(path, index=False)
    assert run(path, "--search-cutoff", "--permutations", "99", "--json", out).exit_code == 0
    found = json.loads(out.read_text())
    assert found["exploratory"] is True
    assert found["searched"]["permutations"] == 99
    assert found["logrank"]["p"] == found["searched"]["p_corrected"]
    assert found["cox"] is None
    run(path, "--search-cutoff", "--permutations", "0", "--json", out)
    assert "corrected for the search" in str(told(out)["refusals"])


def test_covariates_make_a_model_beside_the_count(tmp_path: Path) -> None:
    path, out = tmp_path / "gbsg2.csv", tmp_path / "o.json"
    gbsg2().to_csv(path, index=False)
    run(path, "--cutoff", "4", "--covariates", "x_age, x_grade", "--json", out)
    found = json.loads(out.read_text())
    assert [term["name"] for term in found["multivariable"]["terms"]][:2] == ["ln(1 + count)", "x age"]


def test_simulated_data_is_stamped_in_the_picture_and_the_json(tmp_path: Path) -> None:
    out, plot = tmp_path / "o.json", tmp_path / "o.svg"
    run(cohort(tmp_path), "--cutoff", "5", "--simulated", "--json", out, "--plot", plot)
    assert told(out)["simulated"] is True
    assert "SIMULATED DATA" in plot.read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--cutoff", "5", "--json", "o.txt"], "expected a name ending in .json"),
        (["--cutoff", "5", "--plot", "o.pdf"], "expected a name ending in .png or .svg"),
        ([], "name one with --cutoff"),
        (["--cutoff", "5", "--search-cutoff"], "and not both"),
        (["--cutoff", "5", "--covariates", "weight"], "column 'weight' is missing"),
    ],
)
def test_what_was_asked_wrongly_is_said_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    path = cohort(tmp_path)
    monkeypatch.chdir(tmp_path)
    result = run(path, *options)
    assert isinstance(result.exception, BadInput)
    assert said in str(result.exception)
    assert [one.name for one in tmp_path.iterdir()] == ["cohort.csv"]


def test_a_bad_table_is_one_clear_line_on_standard_error_and_nothing_is_half_written(tmp_path: Path) -> None:
    path = tmp_path / "cohort.csv"
    path.write_text("count,duration,event\n5,3,1\nmany,4,1\n")
    command = [sys.executable, "-m", "ctcml", "survival", path, "--count", "count", "--duration", "duration"]
    options = ["--event", "event", "--cutoff", "5", "--json", tmp_path / "o.json", "--plot", tmp_path / "o.svg"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 1
    assert done.stderr.strip() == f"ctcml: {path}: line 3: count is 'many', expected a number; mend the table"
    assert [one.name for one in tmp_path.iterdir()] == ["cohort.csv"]
