"""From a count to the very cells behind it: what the model, the readers and the files say of each, all of it verified.

A trace is refused rather than drawn when anything on the way does not fit: the number of cells, a cell's pixels against the
hash that intake wrote down, a shard against that of its file, the model's weights against its card. What readers called the
cells of sealed patients is for the gate alone; a trace says that it is sealed.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import ctcml
from ctcml.calibration import probabilities_of
from ctcml.clinical import COVARIATE
from ctcml.counts import ARG_MAX, CTC, counted_cells
from ctcml.errors import BadInput, BrokenRecord
from ctcml.identity import load_key, pseudonym
from ctcml.records import Role
from ctcml.shards import file_hash, rehashed, sample_uids, shard_paths
from ctcml.tables import CLINICAL, COUNTS, DISCOVERY, EMBEDDING, MANIFEST, OPINIONS, TRUTH, Schema, read_table
from ctcml.versioning import code_commit, data_in_place
from ctcml.workspace import Workspace

FEWEST_CHARACTERS = 6  # of a sample_uid, so that a slip does not name another sample
SEALED = "sealed"
AGAIN = "make it again with `ctcml repro count`"
SHARD_CURE = "bring the data back with `ctcml checkout` or from a backup"


@dataclass(frozen=True, kw_only=True)
class Said:
    """What one person said of a cell; `label` is `sealed` where nobody may see it."""

    reader: str
    duty: str
    label: str
    confidence: str
    reasons: str
    occasion: str
    at: str


@dataclass(frozen=True, kw_only=True)
class TracedCell:
    """One counted cell; `settled` is its class and how it was settled, `x_px` and `y_px` its place in the cartridge's frame."""

    cell_uid: str
    object_index: int
    probability: float
    predicted: str
    cluster: int | None
    cluster_name: str | None
    readings: tuple[Said, ...]
    settled: tuple[str, str] | None
    content_sha256: str
    shard: str
    shard_sha256: str
    frame: int | None
    x_px: float | None
    y_px: float | None


@dataclass(frozen=True, kw_only=True)
class TracedModel:
    """The champion that counted."""

    version: str
    weights_sha256: str


@dataclass(frozen=True, kw_only=True)
class Trace:
    """A count, `count` being its row of `tables.COUNTS`, and its `cells`, the surest first; as many as were counted."""

    sample_uid: str
    patient_uid: str
    class_id: str
    class_name: str
    denominator: str
    threshold: float
    count: dict[str, Any]
    cells: tuple[TracedCell, ...]
    model: TracedModel
    data_version: str
    code_commit: str
    count_code: str
    shards_verified: int
    labels_sealed: bool
    simulated: bool

    def to_dict(self) -> dict[str, Any]:
        """The same as plain values, for JSON."""
        return asdict(self)


def find_sample(ws: Workspace, named: str) -> str:
    """The sample_uid that `named` is the beginning of, or that belongs to the laboratory's own name of the sample.

    The name itself is turned into the pseudonym and forgotten. Raises `BadInput` unless exactly one sample is meant.
    """
    known = sample_uids(ws.manifest)
    own = pseudonym(load_key(ws.key), "sample", named) if ws.key.exists() else ""
    if own in known:
        return own
    found = [uid for uid in known if len(named) >= FEWEST_CHARACTERS and uid.startswith(named)]
    if len(found) != 1:
        told = f"{len(found)} samples begin so" if found else "no sample of this workspace has that name or begins so"
        raise BadInput(
            f"sample {named!r}: {told}; give at least {FEWEST_CHARACTERS} characters of a sample_uid, or the laboratory's name"
        )
    return found[0]


def trace_count(
    ws: Workspace,
    sample_uid: str,
    *,
    class_id: str = CTC,
    denominator: str = "proposed",
    threshold: float = ARG_MAX,
) -> Trace:
    """Follow one count of `derived/counts.parquet` back to its cells.

    Raises `BadInput` where there is no such count, `BrokenRecord` where number, pixels, files or weights do not fit.
    """
    row = _count(ws, sample_uid, class_id, denominator, threshold)
    card = json.loads((ws.champion / "model.json").read_text(encoding="utf-8"))
    manifest = _of_sample(ws.manifest, MANIFEST, sample_uid)
    embedded = _of_sample(ws.embeddings, EMBEDDING, sample_uid)
    manifest = manifest.drop(columns="sample_uid").rename(columns={"file": "shard"})  # a shard is named as its manifest
    cells = embedded.merge(manifest, on="cell_uid")
    uids = counted_cells(
        cells, sample_uid, classes=card["classes"], class_id=class_id, denominator=denominator, threshold=threshold
    )
    if len(uids) != row["count"]:
        raise BrokenRecord(
            f"sample {sample_uid}: counts.parquet tells {row['count']} {class_id} among {denominator} events, "
            f"the embeddings name {len(uids)} cells; {AGAIN}"
        )
    said = probabilities_of(cells, card["classes"])[:, card["classes"].index(class_id)]
    chosen = cells.assign(probability=said).set_index("cell_uid").loc[uids]
    verified = _require_true_pixels(ws, sample_uid, chosen)
    is_sealed = _is_sealed(ws, row["patient_uid"])
    return Trace(
        sample_uid=sample_uid,
        patient_uid=row["patient_uid"],
        class_id=class_id,
        class_name=_class_names(ws).get(class_id, class_id),
        denominator=denominator,
        threshold=float(threshold),
        count=row,
        cells=_cells(chosen, _discovered(ws, uids), _readings(ws, uids, is_sealed=is_sealed), _settled(ws, uids)),
        model=_model(ws, card),
        data_version=data_in_place(ws.root) or "in no version yet",
        code_commit=code_commit(Path(ctcml.__file__).parents[1]) or "unknown",
        count_code=_count_code(ws),
        shards_verified=verified,
        labels_sealed=is_sealed,
        simulated=_is_simulated(ws, sample_uid),
    )


def _count(ws: Workspace, sample_uid: str, class_id: str, denominator: str, threshold: float) -> dict[str, Any]:
    if not ws.counts.exists():
        raise BadInput(f"{ws.counts}: not made yet; run `ctcml repro count`")
    counts = read_table(ws.counts, COUNTS)
    of_sample = counts[counts["sample_uid"] == sample_uid]
    near = (of_sample["threshold"] - threshold).abs() < 1e-6  # the column has 32 bits
    found = of_sample[near & (of_sample["class_id"] == class_id) & (of_sample["denominator"] == denominator)]
    if found.empty:
        choices = {name: sorted(of_sample[name].unique().tolist()) for name in ("class_id", "denominator", "threshold")}
        told = "; ".join(f"{name} {', '.join(_short(one) for one in values)}" for name, values in choices.items())
        raise BadInput(
            f"sample {sample_uid}: no count of {class_id!r} among {denominator!r} at threshold {threshold:g}; "
            + (f"there are {told}" if len(of_sample) else "it has no count at all, as it has no cells")
        )
    return {name: _plain(value) for name, value in found.iloc[0].items()}


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain(value: Any) -> Any:
    """A value of a table as JSON knows it: nothing in place of NaN."""
    plain = value.item() if hasattr(value, "item") else value
    return None if plain is pd.NA or (isinstance(plain, float) and math.isnan(plain)) else plain


def _of_sample(folder: Path, schema: Schema, sample_uid: str) -> pd.DataFrame:
    """The rows of one sample in a folder with files of one sample each."""
    files = shard_paths(folder, sample_uid)
    if not files:
        raise BrokenRecord(f"sample {sample_uid}: has a count but no file in {folder}; {AGAIN}")
    return pd.concat([read_table(file, schema).assign(file=file.name) for file in files], ignore_index=True)


def _require_true_pixels(ws: Workspace, sample_uid: str, chosen: pd.DataFrame) -> int:
    """Hash the cells' pixels and their shards again; returns how many shards were read."""
    found = rehashed(ws.shards, sample_uid, list(chosen.index))
    for uid, expected in chosen["content_sha256"].items():
        if found.get(str(uid)) != expected:
            told = "are not what intake wrote down" if uid in found else "are in no shard"
            raise BrokenRecord(f"cell {uid}: its pixels {told}; {SHARD_CURE}")
    shards = chosen.groupby("shard")["shard_sha256"].first()
    for name, expected in shards.items():
        if file_hash(ws.shards / str(name)) != expected:
            raise BrokenRecord(f"shard {name}: the file is not the one that intake wrote; {SHARD_CURE}")
    return len(shards)


def _cells(
    chosen: pd.DataFrame,
    discovered: Mapping[str, tuple[int, str]],
    readings: Mapping[str, tuple[Said, ...]],
    settled: Mapping[str, tuple[str, str]],
) -> tuple[TracedCell, ...]:
    found = []
    for uid, row in zip(chosen.index, chosen.to_dict("records"), strict=True):
        cluster, name = discovered.get(uid, (None, None))
        frame = _plain(row["frame"])
        found.append(
            TracedCell(
                cell_uid=uid,
                object_index=int(row["object_index"]),
                probability=float(row["probability"]),
                predicted=row["predicted"],
                cluster=cluster,
                cluster_name=name,
                readings=readings.get(uid, ()),
                settled=settled.get(uid),
                content_sha256=row["content_sha256"],
                shard=row["shard"],
                shard_sha256=row["shard_sha256"],
                frame=None if frame is None else int(frame),
                x_px=_plain(row["x_px"]),
                y_px=_plain(row["y_px"]),
            )
        )
    return tuple(found)


def _among(path: Path, schema: Schema, uids: Sequence[str]) -> pd.DataFrame:
    """The rows about these cells; none where the table is not made yet."""
    table = read_table(path, schema) if path.exists() else pd.DataFrame(columns=list(schema))
    return table[table["cell_uid"].isin(uids)]


def _discovered(ws: Workspace, uids: Sequence[str]) -> dict[str, tuple[int, str]]:
    table = _among(ws.cell_discovery, DISCOVERY, uids)
    named = zip(table["cell_uid"], table["cluster"], table["cluster_name"], strict=True)
    return {uid: (int(cluster), name) for uid, cluster, name in named}


def _settled(ws: Workspace, uids: Sequence[str]) -> dict[str, tuple[str, str]]:
    table = _among(ws.truth, TRUTH, uids)
    return {
        uid: (class_id, how)
        for uid, class_id, how in zip(table["cell_uid"], table["class_id"], table["how"], strict=True)
    }


def _readings(ws: Workspace, uids: Sequence[str], *, is_sealed: bool) -> dict[str, tuple[Said, ...]]:
    fields = ("reader", "duty", "label", "confidence", "reasons", "occasion", "at")
    found: dict[str, tuple[Said, ...]] = {}
    for one in _among(ws.opinions, OPINIONS, uids).to_dict("records"):
        hidden = {"label": SEALED, "reasons": ""} if is_sealed else {}
        said = Said(**{name: str(one[name]) for name in fields} | hidden)
        found[one["cell_uid"]] = (*found.get(one["cell_uid"], ()), said)
    return found


def _is_sealed(ws: Workspace, patient_uid: str) -> bool:
    roles = json.loads(ws.roles.read_text(encoding="utf-8")) if ws.roles.exists() else {}
    return bool(roles.get(patient_uid) == Role.SEALED)


def _class_names(ws: Workspace) -> dict[str, str]:
    listed = json.loads(ws.classes.read_text(encoding="utf-8")) if ws.classes.exists() else []
    return {one["class_id"]: one["name"] for one in listed}


def _model(ws: Workspace, card: Mapping[str, Any]) -> TracedModel:
    """The champion by its version in the registry; its weights must be those that its card describes."""
    version, weights = ws.champion / "version.json", ws.champion / "weights.safetensors"
    if weights.exists() and file_hash(weights) != card["weights_sha256"]:
        raise BrokenRecord(
            f"{weights}: not the weights that model.json describes; bring the champion back from its version"
        )
    known = json.loads(version.read_text(encoding="utf-8"))["version"] if version.exists() else "not registered"
    return TracedModel(version=str(known), weights_sha256=card["weights_sha256"])


def _count_code(ws: Workspace) -> str:
    """The fingerprint of the code by which the stage `count` counted."""
    import yaml

    file = ws.root / "code.yaml"
    return str((yaml.safe_load(file.read_text(encoding="utf-8")) or {}).get("count")) if file.exists() else "unknown"


def _is_simulated(ws: Workspace, sample_uid: str) -> bool:
    samples = read_table(ws.clinical, CLINICAL, extra_prefix=COVARIATE)
    of_sample = samples[samples["sample_uid"] == sample_uid]
    return f"{COVARIATE}simulated" in samples and bool((of_sample[f"{COVARIATE}simulated"] == "yes").any())
