"""Measuring a program from outside, and the table in which a bench says what it found."""

import os
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import psutil

from ctcml.errors import CtcmlError


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One row of a bench's table; `asked` is the figure that the project set itself, empty without one."""

    name: str
    value: str
    asked: str = ""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One run of a program: seconds of the wall clock, peak memory of it and its children together, what it said."""

    seconds: float
    peak_mb: float
    said: str


def run_measured(command: Sequence[str], *, env: Mapping[str, str] | None = None) -> Measured:
    """Run a program to its end, with `env` beside our environment, and watch its memory and that of its children.

    Raises `CtcmlError` with the last line of its complaint when it fails.
    """
    begun = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | dict(env or {})
    )
    peak = [0.0]
    watcher = threading.Thread(target=_watch, args=(process.pid, peak), daemon=True)
    watcher.start()
    said, complained = process.communicate()
    seconds = time.monotonic() - begun
    if process.returncode:
        raise CtcmlError(f"bench: {' '.join(command[1:5])} failed: {(complained.strip().splitlines() or ['?'])[-1]}")
    lines = said.strip().splitlines()
    return Measured(seconds=seconds, peak_mb=peak[0], said=" | ".join(lines[-2:]) if lines else "")


def _watch(pid: int, peak: list[float]) -> None:
    with suppress(psutil.Error):
        root = psutil.Process(pid)
        while root.is_running() and root.status() != psutil.STATUS_ZOMBIE:
            total = 0
            for one in [root, *root.children(recursive=True)]:
                with suppress(psutil.Error):
                    total += one.memory_info().rss
            peak[0] = max(peak[0], total / 1e6)
            time.sleep(0.05)


def table_of(figures: Sequence[Figure]) -> str:
    """The figures as a table for people.

    >>> print(table_of([Figure(name="ratio", value="6.0 x", asked=">= 5 x")]))
    ratio  6.0 x  (asked: >= 5 x)
    """
    width = max(len(one.name) for one in figures)
    return "\n".join(
        f"{one.name:{width}}  {one.value}" + (f"  (asked: {one.asked})" if one.asked else "") for one in figures
    )
