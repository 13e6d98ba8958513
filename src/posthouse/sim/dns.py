"""Zones of a small internet, and who answers from them.

`Zones` holds the records and the faults of names. `ZoneResolver` is the port `Resolver` in memory;
`posthouse.sim.dns_server` serves the same zones over UDP and TCP, on loopback or in the simulated
network. Records come from zone files or from `add`.
"""

from __future__ import annotations

import asyncio
from enum import Enum, auto
from typing import Final

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdataset
import dns.rdatatype
import dns.rrset
import dns.zone
import msgspec

from posthouse.kernel.ports import DnsAnswer, DnsStatus, RecordType
from posthouse.protocol.dns.grammar import Alias, Answered, encode_question, read_response
from posthouse.protocol.dns.wire import BadName

TTL_S: Final = 300
CHAIN_MAX: Final = 16
"""CNAMEs put into one answer: more than the resolver follows."""
WILDCARD: Final = b"*"
SOA_TEXT: Final = "ns hostmaster 1 3600 600 604800 60"


class DnsFault(Enum):
    """What a server may do to a question (F23)."""

    SERVFAIL = auto()
    TIMEOUT = auto()
    BOGUS = auto()  # as SERVFAIL, unless DNSSEC is not to be checked (CD)
    REFUSED = auto()
    FORMERR = auto()
    TRUNCATED = auto()  # TC over UDP; whole over TCP
    TRUNCATED_ALWAYS = auto()
    WRONG_ID = auto()
    WRONG_QUESTION = auto()
    LAME = auto()  # a referral to nowhere
    EMPTY = auto()  # NOERROR with nothing in it
    CNAME_LOOP = auto()
    GARBAGE = auto()
    NO_EDNS = auto()  # FORMERR for EDNS, an answer without


class _Trouble(msgspec.Struct):
    fault: DnsFault | None
    delay_s: float
    times: int | None


class Reply(msgspec.Struct, frozen=True):
    """Octets to send after `delay_s`; None is silence."""

    octets: bytes | None
    delay_s: float = 0.0


class Zones:
    """Everything the small internet's DNS knows."""

    def __init__(self) -> None:
        self._zones: dict[dns.name.Name, dns.zone.Zone] = {}
        self._signed: set[dns.name.Name] = set()
        self._trouble: dict[tuple[dns.name.Name, RecordType | None], _Trouble] = {}
        self.questions: list[tuple[str, str]] = []
        """Name and type of all that was asked, in order."""

    # --- what is known ---

    def load(self, origin: str, text: str) -> None:
        """A zone in the master file format (RFC 1035 §5), SOA and NS included."""
        zone = dns.zone.from_text(text, _name(origin), relativize=False)
        self._zones[_name(origin)] = zone

    def add(self, name: str, record_type: str, *data: str, ttl_s: int = TTL_S) -> None:
        """Records in the text form of zone files; a name of no zone makes one of its last two
        labels (the last alone for one label, so that `test` and `example.test` both work).

        Example: `zones.add("example.test", "MX", "10 mail.example.test.")`.
        """
        owner = _name(name)
        zone = self._zone_of(owner) or self._make_zone(dns.name.Name(owner.labels[-3:]))
        rdataset = dns.rdataset.from_text_list(
            "IN", record_type, ttl_s, data, origin=dns.name.root, relativize=False
        )
        known = zone.find_rdataset(owner, rdataset.rdtype, create=True)
        for rdata in rdataset:
            known.add(rdata, ttl_s)

    def remove(self, name: str, record_type: str) -> None:
        zone = self._zone_of(_name(name))
        if zone is not None:
            zone.delete_rdataset(_name(name), record_type)

    def sign(self, origin: str, *, is_signed: bool = True) -> None:
        """Answers of this zone carry the AD bit, as if a validating resolver gave them."""
        (self._signed.add if is_signed else self._signed.discard)(_name(origin))

    def fault(
        self,
        name: str,
        fault: DnsFault | None,
        *,
        record_type: RecordType | None = None,
        delay_s: float = 0.0,
        times: int | None = None,
    ) -> None:
        """From now on (or for so many questions) do this to questions for `name`.

        With `fault` None the answer is right but comes `delay_s` late; `heal` ends it.
        """
        self._trouble[_name(name), record_type] = _Trouble(fault, delay_s, times)

    def heal(self, name: str) -> None:
        for key in [key for key in self._trouble if key[0] == _name(name)]:
            del self._trouble[key]

    # --- what is answered ---

    def reply(self, octets: bytes, *, is_tcp: bool) -> Reply:
        """The answer to a question as it came by the wire. Nonsense gets silence."""
        try:
            query = dns.message.from_wire(octets)
        except dns.exception.DNSException:
            return Reply(None)
        if len(query.question) != 1 or query.flags & dns.flags.QR:
            return Reply(None)
        asked = query.question[0]
        self.questions.append((str(asked.name), dns.rdatatype.to_text(asked.rdtype)))
        trouble = self._take_trouble(asked)
        if trouble is None:
            return Reply(_packed(self.answer(query), query, is_tcp=is_tcp))
        octets_out = self._troubled(query, trouble.fault, is_tcp=is_tcp)
        return Reply(octets_out, trouble.delay_s)

    def answer(self, query: dns.message.Message) -> dns.message.Message:
        """What a recursive server that also is the authority would say."""
        response = dns.message.make_response(query, recursion_available=True)
        response.flags |= dns.flags.AA
        owner, rdtype = query.question[0].name, query.question[0].rdtype
        is_signed = True
        for _ in range(CHAIN_MAX):
            zone = self._zone_of(owner)
            if zone is None:
                response.set_rcode(dns.rcode.NXDOMAIN)
                is_signed = False
                break
            is_signed &= zone.origin in self._signed
            found = _lookup(zone, owner, rdtype) or _lookup(zone, owner, dns.rdatatype.CNAME)
            if found is None:
                if not _exists(zone, owner):
                    response.set_rcode(dns.rcode.NXDOMAIN)
                _add_soa(response, zone)
                break
            response.answer.append(_rrset(owner, found))
            if found.rdtype == rdtype:
                break
            owner = found[0].target
        if is_signed and query.flags & dns.flags.AD | query.ednsflags & dns.flags.DO:
            response.flags |= dns.flags.AD
        return response

    def _troubled(
        self, query: dns.message.Message, fault: DnsFault | None, *, is_tcp: bool
    ) -> bytes | None:
        response = self.answer(query)
        match fault:
            case DnsFault.TIMEOUT:
                return None
            case DnsFault.GARBAGE:
                return query.id.to_bytes(2) + b"\x81\x80\xff\xff garbage"
            case DnsFault.SERVFAIL | DnsFault.REFUSED | DnsFault.FORMERR:
                response = dns.message.make_response(query)
                response.set_rcode(dns.rcode.from_text(fault.name))
            case DnsFault.BOGUS if not query.flags & dns.flags.CD:
                response = dns.message.make_response(query)
                response.set_rcode(dns.rcode.SERVFAIL)
            case DnsFault.NO_EDNS if query.edns >= 0:
                response = dns.message.make_response(query)
                response.use_edns(False)
                response.set_rcode(dns.rcode.FORMERR)
            case DnsFault.TRUNCATED | DnsFault.TRUNCATED_ALWAYS:
                if fault is DnsFault.TRUNCATED_ALWAYS or not is_tcp:
                    response.answer.clear()
                    response.flags |= dns.flags.TC
            case DnsFault.WRONG_ID:
                response.id ^= 0x5555
            case DnsFault.WRONG_QUESTION:
                other = dns.name.Name((b"other", *query.question[0].name.labels))
                response.question = [dns.rrset.RRset(other, dns.rdataclass.IN, dns.rdatatype.A)]
            case DnsFault.LAME:
                response = dns.message.make_response(query)
                referral = ("test.", TTL_S, "IN", "NS", "ns.nowhere.test.")
                response.authority.append(dns.rrset.from_text(*referral))
            case DnsFault.EMPTY:
                response = dns.message.make_response(query, recursion_available=True)
            case DnsFault.CNAME_LOOP:
                response.set_rcode(dns.rcode.NOERROR)
                name = query.question[0].name
                looping = (name, TTL_S, "IN", "CNAME", name.to_text())
                response.answer[:] = [dns.rrset.from_text(*looping)]
                response.authority.clear()
            case _:
                pass
        return _packed(response, query, is_tcp=is_tcp)

    def _take_trouble(self, asked: dns.rrset.RRset) -> _Trouble | None:
        try:
            record_type = RecordType(dns.rdatatype.to_text(asked.rdtype))
        except ValueError:
            record_type = None
        for key in ((asked.name, record_type), (asked.name, None)):
            trouble = self._trouble.get(key)
            if trouble is None:
                continue
            if trouble.times is not None:
                trouble.times -= 1
                if trouble.times <= 0:
                    del self._trouble[key]
            return trouble
        return None

    def _zone_of(self, name: dns.name.Name) -> dns.zone.Zone | None:
        while True:
            if name in self._zones:
                return self._zones[name]
            if name == dns.name.root:
                return None
            name = name.parent()

    def _make_zone(self, origin: dns.name.Name) -> dns.zone.Zone:
        text = f"@ {TTL_S} IN SOA {SOA_TEXT}\n@ {TTL_S} IN NS ns\n"
        zone = dns.zone.from_text(text, origin, relativize=False)
        self._zones[origin] = zone
        return zone


class ZoneResolver:
    """The port `Resolver` straight from zones: no sockets, no cache. Faults show as they would
    through a resolver; a silent server costs `timeout_s` of virtual time."""

    def __init__(
        self, zones: Zones, *, timeout_s: float = 10.0, is_unchecked: bool = False
    ) -> None:
        self.zones = zones
        self._timeout_s = timeout_s
        self._is_unchecked = is_unchecked

    async def resolve(self, name: str, record_type: RecordType) -> DnsAnswer:
        try:
            question = encode_question(
                name, record_type, message_id=1, is_unchecked=self._is_unchecked
            )
        except BadName as error:
            return DnsAnswer(status=DnsStatus.NO_NAME, name=name, detail=str(error))
        reply = self.zones.reply(question, is_tcp=True)
        await asyncio.sleep(self._timeout_s if reply.octets is None else reply.delay_s)
        if reply.octets is None:
            return _failed("no answer in time")
        response = read_response(reply.octets, name=name, record_type=record_type, message_id=1)
        match response:
            case Answered(answer):
                return answer
            case Alias():
                return _failed("a CNAME chain that leads nowhere")
            case _:
                return _failed(getattr(response, "detail", "truncated"))

    def known(self, name: str, record_type: RecordType) -> DnsAnswer | None:
        return None


def _failed(detail: str) -> DnsAnswer:
    return DnsAnswer(status=DnsStatus.TEMPFAIL, detail=detail)


def _name(text: str) -> dns.name.Name:
    return dns.name.from_text(text.lower())


def _lookup(
    zone: dns.zone.Zone, owner: dns.name.Name, rdtype: dns.rdatatype.RdataType
) -> dns.rdataset.Rdataset | None:
    """The records of a name, or of the wildcard beside it (RFC 4592) when there is no such name."""
    if _exists(zone, owner, is_wild=False):
        return zone.get_rdataset(owner, rdtype)
    if owner == zone.origin:
        return None
    return zone.get_rdataset(dns.name.Name((WILDCARD, *owner.labels[1:])), rdtype)


def _exists(zone: dns.zone.Zone, owner: dns.name.Name, *, is_wild: bool = True) -> bool:
    """Whether the name, something below it, or with `is_wild` a wildcard for it, has records."""
    wild = dns.name.Name((WILDCARD, *owner.labels[1:])) if owner != dns.name.root else owner
    return any(name.is_subdomain(owner) or (is_wild and name == wild) for name in zone.nodes)


def _rrset(owner: dns.name.Name, found: dns.rdataset.Rdataset) -> dns.rrset.RRset:
    rrset = dns.rrset.RRset(owner, found.rdclass, found.rdtype)
    for rdata in found:
        rrset.add(rdata, found.ttl)
    return rrset


def _add_soa(response: dns.message.Message, zone: dns.zone.Zone) -> None:
    assert zone.origin is not None
    soa = zone.get_rdataset(zone.origin, dns.rdatatype.SOA)
    if soa is not None:
        response.authority.append(_rrset(zone.origin, soa))


def _packed(response: dns.message.Message, query: dns.message.Message, *, is_tcp: bool) -> bytes:
    """Cut to what UDP carries, with TC (RFC 6891 §6.2.3)."""
    limit = 65_535 if is_tcp else max(512, query.payload if query.edns >= 0 else 512)
    try:
        return response.to_wire(max_size=limit)
    except dns.exception.TooBig:
        response.answer.clear()
        response.authority.clear()
        response.flags |= dns.flags.TC
        return response.to_wire(max_size=limit)
