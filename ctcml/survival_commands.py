"""`ctcml survival`: survival on either side of a cut-off, for any table of patients."""

from pathlib import Path
from typing import Any

import click

from ctcml.telling import say

DAYS = {"days": 1.0, "weeks": 7.0, "months": 365.25 / 12, "years": 365.25}
PICTURES = (".png", ".svg")
COLUMNS = {  # of the table that a name ending in .csv gets
    "arm": "name", "n": "n", "events": "events", "median": "median", "median_low": "median_low", "median_high": "median_high",
}  # fmt: skip


@click.command("survival")
@click.argument("cohort", type=click.Path(path_type=Path))
@click.option("--count", required=True, metavar="COL", help="Cells per 7.5 ml.")
@click.option("--duration", required=True, metavar="COL", help="Time until the event or the end of observation.")
@click.option("--event", required=True, metavar="COL", help="1 it happened, 0 not yet.")
@click.option("--cutoff", type=float, help="Counts at or above it are high.")
@click.option("--search-cutoff", is_flag=True, help="Look for the cut-off in the data instead; exploratory.")
@click.option("--permutations", default=2000, show_default=True, help="That correct the p of a searched cut-off.")
@click.option("--seed", default=20, show_default=True, help="Of these permutations.")
@click.option("--covariates", default="", metavar="COL,COL", help="For a Cox model of the count with them.")
@click.option("--draw-day", metavar="COL", help="Days from the beginning of the follow-up to the blood draw.")
@click.option("--landmark", type=float, metavar="DAYS", help="Begin there; for blood that was drawn during therapy.")
@click.option("--patient", metavar="COL", help="Refuse a table that has a patient twice.")
@click.option("--min-events", default=5, show_default=True, help="In each arm, or nothing is compared.")
@click.option(
    "--denominator",
    type=click.Choice(["proposed", "all"]),
    help="What was counted: events that CellSearch presents, or all.",
)
@click.option("--exploratory", is_flag=True, help="Stamp it so; needed for counts over all events.")
@click.option("--simulated", is_flag=True, help="Stamp the picture so.")
@click.option("--endpoint", default="os", show_default=True, help="os, pfs or another name.")
@click.option("--unit", type=click.Choice(list(DAYS)), default="months", show_default=True, help="Of the durations.")
@click.option("--label", help="Title of the picture.  [default: the file's name]")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="All figures; by its ending .json.")
@click.option("--table", "table_path", type=click.Path(path_type=Path), help="The arms as .csv.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), help="Kaplan-Meier curves as .svg or .png.")
def survival_command(
    cohort: Path,
    json_path: Path | None,
    table_path: Path | None,
    plot_path: Path | None,
    simulated: bool,
    **options: Any,
) -> None:
    """Compare survival below and above a cut-off of the count, for the patients of COHORT (CSV, one line each).

    What must not be computed is refused with a sentence, in the JSON and in the picture.

    Example: ctcml survival cohort.csv --count ctc --duration os_months --event died --cutoff 5 --json os.json --plot os.svg
    """
    from ctcml.errors import BadInput
    from ctcml.survival_pictures import km_plot
    from ctcml.tables import write_json

    for path, endings in ((json_path, (".json",)), (table_path, (".csv",)), (plot_path, PICTURES)):
        if path is not None and path.suffix.lower() not in endings:
            raise BadInput(f"{path}: expected a name ending in {' or '.join(endings)}; rename it")
    if (options["cutoff"] is None) != options["search_cutoff"]:
        raise BadInput("cut-off: name one with --cutoff or look for it with --search-cutoff, and not both")
    told = _analysed(cohort, **options) | {"unit": options["unit"], "simulated": simulated}
    if plot_path is not None:  # first: a picture can fail, and then nothing is there
        km_plot(told, plot_path, simulated=simulated, unit=options["unit"])
    if json_path is not None:
        write_json(json_path, told, allow_nan=False)
    if table_path is not None:
        _write_arms(told, table_path)
    for line in in_words(told, options["unit"]):
        say(line)


def _analysed(
    cohort: Path,
    *,
    count: str,
    duration: str,
    event: str,
    cutoff: float | None,
    search_cutoff: bool,
    permutations: int,
    seed: int,
    covariates: str,
    draw_day: str | None,
    landmark: float | None,
    patient: str | None,
    min_events: int,
    denominator: str | None,
    exploratory: bool,
    endpoint: str,
    unit: str,
    label: str | None,
) -> dict[str, Any]:
    from ctcml.cohort_file import read_cohort
    from ctcml.cutpoint import Search
    from ctcml.landmark import from_landmark
    from ctcml.survival import analyse

    others = [name.strip() for name in covariates.split(",") if name.strip()]
    table = read_cohort(
        cohort, count=count, duration=duration, event=event, covariates=others, draw_day=draw_day, patient=patient
    )
    notes: list[str] = []
    months = None
    if landmark is not None:
        reached = from_landmark(table, landmark, days_per_unit=DAYS[unit])
        table, months = reached.rows, landmark / DAYS[unit]
        notes += reached.notes
    report = analyse(
        table,
        cutoff=cutoff,
        label=label or cohort.stem,
        min_events=min_events,
        exploratory=exploratory,
        endpoint=endpoint,
        denominator=denominator,
        landmark_months=months,
        covariates=others,
        search=Search(permutations=permutations, seed=seed) if search_cutoff else None,
        notes=notes,
    )
    return as_told(report.to_dict())


def as_told(told: dict[str, Any]) -> dict[str, Any]:
    """A report for other programs: `median_ci` of an arm, `ci` and `ph_p` of a hazard ratio beside our own names."""
    for arm in told["arms"]:
        arm["median_ci"] = [arm["median_low"], arm["median_high"]]
    for name in ("cox", "cox_log_count"):
        if told[name]:
            told[name] |= {"ci": [told[name]["low"], told[name]["high"]], "ph_p": told[name]["proportional_p"]}
    return told


def in_words(told: dict[str, Any], unit: str) -> list[str]:
    """The report for people, a line each."""
    lines = [f"{told['n']} patients, {told['events']} events" + ", EXPLORATORY" * told["exploratory"]]
    for arm in told["arms"]:
        median = "not reached" if arm["median"] is None else f"{arm['median']:g} {unit}"
        lines.append(
            f"{arm['name']}: {arm['n']} patients, {arm['events']} events" + f", median {median}" * bool(arm["times"])
        )
    if told["logrank"]:
        lines.append(f"log-rank chi-squared {told['logrank']['chi2']:.4g}, p = {told['logrank']['p']:.3g}")
    if cox := told["cox"]:
        lines.append(
            f"hazard ratio {cox['hr']:.4g} (95% CI {cox['low']:.4g} to {cox['high']:.4g}), p = {cox['p']:.3g}, "
            f"proportional hazards p = {cox['ph_p']:.3g}"
        )
    lines += [f"refused: {one}" for one in told["refusals"]]
    return lines + [f"note: {one}" for one in told["notes"]]


def _write_arms(told: dict[str, Any], path: Path) -> None:
    import pandas as pd

    from ctcml.tables import atomic_path

    rows = [{column: arm[key] for column, key in COLUMNS.items()} for arm in told["arms"]]
    with atomic_path(path) as unfinished:
        pd.DataFrame(rows).to_csv(unfinished, index=False, lineterminator="\n")
