"""Examples of nodemailer's page on OAuth2, and their twins of ours, to the same server.

nodemailer asks the provider for tokens by itself; here a callable does, most often one of the
provider's own library. The callables below are what one would write without such a library.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlencode

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from posthouse.sending import AsyncTransport, AuthError
from tests.interop.programs import needs_node_module
from tests.interop.test_nodemailer_smtp import OURS, THEIRS, by_us, place, run
from tests.sending.bad_server import USUAL, BadServer

pytestmark = needs_node_module("nodemailer")

USER = "ada@example.org"
OFFERED = (*USUAL, "AUTH XOAUTH2")
REFRESHING = {
    "client_id": "000000000000-xxx0.apps.example.com",
    "client_secret": "XxxxxXXxX0xxxxxxxx0XXxX0",
    "refresh_token": "1/XXxXxsss-xxxXXXXXxXxx0XXXxxXXx0x00xxx",
    "grant_type": "refresh_token",
}
BY_ASSERTION = "urn:ietf:params:oauth:grant-type:jwt-bearer"


class Provider:
    """A token endpoint: gives the next token, and keeps how it was asked."""

    def __init__(self) -> None:
        self.forms: list[dict[str, str]] = []
        self._lock = threading.Lock()
        outer = self

        class Endpoint(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers["Content-Length"])).decode()
                given = outer.answer(dict(parse_qsl(text, strict_parsing=True)))
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(given)))
                self.end_headers()
                self.wfile.write(given)

            def log_message(self, *args: object) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
        self.url = f"http://127.0.0.1:{self.server.server_port}/token"

    def answer(self, form: dict[str, str]) -> bytes:
        with self._lock:
            self.forms.append(form)
            token = f"ya29.{len(self.forms)}"
        return json.dumps({"access_token": token, "expires_in": 3600}).encode()

    def ask(self, form: dict[str, str]) -> str:
        """As our side does it, without a library."""
        with urllib.request.urlopen(self.url, urlencode(form).encode(), timeout=10) as reply:
            return str(json.load(reply)["access_token"])


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def auth(**more: object) -> dict[str, Any]:
    return {"ignoreTLS": True, "auth": {"type": "OAuth2", "user": USER, **more}}


def bearer(user: str, token: str) -> str:
    return f"user={user}\1auth=Bearer {token}\1\1"


async def test_a_refresh_token_is_a_callable_that_refreshes(provider: Provider) -> None:
    theirs = auth(
        clientId=REFRESHING["client_id"],
        clientSecret=REFRESHING["client_secret"],
        refreshToken=REFRESHING["refresh_token"],
        accessUrl=provider.url,
        accessToken="ya29.old",
        expires=1484314697598,
    )

    async def token() -> str:
        return await asyncio.to_thread(provider.ask, REFRESHING)

    async with BadServer(extensions=OFFERED) as server:
        found = await run(theirs | place(server))
        (receipt,) = await by_us({"tls": "off", "user": USER, "token": token} | place(server))
    assert found["told"][0]["accepted"] == list(receipt.accepted)
    assert provider.forms == [REFRESHING] * 2
    assert server.auth_lines == [bearer(USER, "ya29.1"), bearer(USER, "ya29.2")]
    # nodemailer's "token" event: here, the callable itself knows what it gave
    assert found["tokens"] == ["ya29.1"]


def signed(key: RSAPrivateKey, claims: dict[str, object]) -> str:
    """A JSON Web Token (RFC 7519) by RS256."""

    def part(octets: bytes) -> bytes:
        return base64.urlsafe_b64encode(octets).rstrip(b"=")

    head = part(b'{"alg":"RS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (head + b"." + part(key.sign(head, PKCS1v15(), SHA256()))).decode()


def claims_of(token: str, key: RSAPrivateKey) -> dict[str, Any]:
    """What a token says, when its signature is right."""
    head, _, signature = token.rpartition(".")
    key.public_key().verify(_from_base64url(signature), head.encode(), PKCS1v15(), SHA256())
    found: dict[str, Any] = json.loads(_from_base64url(head.partition(".")[2]))
    return found


def _from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def test_a_service_account_is_a_callable_that_signs(provider: Provider) -> None:
    key = generate_private_key(65537, 2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    theirs = auth(serviceClient="113600000000000000000", privateKey=pem, accessUrl=provider.url)

    def token() -> str:
        now_unix_s = int(time.time())
        claims: dict[str, object] = {
            "iss": "113600000000000000000",
            "scope": "https://mail.google.com/",
            "sub": USER,
            "aud": provider.url,
            "iat": now_unix_s,
            "exp": now_unix_s + 300,
        }
        return provider.ask({"grant_type": BY_ASSERTION, "assertion": signed(key, claims)})

    async with BadServer(extensions=OFFERED) as server:
        found = await run(theirs | place(server))
        (receipt,) = await by_us({"tls": "off", "user": USER, "token": token} | place(server))
    assert found["told"][0]["accepted"] == list(receipt.accepted)
    assert server.auth_lines == [bearer(USER, "ya29.1"), bearer(USER, "ya29.2")]
    assert [form["grant_type"] for form in provider.forms] == [BY_ASSERTION] * 2
    first, second = (claims_of(form["assertion"], key) for form in provider.forms)
    assert first.keys() == second.keys() and first["exp"] - first["iat"] == 300
    assert all(first[name] == second[name] for name in ("iss", "scope", "sub", "aud"))


async def test_a_token_callback_is_the_callable_and_is_asked_again_when_refused() -> None:
    """nodemailer says by `renew` that the last one was refused; here it is the second call.

    It asks again only where the server says in a challenge what was wrong, as Gmail does.
    """
    given = iter(["ya29.old", "ya29.new"])
    script = {
        "replies": {"AUTH": ["535 5.7.8 expired", "235 2.7.0 ok"] * 2},
        "challenges": [b'{"status":"401"}'],
    }
    async with BadServer(extensions=OFFERED, **script) as server:
        found = await run(auth() | place(server), provisioned=["ya29.old", "ya29.new"])
        (receipt,) = await by_us(
            {"tls": "off", "user": USER, "token": lambda: next(given)} | place(server)
        )
    assert found["told"][0]["accepted"] == list(receipt.accepted)
    assert [one["renew"] for one in found["asked"]] == [False, True]
    lines = [one for one in server.auth_lines if one.startswith("user=")]
    assert lines == [bearer(USER, "ya29.old"), bearer(USER, "ya29.new")] * 2


async def test_a_token_that_stays_refused_is_an_error_of_login_for_both() -> None:
    async with BadServer(extensions=OFFERED, replies={"AUTH": "535 5.7.8 expired"}) as server:
        found = await run(auth(accessToken="ya29.x") | place(server))
        (error,) = await by_us({"tls": "off", "user": USER, "token": "ya29.x"} | place(server))
    assert found["told"][0]["code"] == "EAUTH" and isinstance(error, AuthError)
    assert "ya29.x" not in str(error)


async def test_a_login_of_each_message_is_a_transport_of_each_login() -> None:
    """nodemailer's messages may bring their `auth`; here sessions are kept by login."""
    people = {"ada@example.org": "ya29.ada", "eve@example.org": "ya29.eve"}
    theirs = [
        THEIRS | {"from": user, "auth": {"user": user, "accessToken": token}}
        for user, token in people.items()
    ]
    async with BadServer(extensions=OFFERED) as server:
        options = {"ignoreTLS": True, "auth": {"type": "OAuth2"}}
        found = await run(options | place(server), *theirs)
        by_them = sorted(server.auth_lines)
        server.auth_lines.clear()
        for user, token in people.items():
            async with AsyncTransport(tls="off", user=user, token=token, **place(server)) as way:
                await way.send(msgspec.structs.replace(OURS, sender=user))
    assert all(one["accepted"] for one in found["told"])
    assert by_them == server.auth_lines == [bearer(*one) for one in people.items()]
    senders = [one.sender for one in server.taken]
    assert sorted(senders[:2]) == senders[2:] == list(people)
