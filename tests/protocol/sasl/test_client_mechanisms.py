"""SASL as a client: the RFCs' own exchanges, and servers that do not play by the rules."""

from __future__ import annotations

import base64
import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.protocol.sasl.client import (
    CramMd5Client,
    ExternalClient,
    OAuthBearerClient,
    XOAuth2Client,
)
from posthouse.protocol.sasl.grammar import SaslSyntaxError
from posthouse.protocol.sasl.scram import ITERATIONS_MAX, ScramClient, prepared

# RFC 7677 §3, whose nonce is text and not base64 of something.
NONCE = base64.b64decode("rOprNGfwEbeRWgbNEkqO")
SERVER_FIRST = (
    b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
)
CLIENT_FINAL = (
    b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
)
SERVER_FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def client(**more: object) -> ScramClient:
    return ScramClient("user", "pencil", nonce=NONCE, **more)  # type: ignore[arg-type]


def test_the_exchange_of_rfc_7677() -> None:
    scram = client()
    assert scram.initial() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    assert scram.step(SERVER_FIRST) == CLIENT_FINAL
    assert not scram.is_proven
    assert scram.step(SERVER_FINAL) == b"" and scram.is_proven


def test_a_server_that_does_not_know_the_password_is_found_out() -> None:
    scram = client()
    scram.initial()
    scram.step(SERVER_FIRST)
    with pytest.raises(SaslSyntaxError, match="did not prove"):
        scram.step(b"v=" + base64.b64encode(bytes(32)))
    assert not scram.is_proven


@pytest.mark.parametrize(
    "challenge",
    [
        b"r=other,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        b"r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
        SERVER_FIRST.replace(b"i=4096", b"i=1"),
        SERVER_FIRST.replace(b"i=4096", b"i=%d" % (ITERATIONS_MAX + 1)),
        SERVER_FIRST.replace(b"i=4096", b"i=-5"),
        SERVER_FIRST.replace(b"i=4096", b""),
        SERVER_FIRST.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s=?"),
        SERVER_FIRST.replace(b"s=W22ZaJ0SNY7soEsUEjb6gQ==", b"s="),
        b"m=ext," + SERVER_FIRST,
        b"",
        b"x" * 10_000,
    ],
)
def test_a_strange_challenge_is_not_answered(challenge: bytes) -> None:
    scram = client()
    scram.initial()
    with pytest.raises(SaslSyntaxError):
        scram.step(challenge)


@given(st.text(max_size=40), st.text(max_size=40), st.binary(max_size=64) | st.none())
def test_both_sides_agree_whatever_name_password_and_binding(
    user: str, password: str, binding: bytes | None
) -> None:
    """The other side is written here by itself, from RFC 5802 §3."""
    try:
        user.encode(), password.encode()
    except UnicodeEncodeError:
        return
    scram = ScramClient(user, password, nonce=b"n" * 18, binding=binding, may_bind=True)
    first = scram.initial()
    assert first is not None
    header, bare = first[: first.index(b",", first.index(b",") + 1) + 1], b""
    bare = first[len(header) :]
    nonce = bare.rpartition(b",r=")[2] + b"serverpart"
    server_first = b"r=" + nonce + b",s=" + base64.b64encode(b"salt") + b",i=4096"
    final = scram.step(server_first)
    without, _, proof = final.rpartition(b",p=")
    channel = base64.b64decode(without.split(b",")[0][2:])
    assert channel == header + (binding or b"")
    salted = hashlib.pbkdf2_hmac("sha256", prepared(password).encode(), b"salt", 4096)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    message = bare + b"," + server_first + b"," + without
    signature = hmac.digest(hashlib.sha256(client_key).digest(), message, "sha256")
    shown = bytes(a ^ b for a, b in zip(base64.b64decode(proof), signature, strict=True))
    assert shown == client_key
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    scram.step(b"v=" + base64.b64encode(hmac.digest(server_key, message, "sha256")))
    assert scram.is_proven


@pytest.mark.parametrize(
    ("typed", "sent"),
    [
        ("I\u00adX", "IX"),  # RFC 4013 §3
        ("user", "user"),
        ("USER", "USER"),
        ("\u00aa", "a"),
        ("\u2168", "IX"),
        ("a\u00a0b", "a b"),
        ("\u0627\u0031", "\u0627\u0031"),  # forbidden: stays as typed
        ("b\u0007\u00e9", "b\u0007\u00e9"),
    ],
)
def test_names_and_passwords_are_prepared(typed: str, sent: str) -> None:
    assert prepared(typed) == sent


def test_an_oauth_bearer_message_is_as_rfc_7628_shows_it() -> None:
    made = OAuthBearerClient("user@example.com", "vF9dft4qmT", host="server.example.com", port=143)
    assert made.initial() == (
        b"n,a=user@example.com,\x01host=server.example.com\x01port=143"
        b"\x01auth=Bearer vF9dft4qmT\x01\x01"
    )
    assert made.step(b'{"status":"invalid_token"}') == b"\x01"
    assert made.error == b'{"status":"invalid_token"}'


def test_a_token_cannot_bring_fields_of_its_own() -> None:
    with pytest.raises(ValueError):
        OAuthBearerClient("u", "x\x01auth=Bearer y", host="h", port=1)
    with pytest.raises(ValueError):
        XOAuth2Client("u\x01", "x")


def test_xoauth2_external_and_cram_md5() -> None:
    assert (
        XOAuth2Client("u@x.example", "t").initial() == b"user=u@x.example\x01auth=Bearer t\x01\x01"
    )
    assert ExternalClient().initial() == b"" and ExternalClient("ada").initial() == b"ada"
    cram = CramMd5Client("tim", "tanstaaftanstaaf")  # RFC 2195 §2
    assert cram.initial() is None
    assert (
        cram.step(b"<1896.697170952@postoffice.reston.mci.net>")
        == b"tim b913a602c7eda7a495b4e6e7334d3890"
    )
