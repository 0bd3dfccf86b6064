"""Signing in for real: a provider on loopback, the dashboard, and Chromium between them."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from identity_provider import Provider, identity_provider

import dashboards
from browser.workspace_with_results import NOON, build
from ctcml.access import NOT_LOOPBACK, Role, grant, revoke
from ctcml.audit import entries, verify_audit
from ctcml.identity import create_key
from ctcml.workspace import Workspace
from dashboards import screenshot

APP = Path(dashboards.__file__).with_name("app.py")
PEOPLE = {
    "reader@lab.org": {"email": "Reader@Lab.org", "email_verified": True},
    "signer@lab.org": {"email": "signer@lab.org", "email_verified": True},
    "stranger@elsewhere.org": {"email": "stranger@elsewhere.org", "email_verified": True},
    "claimed@lab.org": {"email": "signer@lab.org", "email_verified": False},
    "leaver@lab.org": {"email": "leaver@lab.org", "email_verified": True},
}


@dataclass(frozen=True)
class Open:
    """A dashboard where people have to sign in."""

    address: str
    workspace: Workspace
    provider: Provider
    chromium: Any

    def page(self) -> Any:
        """A browser that nobody has signed in with."""
        return self.chromium.new_context().new_page()

    def entered_as(self, person: str) -> Any:
        page = self.page()
        page.goto(self.address)
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("button", name=person).click()  # at the provider
        page.wait_for_url(f"{self.address}/**")
        return page

    def log(self, action: str) -> list[tuple[str, str]]:
        return [(one.who, one.role) for one in entries(self.workspace) if one.action == action]


@pytest.fixture(scope="module")
def opened(chromium_here: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    ws = build(tmp_path_factory.mktemp("results") / "lab")
    create_key(ws.key)
    for email, role in (("reader@lab.org", Role.READ), ("signer@lab.org", Role.SIGN), ("leaver@lab.org", Role.READ)):
        grant(ws, email, role, by="owner", now=NOON)
    with identity_provider(PEOPLE) as provider, screenshot.browser() as chromium:
        port = free_port()
        provider.redirect_uri = f"http://127.0.0.1:{port}/oauth2callback"
        ws.sign_in.parent.mkdir(parents=True)
        ws.sign_in.write_text(provider.secrets_toml())
        with Served(ws, tmp_path_factory.mktemp("home"), port, f"--secrets.files={ws.sign_in}") as address:
            yield Open(address, ws, provider, chromium)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Served:
    """A dashboard on this workspace while the block runs."""

    def __init__(self, ws: Workspace, home: Path, port: int, *options: str) -> None:
        self.home, self.port = home, port
        self.command = [sys.executable, "-m", "streamlit", "run", str(APP), f"--server.port={port}", *options]
        self.command += ["--", "--workspace", str(ws.root)]

    def __enter__(self) -> str:
        environment = os.environ | {"HOME": str(self.home)}
        with (self.home / "log").open("w") as log:
            self.server = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.home, env=environment)
        for _ in range(300):
            try:
                if httpx.get(f"http://127.0.0.1:{self.port}/_stcore/health").status_code == 200:
                    return f"http://127.0.0.1:{self.port}"
            except httpx.TransportError:
                time.sleep(0.2)
        raise AssertionError((self.home / "log").read_text())

    def __exit__(self, *_: object) -> None:
        self.server.terminate()
        self.server.wait(20)


@pytest.mark.parametrize("path", ["", "review", "models", "sample", "data"])
def test_who_has_not_signed_in_sees_the_login_page_and_nothing_of_the_workspace(path: str, opened: Open) -> None:
    page = opened.page()
    page.goto(f"{opened.address}/{path}")
    page.get_by_role("button", name="Sign in").wait_for()
    page.wait_for_timeout(500)
    text = page.locator("body").inner_text()
    assert "RESEARCH USE ONLY" not in text
    assert "lab" not in text.replace("available", "").split()
    assert page.locator("[data-testid=stMetric], [data-testid=stDataFrame], .js-plotly-plot").count() == 0
    page.close()


def test_the_role_read_sees_every_page_and_no_form_to_sign(opened: Open) -> None:
    page = opened.entered_as("reader@lab.org")
    page.get_by_text("reader@lab.org, may read").wait_for()
    page.goto(f"{opened.address}/review")
    page.get_by_text("To sign here takes the role review").wait_for()
    assert page.get_by_role("textbox", name="Password").count() == 0
    page.goto(f"{opened.address}/models?version=version+4")
    page.get_by_text("To sign here takes the role sign").first.wait_for()
    page.get_by_text("Reconstructions").first.wait_for()
    assert page.get_by_role("textbox", name="Password").count() == 0
    assert page.get_by_role("button", name="Sign the promotion").count() == 0
    page.context.close()
    assert ("reader@lab.org", "read") in opened.log("sign-in")


def test_what_somebody_looked_at_and_took_away_is_in_the_log_under_that_name(opened: Open) -> None:
    page = opened.entered_as("reader@lab.org")
    page.get_by_role("button", name="Counts as CSV").wait_for()
    before = opened.log("export")
    with page.expect_download() as download:
        page.get_by_role("button", name="Counts as CSV").click()
    assert Path(download.value.path()).read_bytes().startswith(b"sample_uid")
    page.context.close()
    assert ("reader@lab.org", "read") in opened.log("view")
    assert opened.log("export") == [*before, ("reader@lab.org", "read")]
    last = [one for one in entries(opened.workspace) if one.action == "export"][-1]
    assert (last.what, last.about["file"]) == ("counts", "counts-ctc-proposed.csv")


def test_the_role_sign_signs_and_the_audit_log_ties_the_password_to_the_person(opened: Open) -> None:
    page = opened.entered_as("signer@lab.org")
    page.get_by_text("signer@lab.org, may sign").wait_for()
    page.goto(f"{opened.address}/models?version=version+4")
    form = page.get_by_test_id("stForm").filter(has_text="Promote version 4")
    form.get_by_role("radio", name="ben", exact=True).click()
    form.get_by_role("textbox", name="Reason").fill("fewer false CTCs")
    form.get_by_role("textbox", name="Password").fill("of-ben")
    form.get_by_role("button", name="Sign the promotion").click()
    page.get_by_text("Signed as request").wait_for()
    page.context.close()
    (told,) = [one for one in entries(opened.workspace) if one.action == "sign"]
    assert (told.who, told.role, told.what) == ("signer@lab.org", "sign", "promote")
    assert (told.about["by"], told.about["version"]) == ("ben", "4")


@pytest.mark.parametrize(
    ("person", "said"),
    [
        ("stranger@elsewhere.org", "stranger@elsewhere.org has no access to this workspace"),
        ("claimed@lab.org", "The identity provider does not vouch for the address signer@lab.org"),
    ],
)
def test_an_unknown_or_unverified_address_is_refused_with_a_sentence_and_an_entry(
    opened: Open, person: str, said: str
) -> None:
    page = opened.entered_as(person)
    page.get_by_text(said).wait_for()
    assert page.locator("[data-testid=stMetric], [data-testid=stDataFrame], .js-plotly-plot").count() == 0
    assert page.get_by_text("RESEARCH USE ONLY").count() == 0
    page.context.close()
    assert said in [one.what[: len(said)] for one in entries(opened.workspace) if one.action == "refused"]


def test_who_signs_out_has_to_sign_in_again_also_in_a_new_tab(opened: Open) -> None:
    page = opened.entered_as("reader@lab.org")
    before = opened.provider.signed_out
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="Sign in").wait_for()
    again = page.context.new_page()
    again.goto(opened.address)
    again.get_by_role("button", name="Sign in").wait_for()
    page.context.close()
    assert opened.provider.signed_out == before + 1  # at the provider, too
    assert ("reader@lab.org", "read") in opened.log("sign-out")


def test_access_that_was_taken_away_ends_with_the_next_click(opened: Open) -> None:
    page = opened.entered_as("leaver@lab.org")
    page.get_by_text("leaver@lab.org, may read").wait_for()
    revoke(opened.workspace, "leaver@lab.org", by="owner", now=NOON)
    page.goto(f"{opened.address}/review")
    page.get_by_text("leaver@lab.org has no access to this workspace").wait_for()
    page.context.close()


def test_a_forged_cookie_opens_nothing(opened: Open) -> None:
    page = opened.entered_as("reader@lab.org")
    page.get_by_text("may read").wait_for()
    cookies = page.context.cookies()
    page.context.close()
    other = opened.chromium.new_context()
    other.add_cookies(
        [{**one, "value": one["value"][:-6] + "000000"} for one in cookies if one["name"].startswith("_streamlit_user")]
    )
    page = other.new_page()
    page.goto(opened.address)
    page.get_by_role("button", name="Sign in").wait_for()
    other.close()


def test_the_log_of_all_this_is_whole(opened: Open) -> None:
    assert verify_audit(opened.workspace).length >= 3


def test_bound_beyond_this_machine_without_sign_in_the_dashboard_shows_nothing(
    opened: Open, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with Served(opened.workspace, tmp_path_factory.mktemp("home"), free_port(), "--server.address=0.0.0.0") as address:
        page = opened.page()
        page.goto(address)
        page.get_by_text(NOT_LOOPBACK[:60]).wait_for()
        assert page.locator("[data-testid=stMetric], .js-plotly-plot").count() == 0
        page.context.close()
