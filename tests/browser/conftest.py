"""What every browser test needs first."""

import os

import pytest

from ctcml.errors import ServiceDown
from dashboards import screenshot


@pytest.fixture(scope="session")
def chromium_here() -> None:
    """Skip with a line where no Chromium is installed; in CI its absence is an error."""
    try:
        screenshot.find_chromium()
    except ServiceDown as missing:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(missing))
