"""Transport security between hosts of the laboratory, over real sockets, DNS and HTTPS."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from posthouse.config.schema import Service
from posthouse.kernel.tls_result import PolicyType, ResultType
from posthouse.queue import admin
from posthouse.relay.tls_result import TlsResult
from posthouse.sim.ground import Loopback
from posthouse.sim.lab import PASSWORD, Lab, quick_retries
from posthouse.sim.personality import EXTENSIONS, Personality, Starttls
from posthouse.sim.talk import log_in, stuffed
from posthouse.sim.web import WebPeer, page
from tests.relay.certificates import AUTHORITY, STRANGER, in_zone, serving, tlsa_3_1_1

ADA, FAR = "ada@north.example", "you@far.example"
WORKS = Personality(starttls=Starttls.WORKS, extensions=(*EXTENSIONS, "REQUIRETLS"))
GOOD = AUTHORITY.issue_cert("*.far.example")
WRONG = STRANGER.issue_cert("*.far.example")
POLICY = "version: STSv1\r\nmode: enforce\r\nmx: *.far.example\r\nmax_age: 86400\r\n"


class Place:
    """The laboratory with a far domain: its host, its web server, and what the relay tells."""

    def __init__(self, lab: Lab, web: WebPeer) -> None:
        self.lab = lab
        self.web = web
        self.told: list[TlsResult] = []
        lab.node("north").node.relay.on_tls = self.told.append

    async def peer(self, certificate=GOOD, personality: Personality = WORKS):
        return await self.lab.peer(personality, domain="far.example", tls=serving(certificate))

    def sts(self, record: str = "1") -> None:
        zones = self.lab.zones
        zones.add("mta-sts.far.example", "A", self.web.address[0])
        zones.remove("_mta-sts.far.example", "TXT")
        zones.add("_mta-sts.far.example", "TXT", f'"v=STSv1; id={record};"')

    def dane(self, certificate) -> None:
        zones = self.lab.zones
        (host,) = self.lab.peers
        name = f"_{self.lab.ground.ports[Service.MX]}._tcp.{host}"
        zones.sign("far.example")
        zones.remove(name, "TLSA")
        zones.add(name, "TLSA", in_zone(tlsa_3_1_1(certificate)), ttl_s=0)

    async def retried(self) -> None:
        """A person asks for another attempt, as the host is left alone for a while."""
        north = self.lab.node("north")
        selection = admin.Selection(is_everything=True)

        async def is_waiting() -> bool:
            changed = await north.write(lambda tx: admin.retry(tx, selection, by="test"))
            return changed.count > 0

        await self.lab.until(is_waiting)
        await self.lab.settled()

    async def until(self, true: Callable[[], bool]) -> None:
        async def check() -> bool:
            return true()

        await self.lab.until(check)

    @property
    def kinds(self) -> set[tuple[PolicyType, ResultType]]:
        return {(one.policy_type, one.result) for one in self.told}


@contextlib.asynccontextmanager
async def placed(folder: Path, *, web_certificate=None) -> AsyncIterator[Place]:
    roots = folder / "roots.pem"
    roots.write_bytes(AUTHORITY.cert_pem.bytes())
    ground = Loopback(ca_file=roots)
    web = WebPeer(
        serving(web_certificate or AUTHORITY.issue_cert("mta-sts.far.example")), page(POLICY)
    )
    await web.serve(ground.address(200))
    ground.https_port = web.address[1]
    try:
        async with Lab(ground, change=quick_retries()) as lab:
            yield Place(lab, web)
    finally:
        await web.close()


# Show 3 of the issue: enforce with a wrong certificate defers and reports; F28
async def test_mta_sts_holds_back_mail_from_a_wrong_certificate(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        peer = await place.peer(WRONG)
        place.sts()
        await place.lab.send(ADA, FAR)
        await place.until(lambda: len(place.told) > 0)
        assert not peer.messages
        assert place.kinds == {(PolicyType.STS, ResultType.CERTIFICATE_NOT_TRUSTED)}
        assert place.told[0].policy_strings[1] == "mode: enforce"
        assert place.told[0].receiving_ip == peer.address[0] and place.told[0].sending_ip
        peer.tls = serving(GOOD)
        await place.retried()
        (message,) = peer.messages
        assert message.is_tls
        assert len(place.web.requests) == 1, "the policy is kept"


async def test_a_policy_is_only_believed_from_a_verified_web_server(tmp_path: Path) -> None:
    certificate = STRANGER.issue_cert("mta-sts.far.example")
    async with placed(tmp_path, web_certificate=certificate) as place:
        peer = await place.peer(WRONG)
        place.sts()
        await place.lab.send(ADA, FAR)
        await place.lab.settled()
        assert len(peer.messages) == 1
        assert (PolicyType.STS, ResultType.STS_WEBPKI_INVALID) in place.kinds


# Show 3 of the issue: DANE with a wrong TLSA record defers, with the right one delivers
async def test_dane_holds_back_mail_from_a_wrong_key(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        peer = await place.peer(WRONG)
        place.dane(GOOD)
        await place.lab.send(ADA, FAR)
        await place.until(lambda: len(place.told) > 0)
        assert not peer.messages
        assert place.kinds == {(PolicyType.TLSA, ResultType.CERTIFICATE_NOT_TRUSTED)}
        place.dane(WRONG)
        await place.retried()
        assert len(peer.messages) == 1 and peer.messages[0].is_tls


# Show 3 of the issue, F28: STARTTLS stripped is caught in both
@pytest.mark.parametrize("kind", ["mta-sts", "dane"])
@pytest.mark.parametrize("starttls", [Starttls.ABSENT, Starttls.REFUSED, Starttls.ABORTED])
async def test_starttls_that_was_stripped_is_noticed(tmp_path: Path, kind, starttls) -> None:
    async with placed(tmp_path) as place:
        peer = await place.peer(personality=Personality(starttls=starttls))
        if kind == "dane":
            place.dane(GOOD)
        else:
            place.sts()
        await place.lab.send(ADA, FAR)
        await place.until(lambda: len(place.told) > 0)
        assert not peer.messages
        assert {policy for policy, _ in place.kinds} == {
            PolicyType.TLSA if kind == "dane" else PolicyType.STS
        }
        peer.personality = WORKS
        await place.retried()
        assert peer.messages[0].is_tls


# RFC 8689: from our user's REQUIRETLS to the next host's
async def test_requiretls_goes_from_hop_to_hop(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        peer = await place.peer(WRONG)
        place.dane(WRONG)
        talk = await place.lab.connect("north", Service.SUBMISSION)
        await talk.reply()
        await log_in(talk, ADA, PASSWORD, place.lab.client_tls)
        assert (await talk.say(b"MAIL FROM:<ada@north.example> REQUIRETLS")).startswith(b"250")
        assert (await talk.say(b"RCPT TO:<you@far.example>")).startswith(b"250")
        assert (await talk.say(b"DATA")).startswith(b"354")
        talk.send(stuffed(place.lab.compose(ADA, FAR)))
        assert (await talk.reply()).startswith(b"250")
        talk.close()
        await place.lab.settled()
        assert peer.messages[0].mail.endswith(b" REQUIRETLS")


# The policy is kept over a restart (RFC 8461 §5)
async def test_a_policy_outlives_a_restart_and_its_web_server(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        peer = await place.peer(GOOD)
        place.sts()
        await place.lab.send(ADA, FAR)
        await place.lab.settled()
        await place.web.close()
        north = place.lab.node("north")
        await north.stop()
        await north.start()
        north.node.relay.on_tls = place.told.append
        peer.tls = serving(WRONG)
        place.sts(record="2")
        place.told.clear()
        await place.lab.send(ADA, FAR)
        await place.until(lambda: len(place.told) > 1)
        assert len(peer.messages) == 1
        assert place.kinds == {
            (PolicyType.STS, ResultType.STS_POLICY_FETCH_ERROR),
            (PolicyType.STS, ResultType.CERTIFICATE_NOT_TRUSTED),
        }
        peer.tls = serving(GOOD)
        await place.retried()


# F42, over real sockets: aliases of two hosts that point at each other, and one at itself
async def test_mail_that_goes_in_circles_ends_with_one_notice(tmp_path: Path) -> None:
    async with placed(tmp_path) as place:
        north, south = place.lab.node("north"), place.lab.node("south")
        await north.add_alias("ping@north.example", "pong@south.example")
        await south.add_alias("pong@south.example", "ping@north.example")
        await place.lab.send(ADA, "ping@north.example")
        [notice] = await place.lab.inbox(ADA, count=1)
        assert b"5.4.6" in notice and len(notice) < 64 * 1024
        await place.lab.settled()
        assert len(await place.lab.inbox(ADA)) == 1
        for node in (north, south):
            report = await node.ledger()
            assert report.is_clean and sum(report.states.values()) <= 60
