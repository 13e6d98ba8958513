"""Verifying the signatures of a message (RFC 6376 §6).

`prepare` is the work of the processor: it reads the fields, chooses which to check and computes all
hashes, in time linear in the message; a caller may give it to `Workers`. `verify` asks for the
keys, all at once, and compares.

The words of RFC 8601 §2.7.1 are used so: `permerror` for what RFC 6376 §6.1.1 and §6.1.2 fault (the
field, the key record), `neutral` for what is well formed but not known here and so ignored, `fail`
where a hash or the signature itself does not match, `policy` where it does but leaves a part of the
body unsigned.
"""

from __future__ import annotations

import re
from binascii import b2a_base64
from collections.abc import Sequence
from hashlib import sha256
from typing import Final

import msgspec

from posthouse.kernel.finding import Evidence
from posthouse.kernel.ports import DnsAnswer, DnsStatus, RecordType
from posthouse.mailauth.dkim import canonical
from posthouse.mailauth.dkim.canonical import BodyHash, Canonicalization, Fields
from posthouse.mailauth.dkim.grammar import (
    RSA,
    DkimSyntaxError,
    Signature,
    read_signature,
    shown,
)
from posthouse.mailauth.dkim.keys import (
    RECORD_OCTETS_MAX,
    SHOWN_OCTETS_MAX,
    Key,
    Unusable,
    read_key,
    record_text,
)
from posthouse.mailauth.questions import Question, Questions
from posthouse.mailauth.results import DkimOutcome, Result
from posthouse.message.fields import (
    FIELDS_MAX,
    HEADER_OCTETS_MAX,
    Field,
    HeaderSection,
    exceeded,
)

FIELD: Final = b"dkim-signature"
RELAXED: Final = Canonicalization.RELAXED
RECORDS_MAX: Final = 4
"""Key records tried where a name has several."""

# What readers are shown or judged by; one more of these, unsigned, misleads (RFC 6376 §8.15).
MISLEADING: Final = {
    name.lower().encode(): name
    for name in (
        *("From", "Sender", "Reply-To", "To", "Cc", "Subject", "Date", "Message-ID"),
        *("MIME-Version", "Content-Type", "Content-Transfer-Encoding"),
    )
}
_MISLEADING_NAMES: Final = frozenset(MISLEADING)


class Options(msgspec.Struct, frozen=True, kw_only=True):
    signatures_max: int = 8
    key_octets_max: int = RECORD_OCTETS_MAX
    rsa_bits_min: int = 1024
    rsa_bits_max: int = 4096
    accepts_partial: bool = False
    clock_skew_s: float = 300.0


DEFAULTS: Final = Options()


class Ready(msgspec.Struct, frozen=True):
    """A signature whose hashes are computed."""

    signature: Signature
    body: BodyHash
    header_hash: bytes
    doubled: tuple[str, ...] = ()
    """Names of `MISLEADING` that h= has, but not as often as they stand: some were added."""
    uncovered: tuple[str, ...] = ()
    """Names of `MISLEADING` that stand and that h= does not have."""

    @property
    def is_partial(self) -> bool:
        limit = self.signature.body_limit
        return limit is not None and limit < self.body.octets


class Prepared(msgspec.Struct, frozen=True):
    signatures: tuple[Ready | DkimOutcome, ...]
    """In the order of their fields; an outcome where there is nothing to ask for."""
    unchecked: int
    """Signatures beyond `Options.signatures_max`."""
    options: Options


# --- the work before any question ---


def prepare(
    octets: bytes,
    section: HeaderSection,
    *,
    author_domains: Sequence[str] = (),
    options: Options = DEFAULTS,
) -> Prepared:
    """Read and hash.

    Args:
        octets: the message, which `section` was read from.
        author_domains: of the From field, A-labels in lower case: signatures of theirs are checked
            before others when there are too many.
    """
    if FIELD not in section:
        return Prepared((), 0, options)
    places = [field for field in section.fields if field.name == FIELD]
    chosen = _chosen(octets, places, author_domains, options.signatures_max)
    fault = section_fault(section)
    signatures: list[Ready | DkimOutcome] = []
    read: list[tuple[int, Field, Signature]] = []
    for at, field in enumerate(chosen):
        value = octets[field.value_start : field.end]
        try:
            if fault:
                raise DkimSyntaxError(fault)
            read.append((at, field, read_signature(canonical.without_line_end(value))))
        except DkimSyntaxError as error:
            signatures.append(_unreadable(octets, field, error))
    if read:
        fields = Fields(section)
        bodies = body_hashes(section, [signature for _, _, signature in read])
        for (at, field, signature), body in zip(read, bodies, strict=True):
            hashed, left = header_hash(fields, field, signature)
            ready = Ready(signature, body, hashed, *_unsigned(fields, left))
            signatures.insert(at, ready)
    return Prepared(tuple(signatures), len(places) - len(chosen), options)


def section_fault(section: HeaderSection) -> str:
    """Where not all fields are read, nobody can say which ones a signature covers."""
    if section.end - section.start > HEADER_OCTETS_MAX or len(section.fields) >= FIELDS_MAX:
        limit = exceeded(section, field_octets_max=HEADER_OCTETS_MAX)
        if limit is not None:
            return f"the header section is beyond {limit.limit.value}"
    return ""


def body_hashes(section: HeaderSection, signatures: Sequence[Signature]) -> list[BodyHash]:
    """Of each signature; each canonicalization is done once, whatever the limits (l=) are."""
    octets, start = section.octets, section.body
    if len(signatures) == 1:
        how, limit = signatures[0].body_how, signatures[0].body_limit
        return [canonical.hash_body(octets, start, how, (limit,))[limit]]
    found: dict[bool, dict[int | None, BodyHash]] = {}
    for is_relaxed in (True, False):
        limits = {
            each.body_limit for each in signatures if (each.body_how is RELAXED) is is_relaxed
        }
        if limits:
            how = RELAXED if is_relaxed else Canonicalization.SIMPLE
            found[is_relaxed] = canonical.hash_body(octets, start, how, tuple(limits))
    return [found[each.body_how is RELAXED][each.body_limit] for each in signatures]


def header_hash(
    fields: Fields, field: Field, signature: Signature
) -> tuple[bytes, dict[bytes, int]]:
    """SHA-256 of what h= covers and of the signature field itself (RFC 6376 §3.7), and how many
    fields of each of its names h= leaves over."""
    how = signature.header_how
    pieces, left = fields.chosen(signature.names, how)
    pieces.append(fields.own(field, how))
    return sha256(b"".join(pieces)).digest(), left


def _unsigned(fields: Fields, left: dict[bytes, int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`Ready.doubled` and `Ready.uncovered`."""
    doubled = tuple(
        [MISLEADING[name] for name, count in left.items() if count and name in MISLEADING]
    )
    missing = _MISLEADING_NAMES.intersection(fields.places).difference(left)
    if not missing:
        return doubled, ()
    return doubled, tuple(name for lower, name in MISLEADING.items() if lower in missing)


_D_TAG: Final = re.compile(rb"[:;][ \t\r\n]*+d[ \t\r\n]*+=[ \t\r\n]*+([^; \t\r\n]{1,253})")


def _domain_of(octets: bytes, field: Field) -> str:
    """d= of a field that may not be readable, as it is written."""
    found = _D_TAG.search(octets, field.value_start - 1, field.end)
    return found[1].decode("utf-8", "replace").lower() if found is not None else ""


def _chosen(
    octets: bytes, places: list[Field], author_domains: Sequence[str], signatures_max: int
) -> list[Field]:
    """The signatures to check: those of domains near the author's, then the topmost ones."""
    if len(places) <= signatures_max:
        return places
    authors = [domain.split(".")[::-1] for domain in author_domains]

    def distance(at: int) -> tuple[int, int]:
        labels = _domain_of(octets, places[at]).split(".")[::-1]
        return min((_distance(labels, author) for author in authors), default=0), at

    best = sorted(range(len(places)), key=distance)[:signatures_max]
    return [places[at] for at in sorted(best)]


def _distance(labels: list[str], author: list[str]) -> int:
    """0 for the same domain, 1 for one within the other, 2 for two that share two labels."""
    if labels == author:
        return 0
    common = 0
    for one, other in zip(labels, author, strict=False):
        if one != other:
            break
        common += 1
    if common == min(len(labels), len(author)) and common >= 2:
        return 1
    return 2 if common >= 2 else 3


def _unreadable(octets: bytes, field: Field, error: DkimSyntaxError) -> DkimOutcome:
    domain = shown(_domain_of(octets, field))
    return DkimOutcome(
        result=Result.NEUTRAL if error.is_unknown else Result.PERMERROR,
        reason=f"the signature field cannot be used: {error}",
        evidence=(Evidence("d= of the field", domain),) if domain else (),
    )


# --- asking and comparing ---


def verify(prepared: Prepared, now_unix_s: int) -> Questions[tuple[DkimOutcome, ...]]:
    """The outcome of each signature, in the order of the fields, and one more (neutral) for all
    that were not checked."""
    outcomes: list[DkimOutcome] = []
    waiting: list[tuple[int, Ready, str]] = []
    for at, each in enumerate(prepared.signatures):
        if isinstance(each, DkimOutcome):
            outcomes.append(each)
        elif reason := _fault_before_key(each, now_unix_s, prepared.options):
            outcomes.append(_outcome(each, Result.PERMERROR, reason))
        else:
            waiting.append((at, each, each.signature.key_name))
    if waiting:
        wanted = list(dict.fromkeys([name for _, _, name in waiting]))
        answers = yield tuple([Question(name, RecordType.TXT) for name in wanted])
        for at, each, name in waiting:
            answer = answers[wanted.index(name)]
            outcomes.insert(at, _judged(each, name, answer, prepared.options))
    if prepared.unchecked:
        outcomes.append(_not_checked(prepared))
    return tuple(outcomes)


def _not_checked(prepared: Prepared) -> DkimOutcome:
    return DkimOutcome(
        result=Result.NEUTRAL,
        reason=f"{prepared.unchecked} more signatures were not checked,"
        f" {prepared.options.signatures_max} are at most",
    )


def _fault_before_key(ready: Ready, now_unix_s: int, options: Options) -> str:
    """What is wrong whatever the key is, or ""."""
    limit = ready.signature.body_limit
    if limit is not None and limit > ready.body.octets:
        return f"l= says {_cut(str(limit), 20)} octets, the body has {ready.body.octets}"
    return untimely(ready.signature, now_unix_s, options.clock_skew_s)


def untimely(signature: Signature, now_unix_s: int, skew_s: float) -> str:
    """Why a signature's times are not to be believed, or ""."""
    if signature.signed_at is not None and signature.signed_at > now_unix_s + skew_s:
        return f"it was signed in the future (t={signature.signed_at})"
    if signature.expires_at is not None and signature.expires_at + skew_s < now_unix_s:
        return f"it has expired (x={signature.expires_at})"
    return ""


def usable_key(record: bytes, algorithm: str, options: Options) -> Key | Unusable:
    """The key of a record, if it fits the algorithm and the bounds (RFC 6376 §6.1.2)."""
    key = read_key(record, octets_max=options.key_octets_max)
    if isinstance(key, Unusable):
        return key
    if key.algorithm != algorithm:
        return Unusable(f"the key is for {key.algorithm} and not for {algorithm}", key.is_testing)
    if algorithm == RSA:
        if key.bits < options.rsa_bits_min:
            return Unusable(
                f"the RSA key has {key.bits} bits, fewer than {options.rsa_bits_min}"
                " (RFC 8301 §3.2)",
                key.is_testing,
            )
        if key.bits > options.rsa_bits_max:
            return Unusable(
                f"the RSA key has {key.bits} bits, more than {options.rsa_bits_max}",
                key.is_testing,
            )
    return key


def _judged(ready: Ready, name: str, answer: DnsAnswer, options: Options) -> DkimOutcome:
    asked = (Evidence(f"TXT {name}", answer_words(answer)),)
    if answer.status is DnsStatus.TEMPFAIL:
        reason = f"its key cannot be had now: {answer.detail or 'the DNS does not answer'}"
        return _outcome(ready, Result.TEMPERROR, reason, evidence=asked)
    if answer.status is not DnsStatus.FOUND or not answer.records:
        reason = f"there is no key at {name}"
        return _outcome(ready, Result.PERMERROR, reason, evidence=asked)
    outcome = None
    for record in answer.records[:RECORDS_MAX]:
        found = _with_record(ready, record, asked, options)
        if outcome is None or _RANK[found.result] > _RANK[outcome.result]:
            outcome = found
        if found.result in (Result.PASS, Result.POLICY):
            break
    assert outcome is not None
    return outcome


_RANK: Final = {Result.PERMERROR: 0, Result.FAIL: 1, Result.POLICY: 2, Result.PASS: 3}
"""Of several records, the one that brings a signature farthest counts (RFC 6376 §6.1.2)."""


def _with_record(
    ready: Ready, record: bytes, asked: tuple[Evidence, ...], options: Options
) -> DkimOutcome:
    signature = ready.signature
    key = usable_key(record, signature.algorithm, options)
    if isinstance(key, Unusable):
        return _outcome(
            ready, Result.PERMERROR, key.reason, evidence=asked, is_testing=key.is_testing
        )
    if key.is_strict and signature.identity_domain != signature.domain:
        reason = (
            f"its key is for {signature.domain} only (t=s), not for {signature.identity_domain}"
        )
        return _outcome(ready, Result.PERMERROR, reason, key=key, evidence=asked)
    evidence = (*asked, *hash_evidence(ready))
    if ready.body.digest != signature.body_hash:
        reason = "the body is not the one that was signed"
        return _outcome(ready, Result.FAIL, reason, key=key, evidence=evidence)
    if not key.verifies(signature.signature, ready.header_hash):
        reason, more = why_not_verified(key, signature.signature)
        return _outcome(ready, Result.FAIL, reason, key=key, evidence=evidence + more)
    if ready.is_partial and not options.accepts_partial:
        reason = f"l= leaves {_tail(ready)} of {ready.body.octets} octets of the body unsigned"
        return _outcome(ready, Result.POLICY, reason, key=key, evidence=evidence)
    return _outcome(ready, Result.PASS, _weakness(ready), key=key, evidence=evidence)


def why_not_verified(key: Key, signature: bytes) -> tuple[str, tuple[Evidence, ...]]:
    """In words, with the hash that was signed where the signature tells it."""
    signed = key.signed_digest(signature)
    if signed is None:
        return "the signature was not made with this key, or of other header fields", ()
    return (
        "a signed header field was changed, added or taken away",
        (Evidence("the header hash that was signed", signed.hex()),),
    )


def _tail(ready: Ready) -> int:
    return ready.body.octets - (ready.signature.body_limit or 0)


def _weakness(ready: Ready) -> str:
    """What a signature that passes leaves open."""
    if not (ready.is_partial or ready.doubled):
        return ""
    words = []
    if ready.is_partial:
        words.append(f"l= leaves {_tail(ready)} octets of the body unsigned")
    if ready.doubled:
        words.append(f"a second field stands unsigned: {', '.join(ready.doubled)}")
    return "; ".join(words)


def hash_evidence(ready: Ready) -> tuple[Evidence, ...]:
    signature, body = ready.signature, ready.body
    computed = b2a_base64(body.digest, newline=False).decode()
    if body.digest == signature.body_hash:
        compared = f"{computed}, as bh= says"
    else:
        said = b2a_base64(signature.body_hash, newline=False).decode()
        compared = f"{computed}, bh= says {said}"
    found = [
        Evidence(f"body hash, {signature.body_how.value}", compared),
        Evidence(f"header hash, {signature.header_how.value}", ready.header_hash.hex()),
    ]
    if ready.doubled:
        found.append(Evidence("stands more often than it is signed", ", ".join(ready.doubled)))
    if ready.uncovered:
        found.append(Evidence("stands unsigned", ", ".join(ready.uncovered)))
    return tuple(found)


def answer_words(answer: DnsAnswer, characters_max: int = SHOWN_OCTETS_MAX) -> str:
    """What the DNS said, printable and cut."""
    if answer.status is not DnsStatus.FOUND:
        return f"{answer.status.value}: {answer.detail}" if answer.detail else answer.status.value
    if len(answer.records) == 1:
        return _cut(record_text(answer.records[0]), characters_max)
    texts = [record_text(record) for record in answer.records[:RECORDS_MAX]]
    return _cut(" | ".join(texts), characters_max)


def _cut(text: str, characters_max: int) -> str:
    return text if len(text) <= characters_max else f"{text[:characters_max]}…"


def _outcome(
    ready: Ready,
    result: Result,
    reason: str,
    *,
    key: Key | None = None,
    is_testing: bool = False,
    evidence: tuple[Evidence, ...] = (),
) -> DkimOutcome:
    signature = ready.signature
    return DkimOutcome(
        result=result,
        domain=signature.domain,
        selector=signature.selector,
        algorithm=signature.algorithm,
        identity=signature.identity,
        signature=signature.start_of_b,
        names=signature.names,
        key_bits=key.bits if key is not None else 0,
        is_partial=ready.is_partial,
        is_testing=key.is_testing if key is not None else is_testing,
        reason=reason,
        evidence=evidence,
    )
