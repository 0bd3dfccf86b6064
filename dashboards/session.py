"""Who sits in front of the page, what that person may do, and the audit log's lines about what was seen and taken away."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

import streamlit as st

from ctcml.access import LOCAL, NOT_LOOPBACK, Refusal, Role, Visitor, is_loopback, judge, members_of
from ctcml.audit import record
from ctcml.errors import ProtocolBreach
from ctcml.workspace import Workspace

STRANGER = Refusal(name="nobody", why="Nobody has signed in.")


def visitor(workspace: Workspace) -> Visitor:
    """Who looks; `ProtocolBreach` when that person may not, so that a page drawn past the door stays empty."""
    found = at_the_door(workspace)
    if isinstance(found, Refusal):
        raise ProtocolBreach(found.why)
    return found


def at_the_door(workspace: Workspace) -> Visitor | Refusal:
    """Who asks to come in; with sign-in set up, as the identity provider vouches, else whoever sits at this machine."""
    if not signs_in():
        return LOCAL if is_loopback(st.get_option("server.address")) else Refusal(name="nobody", why=NOT_LOOPBACK)
    if not st.user.is_logged_in:
        return STRANGER
    return judge(st.user.to_dict(), members_of(workspace))


def signs_in() -> bool:
    """Whether an identity provider is set up: the section `auth` of Streamlit's secrets."""
    return st.secrets.load_if_toml_exists() and bool(st.secrets.get("auth"))


def may(workspace: Workspace, role: Role) -> bool:
    """Whether the person in front of the page has this role or a higher one."""
    return visitor(workspace).role >= role


def viewed(workspace: Workspace, what: str, **about: str | int | float | None) -> None:
    """Tell the audit log that this page shows data of patients, once per session and content."""
    _once(workspace, visitor(workspace), "view", what, about)


def told_apart(action: str, what: str, about: dict[str, str | int | float | None]) -> str:
    """What makes two entries of one session the same."""
    return repr((action, what, sorted(about.items())))


def _once(
    workspace: Workspace, who: Visitor | Refusal, action: str, what: str, about: dict[str, str | int | float | None]
) -> None:
    already: set[str] = st.session_state.setdefault("audited", set())
    mark = told_apart(f"{action} {who.name}", what, about)
    if mark not in already:
        _record(workspace, who, action, what, about)
        already.add(mark)


def _record(
    workspace: Workspace, who: Visitor | Refusal, action: str, what: str, about: dict[str, str | int | float | None]
) -> None:
    role = str(who.role) if isinstance(who, Visitor) else "none"
    record(workspace, who=who.name, role=role, action=action, what=what, about=dict(about), now=datetime.now(UTC))


def signed(workspace: Workspace, action: str, *, request: str, by: str, about: Mapping[str, Any]) -> None:
    """Tell the audit log that this person's session signed a request with the password of the reader `by`."""
    named = {name: str(about[name]) for name in ("class_id", "version") if name in about}
    _record(workspace, visitor(workspace), "sign", action, {"request": request, "by": by, **named})


def export_button(
    workspace: Workspace,
    label: str,
    data: bytes | Callable[[], bytes],
    *,
    file_name: str,
    mime: str,
    what: str,
    key: str,
    **about: str | int | float | None,
) -> None:
    """A button that downloads `data`; the audit log knows of it before the first byte leaves.

    The bytes are made, and the line written, when somebody clicks: data that lay ready would have an address already.
    """
    who = visitor(workspace)

    def taken() -> bytes:
        _record(workspace, who, "export", what, {**about, "file": file_name})
        return data() if callable(data) else data

    st.download_button(label, taken, file_name=file_name, mime=mime, key=key, on_click="ignore")


def come_in(workspace: Workspace) -> Visitor | None:
    """Draw what a person sees who may not look, or say who it is; the audit log hears of both."""
    found = at_the_door(workspace)
    if isinstance(found, Visitor):
        if signs_in():
            _once(workspace, found, "sign-in", "dashboard", {})
        return found
    if found is STRANGER:
        show_sign_in()
        return None
    _once(workspace, found, "refused", found.why, {})
    st.error(found.why.replace(found.name, _as_text(found.name)))
    if signs_in():
        st.button("Sign out", on_click=st.logout, key="sign-out")
    return None


def show_sign_in() -> None:
    """The login page: a button an identity provider, and nothing of the workspace."""
    st.title("ctcml")
    if find_spec("authlib") is None:
        st.error("Sign-in is set up, but its library is not installed; install ctcml with the extra `oidc`.")
        return
    st.write("Sign in with the account of your institution. The owner of this workspace must have given you access.")
    for name, label in providers(st.secrets["auth"]).items():
        st.button(label, type="primary", on_click=st.login, args=(name,) if name else (), key=f"sign-in-{name}")


def providers(auth: Mapping[str, Any]) -> dict[str, str]:
    """What the buttons of the login page say, by the name of the provider; the unnamed one is the empty name.

    >>> providers({"client_id": "x", "redirect_uri": "y"})
    {'': 'Sign in'}
    >>> providers({"redirect_uri": "y", "hospital": {"client_id": "x"}})
    {'hospital': 'Sign in with hospital'}
    """
    named = {
        name: f"Sign in with {name}"
        for name, value in auth.items()
        if isinstance(value, Mapping) and "client_id" in value
    }
    return ({"": "Sign in"} if "client_id" in auth else {}) | named


def show_visitor(workspace: Workspace, who: Visitor) -> None:
    """Name and role of somebody who signed in, and the way out; nothing where nobody has to sign in."""
    if signs_in():
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"{_as_text(who.name)}, may {who.role}")
            st.button("Sign out", on_click=leave, args=(workspace, who), key="sign-out", type="tertiary")


def _as_text(name: str) -> str:
    """A name in Markdown as nothing but its letters: it comes from elsewhere, and could hold a link or a picture.

    >>> _as_text("a`b@lab.org")
    "`a'b@lab.org`"
    """
    return f"`{name.replace('`', chr(39))}`"


def leave(workspace: Workspace, who: Visitor) -> None:
    """Sign out, here and at the identity provider where it offers that."""
    _record(workspace, who, "sign-out", "dashboard", {})
    st.logout()
