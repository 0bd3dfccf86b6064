"""Real processes: a tiny HTTP server for the rules, then Prefect, MLflow and Streamlit themselves."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest
import requests

from ctcml.errors import ServiceDown
from ctcml.servers import mlflow_service, prefect_client_environment, prefect_service, streamlit_service
from ctcml.services import (
    LOOPBACK,
    Service,
    Services,
    check_port_free,
    clean_environment,
    free_port,
    revive,
    running,
    stop_recorded,
)
from ctcml.warden import RUN_VARIABLE, carriers

HOST = "127.0.0.1"
# Serves, and starts a process that leaves its group, as servers do with their workers.
SERVE = """
import http.server, subprocess, sys
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
http.server.test(http.server.SimpleHTTPRequestHandler, bind=sys.argv[1], port=int(sys.argv[2]))
"""
OWNER = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is started with Ctrl-C ignored
from pathlib import Path
from ctcml.services import Services
from tests.test_services import web
with Services(Path(sys.argv[1]) / "state.json") as services:
    services.start(web(Path(sys.argv[1]), "web"))
    if os.fork() == 0:
        time.sleep(600)
    print(services.run, flush=True)
    time.sleep(600)
"""


def web(folder: Path, name: str, *, code: str = SERVE, port: int | None = None, seconds: float = 60) -> Service:
    port = port or free_port(HOST)
    command = [sys.executable, "-u", "-c", code, HOST, str(port)]
    return Service(name, command, clean_environment(), folder / name, HOST, port, "/", seconds)


def answers(service: Service) -> bool:
    try:
        return httpx.get(service.url, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def eventually(condition: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.1)
    return condition()


@contextmanager
def owner(folder: Path) -> Iterator[tuple["subprocess.Popen[str]", str, psutil.Process]]:
    """Another process with a server, a forked worker and its warden: the process, its run and the worker."""
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        run = process.stdout.readline().strip()
        assert run, process.communicate()[1]
        (worker,) = [
            each
            for each in psutil.Process(process.pid).children()
            if each.cmdline() == psutil.Process(process.pid).cmdline()
        ]
        try:
            yield process, run, worker
        finally:
            process.kill()


def test_servers_answer_inside_the_block_and_are_gone_after_it(tmp_path: Path) -> None:
    one, two = web(tmp_path, "one"), web(tmp_path, "two")
    with Services(tmp_path / "state.json") as services:
        services.start_all([one, two])
        assert answers(one)
        assert answers(two)
        assert running(tmp_path / "state.json") == {"one": one.url, "two": two.url}
        assert (tmp_path / "state.json").stat().st_mode & 0o077 == 0
        assert len(carriers(services.run)) == 4
    assert not answers(one)
    assert not carriers(services.run)
    assert not (tmp_path / "state.json").exists()
    assert "GET /" in one.log.read_text()


def test_one_server_can_be_stopped_and_started_again(tmp_path: Path) -> None:
    one, two = web(tmp_path, "one"), web(tmp_path, "two")
    with Services(tmp_path / "state.json") as services:
        services.start_all([one, two])
        services.stop("one", "never started")
        assert not answers(one)
        assert answers(two)
        services.start(one)
        assert answers(one)
        with pytest.raises(ServiceDown, match="one: already started"):
            services.start(one)


def test_an_error_in_the_block_ends_the_servers_and_is_passed_on(tmp_path: Path) -> None:
    former, one = os.environ.get(RUN_VARIABLE), web(tmp_path, "one")

    def fail() -> None:
        with Services(tmp_path / "state.json", keep=True) as services:
            services.start(one)
            assert answers(one)
            _ = 1 / 0

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not answers(one)
    assert os.environ.get(RUN_VARIABLE) == former


def test_a_server_that_dies_is_named_with_its_last_words_in_one_line(tmp_path: Path) -> None:
    dying = web(tmp_path, "dying", code="import sys; print('reading'); sys.exit('no room on the disk')")
    with Services(tmp_path / "state.json") as services, pytest.raises(ServiceDown) as caught:
        services.start(dying)
    assert str(caught.value).startswith("dying: ended with code 1 before it was ready")
    assert str(caught.value).endswith("reading | no room on the disk")
    assert "\n" not in str(caught.value)


def test_a_server_that_never_answers_is_given_up(tmp_path: Path) -> None:
    mute = web(tmp_path, "mute", code="import time; time.sleep(600)", seconds=0.5)
    with pytest.raises(ServiceDown, match=r"mute: no answer from http"), Services(tmp_path / "state.json") as services:
        services.start(mute)
    assert not carriers(services.run)


def test_a_program_that_is_not_there_says_what_to_run(tmp_path: Path) -> None:
    absent = Service("absent", [str(tmp_path / "python")], {}, tmp_path, HOST, free_port(), "/")
    with Services(tmp_path / "state.json") as services, pytest.raises(ServiceDown, match="make setup"):
        services.start(absent)


def test_a_taken_port_is_refused_before_the_start(tmp_path: Path) -> None:
    one = web(tmp_path, "one")
    with Services(tmp_path / "state.json") as services:
        services.start(one)
        with pytest.raises(ServiceDown, match=rf"port {HOST}:{one.port} .*name another"):
            services.start(web(tmp_path, "two", port=one.port))
        with pytest.raises(ServiceDown):
            check_port_free(HOST, one.port)
        assert answers(one)


def test_an_address_that_is_not_ours_has_no_free_port() -> None:
    with pytest.raises(ServiceDown, match=r"192\.0\.2\.1"):
        free_port("192.0.2.1")  # TEST-NET-1 of RFC 5737


def test_kept_servers_outlive_the_block_and_are_stopped_by_their_record(tmp_path: Path) -> None:
    state, one = tmp_path / "state.json", web(tmp_path, "one")
    with Services(state, keep=True) as services:
        services.start(one)
    assert answers(one)
    assert running(state) == {"one": one.url}
    with pytest.raises(ServiceDown, match=r"in use by another run \(one\)"), Services(state):
        pytest.fail("two runs with one record")
    assert answers(one)
    assert stop_recorded(state) == ["one"]
    assert not answers(one)
    assert not carriers(services.run)
    assert stop_recorded(state) == []


REVIVE = """
import sys
from pathlib import Path
from ctcml.services import revive
from tests.test_services import web
folder = Path(sys.argv[1])
print(revive(folder / "state.json", [web(folder, "one", port=int(sys.argv[2])), web(folder, "two")]), flush=True)
"""


def another_process_revives(folder: Path, port: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", REVIVE, str(folder), str(port)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])


def kill_server(state: Path, name: str) -> None:
    (record,) = [each for each in json.loads(state.read_text())["services"] if each["name"] == name]
    process = psutil.Process(record["pid"])
    process.kill()
    process.wait(10)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[tuple[Path, Service]]:
    """The record of a kept run, and the one server that it started."""
    state, one = tmp_path / "state.json", web(tmp_path, "one")
    with Services(state, keep=True) as services:
        services.start(one)
    yield state, one
    stop_recorded(state)


def test_a_kept_server_that_died_is_started_again_by_another_process_and_ends_with_its_run(
    kept: tuple[Path, Service], tmp_path: Path
) -> None:
    state, one = kept
    run = json.loads(state.read_text())["run"]
    kill_server(state, "one")
    assert not answers(one)
    told, _ = another_process_revives(tmp_path, one.port).communicate(timeout=60)
    assert told.strip() == "['one', 'two']"  # the second is new: the run gets it as well
    assert answers(one)
    assert state.stat().st_mode & 0o077 == 0
    assert list(running(state)) == ["one", "two"]
    assert json.loads(state.read_text())["run"] == run
    assert "GET /" in one.log.with_suffix(".log.1").read_text()  # what the dead one said is kept
    assert stop_recorded(state) == ["one", "two"]
    assert not carriers(run)


def test_what_lives_is_left_alone(kept: tuple[Path, Service]) -> None:
    state, one = kept
    before = state.read_text()
    assert revive(state, [one]) == []
    assert state.read_text() == before


def test_two_who_revive_at_once_start_each_server_once(kept: tuple[Path, Service], tmp_path: Path) -> None:
    state, one = kept
    kill_server(state, "one")
    both = [another_process_revives(tmp_path, one.port) for _ in range(2)]
    told = sorted(process.communicate(timeout=90)[0].strip() for process in both)
    assert told == ["['one', 'two']", "[]"]
    assert len(carriers(json.loads(state.read_text())["run"])) == 4  # each server and the process that left it


def test_a_server_that_cannot_start_is_named_and_hinders_no_other(kept: tuple[Path, Service], tmp_path: Path) -> None:
    state, one = kept
    dying = web(tmp_path, "dying", code="raise SystemExit('no room on the disk')")
    taken, two = web(tmp_path, "taken", port=one.port), web(tmp_path, "two")
    with pytest.raises(ServiceDown, match=rf"port {HOST}:{one.port} .*; dying: ended with code 1 .*no room") as caught:
        revive(state, [dying, taken, two])
    assert "\n" not in str(caught.value)
    assert answers(two)
    assert list(running(state)) == ["one", "two"]
    assert [each["name"] for each in json.loads(state.read_text())["services"]] == ["one", "two"]


def test_servers_are_revived_only_for_a_run_that_was_left_running(tmp_path: Path) -> None:
    state, one = tmp_path / "state.json", web(tmp_path, "one")
    with pytest.raises(ServiceDown, match=r"one: not running, and no kept run .*ctcml up"):
        revive(state, [one])
    with Services(state) as services:
        services.start(one)
        assert revive(state, [one]) == []
        with pytest.raises(ServiceDown, match="two: not running, and no kept run"):
            revive(state, [web(tmp_path, "two")])


def test_clients_with_a_proxy_in_their_environment_reach_loopback_addresses_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.setenv(name, f"http://{HOST}:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, LOOPBACK)
    port = free_port("127.0.0.17")
    there = Service(
        "there", [sys.executable, "-c", SERVE, "127.0.0.17", str(port)], {}, tmp_path, "127.0.0.17", port, "/"
    )
    with Services(tmp_path / "state.json") as services:
        services.start(there)
        assert httpx.get(there.url).status_code == 200
        assert requests.get(there.url, timeout=10).status_code == 200
        assert urllib.request.urlopen(there.url, timeout=10).status == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_an_interrupted_owner_stops_its_servers_first(tmp_path: Path, number: signal.Signals) -> None:
    with owner(tmp_path) as (process, run, worker):
        process.send_signal(number)
        assert process.wait(30) != 0
        assert not carriers(run)
        assert not (tmp_path / "state.json").exists()
        worker.kill()  # an owner that ends by itself ends its own workers


def test_nothing_outlives_an_owner_that_was_killed(tmp_path: Path) -> None:
    """Neither the server, nor the process that left its group, nor the owner's forked worker, nor the warden."""
    with owner(tmp_path) as (process, run, worker):
        time.sleep(1.5)  # the warden notes forked workers once a second
        wardens = [each for each in psutil.Process(process.pid).children() if run in each.cmdline()]
        assert len(wardens) == 1
        process.kill()
        assert eventually(lambda: not carriers(run))
        assert eventually(lambda: not worker.is_running() and not wardens[0].is_running())
    assert running(tmp_path / "state.json") == {}


def test_what_a_killed_owner_and_a_killed_warden_left_is_ended_by_the_next_run(tmp_path: Path) -> None:
    with owner(tmp_path) as (process, run, worker):
        (warden,) = [each for each in psutil.Process(process.pid).children() if run in each.cmdline()]
        with pytest.raises(ServiceDown, match=r"in use by another run \(web\)"), Services(tmp_path / "state.json"):
            pytest.fail("the owner is alive")
        warden.kill()
        process.kill()
        process.wait()
        worker.kill()
        assert carriers(run)
        with Services(tmp_path / "state.json"):
            assert not carriers(run)


def test_another_process_with_a_recorded_number_is_not_taken_for_the_server(tmp_path: Path) -> None:
    record = {"name": "web", "url": "http://127.0.0.1:1", "pid": os.getpid(), "create_time": 1.0}
    (tmp_path / "state.json").write_text(json.dumps({"run": "gone", "owner": None, "services": [record]}))
    assert running(tmp_path / "state.json") == {}


def test_a_torn_record_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    with pytest.raises(ServiceDown, match="not readable as JSON"):
        running(tmp_path / "state.json")


def test_settings_of_other_programs_do_not_reach_our_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PREFECT_API_URL", "MLFLOW_TRACKING_URI", "PORT", "DEBUG", "GIT_DIR", "LABEL_STUDIO_HOST"):
        monkeypatch.setenv(name, "elsewhere")
    environment = clean_environment()
    assert "elsewhere" not in environment.values()
    assert environment["DO_NOT_TRACK"] == "true"
    assert environment["PATH"] == os.environ["PATH"]


def test_prefect_mlflow_and_streamlit_start_together_on_loopback_only(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("import streamlit as st\nst.write('hello')\n")
    prefect = prefect_service(tmp_path / "prefect", HOST, free_port())
    mlflow = mlflow_service(tmp_path / "mlflow", HOST, free_port())
    streamlit = streamlit_service(tmp_path / "streamlit", HOST, free_port(), script=tmp_path / "app.py")
    with Services(tmp_path / "state.json") as services:
        services.start_all([prefect, mlflow, streamlit])
        assert httpx.get(f"{prefect.url}/ui-settings", trust_env=False).json()["api_url"] == f"{prefect.url}/api"
        assert httpx.get(mlflow.url, headers={"Host": "evil.example.org"}, trust_env=False).status_code == 403
        assert "Streamlit" in httpx.get(streamlit.url, trust_env=False).text
        listening = [
            (each.laddr.ip, each.laddr.port)
            for process in carriers(services.run)
            for each in process.net_connections()
            if each.status == psutil.CONN_LISTEN
        ]
        assert set(listening) == {(HOST, prefect.port), (HOST, mlflow.port), (HOST, streamlit.port)}
    assert not carriers(services.run)
    assert (tmp_path / "prefect" / "prefect.db").exists()
    assert (tmp_path / "mlflow" / "mlflow.db").exists()


def test_a_flow_without_its_server_fails_and_starts_none_of_its_own(tmp_path: Path) -> None:
    settings = prefect_client_environment("", tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", "import prefect; prefect.flow(lambda: 1, name='one')()"],
        env=clean_environment() | settings,
        capture_output=True,
        text=True,
    )
    assert "No Prefect API URL" in done.stderr


def test_the_dashboard_is_told_of_an_identity_provider_only_where_there_is_one(tmp_path: Path) -> None:
    plain = streamlit_service(tmp_path, HOST, 8501, script=tmp_path / "app.py")
    signed_in = streamlit_service(tmp_path, HOST, 8501, script=tmp_path / "app.py", secrets=tmp_path / "secrets.toml")
    more = [one for one in signed_in.command if one not in plain.command]
    assert more == [f"--secrets.files={tmp_path / 'secrets.toml'}"]
    assert f"--server.address={HOST}" in signed_in.command
