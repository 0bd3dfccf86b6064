"""How far a run is and how long it may still take, judged by how long each step took where it was measured."""

import json
import time

from ctcml.tables import atomic_path
from ctcml.workspace import Workspace

# Seconds of each step on 2 cores, in order; only their proportions matter once a step or two are over.
EXPECTED_S = {
    "simulated laboratory": 20,
    "services": 30,
    "intake": 10,
    "training": 150,
    "discovery": 45,
    "review push": 15,
    "readers": 60,
    "review pull": 12,
    "adjudicator": 60,
    "retraining": 150,
    "promotion": 12,
    "recount": 45,
    "dashboard": 15,
}


def announce(ws: Workspace, step: str) -> None:
    """Print which step begins, when, and an estimate of the rest, at the pace of the steps that this run has done."""
    notes = ws.private / "progress.json"
    begun: dict[str, float] = json.loads(notes.read_text()) if notes.exists() else {}
    if step in begun:
        return  # gone back to, as after the adjudicator
    now = begun[step] = time.time()
    with atomic_path(notes) as unfinished:
        unfinished.write_text(json.dumps(begun))
    names = list(EXPECTED_S)
    place = names.index(step)
    elapsed = now - min(begun.values())
    expected_so_far = sum(EXPECTED_S[name] for name in names[:place] if name in begun)
    pace = elapsed / expected_so_far if expected_so_far else 1.0
    minutes_left = max(1, round(pace * sum(EXPECTED_S[name] for name in names[place:]) / 60))
    print(f"[{elapsed / 60:4.1f} min] {place + 1}/{len(names)} {step}  (about {minutes_left} min left)", flush=True)


def start_clock(ws: Workspace) -> None:
    """Forget the steps of a former run: its pace, or the night between, says nothing about this one."""
    (ws.private / "progress.json").unlink(missing_ok=True)
