"""Where the work on one sample after the other runs: here, on threads, in processes, on Dask or on Ray; and nothing else differs.

=========  =============================================  =====================================================
kind       workers                                        when one dies
=========  =============================================  =====================================================
here       the caller                                     the caller dies
threads    of this process                                the process dies
processes  of this machine; they end with their caller    the work ends with one line
dask       a cluster's, or processes that Dask starts     the same; a cluster's own rule may try its item again first
ray        the same with Ray                              its item is tried once more, then the same
=========  =============================================  =====================================================

What is done is a function at the top of a module and its items are records, so that both can be sent. Each worker computes
on one thread: a sample is small, and threads that wait for each other on cores that are not free take ten times as long.
Workers on other machines must see the workspace under the same path. Dask and Ray are extras of the package.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures import ThreadPoolExecutor as ThreadPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from typing import Any, Literal, TypeVar

from threadpoolctl import threadpool_limits

from ctcml.errors import CtcmlError, ServiceDown

Kind = Literal["here", "threads", "processes", "dask", "ray"]
Progress = Callable[[int, int], None]  # items done, of how many
Submit = Callable[[Callable[[Any], Any], Any], "Future[Any]"]
Item = TypeVar("Item")
Result = TypeVar("Result")

AHEAD = 4  # items a worker that are handed out before it asks, so that it never waits for the next one
LOOK_S = 2.0  # how often the workers are looked after while nothing comes back
ANSWER_S = 20.0  # for a running cluster to answer
LONELY_S = 60.0  # a cluster without any worker for so long is gone
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, kw_only=True, eq=False)
class Executor:
    """Workers that are ready, from `open_executor`; `look` raises when those of a cluster are gone, `lost` says how they tell."""

    kind: Kind
    workers: int
    submit: Submit
    ahead: int = AHEAD
    here: bool = False  # the work shares this process, whose libraries must be told to use one thread
    look: Callable[[], None] = lambda: None
    lost: tuple[type[BaseException], ...] = (BrokenExecutor, CancelledError)

    def map(
        self, do: Callable[[Item], Result], items: Sequence[Item], *, progress: Progress = lambda _done, _all: None
    ) -> list[Result]:
        """Do something with each item; results in the order of the items.

        The first error of an item ends the work and is raised; `ServiceDown` when workers are gone.
        """
        return list(self.stream(do, items, progress=progress))

    def stream(
        self, do: Callable[[Item], Result], items: Sequence[Item], *, progress: Progress = lambda _done, _all: None
    ) -> Iterator[Result]:
        """As `map`, each result as soon as it and those before it are there; nothing is done before the first is asked for."""
        flying, found, given = dict["Future[Any]", int](), dict[int, Any](), 0
        with one_compute_thread() if self.here else nullcontext():
            try:
                for place in range(len(items)):
                    while place not in found:
                        while given < len(items) and len(flying) < self.ahead * self.workers:
                            flying[self._handed_out(do, items[given])] = given
                            given += 1
                        for one in self._done(flying):
                            found[flying.pop(one)] = self._result(one)
                        progress(given - len(flying), len(items))
                    yield found.pop(place)
            finally:
                for one in flying:
                    one.cancel()

    def _handed_out(self, do: Callable[[Any], Any], item: Any) -> "Future[Any]":
        try:
            return self.submit(do, item)
        except self.lost as error:
            raise _gone(self.kind, error) from None

    def _done(self, flying: "dict[Future[Any], int]") -> "set[Future[Any]]":
        done, _ = wait(flying, timeout=LOOK_S, return_when=FIRST_COMPLETED)
        if not done:
            try:
                self.look()
            except self.lost as error:
                raise _gone(self.kind, error) from None
        return done

    def _result(self, future: "Future[Any]") -> Any:
        try:
            return future.result()
        except self.lost as error:
            raise _gone(self.kind, error) from None
        except Exception as error:
            cause = getattr(error, "cause", None)  # Ray wraps what was raised, and adds its traceback to the text
            if isinstance(cause, CtcmlError):
                raise cause from None
            raise


def _gone(kind: Kind, error: BaseException) -> ServiceDown:
    return ServiceDown(
        f"executor {kind}: a worker ended before its work was done ({type(error).__name__}), perhaps for want of memory; run it"
        " again, it goes on from what is done, with fewer executor.workers if it comes back"
    )


@contextmanager
def open_executor(*, kind: Kind, workers: int = 0, address: str = "") -> Iterator[Executor]:
    """Workers for as long as the block lasts; 0 of them means one a core that this process may use.

    `address` is that of a running Dask or Ray cluster, which keeps the number of its own workers. Raises `ServiceDown` when
    it does not answer, or the extra that a kind needs is not installed.

    >>> with open_executor(kind="here") as executor:
    ...     executor.map(abs, [-2, 1])
    [2, 1]
    """
    opened: dict[Kind, Callable[[int, str], AbstractContextManager[Executor]]] = {
        "here": lambda _workers, _address: nullcontext(HERE),
        "threads": lambda n, _address: _threads(n),
        "processes": lambda n, _address: _processes(n),
        "dask": _dask,
        "ray": _ray,
    }
    with opened[kind](workers or cores(), address) as executor:
        yield executor


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def start_method() -> BaseContext:
    """Fork where nothing could be locked at that moment, as at the command line: it spares each process 1.5 s of imports.

    A process that has used torch has threads of OpenMP, which a fork does not have and waits for: measured, for ever.
    """
    free = sys.platform == "linux" and threading.active_count() == 1 and "torch" not in sys.modules
    return get_context("fork" if free else "spawn")


def _at_once(do: Callable[[Any], Any], item: Any) -> "Future[Any]":
    future: Future[Any] = Future()
    try:
        future.set_result(do(item))
    except Exception as error:
        future.set_exception(error)
    return future


HERE = Executor(kind="here", workers=1, submit=_at_once, ahead=1, here=True)


@contextmanager
def _threads(workers: int) -> Iterator[Executor]:
    with ThreadPool(workers) as pool:
        yield Executor(kind="threads", workers=workers, submit=pool.submit, here=True)


@contextmanager
def _processes(workers: int) -> Iterator[Executor]:
    pool = ProcessPoolExecutor(workers, mp_context=start_method(), initializer=_settle_in, initargs=(os.getpid(),))
    try:
        yield Executor(kind="processes", workers=workers, submit=pool.submit)
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _dask(workers: int, address: str) -> Iterator[Executor]:
    try:
        import dask
        from distributed import Client, KilledWorker, LocalCluster
    except ImportError as error:
        raise ServiceDown(f"executor dask: {error}; install ctcml[dask], or choose another executor.kind") from None
    # The scheduler of a cluster of ours runs in this process, and has its manners from there.
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
        if not address:
            with (
                LocalCluster(
                    n_workers=workers, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50
                ) as cluster,
                Client(cluster) as client,
            ):
                yield _of_dask(client, KilledWorker)
            return
        try:
            client = Client(address, timeout=ANSWER_S)
        except (OSError, ValueError) as error:
            raise ServiceDown(
                f"executor dask: {address!r} does not answer ({type(error).__name__}); start the scheduler or correct executor.address"
            ) from None
        with client:
            yield _of_dask(client, KilledWorker)


def _of_dask(client: Any, killed: type[Exception]) -> Executor:
    empty_since: list[float] = []

    def look() -> None:
        if client.scheduler_info()["workers"]:
            empty_since.clear()
            return
        empty_since.append(time.monotonic())
        if empty_since[-1] - empty_since[0] > LONELY_S:
            raise ServiceDown(
                f"executor dask: the cluster has had no worker for {LONELY_S:.0f} s; start workers and run it again"
            )

    pool = client.get_executor(pure=False)
    return Executor(
        kind="dask",
        workers=max(1, sum(client.nthreads().values())),
        submit=lambda do, item: pool.submit(_settled, do, item),
        look=look,
        lost=(killed, CancelledError, OSError, TimeoutError),
    )


@contextmanager
def _ray(workers: int, address: str) -> Iterator[Executor]:
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0"}  # nothing is reported to anybody
    try:
        import ray
    except ImportError as error:
        raise ServiceDown(f"executor ray: {error}; install ctcml[ray], or choose another executor.kind") from None
    try:
        ray.init(
            address or "local",
            include_dashboard=False,
            log_to_driver=False,
            **({} if address else {"num_cpus": workers}),
        )
    except Exception as error:  # Ray raises nothing more particular when a cluster does not come up in time
        ray.shutdown()
        raise ServiceDown(
            f"executor ray: {address or 'a cluster of this machine'!r} does not answer ({type(error).__name__}); start it or correct"
            " executor.address"
        ) from None
    try:
        settled = ray.remote(num_cpus=1, max_retries=1)(_settled)
        yield Executor(
            kind="ray",
            workers=max(1, int(ray.cluster_resources().get("CPU", workers))),
            submit=lambda do, item: settled.remote(do, item).future(),
            lost=(
                ray.exceptions.WorkerCrashedError,
                ray.exceptions.ObjectLostError,
                ray.exceptions.RaySystemError,
                CancelledError,
            ),
        )
    finally:
        ray.shutdown()


def _settled(do: Callable[[Any], Any], item: Any) -> Any:
    _one_thread_for_good()
    return do(item)


def _settle_in(caller: int) -> None:
    """Begin as a process of a pool: one compute thread, and an end when the caller is gone, for whom it would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller hears it too, and ends the work
    _one_thread_for_good()
    threading.Thread(target=_end_with, args=(caller,), daemon=True).start()


def _end_with(caller: int) -> None:
    while os.getppid() == caller:
        time.sleep(0.5)
    os._exit(1)


@cache
def _one_thread_for_good() -> None:
    os.environ |= dict.fromkeys(VARIABLES, "1")  # for libraries that are loaded later
    threadpool_limits(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@contextmanager
def one_compute_thread() -> Iterator[None]:
    """Let the libraries of this process compute on one thread each while the block lasts, also in threads that begin there."""
    before, torch = {name: os.environ.get(name) for name in VARIABLES}, sys.modules.get("torch")
    threads = torch.get_num_threads() if torch else cores()
    os.environ |= dict.fromkeys(VARIABLES, "1")
    try:
        with threadpool_limits(1):
            if torch:
                torch.set_num_threads(1)
            yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        if "torch" in sys.modules:
            sys.modules["torch"].set_num_threads(threads)
