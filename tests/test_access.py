"""Who may come in, and that nobody is let in past the audit log."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from factories import KEY, NOON

from ctcml.access import (
    ASKED_FOR,
    Refusal,
    Role,
    Visitor,
    grant,
    granted,
    is_loopback,
    judge,
    members_of,
    parse_email,
    parse_role,
    private_sign_in,
    require_told,
    revoke,
)
from ctcml.audit import entries, verify_audit
from ctcml.cli import cli
from ctcml.errors import BadInput, BrokenRecord
from ctcml.requests import ACTIONS
from ctcml.workspace import Workspace

MEMBERS = {"anna@lab.org": Role.REVIEW}
VERIFIED = {"email": "anna@lab.org", "email_verified": True}


@pytest.fixture
def ws(tmp_path: Path) -> Workspace:
    ws = Workspace(tmp_path / "lab")
    ws.key.parent.mkdir(parents=True)
    ws.key.write_text(KEY.hex())
    return ws


def test_each_role_may_what_those_before_it_may() -> None:
    assert Role.READ < Role.REVIEW < Role.SIGN
    assert [str(one) for one in Role] == ["read", "review", "sign"]


def test_every_request_that_can_be_signed_asks_for_a_role_and_none_for_looking_alone() -> None:
    assert set(ASKED_FOR) == set(ACTIONS)
    assert Role.READ not in ASKED_FOR.values()
    assert ASKED_FOR["promote"] == ASKED_FOR["rollback"] == Role.SIGN
    assert ASKED_FOR["accept_class"] == ASKED_FOR["reject_class"] == Role.REVIEW


def test_a_member_with_a_verified_address_comes_in_however_it_is_written() -> None:
    for email in ("anna@lab.org", "Anna@Lab.ORG", " anna@lab.org "):
        assert judge({**VERIFIED, "email": email}, MEMBERS) == Visitor(name="anna@lab.org", role=Role.REVIEW)


@pytest.mark.parametrize("verified", [False, None, "", "false", 0, "True ", []])
def test_an_address_that_the_provider_does_not_call_verified_opens_nothing(verified: Any) -> None:
    found = judge({**VERIFIED, "email_verified": verified}, MEMBERS)
    assert isinstance(found, Refusal)
    assert "does not vouch for the address anna@lab.org" in found.why


def test_a_provider_that_says_nothing_of_verification_does_not_vouch() -> None:
    assert isinstance(judge({"email": "anna@lab.org"}, MEMBERS), Refusal)
    assert isinstance(judge({**VERIFIED, "email_verified": "true"}, MEMBERS), Visitor)  # as some providers write it


def test_a_stranger_is_told_who_gives_access() -> None:
    found = judge({**VERIFIED, "email": "carl@lab.org"}, MEMBERS)
    assert found == Refusal(
        name="carl@lab.org",
        why="carl@lab.org has no access to this workspace; its owner gives it with `ctcml access grant`.",
    )


@pytest.mark.parametrize(
    "email",
    [None, "", "anna", "@lab.org", "anna@", "a@b@lab.org", "anna @lab.org", "anna@lab.org\nx", "x" * 250 + "@l.org", 7],
)
def test_claims_without_a_usable_address_open_nothing(email: Any) -> None:
    found = judge({"email": email, "email_verified": True, "sub": "u-17"}, MEMBERS)
    assert isinstance(found, Refusal)
    assert (found.name, "sent no e-mail address" in found.why) in [("u-17", True), ("7", True)]


def test_letters_that_only_look_like_a_members_are_no_members() -> None:
    for email in ("ſigner@lab.org", "\u212aate@lab.org", "аnna@lab.org"):  # long s, Kelvin sign, Cyrillic a
        folded = email.casefold()
        found = judge({"email": email, "email_verified": True}, {folded: Role.SIGN, "signer@lab.org": Role.SIGN})
        assert isinstance(found, Refusal)


def test_an_address_that_is_none_and_an_unknown_role_are_refused_by_name() -> None:
    with pytest.raises(BadInput, match="'anna': expected NAME@HOST"):
        parse_email("anna")
    with pytest.raises(BadInput, match="role 'owner': expected one of read, review, sign"):
        parse_role("owner")


@pytest.mark.parametrize(
    "address", ["0.0.0.0", "", "10.0.0.7", "::", "192.168.1.2", "lab.org", None, "127.0.0.1.evil.org"]
)
def test_other_addresses_are_reached_from_elsewhere(address: str | None) -> None:
    assert not is_loopback(address)


def test_the_list_is_private_and_each_change_of_it_is_in_the_audit_log(ws: Workspace) -> None:
    grant(ws, "Anna@lab.org", Role.READ, by="owner", now=NOON)
    grant(ws, "ben@lab.org", Role.SIGN, by="owner", now=NOON)
    grant(ws, "anna@lab.org", Role.REVIEW, by="owner", now=NOON)
    revoke(ws, "ben@lab.org", by="deputy", now=NOON)
    assert members_of(ws) == {"anna@lab.org": Role.REVIEW}
    assert ws.access.stat().st_mode & 0o777 == 0o600
    assert [(one.who, one.action, one.what) for one in entries(ws)] == [
        ("owner", "grant", "anna@lab.org may read"),
        ("owner", "grant", "ben@lab.org may sign"),
        ("owner", "grant", "anna@lab.org may review"),
        ("deputy", "revoke", "ben@lab.org may nothing"),
    ]
    assert granted(entries(ws)) == members_of(ws)
    assert verify_audit(ws).length == 4


def test_nobody_has_access_before_somebody_gave_it(ws: Workspace) -> None:
    assert members_of(ws) == {}
    with pytest.raises(BadInput, match=r"ben@lab\.org: has no access; those who have are none"):
        revoke(ws, "ben@lab.org", by="owner", now=NOON)
    require_told(ws)


def test_a_list_that_was_changed_past_the_log_is_named(ws: Workspace) -> None:
    grant(ws, "anna@lab.org", Role.READ, by="owner", now=NOON)
    require_told(ws)
    text = ws.access.read_text()
    for changed, told in (
        (text.replace("read", "sign"), r"anna@lab\.org is sign there and read in the audit log"),
        (text + "carl@lab.org: sign\n", r"carl@lab\.org is sign there and absent in the audit log"),
        ("", r"anna@lab\.org is absent there and read in the audit log"),
    ):
        ws.access.write_text(changed)
        with pytest.raises(BrokenRecord, match=told):
            require_told(ws)


@pytest.mark.parametrize("text", ["- anna", "anna@lab.org: owner", "anna: read", "{", "7", "anna@lab.org: [sign]"])
def test_a_damaged_list_lets_nobody_in(ws: Workspace, text: str) -> None:
    ws.access.write_text(text)
    ws.access.chmod(0o600)
    with pytest.raises(BrokenRecord, match="not a list of `address: role`"):
        members_of(ws)


def test_files_that_others_may_open_are_refused(ws: Workspace) -> None:
    assert private_sign_in(ws) is None
    ws.sign_in.parent.mkdir()
    for file, read in ((ws.access, members_of), (ws.sign_in, private_sign_in)):
        file.write_text("anna@lab.org: read\n")
        for mode in (0o644, 0o660, 0o604):
            file.chmod(mode)
            with pytest.raises(BrokenRecord, match=f"mode {mode:o}.; run `chmod 600`"):
                read(ws)
        file.chmod(0o600)
        assert read(ws)


def test_a_change_that_the_log_cannot_take_does_not_hold(ws: Workspace) -> None:
    from ctcml.errors import ServiceDown

    ws.audit.mkdir(parents=True)
    with pytest.raises(ServiceDown):
        grant(ws, "anna@lab.org", Role.SIGN, by="owner", now=NOON)
    assert members_of(ws) == {}


def test_the_commands_grant_list_and_revoke(ws: Workspace) -> None:
    def call(*arguments: str) -> str:
        result = CliRunner().invoke(cli, [*arguments, "--workspace", str(ws.root)])
        if result.exception:
            raise result.exception
        return result.output

    assert call("access", "list").startswith("nobody")
    assert "may review" in call("access", "grant", "anna@lab.org", "review")
    assert call("access", "list") == "review anna@lab.org\n"
    call("access", "revoke", "anna@lab.org")
    assert call("access", "list").startswith("nobody")
    ws.access.write_text("carl@lab.org: sign\n")
    ws.access.chmod(0o600)
    with pytest.raises(BrokenRecord, match="in the audit log"):
        call("access", "list")
