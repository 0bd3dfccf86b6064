"""What the replay says of a laboratory's own classes and of any labelled array file, as reports for JSON and people."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ctcml.arrays import find_samples, read_sample
from ctcml.errors import BadInput
from ctcml.images import to_given
from ctcml.paired import paired
from ctcml.records import class_id_from_name
from ctcml.replay import (
    APPEARANCE,
    FEWEST_OF_CLASS,
    Case,
    Choice,
    Images,
    Names,
    Outcome,
    Plan,
    Say,
    Yes,
    best_baseline,
    choose,
    divide,
    interval,
    run_cases,
)
from ctcml.replay_pictures import spaces_plot
from ctcml.tables import atomic_path


def read_labelled(path: Path, *, say: Say) -> tuple[Images, Names, Names]:
    """Read `images`, `labels` and `groups` of an `.npz`: (N, 80, 80, 3) uint8, and a class and a group a row.

    Rows without a label are left out and told, and so are rows that cannot be read. Raises `BadInput` when none is left.
    """
    samples, refused = find_samples(path) if path.is_file() else ([], [])
    images, labels, groups = [], [], []
    for sample in samples:
        found, more = read_sample(sample)
        refused += more
        for one in found:
            if one.label:
                images.append(to_given(one.pixels, bit_depth=one.source_bit_depth))
                labels.append(one.label)
                groups.append(one.sample_id)
    for row in refused[:3]:
        say(f"left out: {row.file}: {row.reason}")
    if len(refused) > 3:
        say(f"left out: {len(refused)} rows or files in all")
    if not images:
        raise BadInput(
            f"{path}: expected an .npz with images, labels and groups, found {refused[0].reason if refused else 'no labelled picture'}"
        )
    return np.stack(images), np.array(labels), np.array(groups)


def replay_file(
    path: Path, *, hold_out: str, seeds: int, plan: Plan, workers: int, say: Say
) -> tuple[dict[str, Any], list[Outcome]]:
    """Hide one class of a labelled array file, `seeds` times; what is used is chosen on the *other* classes alone.

    For the choice each other class is hidden in turn while the cells of `hold_out` are taken out altogether. Returns the
    report and the outcomes of the hidden class itself. Raises `BadInput` for a class that the file lacks, or too few of them.
    """
    images, labels, groups = read_labelled(path, say=say)
    hidden = _class_of(hold_out, labels, path)
    others = [one for one in sorted(set(labels) - {hidden}) if (labels == one).sum() >= FEWEST_OF_CLASS]
    if (labels == hidden).sum() < FEWEST_OF_CLASS or len(set(labels)) < 3:
        raise BadInput(
            f"{path}: {int((labels == hidden).sum())} cells of {hidden!r} and {len(set(labels))} classes, expected"
            f" {FEWEST_OF_CLASS} cells and 3 classes or more; add cells"
        )
    by_seed = []
    outcomes = []
    for seed in range(seeds):
        in_archive, by_group = divide(labels, groups, seed=seed)
        cases = [Case(seed=seed, hidden=hidden)]
        if len(set(labels)) > 3:  # with three, hiding two leaves one, and no network can be trained
            cases += [Case(seed=seed, hidden=one, unknown=hidden) for one in others]
        played = run_cases(
            cases, images, labels, groups, in_archive, by_group=by_group, plan=plan, workers=workers, say=say
        )
        outcomes.append(played[0])
        choice = choose(played[1:], spaces=(*plan.networks, APPEARANCE))
        by_seed.append(_of_seed(played[0], choice, [one.case.hidden for one in played[1:]]))
        say(_told(by_seed[-1], hidden))
    return {
        "file": path.name,
        "classes": {name: int((labels == name).sum()) for name in sorted(set(labels))},
        "groups": len(set(groups)),
        "divided_by": "group" if by_group else "cell",
        "held_out": hidden,
        "chosen_on": others if len(set(labels)) > 3 else [],
        "seeds": by_seed,
        "mean": _means(by_seed),
    }, outcomes


def write_report(
    report: Mapping[str, Any], played: Sequence[Outcome], *, out: Path | None, plot: Path | None, simulated: bool
) -> None:
    """Write the report of `replay_file` as JSON, and of its first seed how each network lays out the archive."""
    if out is not None:
        with atomic_path(out) as unfinished:
            unfinished.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if plot is not None:
        spaces_plot(played[0], plot, simulated=simulated)


def replay_laboratory(
    images: Images,
    labels: Names,
    groups: Names,
    in_archive: Yes,
    *,
    seeds: Sequence[int],
    plan: Plan,
    spaces: Sequence[str],
    workers: int,
    say: Say,
) -> tuple[dict[str, Any], list[Outcome]]:
    """Hide each class in turn and choose the score and rule that all of them support; the report and the outcomes.

    Of `spaces`, the networks the laboratory has and `appearance`, the choice is made. What the report says of each class
    is judged by what the *other* classes would have chosen. A class with fewer than 10 cells in the archive is passed over.
    """
    classes = sorted(set(labels))
    enough = [one for one in classes if (in_archive & (labels == one)).sum() >= FEWEST_OF_CLASS and len(classes) > 2]
    cases = [Case(seed=seed, hidden=one) for seed, one in product(seeds, enough)]
    played = (
        run_cases(cases, images, labels, groups, in_archive, by_group=True, plan=plan, workers=workers, say=say)
        if cases
        else []
    )
    choice = choose(played, spaces=spaces)
    by_case = []
    for one in played:
        elsewhere = [other for other in played if other.case.hidden != one.case.hidden]
        by_case.append(_of_seed(one, choose(elsewhere, spaces=spaces), sorted({o.case.hidden for o in elsewhere})))
    return {
        "choice": asdict(choice),
        "patients": len(set(groups)),
        "reference_cells": int((~in_archive).sum()),
        "archive_cells": int(in_archive.sum()),
        "passed_over": sorted(set(classes) - set(enough)),
        "cases": by_case,
        "scores": _score_table(played),
        "rules": _rule_table(played),
    }, played


def _class_of(wanted: str, labels: Names, path: Path) -> str:
    for name in (wanted, class_id_from_name(wanted) if wanted.strip() else ""):
        if name in labels:
            return name
    raise BadInput(f"{path}: no cell of class {wanted!r}; choose of {', '.join(sorted(set(labels)))}")


def _of_seed(one: Outcome, choice: Choice, chosen_on: list[str]) -> dict[str, Any]:
    """One case in plain figures, judged by a choice that it had no part in."""
    natural, rng = one.mixtures[0], np.random.default_rng([one.case.seed, 7])
    baseline = best_baseline(one)
    ratio = f"{choice.ratio:g}"
    low, high = interval(one, choice.score, rng=rng)
    lead_low, lead_high = interval(one, choice.score, rng=rng, against=baseline)
    return {
        "seed": one.case.seed,
        "hidden": one.case.hidden,
        "known": natural.known,
        "novel": natural.novel,
        "accuracy_of_known": dict(one.accuracy),
        "auroc": dict(natural.auroc),
        "fpr95": dict(natural.fpr95),
        "chosen": choice.score,
        "chosen_on": chosen_on,
        "chosen_auroc": natural.auroc[choice.score],
        "chosen_auroc_95": [low, high],
        "chosen_fpr95": natural.fpr95[choice.score],
        "best_baseline": baseline,
        "lead_over_best_baseline": natural.auroc[choice.score] - natural.auroc[baseline],
        "lead_95": [lead_low, lead_high],
        "rule": {"representation": choice.representation, "ratio": choice.ratio},
        "flagged": _found(natural.flagged[choice.representation][ratio]),
        "flagged_by": {space: _found(by[ratio]) for space, by in natural.flagged.items()},
        "false_flags": {space: by[ratio] for space, by in one.false_flags.items()},
        "prevalences": [
            {
                "prevalence": mixture.prevalence,
                "known": mixture.known,
                "novel": mixture.novel,
                "auroc": dict(mixture.auroc),
                "fpr95": dict(mixture.fpr95),
                "flagged": _found(mixture.flagged[choice.representation][ratio]),
                "flagged_by": {space: _found(by[ratio]) for space, by in mixture.flagged.items()},
            }
            for mixture in one.mixtures
        ],
    }


def _found(found: Any) -> dict[str, Any]:
    """Of a rule that flagged nothing there is no purity to tell."""
    return asdict(found) | ({"purity": None} if found.size == 0 else {})


def _means(by_seed: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means over the seeds with their 95 % t-interval; None where one seed alone gives none."""

    def over(values: Sequence[float]) -> list[float | None]:
        one = paired(values)
        return [one.mean, *(limit if np.isfinite(limit) else None for limit in (one.low, one.high))]

    return {
        "auroc": {name: over([one["auroc"][name] for one in by_seed]) for name in by_seed[0]["auroc"]},
        "fpr95": {name: over([one["fpr95"][name] for one in by_seed]) for name in by_seed[0]["fpr95"]},
        "chosen_auroc": over([one["chosen_auroc"] for one in by_seed]),
        "chosen_fpr95": over([one["chosen_fpr95"] for one in by_seed]),
        "lead_over_best_baseline": over([one["lead_over_best_baseline"] for one in by_seed]),
        "recall": over([one["flagged"]["recall"] for one in by_seed]),
    }


def _score_table(played: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Mean AUROC and false alarms of each score at each prevalence, over classes and seeds."""
    rows = [
        (name, mixture.prevalence, mixture.auroc[name], mixture.fpr95[name])
        for one in played
        for mixture in one.mixtures
        for name in mixture.auroc
    ]
    table = []
    for name, prevalence in dict.fromkeys((row[0], row[1]) for row in rows):
        of_both = [row for row in rows if row[:2] == (name, prevalence)]
        table.append(
            {
                "score": name,
                "prevalence": prevalence,
                "auroc": float(np.mean([row[2] for row in of_both])),
                "lowest_auroc": float(np.min([row[2] for row in of_both])),
                "fpr95": float(np.mean([row[3] for row in of_both])),
                "cases": len(of_both),
            }
        )
    return table


def _rule_table(played: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Mean purity, recall and F1 of each rule at each prevalence, and the clusters it flags where nothing is hidden."""
    if not played:
        return []
    table = []
    first = played[0].mixtures[0].flagged
    for space, ratio in ((one, ratio) for one in first for ratio in first[one]):
        for prevalence in dict.fromkeys(mixture.prevalence for one in played for mixture in one.mixtures):
            found = [m.flagged[space][ratio] for one in played for m in one.mixtures if m.prevalence == prevalence]
            pure = [one.purity for one in found if one.size]
            table.append(
                {
                    "representation": space,
                    "ratio": float(ratio),
                    "prevalence": prevalence,
                    "purity": float(np.mean(pure)) if pure else None,
                    "recall": float(np.mean([one.recall for one in found])),
                    "f1": float(np.mean([one.f1 for one in found])),
                    "false_flags": float(np.mean([one.false_flags[space][ratio] for one in played])),
                    "cases": len(found),
                }
            )
    return table


def _told(one: Mapping[str, Any], hidden: str) -> str:
    flagged = one["flagged"]
    found = (
        f"{flagged['size']} cells flagged in {flagged['clusters']} clusters, purity {flagged['purity']:.2f}, recall {flagged['recall']:.2f}"
        if flagged["size"]
        else "no cluster flagged"
    )
    return (
        f"seed {one['seed']}: {hidden} by {one['chosen']}, AUROC {one['chosen_auroc']:.3f}, {one['chosen_fpr95']:.0%} false alarms at"
        f" 95 % recall (best baseline {one['best_baseline']}: {one['auroc'][one['best_baseline']]:.3f}); {found}"
    )
