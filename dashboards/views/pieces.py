"""What several pages show in the same way, and the one way in which a person signs on any of them."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from ctcml.access import ASKED_FOR
from ctcml.errors import CtcmlError
from ctcml.requests import append_request
from ctcml.workspace import Workspace
from dashboards import records, session
from dashboards.palette import CHART_CONFIG, on_dark
from dashboards.records import NotMade

Estimate = Mapping[str, float | None]


def empty(missing: NotMade) -> None:
    """Say what is missing and which command makes it."""
    st.info(f"{missing.what}: not made yet. Run `{missing.command}`.")


def show_missing(*parts: object) -> None:
    """The same for those of several records that are not made, each command once."""
    for missing in {one.command: one for one in parts if isinstance(one, NotMade)}.values():
        empty(missing)


def chart(figure: go.Figure, *, key: str, alt: str, selects: bool = False) -> list[dict[str, Any]]:
    """Draw a figure on the page's background; `alt` is read to people who cannot see it.

    With `selects` a click chooses a point: the chosen ones come back as Plotly tells of them.
    """
    shown = on_dark(figure) if is_dark() else figure
    if not selects:
        st.plotly_chart(shown, theme=None, config=CHART_CONFIG, key=key, alt=alt)
        return []
    told = st.plotly_chart(
        shown, theme=None, config=CHART_CONFIG, key=key, alt=alt, on_select="rerun", selection_mode="points"
    )
    return list(told.selection.points)


def go_to(title: str, address: str, query: Mapping[str, str]) -> None:
    """Open another page of the dashboard in the state that `query` names."""
    st.switch_page(st.Page(_nothing, title=title, url_path=address), query_params=dict(query))


def _nothing() -> None:
    """Stands in for what the page draws: Streamlit knows a page by its address alone."""


def is_dark() -> bool:
    """Whether the visitor's browser shows the dark theme."""
    return st.context.theme.type == "dark"


def picture(path: Path, *, caption: str | None = None) -> None:
    """Show a picture made by a stage, from its bytes, so that a picture made again is shown again."""
    st.image(path.read_bytes(), caption=caption)


def when(at: str) -> str:
    """An ISO moment as people write it.

    >>> when("2026-03-02T12:00:00+00:00")
    '2 March 2026, 12:00 UTC'
    """
    moment = datetime.fromisoformat(at).astimezone(UTC)
    return f"{moment.day} {moment:%B %Y, %H:%M} UTC"


def said(estimate: Estimate, *, percent: bool = False, signed: bool = False) -> str:
    """A figure with its interval as people write it; a dash where it is undefined.

    >>> said({"value": 0.8471, "low": 0.8, "high": 0.891})
    '0.85 (0.80 to 0.89)'
    >>> said({"value": 0.05, "low": None, "high": None}, signed=True), said({"value": None, "low": None, "high": None})
    ('+0.05', '–')
    """
    if estimate["value"] is None:
        return "–"
    form = ("+" if signed else "") + (".1%" if percent else ".2f")
    limits = [estimate["low"], estimate["high"]]
    told = "" if None in limits else f" ({limits[0]:{form}} to {limits[1]:{form}})"
    return f"{estimate['value']:{form}}{told}"


def drawn(estimate: Estimate) -> tuple[float, float, float] | None:
    """Value, low and high for a chart; None where the figure is undefined."""
    value, low, high = (estimate[name] for name in ("value", "low", "high"))
    return None if value is None else (value, value if low is None else low, value if high is None else high)


def show_requests(workspace: Workspace, actions: Mapping[str, str], *, about: str) -> None:
    """What was signed here and not executed yet, and what the flow refused last; `about` is the body's name for the
    thing."""
    for one in records.requests(workspace):
        if one.action in actions:
            st.markdown(
                f":material/hourglass_top: **{actions[one.action]} {one.body.get(about, '')}**, signed by "
                f"{one.by} on {when(one.at)}, waits for the next run of the flow (request `{one.request}`)."
            )
    for event in [one for one in records.refusals(workspace) if one.body.get("action") in actions][:3]:
        st.markdown(f":material/block: {event.by}, {when(event.at)}: {event.body['outcome']}")


def ask_name(place: Any, label: str, names: Sequence[str], *, key: str) -> None:
    """The names of those who may sign the form `key`."""
    place.segmented_control(label, names, key=f"by-{key}")


def ask_reason_and_password(*, key: str) -> None:
    """The last row of a form that is signed: the password signs the request and is kept nowhere."""
    left, right = st.columns(2)
    left.text_input("Reason", key=f"reason-{key}")
    right.text_input(
        "Password", type="password", key=f"password-{key}", help="the one of your reading page; it is not kept"
    )


def filled(key: str, *names: str) -> tuple[str, ...]:
    """What was written into these fields of the form `key`."""
    return tuple(str(st.session_state.get(f"{name}-{key}") or "").strip() for name in names)


def sign_request(
    workspace: Workspace, key: str, *, action: str, body: Mapping[str, Any], missing: Sequence[str] = ()
) -> None:
    """Append the request of the form `key`, unless its name, its password or something else is missing; the password is
    forgotten whatever comes of it."""
    state = st.session_state
    (by,) = filled(key, "by")
    password = str(state.get(f"password-{key}") or "")
    state[f"password-{key}"] = ""
    lacking = [*(["name"] if not by else []), *(["password"] if not password else []), *missing]
    if lacking:
        state[f"told-{key}"] = (False, f"Not signed: {', '.join(lacking)} missing.")
        return
    if not session.may(workspace, ASKED_FOR[action]):  # the form was not shown, or the role was taken since
        state[f"told-{key}"] = (False, f"Not signed: that needs the role {ASKED_FOR[action]}.")
        return
    try:
        number = append_request(
            workspace.requests, by=by, password=password, action=action, body=dict(body), now=datetime.now(UTC)
        )
        session.signed(workspace, action, request=number, by=by, about=body)
    except CtcmlError as error:
        state[f"told-{key}"] = (False, str(error))
        return
    state[f"told-{key}"] = (True, f"Signed as request {number}; the next run of the flow carries it out.")


def may_sign(workspace: Workspace, action: str) -> bool:
    """Whether the visitor may sign such a request; if not, the page says what that needs."""
    if session.may(workspace, ASKED_FOR[action]):
        return True
    st.caption(f"To sign here takes the role {ASKED_FOR[action]}; the workspace's owner gives it.")
    return False


def show_told(key: str) -> None:
    """What came of the last signature on the form `key`, once."""
    done, told = st.session_state.pop(f"told-{key}", (True, ""))
    if told:
        (st.success if done else st.error)(told)
