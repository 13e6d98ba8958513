"""Signing: RFC 6376 §5, RFC 8301 §3, RFC 8463 §3."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailauth.dkim import sign as signing
from posthouse.mailauth.dkim.canonical import Canonicalization
from posthouse.mailauth.dkim.grammar import ED25519, RSA, read_signature
from posthouse.mailauth.dkim.sign import SigningKey, SignOptions
from posthouse.message.fields import read_section
from tests.mailauth.dkim.lab import DOMAIN, MESSAGE, NOW, judge, key, new_key, results, sign

BOTH = (key(RSA), key(ED25519))
ALL_WAYS = [
    SignOptions(header_how=header, body_how=body)
    for header in Canonicalization
    for body in Canonicalization
]


def fields_of(signed: bytes, message: bytes = MESSAGE) -> bytes:
    assert signed.endswith(message)
    return signed[: -len(message)]


def values(signed: bytes) -> list[bytes]:
    section = read_section(signed)
    return [section.value(each)[:-2] for each in section.fields if each.name == b"dkim-signature"]


@pytest.mark.parametrize("options", ALL_WAYS)
def test_each_key_puts_a_field_in_front_and_all_verify(options: SignOptions) -> None:
    outcomes = judge(sign(MESSAGE, *BOTH, options=options))
    assert results(outcomes) == ["pass", "pass"]
    assert [(each.algorithm, each.selector) for each in outcomes] == [(RSA, "r"), (ED25519, "e")]
    assert {(each.domain, each.identity, each.reason) for each in outcomes} == {
        (DOMAIN, f"@{DOMAIN}", "")
    }


def test_the_fields_are_folded_and_end_with_crlf() -> None:
    made = fields_of(sign(MESSAGE, *BOTH))
    lines = made.split(b"\r\n")
    assert lines.pop() == b""
    assert all(len(line) <= 78 for line in lines)
    assert all(line.startswith((b"DKIM-Signature:", b"\t")) for line in lines)
    assert made.isascii()


def test_times_are_written() -> None:  # RFC 6376 §3.5: t= and x= are RECOMMENDED
    (value,) = values(sign(MESSAGE, expires_s=100))
    found = read_signature(value)
    assert (found.signed_at, found.expires_at) == (NOW, NOW + 100)
    (value,) = values(sign(MESSAGE, expires_s=None))
    assert read_signature(value).expires_at is None


def test_what_decides_about_a_message_cannot_be_added() -> None:  # RFC 6376 §5.4.1, §8.15
    names = read_signature(values(sign(MESSAGE))[0]).names
    twice = [b"from", b"to", b"subject", b"date", b"message-id"]
    once = [b"cc", b"reply-to", b"mime-version", b"content-type", b"content-transfer-encoding"]
    assert sorted(names) == sorted(twice * 2 + once)
    for name in (*twice, *once):
        assert results(judge(name + b": added\r\n" + sign(MESSAGE))) == ["fail"], name
    for name in (b"Received", b"List-Id", b"Sender", b"X-Spam", b"DKIM-Signature"):
        assert results(judge(name + b": added\r\n" + sign(MESSAGE)))[-1] == "pass", name


def test_fields_that_may_be_absent_are_signed_where_they_stand() -> None:
    more = (
        b"List-Unsubscribe: <https://example.org/u>\r\nSender: a@example.org\r\n"
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\nReferences: <1@a>\r\n"
        b"Resent-From: a@example.org\r\nResent-From: b@example.org\r\n"
    )
    signed = sign(more + MESSAGE)
    names = read_signature(values(signed)[0]).names
    for name, count in (
        (b"list-unsubscribe", 1),
        (b"list-unsubscribe-post", 1),  # RFC 8058 §4
        (b"sender", 2),
        (b"references", 2),
        (b"resent-from", 2),
    ):
        assert names.count(name) == count
    assert results(judge(signed)) == ["pass"]
    # Resent fields and a list's own fields go on top of those that are signed (RFC 5322 §3.6.6).
    assert results(judge(b"Resent-From: c@example.org\r\nList-Id: <l>\r\n" + signed)) == ["pass"]
    assert results(judge(b"Sender: c@example.org\r\n" + signed)) == ["fail"]


def test_no_field_of_the_way_is_signed() -> None:  # RFC 6376 §5.4: Return-Path, Received
    names = read_signature(
        values(sign(b"Return-Path: <a@b>\r\nComments: c\r\n" + MESSAGE))[0]
    ).names
    assert not {b"return-path", b"received", b"comments", b"dkim-signature"} & set(names)


def test_an_identity_is_encoded() -> None:  # RFC 6376 §2.11
    options = SignOptions(identity=f"ä;= b@mail.{DOMAIN}")
    signed = sign(MESSAGE, options=options)
    assert b"i==C3=A4=3B=3D=20b@mail.example.org;" in signed
    (outcome,) = judge(signed)
    assert outcome.result.value == "pass"
    assert outcome.identity == f"ä;= b@mail.{DOMAIN}"


@pytest.mark.parametrize("identity", ["a@example.com", "a@notexample.org", "example.org"])
def test_an_identity_of_somebody_else_is_not_signed(identity: str) -> None:
    with pytest.raises(ValueError, match="within"):
        sign(MESSAGE, options=SignOptions(identity=identity))


def test_nothing_to_sign_with_gives_nothing() -> None:
    section = read_section(MESSAGE)
    assert signing.sign(section, (), now_unix_s=NOW, expires_s=None) == b""


def test_a_long_domain_is_folded_before() -> None:
    long = ".".join(["x" * 50] * 3)
    lines = sign(MESSAGE, key(RSA, long)).split(b"\r\n")
    assert lines[1].startswith(b"\td=")
    found = {f"r._domainkey.{long}": signing.key_record(RSA, new_key(RSA).public)}
    assert results(judge(sign(MESSAGE, key(RSA, long)), found)) == ["pass"]


PLAIN = [
    b"From: a@example.org\r\n\r\n",
    b"From: a@example.org\r\n",
    b"From: a@example.org",
    b"From: a@example.org\r\n\r\n\r\n\r\n",
    b"From: a@example.org\r\nFrom: b@example.org\r\n\r\nx",
    b"From: a@example.org\r\n\r\nno line end",
    b"From: a@example.org\nSubject: b\n c\n\nbare\nLF\n",
    b"From: a@example.org\r\n\r\nbare \r CR\r\r\n",
    b"From: \xc3\xa4 <\xc3\xa4@example.org>\r\n\r\n\xc3\xa4\r\n",
    b"From : a@example.org\r\nno field\r\nX: \xff\r\n\r\n\x00",
]


@pytest.mark.parametrize("message", PLAIN, ids=range(len(PLAIN)))
@pytest.mark.parametrize("options", ALL_WAYS)
def test_what_is_signed_verifies_also_where_a_message_is_odd(
    message: bytes, options: SignOptions
) -> None:
    assert results(judge(sign(message, *BOTH, options=options))) == ["pass", "pass"]


lines = st.text(alphabet="ab: \t\r\né", max_size=40).map(str.encode)
names = st.sampled_from(
    [b"Subject", b"To", b"X-A", b"from", b"Sender", b"MIME-Version", b"Received"]
)


@given(
    fields=st.lists(st.tuples(names, lines), max_size=6),
    body=st.binary(max_size=80) | lines,
    options=st.sampled_from(ALL_WAYS),
)
def test_any_message_that_is_signed_verifies(
    fields: list[tuple[bytes, bytes]], body: bytes, options: SignOptions
) -> None:
    head = b"".join(b"%b: %b\r\n" % field for field in fields)
    message = b"From: a@example.org\r\n" + head + b"\r\n" + body
    assert results(judge(sign(message, key(ED25519), options=options)))[0] == "pass"


SHORT = b"From: a@example.org\r\nSubject: b\r\n\r\nbody\r\n"


SIGNED = {options.header_how: sign(SHORT, key(ED25519), options=options) for options in ALL_WAYS}


@given(at=st.integers(0, 450), octet=st.integers(0, 255))
@pytest.mark.parametrize("how", Canonicalization)
def test_any_octet_that_is_changed_breaks_a_signature(
    how: Canonicalization, at: int, octet: int
) -> None:
    signed = SIGNED[how]  # the body is relaxed in both
    at %= len(signed)
    changed = signed[:at] + bytes([octet]) + signed[at + 1 :]
    if changed == signed or "pass" not in results(judge(changed)):
        return
    # What is not signed: blanks in b= and the bits of its base64 that are none of the signature's;
    # in relaxed form, which blank it is, blanks at the end of a line (a bare LF ends it, too) and
    # the case of names (RFC 6376 §3.4.2).
    is_in_b = signed.index(b"\tb=") + 2 < at <= signed.index(b"\r\nFrom")
    is_blank = octet in b" \t" and signed[at] in b" \t\r"
    is_case = signed[at : at + 1].lower() == bytes([octet]).lower()
    assert is_in_b or (how is Canonicalization.RELAXED and (is_blank or is_case))


def test_a_key_is_never_shown() -> None:
    for algorithm in (RSA, ED25519):
        for shown in (repr(key(algorithm)), str(key(algorithm)), f"{key(algorithm)}"):
            assert "private" not in shown.lower()
            assert shown == f"SigningKey('{key(algorithm).selector}' of '{DOMAIN}', {algorithm})"
        made = new_key(algorithm)
        assert repr(made) == str(made) == f"NewKey({algorithm})"


def test_keys_are_made_and_loaded() -> None:
    made = signing.generate(RSA, 1024)
    private = signing.load_private(made.private)
    assert private.key_size == 1024  # type: ignore[union-attr]
    assert signing.public_octets(private) == made.public
    made = signing.generate(ED25519)
    assert len(made.public) == 32
    assert signing.public_octets(signing.load_private(made.private)) == made.public
    with pytest.raises(ValueError, match="no algorithm"):
        signing.generate("rsa-sha1")


def test_what_is_no_private_key_is_refused() -> None:
    for octets in (b"", b"junk", new_key(RSA).public, new_key(RSA).private[:-9]):
        with pytest.raises(ValueError, match="no private key"):
            signing.load_private(octets)


def test_two_keys_sign_the_same_body_hash() -> None:
    first, second = values(sign(MESSAGE, *BOTH))
    assert read_signature(first).body_hash == read_signature(second).body_hash


def test_the_algorithm_of_a_key_is_written() -> None:
    other = SigningKey(domain=DOMAIN, selector="e", algorithm=ED25519, private=key(ED25519).private)
    assert b"a=ed25519-sha256;" in sign(MESSAGE, other)
