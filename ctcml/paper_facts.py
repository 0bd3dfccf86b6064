"""What the project knows of patients, readings, networks and results, in sentences: what the reporting checklists are drafted from.

A fact that the workspace does not hold is None, and the checklist then says that the authors have to fill it in.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pandas as pd

from ctcml.agreement import exact_agreement
from ctcml.clinical import COVARIATE
from ctcml.model import ARCHITECTURE, make_model
from ctcml.paper_networks import ClassSet, Split, Task
from ctcml.records import Purpose
from ctcml.tables import CLINICAL, OPINIONS, read_table
from ctcml.workspace import Workspace

LIBRARIES = ("torch", "numpy", "pandas", "scikit-learn", "scipy", "lifelines", "matplotlib")
ENDPOINTS = {"os": "overall survival", "pfs": "progression-free survival"}
HANDLED = {
    "age": "age",
    "ecog": "ECOG status",
    "line_of_therapy": "line of therapy",
    "site": "site",
    "instrument": "instrument",
}
FEW_READERS = 2

Facts = dict[str, str | None]


def patient_facts(ws: Workspace, roles: Mapping[str, str], *, seed: int, blocks: Sequence[int], endpoint: str) -> Facts:
    """Who the patients are, what is known of them and what is missing."""
    samples = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
    of_patients = samples[samples["sample_kind"] == "patient"]
    people = of_patients.drop_duplicates("patient_uid")
    sets = pd.Series([roles.get(str(uid), "no set") for uid in people["patient_uid"]]).value_counts()
    missing = {
        "follow-up": int(people[f"{endpoint}_months"].isna().sum()),
        "count by hand": int(people["manual_ctc"].isna().sum()),
        **{title: int(_empty(people[name]).sum()) for name, title in HANDLED.items()},
    }
    told = ", ".join(f"{title} of {n}" for title, n in missing.items() if n) or "nothing that is used"
    told += " is missing"
    further = [
        one.removeprefix(COVARIATE)
        for one in samples.columns
        if one.startswith(COVARIATE) and one != f"{COVARIATE}simulated"
    ]
    there = [title for name, title in HANDLED.items() if not _empty(people[name]).all()]
    volume = of_patients["blood_volume_ml"]
    return {
        "patients_by_type": f"{_n(len(people), 'patient')} by cancer type {_shares(people['cancer_type'])}, with {_n(len(of_patients), 'sample')}",
        "sample_kinds": _shares(samples["sample_kind"].str.replace("_", " ")),
        "lines": _stated(people["line_of_therapy"]),
        "instruments": _stated(samples["instrument"]),
        "sites": _stated(samples["site"]),
        "volume": f"{volume.median():g} ml in the median ({volume.min():g} to {volume.max():g})" if volume.notna().any() else None,
        "covariates": ", ".join([*there, *further]) or None,
        "missing": f"{told} in {_n(len(people), 'patient')}; a patient is left out of an analysis that needs what is missing, and nothing is imputed",
        "demographics": _demographics(people),
        "endpoint": f"{ENDPOINTS[endpoint]}",
        "sets": ", ".join(f"{n} {name}" for name, n in sets.items()),
        "flow": f"{_n(len(people), 'patient')} in the workspace: {', '.join(f'{n} {name}' for name, n in sets.items())}; assigned once at first intake by permuted blocks of {':'.join(map(str, blocks))} within cancer type, seed {seed}.",
    }  # fmt: skip


def reading_facts(ws: Workspace, truth: pd.DataFrame, *, rule: str) -> Facts:
    """How cells were labelled, by how many people, and how well these agreed; `rule` is `settlement.rule`."""
    opinions = read_table(ws.opinions, OPINIONS)
    how = truth["how"].value_counts()
    origins = ", ".join(f"{n} {name}" for name, n in how.items())
    before = (
        " Historic labels are from before ctcml; who gave them and how is not recorded." if "historic" in how else ""
    )
    readers = int(opinions["reader"].nunique())
    found: Facts = dict.fromkeys(("reading", "readers", "agreement", "blinding"))
    if readers < FEW_READERS:
        return found | {"reading": f"Labels by origin: {origins}.{before}" if len(truth) else None}
    differ = (
        "a third person decides where they differ"
        if rule == "adjudicate"
        else "cells on which they differ are left out"
    )
    found["reading"] = (
        f"Two readers label each thumbnail that is read in ctcml; the same answer settles, {differ}. Labels by origin: {origins}.{before}"
    )
    found["blinding"] = (
        "Cells read in ctcml were shown without patient, sample, earlier label or a model's call, and neither reader of a cell saw the "
        f"other's answer.{before}"
    )
    found["readers"] = f"{readers} people gave {len(opinions):,} readings."
    said = {purpose: exact_agreement(opinions, purpose) for purpose in (Purpose.EVALUATION, Purpose.TRAINING)}
    told = [
        f"{share:.1%} of {cells:,} cells read twice ({'drawn at random' if purpose == Purpose.EVALUATION else 'chosen for training'})"
        for purpose, (share, cells) in said.items()
        if share is not None
    ]
    found["agreement"] = f"Both readers said the same of {', and of '.join(told)}." if told else None
    return found


def network_facts(
    tasks: Sequence[Task],
    sets: Sequence[ClassSet],
    split: Split,
    image: Mapping[str, Any],
    notes: Sequence[str],
    *,
    seeds: int,
) -> Facts:
    """How the networks are built and trained, and on which cells."""
    numbers, classes = tasks[0].numbers, sets[-1].classes
    weights = {name: sum(one.numel() for one in make_model(name, len(classes)).parameters()) for name in ARCHITECTURE}
    phases = ", ".join(
        f"{epochs} epochs at β = {beta:g}" for beta, epochs in zip(numbers["betas"], numbers["epochs"], strict=True)
    )
    of_class = pd.DataFrame(
        {"training": split.training["class_id"].value_counts(), "judged": split.judged["class_id"].value_counts()}
    )
    rows = ", ".join(
        f"{name} {int(one['training'])} and {int(one['judged'])}" for name, one in of_class.fillna(0).iterrows()
    )
    doubling = f", doubled every {numbers['double_every']} epochs" if numbers["double_every"] else ""
    training, judged = (
        f"{len(one):,} labelled cells of {_n(one['patient_uid'].nunique(), 'patient')}"
        for one in (split.training, split.judged)
    )
    return {
        "architecture": (
            "Three 3 × 3 convolutions (16, 32, 64 filters) each with max-pooling, a dense layer of 208, latents of 50, two dense layers to the "
            f"classes and softmax; the AE-CNN has a decoder with a branch for each plane beside. {weights['standard']:,} and "
            f"{weights['autoencoder']:,} weights. Input 80 × 80 × 3, 8 bit; output a probability a class."
        ),
        "training_parameters": (
            f"{phases}; the standard CNN skips β = 0. {numbers['optimizer']} with learning rate {numbers['learning_rate']:g}, batches of "
            f"{numbers['batch_size']}{doubling}; reconstruction error {numbers['reconstruction']}; augmentation “{numbers['augmentation']}”; "
            f"{_n(len(tasks), 'network')}, {_n(seeds, 'seed')} each."
        ),
        "preparation": (
            f"Recipe “{image['recipe']}” on camera counts: in each plane the lowest {image['background_percentile']:g} % are subtracted, values go to 8 "
            "bit, thumbnails are padded or cut to 80 × 80 around their middle."
            if image["recipe"] != "given"
            else "Images came preprocessed from their source and were not changed."
        ),
        "imbalance": {
            "sqrt": "Cross-entropy weighs a class by the inverse square root of its training cells; probabilities are not corrected for it here.",
            "none": "None was used.",
        }[numbers["class_weights"]],
        "training": f"trained on {training}",
        "judged": f"judged on {judged}",
        "judged_on": split.judged_on,
        "split": f"Trained on {training}; judged on {split.judged_on}. Sealed patients' labels were not opened.",
        "class_notes": " ".join(f"{one[0].upper()}{one[1:]}." for one in notes) or "No class was left out.",
        "classes": ", ".join(classes),
        "classes_n": f"{len(classes)}",
        "classes_by_part": f"Cells trained on and judged on, by class: {rows}.",
    }


def result_facts(results: Mapping[str, Any], *, bootstrap: int, min_events: int, cutoffs: Mapping[str, int]) -> Facts:
    """What was found, in the words of the tables."""
    last = results["sets"][-1]
    figures = {one["figure"]: one for one in last["tables"]["figures"] if not one["class_id"]}
    told = "; ".join(
        f"{one['title']}: {_both(one)}" for name, one in figures.items() if name in ("accuracy", "balanced_accuracy")
    )
    of_ctc = "; ".join(f"{one['title']}: {_both(one)}" for name, one in figures.items() if name.startswith("ctc_"))
    mistakes = results["mistakes"]["by_cancer_type"]
    everything = mistakes[-1]
    survival = results["survival"]
    return {
        "measures": "Accuracy, balanced accuracy, sensitivity and specificity for CTCs, sensitivity, positive predictive value and F1 of each class, confusion, decisions above probability thresholds; Kaplan-Meier, log-rank and Cox for counts.",
        "bootstrap": f"{bootstrap:,}",
        "results": f"{last['name']}: {told}.",
        "results_ctc": f"{last['name']}: {of_ctc}." if of_ctc else None,
        "by_cancer_type": ", ".join(f"{one['cancer_type']} {one['wrong']['mistakes']} of {one['wrong']['cells']} cells wrong" for one in mistakes[:-1]),
        "failures": f"The AE-CNN missed {everything['missed']['mistakes']} of {everything['missed']['cells']} CTCs and called {everything['false']['mistakes']} of {everything['false']['cells']} other cells CTC; thumbnails and probabilities of each are in the report (Suppl. Fig. 1).",
        "robustness": f"Networks of {results['seeds']} seeds, with their spread in the tables." if results["seeds"] > 1 else "One seed a network: the spread between trainings was not measured here (`--seeds`).",
        "limits": _limits(results),
        "cutoffs": ", ".join(f"{name} {n}" for name, n in cutoffs.items()) + " CTC per 7.5 ml" if cutoffs else None,
        **_survival_facts(survival, min_events),
    }  # fmt: skip


def _survival_facts(survival: Mapping[str, Any], min_events: int) -> Facts:
    reports = [one for one in survival["reports"] if one["group"] == "all"]
    if not reports:
        return dict.fromkeys(
            ("patients_n", "events_n", "survival_results", "proportional", "denominator", "survival_methods")
        )
    whole = max(reports, key=lambda one: int(one["n"]))
    tested = [f"{one['label']} p = {one['cox']['proportional_p']:.2g}" for one in reports if one["cox"]]
    return {
        "patients_n": f"{whole['n']}",
        "events_n": f"{whole['events']}",
        "denominator": {
            "proposed": "events that CellSearch itself presented",
            "all": "all events, as the exports do not say which CellSearch presented, so every result is exploratory",
        }[survival["denominator"]],
        "survival_results": "; ".join(_survival_words(one) for one in reports) + ".",
        "proportional": "; ".join(tested) or None,
        "survival_methods": f"Kaplan-Meier with log-log intervals, two-sided log-rank test, Cox model with Efron's ties; an arm with fewer than {min_events} events gets no curve. First samples of patients only.",
    }


def _survival_words(one: Mapping[str, Any]) -> str:
    if one["refusals"]:
        return f"{one['label']}: {'; '.join(one['refusals'])}"
    medians = " and ".join(
        f"{arm['name']}: {'not reached' if arm['median'] is None else format(arm['median'], '.1f') + ' months'}"
        for arm in one["arms"]
    )
    hazard = (
        f", hazard ratio {one['cox']['hr']:.2f} ({one['cox']['low']:.2f} to {one['cox']['high']:.2f})"
        if one["cox"]
        else ""
    )
    return f"{one['label']}: medians {medians}{hazard}"


def _limits(results: Mapping[str, Any]) -> str:
    found = ["Simulated data: nothing follows for patients."] if results["simulated"] else []
    found.append(
        "Labels are what people said; the judged cells come from the laboratory that trained, so nothing is known of other laboratories."
    )
    if "held out" in results["judged_on"]:
        found.append("The judged cells were not drawn at random.")
    on = results["survival"].get("trained_on")
    if on:
        found.append(
            f"Of {results['survival']['patients']} patients in the analysis of survival, {on} are among those whose cells trained the networks."
        )
    return " ".join(found)


def software() -> str:
    """Versions of what made the figures."""
    return ", ".join(f"{name} {_version(name)}" for name in ("ctcml", *LIBRARIES))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "of an unknown version"


def _both(row: Mapping[str, Any]) -> str:
    def told(one: Mapping[str, Any]) -> str:
        interval = f" ({one['low']:.1%} to {one['high']:.1%})" if one["low"] is not None else ""
        return "not known" if one["value"] is None else f"{one['value']:.1%}{interval}"

    return f"standard CNN {told(row['standard'])}, AE-CNN {told(row['autoencoder'])}"


def _demographics(people: pd.DataFrame) -> str | None:
    age, parts = people["age"].dropna(), []
    if len(age):
        parts.append(
            f"age {age.median():.0f} years in the median ({age.min():.0f} to {age.max():.0f}), known of {len(age)}"
        )
    if people["ecog"].notna().any():
        parts.append(
            "ECOG " + ", ".join(f"{int(name)}: {n}" for name, n in people["ecog"].value_counts().sort_index().items())
        )
    return "; ".join(parts) or None


def _empty(values: "pd.Series[Any]") -> "pd.Series[bool]":
    return values.isna() | values.eq("")


def _stated(values: "pd.Series[str]") -> str | None:
    known = values[~_empty(values)]
    if known.empty:
        return None
    unknown = len(values) - len(known)
    return _shares(known) + (f", not stated {unknown}" if unknown else "")


def _shares(values: "pd.Series[str]") -> str:
    return ", ".join(f"{name} ({n})" for name, n in values.value_counts().items())


def _n(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
