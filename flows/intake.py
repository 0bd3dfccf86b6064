"""Intake: from deliveries in the inbox to data versions, when a person asks and by the clock."""

from dataclasses import dataclass
from pathlib import Path

from prefect import flow

from ctcml.dataversions import new_data_version
from ctcml.errors import CtcmlError
from ctcml.executor import open_executor
from ctcml.identity import load_key
from ctcml.inbox import Delivery, deliveries
from ctcml.intake import Taken, take_in
from flows.steps import local, now, say, workspace_and_params


@dataclass(frozen=True, kw_only=True)
class InboxReport:
    """What a look through the inbox brought: lines for people by delivery, and what is still being copied."""

    taken: dict[str, str]
    waiting: tuple[str, ...]


@local
def pack(root: str, export: str, clinical: str, historic: str | None) -> Taken:
    ws, params = workspace_and_params(root)
    tell = say()
    with open_executor(**params.executor.model_dump()) as executor:
        return take_in(
            Path(export),
            Path(clinical),
            Path(historic) if historic else None,
            ws,
            key=load_key(ws.key),
            block=(params.splits.train, params.splits.steering, params.splits.sealed),
            seed=params.seed,
            now=now(),
            page_order=params.intake.page_order,
            executor=executor,
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


@local
def look(root: str) -> list[Delivery]:
    ws, params = workspace_and_params(root)
    return deliveries(ws.inbox, quiet_minutes=params.intake.quiet_minutes, now=now())


@flow
def inbox(root: str) -> InboxReport:
    """Take in every delivery that has arrived whole; one that cannot be used does not stop the others, but fails the run."""
    found = look(root)
    tell = say()
    taken, failed = {}, {}
    for one in found:
        if one.arrived:
            try:
                brought, version = intake(
                    root, str(one.folder), str(one.clinical), str(one.historic) if one.historic else None
                )
                taken[one.name] = f"{brought}; data version {version}"
            except CtcmlError as error:
                failed[one.name] = str(error)
    report = InboxReport(taken=taken, waiting=tuple(one.name for one in found if not one.arrived))
    for name, line in [*taken.items(), *failed.items(), *((name, "is still being copied") for name in report.waiting)]:
        tell(f"{name}: {line}")
    if failed:
        raise CtcmlError("; ".join(f"{name}: {reason}" for name, reason in failed.items()))
    return report
