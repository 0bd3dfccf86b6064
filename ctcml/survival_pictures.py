"""Survival as files: curves over a KMunicate table, and a hazard ratio under every way to count.

Everything drawn was computed elsewhere. The table below the curves is that of Morris et al. (2019, BMJ Open 9:e030215):
at each time how many are at risk, and how many had their event or left observation before it.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator, PercentFormatter

from ctcml.pictures import ARM_COLOURS, STYLE, p_words, put_head, save_figure, stamps

DASHES = ("solid", (0, (5, 1.6)))  # arms are told apart without colour, too
ENDPOINTS = {"os": "Overall survival", "pfs": "Progression-free survival"}
TABLE = (("At risk", "at_risk"), ("Censored", "censored_before"), ("Events", "events_before"))
WIDTH = 100  # characters of a line below the curves
DOUBTED = 0.05
GREY = "#444444"
RATIOS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)


def km_plot(report: Mapping[str, Any], path: Path, *, simulated: bool, unit: str = "months") -> None:
    """Draw one survival report (`SurvivalReport.to_dict`): curves, 95 % bands, censoring marks, the table, the figures.

    Refused arms get no curve; the refusals are printed where the figures would stand.
    """
    figures = list(_figures(report, unit))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 5.5 + 0.165 * len(figures)), layout="constrained")
        curves, table = figure.subplots(2, 1, height_ratios=[3.1, 1.45], sharex=True)
        for arm, colour, dashes in zip(report["arms"], ARM_COLOURS, DASHES, strict=True):
            _curve(curves, arm, colour, dashes)
        last = max([*report["risk_times"], *(time for arm in report["arms"] for time in arm["times"]), 1.0])
        curves.set(ylim=(0, 1.03), ylabel=ENDPOINTS.get(report["endpoint"], report["endpoint"]))
        curves.set(xlim=(-0.02 * last, last * 1.03), xticks=list(report["risk_times"]), xlabel=_time(report, unit))
        curves.yaxis.set_major_formatter(PercentFormatter(1.0))
        curves.tick_params(labelbottom=True)
        if any(arm["times"] for arm in report["arms"]):
            curves.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, handlelength=2.2, borderaxespad=0.2)
        else:
            curves.text(
                0.5, 0.5, "no curve: see below", transform=curves.transAxes, ha="center", color=GREY, fontsize=11
            )
        _kmunicate(table, report)
        figure.supxlabel("\n".join(figures), x=0.02, ha="left", fontsize=8, linespacing=1.4)
        put_head(figure, _sentence(report["label"]), stamps(simulated, exploratory=bool(report["exploratory"])))
        save_figure(figure, path)


def spread_plot(spread: Mapping[str, Any], path: Path, *, label: str, simulated: bool, exploratory: bool) -> None:
    """Draw a hazard ratio under every way to count (`hazard_spread.Spread.to_dict`), one line each, on a scale of ratios."""
    rows = [(one["name"], one["hr"], one["low"], one["high"], _about(one)) for one in spread["sources"]]
    if spread["draws"]:
        draws = spread["draws"]
        middle, pooled = f"{draws['n']} draws of the counts", "draws, with both uncertainties"
        rows.append((middle, draws["median"], draws["low"], draws["high"], ""))
        rows.append((pooled, draws["pooled"], draws["pooled_low"], draws["pooled_high"], ""))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.2, 1.5 + 0.36 * len(rows)), layout="constrained")
        axes = figure.subplots()
        for at, (_, hr, low, high, about) in enumerate(rows):
            if hr is not None:
                axes.plot([low, high], [at, at], color=ARM_COLOURS[0], linewidth=1.8)
                axes.plot(hr, at, marker="s", color=ARM_COLOURS[0], markersize=6)
            told = about if hr is None else f"{hr:.2f} ({low:.2f} to {high:.2f}){about}"
            axes.text(1.02, at, told, transform=axes.get_yaxis_transform(), va="center", fontsize=8)
        axes.axvline(1, color=GREY, linewidth=0.8, linestyle=":")
        axes.set(
            xscale="log", ylim=(len(rows) - 0.4, -0.6), xlabel="Hazard ratio, high against low counts (95% limits)"
        )
        axes.set_yticks(range(len(rows)), [name for name, *_ in rows])
        axes.tick_params(axis="y", length=0)
        _ratio_scale(axes, [number for _, *numbers, _ in rows for number in numbers if number is not None])
        put_head(figure, label, stamps(simulated, exploratory=exploratory))
        save_figure(figure, path)


def _about(source: Mapping[str, Any]) -> str:
    if source["refusal"]:
        return "\n".join(textwrap.wrap(str(source["refusal"]), 46))
    if source["cells_read"] is None:
        return f", n = {source['n']}"
    return (
        f"\n{source['cells_changed']} of {source['cells_read']} cells read change {source['patients_changed']} counts"
    )


def _ratio_scale(axes: Axes, numbers: Sequence[float]) -> None:
    low, high = min([*numbers, 0.8]) * 0.9, max([*numbers, 1.25]) * 1.1
    axes.set_xlim(low, high)
    axes.xaxis.set_major_locator(FixedLocator([one for one in RATIOS if low <= one <= high]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _time(report: Mapping[str, Any], unit: str) -> str:
    if report["landmark_months"] is None:
        return unit.capitalize()
    return f"{unit.capitalize()} from the landmark (at {round(report['landmark_months'], 1):g} {unit})"


def _curve(axes: Axes, arm: Mapping[str, Any], colour: str, dashes: Any) -> None:
    if not arm["times"]:
        return
    times, survival = np.asarray(arm["times"]), np.asarray(arm["survival"])
    axes.fill_between(times, arm["low"], arm["high"], step="post", color=colour, alpha=0.15, linewidth=0)
    label = f"{arm['name']}  (n = {arm['n']}, {arm['events']} events)"
    axes.step(times, survival, where="post", color=colour, linewidth=1.8, linestyle=dashes, label=label)
    censored = np.asarray(arm["censored"])
    at_censoring = survival[np.searchsorted(times, censored, side="right") - 1]
    axes.plot(censored, at_censoring, linestyle="", marker="|", markersize=6, color=colour)


def _kmunicate(axes: Axes, report: Mapping[str, Any]) -> None:
    """Three rows an arm, below its name."""
    places, names = [], []
    for block, (arm, colour) in enumerate(zip(report["arms"], ARM_COLOURS, strict=True)):
        top = block * (len(TABLE) + 1.25)
        axes.text(0, top, arm["name"], transform=axes.get_yaxis_transform(), color=colour, fontsize=8, weight="bold", va="center")  # fmt: skip
        for row, (name, key) in enumerate(TABLE, start=1):
            places.append(top + row)
            names.append(name)
            for time, number in zip(report["risk_times"], arm[key], strict=True):
                axes.text(time, top + row, f"{number}", ha="center", va="center", color=colour, fontsize=8)
    axes.set_yticks(places, names, fontsize=8)
    axes.set_ylim(max(places) + 0.6, -0.6)
    axes.tick_params(length=0, labelbottom=False)
    axes.spines[:].set_visible(False)


def _figures(report: Mapping[str, Any], unit: str) -> Iterator[str]:
    """Lines below the table: what was found, then what was refused."""
    for arm in report["arms"]:
        if arm["times"]:
            limits = f"{_limit(arm['median_low'])} to {_limit(arm['median_high'])}"
            median = "not reached" if arm["median"] is None else f"{arm['median']:.1f} {unit}"
            yield f"Median {arm['name']}: {median} (95% CI {limits})"
    if report["logrank"]:
        searched = ", corrected for the search of the cut-off" if report["searched"] else ""
        yield f"Log-rank {p_words(report['logrank']['p'])}{searched}"
    if cox := report["cox"]:
        check = f"proportional hazards {p_words(cox['proportional_p'])}"
        yield f"Hazard ratio {cox['hr']:.2f} (95% CI {cox['low']:.2f} to {cox['high']:.2f}; {check})"
        if cox["proportional_p"] < DOUBTED:
            yield "Hazards not proportional: the ratio is an average over time"
    if means := report["restricted"]:
        limits = f"{means['low']:.1f} to {means['high']:.1f}"
        both = " and ".join(f"{one['mean']:.1f}" for one in means["arms"])
        yield (
            f"Mean within {means['horizon']:.0f} {unit}: {both}, "
            f"difference {means['difference']:.1f} (95% CI {limits}; {p_words(means['p'])})"
        )
    if (followed := report["follow_up"]) and any(arm["times"] for arm in report["arms"]):
        yield f"Median follow-up (reverse Kaplan-Meier): {_limit(followed['median'])} {unit}"
    for refusal in report["refusals"]:
        yield from textwrap.wrap(_sentence(refusal), WIDTH, subsequent_indent="   ")


def _sentence(words: str) -> str:
    return words[:1].upper() + words[1:]


def _limit(value: float | None) -> str:
    return "not reached" if value is None else f"{value:.1f}"
