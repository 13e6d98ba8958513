"""A look at our host from outside: its reverse name, its ports, its certificate, and blocklists."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from cryptography import x509

from posthouse.config.build_clients import public_port
from posthouse.config.schema import MtaStsMode, Service
from posthouse.kernel.ports import RecordType
from posthouse.net.addresses import is_public
from posthouse.zone import blocklists
from posthouse.zone.blocklists import Looked, Standing
from posthouse.zone.checked import Checked, State, is_unanswered, listed, unanswered
from posthouse.zone.probe import Probed, probe
from posthouse.zone.subject import Subject

PORTS: Final = (
    Service.MX,
    Service.SUBMISSIONS,
    Service.SUBMISSION,
    Service.IMAPS,
    Service.IMAP,
    Service.POP3S,
    Service.POP3,
)
TLS_FIRST: Final = frozenset({Service.SUBMISSIONS, Service.IMAPS, Service.POP3S})
SMTP: Final = frozenset({Service.MX, Service.SUBMISSION, Service.SUBMISSIONS})
EXPIRES_SOON_DAYS: Final = 14


# --- reverse names ---


async def check_ptr(subject: Subject) -> list[Checked]:
    addresses = await subject.addresses()
    return list(await asyncio.gather(*(_check_ptr(subject, each) for each in addresses)))


async def _check_ptr(subject: Subject, address: str) -> Checked:
    what = f"PTR of {address}"
    answer = await subject.ask(ipaddress.ip_address(address).reverse_pointer, RecordType.PTR)
    if is_unanswered(answer):
        return unanswered("ptr", what, answer)
    names = tuple(str(name).rstrip(".").lower() for name in answer.records)
    leads_back = []
    kind = RecordType.AAAA if ":" in address else RecordType.A
    for name in names[:5]:
        forward = await subject.ask(name, kind)
        if address in forward.records:
            leads_back.append(name)
    state, words = judge_ptr(address, names, leads_back, subject.host)
    return Checked(
        subject="ptr",
        what=what,
        state=state,
        found=tuple(f"{name}." for name in names),
        wanted=(f"{subject.host}.",),
        words=words,
    )


def judge_ptr(
    address: str, names: Sequence[str], leads_back: Sequence[str], host: str
) -> tuple[State, str]:
    """Args:
    leads_back: those of the names whose address is this one (RFC 8601 §3, iprev).
    """
    if not names:
        return State.MISSING, (
            "many hosts refuse mail from an address without a name; set it where the address is"
            " rented (the provider's web page, often under reverse DNS)"
        )
    if host in leads_back:
        return State.RIGHT, "it is the name this server greets with, and leads back"
    if leads_back:
        return State.ADVICE, (
            f"the name leads back, but this server greets as {host}; some hosts want both to be"
            " the same: change one of them"
        )
    return State.WRONG, (
        f"{listed(names)} does not lead back to {address}, so hosts take it for forged; set it to"
        f" {host}"
    )


# --- ports and certificates ---


async def check_ports(subject: Subject) -> list[Checked]:
    """Each service that is for others, at each address, as far as one can come from here."""
    addresses = await subject.addresses()
    services = [each for each in PORTS if public_port(subject.config, each) is not None]
    if subject.allows_private:  # a laboratory listens on loopback only
        services = [each for each in PORTS if _has_listener(subject, each)]
    if not addresses or not services:
        return [_not_looked_at(subject, has_services=bool(services))]
    tasks = [(address, service) for address in addresses for service in services]
    probes = await asyncio.gather(*(_probe(subject, *each) for each in tasks))
    found: list[Checked] = []
    shown: set[tuple[str, bytes]] = set()
    for (address, service), probed in zip(tasks, probes, strict=True):
        found += judge_probe(subject, address, service, probed)
        if probed.chain and (address, probed.chain[0]) not in shown:
            shown.add((address, probed.chain[0]))
            found.append(_judge_certificate(subject, address, service, probed))
    return found


def _not_looked_at(subject: Subject, *, has_services: bool) -> Checked:
    """Said once, so that nobody takes silence for a good word."""
    reason = (
        f"{subject.host} has no address to come to"
        if has_services
        else "this server listens on loopback only, where nobody else comes to"
    )
    return Checked(
        subject="port",
        what=f"ports and certificate of {subject.host}",
        state=State.UNKNOWN,
        words=f"not looked at: {reason}",
    )


def _has_listener(subject: Subject, service: Service) -> bool:
    return any(each.service is service for each in subject.config.listeners())


async def _probe(subject: Subject, address: str, service: Service) -> Probed:
    ports = subject.ports
    return await probe(
        ports.network,
        address,
        ports.port_of(service),
        name=subject.host,
        server_name=subject.host,
        deadlines=ports.deadlines,
        is_smtp=service in SMTP,
        is_tls=service in TLS_FIRST,
    )


def judge_probe(subject: Subject, address: str, service: Service, probed: Probed) -> list[Checked]:
    port = subject.ports.port_of(service)
    what = f"port {port} of {address} ({service.value})"
    if not probed.is_open or probed.trouble:
        listens = public_port(subject.config, service)
        moved = (
            f"; this server listens on {listens}, so forward {port} to it"
            if listens not in (None, port)
            else "; is the server running, and does a firewall let it through?"
        )
        words = f"{probed.trouble or 'closed'}, as seen from this machine{moved}"
        return [Checked(subject="port", what=what, state=State.WRONG, words=words)]
    found = [
        Checked(
            subject="port",
            what=what,
            state=State.RIGHT,
            found=(probed.greeting,) if probed.greeting else (),
            words=_hello_words(subject, service, probed),
        )
    ]
    if service is Service.MX and not _greets_right(subject, probed):
        found[0] = Checked(
            subject="port",
            what=what,
            state=State.WRONG,
            found=(probed.greeting,),
            wanted=(subject.host,),
            words=f"another server greets there ({probed.hello or 'without a name'}), or this one"
            " before its config was changed",
        )
    if service is Service.MX and not probed.has_starttls:
        words = "it offers no STARTTLS, so all mail comes in the clear"
        found.append(Checked(subject="port", what=what, state=State.WRONG, words=words))
    return found


def _greets_right(subject: Subject, probed: Probed) -> bool:
    return probed.hello.lower().rstrip(".") == subject.host


def _hello_words(subject: Subject, service: Service, probed: Probed) -> str:
    tls = f", {probed.tls_version}" if probed.tls_version else ""
    return f"it answers{tls}" if service not in SMTP else f"it greets as {probed.hello}{tls}"


def _judge_certificate(subject: Subject, address: str, service: Service, probed: Probed) -> Checked:
    now = subject.ports.clock.now()
    verification = subject.ports.verifier.verify(probed.chain, subject.host, now)
    port = subject.ports.port_of(service)
    is_enforced = bool(subject.wishes.policy_id) and (
        subject.config.mta_sts.mode is MtaStsMode.ENFORCE
    )
    state, words = judge_certificate(
        probed.chain[0] if probed.chain else b"",
        now,
        problem="" if verification.is_verified else verification.reason,
        is_enforced=is_enforced and service is Service.MX,
    )
    return Checked(
        subject="certificate",
        what=f"certificate at port {port} of {address}",
        state=state,
        found=_certificate_texts(probed.chain),
        wanted=(f"for {subject.host}, by an authority that others trust",),
        words=words,
    )


def judge_certificate(
    leaf: bytes, now: datetime, *, problem: str, is_enforced: bool
) -> tuple[State, str]:
    """Args:
    problem: why the chain does not verify for our host's name; "" when it does.
    is_enforced: our MTA-STS policy tells others to insist on it.
    """
    if not problem:
        left = (x509.load_der_x509_certificate(leaf).not_valid_after_utc - now).days
        if left < EXPIRES_SOON_DAYS:
            return State.ADVICE, f"it expires in {left} days: see that it is renewed"
        return State.RIGHT, f"good for {left} days more"
    if is_enforced:
        return State.WRONG, (
            f"{problem}; your MTA-STS policy tells others to send nothing then: mend it, or set the"
            " policy's mode to testing"
        )
    if "expired" in problem or "not for" in problem:
        return State.WRONG, f"{problem}; mail clients will refuse it"
    return State.ADVICE, (
        f"{problem}; other hosts still send, as they mostly take any, but mail clients ask their"
        " users: get one with [acme], or name yours in [tls]"
    )


def _certificate_texts(chain: Sequence[bytes]) -> tuple[str, ...]:
    if not chain:
        return ()
    try:
        leaf = x509.load_der_x509_certificate(chain[0])
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        text = listed(map(str, names.get_values_for_type(x509.DNSName)))
    except Exception:  # the parser's errors have no common class
        return ("it cannot be read",)
    return (f"for {text}, until {leaf.not_valid_after_utc:%Y-%m-%d}",)


# --- blocklists ---


async def check_blocklists(subject: Subject) -> list[Checked]:
    addresses = [each for each in await subject.addresses() if is_public(each)]
    if subject.allows_private:
        addresses = list(await subject.addresses())
    looked = await asyncio.gather(
        *(
            blocklists.look_up(address, zone, subject.ports.resolver)
            for address in addresses
            for zone in subject.config.dns.blocklists
        )
    )
    return [judge_listing(each) for each in looked]


def judge_listing(looked: Looked) -> Checked:
    state = {
        Standing.LISTED: State.WRONG,
        Standing.UNLISTED: State.RIGHT,
        Standing.UNUSABLE: State.UNKNOWN,
    }[looked.standing]
    words = looked.words
    if looked.standing is Standing.LISTED:
        said = f": {looked.words}" if looked.words else ""
        words = (
            f"hosts that use this list refuse or junk mail from {looked.address}{said}; end what"
            f" brought it there, then ask {looked.zone} to take it off"
        )
    elif looked.standing is Standing.UNUSABLE:
        words = f"not usable: {looked.words}"
    return Checked(
        subject="blocklist",
        what=f"{looked.address} at {looked.zone}",
        state=state,
        found=looked.codes,
        words=words,
    )
