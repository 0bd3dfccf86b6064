"""Fixtures that several tests share."""

from pathlib import Path

import pytest

from ctcml.simulate import simulate_laboratory


@pytest.fixture(scope="session")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SIMULATED laboratory of 16 patients; read, never changed."""
    folder = tmp_path_factory.mktemp("laboratory") / "inbox"
    simulate_laboratory(folder, patients=16, objects_per_patient=12, historic_share=0.6, ambiguous_share=0.1, seed=5)
    return folder
