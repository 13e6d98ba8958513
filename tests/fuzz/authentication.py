"""Targets of mail authentication: DNS records, SPF, DKIM, ARC, DMARC, Authentication-Results.

A check of DNS answers gets them out of the octets, too: a line for each name that it asks about.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from posthouse.kernel.envelope import Address
from posthouse.kernel.finding import Finding
from posthouse.kernel.ports import DnsAnswer, DnsStatus, MxRecord, RecordType
from posthouse.mailauth import authres, iprev
from posthouse.mailauth.arc import verify as arc
from posthouse.mailauth.arc.grammar import INSTANCES_MAX
from posthouse.mailauth.authors import author_domains, homographs
from posthouse.mailauth.dkim import canonical, sign, verify
from posthouse.mailauth.dkim.canonical import Canonicalization
from posthouse.mailauth.dkim.grammar import (
    ED25519,
    DkimSyntaxError,
    Kind,
    read_signature,
)
from posthouse.mailauth.dkim.keys import Unusable, key_record, read_key
from posthouse.mailauth.dmarc import evaluate
from posthouse.mailauth.dmarc import grammar as dmarc
from posthouse.mailauth.questions import Question, answer
from posthouse.mailauth.results import Result
from posthouse.mailauth.spf import check as spf
from posthouse.mailauth.spf import macros
from posthouse.mailauth.spf.evaluation import EVIDENCE_MAX
from posthouse.mailauth.spf.grammar import (
    BadRecord,
    DomainSpec,
    parse_explanation,
    parse_record,
)
from posthouse.mailauth.spf.names import NAME_CHARACTERS_MAX, question_name
from posthouse.mailauth.spf.received_spf import received_spf
from posthouse.mailauth.spf.refusal import refusal
from posthouse.message.address import domain_to_ascii
from posthouse.message.fields import HeaderSection, exceeded, read_section
from posthouse.protocol.dns.grammar import TYPES, Answered, encode_question, read_response
from posthouse.protocol.dns.wire import BadName, name_octets
from tests.fuzz import authentication_samples as samples
from tests.fuzz.target import Target

NAME = "example.org"
ADDRESS = "192.0.2.1"
MESSAGE_ID = 7
SERVER = "mx.example.org"
OWN_IDS = frozenset({SERVER, "xn--mnchen-3ya.example"})
NOW_S = 1_700_000_000
DIGEST = bytes(32)
SIGNING_KEY = sign.SigningKey(
    domain="signing.example",
    selector="s",
    algorithm=ED25519,
    private=Ed25519PrivateKey.from_private_bytes(bytes(range(32))),
)
SIGNING_RECORD = key_record(ED25519, sign.public_octets(SIGNING_KEY.private)).encode()


def dns_records(octets: bytes) -> Hashable:
    """The octets as the data of one record of each type."""
    seen: list[Hashable] = []
    data = octets[:65_535]
    for record_type in RecordType:
        question = encode_question(NAME, record_type, message_id=MESSAGE_ID, has_edns=False)
        head = question[:2] + b"\x81\x80" + question[4:6] + b"\0\1" + question[8:]
        kind = TYPES[record_type].to_bytes(2)
        record = b"\xc0\x0c" + kind + b"\0\1\0\0\0\x3c" + len(data).to_bytes(2)
        response = read_response(
            head + record + data, name=NAME, record_type=record_type, message_id=MESSAGE_ID
        )
        if isinstance(response, Answered):
            assert len(response.answer.records) <= 1
            seen.append(record_type.value)
        else:
            seen.append(getattr(response, "detail", ""))
    return tuple(seen)


class Lines:
    """A DNS made of the lines of some octets: each name that is asked about gets the next one."""

    def __init__(self, octets: bytes) -> None:
        self._lines = octets.split(b"\n")
        self._names: dict[str, bytes] = {}
        self.asked = 0

    def __call__(self, question: Question) -> DnsAnswer:
        self.asked += 1
        name_octets(question.name)  # it has to be a name that could be asked for
        number = len(self._names)
        line = self._names.setdefault(
            question.name, self._lines[number] if number < len(self._lines) else b""
        )
        if line.startswith(b"!"):
            return DnsAnswer(status=DnsStatus.TEMPFAIL, name=question.name, detail="broken")
        records = self._records(question.record_type, line)
        if not records:
            return DnsAnswer(status=DnsStatus.NO_NAME, name=question.name)
        return DnsAnswer(status=DnsStatus.FOUND, name=question.name, records=records)

    def _records(self, record_type: RecordType, line: bytes) -> tuple[Any, ...]:
        """Of the line's words; a TXT record is the whole line, two with "||" between."""
        if record_type is RecordType.TXT:
            return tuple(line.split(b"||")) if line else ()
        hosts = [word.decode("latin-1") for word in line.split() if is_name(word)]
        match record_type:
            case RecordType.A:
                return (ADDRESS,) if len(line) % 3 == 0 and line else ()
            case RecordType.MX:
                return tuple(MxRecord(10, host.lower()) for host in hosts)
            case RecordType.PTR:
                return tuple(host.lower() for host in hosts)
            case _:
                return ()


def is_name(word: bytes) -> bool:
    try:
        name_octets(word.decode("ascii"))
    except (BadName, UnicodeDecodeError):
        return False
    return True


def is_told_safely(text: str) -> bool:
    """Whether it may stand in a reply: one line of printable ASCII that fits."""
    return text.isascii() and text.isprintable() and len(text) <= macros.EXPLANATION_CHARACTERS_MAX


# --- SPF ---

VALUES = {
    "s": "strong-bad@email.example.com", "l": "strong-bad", "o": "email.example.com",
    "d": "email.example.com", "i": ADDRESS, "p": "mx.example.org", "v": "in-addr",
    "h": "ü\r\n<x>%{h}", "c": ADDRESS, "r": "mx.example.net", "t": "1700000000",
}  # fmt: skip


def spf_record(octets: bytes) -> Hashable:
    record = parse_record(octets)
    if isinstance(record, BadRecord):
        assert record.text.isprintable() and record.reason.isprintable()
        return record.reason[:12]
    specs = [record.redirect, record.explanation]
    specs += [getattr(mechanism, "domain", None) for mechanism in record.mechanisms[:20]]
    seen = [_expanded(spec) for spec in specs if isinstance(spec, DomainSpec)]
    return tuple(type(mechanism).__name__ for mechanism in record.mechanisms[:8]), tuple(seen[:8])


def _expanded(spec: DomainSpec) -> bool:
    name = macros.expand_name(spec, VALUES)
    assert len(name) <= NAME_CHARACTERS_MAX
    asked = question_name(name)
    if asked:
        name_octets(asked)
    return bool(asked)


def spf_macros(octets: bytes) -> Hashable:
    """As an explanation, and as the domain of a term."""
    parts = parse_explanation(octets)
    record = parse_record(b"v=spf1 exists:" + octets)
    if not isinstance(record, BadRecord):
        for mechanism in record.mechanisms[:20]:
            spec = getattr(mechanism, "domain", None)
            if spec is not None:
                _expanded(spec)
    if parts is None:
        return type(record).__name__
    text = macros.expand_text(parts, VALUES)
    assert is_told_safely(text)
    return len(parts), text[:20], type(record).__name__


def spf_check(octets: bytes) -> Hashable:
    """The first line is who says it, the others are what the DNS answers."""
    sender, _, rest = octets.partition(b"\n")
    local_part, _, hello = sender.decode("latin-1").partition("@")
    lines = Lines(rest)
    path = Address(local_part, NAME)
    by_helo, by_sender = answer(spf.verify(ADDRESS, hello, path, receiver="mx.example.net"), lines)
    assert lines.asked <= 2 * spf.QUESTIONS_MAX
    for outcome in (by_helo, by_sender):
        assert is_told_safely(outcome.explanation)
        field = received_spf(outcome, ADDRESS, hello, SERVER)
        assert field.isascii() and len(read_section(field).fields) == 1
        if outcome.result in (Result.FAIL, Result.TEMPERROR, Result.PERMERROR):
            lines_said = refusal(outcome).encode().split(b"\r\n")
            assert len(lines_said) <= 4 and all(len(line) <= 510 for line in lines_said)
        assert len(outcome.evidence) <= EVIDENCE_MAX + 1
    return by_helo.result, by_sender.result, by_sender.reason[:20], bool(by_sender.explanation)


# --- DKIM ---


def dkim_signature(octets: bytes) -> Hashable:
    """As a DKIM-Signature and as an ARC-Message-Signature."""
    seen: list[Hashable] = []
    for kind in Kind:
        try:
            found = read_signature(octets, kind)
        except DkimSyntaxError as error:
            seen.append(str(error)[:14])
            continue
        name_octets(found.key_name)
        assert b"from" in found.names and found.identity_domain.endswith(found.domain)
        seen.append((found.header_how, found.body_how, found.algorithm, found.body_limit is None))
    return tuple(seen)


def dkim_key(octets: bytes) -> Hashable:
    key = read_key(octets)
    if isinstance(key, Unusable):
        assert key.reason.isprintable() and len(key.reason) < 200
        return key.reason[:24], key.is_testing
    assert not key.verifies(b"no signature", DIGEST)
    return key.algorithm, key.bits, key.is_testing, key.is_strict


def dkim_body(octets: bytes) -> Hashable:
    """In one piece and in several: the hash is the same, and that of the octets by the rules."""
    seen = []
    for how in Canonicalization:
        limits = (None, 0, 1, 7, len(octets))
        whole = canonical.hash_body(octets, 0, how, limits)
        is_short = len(octets) < 1024
        for limit in limits if is_short else limits[:1]:
            for step in (1, 3, 1460) if is_short else (1460,):
                hasher = canonical.BodyHasher(how, limit)
                for at in range(0, len(octets), step):
                    hasher.update(octets[at : at + step])
                assert hasher.digest() == whole[limit], (how, limit, step)
        body = by_the_rules(octets, how)
        assert whole[None] == canonical.BodyHash(sha256(body).digest(), len(body))
        seen.append(len(octets) - len(body))
    return tuple(seen)


def by_the_rules(octets: bytes, how: Canonicalization) -> bytes:
    """A canonical body, written as RFC 6376 §3.4.3 and §3.4.4 say it."""
    lines = octets.split(b"\r\n")
    if how is Canonicalization.RELAXED:
        lines = [re.sub(rb"[ \t]+", b" ", line).removesuffix(b" ") for line in lines]
    while lines and not lines[-1]:
        lines.pop()
    ended = b"".join(line + b"\r\n" for line in lines)
    return ended or (b"\r\n" if how is Canonicalization.SIMPLE else b"")


def dkim_message(octets: bytes) -> Hashable:
    """Its lines are also what the DNS says. Then it is signed, and verified."""
    section = read_section(octets)
    prepared = verify.prepare(octets, section, author_domains=(NAME,))
    outcomes = answer(verify.verify(prepared, NOW_S), Lines(octets))
    assert len(outcomes) <= 8 + 1
    for outcome in outcomes:
        assert outcome.result is not Result.PASS or outcome.key_bits
        assert outcome.reason.isprintable() and len(outcome.reason) < 1000
    # A message that begins with a continuation would continue the last field put in front of it.
    if b"from" in section and exceeded(section) is None and octets[:1] not in (b" ", b"\t"):
        _sign_and_verify(section)
    return tuple((outcome.result, outcome.reason[:12]) for outcome in outcomes[:8])


def _sign_and_verify(section: HeaderSection) -> None:
    fields = sign.sign(section, (SIGNING_KEY,), now_unix_s=NOW_S, expires_s=60)
    octets = fields + section.octets
    signed = read_section(octets)
    if exceeded(signed) is not None:
        return
    prepared = verify.prepare(octets, signed, author_domains=(SIGNING_KEY.domain,))
    outcomes = answer(verify.verify(prepared, NOW_S), _signing_key)
    ours = [each for each in outcomes if each.domain == SIGNING_KEY.domain]
    assert ours and ours[0].result is Result.PASS, outcomes


def _signing_key(question: Question) -> DnsAnswer:
    if question.name != f"s._domainkey.{SIGNING_KEY.domain}":
        return DnsAnswer(status=DnsStatus.NO_NAME, name=question.name)
    return DnsAnswer(status=DnsStatus.FOUND, name=question.name, records=(SIGNING_RECORD,))


# --- ARC ---


def arc_sets(octets: bytes) -> Hashable:
    """Of a message; its lines are also what the DNS says."""
    prepared = arc.prepare(octets, read_section(octets))
    assert len(prepared.sets) <= INSTANCES_MAX
    found = answer(arc.verify(prepared, NOW_S), Lines(octets))
    assert len(found.sealers) == len(found.results)
    assert found.result is not Result.PASS
    assert found.reason.isprintable() and len(found.reason) < 1000
    return found.result, found.reason[:24], len(found.sealers)


# --- Authentication-Results, From, reverse DNS ---


def authentication_results(octets: bytes) -> Hashable:
    """Read, written and read again; and nothing in our name is left."""
    found = authres.parse(octets)
    if found is not None:
        again = _written_and_read(found.results)
        assert _written_and_read(again) == again
    message = b"Authentication-Results: " + octets + b"\r\nFrom: a@b.example\r\n\r\n"
    section = read_section(authres.without_forged(read_section(message), OWN_IDS) or message)
    for field in section.fields:
        if field.name == authres.FIELD_NAME:
            left = authres.parse(section.value(field))
            assert left is None or left.authserv_id not in OWN_IDS
    if found is None:
        return authres.is_forged(octets, OWN_IDS)
    return (
        found.version, found.is_complete, authres.is_forged(octets, OWN_IDS),
        tuple((one.name, one.result, len(one.properties)) for one in found.results[:5]),
    )  # fmt: skip


def _written_and_read(results: tuple[Finding, ...]) -> tuple[Finding, ...]:
    written = authres.render(SERVER, results)
    section = read_section(written)
    assert written.isascii() and section.end == len(written) and len(section.fields) == 1
    found = authres.parse(section.value(section.fields[0]))
    assert found is not None and found.authserv_id == SERVER and found.is_complete
    return found.results


def author(octets: bytes) -> Hashable:
    """The whole is a header section that names authors, and each line a domain."""
    found = author_domains(read_section(octets))
    assert len(found.domains) <= evaluate.AUTHOR_DOMAINS_MAX
    assert found.domains or found.fault
    for domain in found.domains:
        assert domain_to_ascii(domain) == domain
    drawn = homographs(found)
    return len(found.domains), found.fault[:16], found.is_malformed, len(found.named), len(drawn)


def reverse_dns(octets: bytes) -> Hashable:
    lines = Lines(octets)
    found = answer(iprev.check(ADDRESS), lines)
    assert lines.asked <= 1 + iprev.NAMES_MAX
    return found.result, found.reason[:16]


# --- DMARC ---


def dmarc_record(octets: bytes) -> Hashable:
    policy = dmarc.parse(octets, NAME)
    if policy is None:
        assert not dmarc.is_policy(octets)
        return None
    assert len(policy.aggregate_uris) <= 10 and len(policy.failure_uris) <= 10
    for uri in (*policy.aggregate_uris, *policy.failure_uris):
        assert uri.isascii() and uri.isprintable() and " " not in uri
    assert policy.text.isprintable()
    outcomes = answer(evaluate.evaluate((f"a.{NAME}", NAME), None, ()), Lines(octets))
    return (
        evaluate.strictest(outcomes).result,
        policy.policy, policy.subdomain_policy, policy.missing_policy, policy.is_testing,
        policy.public_suffix, policy.failure_options, len(policy.aggregate_uris), policy.fault,
    )  # fmt: skip


TARGETS = (
    Target("dns-records", dns_records, samples.DNS_RECORDS),
    Target("spf-record", spf_record, samples.SPF_RECORDS),
    Target("spf-macros", spf_macros, samples.SPF_MACROS),
    Target("spf-check", spf_check, samples.SPF_CHECKS),
    Target("dkim-signature", dkim_signature, samples.DKIM_SIGNATURES),
    Target("dkim-key", dkim_key, samples.DKIM_KEYS),
    Target("dkim-body", dkim_body, samples.BODIES),
    Target("dkim-message", dkim_message, samples.SIGNED_MESSAGES),
    Target("arc-sets", arc_sets, samples.ARC_MESSAGES),
    Target("authentication-results", authentication_results, samples.AUTHENTICATION_RESULTS),
    Target("author", author, samples.AUTHORS),
    Target("reverse-dns", reverse_dns, samples.REVERSE_NAMES),
    Target("dmarc-record", dmarc_record, samples.DMARC_RECORDS),
)
