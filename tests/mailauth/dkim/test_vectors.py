"""Published messages, signed by others: dkimpy's, Stalwart mail-auth's, chasquid's, RFC 8463's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from posthouse.kernel.ports import DnsStatus
from posthouse.mailauth.dkim.grammar import RSA
from posthouse.mailauth.dkim.sign import SigningKey, load_private
from tests.mailauth.dkim.lab import crlf, judge, results, sign

FOOTBALL = "football.example.com"
BRISBANE = f"brisbane._domainkey.{FOOTBALL}"
TEST = f"test._domainkey.{FOOTBALL}"
ED25519_KEY = "v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="


def test_both_signatures_of_the_example_of_rfc_8463_pass(vectors: Path) -> None:
    # RFC 8463 A.3
    found = {BRISBANE: ED25519_KEY, TEST: (vectors / "dkim/dkimpy/test.txt").read_text().strip()}
    outcomes = judge(crlf((vectors / "dkim/rfc8463-example.msg").read_bytes()), found)
    assert [(each.result.value, each.algorithm, each.key_bits) for each in outcomes] == [
        ("pass", "ed25519-sha256", 256),
        ("pass", "rsa-sha256", 1024),
    ]


# --- dkimpy ---

DKIMPY = [
    # message, selector's name, record's file or text, results
    ("rfc6376.signed.msg", TEST, "test.txt", ["permerror", "pass"]),  # no key for the first
    ("rfc6376.signed.msg", TEST, "badk.txt", ["permerror", "permerror"]),
    ("rfc6376.signed.msg", TEST, "badversion.txt", ["permerror", "permerror"]),
    ("rfc6376.signed.msg", TEST, "test_tlsrpt.txt", ["permerror", "permerror"]),
    ("rfc6376.signed.msg", TEST, "test2.txt", ["permerror", "pass"]),  # k= left out
    ("rfc6376.signed.msg", BRISBANE, "text:" + ED25519_KEY, ["pass", "permerror"]),
    ("rfc6376.signed.rsa.msg", TEST, "test.txt", ["pass"]),
    ("rfc6376.signed.rsa.msg", TEST, "test_bad.txt", ["permerror"]),
    ("rfc6376.signed.rsa.msg", TEST, "1024_testkey_wo_markers.pub.txt", ["fail"]),
    ("rfc6376.signed.no_t.msg", TEST, "test.txt", ["fail"]),  # t= was taken out after signing
    ("ed25519test2.msg", "sed._domainkey.test.ex", "eximtest.dns", ["pass"]),
    ("test2.message", "20120113._domainkey.gmail.com", "test.txt", ["fail"]),
]


@pytest.mark.parametrize(("message", "name", "record", "expected"), DKIMPY)
def test_messages_of_dkimpy(
    vectors: Path, message: str, name: str, record: str, expected: list[str]
) -> None:
    folder = vectors / "dkim/dkimpy"
    text = record[5:] if record.startswith("text:") else (folder / record).read_text().strip()
    assert results(judge(crlf((folder / message).read_bytes()), {name: text})) == expected


PAIRS = [
    # private key, public keys that belong to it
    ("test.private", ["test.txt", "test2.txt"]),
    (
        "1024_testkey.key",
        ["1024_testkey_wo_markers.pub.rsa.txt", "1024_testkey_wo_markers.pub.txt"],
    ),
    (
        "2048_testkey.key",
        ["2048_testkey_wo_markers.pub.rsa.txt", "2048_testkey_wo_markers.pub.txt"],
    ),
    ("2048_testkey_PKCS8.key", ["2048_testkey_PKCS8.key.pub.txt"]),
]
UNSIGNED = [
    *("test.message", "test.message.baddomain", "test_extra.message", "rfc6376.msg"),
    *("rfc6376.w1258.msg", "message.mbox", "ed25519test.msg"),
]


@pytest.mark.parametrize(("private", "public"), PAIRS)
@pytest.mark.parametrize("message", UNSIGNED)
def test_what_keys_of_dkimpy_sign_their_records_verify(
    vectors: Path, private: str, public: list[str], message: str
) -> None:  # both forms of p=: RSAPublicKey (RFC 6376 §3.6.1) and SubjectPublicKeyInfo
    folder = vectors / "dkim/dkimpy"
    pem = load_pem_private_key((folder / private).read_bytes(), None)
    octets = pem.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    key = SigningKey(
        domain="example.com", selector="t", algorithm=RSA, private=load_private(octets)
    )
    signed = sign(crlf((folder / message).read_bytes()), key)
    for record in public:
        text = (folder / record).read_text().strip()
        assert results(judge(signed, {"t._domainkey.example.com": text}))[0] == "pass"


def test_a_message_without_from_is_not_signed(vectors: Path) -> None:  # RFC 6376 §5.4
    with pytest.raises(ValueError, match="From"):
        sign(crlf((vectors / "dkim/dkimpy/test_nofrom.message").read_bytes()))


# --- mail-auth: the DNS on top ---

MAIL_AUTH = [
    ("001", 1_600_000_000, ["pass", "pass"]),
    ("003", 1_667_600_000, ["pass", "pass"]),
    ("005", 1_667_900_000, ["pass"]),
    ("005", 1_700_000_000, ["permerror"]),  # x= is past
]


@pytest.mark.parametrize(("name", "now", "expected"), MAIL_AUTH)
def test_messages_of_mail_auth(vectors: Path, name: str, now: int, expected: list[str]) -> None:
    text = (vectors / f"dkim/mail-auth/{name}.txt").read_bytes()
    head, _, message = text.partition(b"\n\n")
    lines = [line.decode().partition(" ") for line in head.splitlines()]
    found = {where.rstrip("."): record for where, _, record in lines}
    assert results(judge(crlf(message), found, now=now)) == expected


# --- chasquid ---

STATES = {"SUCCESS": "pass", "TEMPFAIL": "temperror", "PERMFAIL": "permerror"}


@pytest.mark.parametrize(
    "name",
    [
        *("02-too_many_headers", "04-bad_dkim_signature_header", "05-dns_temp_error"),
        *("08-our_signature", "10-strict_domain_check_pass"),
    ],
)
def test_messages_of_chasquid(vectors: Path, name: str) -> None:
    base = vectors / "dkim/chasquid" / name
    found = chasquid_dns(base.with_suffix(".dns"))
    expected = json.loads(base.with_suffix(".result").read_text())
    got = judge(crlf(base.with_suffix(".msg").read_bytes()), found)
    states = [STATES[each["State"]] for each in expected["Results"]]
    # That it looks at five signatures is chasquid's bound (RFC 6376 §6.1: "MAY limit"); ours is 8.
    if name == "02-too_many_headers":
        assert results(got) == [*states, "pass", "pass"]
    else:
        assert results(got) == states
    for outcome, each in zip(got, expected["Results"], strict=False):
        assert outcome.domain == each["Domain"]
        assert outcome.selector == each["Selector"]
        assert outcome.signature == each["B"][:8]


def chasquid_dns(path: Path) -> dict[str, str | DnsStatus]:
    if not path.exists():
        return {}
    found: dict[str, str | DnsStatus] = {}
    for line in path.read_text().replace("\\\n", "").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            value = value.strip()
            found[name] = DnsStatus.TEMPFAIL if value == "TEMPERROR" else value
    return found
