"""What a model says of itself to people: what it is for, what it was made of, how it does, and where it should not be trusted.

The headings are those of Mitchell et al. 2019 (Model cards for model reporting), as far as they apply.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ctcml.images import recipe_tag
from ctcml.records import PLANES

INTENDED = (
    "Sorting of fluorescence thumbnails of CellSearch cartridges (CD45, DAPI, cytokeratin) into the classes below, to count "
    "them per sample, in research. People read the thumbnails that it is unsure of, and a person signs before it counts."
)
NOT_INTENDED = (
    "**Research use only.** Not a medical device, not for diagnosis or for decisions on the treatment of a patient. Not for images of "
    "other stains, platforms or magnifications, and not for events that another program has already preselected in an unknown way."
)
LIMITS = (
    "Labels are what two readers and an adjudicator settled; where experts differ, the model cannot be better than they are.",
    "An object of a class that the model does not know is put into one that it knows; novelty and clusters are made to find such.",
    "Another instrument, stain or exposure moves all classes; the drift report says whether a cartridge lies outside what was learned.",
    "Figures of small groups have wide intervals; where an interval is missing, there were too few patients for one.",
    "Clinical cut-offs were validated for events that CellSearch itself presents; on all events counts are exploratory.",
)
GROUPS = {"cancer_type": "cancer type", "instrument": "instrument", "cluster": "appearance"}
FIGURES = {
    "accuracy": "Accuracy",
    "ctc_sensitivity": "CTC sensitivity",
    "ctc_specificity": "CTC specificity",
    "macro_f1": "Mean F1",
}


def model_card(
    card: Mapping[str, Any], scorecard: Mapping[str, Any] | None, *, version: str, data_version: str, code_commit: str
) -> str:
    """The model card as Markdown, from `model.json` and, where there is one, a `scorecard.full_scorecard`.

    `judged_on` and `simulated` beside the score card's figures, and `simulated` and `sha256` (of each artefact) beside the
    model's own, are told where they are there.
    """
    simulated = any(one.get("simulated") for one in (card, scorecard or {}))
    parts = [
        f"# Model card: {card.get('architecture', 'network')}, version {version}",
        "**SIMULATED DATA: no figure below describes real patients.**" if simulated else "",
        NOT_INTENDED,
        f"## Intended use\n\n{INTENDED}",
        "## Data\n\n" + _rows(_data(card, data_version, code_commit)),
        "## Input contract\n\n" + _rows(_input(card)),
        "## Classes\n\n" + _classes(card),
        "## Figures\n\n"
        + (_figures(scorecard) if scorecard else "Not judged yet: no cell that it may be judged on is settled."),
        "## Limits\n\n" + "\n".join(f"- {one}" for one in [*LIMITS, *_own_limits(card, scorecard)]),
        "## Artefacts\n\n" + _rows(_artefacts(card)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _data(card: Mapping[str, Any], data_version: str, code_commit: str) -> dict[str, str]:
    numbers = _per_class(card)
    return {
        "Data version": data_version,
        "Code commit": f"`{code_commit}`",
        "Training cells": f"{sum(numbers.values()):,} settled cells" if numbers else "not known",
        "Training patients": f"{card['n_patients']:,}" if "n_patients" in card else "not known",
        "Started from": f"weights `{str(card['start'])[:12]}`" if card.get("start") else "scratch",
        "Seed": f"{card.get('seed', 'not known')}",
    }


def _input(card: Mapping[str, Any]) -> dict[str, str]:
    image = card.get("image")
    return {
        "Shape and type": "80 × 80 × 3, uint8",
        "Channel order": ", ".join(PLANES),
        "Pixel size": "0.64 µm",
        "Preprocessing": f"recipe `{card.get('recipe', 'not known')}`",
        "Version of the recipe": f"`{recipe_tag(**image)}`" if image else "not known",
    }


def _per_class(card: Mapping[str, Any]) -> dict[str, int]:
    numbers = card.get("n_train_per_class") or {}
    return dict(numbers) if isinstance(numbers, Mapping) else dict(zip(card["classes"], numbers, strict=False))


def _classes(card: Mapping[str, Any]) -> str:
    numbers = _per_class(card)
    rows = [[f"`{one}`", f"{numbers[one]:,}" if one in numbers else "–"] for one in card["classes"]]
    return _table(["class, in the order of the outputs", "training cells"], rows)


def _figures(scorecard: Mapping[str, Any]) -> str:
    judged = f"On {scorecard['n']:,} settled cells of {scorecard['patients']:,} patients"
    if scorecard.get("judged_on"):
        judged += f" ({scorecard['judged_on']})"
    whole = [[title, _spelt(scorecard[name])] for name, title in FIGURES.items() if name in scorecard]
    whole += [["Balanced accuracy", _spelt(scorecard["balanced_accuracy"])]]
    if "calibration" in scorecard:
        calibration = scorecard["calibration"]
        at = f"Expected calibration error at temperature {calibration['temperature']:.2f}"
        whole += [
            [at, _spelt(calibration["ece_after"])],
            ["… before the temperature", _spelt(calibration["ece_before"])],
        ]
    if "count_error" in scorecard:
        whole += [["CTCs miscounted, share of those settled, over patients", _spelt(scorecard["count_error"]["share"])]]
    if "kappa" in scorecard:
        whole += [["κ against settled labels", _spelt(scorecard["kappa"]["model"]["kappa"])]]
        if scorecard["kappa"]["readers"]:
            whole += [["κ of the readers with each other", _spelt(scorecard["kappa"]["readers"]["kappa"])]]
    of_classes = [
        [f"`{one['class_id']}`", _spelt(one["recall"]), _spelt(one["precision"])] for one in scorecard["classes"]
    ]
    parts = [
        f"{judged}; in brackets 95 % intervals over resampled patients.",
        _table(["figure", "value"], whole),
        _table(["class", "recall", "precision"], of_classes),
        *(_by_group(title, scorecard["by"][name]) for name, title in GROUPS.items() if name in scorecard.get("by", {})),
    ]
    return "\n\n".join(parts)


def _by_group(title: str, groups: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [one["name"], f"{one['cells']:,}", f"{one['patients']:,}", *(_spelt(one[name]) for name in FIGURES)]
        for one in groups
    ]
    return _table([title, "cells", "patients", *FIGURES.values()], rows)


def _own_limits(card: Mapping[str, Any], scorecard: Mapping[str, Any] | None) -> list[str]:
    found = [f"Found in training: {one}" for one in card.get("ailments") or []]
    found += [f"On these cells: {one}" for one in (scorecard or {}).get("notes", [])]
    worst = (scorecard or {}).get("worst_cluster")
    if worst:
        found.append(
            f"Weakest on cells that look alike in group {worst['name']}: mean F1 {_spelt(worst['macro_f1'])} of {worst['cells']} cells, "
            f"the lowest of {worst['of']} groups."
        )
    return found


def _artefacts(card: Mapping[str, Any]) -> dict[str, str]:
    sums = {"weights.safetensors": card["weights_sha256"], **card.get("sha256", {})}
    return {f"`{name}`": f"SHA-256 `{value}`" for name, value in sums.items()}


def _spelt(one: Mapping[str, Any]) -> str:
    """A figure with its interval.

    >>> _spelt({"value": 0.912, "low": 0.85, "high": None}), _spelt({"value": None})
    ('0.912', 'not known')
    >>> _spelt({"value": 0.912, "low": 0.85, "high": 0.951})
    '0.912 (0.850 to 0.951)'
    """
    if one["value"] is None:
        return "not known"
    interval = f" ({one['low']:.3f} to {one['high']:.3f})" if None not in (one.get("low"), one.get("high")) else ""
    return f"{one['value']:.3f}{interval}"


def _rows(about: Mapping[str, str]) -> str:
    return _table(["what", "which"], [[name, value] for name, value in about.items()])


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; a bar inside a cell would end it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
