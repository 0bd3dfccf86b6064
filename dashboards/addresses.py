"""Addresses of pages, and the words that stand in them: what a choice is called on the page is what the address says.

A link that is made here opens a page in the very state that it names.
"""

from collections.abc import Mapping
from urllib.parse import urlencode

ALL = "all"
DENOMINATORS = {"proposed": "events that CellSearch proposed", "all": "all objects"}
DEFAULT_CLASS, DEFAULT_DENOMINATOR, ARG_MAX = "ctc", "proposed", 0.0


def threshold_name(threshold: float) -> str:
    """When a cell is counted.

    >>> threshold_name(0.0), threshold_name(0.75)
    ('it is the most probable class', 'its probability is ≥ 0.75')
    """
    return "it is the most probable class" if threshold == ARG_MAX else f"its probability is ≥ {threshold:.2f}"


def sample_query(
    sample_uid: str,
    names: Mapping[str, str],
    *,
    class_id: str = DEFAULT_CLASS,
    denominator: str = DEFAULT_DENOMINATOR,
    threshold: float = ARG_MAX,
    cell_uid: str | None = None,
) -> dict[str, str]:
    """The query of the Sample page that shows precisely the cells behind one count; `names` are those of the classes.

    What the page shows anyway is left out.

    >>> sample_query("0af3", {"wbc": "WBC"}, class_id="wbc", denominator="all")
    {'sample': '0af3', 'class': 'WBC', 'among': 'all objects'}
    """
    asked = {"sample": sample_uid}
    if class_id != DEFAULT_CLASS:
        asked["class"] = names.get(class_id, class_id)
    if denominator != DEFAULT_DENOMINATOR:
        asked["among"] = DENOMINATORS[denominator]
    if threshold != ARG_MAX:
        asked["when"] = threshold_name(threshold)
    return asked | ({"cell": cell_uid} if cell_uid else {})


def sample_address(query: Mapping[str, str]) -> str:
    """That query as an address, relative to any page of the dashboard.

    >>> sample_address({"sample": "0af3", "among": "all objects"})
    'sample?sample=0af3&among=all+objects'
    """
    return f"sample?{urlencode(query)}"
