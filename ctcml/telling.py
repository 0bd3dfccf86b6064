"""Telling people how far something is, line by line and at once."""

import time
from collections.abc import Callable


def say(line: str) -> None:
    """Progress for people: one line, at once."""
    print(line, flush=True)


def estimated(what: str, *, every_s: float = 5.0, to: Callable[[str], None] = say) -> Callable[[int, int], None]:
    """Tell people how far something long is and how long it may still take, at most every `every_s` seconds."""
    begun = last = time.monotonic()

    def tell(done: int, all_: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < every_s or done == all_:
            return
        last = now
        to(f"{done}/{all_} {what}, about {round((now - begun) * (all_ - done) / done)} s left")

    return tell
