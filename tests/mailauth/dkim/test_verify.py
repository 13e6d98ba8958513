"""Verifying: RFC 6376 §6, and the words of RFC 8601 §2.7.1 for what comes out."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.finding import Evidence
from posthouse.kernel.ports import DnsStatus, RecordType
from posthouse.mailauth.dkim import verify as verifying
from posthouse.mailauth.dkim.canonical import Canonicalization, Fields, hash_body, relaxed_value
from posthouse.mailauth.dkim.grammar import ED25519, RSA
from posthouse.mailauth.dkim.sign import SigningKey, key_record
from posthouse.mailauth.dkim.verify import Options
from posthouse.mailauth.questions import Question
from posthouse.message.fields import HEADER_OCTETS_MAX, read_section
from tests.mailauth.dkim.lab import (
    DOMAIN,
    MESSAGE,
    NOW,
    Records,
    judge,
    key,
    new_key,
    record,
    records,
    results,
    sign,
)

BODY = read_section(MESSAGE).body


def by_hand(
    tags: str,
    message: bytes = MESSAGE,
    *,
    signer: SigningKey | None = None,
    names: str = "From:To:Subject:Date",
    limit: int | None = None,
) -> bytes:
    """A relaxed signature with any tags, which `sign` would not make."""
    signer = signer or key(ED25519)
    section = read_section(message)
    body = hash_body(message, section.body, Canonicalization.RELAXED, (limit,))[limit].digest
    value = (
        f" v=1; a={signer.algorithm}; c=relaxed/relaxed; d={signer.domain}; s={signer.selector};"
        f" h={names}; bh={b64encode(body).decode()}; {tags} b="
    ).encode()
    chosen = names.lower().encode().split(b":")
    covered, _ = Fields(section).chosen(chosen, Canonicalization.RELAXED)
    hashed = sha256(b"".join(covered))
    hashed.update(b"dkim-signature:" + relaxed_value(value))
    signature = b64encode(signer.signature(hashed.digest()))
    return b"DKIM-Signature:" + value + signature + b"\r\n" + message


def test_a_message_without_signature_has_no_outcome() -> None:
    assert judge(MESSAGE) == ()


def test_a_pass_says_all_about_itself() -> None:
    signed = sign(MESSAGE)
    (outcome,) = judge(signed)
    assert outcome.result.value == "pass"
    assert (outcome.domain, outcome.selector, outcome.identity) == (DOMAIN, "r", f"@{DOMAIN}")
    assert (outcome.algorithm, outcome.key_bits) == (RSA, 2048)
    assert len(outcome.signature) == 8
    assert b"b=" + outcome.signature.encode() in signed
    asked, body, header = outcome.evidence
    assert asked == Evidence(f"TXT r._domainkey.{DOMAIN}", record(RSA))
    assert body.what == "body hash, relaxed"
    assert body.found.endswith("=, as bh= says")
    assert header.what == "header hash, relaxed"
    assert len(bytes.fromhex(header.found)) == 32


CHANGES: list[tuple[str, Callable[[bytes], bytes], str, str]] = [
    ("body", lambda m: m.replace(b"this is", b"that is"), "fail", "the body is not the one"),
    ("more body", lambda m: m + b"PS\r\n", "fail", "the body is not the one"),
    ("field", lambda m: m.replace(b"A  letter", b"A bill"), "fail", "header field was changed"),
    ("field added", lambda m: b"Subject: x\r\n" + m, "fail", "header field was changed"),
    ("blanks", lambda m: m.replace(b"A  letter", b"A\t letter  "), "pass", ""),
    ("fold", lambda m: m.replace(b"A  letter", b"A\r\n letter"), "pass", ""),
    ("case of a name", lambda m: m.replace(b"\r\nSubject:", b"\r\nSUBJECT :"), "pass", ""),
    ("received", lambda m: b"Received: from x\r\n by y\r\n" + m, "pass", ""),
    ("lines at the end", lambda m: m + b"\r\n \r\n", "pass", ""),
    ("b=", lambda m: m.replace(b"\tb=", b"\tb=AAAA", 1), "fail", "not made with this key"),
]


@pytest.mark.parametrize(("change", "result", "reason"), [each[1:] for each in CHANGES])
def test_a_change_on_the_way(
    change: Callable[[bytes], bytes], result: str, reason: str
) -> None:  # RFC 6376 §3.4.2, §3.4.4, §6.1.3
    (outcome,) = judge(change(sign(MESSAGE)))
    assert outcome.result.value == result
    assert reason in outcome.reason


def test_a_header_that_was_changed_shows_both_hashes() -> None:
    signed = sign(MESSAGE)
    (before,), (after,) = judge(signed), judge(signed.replace(b"A  letter", b"A bill"))
    assert after.evidence[-1] == Evidence(
        "the header hash that was signed", before.evidence[2].found
    )


def test_a_body_that_was_changed_shows_both_hashes() -> None:
    signed = sign(MESSAGE)
    (outcome,) = judge(signed + b"PS\r\n")
    said = signed.partition(b"bh=")[2].partition(b";")[0].decode()
    assert outcome.evidence[1].found.endswith(f", bh= says {said}")


# --- keys ---

NAME = f"r._domainkey.{DOMAIN}"
KEYS: list[tuple[Records, str, str]] = [
    ({}, "permerror", "there is no key at"),
    ({NAME: DnsStatus.NO_DATA}, "permerror", "there is no key at"),
    ({NAME: ()}, "permerror", "there is no key at"),
    ({NAME: DnsStatus.TEMPFAIL}, "temperror", "cannot be had now: for a test"),
    ({NAME: "v=DKIM1; p="}, "permerror", "revoked"),  # RFC 6376 §6.1.2 step 7
    ({NAME: "v=spf1 -all"}, "permerror", "none of DKIM's"),
    ({NAME: record(ED25519)}, "permerror", "is for ed25519-sha256"),
    ({NAME: record(RSA).replace("v=DKIM1", "v=DKIM1; h=sha1")}, "permerror", "SHA-256"),
    ({NAME: record(RSA).replace("v=DKIM1", "v=DKIM1; s=tlsrpt")}, "permerror", "not for mail"),
    ({NAME: record(RSA, 1024)}, "fail", "not made with this key"),
    # Several records: the one that verifies counts (RFC 6376 §6.1.2 step 4), of four at most.
    ({NAME: ("v=spf1 -all", record(RSA, 1024), record(RSA))}, "pass", ""),
    ({NAME: ("v=spf1 -all", record(RSA, 1024))}, "fail", "not made with this key"),
    ({NAME: (*["x=1"] * 4, record(RSA))}, "permerror", "no p="),
    ({NAME: record(RSA) + ";n=" + "x" * 66_000}, "permerror", "longer than"),  # H42
    ({NAME: record(RSA) + ";n=" + "x" * 60_000}, "pass", ""),  # H42
]


@pytest.mark.parametrize(("found", "result", "reason"), KEYS, ids=range(len(KEYS)))
def test_what_the_dns_says_about_the_key(found: Records, result: str, reason: str) -> None:
    (outcome,) = judge(sign(MESSAGE), found)
    assert outcome.result.value == result
    assert reason in outcome.reason
    assert outcome.domain == DOMAIN
    assert outcome.evidence[0].what == f"TXT {NAME}"
    assert sum(len(each.found) for each in outcome.evidence) < 3000


BOUNDS = [
    (1024, Options(), "pass", ""),
    (1024, Options(rsa_bits_min=2048), "permerror", "has 1024 bits, fewer than 2048"),
    (4096, Options(), "pass", ""),  # RFC 8301 §3.2
    (4096, Options(rsa_bits_max=2048), "permerror", "has 4096 bits, more than 2048"),
]


@pytest.mark.parametrize(("bits", "options", "result", "reason"), BOUNDS)
def test_keys_have_a_least_and_a_greatest_size(
    bits: int, options: Options, result: str, reason: str
) -> None:  # H42
    signed = sign(MESSAGE, key(RSA, rsa_bits=bits))
    (outcome,) = judge(signed, {NAME: record(RSA, bits)}, options=options)
    assert outcome.result.value == result
    assert reason in outcome.reason


@pytest.mark.parametrize("bits", [512, 768, 1023, 8192, 16_384])
def test_keys_of_other_sizes_are_refused_before_anything_is_computed(bits: int) -> None:  # H42
    from tests.mailauth.dkim.test_keys import rsa_record

    (outcome,) = judge(sign(MESSAGE), {NAME: rsa_record((1 << bits - 1) + 1, 65537)})
    assert outcome.result.value == "permerror"
    assert "bits, " in outcome.reason or "no RSA key" in outcome.reason


def test_a_key_in_testing_mode_is_told() -> None:  # RFC 6376 §3.6.1
    testing = {NAME: key_record(RSA, new_key(RSA).public, is_testing=True)}
    for message, result in ((sign(MESSAGE), "pass"), (sign(MESSAGE) + b"PS", "fail")):
        (outcome,) = judge(message, testing)
        assert outcome.is_testing
        assert outcome.result.value == result
    (outcome,) = judge(sign(MESSAGE), {NAME: "t=y; p="})
    assert outcome.is_testing


def test_a_strict_key_is_for_its_own_domain_only() -> None:  # RFC 6376 §3.6.1 t=s, §3.10
    strict = {f"e._domainkey.{DOMAIN}": record(ED25519).replace("v=DKIM1", "v=DKIM1; t=s")}
    assert results(judge(by_hand(""), strict)) == ["pass"]
    assert results(judge(by_hand(f"i=a@{DOMAIN};"), strict)) == ["pass"]
    (outcome,) = judge(by_hand(f"i=a@mail.{DOMAIN};"), strict)
    assert outcome.result.value == "permerror"
    assert "t=s" in outcome.reason
    (outcome,) = judge(by_hand(f"i=a@mail.{DOMAIN};"))
    assert (outcome.result.value, outcome.identity) == ("pass", f"a@mail.{DOMAIN}")


# --- times, lengths, coverage: H43 ---

TIMES = [
    (f"t={NOW + 299};", "pass", ""),
    (f"t={NOW + 301};", "permerror", "in the future"),  # H43
    (f"t={NOW - 10}; x={NOW - 299};".replace(f"t={NOW - 10}; ", ""), "pass", ""),
    (f"t={NOW - 900}; x={NOW - 301};", "permerror", "has expired"),
    (f"t={NOW}; x={NOW - 1};", "permerror", "x= is not after t="),  # H43
    ("x=999999999999;", "pass", ""),
]


@pytest.mark.parametrize(("tags", "result", "reason"), TIMES)
def test_times_of_a_signature(tags: str, result: str, reason: str) -> None:  # RFC 6376 §3.5
    (outcome,) = judge(by_hand(tags))
    assert outcome.result.value == result
    assert reason in outcome.reason


def test_a_signature_that_cannot_count_asks_for_no_key() -> None:
    for signed in (by_hand("t=1; x=2;"), by_hand("l=9999;"), by_hand("t=2; x=1;")):
        prepared = verifying.prepare(signed, read_section(signed))
        with pytest.raises(StopIteration) as end:
            next(verifying.verify(prepared, NOW))
        assert results(end.value.value) == ["permerror"]


CANONICAL_OCTETS = len(b"Hello Ben,\r\n\r\nthis is it.\r\n--\r\nAnn\r\n")
LENGTHS = [
    # l=, result, with accepts_partial, is_partial
    (CANONICAL_OCTETS, "pass", "pass", False),
    (CANONICAL_OCTETS - 1, "policy", "pass", True),
    (5, "policy", "pass", True),
    (0, "policy", "pass", True),  # H43
]


@pytest.mark.parametrize(("limit", "result", "accepted", "partial"), LENGTHS)
def test_a_body_that_is_signed_in_part(
    limit: int, result: str, accepted: str, partial: bool
) -> None:  # H43; RFC 6376 §8.2
    signed = by_hand(f"l={limit};", limit=limit)
    for options, expected in ((Options(), result), (Options(accepts_partial=True), accepted)):
        (outcome,) = judge(signed, options=options)
        assert (outcome.result.value, outcome.is_partial) == (expected, partial)
        assert ("unsigned" in outcome.reason) == partial


def test_html_behind_the_signed_part_is_no_pass() -> None:  # H43
    signed = by_hand(f"l={CANONICAL_OCTETS};", limit=CANONICAL_OCTETS)
    assert results(judge(signed)) == ["pass"]
    (outcome,) = judge(signed.rstrip(b"\r\n") + b"\r\n<b>Pay here</b>\r\n")
    assert (outcome.result.value, outcome.is_partial) == ("policy", True)
    assert outcome.reason == f"l= leaves 17 of {CANONICAL_OCTETS + 17} octets of the body unsigned"


@pytest.mark.parametrize("limit", [str(CANONICAL_OCTETS + 1), "9" * 20, "9" * 76])
def test_a_length_beyond_the_body_is_a_fault(limit: str) -> None:  # H43; RFC 6376 §3.5 l=
    (outcome,) = judge(by_hand(f"l={limit};"))
    assert outcome.result.value == "permerror"
    assert f"the body has {CANONICAL_OCTETS}" in outcome.reason


ADDED = [
    # fields added, h=, result, the reason names
    (b"", "From:To:Subject:Date", "pass", ""),
    (b"Subject: Evil\r\n", "From:To:Subject:Date", "pass", "Subject"),  # H43
    (b"From: Evil <e@evil.example>\r\n", "From:Subject", "pass", "From"),  # H43
    (b"subject: Evil\r\nTO: x\r\n", "From:To:Subject", "pass", "To, Subject"),
    (b"Subject: Evil\r\n", "From:From:Subject:Subject", "fail", ""),  # oversigned
    (b"Received: x\r\nComments: y\r\n", "From:Received", "pass", ""),
    (b"Comments: y\r\n", "From:Comments", "fail", ""),
    (b"X-Spam: y\r\n", "From", "pass", ""),
]


@pytest.mark.parametrize(("added", "names", "result", "named"), ADDED)
def test_a_second_field_that_nobody_signed_is_told(
    added: bytes, names: str, result: str, named: str
) -> None:  # H43; RFC 6376 §8.15
    (outcome,) = judge(added + by_hand("", names=names))
    assert outcome.result.value == result
    if named:
        assert outcome.reason == f"a second field stands unsigned: {named}"
        assert Evidence("stands more often than it is signed", named) in outcome.evidence


def test_fields_that_are_not_signed_at_all_are_evidence() -> None:
    (outcome,) = judge(by_hand("", names="From:Date"))
    assert outcome.result.value == "pass"
    assert outcome.evidence[-1] == Evidence("stands unsigned", "To, Subject, Message-ID")


UNREADABLE = [
    # a change of the field, result, part of the reason
    ((b"v=1", b"v=2"), "permerror", 'v= is "2"'),
    ((b"rsa-sha256", b"rsa-sha1"), "permerror", "RFC 8301"),
    ((b"rsa-sha256", b"rsa-sha512"), "neutral", "not known"),
    ((b"relaxed/relaxed", b"nofws"), "neutral", "not known"),
    ((b"h=From:From:", b"h="), "permerror", "does not cover From"),  # H43
    ((b"d=example.org", b"d=example.org; i=a@evil.example"), "permerror", "within d="),  # H43
    ((b"d=example.org", b"d=example.org; d=b.example"), "permerror", "d= stands twice"),
    ((b"\tb=", b"\tb=" + b" " * (1024 * 1024)), "permerror", "header section is beyond"),  # H43
    ((b"\tb=", b"\tb=" + b" " * 90_000), "permerror", "longer than"),  # H43
]


@pytest.mark.parametrize(("change", "result", "reason"), UNREADABLE, ids=range(len(UNREADABLE)))
def test_a_field_that_cannot_be_used_says_why(
    change: tuple[bytes, bytes], result: str, reason: str
) -> None:
    (outcome,) = judge(sign(MESSAGE).replace(*change, 1))
    assert outcome.result.value == result
    assert reason in outcome.reason
    assert outcome.domain == ""
    if change[0] != b"v=1":
        assert outcome.evidence == (Evidence("d= of the field", DOMAIN),)


def test_blanks_in_b_count_for_nothing() -> None:  # H43
    signed = sign(MESSAGE).replace(b"\tb=", b"\tb=" + b" \t" * 20_000, 1)
    assert results(judge(signed)) == ["pass"]


def test_nothing_is_verified_where_not_all_fields_are_read() -> None:
    signed = sign(MESSAGE)
    many = b"X: y\r\n" * 1000
    (outcome,) = judge(signed.replace(b"\r\n\r\n", b"\r\n" + many + b"\r\n", 1))
    assert outcome.result.value == "permerror"
    assert "message.fields_max" in outcome.reason
    long = b"".join(b"X: %b\r\n" % (b"y" * 60_000) for _ in range(HEADER_OCTETS_MAX // 60_000 + 1))
    (outcome,) = judge(signed.replace(b"\r\n\r\n", b"\r\n" + long + b"\r\n", 1))
    assert outcome.result.value == "permerror"
    assert "message.header_octets_max" in outcome.reason


# --- several signatures ---


def test_a_broken_signature_beside_a_good_one_takes_nothing_from_it() -> None:  # RFC 6376 §6.1
    signed = b"DKIM-Signature: junk\r\n" + sign(MESSAGE, key(RSA), key(ED25519))
    other = {**records(), NAME: "p="}
    assert results(judge(signed, other)) == ["permerror", "permerror", "pass"]


def test_keys_are_asked_for_at_once_and_each_once() -> None:
    signed = sign(sign(MESSAGE, key(RSA), key(ED25519)), key(RSA))
    check = verifying.verify(verifying.prepare(signed, read_section(signed)), NOW)
    assert next(check) == (
        Question(f"r._domainkey.{DOMAIN}", RecordType.TXT),
        Question(f"e._domainkey.{DOMAIN}", RecordType.TXT),
    )


def test_signatures_beyond_the_bound_are_counted_and_not_checked() -> None:  # H42
    field = sign(MESSAGE, key(ED25519))[: -len(MESSAGE)]
    section = read_section(field * 500 + MESSAGE)
    prepared = verifying.prepare(section.octets, section)
    assert (len(prepared.signatures), prepared.unchecked) == (8, 492)
    outcomes = judge(section.octets)
    assert results(outcomes) == ["pass"] * 8 + ["neutral"]
    assert outcomes[-1].reason == "492 more signatures were not checked, 8 are at most"


def test_signatures_of_the_author_come_before_others() -> None:  # H42
    junk = b"DKIM-Signature: v=1; d=bulk%d.example; b=x\r\n"
    head = b"".join(junk % number for number in range(20))
    wrong = b"DKIM-Signature: v=1; d=notexample.org; b=x\r\n"
    signed = head + wrong + sign(MESSAGE) + b""
    two = Options(signatures_max=2)
    assert [each.domain for each in judge(signed, options=two)] == ["", "", ""]
    for author in (DOMAIN, f"mail.{DOMAIN}"):
        first, second, rest = judge(signed, options=two, authors=("x.test", author))
        assert (first.domain, second.domain) == ("", DOMAIN)
        assert second.result.value == "pass"
        assert "20 more" in rest.reason
    parent = sign(MESSAGE, key(ED25519, f"mail.{DOMAIN}"))
    found = {f"e._domainkey.mail.{DOMAIN}": record(ED25519)}
    outcomes = judge(head + parent, found, options=two, authors=(DOMAIN,))
    assert results(outcomes) == ["permerror", "pass", "neutral"]


def test_order_is_that_of_the_fields() -> None:
    signed = sign(MESSAGE, key(RSA), key(ED25519), key(RSA))
    assert [each.selector for each in judge(signed)] == ["r", "e", "r"]


def test_a_signature_that_covers_another_is_verified() -> None:  # RFC 6376 §4.2
    inner = sign(MESSAGE, key(RSA))
    outer = by_hand("", inner, names="From:DKIM-Signature")
    assert results(judge(outer)) == ["pass", "pass"]
    assert results(judge(outer.replace(b"t=1800000000", b"t=1800000001"))) == ["fail", "fail"]


# --- anything ---

pieces = st.sampled_from(
    [
        *(b"DKIM-Signature: ", b"v=1; a=rsa-sha256; ", b"d=example.org; s=r; ", b"h=From; "),
        *(b"bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=; ", b"b=QUJD;", b"c=relaxed/relaxed;"),
        *(b"\r\n", b"\n", b" ", b"From: a@example.org\r\n", b"l=3;", b"\x00", b"\xff", b"=", b";"),
    ]
)


@given(st.lists(pieces, max_size=40).map(b"".join))
def test_any_octets_give_outcomes(octets: bytes) -> None:
    for outcome in judge(b"DKIM-Signature: " + octets):
        assert outcome.result.value in ("permerror", "neutral", "fail", "policy")
        assert outcome.reason.isprintable()


@given(st.binary(max_size=200), st.sampled_from([RSA, ED25519]))
def test_any_key_record_gives_an_outcome(octets: bytes, algorithm: str) -> None:
    (outcome,) = judge(
        sign(MESSAGE, key(algorithm)),
        {f"{key(algorithm).selector}._domainkey.{DOMAIN}": octets},
    )
    assert outcome.result.value in ("permerror", "fail")
