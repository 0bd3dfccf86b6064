"""Recount: what follows from a champion, made by the stages and committed."""

from pathlib import Path

from prefect import flow

from ctcml.versioning import commit
from flows.steps import local, run_stages

LOCKED = ["dvc.lock", "dvc.yaml", "params.yaml", "code.yaml"]  # what a result was made by


@local
def keep(root: str, why: str) -> None:
    commit(Path(root), why, LOCKED)


@flow
def discovery(root: str) -> list[str]:
    """Candidates by gate, latents, clusters, the map and the next queue."""
    ran = run_stages(root, ["preselect", "map", "query"])
    keep(root, "Discovery with the present champion")
    return ran


@flow
def recount(root: str) -> list[str]:
    """Every derived file that is out of date, counts and survival last."""
    ran = run_stages(root, ["preselect", "map", "cluster", "count", "survive", "compare", "subclass", "drift"])
    keep(root, "Recount with the present champion")
    return ran
