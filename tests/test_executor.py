"""Where work runs changes nothing of what comes back, and a worker that dies is a sentence and not a silence."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from threadpoolctl import threadpool_info

from ctcml import executor as executor_module
from ctcml.errors import BadInput, ServiceDown
from ctcml.executor import Executor, Kind, cores, one_compute_thread, open_executor


def twice(number: int) -> tuple[int, int, int]:
    time.sleep(0.02 * (3 - number % 4))  # later items are ready first
    return 2 * number, os.getpid(), threading.get_ident()


def compute_threads(_: int) -> set[int | str | None]:
    """How many threads the libraries would take that are loaded, and those that are loaded later."""
    return {os.environ.get("OMP_NUM_THREADS"), *(one["num_threads"] for one in threadpool_info())}


def torch_threads(_: int) -> int:
    import torch

    return torch.get_num_threads()


def refuse(number: int) -> int:
    if number == 2:
        raise BadInput("sample 2: is no sample; leave it out")
    return number


def die(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


@pytest.fixture(scope="module")
def dask_cluster() -> Iterator[Executor]:
    """A real cluster of two processes on this machine."""
    with open_executor(kind="dask", workers=2) as executor:
        yield executor


def behaves(executor: Executor, *, processes: bool) -> None:
    """What every kind promises."""
    told: list[tuple[int, int]] = []
    found = executor.map(twice, range(9), progress=lambda done, all_: told.append((done, all_)))
    assert [number for number, _, _ in found] == [2 * number for number in range(9)]
    assert told[-1] == (9, 9)
    assert told == sorted(told)
    assert (os.getpid() in {process for _, process, _ in found}) is not processes
    assert all(found <= {1, "1"} for found in executor.map(compute_threads, range(2)))
    assert executor.map(twice, []) == []
    with pytest.raises(BadInput, match=r"^sample 2: is no sample; leave it out$"):
        executor.map(refuse, range(6))
    assert executor.map(refuse, [7]) == [7]  # an item's error is not the end of the workers


@pytest.mark.parametrize("kind", ["here", "threads"])
def test_results_come_in_order_on_one_compute_thread_in_this_process(kind: Kind) -> None:
    import torch  # not above: the workers import this module

    torch.set_num_threads(2)
    try:
        with open_executor(kind=kind, workers=2) as executor:
            behaves(executor, processes=False)
            assert executor.map(torch_threads, range(4)) == [1] * 4
        assert torch.get_num_threads() == 2  # the process has its own again
    finally:
        torch.set_num_threads(1)


def test_processes_return_the_same_and_one_that_dies_is_one_line() -> None:
    with open_executor(kind="processes", workers=2) as executor:
        behaves(executor, processes=True)
        with pytest.raises(ServiceDown, match=r"^executor processes: a worker ended before its work was done.*again"):
            executor.map(die, range(4))


def test_dask_returns_the_same_and_an_item_that_kills_its_workers_is_one_line(dask_cluster: Executor) -> None:
    assert dask_cluster.workers == 2
    behaves(dask_cluster, processes=True)
    with pytest.raises(ServiceDown, match=r"^executor dask: a worker ended before its work was done"):
        dask_cluster.map(die, range(4))


def test_ray_returns_the_same() -> None:
    pytest.importorskip("ray")
    with open_executor(kind="ray", workers=2) as executor:
        behaves(executor, processes=True)
        with pytest.raises(ServiceDown, match=r"^executor ray: a worker ended before its work was done"):
            executor.map(die, range(4))


def test_results_are_handed_over_as_soon_as_they_are_there_and_no_item_is_taken_far_ahead() -> None:
    begun: list[int] = []
    with open_executor(kind="here") as executor:
        results = executor.stream(lambda number: begun.append(number) or number, range(5))
        assert begun == []
        assert next(results) == 0
        assert begun == [0]
        assert list(results) == [1, 2, 3, 4]


def test_a_cluster_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor_module, "ANSWER_S", 1)
    with (
        pytest.raises(ServiceDown, match=r"'tcp://127.0.0.1:9' does not answer .*correct executor.address"),
        open_executor(kind="dask", address="tcp://127.0.0.1:9"),
    ):
        pass


def test_one_compute_thread_gives_the_variables_back_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with one_compute_thread():
        assert os.environ["OMP_NUM_THREADS"] == os.environ["MKL_NUM_THREADS"] == "1"
    assert os.environ["OMP_NUM_THREADS"] == "3"
    assert "MKL_NUM_THREADS" not in os.environ
    assert cores() >= 1


def test_processes_end_when_their_caller_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys, time\n"
        "from ctcml.executor import open_executor\n"
        "def pid(_):\n    open(os.path.join(sys.argv[1], str(os.getpid())), 'w').close(); time.sleep(0.2)\n"
        "if __name__ == '__main__':\n"
        "    with open_executor(kind='processes', workers=2) as executor:\n        executor.map(pid, range(1000))\n"
    )
    (tmp_path / "caller.py").write_text(code)
    pids = tmp_path / "pids"
    pids.mkdir()
    caller = subprocess.Popen([sys.executable, str(tmp_path / "caller.py"), str(pids)])
    while len(list(pids.iterdir())) < 2:
        assert caller.poll() is None
        time.sleep(0.05)
    caller.kill()
    caller.wait()
    workers = [int(file.name) for file in pids.iterdir()]
    deadline = time.monotonic() + 10
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE for pid in workers):
        assert time.monotonic() < deadline, "workers outlive their caller"
        time.sleep(0.1)
