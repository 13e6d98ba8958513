"""The laboratory as a small internet of domains that vouch for their mail: forged mail under each
policy, the reports about it from one house to the other, keys that change under traffic."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from posthouse.message.fields import read_section
from posthouse.reporting import summary
from posthouse.sim.ground import Simulated
from posthouse.sim.lab import Lab, LabNode
from posthouse.sim.world import World, run_virtual
from posthouse.store import reports as rows
from posthouse.store.reports import ReportKind

DAY_S = 86_400.0
FORGED = (
    b"From: Bob <bob@south.example>\r\nTo: <ada@north.example>\r\nSubject: urgent\r\n"
    b"Message-ID: <forged@x.example>\r\n\r\nSend money.\r\n"
)
CRUEL = "stranger@elsewhere.example"


def policy(lab: Lab, text: str) -> None:
    lab.zones.remove("_dmarc.south.example", "TXT")
    lab.zones.add("_dmarc.south.example", "TXT", f'"{text}"')


def virtual(live, tmp_path: Path, *, leisure: float = 1.0) -> None:
    async def main(world: World) -> None:
        async with Lab(Simulated(world, leisure=leisure), folder=tmp_path) as lab:
            await live(lab)

    run_virtual(main)


async def told(node: LabNode, domain: str) -> summary.DmarcSummary:
    """What `posthouse report dmarc` adds up on a node."""
    found = await node.store.read(
        lambda tx: rows.reports(
            tx, kind=ReportKind.DMARC, domain=domain, limit=100, has_content=True
        )
    )
    return summary.dmarc(domain, found)


async def told_of_tls(node: LabNode, domain: str) -> summary.TlsSummary:
    found = await node.store.read(
        lambda tx: rows.reports(tx, kind=ReportKind.TLS, domain=domain, limit=100, has_content=True)
    )
    return summary.tls(domain, found)


@pytest.mark.parametrize(
    ("text", "reply", "mailbox"),
    [
        ("v=DMARC1; p=reject", "550 5.7.26", ""),
        ("v=DMARC1; p=quarantine", "250", "Junk"),
        ("v=DMARC1; p=none", "250", "INBOX"),
    ],
)
async def test_forged_mail_ends_as_its_domain_wishes(text: str, reply: str, mailbox: str) -> None:
    async with Lab() as lab:  # real sockets
        policy(lab, text)
        assert (await lab.send(CRUEL, "ada@north.example", octets=FORGED)).startswith(reply)
        assert (await lab.send("bob@south.example", "ada@north.example")).startswith("250")
        for name in ("INBOX", "Junk"):
            expected = (mailbox == name) + (name == "INBOX")
            found = await lab.inbox("ada@north.example", count=expected, mailbox=name)
            assert len(found) == expected, name


def test_what_was_forged_is_reported_and_shown_on_the_other_side(tmp_path: Path) -> None:
    async def live(lab: Lab) -> None:
        policy(lab, "v=DMARC1; p=none; rua=mailto:dmarc-reports@south.example")
        lab.zones.add("_dmarc.north.example", "TXT", '"v=DMARC1; p=reject"')
        lab.zones.add(
            "_smtp._tls.north.example", "TXT", '"v=TLSRPTv1; rua=mailto:tls-reports@north.example"'
        )
        for _ in range(3):
            assert (await lab.send(CRUEL, "ada@north.example", octets=FORGED)).startswith("250")
        assert (await lab.send("bob@south.example", "ada@north.example")).startswith("250")
        await lab.inbox("ada@north.example", count=4)
        await lab.ground.clock.sleep(2 * DAY_S)
        await lab.settled()
        south = lab.node("south")

        async def has_come() -> bool:
            return (await told(south, "south.example")).reports > 0

        await lab.until(has_come, within_s=DAY_S, what="the report")
        shown = await told(south, "south.example")
        assert (shown.reports, shown.messages, shown.passed) == (1, 4, 1)
        assert shown.left_out == 0  # the report's own mail passed DMARC's checks
        [forged] = [source for source in shown.sources if source.spf == "fail"]
        assert (forged.messages, forged.dkim, forged.disposition) == (3, "fail", "none")
        assert forged.header_from == ["south.example"]
        [own] = [source for source in shown.sources if source.dkim == "pass"]
        assert own.source_ip == south.address
        # South sent to north with TLS: north, who asked for it, hears that all went well.
        tls = await told_of_tls(lab.node("north"), "north.example")
        assert sum(line.sessions for line in tls.lines if line.result == "success") >= 1

    virtual(live, tmp_path, leisure=60.0)


async def test_a_key_changes_under_traffic_and_no_verification_fails() -> None:
    """The three steps of a rotation, with mail all the time: publish, sign, revoke."""
    async with Lab() as lab:
        lab.zones.add("_dmarc.north.example", "TXT", '"v=DMARC1; p=reject; aspf=s; adkim=s"')
        stop = asyncio.Event()

        async def traffic() -> int:
            sent = 0
            while not stop.is_set():
                reply = await lab.send("ada@north.example", "bob@south.example", subject=str(sent))
                assert reply.startswith("250"), reply
                sent += 1
            return sent

        sending = asyncio.create_task(traffic())
        north = lab.node("north")
        await lab.inbox("bob@south.example", count=5)
        await lab.give_keys(north)  # the next ones, shown by the DNS before they sign
        await lab.inbox(
            "bob@south.example", count=len(await north.messages("ada@north.example")) + 12
        )
        stop.set()
        sent = await sending
        messages = await lab.inbox("bob@south.example", count=sent)
        selectors = set()
        for message in messages:
            results = read_section(message).every(b"authentication-results")[0].decode()
            assert "dkim=pass" in results and "dmarc=pass" in results, results
            assert not re.search(r"dkim=(fail|permerror|temperror|neutral)", results), results
            selectors |= set(re.findall(r"header\.s=(\S+?);?\s", results + " "))
        assert len(selectors) >= 2
