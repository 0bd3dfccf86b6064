"""Ends the processes of a run, and stands guard so that none outlives an owner that was killed.

Every process below a run inherits the variable CTCML_RUN with the run's id, so one that left its parent or its process
group is still found. The guard is this file run as a script, a small child of the owner: it wakes when the owner closes
its standard input or is gone, and ends whatever is left. It does not carry the variable itself.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from contextlib import suppress

import psutil

RUN_VARIABLE = "CTCML_RUN"
SERVICE_VARIABLE = "CTCML_SERVICE"
LOOK_EVERY_S = 1.0


def carriers(run: str, service: str | None = None) -> list[psutil.Process]:
    """The living processes of a run (or of one of its services), without the caller.

    >>> carriers("no-such-run")
    []
    """
    found = []
    for process in psutil.process_iter():
        try:
            environment = process.environ()
        except (psutil.Error, OSError):  # gone, a zombie, or another user's: not ours
            continue
        if (
            environment.get(RUN_VARIABLE) == run
            and service in (None, environment.get(SERVICE_VARIABLE))
            and process.pid != os.getpid()
        ):
            found.append(process)
    return found


def end(processes: Iterable[psutil.Process], *, grace_s: float = 10.0) -> None:
    """Ask each process to stop; kill those that are still there after `grace_s` seconds."""
    waiting = list(processes)
    for process in waiting:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(waiting, timeout=grace_s)
    for process in alive:
        _signal(process, signal.SIGKILL)
    psutil.wait_procs(alive, timeout=grace_s)


def end_run(run: str, service: str | None = None, *, grace_s: float = 10.0) -> None:
    """End all processes of a run or service; looks again, as a dying server may start another process."""
    for _ in range(3):
        found = carriers(run, service)
        if not found:
            return
        end(found, grace_s=grace_s)


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):  # it ended by itself
        process.send_signal(number)


def post_warden(run: str) -> "subprocess.Popen[bytes]":
    """Start the guard of `run`; it goes to work when `dismiss` writes to it, and when this process is gone."""
    environment = {name: value for name, value in os.environ.items() if name not in (RUN_VARIABLE, SERVICE_VARIABLE)}
    return subprocess.Popen(
        [sys.executable, "-P", __file__, run, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,  # Ctrl-C in the terminal is for the owner
    )


def dismiss(warden: "subprocess.Popen[bytes]") -> None:
    """Let the guard end what is left of its run, and wait for it.

    A word, not only the end of the file: a forked worker may hold the pipe open.
    """
    warden.communicate(b"good-bye")


def guard(run: str, owner: int) -> None:
    """Wait for the owner's word or its end, then end what it left.

    Forked workers of the owner do not carry the variable (the kernel shows the owner's first environment), so the
    owner's children are noted once a second; they are ended only if the owner died without saying good-bye.
    """
    children: set[psutil.Process] = set()
    while not select.select([sys.stdin], [], [], LOOK_EVERY_S)[0]:
        try:
            found = set(psutil.Process(owner).children(recursive=True))
        except psutil.NoSuchProcess:
            break
        if os.getppid() != owner:  # a dead owner has no children any more: keep what was noted before
            break
        children = found - {psutil.Process()}
    time.sleep(0.2)  # a killed owner's pipe closes a moment before it loses its children
    if os.getppid() != owner:
        end([child for child in children if child.is_running()])
    end_run(run)


if __name__ == "__main__":
    guard(sys.argv[1], int(sys.argv[2]))
