"""All checks of a message under one deadline: what was known about a policy stays known."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from posthouse.kernel.envelope import Address
from posthouse.kernel.ports import DnsAnswer, DnsStatus, RecordType, Resolver
from posthouse.mailauth.check import Checked, Checks, Mail, Options, prepare
from posthouse.mailauth.dkim.grammar import RSA
from posthouse.mailauth.dkim.keys import key_record
from posthouse.mailauth.dkim.sign import SigningKey, generate, load_private, sign
from posthouse.mailauth.results import Disposition, Result
from posthouse.message.fields import read_section
from posthouse.sim.workers import InlineWorkers

OPTIONS = Options(receiver="mx.example")
OCTETS = b"From: <boss@bank.example>\r\n\r\nhi\r\n"
POLICY = DnsAnswer(status=DnsStatus.FOUND, records=(b"v=DMARC1; p=reject",))
NOTHING = DnsAnswer(status=DnsStatus.NO_NAME)


class Forgetful:
    """Knows each answer about policies once, as a cache whose time for it is over a moment later;
    the name servers of the forger never answer."""

    def __init__(self) -> None:
        self.told: set[str] = set()

    def known(self, name: str, record_type: RecordType) -> DnsAnswer | None:
        if not name.startswith("_dmarc.") or name in self.told:
            return None
        self.told.add(name)
        return POLICY if name == "_dmarc.bank.example" else NOTHING

    async def resolve(self, name: str, record_type: RecordType) -> DnsAnswer:
        await asyncio.Event().wait()
        raise AssertionError


def finished(checks: Checks, resolver: Resolver, late: asyncio.Event) -> Awaitable[Checked]:
    return checks.finish(resolver, lambda seconds: late.wait(), InlineWorkers())


async def test_a_policy_that_the_cache_forgets_meanwhile_still_counts() -> None:
    """A forger whose own DNS is slow chooses the moment: just before the answer's TTL is over."""
    mail = Mail(
        octets=OCTETS,
        section=read_section(OCTETS),
        address="192.0.2.1",
        hello="forger.example",
        reverse_path=Address("x", "forger.example"),
    )
    checks = Checks(mail, prepare(mail, OPTIONS), OPTIONS, now_unix_s=0)
    resolver = Forgetful()
    assert checks.start(resolver.known) is None
    late = asyncio.Event()
    ending = asyncio.ensure_future(finished(checks, resolver, late))
    while "_dmarc.bank.example" not in resolver.told:
        await asyncio.sleep(0)
    late.set()  # the deadline
    checked = await ending
    assert checked.spf.result is Result.TEMPERROR
    assert (checked.counted.result, checked.counted.requested) == (Result.FAIL, Disposition.REJECT)


class Knowing:
    """A resolver that has every answer at hand."""

    def known(self, name: str, record_type: RecordType) -> DnsAnswer | None:
        if "_domainkey" in name:
            return DnsAnswer(
                status=DnsStatus.FOUND, records=(key_record(RSA, PUBLIC).encode(),), ttl_s=9.0
            )
        return NOTHING

    async def resolve(self, name: str, record_type: RecordType) -> DnsAnswer:
        found = self.known(name, record_type)
        assert found is not None
        return found


NEW = generate(RSA)
PUBLIC = NEW.public


# H42, H46
@pytest.mark.parametrize("count", [1, 8])
async def test_many_signatures_are_verified_off_the_event_loop(count: int) -> None:
    key = SigningKey(
        domain="x.example", selector="s", algorithm=RSA, private=load_private(NEW.private)
    )
    octets = OCTETS
    for _ in range(count):
        octets = sign(read_section(octets), [key], now_unix_s=0, expires_s=None) + octets
    mail = Mail(
        octets=octets,
        section=read_section(octets),
        address="192.0.2.1",
        hello="x.example",
        reverse_path=None,
    )
    checks = Checks(mail, prepare(mail, OPTIONS), OPTIONS, now_unix_s=0)
    workers = InlineWorkers()
    known = checks.start(Knowing().known)
    if count == 1:
        assert known is not None
        return
    assert known is None
    checked = await checks.finish(Knowing(), lambda seconds: asyncio.Event().wait(), workers)
    assert workers.finished == 1
    assert [one.result for one in checked.dkim] == [Result.PASS] * count
