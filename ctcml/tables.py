"""Parquet tables, each with a declared column list that is checked on the way in and out; files that are whole or not there."""

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ctcml.errors import BadTable, ProtocolBreach
from ctcml.records import FEATURES as FEATURE_NAMES
from ctcml.workspace import SEALED_LABELS

STR, BOOL, I16, I32, F32, F64, BYTES = (
    pa.string(),
    pa.bool_(),
    pa.int16(),
    pa.int32(),
    pa.float32(),
    pa.float64(),
    pa.binary(),
)

Schema = Mapping[str, pa.DataType]

SHARD: Schema = {  # one row a thumbnail, one file a sample, never changed once written
    "cell_uid": STR,
    "sample_uid": STR,
    "object_index": I32,
    "height": I16,
    "width": I16,
    "planes": STR,  # "CD45,DAPI,CK,FITC": order of the planes in `pixels`
    "source_order": STR,  # order of the pages in the source file
    "pixels": BYTES,  # uint16 little endian, (planes, height, width), native crop
    "mask": BYTES,  # np.packbits of bool (planes, height, width); empty when the source had none
    "source_bit_depth": I16,
    "restore_low": pa.list_(F32),
    "restore_high": pa.list_(F32),  # CellTracks tags 755/756 a plane, applied by the reader; empty when there were none
    "recipe": STR,  # preprocessing that the source already applied; empty for camera counts
    "content_sha256": STR,  # of shape, plane names and pixels
}
MANIFEST: Schema = {  # one row a thumbnail, one file a sample
    "cell_uid": STR,
    "sample_uid": STR,
    "patient_uid": STR,
    "object_index": I32,
    "height": I16,
    "width": I16,
    "has_mask": BOOL,
    "oversize": BOOL,
    "proposed": BOOL,  # CellSearch itself presented this event; null when the export does not say
    "assigned": BOOL,  # its operator called the event a CTC (a prior score, no label); null when the source does not say
    "frame": I16,  # of the cartridge, and where the object's middle lies there; null when the export does not say
    "x_px": F32,
    "y_px": F32,
    "content_sha256": STR,
    "shard_sha256": STR,
}
GIVEN_FEATURES: Schema = {"cell_uid": STR}  # what the source measured follows in columns named ch_<k>_<feature>
FEATURE_PREFIX = "ch_"
FEATURES: Schema = {"cell_uid": STR, **dict.fromkeys(FEATURE_NAMES, F32)}  # as we measure them, one file a sample
CANDIDATES: Schema = {  # a cell stands here once for each class whose gates it falls into
    "cell_uid": STR,
    "sample_uid": STR,
    "class_id": STR,  # whose gate it is; "other" for the pool of artefacts
    "reason": STR,  # the gates it falls into, or why it may be an artefact
    "review_set": I32,  # number of the random set of its class, from 1 on
    "place": I32,  # in that set, from 1 on
}
CLINICAL: Schema = {  # one row a sample; further covariates follow in columns named covariate_<name>
    "sample_uid": STR,
    "patient_uid": STR,
    "sample_kind": STR,
    "cancer_type": STR,
    "blood_volume_ml": F64,
    "manual_ctc": F64,
    "os_months": F64,
    "os_event": F64,
    "pfs_months": F64,
    "pfs_event": F64,
    "draw_day": F64,
    "line_of_therapy": STR,
    "site": STR,
    "instrument": STR,
    "age": F64,
    "ecog": F64,
}
TRUTH: Schema = {  # derived from the ledger and from nothing else
    "cell_uid": STR,
    "sample_uid": STR,
    "patient_uid": STR,
    "class_id": STR,
    "role": STR,
    "purpose": STR,
    "how": STR,
}
EMBEDDING: Schema = {  # one file a sample; probabilities in the order of the model's class list
    "cell_uid": STR,
    "sample_uid": STR,
    "predicted": STR,
    "probabilities": pa.list_(F32),
    "latent": pa.list_(F32),
    "reconstruction_error": pa.list_(F32),  # a plane: sum of squared errors / sum of squares of the input
    "energy": F32,  # minus the log of the summed exponentials of the outputs before softmax
    "appearance": pa.list_(F32),  # `appearance.NAMES`: measured without any class
}
MISTAKES: Schema = {  # settled cells of steering patients on which the candidate and the readers differ about CTC
    "cell_uid": STR,
    "patient_uid": STR,
    "sample_uid": STR,
    "cancer_type": STR,  # with the kind of sample before it when it is no patient's: "benign breast"
    "true_class": STR,
    "predicted": STR,
    "p_ctc": F32,
    "p_predicted": F32,
    "kind": STR,  # missed or false
}
MAP: Schema = {  # for the eye only: no place is an identifier or goes into a decision
    "cell_uid": STR,
    "tsne_x": F32,
    "tsne_y": F32,
    "umap_x": F32,
    "umap_y": F32,
}
DISCOVERY: Schema = {  # one row a cell of the training patients
    "cell_uid": STR,
    "cluster": I32,
    "cluster_name": STR,
    "novelty": F32,  # by the score that the replay chose; null for a labelled cell
    "uncertainty": F32,
    "in_reference": BOOL,
    "shifted": BOOL,  # of a batch that differs as a whole; never flagged
    "flagged": BOOL,
}
CLUSTERS: Schema = {  # `clusters.Cluster` explains each column
    "cluster": I32,
    "name": STR,
    "came_from": STR,
    "size": I32,
    "archive": I32,
    "reference": I32,
    "noise": I32,
    "ratio": F32,
    "label_entropy": F32,
    "novelty": F32,
    "uncertainty": F32,
    "stability": F32,
    "nearest_class": STR,
    "profile": STR,
    "samples": I32,
    "patients": I32,
    "largest_sample_share": F32,
    "largest_frame_share": F32,
    "largest_region_share": F32,
    "largest_date_share": F32,
    "flagged": BOOL,
    "verdict": STR,
    "exemplars": pa.list_(STR),  # typical ones
    "border_exemplars": pa.list_(STR),
    "random_exemplars": pa.list_(STR),
}
OPINIONS: Schema = {  # a row a reading, in the order of the ledger; nothing that a reader said is lost by settlement
    "cell_uid": STR,
    "patient_uid": STR,
    "purpose": STR,
    "occasion": STR,
    "reader": STR,
    "duty": STR,  # reader, adjudicator or check
    "label": STR,  # class_id, new:<class_id> or unreadable, as it was said
    "confidence": STR,  # empty where nothing was said
    "reasons": STR,  # separated by blanks
    "lead_time_s": F32,
    "at": STR,  # when it entered the ledger, UTC in ISO 8601
    "repeat": BOOL,  # a hidden repeat: asked to measure the reader, never to settle
}
QUEUE: Schema = {"cell_uid": STR, "purpose": STR, "reason": STR, "rank": I32}
DRIFT: Schema = {  # a row a tube of blood, set beside the training cells of its instrument and site
    "sample_uid": STR,
    "instrument": STR,
    "site": STR,
    "place": I32,  # in time, among the samples of the instrument
    "reference": STR,  # whose training cells it was set beside
    "in_usual": BOOL,  # one of those from which the bounds were learned
    "cells": I32,  # that could be compared
    "latents": F32,  # the distances of `sample_distances`; null with too few cells
    "appearance": F32,
    "intensity": F32,
    "cd45_level": F32,  # median rank of its cells' intensity among the reference's; 0.5 is usual
    "dapi_level": F32,
    "ck_level": F32,
    "departure": F32,  # of the distance that departs most: 0 is usual, 1 is the bound
    "strongest": STR,  # which one
    "p": F32,
    "drifts": BOOL,
    "martingale": F32,  # against exchangeability of the instrument's samples up to this one
}
COUNTS: Schema = {
    "sample_uid": STR,
    "patient_uid": STR,
    "cancer_type": STR,
    "class_id": STR,
    "denominator": STR,
    "threshold": F32,
    "count": I32,
    "events": I32,
    "per_7_5_ml": F32,
    "low": F32,
    "high": F32,
    "cutoff": F32,
    "exploratory": BOOL,
    "flip_risk": F32,
    "side": STR,  # above, below, undecided, or none without a cut-off
    "tube_low": F32,  # what experts would count in this very tube; low and high hold the patient's concentration
    "tube_high": F32,
    "tube_flip_risk": F32,
}
BY_HAND_SAMPLES: Schema = {  # a row a tube of a patient that was counted both ways, those that change side first
    "sample_uid": STR,
    "patient_uid": STR,
    "cancer_type": STR,
    "manual": F32,  # CTCs per 7.5 ml as the clinical table has them
    "model": F32,
    "low": F32,  # of the model's count, as in COUNTS
    "high": F32,
    "cutoff": F32,
    "exploratory": BOOL,
    "side_manual": STR,  # of the count itself: above (at the cut-off or over it), below, or none without a cut-off
    "side_model": STR,
    "changes_side": BOOL,
}
BY_HAND_CELLS: Schema = {  # events that at least one of the two calls a CTC
    "cell_uid": STR,
    "sample_uid": STR,
    "patient_uid": STR,
    "cancer_type": STR,
    "hand": STR,  # whose call it is: operator, or what readers settled, by purpose: evaluation, training
    "called_by": STR,  # both, model or hand
    "predicted": STR,
    "p_ctc": F32,
    "read_as": STR,  # what the hand says it is: a class of the readers; ctc or nothing of the operator
}
SUBCLASS_COUNTS: Schema = {  # a row a sample, subclass and denominator; all of it exploratory
    "sample_uid": STR,
    "patient_uid": STR,
    "cancer_type": STR,
    "class_id": STR,
    "subclass": I32,  # from 1 on, the largest first
    "denominator": STR,
    "count": I32,
    "of_class": I32,  # cells of the whole class in the tube
    "per_7_5_ml": F32,
    "low": F32,  # of the concentration, from drawing one tube alone: what the network is unsure of is not in it
    "high": F32,
}
SUBCLASS_CELLS: Schema = {
    "cell_uid": STR,
    "sample_uid": STR,
    "patient_uid": STR,
    "class_id": STR,
    "subclass": I32,
    "distance": F32,  # from the subclass's centre, between directions of latents: 0 the same, 2 opposite
    "p_class": F32,
}


def write_json(path: Path, content: Any, *, allow_nan: bool = True) -> None:
    """Write what people may also want to read; whole or not at all. `ValueError` for a NaN that is not allowed."""
    with atomic_path(path) as unfinished:
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=allow_nan)
        unfinished.write_text(text + "\n", encoding="utf-8")


def check(table: pd.DataFrame, schema: Schema, what: str, *, extra_prefix: str | None = None) -> pa.Table:
    """Return `table` as Arrow with exactly the declared columns.

    Columns that start with `extra_prefix` may follow the declared ones. Raises `BadTable` and names every difference.
    """
    extra = [name for name in table.columns if extra_prefix and name.startswith(extra_prefix)]
    missing = [name for name in schema if name not in table.columns]
    unknown = [name for name in table.columns if name not in schema and name not in extra]
    if missing or unknown:
        raise BadTable(f"{what}: missing columns {missing}, unknown columns {unknown}; expected {list(schema)}")
    columns = []
    for name, kind in schema.items():
        try:
            columns.append(pa.array(table[name], type=kind, from_pandas=True))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as error:
            raise BadTable(f"{what}: column {name!r} is not {kind} ({error}); mend the source of this table") from None
    columns += [pa.array(table[name], from_pandas=True) for name in extra]
    return pa.table(columns, names=[*schema, *extra])


def write_table(table: pd.DataFrame, schema: Schema, path: Path, *, extra_prefix: str | None = None) -> None:
    """Check, then write atomically: a reader sees the old file or the new one, never a half."""
    arrow = check(table, schema, path.name, extra_prefix=extra_prefix)
    with atomic_path(path) as unfinished:
        pq.write_table(arrow, unfinished, compression="zstd", use_dictionary=False)


def read_table(
    path: Path, schema: Schema, *, columns: list[str] | None = None, extra_prefix: str | None = None
) -> pd.DataFrame:
    """Read one table and check that it is what it says; lists come back as numpy arrays.

    The labels of sealed patients are read by `ctcml.sealed` alone; here they are a `ProtocolBreach`.
    """
    if path.name == SEALED_LABELS:
        raise ProtocolBreach(
            f"{path}: labels of sealed patients are for the gate alone; use those of training patients"
        )
    try:
        arrow = pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowInvalid) as error:
        raise BadTable(
            f"{path}: not readable as a table ({' '.join(str(error).split())[:200]}); make it again"
        ) from None
    wanted = {name: schema[name] for name in columns} if columns else schema
    found = {
        field.name: field.type for field in arrow.schema if not (extra_prefix and field.name.startswith(extra_prefix))
    }
    if found != dict(wanted):
        raise BadTable(f"{path}: columns {found}, expected {dict(wanted)}; make it again with this version of ctcml")
    return arrow.to_pandas()


def read_folder(folder: Path, schema: Schema, *, columns: list[str] | None = None) -> pd.DataFrame:
    """Read all Parquet files of a folder, in order of name, as one table; an empty folder gives an empty table."""
    files = sorted(folder.glob("*.parquet"))
    if not files:
        return check(pd.DataFrame({name: [] for name in schema}), schema, str(folder)).to_pandas()[
            columns or list(schema)
        ]
    return pd.concat([read_table(file, schema, columns=columns) for file in files], ignore_index=True)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`; rename it into place if the block ends well, remove it if not.

    >>> with atomic_path(Path(tempfile.mkdtemp()) / "a.txt") as unfinished:
    ...     _ = unfinished.write_text("whole")
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    unfinished = Path(name)
    try:
        yield unfinished
        unfinished.chmod(0o644)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
