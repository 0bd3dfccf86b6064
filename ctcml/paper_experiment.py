"""The experiment of Zeune et al. 2020 on a laboratory's own data: both networks, 2/5/6 classes, tables, Figs 2 to 6, one report.

The sealed set stays the gate's: what is judged on are steering patients, or training patients that were held out.
"""

import json
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ctcml.errors import BadInput, CannotTrain
from ctcml.malloc import keep_freed_memory
from ctcml.paper_facts import network_facts, patient_facts, reading_facts, result_facts, software
from ctcml.paper_networks import (
    NETWORKS,
    ClassSet,
    Kept,
    Split,
    Task,
    class_sets,
    data_name,
    estimated_seconds,
    forget_networks,
    is_kept,
    kept_network,
    labels_of,
    place_of,
    split_cells,
)
from ctcml.paper_report import REPORT, write_report
from ctcml.paper_results import Judged, Plan, judge, results_of, with_images
from ctcml.paper_survival import roles_of
from ctcml.subgroups import samples_of
from ctcml.tables import TRUTH, read_table
from ctcml.workspace import Workspace

Say = Callable[[str], None]


@contextmanager
def replaced_when_whole(out: Path) -> Iterator[Path]:
    """A new folder beside `out` that takes its place when the block ends well; until then the former report stays.

    Raises `BadInput` where `out` is something else than a report of ours.
    """
    former = out.with_name(f".{out.name}.former")
    if former.exists() and not out.exists():  # killed between the two renames
        former.rename(out)
    if out.exists() and not (out / REPORT).exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out}: expected a report of `ctcml reproduce` or nothing; name another folder with --out")
    out.parent.mkdir(parents=True, exist_ok=True)
    for old in out.parent.glob(f".{out.name}.new-*"):  # of runs that were killed
        shutil.rmtree(old, ignore_errors=True)
    unfinished = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.new-"))
    try:
        yield unfinished
        unfinished.chmod(0o755)
        shutil.rmtree(former, ignore_errors=True)
        if out.exists():
            out.rename(former)
        unfinished.rename(out)
        shutil.rmtree(former, ignore_errors=True)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def reproduce(
    ws: Workspace,
    out: Path,
    plan: Plan,
    *,
    simulated: bool,
    data_version: str | None,
    code_commit: str | None,
    now: str,
    say: Say,
) -> dict[str, Any]:
    """Run the experiment and write its report to the folder `out`; returns what `report.json` holds.

    Raises `CannotTrain` where labels do not allow it; a figure that cannot be drawn says why instead.
    """
    keep_freed_memory()
    begun = time.monotonic()
    if not ws.truth.exists():
        raise CannotTrain(
            f"{ws.root}: no labelled cell yet; take in an export, have cells read, then `ctcml repro settle`"
        )
    truth, types = read_table(ws.truth, TRUTH), samples_of(ws)["cancer_type"]
    split = split_cells(truth, types.to_dict(), plan.dice(21))
    registered = [str(one["class_id"]) for one in json.loads(ws.classes.read_text(encoding="utf-8"))]
    sets, notes = class_sets(registered, split.training["class_id"])
    people = set(split.training["patient_uid"])
    say(f"{len(split.training):,} labelled cells of {len(people)} patients to train on; judged on {split.judged_on}")
    for note in notes:
        say(f"note: {note}")
    with replaced_when_whole(out) as folder:
        kept, tasks = _train_all(ws, split, sets, plan, data_name(truth), say)
        training_s = time.monotonic() - begun
        cells, images = with_images(ws, split.judged, plan.image)
        cells["cancer_type"] = types.reindex(cells["sample_uid"]).to_numpy()
        judged = [judge(chosen, kept[chosen.name], cells, images) for chosen in sets]
        (folder / "figures").mkdir()
        results, drawn = results_of(
            ws, folder / "figures", judged, cells, images, plan, trained_on=people, simulated=simulated, say=say
        )
        results |= {"simulated": simulated, "seeds": plan.seeds, "judged_on": split.judged_on, "notes": notes}
        facts = patient_facts(ws, roles_of(ws), seed=plan.seed, blocks=plan.blocks, endpoint=plan.endpoint)
        facts |= reading_facts(ws, truth, rule=plan.settlement)
        facts |= network_facts(tasks, sets, split, plan.image, notes, seeds=plan.seeds)
        facts |= result_facts(results, bootstrap=plan.bootstrap, min_events=plan.min_events, cutoffs=plan.cutoffs)
        facts |= {"data_version": data_version, "code_commit": code_commit, "seed": f"{plan.seed}"}
        facts |= {"software": software(), "thresholds": ", ".join(f"{one:g}" for one in plan.thresholds)}
        networks = [_network(one, kind, at) for one in judged for kind in NETWORKS for at in range(plan.seeds)]
        durations = {
            "networks": sum(one["training_s"] or 0 for one in networks),  # those of former runs with it
            "training": training_s,
            "whole": time.monotonic() - begun,
        }
        about = {
            "made": now,
            "data_version": data_version,
            "code_commit": code_commit,
            "software": software(),
            "machine": _machine(judged[0]),
            "parameters": vars(plan),
            "durations_s": {name: round(value, 1) for name, value in durations.items()},
            "networks": networks,
        }
        report = write_report(folder, results, drawn, facts, about=about)
    forget_networks(ws.paper_networks, data=data_name(truth))
    say(f"{out / 'report.html'}: {len(tasks)} networks, {duration(durations['whole'])}")
    return report


def _train_all(
    ws: Workspace, split: Split, sets: Sequence[ClassSet], plan: Plan, data: str, say: Say
) -> tuple[dict[str, dict[str, list[Kept]]], list[Task]]:
    """Both networks of every set and seed, trained or found, by set and kind; and their tasks."""
    cells, images = with_images(ws, split.training, plan.image)
    numbers: dict[str, Any] = {"recipe": str(plan.image["recipe"]), "numbers": plan.numbers}
    work = []
    for chosen in sets:
        named = chosen.labels(cells["class_id"])
        there = named.notna().to_numpy()
        labels = labels_of(named[there], chosen.classes)
        for seed in range(plan.seed, plan.seed + plan.seeds):
            for kind in NETWORKS:
                task = Task(network=kind, classes=chosen.classes, seed=seed, **numbers)
                place = place_of(task, images[there], labels, folder=ws.paper_networks, device=plan.device)
                work.append((chosen, task, there, labels, place))
    tasks = [task for _, task, *_ in work]
    took_before = estimated_seconds(tasks, [len(one[3]) for one in work], device=plan.device, rng=plan.dice(28))
    left = [0.0 if is_kept(one[4]) else seconds for one, seconds in zip(work, took_before, strict=True)]
    known = sum(seconds == 0 for seconds in left)
    say(
        f"{len(work)} networks, {known} kept from a former run; the others take about {duration(sum(left))} to train here"
    )
    kept: dict[str, dict[str, list[Kept]]] = {chosen.name: {kind: [] for kind in NETWORKS} for chosen in sets}
    for number, (chosen, task, there, labels, place) in enumerate(work, start=1):
        begun = time.monotonic()
        one = kept_network(task, images[there], labels, place=place, device=plan.device, data=data, say=say)
        took = time.monotonic() - begun
        if not one.was_there:  # the machine may have become busier since the estimate, or less so
            left = [seconds * (0.5 + 0.5 * took / max(left[number - 1], 0.1)) for seconds in left]
        state = "kept from a former run" if one.was_there else f"trained in {duration(took)}"
        rest = f", about {duration(sum(left[number:]))} for the others" if sum(left[number:]) else ""
        say(f"{number}/{len(work)} {task.name}: {state}{rest}")
        kept[chosen.name][task.network].append(one)
    return kept, tasks


def _network(one: Judged, kind: str, at: int) -> dict[str, Any]:
    kept = one.kept[kind][at]
    return {
        "set": one.chosen.name,
        "network": kind,
        "seed": kept.card["seed"],
        "weights_sha256": kept.card["weights_sha256"],
        "training_s": kept.card.get("seconds"),
        "kept_from_a_former_run": kept.was_there,
        "ailments": kept.card.get("ailments", []),
    }


def _machine(one: Judged) -> Mapping[str, Any]:
    return {
        "system": platform.platform(),
        "processor": platform.machine(),
        "threads": torch.get_num_threads(),
        "device": one.kept[NETWORKS[0]][0].card["device"],
    }


def duration(seconds: float) -> str:
    """
    >>> duration(41), duration(600), duration(40000)
    ('41 s', '10 min', '11.1 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
