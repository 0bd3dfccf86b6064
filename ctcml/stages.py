"""The stages of dvc.yaml: each reads files, calls what computes, writes files. One function a stage, of the stage's name.

Imports stand inside the functions on purpose: the fingerprint of a stage is made of its own text and of every module that
it reaches, so a change in the network reruns the training and leaves the survival analysis alone.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from ctcml import params as sections
from ctcml.tables import write_json
from ctcml.workspace import Workspace

Say = Callable[[str], None]


def fresh_folder(folder: Path) -> Path:
    """An empty folder for the pictures of one stage."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def settle(ws: Workspace, *, say: Say) -> None:
    """Replay the ledger into the ground truth, the class registry, the sets and all that readers said."""
    from ctcml.ledger import Ledger
    from ctcml.opinions import opinions_of
    from ctcml.tables import MANIFEST, OPINIONS, TRUTH, read_folder, write_table
    from ctcml.truth import ground_truth, without_sealed_labels

    events = list(Ledger(ws.ledger_snapshot).events())
    manifest = read_folder(ws.manifest, MANIFEST)
    truth = ground_truth(events, manifest)
    write_table(truth.cells, TRUTH, ws.truth)
    write_table(truth.sealed, TRUTH, ws.sealed)
    write_json(
        ws.classes,
        [{"class_id": one.class_id, "name": one.name, "definition": one.definition} for one in truth.classes],
    )
    write_json(ws.roles, {patient: role.value for patient, role in sorted(truth.roles.items())})
    opinions = opinions_of(events, manifest.set_index("cell_uid")["patient_uid"])
    write_table(without_sealed_labels(opinions, truth.roles), OPINIONS, ws.opinions)
    say(
        f"{len(truth.cells)} labelled cells and {len(truth.sealed)} that only the gate may see in {len(truth.classes)} classes, {len(opinions)} readings; {truth.historic_unused} historic labels of held-out patients stay closed"
    )


def measure(ws: Workspace, *, say: Say) -> None:
    """Measure ACCEPT's features of every thumbnail that came as camera counts."""
    from ctcml.features import measure as measured
    from ctcml.shards import counts_of, read_shard, sample_uids, shard_paths
    from ctcml.tables import FEATURES, write_table

    folder = fresh_folder(ws.features)
    samples = sample_uids(ws.shards)
    count = left_out = 0
    for number, sample_uid in enumerate(samples, start=1):
        thumbnails = [one for path in shard_paths(ws.shards, sample_uid) for one in read_shard(path)]
        # Preprocessed pixels have no counts and no background any more.
        raw = [one for one in thumbnails if not one.recipe]
        rows = [{"cell_uid": one.cell_uid} | measured(counts_of(one), one.mask) for one in raw]
        write_table(pd.DataFrame(rows, columns=list(FEATURES)), FEATURES, folder / f"{sample_uid}.parquet")
        count, left_out = count + len(raw), left_out + len(thumbnails) - len(raw)
        if number % 40 == 0:
            say(f"{number}/{len(samples)} samples measured")
    say(f"{count} cells of {len(samples)} samples measured; {left_out} came preprocessed and cannot be measured")


def preselect(ws: Workspace, *, seed: int, gates: sections.Gates, say: Say) -> None:
    """Find candidates of each class by loose gates, deal them into random review sets, pool what may be an artefact."""
    import numpy as np

    from ctcml.clinical import COVARIATE
    from ctcml.gates import candidates, pool_for_other, review_sets
    from ctcml.pictures import gallery
    from ctcml.shards import read_overlays
    from ctcml.tables import CANDIDATES, CLINICAL, FEATURES, MANIFEST, TRUTH, read_folder, read_table, write_table
    from ctcml.truth import training_cells

    roles = json.loads(ws.roles.read_text())
    manifest = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "sample_uid", "patient_uid"])
    cells = read_folder(ws.features, FEATURES).merge(manifest, on="cell_uid")
    # Nobody looks for candidates among the cells of held-out patients.
    cells = cells[cells["patient_uid"].map(roles) == "train"].reset_index(drop=True)
    settled = training_cells(read_table(ws.truth, TRUTH)).set_index("cell_uid")["class_id"].to_dict()
    samples = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
    benign = samples.loc[samples["sample_kind"] == "benign", "sample_uid"]
    found = candidates(cells, gates.classes)
    pool = pool_for_other(found, settled, set(cells.loc[cells["sample_uid"].isin(benign), "cell_uid"]))
    unread = pd.concat([found[~found["cell_uid"].isin(settled)], pool], ignore_index=True)
    sets = review_sets(unread, gates.review_set, np.random.default_rng([seed, 3]))
    sets = sets.merge(cells[["cell_uid", "sample_uid"]], on="cell_uid").sort_values(
        ["class_id", "review_set", "place"], ignore_index=True
    )
    write_table(sets[list(CANDIDATES)], CANDIDATES, ws.candidates)
    stamp = simulated(ws)
    folder = fresh_folder(ws.pictures / "candidates")
    first = sets[sets["review_set"] == 1]
    tiles = read_overlays(ws.shards, first)
    for class_id, shown in first.groupby("class_id"):
        gallery(
            [tiles[uid] for uid in shown["cell_uid"]],
            [str(place) for place in shown["place"]],
            folder / f"{class_id}-set-1.png",
            columns=15,
            title=f"Candidates of {class_id}: {len(shown)} of {(sets['class_id'] == class_id).sum()}, drawn at random",
            simulated=stamp,
        )
    told = ", ".join(f"{number} {class_id}" for class_id, number in sets["class_id"].value_counts(sort=False).items())
    say(f"candidates without a label, and the pool for other: {told or 'none'} of {len(cells)} cells")


def train(ws: Workspace, *, seed: int, image: sections.Image, train: sections.Train, say: Say) -> None:
    """Train the AE-CNN through its beta phases on the training patients' labels."""
    import numpy as np

    from ctcml.augment import Jitter
    from ctcml.errors import CannotTrain
    from ctcml.malloc import keep_freed_memory
    from ctcml.records import Role
    from ctcml.shards import read_inputs
    from ctcml.tables import TRUTH, read_table
    from ctcml.train import train as fit
    from ctcml.train import write_model
    from ctcml.truth import evaluation_cells, training_cells

    classes = [one["class_id"] for one in json.loads(ws.classes.read_text())]
    truth = read_table(ws.truth, TRUTH)
    unknown = sorted(set(truth["class_id"]) - set(classes))
    if unknown:
        raise CannotTrain(
            f"the ground truth has {', '.join(unknown)}, which the class registry lacks; run `ctcml settle`"
        )

    def labelled(cells: pd.DataFrame) -> tuple[Any, Any]:
        label_of = dict(zip(cells["cell_uid"], cells["class_id"], strict=True))
        uids, images = read_inputs(
            ws.shards, sorted(set(cells["sample_uid"])), cell_uids=set(label_of), **image.model_dump()
        )
        return images, np.array([classes.index(label_of[uid]) for uid in uids], dtype=np.int64)

    chosen = training_cells(truth)
    if chosen.empty:
        raise CannotTrain(
            "the ground truth holds no label of a training patient; take in historic labels or read cells first"
        )
    if chosen["patient_uid"].nunique() < 2:
        raise CannotTrain(
            f"all {len(chosen)} labels are of one patient, whom the model would learn by heart; have cells of others read"
        )
    steering = evaluation_cells(truth, Role.STEERING)
    images, labels = labelled(chosen)
    say(f"{len(labels)} thumbnails of {chosen['patient_uid'].nunique()} patients, {len(classes)} classes")
    start = ws.start if train.new_class_from == "weights" and (ws.start / "model.json").exists() else None
    keep_freed_memory()
    curve = image.asinh_scale if image.recipe == "asinh" else 0.0
    jitter = Jitter(**train.jitter.model_dump(), asinh_scale=curve) if train.jitter.share else None
    trained = fit(
        images,
        labels,
        classes=classes,
        seed=seed,
        recipe=image.recipe,
        start=start,
        checkpoints=ws.checkpoints,
        steering=labelled(steering) if len(steering) else None,
        progress=say,
        jitter=jitter,
        device=train.device,
        **train.numbers(),
    )
    about = {
        "image": image.model_dump(),
        "n_patients": int(chosen["patient_uid"].nunique()),
        "profile": train.profile,
        "new_class_from": train.new_class_from,
    }
    write_model(trained, ws.candidate, extra=about)
    shutil.rmtree(ws.checkpoints, ignore_errors=True)


def evaluate(ws: Workspace, *, seed: int, gate: sections.Gate, counts: sections.Counts, say: Say) -> None:
    """Score the candidate on steering patients and show the CTCs that it missed or saw where there are none."""
    from ctcml.evaluation import evaluate_candidate

    report = evaluate_candidate(
        ws,
        fresh_folder(ws.pictures / "evaluation"),
        thresholds=counts.thresholds,
        temperature_sd=counts.temperature_sd,
        readers_differ=counts.readers_differ,
        readers_differ_cells=counts.readers_differ_cells,
        bootstrap=gate.bootstrap,
        seed=seed,
        simulated=simulated(ws),
        say=say,
    )
    write_json(ws.evaluation, report)


def replay(
    ws: Workspace,
    *,
    seed: int,
    image: sections.Image,
    train: sections.Train,
    discover: sections.Discover,
    replay: sections.Replay,
    say: Say,
) -> None:
    """Hide each class in turn and see whether discovery finds it again; choose the novelty score and rule by it."""
    from ctcml.workspace_replay import replay_workspace

    report = replay_workspace(
        ws,
        fresh_folder(ws.pictures / "replay"),
        numbers=train.shortened(replay.profile, replay.epochs),
        image=image.model_dump(),
        network=train.network,
        clusters=discover.clusters,
        min_cells=discover.min_cells,
        seed=seed,
        simulated=simulated(ws),
        say=say,
        **replay.model_dump(exclude={"profile", "epochs"}),
    )
    write_json(ws.replay, report)


# In quotes, as where the work runs is no part of what is made: a name would tie the fingerprint to params.py.
def embed(ws: Workspace, *, executor: "sections.Executor", say: Say) -> None:
    """Write latents, probabilities, reconstruction errors and appearance of every thumbnail by the champion."""
    from ctcml.archive import embed_archive
    from ctcml.executor import open_executor

    with open_executor(**executor.model_dump()) as workers:
        embed_archive(ws, ws.champion, ws.embeddings, executor=workers, say=say)


def drift(ws: Workspace, *, seed: int, drift: sections.Drift, say: Say) -> None:
    """Set each sample beside the training cells of its instrument and site, and the champion beside the random arm."""
    from ctcml.drift import look_for_drift
    from ctcml.drift_pictures import draw_drift
    from ctcml.tables import DRIFT, write_table

    table, report = look_for_drift(ws, seed=seed, simulated=simulated(ws), say=say, **drift.model_dump())
    write_table(table[list(DRIFT)], DRIFT, ws.drift_samples)
    write_json(ws.drift, report, allow_nan=False)
    draw_drift(table, report, fresh_folder(ws.pictures / "drift"))


def cluster(ws: Workspace, *, seed: int, discover: sections.Discover, say: Say) -> None:
    """Cluster labelled and unlabelled cells of the training patients and flag what no label explains."""
    from ctcml.discovery import discover as find

    report = find(
        ws,
        fresh_folder(ws.pictures / "clusters"),
        seed=seed,
        simulated=simulated(ws),
        say=say,
        **discover.model_dump(include={"clusters", "min_cells", "method", "exemplars", "draws"}),
    )
    write_json(ws.discovery_report, report)


def chart(ws: Workspace, *, seed: int, discover: sections.Discover, say: Say) -> None:
    """Fit the flat maps to the training cells as the candidate sees them, and keep these cells: both stay with the model."""
    import numpy as np

    from ctcml.embed import load_scorer, look
    from ctcml.latentmap import METHODS, choose_cells, fit_reducer, write_chart
    from ctcml.map_pictures import SPELT, map_plot
    from ctcml.reference import PLACE, write_reference
    from ctcml.shards import read_inputs
    from ctcml.tables import TRUTH, read_table
    from ctcml.truth import training_cells

    labelled = training_cells(read_table(ws.truth, TRUTH)).reset_index(drop=True)
    rng = np.random.default_rng([seed, 4])
    chosen = labelled.iloc[choose_cells(labelled["class_id"].tolist(), most=discover.map_cells, rng=rng)]
    class_of = chosen.set_index("cell_uid")["class_id"]
    scorer = load_scorer(ws.candidate)
    image = json.loads((ws.candidate / "model.json").read_text())["image"]
    uids, images = read_inputs(ws.shards, sorted(set(chosen["sample_uid"])), cell_uids=set(class_of.index), **image)
    classes, seen = class_of[uids].tolist(), look(scorer, images)
    reducers = [
        fit_reducer(seen.latents, method=method, seed=seed, weights_sha256=scorer.weights_sha256) for method in METHODS
    ]
    write_chart(
        fresh_folder(ws.chart), reducers, about={"cells": len(uids), "per_class": class_of.value_counts().to_dict()}
    )
    write_reference(ws.chart / PLACE.name, seen, classes)
    stamp = simulated(ws)
    folder = fresh_folder(ws.pictures / "chart")
    for one in reducers:
        for ending in ("svg", "png"):
            map_plot(
                one.places,
                classes,
                folder / f"training-cells-{one.method}.{ending}",
                simulated=stamp,
                title=f"{SPELT[one.method]} of the candidate's latents: training cells by settled label",
            )
    say(f"flat maps fitted on {len(uids)} of {len(labelled)} training cells")


def map(ws: Workspace, *, say: Say) -> None:
    """Place every cell on the flat maps that came with the champion, for the eye only."""
    import numpy as np

    from ctcml.clinical import COVARIATE
    from ctcml.latentmap import place, read_chart
    from ctcml.map_pictures import draw_maps
    from ctcml.tables import (
        CLINICAL,
        DISCOVERY,
        EMBEDDING,
        MANIFEST,
        MAP,
        TRUTH,
        read_folder,
        read_table,
        write_table,
    )
    from ctcml.truth import training_cells

    weights = json.loads((ws.champion / "model.json").read_text())["weights_sha256"]
    reducers = read_chart(ws.champion_chart, weights_sha256=weights)
    cells = read_folder(ws.embeddings, EMBEDDING, columns=["cell_uid", "sample_uid", "predicted", "latent"])
    latents = np.stack(cells.pop("latent"))
    places = {name: place(reducer, latents) for name, reducer in reducers.items()}
    axes = {f"{name}_{axis}": xy[:, at] for name, xy in places.items() for at, axis in enumerate("xy")}
    write_table(pd.DataFrame({"cell_uid": cells["cell_uid"], **axes}), MAP, ws.map)
    samples = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
    kinds = samples["sample_kind"].where(samples["sample_kind"] != "patient", "").str.replace("_", " ")
    samples["cancer_type"] = (kinds + " " + samples["cancer_type"]).str.strip()
    # Held-out patients' labels are for the gate alone, so they colour no dot.
    labels = training_cells(read_table(ws.truth, TRUTH)).set_index("cell_uid")["class_id"]
    cells = (
        cells.assign(true_class=cells["cell_uid"].map(labels))
        .merge(read_table(ws.cell_discovery, DISCOVERY, columns=["cell_uid", "novelty", "flagged"]), how="left")
        .merge(read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "patient_uid"]), on="cell_uid", how="left")
        .merge(samples[["sample_uid", "cancer_type", "instrument"]], on="sample_uid", how="left")
    )
    cells["flagged"] = cells["flagged"].eq(True)
    stamp = simulated(ws)
    folder = fresh_folder(ws.pictures / "map")
    for name, xy in places.items():
        draw_maps(cells.assign(x=xy[:, 0], y=xy[:, 1]), folder, name=name, simulated=stamp)
    say(f"{len(cells)} cells on the maps")


def query(ws: Workspace, *, seed: int, queue: sections.Queue, counts: sections.Counts, say: Say) -> None:
    """Choose the thumbnails that are worth a reader's time, and draw the evaluation arm."""
    import numpy as np

    from ctcml.calibration import tempered
    from ctcml.label_noise import COLUMNS as LABEL_NOISE
    from ctcml.label_noise import label_noise
    from ctcml.ledger import Ledger, readings_of
    from ctcml.queries import (
        decision_critical,
        discovery_queue,
        doubtful_labels,
        evaluation_queue,
        hidden_repeats,
        kind_of,
        not_asked_before,
    )
    from ctcml.records import Purpose, Role
    from ctcml.tables import (
        COUNTS,
        DISCOVERY,
        EMBEDDING,
        MANIFEST,
        QUEUE,
        TRUTH,
        read_folder,
        read_table,
        write_table,
    )
    from ctcml.truth import training_cells

    roles = {patient: Role(role) for patient, role in json.loads(ws.roles.read_text()).items()}
    manifest = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "patient_uid", "proposed"])
    patient_of = manifest.set_index("cell_uid")["patient_uid"]
    events = list(Ledger(ws.ledger_snapshot).events("queued", "reading", "protocol_renewed"))
    bodies = [event.body for event in events if event.kind == "queued"]
    queued = {body["cell_uid"]: body["purpose"] for body in bodies}
    drawn = pd.Series(
        # Cells of patients who withdrew are gone, and others are drawn instead.
        [roles[patient_of[uid]] for uid, why in queued.items() if why == Purpose.EVALUATION and uid in patient_of],
        dtype=str,
    ).value_counts()
    evaluation = evaluation_queue(
        manifest,
        roles,
        sealed=max(0, queue.evaluation_sealed - int(drawn.get("sealed", 0))),
        steering=max(0, queue.evaluation_steering - int(drawn.get("steering", 0))),
        exclude=set(queued),
        rng=np.random.default_rng([seed, 1]),
    )
    classes = json.loads((ws.champion / "model.json").read_text())["classes"]
    scored = read_folder(ws.embeddings, EMBEDDING, columns=["cell_uid", "sample_uid", "predicted", "probabilities"])
    if len(scored):
        temperature = json.loads(ws.calibration.read_text())["temperature"]
        scored["probabilities"] = list(tempered(np.stack(scored["probabilities"].to_list()), temperature))
    scored = scored.merge(manifest, on="cell_uid")
    labels = training_cells(read_table(ws.truth, TRUTH))
    found = read_table(
        ws.cell_discovery, DISCOVERY, columns=["cell_uid", "cluster", "uncertainty", "in_reference", "flagged"]
    ).merge(scored, on="cell_uid")
    unread = found[~(found["in_reference"] | found["cell_uid"].isin({*labels["cell_uid"], *queued}))]
    critical = decision_critical(
        unread,
        read_table(ws.counts, COUNTS),
        classes=classes,
        denominator=counts.denominator,
        flip_risk=queue.flip_risk,
        between=queue.critical_between,
    )
    labelled = labels[["cell_uid", "class_id"]].merge(scored, on="cell_uid")
    # Looks alone: latents come from a network that has learnt these very labels.
    looks = read_folder(ws.embeddings, EMBEDDING, columns=["cell_uid", "appearance"])
    looks = labelled[["cell_uid"]].merge(looks, on="cell_uid")
    features = np.array(looks["appearance"].to_list(), dtype=np.float32)
    noisy = (
        label_noise(labelled, features, folds=queue.doubtful_folds, rng=np.random.default_rng([seed, 14]))
        if len(labelled)
        else pd.DataFrame(columns=LABEL_NOISE)
    )
    doubtful = doubtful_labels(labelled, noisy, classes=classes, below=queue.doubtful_below)
    shown = {uid for event in events if event.kind == "protocol_renewed" for uid in event.body["cells"]}
    repeats = hidden_repeats(manifest[~manifest["cell_uid"].isin(shown)], readings_of(events))
    discovery = discovery_queue(
        unread,
        budget=queue.budget,
        shares=queue.shares.model_dump(),
        per_patient=queue.per_patient,
        roles=roles,
        rng=np.random.default_rng([seed, 2]),
        others={
            "critical": critical,
            "doubtful": not_asked_before(doubtful, bodies),
            "repeat": not_asked_before(repeats, bodies),
        },
    )
    both = pd.concat([discovery, evaluation], ignore_index=True)
    write_table(both.assign(rank=np.arange(len(both), dtype=np.int32)), QUEUE, ws.queue)
    kinds = discovery["reason"].map(kind_of).value_counts()
    told = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    say(f"{len(discovery)} cells for discovery ({told or 'none'}), {len(evaluation)} for the evaluation arm")


def calibrate(ws: Workspace, *, counts: sections.Counts, say: Say) -> None:
    """Measure what the champion's probabilities are worth, on settled cells of steering patients."""
    from ctcml.recounting import calibrated

    found = calibrated(ws, ws.champion, ws.embeddings, counts=counts)
    write_json(ws.calibration, found.to_dict())
    say(
        f"temperature {found.temperature:.2f} and the patients' common errors from {found.cells} settled cells of "
        f"{found.patients} steering patients"
    )


def count(ws: Workspace, *, counts: sections.Counts, survival: sections.Survival, say: Say) -> None:
    """Count cells per sample, with intervals and the risk of lying on the other side of the cut-off."""
    from ctcml.recounting import counted
    from ctcml.shards import sample_uids
    from ctcml.tables import COUNTS, write_table

    calibration = json.loads(ws.calibration.read_text())
    table = counted(ws, ws.champion, ws.embeddings, calibration, counts=counts, survival=survival)
    write_table(table, COUNTS, ws.counts)
    say(f"{len(sample_uids(ws.manifest))} samples counted")


def survive(ws: Workspace, *, seed: int, counts: sections.Counts, survival: sections.Survival, say: Say) -> None:
    """Kaplan-Meier, log-rank and Cox of the counts, by model and by hand, and how far readings move the hazard ratio."""
    from ctcml.survival_pictures import km_plot, spread_plot
    from ctcml.workspace_survival import concordances, reports, spreads, tables_of

    told = tables_of(ws, survival)
    stamp, folder = simulated(ws), fresh_folder(ws.pictures / "survival")
    first, later = (list(reports(told, counts=counts, survival=survival, landmark=late)) for late in (False, True))
    for name, of_kind in (("km", first), ("landmark", later)):
        for report in of_kind:
            for ending in ("svg", "png"):
                path = folder / f"{name}-{report['source']}-{report['group']}.{ending}"
                km_plot(report, path, simulated=stamp)
    exploratory = {report["group"]: report["exploratory"] for report in first if report["source"] == "model"}
    spread = spreads(ws, told, counts=counts, survival=survival, seed=seed)
    for group, one in spread.items():
        for ending in ("svg", "png"):
            spread_plot(
                one.to_dict(), folder / f"spread-{group}.{ending}", label=f"Who read the cells, {group} patients",
                simulated=stamp, exploratory=exploratory[group],
            )  # fmt: skip
    write_json(
        ws.survival,
        {
            "simulated": stamp,
            "endpoint": survival.endpoint,
            "denominator": counts.denominator,
            "reports": first,
            "landmarks": later,
            "spread": [{"group": group} | one.to_dict() for group, one in spread.items()],
            "concordance": concordances(told, counts=counts, survival=survival),
        },
    )
    both = [*first, *later]
    say(f"{len(both)} analyses, {sum(bool(one['refusals']) for one in both)} of them with refusals")


def compare(ws: Workspace, *, seed: int, counts: sections.Counts, compare: sections.Compare, say: Say) -> None:
    """Set CTCs by hand beside CTCs by the model, event by event and tube by tube."""
    import numpy as np

    from ctcml.by_hand import compare_by_hand, told
    from ctcml.by_hand_pictures import draw_galleries, tubes_plot
    from ctcml.calibration import probabilities_of
    from ctcml.clinical import COVARIATE
    from ctcml.counts import CTC
    from ctcml.tables import (
        BY_HAND_CELLS,
        BY_HAND_SAMPLES,
        CLINICAL,
        COUNTS,
        EMBEDDING,
        MANIFEST,
        TRUTH,
        read_folder,
        read_table,
        write_table,
    )

    classes = json.loads((ws.champion / "model.json").read_text())["classes"]
    cells = read_folder(ws.embeddings, EMBEDDING, columns=["cell_uid", "sample_uid", "predicted", "probabilities"])
    manifest = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "patient_uid", "proposed", "assigned"])
    chances = probabilities_of(cells, classes)
    found = compare_by_hand(
        cells.assign(p_ctc=chances[:, classes.index(CTC)]).merge(manifest, on="cell_uid"),
        read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE),
        read_table(ws.counts, COUNTS),
        read_table(ws.truth, TRUTH),
        denominator=counts.denominator,
        bootstrap=compare.bootstrap,
        rng=np.random.default_rng([seed, 31]),
    )
    write_table(found.samples, BY_HAND_SAMPLES, ws.by_hand_samples)
    write_table(found.cells, BY_HAND_CELLS, ws.by_hand_cells)
    stamp = simulated(ws)
    folder = fresh_folder(ws.pictures / "by_hand")
    for ending in ("svg", "png"):
        tubes_plot(found.samples, found.report, folder / f"tubes.{ending}", simulated=stamp)
    sheets = draw_galleries(found.cells, ws.shards, folder, most=compare.gallery, simulated=stamp)
    write_json(ws.by_hand, {"simulated": stamp, **found.report, "galleries": sheets}, allow_nan=False)
    for line in told(found.report):
        say(line)


def subclass(
    ws: Workspace,
    *,
    seed: int,
    subclasses: sections.Subclasses,
    counts: sections.Counts,
    survival: sections.Survival,
    say: Say,
) -> None:
    """Count subclasses of a class in the latent space, each with its own survival analysis; exploratory."""
    from ctcml.subclassing import subclass_workspace

    report = subclass_workspace(
        ws,
        fresh_folder(ws.pictures / "subclasses"),
        interval=counts.interval,
        endpoint=survival.endpoint,
        min_events=survival.min_events,
        seed=seed,
        simulated=simulated(ws),
        say=say,
        **subclasses.model_dump(),
    )
    write_json(ws.subclass_report, report)


def simulated(ws: Workspace) -> bool:
    """Whether any sample says of itself that it was simulated."""
    from ctcml.clinical import COVARIATE
    from ctcml.tables import CLINICAL, read_table

    samples = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
    return f"{COVARIATE}simulated" in samples and bool((samples[f"{COVARIATE}simulated"] == "yes").any())


STAGES = (
    settle,
    measure,
    preselect,
    train,
    evaluate,
    replay,
    chart,
    embed,
    drift,
    cluster,
    map,
    query,
    calibrate,
    count,
    survive,
    compare,
    subclass,
)
