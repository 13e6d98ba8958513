"""Every record that a domain should publish, and how they look in a zone file (RFC 1035 §5).

Three kinds: those without which mail does not work or is not believed, those that make it safer,
and those that are a convenience. Where a value stands in angle brackets, a person fills it in.
"""

from __future__ import annotations

import ipaddress
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Final

import msgspec

from posthouse.accounts.domain_keys import DomainKey, KeyState
from posthouse.config.build_acme import autoconfig_domains
from posthouse.config.build_clients import public_port
from posthouse.config.schema import Config, MtaStsMode, Service
from posthouse.kernel.ports import TlsaRecord
from posthouse.web.autoconfig import autoconfig_host
from posthouse.zone.services import public_address

TTL_S: Final = 3_600
STRING_OCTETS_MAX: Final = 255  # RFC 1035 §3.3
COMMENT_COLUMNS: Final = 96
DMARC_POLICIES: Final = ("none", "quarantine", "reject")
REPORTS_ELSE_TO: Final = "postmaster"

AUTHORITIES: Final = {
    "letsencrypt.org": "letsencrypt.org",
    "pki.goog": "pki.goog",
    "zerossl.com": "sectigo.com",
    "buypass.com": "buypass.com",
}
"""What stands in CAA (RFC 8659 §4.2) for the authority of an ACME directory's host."""


class Need(Enum):
    """What a record is for."""

    NEEDED = "needed"
    ADVISED = "advised"
    OPTIONAL = "optional"


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """A DNS record to publish. Where `value` holds angle brackets, a person fills it in."""

    name: str
    """With the final dot."""
    type: str
    value: str
    """As a zone file has it; for TXT a text in quotes, however long."""
    why: str
    need: Need = Need.NEEDED
    ttl_s: int = TTL_S

    @property
    def is_whole(self) -> bool:
        return "<" not in self.name + self.value


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What the records depend on beside the config."""

    keys: tuple[DomainKey, ...] = ()
    tlsa: tuple[TlsaRecord, ...] = ()
    """For port 25 of our host (RFC 7672 §3.1)."""
    policy_id: str = ""
    """Of our MTA-STS policy for the domain; "" when none is served."""
    addresses: tuple[str, ...] = ()
    """Public addresses of this machine, where somebody said so."""
    dmarc: str = "none"


def records(config: Config, domain: str, wishes: Wishes | None = None) -> tuple[Record, ...]:
    """All records for mail to and from `domain` (A-labels), the most needed first."""
    wishes = wishes or Wishes()
    return (
        *_host_records(config, domain, wishes),
        *_sender_records(config, domain, wishes),
        *_transport_records(config, domain, wishes),
        *_client_records(config, domain),
    )


# --- where the server is ---


def _host_records(config: Config, domain: str, wishes: Wishes) -> Iterator[Record]:
    host = config.node.hostname
    yield Record(
        name=f"{domain}.", type="MX", value=f"10 {host}.", why="where mail for you is brought"
    )
    addresses = wishes.addresses or tuple(
        filter(None, (public_address(config, 4), public_address(config, 6)))
    )
    for address in addresses:
        yield _address_record(host, address)
    if not wishes.addresses:
        kinds = {":" in address for address in addresses}
        yield from (_address_record(host, wanted) for is6, wanted in _UNKNOWN if is6 not in kinds)
    for address in addresses or ("",):
        pointer = f"{ipaddress.ip_address(address).reverse_pointer}." if address else ""
        yield Record(
            name=pointer or "<the public address, reversed>",
            type="PTR",
            value=f"{host}.",
            why="set where the address is rented; many hosts refuse mail without it",
        )


_UNKNOWN: Final = (
    (False, "<the public IPv4 address of this machine>"),
    (True, "<its public IPv6 address, if it has one>"),
)


def _address_record(host: str, address: str) -> Record:
    is6 = ":" in address or "IPv6" in address
    return Record(
        name=f"{host}.",
        type="AAAA" if is6 else "A",
        value=address,
        why="the same for IPv6; leave it out where there is none"
        if is6
        else "where this server is",
    )


# --- who may send ---


def _sender_records(config: Config, domain: str, wishes: Wishes) -> Iterator[Record]:
    host = config.node.hostname
    smart_host = config.relay.smart_host.host
    also = f" include:<what {smart_host} tells you to include>" if smart_host else ""
    yield Record(
        name=f"{domain}.",
        type="TXT",
        value=f'"v=spf1 mx{also} -all"',
        why="only this server sends your mail (SPF)"
        if not smart_host
        else "this server and its smart host send your mail, nobody else (SPF)",
    )
    yield from dkim_records(wishes.keys)
    yield Record(
        name=f"_dmarc.{domain}.",
        type="TXT",
        value=f'"v=DMARC1; p={wishes.dmarc}; rua=mailto:{dmarc_reports_to(config, domain)}"',
        why=_DMARC_WHY[wishes.dmarc],
    )
    if host != domain:
        yield Record(
            name=f"{host}.",
            type="TXT",
            value='"v=spf1 a -all"',
            why="the same for the name this server greets with, which notices without a sender"
            " are judged by",
            need=Need.ADVISED,
        )


def dmarc_reports_to(config: Config, domain: str) -> str:
    """Where reports about the domain are taken, read and shown; else where a person finds them."""
    reports = config.reports
    return f"{reports.dmarc_local_part if reports.is_enabled else REPORTS_ELSE_TO}@{domain}"


def tls_reports_to(config: Config, domain: str) -> str:
    reports = config.reports
    return f"{reports.tls_local_part if reports.is_enabled else REPORTS_ELSE_TO}@{domain}"


_DMARC_WHY: Final = {
    "none": "others report to you what claims to be from you (DMARC); when the reports show that"
    " all your own mail passes, change p= to quarantine and then to reject",
    "quarantine": "what claims to be from you and is not goes to Junk (DMARC); when the reports"
    " show no mail of yours in it, change p= to reject",
    "reject": "what claims to be from you and is not is refused (DMARC)",
}
_KEY_WHY: Final = {
    KeyState.WAITING: "the key that waits for this record to sign your mail (DKIM)",
    KeyState.SIGNING: "the key that signs your mail (DKIM)",
    KeyState.RETIRED: "a key that signs no more; needed until its last mail has arrived (DKIM)",
}


def dkim_records(keys: Sequence[DomainKey]) -> Iterator[Record]:
    for key in keys:
        if key.state is not KeyState.REVOKED:
            yield Record(
                name=f"{key.record_name}.",
                type="TXT",
                value=f'"{key.record}"',
                why=_KEY_WHY[key.state],
            )


# --- how it is carried ---


def _transport_records(config: Config, domain: str, wishes: Wishes) -> Iterator[Record]:
    host = config.node.hostname
    yield Record(
        name=f"_smtp._tls.{domain}.",
        type="TXT",
        value=f'"v=TLSRPTv1; rua=mailto:{tls_reports_to(config, domain)}"',
        why="others report to you when TLS with you fails (TLS-RPT)",
        need=Need.ADVISED,
    )
    if wishes.policy_id:
        mode = config.mta_sts.mode
        yield Record(
            name=f"mta-sts.{domain}.",
            type="CNAME",
            value=f"{host}.",
            why="where others fetch your policy from, over HTTPS (MTA-STS)",
            need=Need.ADVISED,
        )
        yield Record(
            name=f"_mta-sts.{domain}.",
            type="TXT",
            value=f'"v=STSv1; id={wishes.policy_id}"',
            why="tells others that there is a policy (MTA-STS), now in mode"
            f" {mode.value}; publish it last, and anew when id changes"
            if mode is not MtaStsMode.NONE
            else "tells others that the policy is taken back (MTA-STS)",
            need=Need.ADVISED,
        )
    for tlsa in wishes.tlsa:
        fields = f"{tlsa.usage} {tlsa.selector} {tlsa.matching} {tlsa.data.hex()}"
        yield Record(
            name=f"_25._tcp.{host}.",
            type="TLSA",
            value=fields,
            why="binds others to this server's key (DANE); only where the zone is signed with"
            " DNSSEC, elsewhere leave it out",
            need=Need.OPTIONAL,
        )
    if config.acme.is_enabled:
        yield Record(
            name=f"{host}.",
            type="CAA",
            value=f'0 issue "{_authority(config)}"',
            why="only this authority may make certificates for this server",
            need=Need.OPTIONAL,
        )


def _authority(config: Config) -> str:
    host = config.acme.directory.removeprefix("https://").partition("/")[0].partition(":")[0]
    for suffix, name in AUTHORITIES.items():
        if host == suffix or host.endswith(f".{suffix}"):
            return name
    return f"<the name that the authority at {host} gives for CAA>"


# --- how mail clients find it (RFC 6186 §3, and Mozilla's autoconfig) ---

_SRV: Final = (
    (Service.SUBMISSIONS, "_submissions._tcp", 0, "sending, TLS from the start"),
    (Service.SUBMISSION, "_submission._tcp", 10, "sending, STARTTLS"),
    (Service.IMAPS, "_imaps._tcp", 0, "reading by IMAP, TLS from the start"),
    (Service.IMAP, "_imap._tcp", 10, "reading by IMAP, STARTTLS"),
    (Service.POP3S, "_pop3s._tcp", 20, "reading by POP3, TLS from the start"),
    (Service.POP3, "_pop3._tcp", 30, "reading by POP3, STARTTLS"),
)
"""Lower numbers are preferred (RFC 2782); TLS from the start is (RFC 8314 §3)."""


def _client_records(config: Config, domain: str) -> Iterator[Record]:
    if autoconfig_domains(config, (domain,)):
        yield Record(
            name=f"{autoconfig_host(domain)}.",
            type="CNAME",
            value=f"{config.node.hostname}.",
            why="lets mail clients set themselves up: there this server tells them its ports over"
            " HTTPS (autoconfig)",
            need=Need.OPTIONAL,
        )
    for service, label, priority, why in _SRV:
        port = public_port(config, service)
        if port is not None:
            yield Record(
                name=f"{label}.{domain}.",
                type="SRV",
                value=f"{priority} 1 {port} {config.node.hostname}.",
                why=f"lets mail clients find it: {why}",
                need=Need.OPTIONAL,
            )


# --- as a zone file ---


def zone_file(
    found: Sequence[Record], *, domain: str, remarks: Mapping[Record, str] | None = None
) -> str:
    """Lines to put into the zone of `domain`: whole names and lifetimes, no SOA and no NS, so that
    they can be added to what is there. What a person has to fill in, and what belongs into another
    zone, is a comment.

    Args:
        remarks: a further comment for a record, in words that may come from the DNS.
    """
    remarks = remarks or {}
    lines = [f"; Records for mail of {domain}. Lines that begin with ; are not read by name"]
    lines += ["; servers: they say why, or wait for you to fill in what stands in < >."]
    for need, records_ in _by_need(found):
        lines += ["", f"; --- {_HEADINGS[need]} ---"]
        for record in records_:
            lines.append("")
            for words in filter(None, (record.why, remarks.get(record, ""))):
                lines += _comment(words)
            lines += _record_lines(record, domain)
    return "\n".join(lines) + "\n"


def _comment(words: str) -> list[str]:
    """No octet of `words` gets out of it into the zone."""
    plain = "".join(each if each.isprintable() else "?" for each in words)
    return textwrap.wrap(plain, COMMENT_COLUMNS, initial_indent="; ", subsequent_indent=";   ")


_HEADINGS: Final = {
    Need.NEEDED: "needed",
    Need.ADVISED: "makes it safer",
    Need.OPTIONAL: "if you like",
}


def _by_need(found: Sequence[Record]) -> Iterator[tuple[Need, list[Record]]]:
    for need in Need:
        if records_ := [record for record in found if record.need is need]:
            yield need, records_


def record_line(record: Record) -> str:
    value = txt_strings(record.value) if record.type == "TXT" else record.value
    return f"{record.name} {record.ttl_s} IN {record.type} {value}"


def _record_lines(record: Record, domain: str) -> list[str]:
    line = record_line(record)
    if not record.is_whole:
        return [f"; {line}"]
    if not f".{record.name}".endswith(f".{domain}."):
        return ["; (in the zone of that name, not here)", f"; {line}"]
    return [line]


def txt_strings(value: str) -> str:
    """A text in quotes as strings of at most 255 octets, which readers join (RFC 7208 §3.3)."""
    text = value.removeprefix('"').removesuffix('"')
    parts = [
        text[at : at + STRING_OCTETS_MAX] for at in range(0, len(text), STRING_OCTETS_MAX)
    ] or [""]
    quoted = ['"' + part.replace("\\", "\\\\").replace('"', '\\"') + '"' for part in parts]
    return " ".join(quoted)


def plain_text(record: Record) -> str:
    """What a resolver gives for a TXT record."""
    return record.value.removeprefix('"').removesuffix('"')
