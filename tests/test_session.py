"""What a page may ask of whoever sits in front of it, and what the audit log hears."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import streamlit as st
from factories import KEY, NOON
from streamlit.testing.v1 import AppTest

from ctcml.access import LOCAL, NOT_LOOPBACK, Refusal, Role, Visitor, grant
from ctcml.audit import Entry, entries
from ctcml.errors import ProtocolBreach, ServiceDown
from ctcml.workspace import Workspace
from dashboards import session
from dashboards.views import pieces


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    ws = Workspace(tmp_path / "lab")
    ws.key.parent.mkdir(parents=True)
    ws.key.write_text(KEY.hex())
    return ws


def log(ws: Workspace) -> list[Entry]:
    return list(entries(ws))


def page(ws: Workspace, *lines: str) -> AppTest:
    """A page of these lines, run without a browser."""
    head = (
        "from pathlib import Path",
        "import streamlit as st",
        "from ctcml.access import Role",
        "from ctcml.workspace import Workspace",
        "from dashboards import session",
        f"ws = Workspace(Path({str(ws.root)!r}))",
    )
    return AppTest.from_string("\n".join([*head, *lines]), default_timeout=60)


@pytest.fixture
def provided(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sign-in is set up, and the provider says this of the visitor."""

    def say(*, is_logged_in: bool = True, **claims: Any) -> None:
        user = SimpleNamespace(is_logged_in=is_logged_in, to_dict=lambda: claims)
        monkeypatch.setattr(session, "signs_in", lambda: True)
        monkeypatch.setattr(st, "user", user)

    return say


def test_without_sign_in_whoever_sits_at_this_machine_may_everything(ws: Workspace) -> None:
    assert session.visitor(ws) == LOCAL == Visitor(name="local", role=Role.SIGN)
    assert all(session.may(ws, role) for role in Role)


def test_without_sign_in_and_bound_beyond_this_machine_nothing_is_shown(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in (None, "0.0.0.0", "lab.org"):
        monkeypatch.setattr(st, "get_option", {"server.address": address}.get)
        assert session.at_the_door(ws) == Refusal(name="nobody", why=NOT_LOOPBACK)
        with pytest.raises(ProtocolBreach, match="listens beyond this machine"):
            session.visitor(ws)


def test_who_has_not_signed_in_is_nobody_and_a_page_drawn_past_the_door_stays_empty(
    ws: Workspace, provided: Callable[..., None]
) -> None:
    provided(is_logged_in=False)
    assert session.at_the_door(ws) is session.STRANGER
    for draw in (
        lambda: session.viewed(ws, "cohort"),
        lambda: session.may(ws, Role.READ),
        lambda: session.export_button(ws, "CSV", b"", file_name="a", mime="text/csv", what="counts", key="k"),
    ):
        with pytest.raises(ProtocolBreach, match="Nobody has signed in"):
            draw()
    assert log(ws) == []


def test_a_member_may_what_the_role_says(ws: Workspace, provided: Callable[..., None]) -> None:
    grant(ws, "anna@lab.org", Role.REVIEW, by="owner", now=NOON)
    provided(email="anna@lab.org", email_verified=True)
    assert session.visitor(ws) == Visitor(name="anna@lab.org", role=Role.REVIEW)
    assert [session.may(ws, role) for role in Role] == [True, True, False]
    provided(email="anna@lab.org", email_verified=False)
    with pytest.raises(ProtocolBreach, match="does not vouch"):
        session.may(ws, Role.READ)


def test_the_same_view_is_told_once_a_session_and_another_one_again(ws: Workspace) -> None:
    lines = ("session.viewed(ws, 'cohort', cancer='lung')", "session.viewed(ws, 'sample', sample_uid='s1')")
    app = page(ws, *lines).run()
    app.run()
    assert not app.exception
    told = [(one.who, one.role, one.action, one.what, one.about) for one in log(ws)]
    assert told == [
        ("local", "sign", "view", "cohort", {"cancer": "lung"}),
        ("local", "sign", "view", "sample", {"sample_uid": "s1"}),
    ]
    page(ws, *lines).run()  # another session
    assert len(log(ws)) == 4
    page(ws, "session.viewed(ws, 'cohort', cancer='breast')").run()
    assert log(ws)[-1].about == {"cancer": "breast"}


def test_a_view_that_the_log_cannot_take_is_not_shown(ws: Workspace) -> None:
    ws.audit.mkdir(parents=True)
    app = page(ws, "session.viewed(ws, 'cohort')", "st.write('patients')").run()
    assert "cannot be written" in app.exception[0].message
    assert not app.markdown


def button(ws: Workspace, monkeypatch: pytest.MonkeyPatch, data: Any) -> Callable[[], bytes]:
    """What a click on an export button does."""
    drawn: dict[str, Any] = {}
    monkeypatch.setattr(st, "download_button", lambda label, given, **more: drawn.update(more, data=given, label=label))
    session.export_button(
        ws, "Counts, CSV", data, file_name="counts.csv", mime="text/csv", what="counts", key="k", cancer="lung"
    )
    assert (drawn["label"], drawn["file_name"], drawn["on_click"]) == ("Counts, CSV", "counts.csv", "ignore")
    return drawn["data"]  # type: ignore[no-any-return]


@pytest.mark.parametrize("data", [b"a,b\n", lambda: b"a,b\n"])
def test_an_export_is_in_the_log_before_its_first_byte_leaves_and_each_click_anew(
    ws: Workspace, monkeypatch: pytest.MonkeyPatch, data: Any
) -> None:
    click = button(ws, monkeypatch, data)
    assert log(ws) == []  # to see the button is no export
    assert click() == b"a,b\n"
    click()
    assert [(one.action, one.what, one.about) for one in log(ws)] == [
        ("export", "counts", {"cancer": "lung", "file": "counts.csv"})
    ] * 2


def test_data_are_not_made_when_the_log_cannot_take_the_export(ws: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    click = button(ws, monkeypatch, lambda: made.append("made") or b"")
    ws.audit.mkdir(parents=True)
    with pytest.raises(ServiceDown, match="cannot be written"):
        click()
    assert made == []


def test_the_export_button_draws(ws: Workspace) -> None:
    app = page(
        ws, "session.export_button(ws, 'CSV', b'a', file_name='a.csv', mime='text/csv', what='counts', key='k')"
    ).run()
    assert not app.exception
    assert [one.label for one in app.get("download_button")] == ["CSV"]


def test_a_refusal_is_told_once_a_session(ws: Workspace, provided: Callable[..., None]) -> None:
    provided(email="carl@lab.org", email_verified=True)
    app = page(ws, "assert session.come_in(ws) is None").run()
    app.run()
    assert not app.exception
    assert app.error[0].value.startswith("`carl@lab.org` has no access to this workspace")
    assert [one.label for one in app.button] == ["Sign out"]
    (told,) = log(ws)
    assert (told.who, told.role, told.action) == ("carl@lab.org", "none", "refused")


def test_the_login_page_has_a_button_a_provider(
    ws: Workspace, provided: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    provided(is_logged_in=False)
    monkeypatch.setattr(st, "secrets", {"auth": {"hospital": {"client_id": "x"}, "google": {"client_id": "y"}}})
    app = page(ws, "assert session.come_in(ws) is None").run()
    assert [one.label for one in app.button] == ["Sign in with hospital", "Sign in with google"]
    monkeypatch.setattr(session, "find_spec", lambda name: None)
    app = page(ws, "assert session.come_in(ws) is None").run()
    assert "install ctcml with the extra `oidc`" in app.error[0].value
    assert not app.button
    assert log(ws) == []


def test_a_name_from_elsewhere_is_shown_as_its_letters(ws: Workspace, provided: Callable[..., None]) -> None:
    provided(email="![x](http://evil.org/x.png)@lab.org", email_verified=True)
    app = page(ws, "session.come_in(ws)").run()
    assert app.error[0].value.startswith("`![x](http://evil.org/x.png)@lab.org` has no access")


def test_a_form_that_was_open_when_the_role_was_taken_signs_nothing_and_one_that_signs_is_told(
    ws: Workspace, provided: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def sign() -> str:
        state = {"by-k": "ben", "password-k": "of-ben"}
        monkeypatch.setattr(st, "session_state", state)
        pieces.sign_request(ws, "k", action="promote", body={"version": "4", "reason": "better"})
        assert state["password-k"] == ""
        return state["told-k"][1]

    provided(email="anna@lab.org", email_verified=True)
    grant(ws, "anna@lab.org", Role.REVIEW, by="owner", now=NOON)
    assert sign() == "Not signed: that needs the role sign."
    assert not ws.requests.exists()
    grant(ws, "anna@lab.org", Role.SIGN, by="owner", now=NOON)
    assert sign().startswith("Signed as request")
    told = log(ws)[-1]
    assert (told.who, told.role, told.action, told.what) == ("anna@lab.org", "sign", "sign", "promote")
    assert (told.about["by"], told.about["version"]) == ("ben", "4")
    assert b"of-ben" not in ws.audit.read_bytes()
