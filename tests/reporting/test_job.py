"""Reports that are due: sent once, to whoever may have them, whatever happens in between."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path

import msgspec
import pytest

from posthouse.kernel.envelope import TlsDemand
from posthouse.kernel.tls_result import PolicyType, ResultType
from posthouse.mailauth.results import Disposition
from posthouse.message.fields import read_section
from posthouse.queue import ledger as books
from posthouse.reporting.collect import FLUSH_S
from posthouse.reporting.model import AggregateReport, TlsReport
from posthouse.reporting.options import US
from posthouse.reporting.read import read_report
from posthouse.reporting.rows import DmarcRow, TlsFacts, TlsRow, tls_row
from posthouse.sim.world import World, run_virtual
from posthouse.store import reports as rows
from posthouse.store.reports import ResultKind
from tests.reporting.house import SIGNATURE, House
from tests.reporting.samples import DAY_S, OPTIONS, POLICY, row

TLS = tls_row("there.example", type=PolicyType.NONE)
TLS_FAILED = tls_row(
    "there.example", type=PolicyType.NONE, trouble=ResultType.STARTTLS_NOT_SUPPORTED
)


async def tomorrow(house: House) -> None:
    """Past the end of today, its settling and its spread."""
    now = house.world.clock.unix_us() // US
    await house.world.clock.sleep(DAY_S - now % DAY_S + 5 * 3600)


def aggregate(octets: bytes) -> AggregateReport:
    found = read_report(octets)
    assert isinstance(found, AggregateReport), found
    return found


def test_a_day_of_mail_becomes_one_report(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        house = House(tmp_path, world)
        for _ in range(3):
            house.collector.add(row())
        house.collector.add(row(passes=False, source_ip="192.0.2.9"))
        await house.collector.flush()
        house.collector.add(row())
        await house.collector.flush()
        assert await house.sender.send_due() == []  # the day is not over
        await tomorrow(house)
        (done,) = await house.sender.send_due()
        assert done.is_sent
        ((recipients, octets),) = house.mails()
        assert [each.address for each in recipients] == ["rua@author.example"]
        assert octets.startswith(SIGNATURE)
        report = aggregate(octets)
        assert sorted((r.source_ip, r.messages) for r in report.records) == [
            ("192.0.2.1", 4),
            ("192.0.2.9", 1),
        ]
        assert report.begin_s % DAY_S == 0 and report.end_s == report.begin_s + DAY_S - 1
        assert house.signed[0][1] == "here.example"
        assert await house.sender.send_due() == []

    run_virtual(main)


def test_nobody_hears_of_a_report_that_cannot_be_delivered(tmp_path: Path) -> None:  # P5
    async def main(world: World) -> None:
        house = House(tmp_path, world)
        house.collector.add(row())
        await house.collector.flush()
        await house.sender.send_due(is_everything=True)
        ((recipients, _),) = house.mails()
        assert recipients[0].notify == 0  # NEVER
        found = house.store.read_now(lambda tx: tx.one("SELECT origin, reverse_path FROM message"))
        assert found == ("local", "noreply-dmarc@here.example")
        assert house.store.read_now(books.check).is_clean

    run_virtual(main)


def test_a_victim_is_never_sent_a_report(tmp_path: Path) -> None:  # H45
    async def main(world: World) -> None:
        house = House(tmp_path, world)
        policy = msgspec.structs.replace(
            POLICY, aggregate_uris=tuple(f"mailto:v{n}@victim.test" for n in range(10))
        )
        house.zone("_dmarc.author.example", "v=DMARC1; p=reject")
        house.zone("_dmarc.victim.test", "v=DMARC1; p=none")
        house.collector.add(row(policy=policy))
        await house.collector.flush()
        (done,) = await house.sender.send_due(is_everything=True)
        assert not done.is_sent and done.is_over
        assert house.mails() == []
        assert house.store.read_now(lambda tx: rows.result_count(tx, ResultKind.DMARC)) == 0

    run_virtual(main)


def below(domain: str, number: int) -> DmarcRow:
    """Its own record at each name: DMARC has no organization above it."""
    name = f"n{number}.{domain}"
    uris = (f"mailto:r@{name}",)
    return row(policy=msgspec.structs.replace(POLICY, domain=name, aggregate_uris=uris))


def test_names_without_end_below_one_domain_are_a_few_reports(tmp_path: Path) -> None:  # P9 H45
    async def main(world: World) -> None:
        options = msgspec.structs.replace(OPTIONS, per_organization_max=5)
        house = House(tmp_path, world, options)
        for n in range(30):
            house.collector.add(below("evil.test", n))
            house.collector.add_tls(tls_row(f"n{n}.evil.test", type=PolicyType.NONE))
            house.zone(f"_smtp._tls.n{n}.evil.test", f"v=TLSRPTv1;rua=mailto:t@n{n}.evil.test")
        house.collector.add(row())
        await house.collector.flush()
        await tomorrow(house)
        done = await house.sender.send_due()
        assert len(done) == 61 and all(each.is_over for each in done)
        evil = [each for each in done if each.domain.endswith("evil.test")]
        assert sum(each.is_sent for each in evil) == 5
        assert {each.domain for each in done if each.is_sent} >= {"author.example"}
        assert len(house.mails()) == 6
        assert house.reached() == {"reports.per_organization_max": 1}
        ended = house.store.read_now(lambda tx: rows.sent(tx, limit=99))
        assert sum("evil.test has been sent as many" in each.outcome for each in ended) == 55
        for kind in ResultKind:  # and they wait no longer
            assert house.store.read_now(partial(rows.result_count, kind=kind)) == 0
        # Another day, another share.
        house.collector.add(below("evil.test", 1))
        await house.collector.flush()
        await tomorrow(house)
        (again,) = await house.sender.send_due()
        assert again.is_sent

    run_virtual(main)


def test_names_that_others_invent_below_a_domain_do_not_cost_it_its_own_report(
    tmp_path: Path,
) -> None:
    async def main(world: World) -> None:
        options = msgspec.structs.replace(OPTIONS, per_organization_max=1)
        house = House(tmp_path, world, options)
        house.collector.add(below("author.example", 1))
        await house.collector.flush()
        await house.sender.send_due(is_everything=True)
        house.collector.add(below("author.example", 2))
        house.collector.add(row())
        await house.collector.flush()
        done = await house.sender.send_due(is_everything=True)
        assert {each.domain: each.is_sent for each in done} == {
            "author.example": True,
            "n2.author.example": False,
        }

    run_virtual(main)


def test_reports_that_are_sent_side_by_side_are_bounded_in_the_commit(tmp_path: Path) -> None:
    """Two servers, or two of one's reports, both planned while there was room for one."""

    async def main(world: World) -> None:
        options = msgspec.structs.replace(OPTIONS, per_organization_max=1)
        house = House(tmp_path, world, options)
        for n in range(3):
            house.collector.add(below("evil.test", n))
        await house.collector.flush()
        due = await house.sender.due(is_everything=True)
        plans = [await house.sender.plan(kind, each) for kind, each in due]
        assert all(plan is not None and plan.targets for plan in plans)
        done = [await house.sender.send(plan) for plan in plans if plan is not None]
        assert [each.is_sent for each in done] == [True, False, False]
        assert [each.full for each in done] == ["", "evil.test", "evil.test"]
        assert len(house.mails()) == 1
        assert house.store.read_now(lambda tx: rows.result_count(tx, ResultKind.DMARC)) == 0

    run_virtual(main)


def test_results_that_come_late_for_a_full_organization_do_not_spend_the_next_day(
    tmp_path: Path,
) -> None:
    async def main(world: World) -> None:
        options = msgspec.structs.replace(OPTIONS, per_organization_max=1)
        house = House(tmp_path, world, options)
        begin_at = world.clock.unix_us() // (DAY_S * US) * DAY_S * US
        house.collector.add(below("evil.test", 1))
        await house.collector.flush()
        await tomorrow(house)
        await house.sender.send_due()
        late = rows.ResultRow(
            domain="n1.evil.test",
            begin_at=begin_at,
            digest=b"late",
            policy=msgspec.json.encode(below("evil.test", 1).policy),
            facts=msgspec.json.encode(row().facts),
            total=1,
        )
        house.store.write_now(lambda tx: rows.add_results(tx, ResultKind.DMARC, [late], room=9))
        (done,) = await house.sender.send_due()
        assert done.is_over and not done.is_sent
        house.collector.add(below("evil.test", 1))
        await house.collector.flush()
        await tomorrow(house)
        (done,) = await house.sender.send_due()
        assert done.is_sent

    run_virtual(main)


@pytest.mark.parametrize("kind", list(ResultKind))
def test_a_report_that_is_cut_to_fit_a_mail_counts(tmp_path: Path, kind: ResultKind) -> None:
    async def main(world: World) -> None:
        options = msgspec.structs.replace(OPTIONS, mail_octets_max=4_000)
        house = House(tmp_path, world, options)
        house.zone(
            "_smtp._tls.there.example",
            "v=TLSRPTv1;rua=mailto:tls@there.example,https://there.example/tls",
        )
        for n in range(1_000):
            address = f"192.0.{n // 250}.{n % 250}"
            if kind is ResultKind.DMARC:
                house.collector.add(row(source_ip=address))
            else:
                failed = TlsFacts(trouble=ResultType.VALIDATION_FAILURE, receiving_ip=address)
                house.collector.add_tls(msgspec.structs.replace(TLS, facts=failed))
        await house.collector.flush()
        (done,) = await house.sender.send_due(is_everything=True)
        assert done.is_sent
        assert house.reached() == {"reports.mail_octets_max": 1}
        ((_, octets),) = house.mails()
        assert isinstance(read_report(octets), AggregateReport | TlsReport)
        assert len(octets) < 6_000

    run_virtual(main)


def test_a_crash_between_any_two_steps_sends_it_once_and_loses_nothing(tmp_path: Path) -> None:
    """The mark, the mail and the results' end are one commit (P1, F8)."""

    async def main(world: World) -> None:
        house = House(tmp_path, world)
        house.collector.add(row(), 7)
        await house.collector.flush()
        await tomorrow(house)

        def dies(tx: object, octets: bytes, domain: str) -> bytes:
            raise RuntimeError("killed in the middle of the unit of work")

        sender = house.new_sender()
        sender._sign = dies
        with pytest.raises(RuntimeError):
            await sender.send_due()
        assert house.mails() == []
        assert house.store.read_now(lambda tx: rows.sent(tx, limit=9)) == []
        await house.sender.send_due()
        ((_, octets),) = house.mails()
        assert aggregate(octets).messages == 7
        await house.new_sender().send_due()  # a process that knows nothing of it
        assert len(house.mails()) == 1

    run_virtual(main)


def test_two_servers_over_one_store_send_it_once(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        house = House(tmp_path, world)
        house.collector.add(row())
        await house.collector.flush()
        await tomorrow(house)
        other = house.new_sender()
        ((kind, due),) = await house.sender.due()
        plans = [await sender.plan(kind, due) for sender in (house.sender, other)]
        for sender, plan in zip((house.sender, other), plans):
            assert plan is not None
            await sender.send(plan)
        assert len(house.mails()) == 1

    run_virtual(main)


def test_what_comes_while_a_report_is_made_is_in_the_next_one(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        house = House(tmp_path, world)
        house.collector.add(row(), 5)
        await house.collector.flush()
        ((kind, due),) = await house.sender.due(is_everything=True)
        plan = await house.sender.plan(kind, due)
        assert plan is not None
        house.collector.add(row(), 2)
        await house.collector.flush()
        await house.sender.send(plan)
        await tomorrow(house)
        await house.sender.send_due()
        reports = [aggregate(octets) for _, octets in house.mails()]
        assert [report.messages for report in reports] == [5, 2]
        # RFC 9990 §3.1.1.4: periods do not overlap; §3.5.1: ids differ.
        assert reports[1].begin_s > reports[0].end_s or reports[0].begin_s == reports[0].end_s
        assert reports[0].report_id != reports[1].report_id

    run_virtual(main)


def test_the_last_policy_of_the_day_is_told(tmp_path: Path) -> None:
    """RFC 9990 §3.1: one configuration in a report, and the final one at that."""

    async def main(world: World) -> None:
        house = House(tmp_path, world)
        house.collector.add(row())
        await house.collector.flush()
        await world.clock.sleep(60)
        house.collector.add(row(policy=msgspec.structs.replace(POLICY, policy=Disposition.NONE)))
        house.collector.add(row(policy=msgspec.structs.replace(POLICY, failure_options=("1",))))
        await house.collector.flush()
        await world.clock.sleep(60)
        house.collector.add(row(policy=msgspec.structs.replace(POLICY, failure_options=("1",))))
        await house.collector.flush()
        await house.sender.send_due(is_everything=True)
        ((_, octets),) = house.mails()
        report = aggregate(octets)
        assert (report.policy.p, report.policy.fo, report.messages) == ("reject", "1", 4)

    run_virtual(main)


def test_a_dns_that_fails_is_asked_again_for_a_day(tmp_path: Path) -> None:  # F23
    async def main(world: World) -> None:
        house = House(tmp_path, world)
        policy = msgspec.structs.replace(POLICY, aggregate_uris=("mailto:r@red.test",))
        house.collector.add(row(policy=policy))
        await house.collector.flush()
        await tomorrow(house)
        from posthouse.sim.dns import DnsFault

        world.zones.fault("_dmarc.red.test", DnsFault.SERVFAIL)
        (done,) = await house.sender.send_due()
        assert not done.is_sent and not done.is_over
        assert await house.sender.send_due() == []  # not at once
        await world.clock.sleep(16 * 60)
        assert len(await house.sender.send_due()) == 1
        await world.clock.sleep(2 * DAY_S)
        (done,) = await house.sender.send_due()
        assert done.is_over and done.outcome.startswith("given up")
        assert await house.sender.send_due() == []

    run_virtual(main)


def test_reports_of_a_day_do_not_all_leave_at_once(tmp_path: Path) -> None:
    """RFC 8460 §4.1."""

    async def main(world: World) -> None:
        house = House(tmp_path, world)
        begin = 20_000 * DAY_S * US
        times = {house.sender.due_at(ResultKind.DMARC, f"d{n}.example", begin) for n in range(200)}
        assert max(times) - min(times) > 3 * 3600 * US
        again = house.new_sender()
        assert {again.due_at(ResultKind.DMARC, f"d{n}.example", begin) for n in range(200)} == times

    run_virtual(main)


# --- TLS ---


def test_a_tls_report_goes_where_the_record_says(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        house = House(tmp_path, world)
        house.zone(
            "_smtp._tls.there.example",
            "v=TLSRPTv1;rua=mailto:tls@there.example,https://there.example/tls",
        )
        house.collector.add_tls(TLS, 5)
        house.collector.add_tls(TLS_FAILED, 2)
        await house.collector.flush()
        await tomorrow(house)
        (done,) = await house.sender.send_due()
        assert done.is_sent
        ((recipients, octets),) = house.mails()
        assert [each.address for each in recipients] == ["tls@there.example"]
        report = read_report(octets)
        assert isinstance(report, TlsReport)
        assert (report.policies[0].successes, report.policies[0].failures) == (5, 2)
        ((url, posted, media_type),) = house.fetch.posts
        assert (url, media_type) == ("https://there.example/tls", "application/tlsrpt+gzip")
        assert read_report(posted) == report

    run_virtual(main)


def test_a_tls_report_gets_through_where_tls_does_not(tmp_path: Path) -> None:
    """RFC 8460 §3, §5.3: MTA-STS and DANE are not honoured for it (RFC 8689 §5)."""

    async def main(world: World) -> None:
        house = House(tmp_path, world)
        house.zone("_smtp._tls.there.example", "v=TLSRPTv1;rua=mailto:tls@there.example")
        house.collector.add_tls(TLS_FAILED)
        await house.collector.flush()
        await house.sender.send_due(is_everything=True)
        ((_, octets),) = house.mails()
        assert read_section(octets).first(b"tls-required") == b"No"
        demand = house.store.read_now(lambda tx: tx.one("SELECT tls_demand FROM message"))
        assert demand == (TlsDemand.OPTIONAL,)

    run_virtual(main)


@pytest.mark.parametrize("result", [row(), TLS], ids=["dmarc", "tls"])
def test_an_unsigned_report_waits_for_a_key(tmp_path: Path, result: DmarcRow | TlsRow) -> None:
    """RFC 9990 §3.5.2: it has to pass DMARC; RFC 8460 §3: it MUST be signed."""

    async def main(world: World) -> None:
        house = House(tmp_path, world)
        house.zone("_smtp._tls.there.example", "v=TLSRPTv1;rua=mailto:tls@there.example")
        house.has_key = False
        if isinstance(result, TlsRow):
            house.collector.add_tls(result)
        else:
            house.collector.add(result)
        await house.collector.flush()
        assert not house.sender.can_sign()
        (done,) = await house.sender.send_due(is_everything=True)
        assert not done.is_sent and not done.is_over
        assert "no DKIM key signs yet for here.example" in done.outcome
        assert house.mails() == []
        assert house.store.read_now(lambda tx: rows.sent(tx, limit=9)) == []
        house.has_key = True
        (done,) = await house.sender.send_due(is_everything=True)
        assert done.is_sent and len(house.mails()) == 1

    run_virtual(main)


def test_without_a_key_a_tls_report_still_goes_by_https(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        house = House(tmp_path, world)
        house.has_key = False
        house.zone(
            "_smtp._tls.there.example",
            "v=TLSRPTv1;rua=mailto:t@there.example,https://there.example/",
        )
        house.collector.add_tls(TLS)
        await house.collector.flush()
        (done,) = await house.sender.send_due(is_everything=True)
        assert done.is_sent and "none by mail" in done.outcome
        assert house.mails() == [] and len(house.fetch.posts) == 1

    run_virtual(main)


def test_a_web_server_that_fails_is_tried_again(tmp_path: Path) -> None:
    """RFC 8460 §5.5."""

    async def main(world: World) -> None:
        house = House(tmp_path, world)
        house.zone("_smtp._tls.there.example", "v=TLSRPTv1;rua=https://there.example/tls")
        house.collector.add_tls(TLS)
        await house.collector.flush()
        await tomorrow(house)
        house.fetch.is_down = True
        (done,) = await house.sender.send_due()
        assert not done.is_over and "nobody answers" in done.outcome
        house.fetch.is_down, house.fetch.status = False, 500
        await world.clock.sleep(3600)
        (done,) = await house.sender.send_due()
        assert not done.is_over and "500" in done.outcome
        house.fetch.status = 201
        await world.clock.sleep(3600)
        (done,) = await house.sender.send_due()
        assert done.is_sent

    run_virtual(main)


def test_who_does_not_ask_for_tls_reports_gets_none(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        house = House(tmp_path, world)
        house.collector.add_tls(TLS)
        await house.collector.flush()
        (done,) = await house.sender.send_due(is_everything=True)
        assert not done.is_sent and done.is_over and "no record" in done.outcome

    run_virtual(main)


# --- the collector ---


def test_equal_rows_add_up_and_flushing_goes_on_by_itself(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        house = House(tmp_path, world)
        task = asyncio.ensure_future(house.collector.run())
        for _ in range(1_000):
            house.collector.add(row())
        assert house.collector.waiting == 1
        await world.clock.sleep(FLUSH_S + 1)
        assert house.collector.waiting == 0
        (due,) = house.store.read_now(
            lambda tx: rows.due(tx, ResultKind.DMARC, begun_before=2**62, limit=9)
        )
        assert (due.rows, due.total) == (1, 1_000)
        task.cancel()

    run_virtual(main)


def test_rows_that_find_no_room_are_counted_and_the_rest_goes_on(tmp_path: Path) -> None:  # P9
    async def main(world: World) -> None:
        options = msgspec.structs.replace(OPTIONS, rows_max=10, results_max=4)
        house = House(tmp_path, world, options)
        for n in range(20):
            house.collector.add(row(source_ip=f"192.0.2.{n}"))
        house.collector.add(row(source_ip="192.0.2.0"))
        assert house.collector.waiting == 10
        await house.collector.flush()
        assert house.store.read_now(lambda tx: rows.result_count(tx, ResultKind.DMARC)) == 4
        assert house.collector.lost == 10 + 6
        assert sum(b"limit.reached" in line for line in house.lines) == 2

    run_virtual(main)


def test_a_store_that_is_busy_costs_no_row(tmp_path: Path) -> None:
    from posthouse.kernel.errors import StorageBusy

    async def main(world: World) -> None:
        house = House(tmp_path, world)
        submit = house.store.submit

        def busy(unit: object, **rest: object) -> object:
            future = asyncio.get_running_loop().create_future()
            future.set_exception(StorageBusy("busy"))
            return future

        house.collector.add(row(), 3)
        house.store.submit = busy  # type: ignore[method-assign, assignment]
        await house.collector.flush()
        house.collector.add(row(), 2)
        house.store.submit = submit  # type: ignore[method-assign]
        await house.collector.flush()
        (due,) = house.store.read_now(
            lambda tx: rows.due(tx, ResultKind.DMARC, begun_before=2**62, limit=9)
        )
        assert due.total == 5

    run_virtual(main)


def test_what_is_switched_off_is_neither_counted_nor_sent(tmp_path: Path) -> None:
    async def main(world: World) -> None:
        options = msgspec.structs.replace(OPTIONS, sends_dmarc=False, sends_tls=False)
        house = House(tmp_path, world, options)
        house.collector.add(row())
        house.collector.add_tls(TLS)
        assert house.collector.waiting == 0
        assert await house.sender.send_due(is_everything=True) == []

    run_virtual(main)
