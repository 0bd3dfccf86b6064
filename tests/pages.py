"""One page of the dashboard, run without a browser."""

from typing import Any

from streamlit.testing.v1 import AppTest

from ctcml.workspace import Workspace


def draw_page(name: str, ws: Workspace, *further: str, **address: str) -> AppTest:
    """The view of that name, with what it takes beside the workspace; `address` holds its query parameters."""
    given = "".join(f", {one!r}" for one in further)
    lines = (
        "from pathlib import Path",
        "from ctcml.workspace import Workspace",
        f"from dashboards.views import {name}",
        f"{name}.show(Workspace(Path({str(ws.root)!r})){given})",
    )
    app = AppTest.from_string("\n".join(lines), default_timeout=120)
    for key, value in address.items():
        app.query_params[key] = value
    return app.run()


def texts(app: AppTest) -> str:
    """All that a page says in words."""
    kinds: tuple[Any, ...] = (app.markdown, app.caption, app.warning, app.error, app.info, app.subheader)
    return "\n".join(one.value for kind in kinds for one in kind)


def html_of(app: AppTest) -> list[str]:
    """The HTML that a page puts in by itself, piece by piece."""
    return [one.proto.body for one in app.get("html")]
