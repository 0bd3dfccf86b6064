"""Starting servers, seeing that they are healthy, and ending them; `servers` and `labelstudio.server` say which.

Owns ports, the environment that servers get, and the record of what runs. Whoever opens `Services` may fail, be
interrupted or be killed: no server is left behind, except those that were started to be kept. Kept ones that died are
started again by `revive`, from any process.
"""

import json
import os
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NoReturn, Self

import httpx
import psutil
from filelock import FileLock

from ctcml.errors import ServiceDown
from ctcml.tables import atomic_path
from ctcml.warden import RUN_VARIABLE, SERVICE_VARIABLE, dismiss, end_run, post_warden

# Loopback addresses as such and one by one: requests knows networks, httpx and urllib know addresses.
LOOPBACK = ",".join(["localhost", "127.0.0.0/8", *(f"127.0.0.{number}" for number in range(1, 65))])
QUIET = {  # no server or library of ours reports to anybody
    "DO_NOT_TRACK": "true",  # MLflow takes "true" only
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": "false",
    "NO_PROXY": LOOPBACK,
    "no_proxy": LOOPBACK,
}
# Names by which a setting of another program or of the shell would reach our servers by accident.
STRANGERS = ("PIP_", "PREFECT_", "MLFLOW_", "LABEL_STUDIO_", "HEARTEX_", "STREAMLIT_", "GIT_")
STRANGE = {"HOST", "PORT", "USERNAME", "PASSWORD", "DEBUG", "CI", "PYTHONWARNINGS"}


@dataclass(frozen=True)
class Service:
    """One server: how to start it and how to see that it is ready."""

    name: str
    command: list[str]
    environment: dict[str, str] = field(repr=False)  # may hold a password
    home: Path
    host: str
    port: int
    health_path: str
    start_timeout_s: float = 180

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def log(self) -> Path:
        return self.home / f"{self.name}.log"


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nothing listens to at this moment.

    >>> check_port_free("127.0.0.1", free_port())
    """
    return _bound_port(host, 0)


def check_port_free(host: str, port: int) -> None:
    """Raise `ServiceDown` if the port is taken; some servers would silently take the next one."""
    _bound_port(host, port)


def _bound_port(host: str, port: int) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ServiceDown(
                f"port {host}:{port} is not to be had ({error.strerror}); stop what listens there or name another"
            ) from None
        return int(probe.getsockname()[1])


def clean_environment() -> dict[str, str]:
    """This process's environment without settings meant for other programs, and with all telemetry off."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(STRANGERS) and name not in STRANGE}
    return kept | QUIET


def running(state_file: Path) -> dict[str, str]:
    """Name and address of each recorded server that is alive."""
    state = _read_state(state_file)
    return {each["name"]: each["url"] for each in state["services"] if _alive(each)}


def stop_recorded(state_file: Path) -> list[str]:
    """Stop what a kept or killed run left behind and forget the record; returns the names of those that were alive."""
    with _record_lock(state_file):
        state = _read_state(state_file)
        names = list(running(state_file))
        if state["run"]:
            end_run(state["run"])
        state_file.unlink(missing_ok=True)
    return names


def revive(state_file: Path, services: Iterable[Service]) -> list[str]:
    """Start those of `services` that a kept run should have and has not, and wait until they are healthy; their names.

    They belong to that run: `stop_recorded` ends them too. Whoever calls at the same time waits, and then finds them
    alive. A server that cannot be started hinders no other; `ServiceDown` then names each that failed. It is also raised
    when there is no kept run: what a block of `Services` still holds is that block's own affair.
    """
    with FileLock(f"{state_file}.revive"):
        run, begun, failures = _launch_dead(state_file, services)
        failures |= _await_ready(begun)
        for name, (_, process) in begun.items():
            if name in failures:
                end_run(run, name)
                process.wait()
            process.returncode = 0  # it is meant to outlive us: Popen need not warn
        if failures:
            _forget(state_file, run, failures)
            raise ServiceDown("; ".join(failures.values()))
        return list(begun)


def _launch_dead(state_file: Path, services: Iterable[Service]) -> tuple[str, dict[str, "Started"], dict[str, str]]:
    """The kept run, what was launched of `services`, and what failed; recorded before anybody else may look."""
    begun: dict[str, Started] = {}
    failures: dict[str, str] = {}
    with _record_lock(state_file):
        state = _read_state(state_file)
        records = {each["name"]: each for each in state["services"] if _alive(each)}
        dead = [service for service in services if service.name not in records]
        if dead and (state["owner"] or not state["run"]):
            names = ", ".join(service.name for service in dead)
            raise ServiceDown(f"{names}: not running, and no kept run in {state_file}; start all with `ctcml up`")
        for service in dead:
            end_run(state["run"], service.name)  # what a server that died may have left
            try:
                begun[service.name] = (service, _launch(service, state["run"]))
            except ServiceDown as error:
                failures[service.name] = str(error)
            else:
                records[service.name] = _describe(*begun[service.name])
                _write_state(state_file, state | {"services": list(records.values())})
    return state["run"], begun, failures


def _await_ready(begun: Mapping[str, "Started"]) -> dict[str, str]:
    """Wait until each server is healthy or has failed; what is to be said of those that failed."""
    failures: dict[str, str] = {}
    waiting, since = dict(begun), time.monotonic()
    with httpx.Client(timeout=2, trust_env=False) as client:
        while waiting:
            for name, (service, process) in list(waiting.items()):
                try:
                    if not _is_ready(service, process, client, seconds=time.monotonic() - since):
                        continue
                except ServiceDown as error:
                    failures[name] = str(error)
                del waiting[name]
            time.sleep(0.2 if waiting else 0)
    return failures


def _forget(state_file: Path, run: str, names: Iterable[str]) -> None:
    with _record_lock(state_file):
        state = _read_state(state_file)
        if state["run"] == run:
            kept = [each for each in state["services"] if each["name"] not in set(names)]
            _write_state(state_file, state | {"services": kept})


def _record_lock(state_file: Path) -> FileLock:
    state_file.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{state_file}.lock")


def _read_state(state_file: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = json.loads(state_file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {"run": "", "owner": None, "services": []}
    except ValueError:
        raise ServiceDown(f"{state_file}: not readable as JSON; end the servers by hand and delete the file") from None
    return state


def _write_state(state_file: Path, state: Mapping[str, Any]) -> None:
    with atomic_path(state_file) as unfinished:
        unfinished.write_text(json.dumps(state, indent=1) + "\n", encoding="utf-8")
    state_file.chmod(0o600)


def _birth(pid: int) -> dict[str, Any]:
    return {"pid": pid, "create_time": psutil.Process(pid).create_time()}


def _alive(record: Mapping[str, Any]) -> bool:
    """Whether the very process that was recorded is alive, not another one with its number."""
    try:
        process = psutil.Process(record["pid"])
        return abs(process.create_time() - record["create_time"]) < 2 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


Started = tuple[Service, "subprocess.Popen[bytes]"]


def _describe(service: Service, process: "subprocess.Popen[bytes]") -> dict[str, Any]:
    return {"name": service.name, "url": service.url, **_birth(process.pid)}


def _launch(service: Service, run: str) -> "subprocess.Popen[bytes]":
    check_port_free(service.host, service.port)
    service.home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if service.log.exists():  # it may say why the server died
        service.log.replace(service.log.with_suffix(".log.1"))
    try:
        with service.log.open("wb") as log:
            return subprocess.Popen(
                service.command,
                env=service.environment | {RUN_VARIABLE: run, SERVICE_VARIABLE: service.name},
                cwd=service.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    except OSError as error:
        raise ServiceDown(
            f"{service.name}: cannot run {service.command[0]} ({error.strerror}); run `make setup`"
        ) from None


def _is_ready(service: Service, process: "subprocess.Popen[bytes]", client: httpx.Client, *, seconds: float) -> bool:
    """Whether it is healthy after so many seconds; `ServiceDown` if it ended or its time is over."""
    address = service.url + service.health_path
    code = process.poll()
    if code is not None:
        raise ServiceDown(f"{service.name}: ended with code {code} before it was ready; {_last_words(service.log)}")
    if seconds > service.start_timeout_s:
        raise ServiceDown(f"{service.name}: no answer from {address} after {seconds:.0f} s; {_last_words(service.log)}")
    try:
        return client.get(address).status_code == 200
    except httpx.HTTPError:
        return False


@dataclass
class Services:
    """The servers of one run, as a context manager.

    With `keep` they outlive a block that ends well (`stop_recorded` ends them later); otherwise, and on any error, they
    end with the block. Raises `ServiceDown` when another run that is alive holds the same `state_file`.
    """

    state_file: Path
    keep: bool = False
    run: str = field(default_factory=lambda: uuid.uuid4().hex, init=False)
    _started: dict[str, Started] = field(default_factory=dict, init=False)
    _owner: int = field(default_factory=os.getpid, init=False)
    _former_run: str | None = field(default=None, init=False)
    _former_sigterm: Any = field(default=None, init=False)
    _warden: "subprocess.Popen[bytes] | None" = field(default=None, init=False)

    def __enter__(self) -> Self:
        self._take_over()
        self._former_run = os.environ.get(RUN_VARIABLE)
        self._warden = post_warden(self.run)
        os.environ[RUN_VARIABLE] = self.run
        try:
            self._former_sigterm = signal.signal(signal.SIGTERM, _leave)
        except ValueError:  # not the main thread; then the warden is enough
            self._former_sigterm = None
        self._record()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if os.getpid() != self._owner:  # a forked worker that was interrupted; the servers are not its own
            return
        if self._former_run is None:
            os.environ.pop(RUN_VARIABLE, None)
        else:
            os.environ[RUN_VARIABLE] = self._former_run
        try:
            if self.keep and kind is None:
                self._let_go()
            else:
                self._end()
        finally:
            if self._former_sigterm is not None:
                signal.signal(signal.SIGTERM, self._former_sigterm)

    def start(self, service: Service) -> None:
        """Start one server and wait until it is healthy."""
        self.start_all([service])

    def start_all(self, services: Iterable[Service]) -> None:
        """Start servers side by side and wait until all are healthy; `ServiceDown` quotes the log if one is not."""
        begun = time.monotonic()
        waiting = list(services)
        for service in waiting:
            self._spawn(service)
        with httpx.Client(timeout=2, trust_env=False) as client:
            while waiting:
                seconds = time.monotonic() - begun
                waiting = [
                    service
                    for service in waiting
                    if not _is_ready(*self._started[service.name], client, seconds=seconds)
                ]
                time.sleep(0.2 if waiting else 0)

    def stop(self, *names: str) -> None:
        """Stop the named servers, or all; those that are not running are passed over."""
        for name in names or tuple(self._started):
            end_run(self.run, name)
            _, process = self._started.pop(name, (None, None))
            if process is not None:
                process.wait()
        self._record()

    def _spawn(self, service: Service) -> None:
        if service.name in self._started:
            raise ServiceDown(f"{service.name}: already started in this run; stop it first")
        self._started[service.name] = (service, _launch(service, self.run))
        self._record()

    def _take_over(self) -> None:
        """End what a killed run left; refuse to touch what is in use."""
        state = _read_state(self.state_file)
        in_use = running(self.state_file)
        if _alive(state["owner"]) if state["owner"] else in_use:
            raise ServiceDown(f"{self.state_file}: in use by another run ({', '.join(in_use)}); stop that run first")
        stop_recorded(self.state_file)

    def _record(self, *, owner: bool = True) -> None:
        """Keep on disk whom to end, should this process be killed."""
        alive = [(service, process) for service, process in self._started.values() if process.poll() is None]
        state = {
            "run": self.run,
            "owner": _birth(os.getpid()) if owner else None,
            "services": [_describe(service, process) for service, process in alive],
        }
        _write_state(self.state_file, state)

    def _let_go(self) -> None:
        self._record(owner=False)
        if self._warden is not None:
            self._warden.kill()  # told nothing, it ends nothing
            self._warden.communicate()
        for _, process in self._started.values():
            process.returncode = 0  # it is meant to outlive us: Popen need not warn

    def _end(self) -> None:
        end_run(self.run)
        for _, process in self._started.values():
            process.wait()
        self._started.clear()
        if self._warden is not None:
            dismiss(self._warden)
        self.state_file.unlink(missing_ok=True)


def _leave(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _last_words(log: Path, lines: int = 3) -> str:
    """The last lines of a server's log, in one line."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    said = [line.strip() for line in text.splitlines() if line.strip()][-lines:]
    return f"{log} ends with: {' | '.join(said)[-600:] or 'nothing'}"
