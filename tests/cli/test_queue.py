"""`posthouse queue`, `ledger` and `explain` over data that no server has open."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from posthouse.cli.config import load_config
from posthouse.cli.data import open_store
from posthouse.cli.explain import _way
from posthouse.cli.output import ExitCode
from posthouse.cli.queue import span
from posthouse.kernel.finding import Evidence, Finding, Property
from posthouse.kernel.ids import MessageId, QueueId
from posthouse.message.address import parse_mailbox
from posthouse.queue import admin
from posthouse.queue.item import Move, Reason, State, move
from posthouse.queue.spool import Accepted, AcceptedRecipient, accept
from posthouse.queue.work import AttemptRecord, Exchange
from posthouse.reception.decision import (
    DecisionRecord,
    RecipientDecision,
    SessionFacts,
    encode,
)
from posthouse.relay.plan import Route, RouteOptions, SmartHost
from posthouse.relay.route import destination_of
from posthouse.store import queue as rows
from posthouse.store import refusals
from posthouse.store.reports import add_to_inbox
from posthouse.store.transaction import Transaction

from .conftest import Cli

OCTETS = b"Subject: x\r\n\r\nbody\r\n"
FOREVER = 4_000_000_000_000_000
DECISION = encode(
    DecisionRecord(
        session=SessionFacts(
            trace="trace1", service="mx", peer="192.0.2.1", hello="h\x1b[31m.example"
        ),
        recipients=(
            RecipientDecision(
                address="a@one.example",
                reply="250 2.1.5",
                relayed=("a@one.example",),
                via=("team@example.org",),
            ),
        ),
        findings=(
            Finding(
                name="spf",
                result="pass",
                properties=(Property("smtp", "mailfrom", "example.org"),),
                evidence=(Evidence("TXT example.org", "v=spf1 mx -all"),),
            ),
        ),
    )
)


def put(
    name: str, *recipients: str, sender: str | None = "you@example.org", decision: bytes = DECISION
) -> MessageId:
    """A message in the queue."""

    def unit(tx: Transaction) -> MessageId:
        blob = tx.put_blob(OCTETS)
        return accept(
            tx,
            Accepted(
                queue_id=QueueId(name),
                reverse_path=None if sender is None else parse_mailbox(sender),
                recipients=tuple(
                    AcceptedRecipient(address=parse_mailbox(r), state=State.QUEUED)
                    for r in recipients
                ),
                size=len(OCTETS),
                blob=blob,
                expires_at=FOREVER,
                decision=decision,
            ),
        )

    with open_store(load_config(None).config) as store:
        return store.write_now(unit)


def change(message: MessageId, to_state: State, reason: Reason, **values: object) -> None:
    def unit(tx: Transaction) -> None:
        move(
            tx,
            [
                Move(recipient=row, to_state=to_state, reason=reason, **values)  # type: ignore[arg-type]
                for row in rows.recipients_of_message(tx, message)
            ],
        )

    with open_store(load_config(None).config) as store:
        store.write_now(unit)


def states(house: Cli) -> dict[str, str]:
    found = json.loads(house("queue", "list", "--json")[1])
    return {one["recipient"]: one["state"] for one in found}


@pytest.fixture
def full(house: Cli) -> Cli:
    put("trace1.1", "a@one.example", "b@two.example")
    put("trace1.2", "c@one.example", sender=None)
    put("trace2.1", "d@three.example", sender="Me@example.org")
    return house


def test_an_empty_queue_is_said_to_be_empty(house: Cli) -> None:
    assert house("queue", "list") == (0, "", "the queue is empty\n")
    assert house("queue", "list", "--json") == (0, "[]\n", "")
    assert house("queue", "retry", "--all") == (0, "", "0 recipients due now\n")


def test_list_shows_every_recipient_that_waits(full: Cli) -> None:
    code, out, err = full("queue", "list")
    assert code == ExitCode.OK
    assert [line.split("\t")[:4] for line in out.splitlines()] == [
        ["trace1.1", "a@one.example", "you@example.org", "waiting"],
        ["trace1.1", "b@two.example", "you@example.org", "waiting"],
        ["trace1.2", "c@one.example", "<>", "waiting"],
        ["trace2.1", "d@three.example", "Me@example.org", "waiting"],
    ]
    assert err == "4 recipients: 4 waiting\n"


@pytest.mark.parametrize(
    ("selection", "chosen"),
    [
        (("trace1.1",), "ab"),
        (("trace1.1", "trace2.1"), "abd"),
        (("--domain", "ONE.example."), "ac"),
        (("--sender", "<>"), "c"),
        (("--sender", ""), "c"),
        (("--sender", "me@example.org"), "d"),
        (("--recipient", "B@two.example"), "b"),
        (("trace1.1", "--domain", "one.example"), "a"),
        (("--domain", "one.example", "--sender", "you@example.org"), "a"),
        (("--all",), "abcd"),
        (("--all", "--domain", "two.example"), "b"),
    ],
)
def test_a_change_reaches_what_is_selected_and_nothing_else(
    selection: tuple[str, ...], chosen: str, full: Cli
) -> None:
    code, _, err = full("queue", "hold", *selection)
    assert code == ExitCode.OK
    assert err == f"{len(chosen)} recipient{'s' * (len(chosen) != 1)} held\n"
    held = [address[0] for address, state in states(full).items() if state == "held"]
    assert held == list(chosen)
    listed = json.loads(full("queue", "list", "--state", "held", "--json")[1])
    assert [one["recipient"][0] for one in listed] == list(chosen)


@pytest.mark.parametrize("verb", ["retry", "hold", "release", "drop", "reroute"])
def test_a_change_without_a_selection_is_refused(verb: str, full: Cli) -> None:
    arguments = ("--to", "none") if verb == "reroute" else ()
    code, _, err = full("queue", verb, *arguments)
    assert code == ExitCode.USAGE
    assert err.splitlines()[0] == (
        "error: nothing is selected: name queue ids, --domain, --sender, --recipient or --all"
    )
    assert set(states(full).values()) == {"waiting"}


def test_an_unknown_id_changes_nothing_and_the_nearest_is_named(full: Cli) -> None:
    code, _, err = full("queue", "hold", "trace1.1", "trace2.2")
    assert code == ExitCode.NOT_FOUND
    assert err.splitlines()[0] == "error: nothing is known of a message 'trace2.2'"
    assert "trace2.1" in err.splitlines()[1]
    assert set(states(full).values()) == {"waiting"}


def test_what_is_not_in_a_state_for_it_is_told(full: Cli) -> None:
    code, _, err = full("queue", "release", "trace1.1")
    assert code == ExitCode.NOT_FOUND
    assert err.splitlines()[0] == "0 recipients released, due now"
    assert err.splitlines()[1].startswith("nothing that fits is in a state for it")


def test_what_is_being_tried_is_left_alone(house: Cli) -> None:
    message = put("busy.1", "a@one.example")
    change(message, State.LEASED, Reason.LEASED, leased_by="node", leased_until=FOREVER)
    code, _, err = house("queue", "drop", "busy.1", "--yes")
    assert code == ExitCode.TEMPORARY
    assert err.splitlines() == [
        "0 recipients dropped",
        "1 left alone: being tried at this moment",
    ]
    assert states(house) == {"a@one.example": "being tried"}


def test_drop_asks_and_the_answer_counts(full: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        def isatty(self) -> bool:
            return True

    for answer, left in ((False, 4), (True, 2)):
        with monkeypatch.context() as patch:
            patch.setattr("posthouse.cli.queue.sys.stdin", Terminal())
            patch.setattr("click.termui.visible_prompt_func", lambda _, a=answer: "y" if a else "n")
            from posthouse.cli import run

            code = run(["queue", "drop", "trace1.1"])
        assert code == (ExitCode.OK if answer else ExitCode.INTERRUPTED)
        assert len(states(full)) == left


def test_reroute_takes_a_place_or_takes_it_back(full: Cli) -> None:
    said = full("queue", "reroute", "trace1.1", "--to", "[::1]:2525")
    assert (said[0], said[2]) == (ExitCode.OK, "2 recipients rerouted to [::1]:2525\n")
    routes = {o["id"]: o["route"] for o in json.loads(full("queue", "list", "--json")[1])}
    assert routes["trace1.1"] == "[::1]:2525"
    assert full("queue", "reroute", "trace1.1", "--to", "none")[0] == ExitCode.OK
    assert {o["route"] for o in json.loads(full("queue", "list", "--json")[1])} == {""}
    code, _, err = full("queue", "reroute", "trace1.1", "--to", "host:0")
    assert code == ExitCode.USAGE
    assert "--to takes host, host:port or [address]:port, and 'host:0' is none" in err


def test_list_says_when_it_shows_only_a_part(full: Cli) -> None:
    code, out, err = full("queue", "list", "--limit", "2")
    assert (code, len(out.splitlines())) == (ExitCode.OK, 2)
    assert err.splitlines()[1].startswith("only the first 2 are shown")


def test_show_has_settled_recipients_too(full: Cli) -> None:
    full("queue", "drop", "--recipient", "a@one.example", "--yes")
    code, out, err = full("queue", "show", "trace1.1")
    assert code == ExitCode.OK
    assert [line.split("\t")[:2] for line in out.splitlines()] == [
        ["a@one.example", "dropped"],
        ["b@two.example", "waiting"],
    ]
    assert err.startswith("trace1.1 from you@example.org, 20 octets, accepted 20")
    assert json.loads(full("queue", "show", "trace1.1", "--json")[1])["sender"] == "you@example.org"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-5, "0s"), (0.4, "0s"), (61, "1m 1s"), (3600, "1h"), (90_061, "1d 1h"), (432_000, "5d")],
)
def test_spans_are_told_in_their_two_largest_units(seconds: float, words: str) -> None:
    assert span(seconds) == words


# --- ledger ---


# P2
def test_a_clean_ledger_ends_with_0(full: Cli) -> None:
    full("queue", "drop", "trace1.2", "--yes")
    code, out, err = full("ledger", "check", "--octets")
    assert code == ExitCode.OK
    assert "queued\t3\n" in out
    assert "ended: dropped-by-person\t1\n" in out
    assert err == "clean: each of 4 recipients has exactly one end or is still owned\n"


# P2
def test_a_recipient_that_the_books_lost_is_named(full: Cli) -> None:
    with sqlite3.connect("posthouse.db") as database:
        database.execute("UPDATE recipient SET state = 7 WHERE address = 'b@two.example'")
    database.close()
    code, out, err = full("ledger", "check")
    assert code == ExitCode.FAILED
    assert "trace1.1\tb@two.example\tthe ledger's last line is not the recipient's state\n" in out
    assert err.startswith("not clean: ")
    said = json.loads(full("ledger", "check", "--json")[1])
    assert said["clean"] is False
    assert {"id": "trace1.1", "recipient": "b@two.example"}.items() <= said["faults"][0].items()


# --- explain ---


def test_the_story_is_in_order_of_time_with_the_words_of_the_other_side(house: Cli) -> None:
    message = put("trace1.1", "a@one.example")
    record = AttemptRecord(
        destination="one.example",
        host="mx.one.example",
        address="192.0.2.9",
        tls="TLSv1.3 X",
        tls_policy="mta-sts",
        certificate="verified",
        took_s=0.25,
        exchanges=(
            Exchange("connect", "Connection refused", "mx0.one.example", "192.0.2.8"),
            Exchange("rcpt", "450 4.2.0 grey\nlisted", "mx.one.example", "192.0.2.9"),
        ),
    )
    change(message, State.LEASED, Reason.LEASED, leased_by="node", leased_until=FOREVER)
    change(message, State.QUEUED, Reason.DEFERRED, detail="450 4.2.0 grey", due_at=FOREVER)
    with open_store(load_config(None).config) as store:
        encoded = msgspec.json.encode(record)
        at = store.read_now(lambda tx: tx.now_us())
        store.write_now(lambda tx: rows.add_attempts(tx, [(message, at, encoded)]))
    house("queue", "hold", "trace1.1")
    code, out, _ = house("explain", "trace1.1")
    assert code == ExitCode.OK
    lines = [line[16:] if line.startswith("  ") else line for line in out.splitlines()]
    day = f"{datetime.now(UTC):%Y-%m-%d} (UTC)"
    assert lines[:1] + [line for line in lines[1:-1] if line != day] == [
        "trace1.1  from you@example.org, 20 octets",
        "accepted by mx from 192.0.2.1, which calls itself h\\x1b[31m.example",
        "trace trace1, no TLS",
        "a@one.example: 250 2.1.5, leads to a@one.example elsewhere by way of team@example.org",
        "spf: pass smtp.mailfrom=example.org",
        "  TXT example.org: v=spf1 mx -all",
        "verdict: accept",
        "a@one.example: accepted; waits for its first attempt",
        "a@one.example: deferred, to be tried again (450 4.2.0 grey)",
        (
            "attempt 1 to one.example, last host mx.one.example [192.0.2.9], TLSv1.3 X;"
            " it took 0.25 s"
        ),
        "  TLS policy: mta-sts, certificate verified",
        "  connect at mx0.one.example [192.0.2.8]: Connection refused",
        "  rcpt: 450 4.2.0 grey / listed",
        lines[-2],
    ]
    assert lines[-2].startswith("a@one.example: held (by ")
    assert lines[-1].startswith("now: a@one.example: held, gives up on 20")


@pytest.mark.parametrize(
    ("domain", "route", "words"),
    [
        ("a.example", None, "by the route for a.example"),
        ("b.example", "127.0.0.1:2525", "to 127.0.0.1:2525"),
        ("b.example", None, "by the smart host relay.example"),
    ],
)
def test_where_an_attempt_went_is_told_in_words(domain: str, route: str | None, words: str) -> None:
    options = RouteOptions(
        routes=(Route(domain="a.example", hosts=("mx.example",)),),
        smart_host=SmartHost(host="relay.example"),
    )
    assert _way(destination_of(domain, route, options)) == words
    assert _way(destination_of("b.example", None, RouteOptions())) == "to b.example"


def test_a_message_made_here_has_a_story_without_a_door(house: Cli) -> None:
    put("notice.1", "a@one.example", sender=None, decision=b"{}")
    code, out, _ = house("explain", "notice.1")
    assert code == ExitCode.OK
    assert "made by this server (mx)" in out
    assert json.loads(house("explain", "notice.1", "--json")[1])[0]["decision"] is None


def test_a_trace_tells_of_all_its_messages(full: Cli) -> None:
    code, out, _ = full("explain", "trace1")
    assert code == ExitCode.OK
    assert [line.split()[0] for line in out.splitlines() if line.startswith("trace")] == [
        "trace1.1",
        "trace1.2",
    ]
    assert [one["id"] for one in json.loads(full("explain", "trace1", "--json")[1])] == [
        "trace1.1",
        "trace1.2",
    ]


def test_where_it_is_stored_is_told_junk_and_reports_too(house: Cli) -> None:
    record = DecisionRecord(
        session=SessionFacts(trace="t1", service="mx", peer="192.0.2.1", hello="h.example"),
        recipients=(
            RecipientDecision(address="you@example.org", reply="250 2.1.5", accounts=("you",)),
            RecipientDecision(
                address="dmarc-reports@example.org",
                reply="250 2.1.5",
                reports=("dmarc-reports@example.org",),
            ),
        ),
        verdict="accept as junk",
        why="DMARC fails",
    )
    stored = [("you@example.org", "Junk"), ("dmarc-reports@example.org", "report")]

    def unit(tx: Transaction) -> None:
        recipients = tuple(
            AcceptedRecipient(address=parse_mailbox(a), state=State.STORED, detail=detail)
            for a, detail in stored
        )
        accepted = Accepted(
            queue_id=QueueId("t1.1"),
            reverse_path=None,
            recipients=recipients,
            size=9,
            decision=encode(record),
        )
        accept(tx, accepted)
        blob = tx.put_blob(OCTETS)
        add_to_inbox(tx, blob=blob, queue_id="t1.1", address="dmarc-reports@example.org")

    with open_store(load_config(None).config) as store:
        store.write_now(unit)
    code, out, _ = house("explain", "t1.1")
    assert code == ExitCode.OK
    lines = [line.strip() for line in out.splitlines()]
    assert "you@example.org: 250 2.1.5, leads to the mailbox of you" in lines
    assert "dmarc-reports@example.org: 250 2.1.5, leads to the reports" in lines
    told = [line.partition("  ")[2] for line in lines]
    assert "you@example.org: stored in the mailbox Junk" in told
    assert "dmarc-reports@example.org: kept to be read as a report" in told
    assert lines[-2:] == [
        "now: you@example.org: stored in a mailbox",
        (
            "now: dmarc-reports@example.org: waits to be read as a report;"
            " a running server does it in seconds"
        ),
    ]
    [shown] = json.loads(house("explain", "t1.1", "--json")[1])
    assert shown["report"]["reading"] == "waiting"
    assert [one["state"] for one in shown["recipients"]] == [
        "stored in a mailbox",
        "kept to be read as a report",
    ]


def test_an_attempt_at_the_very_moment_of_acceptance_is_told_behind_it(house: Cli) -> None:
    message = put("t1.1", "a@one.example")
    record = AttemptRecord(destination="one.example", exchanges=(Exchange("rcpt", "550 no"),))
    with open_store(load_config(None).config) as store:
        history = store.read_now(lambda tx: admin.show(tx, "t1.1"))
        assert history is not None
        at = history.message.accepted_at
        store.write_now(
            lambda tx: rows.add_attempts(tx, [(message, at, msgspec.json.encode(record))])
        )
        store.write_now(lambda tx: tx.run("UPDATE ledger SET at = ?", (at,)))
    lines = house("explain", "t1.1")[1].splitlines()
    assert [line[16:] for line in lines[-4:-1]] == [
        "a@one.example: accepted; waits for its first attempt",
        "attempt 1 to one.example; it took 0 s",
        "  rcpt: 550 no",
    ]


def test_an_unknown_message_gets_a_hint(house: Cli) -> None:
    code, out, err = house("explain", "\x1b[2Jzzz%_")
    assert (code, out) == (ExitCode.NOT_FOUND, "")
    assert "\x1b" not in err
    assert err.splitlines()[1].startswith("hint: the log and the reply to the sender name it")


@pytest.mark.parametrize("command", ["queue list", "ledger check", "explain x", "account list"])
def test_without_data_every_command_says_how_to_begin(command: str, cli: Cli) -> None:
    Path("posthouse.toml").write_text('node.data_folder = "nowhere"\n')
    code, out, err = cli(*command.split())
    assert (code, out) == (ExitCode.NOT_FOUND, "")
    assert err.splitlines()[0] == f"error: there is no Posthouse data in {Path.cwd()}/nowhere"
    assert "posthouse quickstart you@example.org" in err.splitlines()[1]


def test_a_message_that_was_turned_down_has_a_story_too(house: Cli) -> None:
    record = DecisionRecord(
        session=SessionFacts(trace="trace9", service="mx", peer="192.0.2.1", hello="h.example"),
        recipients=(RecipientDecision(address="you@example.org", reply="250 2.1.5"),),
        findings=(Finding(name="dmarc", result="fail", reason="neither passed"),),
        verdict="refuse",
        why="DMARC fails",
    )
    row = refusals.RefusalRow(
        queue_id="trace9.1",
        at=1_790_000_000_000_000,
        reverse_path="x@bad.example",
        size=321,
        reply="550 5.7.26 no",
        decision=encode(record),
    )
    with open_store(load_config(None).config) as store:
        store.write_now(lambda tx: refusals.add(tx, [row]))
    for name in ("trace9.1", "trace9"):
        code, out, _ = house("explain", name)
        assert code == ExitCode.OK
        lines = out.splitlines()
        assert lines[0] == "trace9.1  from x@bad.example, 321 octets"
        assert "  dmarc: fail (neither passed)" in lines
        assert "  verdict: refuse: DMARC fails" in lines
        assert lines[-1].endswith("the other side heard: 550 5.7.26 no")
    [shown] = json.loads(house("explain", "trace9.1", "--json")[1])
    assert shown["reply"] == "550 5.7.26 no"
    assert shown["decision"]["findings"][0]["name"] == "dmarc"
