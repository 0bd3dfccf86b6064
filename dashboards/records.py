"""Reads what a workspace holds, for drawing: one function a record, `NotMade` where the file does not exist yet.

Nothing here is calculated beyond picking, joining and counting rows.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from ctcml import tables
from ctcml.errors import BadInput, BadTable
from ctcml.ledger import Event, Ledger
from ctcml.params import Survival, load_params
from ctcml.people import people_of
from ctcml.requests import Request, waiting_requests
from ctcml.retraining import CHANGES, champions
from ctcml.shards import shard_paths
from ctcml.workspace import Workspace

Stamp = tuple[tuple[str, int, int], ...]  # name, time of change (ns) and size of each file behind a record
PEOPLE, REQUEST = ("reader_added", "reader_removed"), "request"  # kinds of events that the dashboard reads
DATA = ("intake", "data_version", "withdrawal")


@dataclass(frozen=True, kw_only=True)
class NotMade:
    """A record that the workspace does not hold yet, and the command that makes it."""

    what: str
    command: str

    def __str__(self) -> str:
        return f"{self.what}: not made yet; run `{self.command}`"


@dataclass(frozen=True, kw_only=True)
class Cards:
    """The figures on top of the cohort page; None where the record is not made yet."""

    patients: int | None
    thumbnails: int | None
    champion: str | None
    classes: int | None


def open_workspace(arguments: Sequence[str], environment: Mapping[str, str]) -> Workspace:
    """Find the workspace named by `--workspace DIR`, or else by CTCML_WORKSPACE.

    Raises `BadInput` when none is named or the folder is not there.

    >>> open_workspace(["--workspace", "."], {}).root.as_posix()
    '.'
    """
    named = environment.get("CTCML_WORKSPACE", "")
    for argument, following in pairwise([*arguments, ""]):
        if argument == "--workspace":
            named = following
        elif argument.startswith("--workspace="):
            named = argument.removeprefix("--workspace=")
    if not named:
        raise BadInput("dashboard: no workspace named; set CTCML_WORKSPACE or start it with `-- --workspace DIR`")
    if not Path(named).is_dir():
        raise BadInput(f"dashboard: workspace {named!r} is not a folder; make one with `ctcml init {named}`")
    return Workspace(Path(named))


def clinical(workspace: Workspace) -> pd.DataFrame | NotMade:
    """One row a sample, with covariates."""
    if not workspace.clinical.exists():
        return NotMade(what="Clinical table", command="ctcml intake")
    return _table(workspace.clinical, _stamp(workspace.clinical), "CLINICAL", None)


def is_simulated(workspace: Workspace) -> bool:
    """Whether the clinical table says of any sample that it is simulated."""
    table = clinical(workspace)
    if isinstance(table, NotMade) or "covariate_simulated" not in table:
        return False
    return bool((table["covariate_simulated"].astype(str).str.lower() == "yes").any())


def manifest(workspace: Workspace) -> pd.DataFrame | NotMade:
    """One row a thumbnail: its cell, sample and patient."""
    return _made(workspace.manifest, "MANIFEST", ("cell_uid", "sample_uid", "patient_uid"), "Manifest", "ctcml intake")


def classes(workspace: Workspace) -> dict[str, str] | NotMade:
    """Names of the classes by `class_id`, in the order of the registry, the retired ones left out."""
    if not workspace.classes.exists():
        return NotMade(what="Class registry", command="ctcml repro settle")
    found = _json(workspace.classes)
    listed = found.get("classes", []) if isinstance(found, dict) else found
    return {entry["class_id"]: entry["name"] for entry in listed if not entry.get("retired", False)}


def class_names(workspace: Workspace) -> dict[str, str]:
    """The same without alternatives, for legends: empty when the registry is not made yet."""
    found = classes(workspace)
    return {} if isinstance(found, NotMade) else found


def counts(workspace: Workspace) -> pd.DataFrame | NotMade:
    """Counts per sample, class, denominator and threshold, with interval and side of the cut-off."""
    if not workspace.counts.exists():
        return NotMade(what="Counts", command="ctcml repro count")
    return _table(workspace.counts, _stamp(workspace.counts), "COUNTS", None)


def cells_of_sample(workspace: Workspace, sample_uid: str) -> pd.DataFrame | NotMade:
    """One row a thumbnail of one sample, as `ctcml.counts` takes them: what the export said of it and what the champion says."""
    listed = shard_paths(workspace.manifest, sample_uid)
    if not listed:
        return NotMade(what=f"Manifest of sample {sample_uid}", command="ctcml intake")
    scored = shard_paths(workspace.embeddings, sample_uid)
    if not scored:
        return NotMade(what=f"Embeddings of sample {sample_uid}", command="ctcml repro embed")
    return _cells_of(tuple(listed), tuple(scored), tuple(one for path in (*listed, *scored) for one in _stamp(path)))


def set_of(workspace: Workspace, patient_uid: str) -> str | None:
    """train, steering or sealed; None before the first settlement wrote the sets down."""
    return object_of(workspace.roles).get(patient_uid) if workspace.roles.exists() else None


def survival(workspace: Workspace) -> dict[str, Any] | NotMade:
    """`simulated`, `endpoint` and `reports`, one a cancer type and cut-off."""
    if not workspace.survival.exists():
        return NotMade(what="Survival analysis", command="ctcml repro survive")
    return object_of(workspace.survival)


def survival_rules(workspace: Workspace) -> Survival:
    """Fewest events of an arm, and the cut-offs, from params.yaml."""
    return _rules(workspace.params, _stamp(workspace.params))


def by_hand(workspace: Workspace) -> dict[str, Any] | NotMade:
    """Agreement of the champion with the operator, with readers, and of both counts of each tube: `ctcml.by_hand`."""
    if not workspace.by_hand.exists():
        return NotMade(what="Counts by hand beside counts by the model", command="ctcml repro compare")
    return object_of(workspace.by_hand)


def by_hand_samples(workspace: Workspace) -> pd.DataFrame | NotMade:
    """One row a tube with both counts, those that change side first."""
    return _made(workspace.by_hand_samples, "BY_HAND_SAMPLES", None, "Tubes counted both ways", "ctcml repro compare")


def by_hand_cells(workspace: Workspace) -> pd.DataFrame | NotMade:
    """One row a cell that hand or model calls a CTC."""
    what = "Cells called CTC by hand or model"
    return _made(workspace.by_hand_cells, "BY_HAND_CELLS", None, what, "ctcml repro compare")


def subclass_report(workspace: Workspace) -> dict[str, Any] | NotMade:
    """Each class that was divided, its subclasses and their survival: `ctcml.subclassing`."""
    if not workspace.subclass_report.exists():
        return NotMade(what="Subclasses", command="ctcml repro subclass")
    return object_of(workspace.subclass_report)


def subclasses(workspace: Workspace) -> pd.DataFrame | NotMade:
    """Counts per sample, subclass and denominator."""
    return _made(workspace.subclasses, "SUBCLASS_COUNTS", None, "Counts of subclasses", "ctcml repro subclass")


def cards(workspace: Workspace) -> Cards:
    """What the cohort page says on top."""
    people, cells, registry, model = clinical(workspace), manifest(workspace), classes(workspace), champion(workspace)
    return Cards(
        patients=None if isinstance(people, NotMade) else int(people["patient_uid"].nunique()),
        thumbnails=None if isinstance(cells, NotMade) else len(cells),
        champion=None if isinstance(model, NotMade) else champion_version(workspace),
        classes=None if isinstance(registry, NotMade) else len(registry),
    )


def chosen_map(workspace: Workspace) -> str:
    """The flat map that params.yaml chooses: tsne or umap."""
    return _chosen_map(workspace.params, _stamp(workspace.params))


def clusters(workspace: Workspace) -> pd.DataFrame | NotMade:
    """One row a cluster, the flagged ones first, then by ratio."""
    if not workspace.clusters.exists():
        return NotMade(what="Clusters", command="ctcml repro cluster")
    found = _table(workspace.clusters, _stamp(workspace.clusters), "CLUSTERS", None)
    return found.sort_values(["flagged", "ratio"], ascending=False, ignore_index=True)


def shifts(workspace: Workspace) -> pd.DataFrame | NotMade:
    """One row an instrument with unlabelled cells: `instrument`, what the batch-shift test says, whether it is `shifted`."""
    if not workspace.discovery_report.exists():
        return NotMade(what="Batch shift", command="ctcml repro cluster")
    found = object_of(workspace.discovery_report)["instruments"]
    rows = [(name, one["verdict"], bool(one["shifted"])) for name, one in found.items()]
    return pd.DataFrame(rows, columns=["instrument", "verdict", "shifted"])


def contact_sheet(workspace: Workspace, cluster: int) -> Path | NotMade:
    """The picture of a cluster's exemplars."""
    picture = workspace.pictures / "clusters" / f"cluster-{cluster}.png"
    return (
        picture
        if picture.exists()
        else NotMade(what=f"Contact sheet of cluster {cluster}", command="ctcml repro cluster")
    )


def agreement(workspace: Workspace) -> dict[str, Any] | NotMade:
    """What the readers did: the report of `ctcml.agreement`, and how many cells stand where."""
    if not workspace.agreement.exists():
        return NotMade(what="Agreement of the readers", command="ctcml review")
    return object_of(workspace.agreement)


def proposals(workspace: Workspace) -> list[dict[str, Any]] | NotMade:
    """Classes that readers proposed, with evidence and votes; open ones first."""
    if not workspace.proposals.exists():
        return NotMade(what="Proposed classes", command="ctcml review")
    found = _json(workspace.proposals)
    if not isinstance(found, list):
        raise BadTable(f"{workspace.proposals.name}: expected a list of proposals; make it again with `ctcml review`")
    return sorted(found, key=lambda one: one["status"] != "open")


def names_of_classes(workspace: Workspace) -> dict[str, str]:
    """Names of the registered classes and, after them, of those that are only proposed."""
    found = proposals(workspace)
    proposed = {} if isinstance(found, NotMade) else {one["class_id"]: one["name"] for one in found}
    registered = class_names(workspace)
    return registered | {
        class_id: f"{name}, proposed" for class_id, name in proposed.items() if class_id not in registered
    }


def gallery(workspace: Workspace, proposal: Mapping[str, Any]) -> Path | None:
    """The picture of a proposal's cells; None where there is none, or where it does not lie below the review folder."""
    if not proposal.get("gallery"):
        return None
    picture, folder = (workspace.review / str(proposal["gallery"])).resolve(), workspace.review.resolve()
    return picture if picture.is_relative_to(folder) and picture.is_file() else None


def experts(workspace: Workspace) -> list[str]:
    """Names of the people who may vote on a class: those who are registered as readers or adjudicators."""
    return [one.name for one in people_of(one for one in _events(workspace) if one.kind in PEOPLE)]


def requests(workspace: Workspace) -> list[Request]:
    """What was signed on the dashboard and no run of the flow has taken up yet."""
    if not workspace.requests.exists():
        return []
    return waiting_requests(workspace.requests, (one for one in _events(workspace) if one.kind == REQUEST))


def refusals(workspace: Workspace) -> list[Event]:
    """Requests that the flow refused, newest first; the body says why."""
    asked = [one for one in _events(workspace) if one.kind == REQUEST]
    return [one for one in reversed(asked) if str(one.body["outcome"]).startswith("refused")]


def data_events(workspace: Workspace, kind: str) -> list[Event]:
    """Intakes, data versions or withdrawals, newest first."""
    return [one for one in reversed(_events(workspace)) if one.kind == kind]


def _events(workspace: Workspace) -> tuple[Event, ...]:
    return _events_of(workspace.ledger, _stamp(workspace.ledger))


def queue_composition(workspace: Workspace) -> pd.DataFrame | NotMade:
    """Number of queued cells (`cells`) per `purpose` and `reason`."""
    if not workspace.queue.exists():
        return NotMade(what="Reading queue", command="ctcml repro query")
    found = _table(workspace.queue, _stamp(workspace.queue), "QUEUE", None)
    found = found.assign(reason=found["reason"].str.replace(r": (margin|flip risk|probability) .*", "", regex=True))
    return found.groupby(["purpose", "reason"], as_index=False).size().rename(columns={"size": "cells"})


def promotions(workspace: Workspace) -> list[dict[str, Any]] | NotMade:
    """Gate verdicts, newest version first."""
    found = [object_of(path) for path in workspace.reports.glob("promotion-*.json")]
    if not found:
        return NotMade(what="Promotion report", command="ctcml demo")
    return sorted(found, key=lambda report: int(report["version"]), reverse=True)


def changes(workspace: Workspace, version: str) -> pd.DataFrame | NotMade:
    """Counts of every patient and sample as the champion and as that challenger counts them, flips first."""
    path = workspace.reports / f"changes-{version}.csv"
    if not path.exists():
        return NotMade(what=f"Counts by version {version}", command="ctcml loop")
    try:
        return pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise BadTable(f"{path.name}: not readable as CSV ({' '.join(str(error).split())}); judge it again") from None


def are_the_judged_changes(workspace: Workspace, report: Mapping[str, Any]) -> bool:
    """Whether the table of changes is, to the byte, the one that the gate reported and a signature stands for."""
    path, told = workspace.reports / f"changes-{report['version']}.csv", report.get("changes_sha256")
    return told is None or not path.exists() or hashlib.sha256(path.read_bytes()).hexdigest() == told


def changes_picture(workspace: Workspace, version: str) -> Path | None:
    """The picture of these changes; None where there is none."""
    picture = workspace.reports / f"changes-{version}.png"
    return picture if picture.is_file() else None


def championships(workspace: Workspace) -> list[Event]:
    """Promotions and rollbacks, newest first."""
    return [one for one in reversed(_events(workspace)) if one.kind in CHANGES]


def former_champions(workspace: Workspace) -> tuple[str, ...]:
    """Versions that were champion one after the other, the present one last."""
    return champions(one for one in _events(workspace) if one.kind in CHANGES)


def drift(workspace: Workspace) -> dict[str, Any] | NotMade:
    """How far the cartridges are from what the champion was trained on: the report of `ctcml.drift`."""
    if not workspace.drift.exists():
        return NotMade(what="Drift", command="ctcml repro drift")
    return object_of(workspace.drift)


def drift_pictures(workspace: Workspace) -> list[Path]:
    """The pictures of that stage, in order of name."""
    return sorted((workspace.pictures / "drift").glob("*.png"))


def champion(workspace: Workspace) -> dict[str, Any] | NotMade:
    """The champion's `model.json`."""
    if not (workspace.champion / "model.json").exists():
        return NotMade(what="Champion model", command="ctcml demo")
    return object_of(workspace.champion / "model.json")


def champion_version(workspace: Workspace) -> str:
    """The champion's version in the registry, or the start of its weights' hash where nobody wrote the version down."""
    written = workspace.champion / "version.json"
    if written.exists():
        return f"version {object_of(written)['version']}"
    model = champion(workspace)
    return "none" if isinstance(model, NotMade) else f"weights {model['weights_sha256'][:8]}"


def history(workspace: Workspace) -> pd.DataFrame | NotMade:
    """The champion's training, one row an epoch, numbered over all phases in `step`."""
    path = workspace.champion / "history.json"
    if not path.exists():
        return NotMade(what="Learning curves", command="ctcml repro train")
    table = pd.DataFrame(_json(path))
    table.insert(0, "step", range(1, len(table) + 1))
    return table


def reconstructions(workspace: Workspace) -> list[Path] | NotMade:
    """Pictures of inputs and reconstructions, one a beta phase, smallest beta first."""
    found = list(workspace.champion.glob("reconstructions-beta-*.png"))
    if not found:
        return NotMade(what="Reconstructions", command="ctcml repro train")
    return sorted(found, key=lambda path: float(path.stem.removeprefix("reconstructions-beta-")))


def table_of(path: Path, schema: str, columns: tuple[str, ...] | None = None) -> pd.DataFrame | None:
    """A table, or all tables of a folder as one; None where there is none. Read once until one of them is made again, and
    shared: nobody may write to it."""
    stamp = _stamp(path)
    return _table(path, stamp, schema, columns) if stamp else None


def stamp_of(*paths: Path) -> Stamp:
    """What changes when any of these files or folders of tables is made again."""
    return tuple(one for path in paths for one in _stamp(path))


def _made(path: Path, schema: str, columns: tuple[str, ...] | None, what: str, command: str) -> pd.DataFrame | NotMade:
    found = table_of(path, schema, columns)
    return NotMade(what=what, command=command) if found is None else found


def _stamp(path: Path) -> Stamp:
    """What changes when the file, or any table in the folder, is made again."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path] if path.exists() else []
    return tuple((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)


@lru_cache(maxsize=32)  # keyed by the stamp, so a table made again is read again; callers never write to what they get
def _table(path: Path, stamp: Stamp, schema: str, columns: tuple[str, ...] | None) -> pd.DataFrame:
    declared: tables.Schema = getattr(tables, schema)
    wanted = list(columns) if columns else None
    if path.is_dir():
        return tables.read_folder(path, declared, columns=wanted)
    extra = "covariate_" if schema == "CLINICAL" else None
    return tables.read_table(path, declared, columns=wanted, extra_prefix=extra)


@lru_cache(maxsize=2)
def _events_of(path: Path, stamp: Stamp) -> tuple[Event, ...]:
    return tuple(Ledger(path).events(*PEOPLE, REQUEST, *CHANGES, *DATA)) if stamp else ()


@lru_cache(maxsize=16)
def _cells_of(listed: tuple[Path, ...], scored: tuple[Path, ...], stamp: Stamp) -> pd.DataFrame:
    columns = ["cell_uid", "object_index", "proposed", "assigned", "frame"]
    known = pd.concat([tables.read_table(path, tables.MANIFEST, columns=columns) for path in listed])
    columns = ["cell_uid", "sample_uid", "predicted", "probabilities"]
    said = pd.concat([tables.read_table(path, tables.EMBEDDING, columns=columns) for path in scored])
    return said.merge(known, on="cell_uid").reset_index(drop=True)


@lru_cache(maxsize=4)
def _rules(params: Path, stamp: Stamp) -> Survival:
    return load_params(params).survival


@lru_cache(maxsize=4)
def _chosen_map(params: Path, stamp: Stamp) -> str:
    return load_params(params).discover.map


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise BadTable(f"{path.name}: not readable as JSON ({' '.join(str(error).split())}); make it again") from None


def object_of(path: Path) -> dict[str, Any]:
    found = _json(path)
    if not isinstance(found, dict):
        raise BadTable(
            f"{path.name}: a {type(found).__name__}, expected an object; make it again with this version of ctcml"
        )
    return found
