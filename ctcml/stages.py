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
from ctcml.tables import atomic_path
from ctcml.workspace import Workspace

Say = Callable[[str], None]


def write_json(path: Path, content: Any) -> None:
    with atomic_path(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def fresh_folder(folder: Path) -> Path:
    """An empty folder for the pictures of one stage."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def settle(ws: Workspace, *, say: Say) -> None:
    """Replay the ledger into the ground truth, the class registry, the sets and the readers' agreement."""
    from ctcml.ledger import Ledger
    from ctcml.readings import agreement_report
    from ctcml.tables import MANIFEST, TRUTH, read_folder, write_table
    from ctcml.truth import ground_truth

    events = list(Ledger(ws.ledger_snapshot).events())
    truth = ground_truth(events, read_folder(ws.manifest, MANIFEST))
    write_table(truth.cells, TRUTH, ws.truth)
    write_json(
        ws.classes,
        [{"class_id": one.class_id, "name": one.name, "definition": one.definition} for one in truth.classes],
    )
    write_json(ws.roles, {patient: role.value for patient, role in sorted(truth.roles.items())})
    report = agreement_report(events) | {"historic_unused": truth.historic_unused}
    write_json(ws.agreement, report)
    say(
        f"{len(truth.cells)} labelled cells in {len(truth.classes)} classes; {truth.historic_unused} historic labels of held-out patients stay closed"
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
    from ctcml.images import overlay
    from ctcml.pictures import gallery
    from ctcml.shards import read_pixels
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
    tiles = {
        uid: overlay(pixels)
        for sample_uid, members in first.groupby("sample_uid")["cell_uid"]
        for uid, pixels in read_pixels(ws.shards, str(sample_uid), set(members)).items()
    }
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
        bootstrap=gate.bootstrap,
        seed=seed,
        simulated=simulated(ws),
        say=say,
    )
    write_json(ws.evaluation, report)


def embed(ws: Workspace, *, say: Say) -> None:
    """Write latents, probabilities and reconstruction errors of every thumbnail by the champion."""
    from ctcml.embed import load_scorer, score
    from ctcml.malloc import keep_freed_memory
    from ctcml.shards import read_inputs, sample_uids
    from ctcml.tables import EMBEDDING, write_table

    keep_freed_memory()
    scorer = load_scorer(ws.champion)
    image = json.loads((ws.champion / "model.json").read_text())["image"]
    folder = fresh_folder(ws.embeddings)
    samples = sample_uids(ws.shards)
    for number, sample_uid in enumerate(samples, start=1):
        uids, images = read_inputs(ws.shards, [sample_uid], **image)
        scores = score(scorer, images)
        write_table(
            pd.DataFrame(
                {
                    "cell_uid": uids,
                    "sample_uid": sample_uid,
                    "predicted": scores.predicted,
                    "probabilities": list(scores.probabilities),
                    "latent": list(scores.latents),
                    "reconstruction_error": list(scores.reconstruction_error),
                }
            ),
            EMBEDDING,
            folder / f"{sample_uid}.parquet",
        )
        if number % 40 == 0 or number == len(samples):
            say(f"{number}/{len(samples)} samples scored")


def cluster(ws: Workspace, *, seed: int, discover: sections.Discover, say: Say) -> None:
    """Cluster labelled and unlabelled cells of the training patients and flag what no label explains."""
    import numpy as np

    from ctcml.clusters import clusters_table, find_clusters
    from ctcml.images import overlay
    from ctcml.pictures import gallery
    from ctcml.shards import read_pixels
    from ctcml.tables import CLUSTERS, DISCOVERY, EMBEDDING, MANIFEST, TRUTH, read_folder, read_table, write_table
    from ctcml.truth import training_cells

    roles = json.loads(ws.roles.read_text())
    manifest = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "patient_uid"])
    cells = read_folder(ws.embeddings, EMBEDDING).merge(manifest, on="cell_uid")
    # Nobody looks for classes among the cells of held-out patients.
    cells = cells[cells["patient_uid"].map(roles) == "train"].reset_index(drop=True)
    known = cells["cell_uid"].isin(training_cells(read_table(ws.truth, TRUTH))["cell_uid"]).to_numpy()
    of_cell, found = find_clusters(
        np.stack(cells["latent"]),
        known,
        cells["predicted"].to_numpy(),
        np.stack(cells["probabilities"]),
        cells["sample_uid"].to_numpy(),
        clusters=discover.clusters,
        ratio=discover.ratio,
        min_cells=discover.min_cells,
        neighbours=discover.neighbours,
        exemplars=discover.exemplars,
        seed=seed,
    )
    write_table(of_cell.assign(cell_uid=cells["cell_uid"]), DISCOVERY, ws.cell_discovery)
    table = clusters_table(found, cells["cell_uid"].tolist())
    write_table(table, CLUSTERS, ws.clusters)
    stamp = simulated(ws)
    folder = fresh_folder(ws.pictures / "clusters")
    sample_of = cells.set_index("cell_uid")["sample_uid"]
    for one in table[table["flagged"]].itertuples():
        tiles = [overlay(read_pixels(ws.shards, sample_of[uid], [uid])[uid]) for uid in one.exemplars]
        title = f"Cluster {one.cluster}: {one.verdict} ({one.archive} unlabelled cells of {one.samples} samples)"
        gallery(
            tiles,
            [""] * len(tiles),
            folder / f"cluster-{one.cluster}.png",
            columns=8,
            title=title,
            simulated=stamp,
        )
    say(
        f"{len(table)} clusters, {int(table['flagged'].sum())} flagged as unlike anything labelled, {int(of_cell['flagged'].sum())} cells in them"
    )


def map(ws: Workspace, *, seed: int, discover: sections.Discover, say: Say) -> None:
    """Lay the latent space out in two dimensions, for the eye only."""
    import numpy as np

    from ctcml.latentmap import fit_map
    from ctcml.pictures import REST, map_plot
    from ctcml.tables import DISCOVERY, EMBEDDING, MAP, read_folder, read_table, write_table

    cells = read_folder(ws.embeddings, EMBEDDING, columns=["cell_uid", "predicted", "latent"])
    if len(cells) > discover.map_cells:
        cells = cells.sample(discover.map_cells, random_state=seed).sort_index()
    places = fit_map(np.stack(cells["latent"]), method=discover.map, seed=seed)
    write_table(pd.DataFrame({"cell_uid": cells["cell_uid"], "x": places[:, 0], "y": places[:, 1]}), MAP, ws.map)
    stamp = simulated(ws)
    folder = fresh_folder(ws.pictures / "map")
    map_plot(
        places,
        cells["predicted"].tolist(),
        folder / "latent-map.png",
        simulated=stamp,
        title="Latent space by predicted class",
    )
    flagged = set(read_table(ws.cell_discovery, DISCOVERY).query("flagged")["cell_uid"])
    what = ["flagged as new" if uid in flagged else REST for uid in cells["cell_uid"]]
    map_plot(places, what, folder / "novelty-map.png", simulated=stamp, title="Cells that no label explains")
    say(f"{len(cells)} cells on the map")


def query(ws: Workspace, *, seed: int, queue: sections.Queue, say: Say) -> None:
    """Choose the thumbnails that are worth a reader's time, and draw the evaluation arm."""
    import numpy as np

    from ctcml.ledger import Ledger
    from ctcml.queries import discovery_queue, evaluation_queue
    from ctcml.records import Purpose, Role
    from ctcml.tables import DISCOVERY, MANIFEST, QUEUE, read_folder, read_table, write_table

    roles = {patient: Role(role) for patient, role in json.loads(ws.roles.read_text()).items()}
    manifest = read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "patient_uid"])
    patient_of = manifest.set_index("cell_uid")["patient_uid"]
    queued = {event.body["cell_uid"]: event.body["purpose"] for event in Ledger(ws.ledger_snapshot).events("queued")}
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
    discovery = discovery_queue(
        read_table(ws.cell_discovery, DISCOVERY),
        patient_of,
        roles=roles,
        novel=queue.novel,
        uncertain=queue.uncertain,
        random=queue.random,
        per_patient=queue.per_patient,
        exclude=set(queued),
        rng=np.random.default_rng([seed, 2]),
    )
    both = pd.concat([discovery, evaluation], ignore_index=True)
    write_table(both.assign(rank=np.arange(len(both), dtype=np.int32)), QUEUE, ws.queue)
    say(f"{len(discovery)} cells for discovery, {len(evaluation)} for the evaluation arm")


def count(ws: Workspace, *, counts: sections.Counts, survival: sections.Survival, say: Say) -> None:
    """Count cells per sample, with intervals and the risk of lying on the other side of the cut-off."""
    from ctcml.clinical import COVARIATE
    from ctcml.counts import count_cells
    from ctcml.shards import sample_uids
    from ctcml.tables import CLINICAL, COUNTS, EMBEDDING, MANIFEST, read_folder, read_table, write_table

    classes = json.loads((ws.champion / "model.json").read_text())["classes"]
    cells = read_folder(ws.embeddings, EMBEDDING, columns=["cell_uid", "sample_uid", "predicted", "probabilities"])
    cells = cells.merge(read_folder(ws.manifest, MANIFEST, columns=["cell_uid", "proposed"]), on="cell_uid")
    samples = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
    samples = samples[samples["sample_uid"].isin(sample_uids(ws.manifest))]
    table = count_cells(
        cells,
        samples,
        classes=classes,
        thresholds=counts.thresholds,
        interval=counts.interval,
        cutoffs=survival.cutoffs,
        exploratory_cutoffs=survival.exploratory_cutoffs,
    )
    write_table(table, COUNTS, ws.counts)
    say(f"{len(samples)} samples counted")


def survive(ws: Workspace, *, counts: sections.Counts, survival: sections.Survival, say: Say) -> None:
    """Kaplan-Meier, log-rank and Cox of the counts, by model and by hand."""
    from ctcml.clinical import COVARIATE
    from ctcml.pictures import km_plot
    from ctcml.survival import analyse
    from ctcml.tables import CLINICAL, COUNTS, read_table

    samples = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
    table = read_table(ws.counts, COUNTS)
    chosen = table[
        (table["class_id"] == "ctc") & (table["threshold"] == 0) & (table["denominator"] == counts.denominator)
    ]
    first = samples[
        (samples["sample_kind"] == "patient") & ~(samples["draw_day"] > 0)
    ]  # follow-up samples need a landmark
    endpoint = [f"{survival.endpoint}_months", f"{survival.endpoint}_event"]
    rows = chosen.merge(first[["sample_uid", *endpoint, "manual_ctc"]], on="sample_uid")
    rows = rows.rename(
        columns={endpoint[0]: "duration", endpoint[1]: "event", "per_7_5_ml": "model", "manual_ctc": "manual"}
    )
    rows = rows[rows["cutoff"].notna()]
    stamp = simulated(ws)
    folder = fresh_folder(ws.pictures / "survival")
    reports = []
    for source in ("model", "manual"):
        for group in ("all", *sorted(rows["cancer_type"].unique())):
            of_group = rows if group == "all" else rows[rows["cancer_type"] == group]
            report = analyse(
                of_group.assign(count=of_group[source]),
                cutoff=None if group == "all" else float(of_group["cutoff"].iloc[0]),
                label=f"{source} count, {group} patients",
                min_events=survival.min_events,
                exploratory=bool(of_group["exploratory"].any()),
            ).to_dict()
            reports.append(report | {"source": source, "group": group})
            for ending in ("svg", "png"):
                km_plot(report, folder / f"km-{source}-{group}.{ending}", simulated=stamp)
    write_json(
        ws.survival,
        {
            "simulated": stamp,
            "endpoint": survival.endpoint,
            "denominator": counts.denominator,
            "reports": reports,
        },
    )
    say(f"{len(reports)} analyses, {sum(bool(one['refusals']) for one in reports)} of them with refusals")


def simulated(ws: Workspace) -> bool:
    """Whether any sample says of itself that it was simulated."""
    from ctcml.clinical import COVARIATE
    from ctcml.tables import CLINICAL, read_table

    samples = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
    return f"{COVARIATE}simulated" in samples and bool((samples[f"{COVARIATE}simulated"] == "yes").any())


STAGES = (settle, measure, preselect, train, evaluate, embed, cluster, map, query, count, survive)
