"""Fixtures that several tests share, and the table of figures that trials end with."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from factories import NOON

from ctcml.dataversions import create_workspace
from ctcml.simulate import simulate_laboratory
from ctcml.workspace import Workspace

MAIN = sys.modules["__main__"]
FIGURES = pytest.StashKey[list[tuple[str, str]]]()


@pytest.fixture(autouse=True)
def _pytest_stays_main() -> Iterator[None]:
    """Streamlit's AppTest leaves its page in the place of `__main__`, which every process that is spawned later would draw."""
    sys.modules["__main__"] = MAIN
    yield
    sys.modules["__main__"] = MAIN


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SIMULATED laboratory of 16 patients; read, never changed."""
    folder = tmp_path_factory.mktemp("laboratory") / "inbox"
    simulate_laboratory(folder, patients=16, objects_per_patient=12, historic_share=0.6, ambiguous_share=0.1, seed=5)
    return folder


@pytest.fixture(scope="session")
def new_workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace as `ctcml init` leaves it; copied, never changed."""
    root = tmp_path_factory.mktemp("new") / "lab"
    create_workspace(Workspace(root), now=NOON)
    return root


@pytest.fixture(scope="session")
def counted_lab(laboratory: Path, new_workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """That laboratory taken in, read, embedded by a network that learnt nothing, and counted; copied, never changed."""
    from factories import counted_laboratory

    return counted_laboratory(laboratory, new_workspace, tmp_path_factory.mktemp("counted") / "lab")


@pytest.fixture(scope="session", autouse=True)
def on_loopback() -> None:
    """A page that is run without `streamlit run` has read no config.toml, and beyond loopback the dashboard shows nothing."""
    if "streamlit" in sys.modules:
        sys.modules["streamlit"].config.set_option("server.address", "127.0.0.1")


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Two threads that wait for each other take ten times as long when another test has one of the two cores."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Tell what a trial measured: its name and its value, for the table at the end."""

    def tell(name: str, value: str) -> None:
        request.config.stash.setdefault(FIGURES, []).append((name, value))

    return tell


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = terminalreporter.config.stash.get(FIGURES, [])
    if found:
        width = max(len(name) for name, _ in found)
        terminalreporter.section("figures")
        for name, value in found:
            terminalreporter.write_line(f"{name:{width}}  {value}")
