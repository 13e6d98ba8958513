"""Whether an Authenticated Received Chain is whole (RFC 8617 §5.2).

As with DKIM, `prepare` is all work of the processor and `verify` asks for all keys at once. Where
the structure or a hash is wrong already, nothing is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import Final, TypeVar

import msgspec

from posthouse.kernel.finding import Evidence
from posthouse.kernel.ports import DnsAnswer, DnsStatus, RecordType
from posthouse.mailauth.arc.grammar import (
    INSTANCES_MAX,
    MessageSignature,
    Seal,
    read_message_signature,
    read_results,
    read_seal,
)
from posthouse.mailauth.dkim import verify as dkim
from posthouse.mailauth.dkim.canonical import (
    BodyHash,
    Canonicalization,
    Fields,
    hash_body,
    without_line_end,
)
from posthouse.mailauth.dkim.grammar import DkimSyntaxError, Signature, key_name
from posthouse.mailauth.dkim.keys import Unusable
from posthouse.mailauth.dkim.verify import DEFAULTS, Options
from posthouse.mailauth.questions import Question, Questions
from posthouse.mailauth.results import ArcOutcome, Result
from posthouse.message.fields import Field, HeaderSection

T = TypeVar("T")

RESULTS: Final = b"arc-authentication-results"
MESSAGE_SIGNATURE: Final = b"arc-message-signature"
SEAL: Final = b"arc-seal"
NAMES: Final = frozenset({RESULTS, MESSAGE_SIGNATURE, SEAL})
_RELAXED: Final = Canonicalization.RELAXED


RECORDS_MAX: Final = 2
"""Key records of one name that are tried; fifty seals by fifty names are enough work."""


class Set(msgspec.Struct, frozen=True):
    """One ARC set whose fields could be read, with the hash its seal was made of."""

    seal: Seal
    results: bytes
    seal_hash: bytes


class Prepared(msgspec.Struct, frozen=True):
    """`reason` tells why the chain fails whatever the keys are; without sets and reason there is
    no chain."""

    options: Options
    reason: str = ""
    sets: tuple[Set, ...] = ()
    """The oldest (i=1) first."""
    newest: Signature | None = None
    """Of the message; the older ones need not hold any more."""
    body: BodyHash | None = None
    header_hash: bytes = b""


class _Broken(Exception):
    """Why the chain fails."""


def prepare(octets: bytes, section: HeaderSection, *, options: Options = DEFAULTS) -> Prepared:
    """Read the chain and compute its hashes; `octets` are what `section` was read from."""
    if not section.has_any(NAMES):
        return Prepared(options)
    try:
        return _prepared(octets, section, options)
    except _Broken as broken:
        return Prepared(options, str(broken))


def _prepared(octets: bytes, section: HeaderSection, options: Options) -> Prepared:
    if fault := dkim.section_fault(section):
        raise _Broken(fault)
    places: dict[bytes, list[Field]] = {name: [] for name in NAMES}
    for field in section.fields:
        if field.name in NAMES:
            places[field.name].append(field)
    if max(map(len, places.values())) > INSTANCES_MAX:
        raise _Broken(f"more than {INSTANCES_MAX} ARC sets")
    seals = _by_instance(octets, places[SEAL], _seal)
    _check_newest(seals)
    results = _by_instance(octets, places[RESULTS], read_results)
    signatures = _by_instance(octets, places[MESSAGE_SIGNATURE], _message_signature)
    last = len(seals)
    for name, found in ((SEAL, seals), (RESULTS, results), (MESSAGE_SIGNATURE, signatures)):
        if set(found) != set(range(1, last + 1)):
            raise _Broken(f"the instances of {name.decode()} are not 1 to {last}, each once")
    _check_chain_status(seals)
    fields = Fields(section)
    sets, state = [], sha256()
    for instance in range(1, last + 1):
        seal_field, seal = seals[instance]
        results_field, text = results[instance]
        # §5.1.1: all sets up to this one, its own seal last and without its signature.
        state.update(fields.canonical(results_field, _RELAXED))
        state.update(fields.canonical(signatures[instance][0], _RELAXED))
        own = state.copy()
        own.update(fields.own(seal_field, _RELAXED))
        sets.append(Set(seal, text, own.digest()))
        state.update(fields.canonical(seal_field, _RELAXED))
    place, newest = signatures[last]
    try:
        signature = newest.signature()
    except DkimSyntaxError as error:
        raise _Broken(f"{MESSAGE_SIGNATURE.decode()} i={last} cannot be used: {error}") from None
    limit = signature.body_limit
    body = hash_body(octets, section.body, signature.body_how, (limit,))[limit]
    header_hash, _ = dkim.header_hash(fields, place, signature)
    return Prepared(options, "", tuple(sets), signature, body, header_hash)


def _seal(value: bytes) -> tuple[int, Seal]:
    seal = read_seal(value)
    return seal.instance, seal


def _message_signature(value: bytes) -> tuple[int, MessageSignature]:
    found = read_message_signature(value)
    return found.instance, found


def _by_instance(
    octets: bytes, places: list[Field], read: Callable[[bytes], tuple[int, T]]
) -> dict[int, tuple[Field, T]]:
    found: dict[int, tuple[Field, T]] = {}
    for field in places:
        name = field.name.decode()
        try:
            instance, value = read(without_line_end(octets[field.value_start : field.end]))
        except DkimSyntaxError as error:
            raise _Broken(f"the {name} field cannot be used: {error}") from None
        if instance in found:
            raise _Broken(f"{name} stands twice with i={instance}")
        found[instance] = (field, value)
    return found


def _check_newest(seals: dict[int, tuple[Field, Seal]]) -> None:
    """§5.2 step 2."""
    if seals and seals[max(seals)][1].chain_status == "fail":
        raise _Broken(f"its last sealer, {seals[max(seals)][1].domain}, found it broken (cv=fail)")


def _check_chain_status(seals: dict[int, tuple[Field, Seal]]) -> None:
    """§5.2 step 3 C."""
    for instance, (_, seal) in seals.items():
        wanted = "none" if instance == 1 else "pass"
        if seal.chain_status != wanted:
            raise _Broken(f"the seal i={instance} says cv={seal.chain_status} and not {wanted}")


# --- asking and comparing ---


def verify(prepared: Prepared, now_unix_s: int) -> Questions[ArcOutcome]:
    """The chain's status; of a chain that is none or broken, what could be read of it.

    Deviation: RFC 8617 §5.2.1 counts DNS failures as "fail", for the sake of who seals after us. We
    do not seal, so it is told apart (TEMPERROR), and never counts as a pass.
    """
    newest, body = prepared.newest, prepared.body
    if newest is None or body is None:
        if not prepared.reason:
            return ArcOutcome(result=Result.NONE)
        return ArcOutcome(result=Result.FAIL, reason=prepared.reason)
    hashes = dkim.hash_evidence(dkim.Ready(newest, body, prepared.header_hash))
    reason = _fault_before_keys(newest, body, now_unix_s, prepared.options)
    if reason:
        return _outcome(prepared, Result.FAIL, reason, hashes)
    wanted = {newest.key_name: 0}
    for each in prepared.sets:
        wanted.setdefault(key_name(each.seal.selector, each.seal.domain), len(wanted))
    answers = yield tuple(Question(name, RecordType.TXT) for name in wanted)
    evidence = [Evidence(f"TXT {name}", _short(answers[at])) for name, at in wanted.items()]
    evidence += hashes
    result, reason = _judged(prepared, newest, {name: answers[at] for name, at in wanted.items()})
    return _outcome(prepared, result, reason, tuple(evidence))


def _fault_before_keys(
    signature: Signature, body: BodyHash, now_unix_s: int, options: Options
) -> str:
    """§5.2 step 4, as far as no key is needed."""
    which = "of the newest ARC-Message-Signature"
    if reason := dkim.untimely(signature, now_unix_s, options.clock_skew_s):
        return f"{reason} {which}"
    limit = signature.body_limit
    if limit is not None and limit > body.octets:
        return f"l= {which} is more than the body has"
    if body.digest != signature.body_hash:
        return f"the body is not the one {which}"
    if limit is not None and limit < body.octets and not options.accepts_partial:
        return f"l= {which} leaves a part of the body unsigned"
    return ""


def _judged(
    prepared: Prepared, signature: Signature, answers: dict[str, DnsAnswer]
) -> tuple[Result, str]:
    options = prepared.options
    if failure := _verified(
        answers[signature.key_name],
        (signature.algorithm, signature.signature, prepared.header_hash),
        options,
    ):
        result, why = failure
        return result, f"ARC-Message-Signature i={len(prepared.sets)} of {signature.domain}: {why}"
    for each in reversed(prepared.sets):
        seal = each.seal
        answer = answers[key_name(seal.selector, seal.domain)]
        made = (seal.algorithm, seal.signature, each.seal_hash)
        if failure := _verified(answer, made, options):
            result, why = failure
            return result, f"ARC-Seal i={seal.instance} of {seal.domain}: {why}"
    return Result.PASS, ""


def _verified(
    answer: DnsAnswer, made: tuple[str, bytes, bytes], options: Options
) -> tuple[Result, str] | None:
    """None if a key of the answer verifies the (algorithm, signature, hash), or why none does."""
    algorithm, signature, digest = made
    if answer.status is DnsStatus.TEMPFAIL:
        return Result.TEMPERROR, "its key cannot be had now: " + (
            answer.detail or "the DNS does not answer"
        )
    why = "there is no key for it"
    for record in answer.records[:RECORDS_MAX]:
        key = dkim.usable_key(record, algorithm, options)
        if isinstance(key, Unusable):
            why = key.reason
        elif key.verifies(signature, digest):
            return None
        else:
            why = dkim.why_not_verified(key, signature)[0]
    return Result.FAIL, why


def _short(answer: DnsAnswer) -> str:
    """A record is looked at in full where DKIM fails; a chain may have fifty."""
    return dkim.answer_words(answer, characters_max=256)


def _outcome(
    prepared: Prepared, result: Result, reason: str, evidence: tuple[Evidence, ...]
) -> ArcOutcome:
    return ArcOutcome(
        result=result,
        sealers=tuple(each.seal.domain for each in prepared.sets),
        results=tuple(each.results for each in prepared.sets),
        reason=reason,
        evidence=evidence,
    )
