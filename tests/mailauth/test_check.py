"""All checks of a message under one deadline: what was known about a policy stays known."""

from __future__ import annotations

import asyncio

from posthouse.kernel.envelope import Address
from posthouse.kernel.ports import DnsAnswer, DnsStatus, RecordType
from posthouse.mailauth.check import Checks, Mail, Options, prepare
from posthouse.mailauth.results import Disposition, Result
from posthouse.message.fields import read_section

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


async def test_a_policy_that_the_cache_forgets_meanwhile_still_counts() -> None:
    """A forger whose own DNS is slow chooses the moment: just before the answer's TTL is over."""
    mail = Mail(
        octets=OCTETS,
        section=read_section(OCTETS),
        address="192.0.2.1",
        hello="forger.example",
        reverse_path=Address("x", "forger.example"),
    )
    checks = Checks(mail, prepare(mail, OPTIONS), OPTIONS, now_unix_s=0, questions_max=100)
    resolver = Forgetful()
    assert checks.start(resolver.known) is None
    late = asyncio.Event()
    ending = asyncio.ensure_future(checks.finish(resolver, lambda seconds: late.wait()))
    while "_dmarc.bank.example" not in resolver.told:
        await asyncio.sleep(0)
    late.set()  # the deadline
    checked = await ending
    assert checked.spf.result is Result.TEMPERROR
    assert (checked.counted.result, checked.counted.requested) == (Result.FAIL, Disposition.REJECT)
