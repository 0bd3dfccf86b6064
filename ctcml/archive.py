"""Everything that one model says of a whole archive, a table a sample, worked out once and kept beside the workspace's data.

What a model says of a sample depends on its weights, the recipe, the code and the sample's pixels, and on nothing else. So
a finished sample is kept under these, in `.ctcml/embeddings/<model>/<sample_uid>.<pixels>.parquet`: a killed run goes on
where it was, and what the gate had worked out of a challenger is there when the archive is recounted by the new champion.
Kept tables are patients' data: `ctcml.withdrawal` removes them, and what is no more in the archive goes with the next run.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from ctcml.errors import BrokenRecord
from ctcml.executor import HERE, Executor
from ctcml.shards import data_sha256, file_hash, sample_uids, shard_paths
from ctcml.tables import EMBEDDING, write_json, write_table
from ctcml.workspace import Workspace

MODELS_KEPT = 4  # champion, challenger, anchor, and the champion before for a way back
LITTLE = 8 * 2**20  # bytes of shards, some 2,500 thumbnails: up to here, starting workers costs more than it saves
MADE_OF = "made_of.json"
LOCK = ".lock"

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class EmbeddingJob:
    """What a worker needs to embed one sample; the table goes to `kept`."""

    shards: Path
    sample_uid: str
    model: Path
    weights_sha256: str
    image: Mapping[str, Any]
    kept: Path


def embed_archive(
    ws: Workspace, model: Path, folder: Path, *, executor: Executor, say: Say, little: int = LITTLE
) -> None:
    """Write what the model in the folder `model` says of every thumbnail: `tables.EMBEDDING` a sample, and what made them.

    `folder` is emptied first. Whatever the executor, the files are the same to the byte on machines of one kind, and
    samples that were finished before are not embedded again. Up to `little` bytes of shards are embedded without workers.
    """
    card = _card(model)
    weights, image = file_hash(model / "weights.safetensors"), card["image"]
    jobs = [
        EmbeddingJob(
            shards=ws.shards,
            sample_uid=sample,
            model=model,
            weights_sha256=weights,
            image=image,
            kept=_kept(ws, weights, image) / f"{sample}.{_pixels(ws, sample)}.parquet",
        )
        for sample in sample_uids(ws.shards)
    ]
    place = _kept(ws, weights, image)
    place.mkdir(parents=True, exist_ok=True)
    with FileLock(place / LOCK):  # another run by this model does the work, and this one finds it done
        _sweep(place, {job.kept.name for job in jobs})
        write_json(place / MADE_OF, {"weights_sha256": weights, "image": image, "made_with": _made_with()})
        missing = [job for job in jobs if not _is_whole(job.kept)]
        _embed(missing, executor if _bytes(missing) > little else HERE, before=len(jobs) - len(missing), say=say)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for job in jobs:
            shutil.copyfile(job.kept, folder / f"{job.sample_uid}.parquet")
    write_json(
        folder / MADE_OF,
        {
            "model_version": _version(model),
            "weights_sha256": weights,
            "shards_sha256": data_sha256(ws.manifest),
            "classes": card["classes"],
            "image": image,
        },
    )
    _prune(ws.kept_embeddings)


def embed_sample(job: EmbeddingJob) -> None:
    """Work out one sample's table and keep it, whole or not at all."""
    from ctcml.embed import look
    from ctcml.malloc import keep_freed_memory
    from ctcml.shards import read_inputs

    keep_freed_memory()
    scorer = _scorer(job.model, job.weights_sha256)
    uids, images = read_inputs(job.shards, [job.sample_uid], **job.image)
    seen = look(scorer, images)
    table = pd.DataFrame(
        {
            "cell_uid": uids,
            "sample_uid": job.sample_uid,
            "predicted": [scorer.classes[at] for at in seen.probabilities.argmax(axis=1)],
            "probabilities": list(seen.probabilities),
            "latent": list(seen.latents),
            "reconstruction_error": list(seen.reconstruction_error),
            "energy": seen.energy,
            "appearance": list(seen.appearance),
        }
    )
    write_table(table, EMBEDDING, job.kept)


def make_ready(model: Path) -> None:
    """Have a worker import what it needs and open the model, so that a bench can tell its start-up from its work."""
    _scorer(model, file_hash(model / "weights.safetensors"))


@lru_cache(maxsize=2)
def _scorer(model: Path, weights_sha256: str) -> Any:
    """The model, opened once a worker; the hash is asked for because the folder may come to hold another one."""
    from ctcml.embed import load_scorer

    return load_scorer(model)


def _embed(missing: list[EmbeddingJob], executor: Executor, *, before: int, say: Say) -> None:
    told = f", {before} of them before" if before else ""

    def tell(done: int, all_: int) -> None:
        if done % 40 == 0 or done == all_:
            say(f"{before + done}/{before + all_} samples scored{told}")

    executor.map(embed_sample, missing, progress=tell)
    if not missing:
        say(f"all {before} samples were scored before")


def _card(model: Path) -> dict[str, Any]:
    try:
        card: dict[str, Any] = json.loads((model / "model.json").read_text(encoding="utf-8"))
        return card | {"classes": list(card["classes"]), "image": dict(card["image"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BrokenRecord(
            f"model {model}: not readable ({' '.join(str(error).split())}); train it again or fetch it"
        ) from None


def _version(model: Path) -> str | None:
    """The version under which the registry has the model; None for a candidate that is not registered."""
    file = model / "version.json"
    return str(json.loads(file.read_text())["version"]) if file.exists() else None


def _kept(ws: Workspace, weights_sha256: str, image: Mapping[str, Any]) -> Path:
    made_of = json.dumps([weights_sha256, sorted(image.items()), _made_with()])
    return ws.kept_embeddings / f"{weights_sha256[:12]}-{hashlib.sha256(made_of.encode()).hexdigest()[:20]}"


def _pixels(ws: Workspace, sample_uid: str) -> str:
    """Names the very pixels of a sample, by its shards' bytes."""
    hashes = "".join(file_hash(path) for path in shard_paths(ws.shards, sample_uid))
    return hashlib.sha256(hashes.encode()).hexdigest()[:20]


def _bytes(jobs: list[EmbeddingJob]) -> int:
    return sum(path.stat().st_size for job in jobs for path in shard_paths(job.shards, job.sample_uid))


@lru_cache(maxsize=1)
def _made_with() -> dict[str, str]:
    """Our code and the libraries that compute. All of our code: to name the modules that matter is to forget one some day."""
    modules = sorted(Path(__file__).parent.glob("*.py"))
    code = hashlib.sha256(b"\0".join(module.read_bytes() for module in modules)).hexdigest()
    return {"code": code} | {name: version(name) for name in ("torch", "numpy", "pyarrow")}


def _is_whole(kept: Path) -> bool:
    """Whether a kept table can be read; a machine that lost its power may have left a file without its content."""
    try:
        return kept.exists() and pq.ParquetFile(kept).schema_arrow.names == list(EMBEDDING)
    except (OSError, pa.ArrowException):
        return False


def _sweep(place: Path, present: set[str]) -> None:
    """Remove what a killed run left unfinished, and samples that are gone or have other pixels now."""
    for file in place.iterdir():
        if file.name not in present | {LOCK, MADE_OF}:
            file.unlink()


def _prune(folder: Path) -> None:
    """Keep the models that were used last; one that is at work just now stays as well."""
    models = sorted(folder.glob(f"*/{MADE_OF}"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
    for made_of in models[MODELS_KEPT:]:
        try:
            with FileLock(made_of.parent / LOCK, timeout=0):
                shutil.rmtree(made_of.parent)
        except Timeout:
            continue
