import ctypes
import subprocess
import sys

import pytest

from ctcml.malloc import keep_freed_memory

# 40 MB is above the 32 MB from which glibc goes to the system even after it has learnt from earlier requests.
PROGRAM = """
import resource, sys
from ctcml.malloc import keep_freed_memory
told = keep_freed_memory() if sys.argv[1] == "keep" else False
def fill():
    _ = b"x" * 40_000_000
fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    fill()
print(told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> tuple[str, int]:
    run = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
    told, number = run.stdout.split()
    return told, int(number)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"), reason="needs glibc")
def test_memory_that_was_freed_is_used_again_without_page_faults() -> None:
    told, kept = faults("keep")
    assert told == "True"
    assert kept < faults("leave")[1] / 20


def test_without_glibc_nothing_is_done_and_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert keep_freed_memory() is False
