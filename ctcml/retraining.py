"""When it is time to train again, and which models were champion: pure readings of the ledger."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ctcml.errors import ProtocolBreach
from ctcml.ledger import Event
from ctcml.records import Purpose

CHANGES = ("promotion", "rollback")


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """What came into the ledger since the data that the last training learnt from."""

    labels: int
    classes: tuple[str, ...]


def since_last_training(events: Iterable[Event]) -> Learnt:
    """Cells whose training label is new or another one, and classes that were added, since the last training's data."""
    events = list(events)
    trained = [event.body["data_version"] for event in events if event.kind == "training"]
    frozen = {event.body["tag"]: event.seq for event in events if event.kind == "data_version"}
    seq = frozen.get(trained[-1], -1) if trained else -1
    before: dict[str, str] = {}
    now: dict[str, str] = {}
    for event in events:
        if event.kind == "settlement" and event.body["purpose"] == Purpose.TRAINING:
            now[event.body["cell_uid"]] = event.body["class_id"]
            if event.seq < seq:
                before[event.body["cell_uid"]] = event.body["class_id"]
    added = [event.body["class_id"] for event in events if event.kind == "class_added" and event.seq > seq]
    return Learnt(labels=sum(before.get(uid) != label for uid, label in now.items()), classes=tuple(added))


def reasons_to_train(
    events: Iterable[Event], drifting: Mapping[str, str], *, new_labels: int, new_class: bool, drift_alarm: bool
) -> tuple[str, ...]:
    """A sentence for each reason that is there; none when the next training can wait.

    `drifting` tells of what raises the alarm by name. What did so at the last training already is no reason for another.
    """
    events = list(events)
    learnt = since_last_training(events)
    known: list[str] = next((event.body.get("alarmed", []) for event in events[::-1] if event.kind == "training"), [])
    drift_alarms = [told for name, told in drifting.items() if name not in known]
    found = []
    if learnt.labels >= new_labels:
        found.append(f"{learnt.labels} new training labels since the last training, {new_labels} are enough")
    if new_class and learnt.classes:
        found.append(f"class {', '.join(learnt.classes)} is new")
    if drift_alarm and drift_alarms:
        more = f" and {len(drift_alarms) - 1} more alarms" if len(drift_alarms) > 1 else ""
        found.append(f"drift: {drift_alarms[0]}{more}")
    return tuple(found)


def champions(events: Iterable[Event]) -> tuple[str, ...]:
    """The versions that were champion one after the other and were not rolled back, the present one last."""
    stack: list[str] = []
    for event in events:
        if event.kind == "promotion":
            stack.append(str(event.body["version"]))
        elif event.kind == "rollback":
            version = str(event.body["version"])
            while stack and stack[-1] != version:
                stack.pop()
            stack = stack or [version]
    return tuple(stack)


def rolled_back(events: Iterable[Event]) -> frozenset[str]:
    """Versions that people took back and nobody promoted again: no rule may bring them back by itself."""
    events = list(events)
    crowned = {str(event.body["version"]) for event in events if event.kind in CHANGES}
    return frozenset(crowned - set(champions(events)))


def require_former(events: Iterable[Event], version: str) -> None:
    """Only what was champion before can become it again without the gate; `ProtocolBreach` for any other version."""
    found = champions(events)
    if version not in found:
        former = ", ".join(found[:-1]) or "none"
        raise ProtocolBreach(
            f"version {version}: was not champion before the present one (former champions: {former}); "
            "roll back to one of these, or promote it through the gate"
        )
