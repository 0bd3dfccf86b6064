"""Intake: from an export in the inbox to a data version."""

from pathlib import Path

from prefect import flow

from ctcml.dataversions import new_data_version
from ctcml.identity import load_key
from ctcml.intake import Taken, take_in
from flows.steps import local, now, say, workspace_and_params


@local
def pack(root: str, export: str, clinical: str, historic: str | None) -> Taken:
    ws, params = workspace_and_params(root)
    block = (params.splits.train, params.splits.steering, params.splits.sealed)
    tell = say()
    return take_in(
        Path(export),
        Path(clinical),
        Path(historic) if historic else None,
        ws,
        key=load_key(ws.key),
        block=block,
        seed=params.seed,
        now=now(),
        progress=lambda done, all_: tell(f"{done}/{all_} samples packed") if done % 30 == 0 else None,
    )


@local
def freeze(root: str, why: str) -> str:
    ws, _ = workspace_and_params(root)
    return new_data_version(ws, why=why, by="flow", now=now()).tag


@flow
def intake(root: str, export: str, clinical: str, historic: str | None = None) -> tuple[Taken, str]:
    """Pack what is new and make a data version."""
    taken = pack(root, export, clinical, historic)
    return taken, freeze(root, f"intake of {taken.samples} samples")
