"""Postfix as the other host: mail both ways with STARTTLS, DSN parameters, and notices read."""

from __future__ import annotations

import smtplib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from posthouse.message import dsn
from tests.crash.server import Server, free_port_base
from tests.interop import postfix as other
from tests.interop.house import HARMLESS, WITHIN_S, Account, below_trace, message
from tests.interop.postfix import FRIEND, GONE, Postfix
from tests.interop.programs import missing_program, needs_program

pytestmark = needs_program("postfix", package="postfix", root=True)

OURS = "house.test"
ROUTE = '[[relay.route]]\ndomain = "postfix.test"\nhosts = ["127.0.0.1:{port}"]\ntls = "required"\n'


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, Postfix]]:
    if missing_program("postfix", package="postfix", root=True) is not None:
        pytest.skip("Postfix cannot be started")
    base = free_port_base()
    port = base + 26
    folder = tmp_path_factory.mktemp("house")
    server = Server(folder, host=f"mx.{OURS}", more=ROUTE.format(port=port), base=base)
    server.add(OURS, [f"u{number}" for number in range(10)])
    server.start()
    try:
        made = Postfix(
            port, relay_to=(OURS, server.port("mx")), certificate=server.certificate,
            key=server.certificate.with_suffix(".key"),
        )  # fmt: skip
        with made.running():
            yield server, made
    finally:
        server.kill()


@pytest.fixture
def postfix(pair: tuple[Server, Postfix]) -> Postfix:
    return pair[1]


@pytest.fixture
def account(
    pair: tuple[Server, Postfix], tmp_path: Path, request: pytest.FixtureRequest
) -> Account:
    names = [item.name for item in request.session.items if item.path == request.node.path]
    return Account(f"u{names.index(request.node.name)}@{OURS}", pair[0], tmp_path)


def submit(
    account: Account, to: str, octets: bytes, *, mail: tuple[str, ...] = (),
    rcpt: tuple[str, ...] = (),
) -> None:  # fmt: skip
    with smtplib.SMTP("127.0.0.1", account.port("submission"), timeout=WITHIN_S) as client:
        client.starttls(context=HARMLESS)
        client.login(account.address, account.password)
        client.sendmail(account.address, [to], octets, ["BODY=8BITMIME", *mail], rcpt)


def hand_in(
    postfix: Postfix, sender: str, to: str, octets: bytes, *, mail: tuple[str, ...] = (),
    rcpt: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """Give Postfix a message, as one of its users."""
    with smtplib.SMTP("127.0.0.1", postfix.port, timeout=WITHIN_S) as client:
        client.sendmail(sender, [to], octets, ["BODY=8BITMIME", *mail], rcpt)


def notice(account: Account) -> tuple[bytes, dsn.Report]:
    """The one DSN in the inbox, as we read it."""
    (octets,) = account.wait_inbox()
    assert octets.startswith(b"Return-Path: <>\r\n")
    report = dsn.parse(octets)
    assert report is not None
    return octets, report


# P5
def test_we_relay_to_postfix_with_starttls(account: Account, postfix: Postfix) -> None:
    sent = message(account.address, FRIEND, "to-postfix")
    submit(account, FRIEND, sent)
    got = postfix.wait_for(b"Subject: to-postfix")
    assert below_trace(got) == sent
    assert b"using TLSv1.3" in got, "Postfix says how it came"
    assert account.inbox() == []


def test_postfix_relays_to_us_with_starttls(account: Account, postfix: Postfix) -> None:
    sent = message(FRIEND, account.address, "from-postfix")
    hand_in(postfix, FRIEND, account.address, sent)
    (got,) = account.wait_inbox()
    assert below_trace(got) == sent
    assert b"with ESMTPS" in got.split(b"From: ")[0]
    assert b"TLSv1.3" in got.split(b"From: ")[0]


def test_a_large_message_goes_there_and_back(account: Account, postfix: Postfix) -> None:
    lines = b"".join(b"%07d %s\r\n" % (number, b"z" * 68) for number in range(40_000))
    sent = message(FRIEND, account.address, "large") + lines
    hand_in(postfix, FRIEND, account.address, sent)
    (got,) = account.wait_inbox()
    assert below_trace(got) == sent
    back = message(account.address, FRIEND, "large-back") + lines
    submit(account, FRIEND, back)
    assert below_trace(postfix.wait_for(b"Subject: large-back")) == back


# P5: postfix refuses in session, the notice is ours
def test_a_refusal_of_postfix_is_returned_by_us(account: Account) -> None:
    submit(account, f"nobody@{other.DOMAIN}", message(account.address, "nobody"))
    _, report = notice(account)
    (one,) = report.recipients
    assert report.reporting_mta == f"mx.{OURS}"
    assert one.final_recipient == f"nobody@{other.DOMAIN}"
    assert one.action is dsn.Action.FAILED
    assert one.status == "5.1.1"
    assert "550 5.1.1" in (one.diagnostic or "")
    assert "unknown in virtual mailbox table" in (one.diagnostic or "").lower()


# P5: we refuse in session, the notice is Postfix's and we can read it
def test_a_bounce_of_postfix_is_taken_and_understood(account: Account) -> None:
    submit(account, GONE, message(account.address, GONE), mail=("ENVID=QQ314159", "RET=HDRS"))
    _, report = notice(account)
    (one,) = report.recipients
    assert report.reporting_mta == other.HOST
    assert report.envelope_id == "QQ314159"
    assert one.action is dsn.Action.FAILED
    assert one.status == "5.1.1"
    assert one.final_recipient == f"nobody-at-all@{OURS}"
    assert "550 5.1.1 No such user here" in " ".join((one.diagnostic or "").split())


def test_a_user_of_postfix_gets_our_refusal_in_its_bounce(postfix: Postfix) -> None:
    hand_in(postfix, FRIEND, f"nobody@{OURS}", message(FRIEND, f"nobody@{OURS}", "to-nobody"))
    got = postfix.wait_for(b"Diagnostic-Code: smtp; 550 5.1.1 No such user here")
    report = dsn.parse(got)
    assert report is not None
    assert report.recipients[0].final_recipient == f"nobody@{OURS}"


def test_what_we_are_asked_to_tell_of_success_postfix_tells(account: Account) -> None:
    submit(
        account, FRIEND, message(account.address, FRIEND, "tell-me"),
        mail=("ENVID=abc+2Bdef", "RET=HDRS"),
        rcpt=("NOTIFY=SUCCESS,FAILURE", f"ORCPT=rfc822;{FRIEND}"),
    )  # fmt: skip
    octets, report = notice(account)
    (one,) = report.recipients
    assert report.reporting_mta == other.HOST
    assert report.envelope_id == "abc+def"
    assert one.action is dsn.Action.DELIVERED
    assert one.original_recipient == f"rfc822;{FRIEND}"
    assert b"first line" not in octets, "RET=HDRS went along"


def test_our_notice_of_success_is_accepted_by_postfix(account: Account, postfix: Postfix) -> None:
    hand_in(
        postfix, FRIEND, account.address, message(FRIEND, account.address, "tell-friend"),
        mail=("ENVID=xyz+2B1", "RET=FULL"),
        rcpt=("NOTIFY=SUCCESS,FAILURE,DELAY", f"ORCPT=rfc822;{account.address}"),
    )  # fmt: skip
    got = postfix.wait_for(b"Original-Envelope-Id: xyz+1")
    report = dsn.parse(got)
    assert report is not None
    (one,) = report.recipients
    assert report.reporting_mta == f"mx.{OURS}"
    assert one.action is dsn.Action.DELIVERED
    assert one.final_recipient == account.address
    assert (one.original_recipient or "").split("; ") == ["rfc822", account.address]
    assert got.startswith(b"Return-Path: <>\r\n")


def test_notify_never_keeps_both_hosts_quiet(account: Account, postfix: Postfix) -> None:
    submit(account, GONE, message(account.address, GONE, "hush"), rcpt=("NOTIFY=NEVER",))
    end_s = time.monotonic() + WITHIN_S
    while "550 5.1.1 No such user here" not in _about_hush(postfix):
        assert time.monotonic() < end_s, postfix.log()
        time.sleep(0.1)
    assert account.inbox() == []


def _about_hush(postfix: Postfix) -> str:
    """The lines of Postfix's log that follow the last message it took from us."""
    return postfix.log().rpartition("client=")[2]
