"""Mail to report addresses: taken in one commit, read once, stored once."""

from __future__ import annotations

import gzip
from pathlib import Path

import msgspec
import pytest

from posthouse.accounts import admin
from posthouse.accounts.directory import Options as DirectoryOptions
from posthouse.accounts.directory import Standing, look_up
from posthouse.cli import explain_report
from posthouse.kernel.finding import Finding, Property
from posthouse.message.address import parse_mailbox
from posthouse.queue import admin as queue_admin
from posthouse.queue import ledger as books
from posthouse.reception.decision import decode
from posthouse.reporting import keep
from posthouse.reporting.intake import Intake
from posthouse.sim.lab import Lab
from posthouse.sim.talk import stuffed
from posthouse.sim.world import World, run_virtual
from posthouse.store import reports as rows
from posthouse.store.reports import ReportKind
from posthouse.store.transaction import Transaction
from tests.queue.house import open_store
from tests.reception.house import ADA, ready, simulated
from tests.reporting.house import House
from tests.reporting.samples import OPTIONS
from tests.reporting.test_read_hostile import TLS, XML

ADDRESS = "dmarc-reports@north.example"
MAIL = (
    b"From: <noreply@reporter.example>\r\nTo: <" + ADDRESS.encode() + b">\r\n"
    b"Message-ID: <1@reporter.example>\r\nSubject: Report\r\n\r\n"
    + XML.replace(b"\n", b"\r\n")
    + b"\r\n"
)


def reports(tx: Transaction) -> list[rows.ReportRow]:
    return rows.reports(tx, limit=99)


def blob_refs(tx: Transaction) -> list[int]:
    return [row[0] for row in tx.all("SELECT refs FROM blob ORDER BY id")]


# --- the addresses ---


@pytest.fixture
def store(tmp_path, clock):
    opened = open_store(tmp_path, clock)
    opened.write_now(lambda tx: admin.add_domain(tx, "north.example"))
    yield opened
    opened.close_now()


def found(store, text: str, options: DirectoryOptions | None = None):
    address = parse_mailbox(text)
    return store.read_now(lambda tx: look_up(tx, address, options or DirectoryOptions()))


def test_each_domain_takes_reports_without_anybody_making_an_address(store) -> None:
    for text in (ADDRESS, "TLS-Reports@north.example", "dmarc-reports+x@north.example"):
        expansion = found(store, text)
        assert expansion.standing is Standing.LOCAL
        assert len(expansion.reports) == 1 and not expansion.local and not expansion.remote
    assert found(store, "dmarc-reports@elsewhere.example").standing is Standing.FOREIGN
    assert found(store, "dmarc-report@north.example").standing is Standing.UNKNOWN
    off = DirectoryOptions(report_local_parts=frozenset())
    assert found(store, ADDRESS, off).standing is Standing.UNKNOWN


def test_an_account_or_alias_of_that_name_gets_the_mail_as_well(store) -> None:
    def add(tx: Transaction) -> None:
        admin.add_account(tx, "ada@north.example", password_hash=None, quota_octets=None)
        admin.add_alias(tx, ADDRESS, "ada@north.example")

    store.write_now(add)
    expansion = found(store, ADDRESS)
    assert [target.name for target in expansion.local] == ["ada@north.example"]
    assert expansion.reports == (ADDRESS,)


def test_a_catch_all_does_not_get_reports(store) -> None:
    def add(tx: Transaction) -> None:
        admin.add_account(tx, "ada@north.example", password_hash=None, quota_octets=None)
        admin.set_catch_all(tx, "north.example", "ada@north.example")

    store.write_now(add)
    assert found(store, ADDRESS).local == ()


# --- over the wire ---


async def sent(lab: Lab, octets: bytes, *recipients: str) -> bytes:
    talk = await ready(lab, *recipients)
    talk.send(stuffed(octets))
    reply = await talk.reply()
    talk.close()
    return reply


def intake_of(lab: Lab) -> tuple[Intake, object]:
    node = lab.nodes["north"].node
    return (
        Intake(
            OPTIONS, store=node.store, clock=node.world.clock, workers=node.world.workers, log=None
        ),
        node.store,
    )


async def explained(store: object) -> str:
    """What `posthouse explain` says of the newest message."""
    (name,) = store.read_now(
        lambda tx: tx.one("SELECT queue_id FROM message ORDER BY id DESC LIMIT 1")
    )
    history = store.read_now(lambda tx: queue_admin.show(tx, name))
    try:
        decision = decode(history.decision)
    except msgspec.DecodeError:
        decision = None
    seen = store.read_now(lambda tx: explain_report.look(tx, history, decision))
    return "" if seen is None else explain_report.words(seen)


@simulated()
async def test_mail_to_a_report_address_is_owned_read_and_let_go(lab: Lab) -> None:  # P1 P2
    assert (await sent(lab, MAIL, ADDRESS)).startswith(b"250 ")
    intake, store = intake_of(lab)
    assert len(store.read_now(lambda tx: rows.inbox(tx, limit=9))) == 1
    assert store.read_now(blob_refs) == [1]
    (ended,) = store.read_now(lambda tx: tx.all("SELECT to_state, reason, detail FROM ledger"))
    assert ended[1:] == ("delivered", "report")
    (row,) = store.read_now(lambda tx: tx.all("SELECT decision FROM message"))
    (recipient,) = decode(row[0]).recipients
    assert (recipient.accounts, recipient.reports) == ((), (ADDRESS,))
    assert (
        await explained(store)
        == "waits to be read as a report; a running server does it in seconds"
    )
    assert store.read_now(books.check).is_clean
    assert await intake.read_all() == 1
    (report,) = store.read_now(reports)
    assert (report.kind, report.domain, report.total) == (ReportKind.DMARC, "example.org", 2)
    assert (await explained(store)).startswith("read: a DMARC report of x about example.org")
    assert store.read_now(blob_refs) == [0]
    assert await intake.read_all() == 0


@simulated()
async def test_one_message_for_a_person_and_for_reports_is_both(lab: Lab) -> None:
    assert (await sent(lab, MAIL, ADA, ADDRESS, "tls-reports@north.example")).startswith(b"250 ")
    intake, store = intake_of(lab)
    assert store.read_now(blob_refs) == [3]
    await intake.read_all()
    assert (await explained(store)).startswith("read: a DMARC report of x")
    assert (await sent(lab, MAIL, ADDRESS)).startswith(b"250 ")
    await intake.read_all()
    assert (await explained(store)).startswith("read as a report; what is in it had come before")
    assert (await sent(lab, MAIL, ADA)).startswith(b"250 ")
    assert await explained(store) == ""
    assert store.read_now(blob_refs) == [1, 0, 1]  # Ada's
    assert len(store.read_now(reports)) == 1  # the same report, twice
    assert store.read_now(books.check).is_clean


@simulated()
async def test_what_cannot_be_read_is_kept_with_its_mail_and_why(lab: Lab) -> None:
    assert (await sent(lab, MAIL.replace(b"<feedback>", b"<x>"), ADDRESS)).startswith(b"250 ")
    intake, store = intake_of(lab)
    await intake.read_all()
    (row,) = store.read_now(lambda tx: rows.reports(tx, limit=9, has_content=True))
    assert row.kind is ReportKind.UNREAD and row.blob is not None
    reason = keep.unread(row).reason
    assert reason and (await explained(store)).startswith(
        f"no report could be read of it: {reason}"
    )
    assert store.read_now(lambda tx: tx.blob(row.blob)).endswith(b"</feedback>\r\n")
    assert store.read_now(blob_refs) == [1]


@simulated()
async def test_our_own_domain_can_be_sent_our_own_report(lab: Lab) -> None:
    """By way of the queue and local delivery, not of reception."""
    node = lab.nodes["north"].node
    from posthouse.kernel.envelope import Address
    from posthouse.kernel.ids import QueueId
    from posthouse.reporting.post import accept_mail

    await node.store.submit(
        lambda tx: accept_mail(
            tx,
            MAIL,
            sender=Address("noreply-dmarc", "north.example"),
            to=[Address("dmarc-reports", "north.example")],
            queue_id=QueueId("r1"),
        )
    )
    for _ in range(100):
        await node.world.clock.sleep(1)
        if node.store.read_now(lambda tx: rows.inbox(tx, limit=9)):
            break
    intake, store = intake_of(lab)
    await intake.read_all()
    (report,) = store.read_now(reports)
    assert report.is_authenticated
    assert (await explained(store)).startswith("read: a DMARC report of x about example.org")
    assert store.read_now(books.check).is_clean


# --- what happens in between ---


def inbox_mail(
    house: House, octets: bytes, queue_id: str = "q1", findings: tuple[Finding, ...] = ()
) -> None:
    """As the accepting commit leaves it."""
    from posthouse.kernel.envelope import Address
    from posthouse.kernel.ids import QueueId
    from posthouse.queue import spool
    from posthouse.queue.item import State

    def unit(tx: Transaction) -> None:
        blob = tx.put_blob(octets)
        rows.add_to_inbox(tx, blob=blob, queue_id=queue_id, address=ADDRESS)
        spool.accept(
            tx,
            spool.Accepted(
                queue_id=QueueId(queue_id),
                reverse_path=None,
                recipients=(
                    spool.AcceptedRecipient(
                        address=Address("dmarc-reports", "north.example"), state=State.STORED
                    ),
                ),
                size=len(octets),
                decision=msgspec.json.encode(
                    {"session": {"peer": "192.0.2.7", "trace": "t1"}, "findings": findings}
                ),
            ),
        )

    house.store.write_now(unit)


def test_a_crash_before_the_commit_reads_it_again_and_stores_it_once(tmp_path: Path) -> None:  # F8
    async def main(world: World) -> None:
        house = House(tmp_path, world)
        inbox_mail(house, MAIL)
        submit = house.store.submit

        def dies(*_: object, **__: object) -> None:
            raise KeyError("killed")

        house.store.submit = dies  # type: ignore[method-assign, assignment]
        with pytest.raises(KeyError):
            await house.intake.read_all()
        house.store.submit = submit  # type: ignore[method-assign]
        assert house.store.read_now(reports) == []
        await house.intake.read_all()
        assert len(house.store.read_now(reports)) == 1
        assert house.store.read_now(blob_refs) == [0]

    run_virtual(main)


def test_two_readers_store_it_once(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        house = House(tmp_path, world)
        inbox_mail(house, MAIL)
        (row,) = house.store.read_now(lambda tx: rows.inbox(tx, limit=9))
        await house.intake._read(row)
        await house.intake._read(row)
        assert len(house.store.read_now(reports)) == 1
        assert house.store.read_now(blob_refs) == [0]

    run_virtual(main)


def dmarc(result: str, domain: str = "reporter.example") -> Finding:
    return Finding(name="dmarc", result=result, properties=(Property("header", "from", domain),))


def dkim(domain: str) -> Finding:
    return Finding(name="dkim", result="pass", properties=(Property("header", "d", domain),))


@pytest.mark.parametrize(
    ("octets", "findings", "expected"),
    [
        (MAIL, (dmarc("pass"),), ("reporter.example", True)),
        (MAIL, (dmarc("fail"), dkim("other.example")), ("other.example", False)),
        (MAIL, (dmarc("pass"), dmarc("fail", "x.example")), ("", False)),
        (MAIL, (), ("", False)),
        # RFC 8460 §3: signed by the domain that the report names as its contact's.
        (TLS.replace(b'"report-id"', b'"contact-info":"a@mx.rep.example","report-id"'),
         (dkim("rep.example"),), ("rep.example", True)),
        (TLS.replace(b'"report-id"', b'"contact-info":"a@rep.example","report-id"'),
         (dkim("evil.example"),), ("evil.example", False)),
        (TLS, (dkim("evil.example"),), ("evil.example", False)),
    ],
)  # fmt: skip
def test_whether_the_mail_proved_who_it_is_from_is_kept(
    tmp_path: Path, octets: bytes, findings: tuple[Finding, ...], expected: tuple[str, bool]
) -> None:
    async def main(world: World) -> None:
        house = House(tmp_path, world)
        inbox_mail(house, octets, findings=findings)
        await house.intake.read_all()
        (report,) = house.store.read_now(reports)
        assert (report.sender, report.is_authenticated) == expected

    run_virtual(main)


def test_a_forged_report_cannot_keep_the_real_one_out(tmp_path: Path) -> None:
    """RFC 9990 §8.2: same reporter, same id, from somebody else."""

    async def main(world: World) -> None:
        house = House(tmp_path, world)
        inbox_mail(house, MAIL, "q1", (dmarc("fail"),))
        inbox_mail(house, MAIL, "q2", (dmarc("pass"),))
        inbox_mail(house, MAIL, "q3", (dmarc("pass"),))  # RFC 9990 §3.5.4: a duplicate
        await house.intake.read_all()
        assert [r.is_authenticated for r in house.store.read_now(reports)] == [False, True]

    run_virtual(main)


def test_old_and_surplus_reports_go_and_their_mail_with_them(tmp_path: Path) -> None:  # P9
    async def main(world: World) -> None:
        options = msgspec.structs.replace(OPTIONS, stored_max=9, unproven_max=3)
        house = House(tmp_path, world, options)
        for n in range(6):
            inbox_mail(house, b"nothing %d" % n, f"q{n}")
        await house.intake.read_all()
        await house.intake.prune()
        assert [r.report_id for r in house.store.read_now(reports)] == ["q3", "q4", "q5"]
        assert sum(house.store.read_now(blob_refs)) == 3
        assert house.reached() == {"reports.unproven_max": 1}
        await world.clock.sleep(OPTIONS.keep_s + 1)
        await house.intake.prune()
        assert house.store.read_now(reports) == []
        assert sum(house.store.read_now(blob_refs)) == 0

    run_virtual(main)


def report_mail(number: int) -> bytes:
    return MAIL.replace(b"<report_id>1<", b"<report_id>%d<" % number)


def test_a_stranger_cannot_push_out_reports_of_a_known_sender(tmp_path: Path) -> None:  # P9
    async def main(world: World) -> None:
        options = msgspec.structs.replace(OPTIONS, stored_max=8, unproven_max=2)
        house = House(tmp_path, world, options)
        for n in range(4):
            inbox_mail(house, report_mail(n), f"real{n}", (dmarc("pass"),))
        for n in range(20):
            octets = report_mail(100 + n) if n % 2 else b"nothing"
            inbox_mail(house, octets, f"forged{n}", (dmarc("fail"),))
        # It proved who it is from, but anybody can send junk.
        inbox_mail(house, b"nothing", "junk", (dmarc("pass"),))
        await house.intake.read_all()
        await house.intake.prune()
        kept = [r.report_id for r in house.store.read_now(reports)]
        assert kept == ["0", "1", "2", "3", "119", "junk"]
        assert house.reached() == {"reports.stored_max": 1, "reports.unproven_max": 1}
        assert sum(house.store.read_now(blob_refs)) == 1

    run_virtual(main)


def test_what_proved_nothing_goes_before_what_did(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        options = msgspec.structs.replace(OPTIONS, stored_max=4, unproven_max=2)
        house = House(tmp_path, world, options)
        for n in range(3):
            inbox_mail(house, report_mail(n), f"real{n}", (dmarc("pass"),))
        for n in range(2):
            inbox_mail(house, b"nothing", f"junk{n}")
        await house.intake.read_all()
        await house.intake.prune()
        found = [r.report_id for r in house.store.read_now(reports)]
        assert found == ["0", "1", "2", "junk1"]
        for n in range(3, 6):
            inbox_mail(house, report_mail(n), f"real{n}", (dmarc("pass"),))
        await house.intake.read_all()
        await house.intake.prune()
        found = [r.report_id for r in house.store.read_now(reports)]
        assert found == ["2", "3", "4", "5"]
        assert house.reached() == {"reports.stored_max": 2}
        await house.intake.prune()  # exactly as many as may be
        assert house.reached() == {"reports.stored_max": 2}

    run_virtual(main)


def test_the_database_finds_what_proved_nothing_without_looking_at_all(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        house = House(tmp_path, world)
        plan = house.store.read_now(
            lambda tx: tx.all(
                f"EXPLAIN QUERY PLAN SELECT id FROM report_in WHERE {rows._UNPROVEN}"
                " ORDER BY id LIMIT 9"
            )
        )
        assert "report_in_unproven" in plan[0][3]

    run_virtual(main)


def test_a_bomb_in_the_inbox_ends_as_unread_and_counts(tmp_path: Path) -> None:  # H40
    async def main(world: World) -> None:
        house = House(tmp_path, world)
        inbox_mail(house, gzip.compress(b"<feedback>" + b" " * (50 << 20), 9))
        await house.intake.read_all()
        (report,) = house.store.read_now(reports)
        assert report.kind is ReportKind.UNREAD
        assert house.reached() == {"reports.ratio_max": 1}
        (line,) = (msgspec.json.decode(each) for each in house.lines)
        assert (line["name"], line["value"], line["peer"]) == (
            "reports.ratio_max",
            200,
            "192.0.2.7",
        )

    run_virtual(main)
