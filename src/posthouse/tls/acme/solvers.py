"""The three ways to prove that a name is ours: ports 80 and 443, and the DNS.

`Answers` is what our listeners ask while a proof is open: the web for http-01, `tls.certificates`
for tls-alpn-01. Nothing is answered that was not put there for this very name.
"""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from posthouse.kernel.ports import (
    Clock,
    DnsStatus,
    DnsUpdateFailed,
    DnsUpdater,
    RecordType,
    Resolver,
)
from posthouse.tls.acme.keys import challenge_certificate
from posthouse.tls.acme.options import Kind
from posthouse.tls.acme.trouble import OrderFailed
from posthouse.tls.certificates import ACME_ALPN
from posthouse.tls.contexts import server_context

if TYPE_CHECKING:
    from posthouse.tls.acme.authority import Proof

TXT_TTL_S: Final = 60
ALIASES_MAX: Final = 4
DNS_LABEL: Final = "_acme-challenge"  # RFC 8555 §8.4


class Answers:
    """Open proofs, by name."""

    def __init__(self) -> None:
        self.texts: dict[tuple[str, str], str] = {}
        self.contexts: dict[str, ssl.SSLContext] = {}

    def text(self, host: str, token: str) -> str | None:
        """The key authorization of http-01 (RFC 8555 §8.3)."""
        return self.texts.get((host, token))

    def context(self, name: str) -> ssl.SSLContext | None:
        """What answers tls-alpn-01 for a name (RFC 8737 §3)."""
        return self.contexts.get(name)


class Solver(Protocol):
    """One way of proving."""

    @property
    def kind(self) -> Kind: ...

    async def put(self, proof: Proof) -> None:
        """Have the answer in place when this returns. Raises OrderFailed."""
        ...

    async def remove(self, proof: Proof) -> None:
        """Take it back; raises nothing."""
        ...


class Http01:
    kind = Kind.HTTP_01

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def put(self, proof: Proof) -> None:
        self._answers.texts[proof.name, proof.token] = proof.key_authorization

    async def remove(self, proof: Proof) -> None:
        self._answers.texts.pop((proof.name, proof.token), None)


class TlsAlpn01:
    kind = Kind.TLS_ALPN_01

    def __init__(self, answers: Answers, clock: Clock) -> None:
        self._answers = answers
        self._clock = clock

    async def put(self, proof: Proof) -> None:
        chain, key = challenge_certificate(proof.name, proof.key_authorization, self._clock.now())
        self._answers.contexts[proof.name] = _context(chain, key)

    async def remove(self, proof: Proof) -> None:
        self._answers.contexts.pop(proof.name, None)


def _context(chain: bytes, key: bytes) -> ssl.SSLContext:
    context = server_context()
    context.set_alpn_protocols([ACME_ALPN.decode("ascii")])
    # `ssl` loads from files only; these are gone before anybody could look for them.
    with tempfile.TemporaryDirectory(prefix="posthouse-acme-") as folder:
        chain_file, key_file = Path(folder, "chain.pem"), Path(folder, "key.pem")
        chain_file.write_bytes(chain)
        key_file.write_bytes(key)
        context.load_cert_chain(str(chain_file), str(key_file))
    return context


class Dns01:
    kind = Kind.DNS_01

    def __init__(
        self,
        updater: DnsUpdater,
        *,
        resolver: Resolver,
        clock: Clock,
        settle_s: float,
        on_leftover: Callable[[str, str], None],
    ) -> None:
        """Args:
        on_leftover: told of a name whose text could not be removed, and why.
        """
        self._updater = updater
        self._resolver = resolver
        self._clock = clock
        self._settle_s = settle_s
        self._on_leftover = on_leftover

    async def put(self, proof: Proof) -> None:
        name = await self._target(f"{DNS_LABEL}.{proof.name}")
        try:
            await self._updater.put_txt(name, [proof.dns_text], TXT_TTL_S)
        except DnsUpdateFailed as error:
            raise OrderFailed(f"{proof.name}: {error}", hint=error.hint) from error
        await self._clock.sleep(self._settle_s)

    async def remove(self, proof: Proof) -> None:
        name = await self._target(f"{DNS_LABEL}.{proof.name}")
        try:
            await self._updater.remove_txt(name, [proof.dns_text])
        except DnsUpdateFailed as error:
            self._on_leftover(name, str(error))

    async def _target(self, name: str) -> str:
        """Where a CNAME leads: many let one zone take the challenges of all."""
        for _ in range(ALIASES_MAX):
            answer = await self._resolver.resolve(name, RecordType.CNAME)
            if answer.status is not DnsStatus.FOUND or not answer.records:
                break
            name = str(answer.records[0])
        return name
