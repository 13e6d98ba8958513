"""Where a domain shows the keys of its addresses, asked over ports.

OpenPGP keys lie in the domain's Web Key Directory and in OPENPGPKEY records (RFC 7929), S/MIME
certificates in SMIMEA records (RFC 8162). What comes by HTTPS from the domain itself or with DNSSEC
is believed for the address that was asked for, and for no other that the key names; records without
DNSSEC do not count. A certificate that its domain does not vouch for by itself (SMIMEA usage 1) is
told apart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from posthouse.kernel.ports import (
    DnsAnswer,
    DnsStatus,
    Fetch,
    FetchFailed,
    FetchTrouble,
    RecordType,
    Resolver,
)
from posthouse.message.address import AddressError
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp import dns as pgp_dns
from posthouse.mimesec.pgp import wkd
from posthouse.mimesec.smime import smimea

WKD, OPENPGPKEY, SMIMEA = "WKD", "OPENPGPKEY record", "SMIMEA record"
WKD_OCTETS_MAX: Final = 256 * 1024
WKD_S: Final = 10.0
KEYS_MAX: Final = 5
"""Of one address that are taken of what one place shows."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """What one place said."""

    where: str
    scheme: Scheme
    octets: tuple[bytes, ...] = ()
    """OpenPGP: certificates, armoured or not; S/MIME: one certificate each, DER."""
    narrowed: tuple[bytes, ...] = ()
    """S/MIME certificates that count only where they lead to an authority that whoever asks trusts
    (SMIMEA usage 1)."""
    issuers: tuple[bytes, ...] = ()
    """What may help to get there; not trusted."""
    words: str = ""
    """Why there is none that counts as it is."""
    is_for_now: bool = False
    """Of that: the next try may find one."""
    is_answer: bool = True
    """The place was reached, so that what it does not show is there no more."""


async def in_directory(address: str, fetch: Fetch) -> Shown:
    """What the Web Key Directory of its domain has."""
    try:
        advanced, direct = wkd.urls(address)
    except AddressError as error:
        return Shown(where=WKD, scheme=Scheme.OPENPGP, words=str(error))
    # The direct place counts only where the domain has no host for the advanced one.
    found = await _fetched(advanced, fetch) or await _fetched(direct, fetch)
    return found or Shown(where=WKD, scheme=Scheme.OPENPGP, words="there is none")


async def _fetched(url: str, fetch: Fetch) -> Shown | None:
    """None where the host does not exist."""

    def none(words: str, *, is_answer: bool, is_for_now: bool = False) -> Shown:
        return Shown(
            where=WKD,
            scheme=Scheme.OPENPGP,
            words=words,
            is_for_now=is_for_now,
            is_answer=is_answer,
        )

    try:
        got = await fetch.get(url, octets_max=WKD_OCTETS_MAX, timeout_s=WKD_S)
    except FetchFailed as error:
        has_no_host = error.kind is FetchTrouble.DNS and not error.is_unknown
        if has_no_host and url.startswith(f"https://{wkd.HOST}"):
            return None
        is_for_now = error.is_unknown or error.kind in (FetchTrouble.TIMEOUT, FetchTrouble.CONNECT)
        return none(str(error), is_answer=has_no_host, is_for_now=is_for_now)
    if got.status in (404, 410):
        return none("there is none", is_answer=True)
    if got.status != 200:
        is_for_now = got.status >= 500 or got.status in (408, 429)
        words = f"the directory said {got.status}"
        return none(words, is_answer=False, is_for_now=is_for_now)
    return Shown(where=WKD, scheme=Scheme.OPENPGP, octets=(got.octets,))


async def in_openpgpkey(address: str, resolver: Resolver) -> Shown:
    """What its OPENPGPKEY records have."""
    where = OPENPGPKEY, Scheme.OPENPGP
    answer = await _answer(*where, address, pgp_dns.name, RecordType.OPENPGPKEY, resolver)
    if isinstance(answer, Shown):
        return answer
    found = tuple(pgp_dns.keys(answer.records))[:KEYS_MAX]
    return Shown(where=OPENPGPKEY, scheme=Scheme.OPENPGP, octets=found)


async def in_smimea(address: str, resolver: Resolver) -> Shown:
    """What its SMIMEA records have."""
    where = SMIMEA, Scheme.SMIME
    answer = await _answer(*where, address, smimea.name, RecordType.SMIMEA, resolver)
    if isinstance(answer, Shown):
        return answer
    found = smimea.certificates(answer.records)[:KEYS_MAX]
    narrowed = [one for one in smimea.narrowed(answer.records) if one not in found][:KEYS_MAX]
    words = ""
    if not found and narrowed:
        words = "its certificate counts only below an authority that is trusted here (usage 1)"
    elif not found:
        words = "there is one, but it holds no whole certificate"
    return Shown(
        where=SMIMEA,
        scheme=Scheme.SMIME,
        octets=found,
        narrowed=tuple(narrowed),
        issuers=smimea.issuers(answer.records),
        words=words,
    )


async def _answer(
    where: str,
    scheme: Scheme,
    address: str,
    name: Callable[[str], str],
    kind: RecordType,
    resolver: Resolver,
) -> DnsAnswer | Shown:
    """Records that count, or why there are none."""
    try:
        answer = await resolver.resolve(name(address), kind)
    except AddressError as error:
        return Shown(where=where, scheme=scheme, words=str(error))
    if answer.status is not DnsStatus.FOUND:
        is_for_now = answer.status is DnsStatus.TEMPFAIL
        words = answer.detail if is_for_now and answer.detail else "there is none"
        return Shown(
            where=where,
            scheme=scheme,
            words=words,
            is_for_now=is_for_now,
            is_answer=not is_for_now,
        )
    if not answer.is_authenticated:
        words = "there is one, but without DNSSEC it does not count"
        return Shown(where=where, scheme=scheme, words=words)
    return answer
