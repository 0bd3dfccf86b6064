"""Which software a result was made with."""

import platform
import re
from importlib.metadata import distributions


def environment_lock() -> str:
    """The distributions of this Python with exact versions, sorted, below a line that names Python and platform.

    A constraints file for pip. It holds no path and no name of a machine, a person or a package index.

    >>> lock = environment_lock().splitlines()
    >>> lock[0].startswith("# CPython 3."), any(line.startswith("torch==") for line in lock)
    (True, True)
    """
    # Where two folders of the path hold one distribution, the first is the one that is imported.
    found: dict[str, str] = {}
    for one in distributions():
        if name := one.metadata["Name"]:  # what a broken installation left behind has none
            found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), one.version)
    python = f"# {platform.python_implementation()} {platform.python_version()}"
    system = " ".join([platform.system(), platform.machine(), *platform.libc_ver()]).strip()
    return "\n".join([f"{python}, {system}", *(f"{name}=={found[name]}" for name in sorted(found))]) + "\n"
