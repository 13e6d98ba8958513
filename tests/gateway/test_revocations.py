"""Certificates that their issuers have taken back, as arriving mail shows them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
import pytest
from cryptography import x509
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID

from posthouse.accounts.mail_policy import Mode
from posthouse.gateway.revocations import Options, Papers, Revocations, links_of
from posthouse.kernel.ports import Fetched, FetchFailed, FetchTrouble
from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.opening import Opened, open_message
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.smime.chain import Trust
from posthouse.mimesec.smime.identity import Identity
from posthouse.mimesec.smime.opener import SmimeOpener
from posthouse.mimesec.smime.signer import SmimeSigner
from posthouse.sending import MessageError
from tests.gateway.house import ADA, HandClock, House
from tests.gateway.test_incoming import results
from tests.mimesec.smime.people import ALICE, AT, authority
from tests.mimesec.smime.test_chain import CA, MAIL, issued
from tests.mimesec.smime.test_revocation import crl, response

T = TypeVar("T")

LIST, RESPONDER = "http://lists.example.test/one.crl", "http://ocsp.example.test"
HOUR = 3600.0
LETTER = f"From: {ALICE}\r\nTo: {ADA}\r\nSubject: Map\r\n\r\nthe oak\r\n".encode()


class Inline:
    async def run(self, work: Callable[[], T]) -> T:
        return work()


class Lists:
    """What issuers show, by the beginning of a URL."""

    def __init__(self, pages: dict[str, bytes | int] | None = None) -> None:
        self.pages = pages or {}
        self.asked: list[str] = []
        self.delay: Callable[[], Awaitable[None]] | None = None

    async def get(
        self, url: str, *, octets_max: int, timeout_s: float, allow_http: bool = False
    ) -> Fetched:
        assert allow_http
        self.asked.append(url)
        if self.delay is not None:
            await self.delay()
        for begin, page in self.pages.items():
            if url.startswith(begin):
                status, octets = (page, b"") if isinstance(page, int) else (200, page)
                return Fetched(status=status, media_type="", octets=octets)
        raise FetchFailed("nobody is there", FetchTrouble.CONNECT)

    async def post(self, url: str, octets: bytes, **named: Any) -> Fetched:
        raise AssertionError("nothing is posted")


def points(*urls: str) -> tuple[x509.ExtensionType, bool]:
    names = [x509.UniformResourceIdentifier(url) for url in urls]
    return x509.CRLDistributionPoints([x509.DistributionPoint(names, None, None, None)]), False


def responders(*urls: str) -> tuple[x509.ExtensionType, bool]:
    kind = AuthorityInformationAccessOID.OCSP
    named = [x509.AccessDescription(kind, x509.UniformResourceIdentifier(url)) for url in urls]
    return x509.AuthorityInformationAccess(named), False


BOTH = (points(LIST), responders(RESPONDER))


def signed(by: Identity) -> bytes:
    return protect(LETTER, Protection(signer=SmimeSigner(by)), at=AT)


def opened(by: Identity, *, root: Identity | None = None) -> Opened:
    trust = Trust(roots=[(root or authority()).certificate])
    return open_message(signed(by), [SmimeOpener(trust=trust)], at=AT)


def roots(root: Identity | None = None) -> tuple[bytes, ...]:
    return (Identity.certificates_pem(root or authority()),)


def asking(lists: Lists, clock: HandClock | None = None, **options: Any) -> Revocations:
    return Revocations(
        Options(**options), fetch=lists, clock=clock or HandClock(AT), workers=Inline()
    )


def said(lists: Lists, who: Identity, **options: Any) -> Papers:
    return run(asking(lists, **options).of(opened(who), roots(), AT))


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


@pytest.fixture
def alice() -> Identity:
    return issued(authority(), MAIL, *BOTH)


def test_the_list_of_the_issuer_is_asked_and_nobody_else(alice: Identity) -> None:
    lists = Lists({LIST: crl(alice)})
    papers = said(lists, alice)
    assert papers.revoked == (alice.certificate.fingerprint,) and papers.crls and not papers.ocsp
    assert lists.asked == [LIST]


def test_who_is_not_on_the_list_stays_valid(alice: Identity) -> None:
    other = issued(authority(), MAIL)
    lists = Lists({LIST: crl(other)})
    assert not said(lists, alice)
    assert lists.asked == [LIST]  # its word is enough


@pytest.mark.parametrize(
    "page",
    [404, b"no list", crl(issuer=issued(authority(), CA, name="Other"))],
    ids=["missing", "unreadable", "of another"],
)
def test_the_responder_is_asked_where_there_is_no_list(alice: Identity, page: Any) -> None:
    lists = Lists({LIST: page, RESPONDER: response(alice)})
    papers = said(lists, alice)
    assert papers.revoked == (alice.certificate.fingerprint,) and papers.ocsp and not papers.crls
    assert lists.asked[0] == LIST and lists.asked[1].startswith(f"{RESPONDER}/M")


def test_a_signature_stands_where_nobody_answers(alice: Identity) -> None:
    assert not said(Lists(), alice)
    good = response(alice, status=ocsp.OCSPCertStatus.GOOD)
    assert not said(Lists({RESPONDER: good}), alice)


def test_an_authority_between_may_be_revoked() -> None:
    between = issued(authority(), CA, points(LIST), name="Between")
    leaf = issued(between, MAIL)
    papers = said(Lists({LIST: crl(between)}), leaf)
    assert papers.revoked == (between.certificate.fingerprint,)


def test_only_what_a_trusted_authority_has_issued_makes_us_go_anywhere(alice: Identity) -> None:
    """Else a stranger could send us to any place, or learn who reads their mail."""
    lists = Lists({LIST: crl(alice)})
    own = issued(issued(authority(), CA, name="Stranger"), MAIL, *BOTH)
    stranger = Identity(own.key, own.certificate, ())
    found = opened(stranger)
    assert [one.result for one in found.sections[0].signatures] == [SignatureResult.UNTRUSTED]
    assert not run(asking(lists).of(found, roots(), AT))
    # what a process that read strangers' octets calls valid is looked at again here
    forged = opened(alice)
    assert links_of(forged, (), AT) == ()
    assert lists.asked == []


def test_it_can_be_switched_off(alice: Identity) -> None:
    lists = Lists({LIST: crl(alice)})
    assert not said(lists, alice, is_enabled=False)
    assert lists.asked == []


def test_a_list_is_kept_until_its_issuer_shows_the_next(alice: Identity) -> None:
    lists, clock = Lists({LIST: crl(alice, made=AT - timedelta(days=6.5))}), HandClock(AT)
    many = asking(lists, clock)
    letter = opened(alice)

    async def several() -> None:
        both = await asyncio.gather(*(many.of(letter, roots(), AT) for _ in range(3)))
        assert all(both) and len(lists.asked) == 1
        clock.passed_s = 11.9 * HOUR
        assert await many.of(letter, roots(), AT) and len(lists.asked) == 1
        clock.passed_s = 12.1 * HOUR
        assert await many.of(letter, roots(), AT) and len(lists.asked) == 2

    run(several())


def test_a_place_without_an_answer_is_left_alone_for_a_while(alice: Identity) -> None:
    lists, clock = Lists(), HandClock(AT)
    many = asking(lists, clock)

    async def several() -> None:
        for _ in range(3):
            await many.of(opened(alice), roots(), AT)
        assert len(lists.asked) == 2  # the list and the responder
        clock.passed_s = HOUR
        await many.of(opened(alice), roots(), AT)
        assert len(lists.asked) == 4

    run(several())


def test_a_slow_issuer_holds_up_one_message_only_and_not_for_long(alice: Identity) -> None:
    lists = Lists({LIST: crl(alice)})

    async def never() -> None:
        await asyncio.Event().wait()

    lists.delay = never
    many = asking(lists, deadline_s=0.05)

    async def several() -> None:
        assert not await many.of(opened(alice), roots(), AT)
        lists.delay = None
        assert not await many.of(opened(alice), roots(), AT)

    run(several())
    assert lists.asked[0] == LIST and lists.asked.count(LIST) == 1


def test_lists_do_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = [f"http://lists.example.test/{number}.crl" for number in range(5)]
    people = [issued(authority(), MAIL, points(url)) for url in urls]
    lists = Lists({url: crl(who) for url, who in zip(urls, people, strict=True)})
    many = asking(lists)
    room = 2 * len(crl(people[0])) + 100
    monkeypatch.setattr("posthouse.gateway.revocations.KEPT_OCTETS_MAX", room)

    async def all_of_them() -> None:
        for who in people:
            assert await many.of(opened(who), roots(), AT)
            assert many._octets <= room
        assert await many.of(opened(people[0]), roots(), AT)

    run(all_of_them())
    assert len(lists.asked) == len(people) + 1


# --- in a server ---


def test_mail_signed_by_a_revoked_certificate_is_told_as_such(house: House) -> None:
    alice = issued(authority(), MAIL, points(LIST))
    incoming = house.node.gateway.incoming
    incoming.options = msgspec.structs.replace(incoming.options, roots=roots())
    lists = Lists({LIST: crl()})
    house.node.gateway.revocations._fetch = lists
    house.node.gateway.revocations._clock = clock = HandClock(AT)
    incoming._clock = clock
    house.give_key(ADA)
    house.say(ADA, open=Mode.WHEN_POSSIBLE, encrypt=Mode.ALWAYS)
    house.arrive(signed(alice), [ADA], sender=ALICE)
    assert "smime=pass" in results(house.stored(ADA))
    (key,) = house.keys_of(ALICE)
    assert key.revoked_at is None
    lists.pages[LIST] = crl(alice)
    clock.passed_s = 25 * HOUR
    house.arrive(signed(alice), [ADA], sender=ALICE)
    shown = results(house.stored(ADA, count=2))
    assert "smime=pass" not in shown and "was revoked on 2026-03-03" in shown
    (key,) = house.keys_of(ALICE)
    assert key.revoked_at is not None  # and nothing is encrypted to it any more
    with pytest.raises(MessageError, match="no key to encrypt to"):
        house.send(ADA, [ALICE])
