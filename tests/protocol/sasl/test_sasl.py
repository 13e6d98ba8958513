"""PLAIN and LOGIN, both sides, and what must not get through (RFC 4422, RFC 4616)."""

from __future__ import annotations

import binascii

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.errors import LocalProtocolError
from posthouse.protocol.sasl.client import LoginClient, PlainClient, client_mechanism
from posthouse.protocol.sasl.events import Challenge, Credentials, Failure, Step
from posthouse.protocol.sasl.grammar import (
    EXCHANGE_OCTETS_MAX,
    PlainMessage,
    SaslSyntaxError,
    decode_base64,
    decode_initial,
    encode_base64,
    format_plain,
    parse_plain,
)
from posthouse.protocol.sasl.server import LoginServer, PlainServer, server_mechanism


# H59
@pytest.mark.parametrize(
    "line",
    [
        b"!!!",
        b"YQ",
        b"YQ=",
        b"YQ===",
        b"YR==",
        b"Y Q==",
        b"YQ==\n",
        b"YQ==YQ==",
        b"=YQ=",
        b"====",
        b"YQ\xc3\xbc=",
        b"A" * (EXCHANGE_OCTETS_MAX + 4),
    ],
)
def test_what_is_not_base64_is_refused(line: bytes) -> None:
    with pytest.raises(SaslSyntaxError):
        decode_base64(line)


@given(st.binary(max_size=200))
def test_base64_comes_back_as_it_went(octets: bytes) -> None:
    assert decode_base64(encode_base64(octets)) == octets


# H59
@given(st.binary(max_size=40))
def test_each_value_has_one_spelling(line: bytes) -> None:
    try:
        decoded = decode_base64(line)
    except SaslSyntaxError:
        return
    assert binascii.b2a_base64(decoded, newline=False) == line


def test_an_equals_sign_is_the_empty_initial_response() -> None:
    assert decode_initial(b"=") == b""
    assert decode_initial(b"YQ==") == b"a"
    with pytest.raises(SaslSyntaxError):
        decode_base64(b"=")


# H59
@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"user",
        b"user\0password",
        b"\0user\0pass\0word",
        b"\0us\xffer\0password",
        b"\0user\0pass\xffword",
        b"\xff\0user\0password",
        b"\0user\nname\0password",
        "\0\u202euser\0password".encode(),
        b"\0" + b"u" * 256 + b"\0password",
        b"\0user\0" + b"p" * 1025,
    ],
)
def test_a_malformed_plain_response_is_a_failure_that_says_so(response: bytes) -> None:
    result = PlainServer().step(response)
    assert isinstance(result, Failure) and result.is_malformed


# H59
@pytest.mark.parametrize("response", [b"\0user\0", b"\0\0password", b"root\0\0password"])
def test_empty_names_and_passwords_are_never_right(response: bytes) -> None:
    result = PlainServer().step(response)
    assert isinstance(result, Failure) and not result.is_malformed


# H59: whom to act as is told apart from who it is; metacharacters are data
def test_plain_gives_credentials() -> None:
    assert PlainServer().step(None) == Challenge(b"")
    response = "boss\0ü*)(uid=*' OR 1=1--\0p\u00e4ss".encode()
    assert PlainServer().step(response) == Credentials("ü*)(uid=*' OR 1=1--", "boss", "p\u00e4ss")


def test_login_asks_twice() -> None:
    exchange = LoginServer()
    assert exchange.step(None) == Challenge(b"Username:")
    assert exchange.step(b"user") == Challenge(b"Password:")
    assert exchange.step(b"secret") == Credentials("user", "", "secret")
    with pytest.raises(LocalProtocolError):
        exchange.step(b"more")
    exchange = LoginServer()
    assert exchange.step(b"user") == Challenge(b"Password:")  # with an initial response
    for name in (b"us\0er", b"\xff", b"u" * 256):
        result = LoginServer().step(name)
        assert isinstance(result, Failure) and result.is_malformed


# H59
def test_no_password_is_shown_by_accident() -> None:
    for value in (Credentials("user", "", "hunter2"), PlainMessage("", "user", "hunter2")):
        assert "hunter2" not in repr(value)
        assert "hunter2" not in str(value)
        assert "hunter2" not in f"{[value]}"


# H59
@given(st.lists(st.binary(max_size=40), max_size=4))
def test_no_exchange_raises_whatever_comes(responses: list[bytes]) -> None:
    for name in ("PLAIN", "LOGIN"):
        exchange = server_mechanism(name)
        assert exchange is not None
        for response in responses:
            result: Step = exchange.step(response)
            if not isinstance(result, Challenge):
                break


names = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Cf", "Cn", "Zl", "Zp"]), min_size=1, max_size=60
)
passwords = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(name=names, password=passwords)
def test_both_sides_understand_each_other(name: str, password: str) -> None:
    for client in (PlainClient(name, password), LoginClient(name, password)):
        server = server_mechanism(client.name.lower())
        assert server is not None
        result = server.step(client.initial())
        while isinstance(result, Challenge):
            result = server.step(client.step(result.octets))
        assert result == Credentials(name, "", password)


def test_a_client_does_not_answer_for_ever() -> None:
    client = LoginClient("user", "secret")
    client.step(b"Username:")
    client.step(b"Password:")
    with pytest.raises(SaslSyntaxError):
        client.step(b"And your PIN?")
    with pytest.raises(SaslSyntaxError):
        PlainClient("user", "secret").step(b"what")
    with pytest.raises(SaslSyntaxError):
        format_plain(PlainMessage("", "us\0er", "x"))


def test_the_best_mechanism_offered_is_chosen() -> None:
    for offered, name in ((("LOGIN", "plain"), "PLAIN"), (("LOGIN",), "LOGIN")):
        chosen = client_mechanism(offered, "user", "secret")
        assert chosen is not None and chosen.name == name
    assert client_mechanism(("CRAM-MD5",), "user", "secret") is None
    assert server_mechanism("GSSAPI") is None
    assert parse_plain(b"\0a\0b") == PlainMessage("", "a", "b")
