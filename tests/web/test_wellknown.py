"""Ports 80 and 443 over real sockets: what is answered, and what strangers try."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest
import trustme

from posthouse.kernel.ids import TraceId
from posthouse.mimesec.pgp import wkd
from posthouse.net.deadlines import Deadlines
from posthouse.net.limits import ConnectionLimits, Connections, WholeProcess
from posthouse.net.listener import Listener, ListenerOptions
from posthouse.net.world import SystemClock, SystemNetwork
from posthouse.tls.certificates import CertificateFiles, Certificates
from posthouse.web.autoconfig import Clients, MailServer, Protocol, Security
from posthouse.web.door import Door, Options
from posthouse.web.mta_sts import Policy, policy_id, policy_text
from posthouse.web.wellknown import Sites, WellKnown

START = b"GET / HTTP/1.1\r\nHost: mail.example.org\r\n"
SECOND = b"GET /x HTTP/1.1\r\nHost: mail.example.org\r\n\r\n"
TEXT = policy_text(Policy(mode="enforce", mx=("mail.example.org",), max_age_days=7))
TOKEN = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
SERVER = MailServer(
    protocol=Protocol.IMAP, host="mail.example.org", port=993, security=Security.TLS
)
SITES = Sites(
    hosts=frozenset({"mail.example.org"}),
    policies={"mta-sts.example.org": TEXT},
    clients=Clients(servers=(SERVER,), domains=frozenset({"example.org"}), host="mail.example.org"),
    keys={
        "example.org": {
            wkd.local_hash("ada"): b"the key",
            wkd.local_hash("key-submission"): b"what is sent there is encrypted to it",
        },
        "example.com": {wkd.local_hash("ada"): b"the key"},
    },
)
_numbers = itertools.count()


class House(msgspec.Struct):
    """Both listeners, and what they told of limits."""

    plain: Listener
    secure: Listener
    roots: ssl.SSLContext
    deadlines: Deadlines
    door: Door
    reached: list[str]

    async def say(self, octets: bytes, *, secure: bool = False, name: str = "") -> bytes:
        """Everything that comes back until the server closes."""
        reader, writer = await self.open(secure=secure, name=name)
        try:
            writer.write(octets)
            async with asyncio.timeout(10):
                return await reader.read()
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async def open(
        self, *, secure: bool = False, name: str = ""
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        listener = self.secure if secure else self.plain
        host, port = listener.address
        return await asyncio.open_connection(
            host,
            port,
            ssl=self.roots if secure else None,
            server_hostname=name or "mail.example.org" if secure else None,
        )


def get(path: str, host: str = "mail.example.org", more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}Connection: close\r\n\r\n".encode()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def answers(host: str, token: str) -> str | None:
    return f"{token}.thumb" if (host, token) == ("mail.example.org", TOKEN) else None


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    authority = trustme.CA()
    files = CertificateFiles(chain=tmp_path / "c.pem", key=tmp_path / "k.pem")
    leaf = authority.issue_cert("mail.example.org", "mta-sts.example.org")
    leaf.cert_chain_pems[0].write_to_path(str(files.chain))
    leaf.private_key_pem.write_to_path(str(files.key))
    roots = ssl.create_default_context()
    authority.configure_trust(roots)
    clock, reached = SystemClock(), []
    certificates = Certificates([files], clock)
    deadlines = Deadlines(clock)
    known = WellKnown(answers, https_port=8443)
    known.sites = SITES
    door = Door(
        Options(request_s=300.0, header_octets_max=8192),
        known.respond,
        deadlines=deadlines,
        reached=lambda limit, value, observed, peer: reached.append(limit),
        on_tls_failed=lambda stream, failure: reached.append(failure.trouble.value),
    )
    limits = ConnectionLimits(exempt_networks=("127.0.0.0/8",))

    def listener(tls: Callable[[], ssl.SSLContext] | None) -> Listener:
        return Listener(
            ListenerOptions(name="http", address="127.0.0.1", port=0),
            door,
            clock=clock,
            deadlines=deadlines,
            connections=Connections(limits, WholeProcess()),
            trace_ids=lambda: TraceId(f"t{next(_numbers)}"),
            tls=tls,
        )

    made = House(listener(None), listener(certificates.context), roots, deadlines, door, reached)
    network = SystemNetwork()
    await made.plain.open(network)
    await made.secure.open(network)
    yield made
    await made.plain.drain(0.0)
    await made.secure.drain(0.0)


# RFC 8555 §8.3
async def test_a_challenge_is_answered_by_http_and_https(house: House) -> None:
    path = f"/.well-known/acme-challenge/{TOKEN}"
    for secure in (False, True):
        answer = await house.say(get(path), secure=secure)
        assert status(answer) == 200
        assert answer.endswith(f"\r\n\r\n{TOKEN}.thumb".encode())
        assert b"application/octet-stream" in answer
        head = await house.say(get(path).replace(b"GET", b"HEAD"), secure=secure)
        assert status(head) == 200 and head.endswith(b"\r\n\r\n")
    assert status(await house.say(get(path, "other.example.org"))) == 404
    assert status(await house.say(get(path + "x"))) == 404


# RFC 8461 §3.2, §3.3
async def test_the_policy_is_served_by_https_under_its_own_host_only(house: House) -> None:
    path = "/.well-known/mta-sts.txt"
    answer = await house.say(
        get(path, "MTA-STS.example.org:8443"), secure=True, name="mta-sts.example.org"
    )
    assert status(answer) == 200 and b"Content-Type: text/plain" in answer
    assert answer.endswith(
        b"\r\n\r\nversion: STSv1\r\nmode: enforce\r\nmx: mail.example.org\r\nmax_age: 604800\r\n"
    )
    assert status(await house.say(get(path), secure=True)) == 404
    plain = await house.say(get(path, "mta-sts.example.org"))
    assert status(plain) == 301
    assert b"Location: https://mta-sts.example.org:8443/.well-known/mta-sts.txt\r\n" in plain


async def test_mail_clients_are_told_their_settings_by_https_only(house: House) -> None:
    asked = "/mail/config-v1.1.xml?emailaddress=ada%40example.org"
    answer = await house.say(get(asked, "autoconfig.example.org"), secure=True)
    assert status(answer) == 200 and b"Content-Type: text/xml; charset=utf-8\r\n" in answer
    assert b"<hostname>mail.example.org</hostname>\n" in answer
    assert answer.endswith(b"</clientConfig>\n")
    plain = await house.say(get(asked, "autoconfig.example.org"))
    assert status(plain) == 301 and b"<" not in plain
    assert f"Location: https://autoconfig.example.org:8443{asked}\r\n".encode() in plain
    odd = await house.say(get("/mail/config-v1.1.xml?a=//evil.example", "autoconfig.example.org"))
    assert b":8443/mail/config-v1.1.xml\r\n" in odd and b"evil" not in odd
    known = "/.well-known/autoconfig/mail/config-v1.1.xml"
    assert status(await house.say(get(known, "example.org"), secure=True)) == 200
    for secure in (False, True):
        for host, path in (
            ("example.net", known),
            ("autoconfig.example.net", asked),
            ("mail.example.org", known),
            ("autoconfig.example.org", asked.replace("example.org", "example.net")),
            ("autoconfig.example.org", "/mail/../mail/config-v1.1.xml"),
            ("autoconfig.example.org", "/mail/config-v1.1.xml/"),
            ("autoconfig.example.org", "/"),
        ):
            assert status(await house.say(get(path, host), secure=secure)) == 404, (host, path)


def test_a_policy_has_the_form_and_bounds_of_its_rfc() -> None:
    # RFC 8461 §3.2: no mx for "none", max_age is at most 31557600
    none = policy_text(Policy(mode="none", mx=("a.example",), max_age_days=1))
    assert none == b"version: STSv1\r\nmode: none\r\nmax_age: 86400\r\n"
    long = policy_text(Policy(mode="testing", mx=("a.example", "*.b.example"), max_age_days=3000))
    assert long.endswith(b"mx: a.example\r\nmx: *.b.example\r\nmax_age: 31557600\r\n")
    # RFC 8461 §3.1: id is 1 to 32 letters and digits
    assert policy_id(none) != policy_id(long) and policy_id(long).isalnum()
    assert len(policy_id(long)) <= 32


async def test_a_plain_request_for_a_name_of_ours_is_sent_on_to_https(house: House) -> None:
    answer = await house.say(get("/", "Mail.Example.org."))
    assert status(answer) == 301
    assert b"Location: https://mail.example.org:8443/\r\n" in answer
    assert status(await house.say(get("/"), secure=True)) == 404
    assert b"Server: Posthouse\r\n" in answer and b"aiohttp" not in answer


async def test_connections_are_kept_for_further_requests(house: House) -> None:
    reader, writer = await house.open()
    path = f"/.well-known/acme-challenge/{TOKEN}"
    request = f"GET {path} HTTP/1.1\r\nHost: mail.example.org\r\n\r\n".encode()
    for _ in range(3):
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert status(head) == 200
        await reader.readexactly(len(TOKEN) + len(".thumb"))
    writer.write(request + request)  # pipelined
    for _ in range(2):
        await reader.readuntil(b".thumb")
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()


# H63: the paths; no file is ever read, as none is ever named
@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/acme-challenge/../../../../etc/passwd",
        "/.well-known/acme-challenge/..%2f..%2fetc%2fpasswd",
        "/.well-known/acme-challenge/%2e%2e/x",
        f"/.well-known/acme-challenge/{TOKEN}/../x",
        f"/.well-known/acme-challenge/./{TOKEN}",
        f"/.well-known/acme-challenge//{TOKEN}",
        f"/.well-known/acme-challenge/{TOKEN}%00",
        f"/.well-known/acme-challenge/{TOKEN}?x",
        "/.well-known/acme-challenge/",
        "/.well-known/acme-challenge/" + "A" * 200,
        "/..%2f..%2fetc/passwd",
        "/../../etc/passwd",
        "/..",
        "/a/../b",
        "/a/./b",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%5c..%5cwindows",
        "/..\\..\\x",
        "//evil.example/..",
        "/%0d%0aSet-Cookie:x",
        "/.well-known/mta-sts.txt/",
        "/.well-known/../.well-known/mta-sts.txt",
        "/.WELL-KNOWN/mta-sts.txt?",
    ],
)
@pytest.mark.parametrize("secure", [False, True])
async def test_a_path_that_is_not_quite_right_is_404(house: House, path: str, secure: bool) -> None:
    host = "mta-sts.example.org" if "mta-sts" in path else "mail.example.org"
    answer = await house.say(get(path, host), secure=secure)
    assert status(answer) in ({404, 301} if "/mta-sts.txt/" in path and not secure else {404})
    assert b"root:" not in answer and b"evil" not in answer and b"Set-Cookie" not in answer


# H63: requests that two programs would cut in two different places
@pytest.mark.parametrize(
    "octets",
    [
        START + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SECOND,
        START + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n" + SECOND,
        START + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        START.replace(b"GET", b"POST") + b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n",
        START + b"Transfer-Encoding: xchunked\r\n\r\n",
        START + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        START + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
        START + b"Content-Length: +3\r\n\r\nabc",
        START + b"Content-Length: -1\r\n\r\n",
        b"GET / HTTP/1.1\nHost: mail.example.org\n\n",
        START + b" X-Folded: a\r\n\r\n",
        START + b"X: a\rb\r\n\r\n",
        START + b"X: a\x00b\r\n\r\n",
        START + b"No colon\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: mail.example.org\r\n\r\n",
        b"GET / HTTP/3.14\r\nHost: mail.example.org\r\n\r\n",
        b"GET http://mail.example.org/ HTTP/1.1\r\nHost: mail.example.org\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: mail.example.org\r\n\r\n",
        b"CONNECT mail.example.org:25 HTTP/1.1\r\nHost: mail.example.org\r\n\r\n",
        b"EHLO mail.example.org\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a ClientHello\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.0\r\n\r\n",
        START + b"Host: mail.example.org\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: mail.example.org/x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a@mail.example.org\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: mail..example.org\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: m\xc3\xa4il.example.org\r\n\r\n",
    ],
)
@pytest.mark.parametrize("secure", [False, True])
async def test_what_could_smuggle_a_second_request_is_400_and_the_end(
    house: House, octets: bytes, secure: bool
) -> None:
    answer = await house.say(octets, secure=secure)
    assert status(answer) == 400
    assert answer.count(b"HTTP/1.1 ") + answer.count(b"HTTP/1.0 ") == 1
    assert answer.endswith((b"400 Bad Request\n", b"\r\n\r\n"))


async def test_an_unknown_host_gets_nothing_of_anybody(house: House) -> None:  # H63
    for host in ("evil.example", "127.0.0.1", "localhost", "xmta-sts.example.org", "example.org"):
        for path in ("/", "/.well-known/mta-sts.txt", f"/.well-known/acme-challenge/{TOKEN}"):
            for secure in (False, True):
                answer = await house.say(get(path, host), secure=secure)
                assert status(answer) == 404 and b"Location" not in answer


async def test_other_methods_and_bodies_are_turned_down_at_once(house: House) -> None:
    for method in (b"POST", b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"PATCH", b"PROPFIND"):
        answer = await house.say(get("/").replace(b"GET", method))
        assert status(answer) in {400, 405} and b"mail.example.org" not in answer
    slow = await house.say(  # H63: the body never comes, the answer does
        b"GET / HTTP/1.1\r\nHost: mail.example.org\r\nContent-Length: 100\r\n\r\nonly this"
    )
    assert status(slow) == 301 and b"Connection: close" in slow


async def test_a_header_of_a_mebibyte_is_400_before_it_is_all_there(house: House) -> None:  # H63
    for flood in (
        START + b"X: " + b"a" * 1_048_576,
        START + b"X-Many: aaaaaaaaaaaaaaaaaa\r\n" * 40_000,
        b"GET /" + b"a" * 1_048_576,
        b"a" * 1_048_576,
    ):
        reader, writer = await house.open()
        writer.write(flood)
        with contextlib.suppress(ConnectionError):
            answer = await reader.read()
            assert answer == b"" or status(answer) == 400
        writer.close()
    exact = START + b"X: " + b"a" * 8_000 + b"\r\n\r\n"
    assert status(await house.say(exact)) == 301
    assert "web.header_octets_max" in house.reached


async def test_a_slow_header_is_408_and_an_idle_connection_closed(house: House) -> None:  # H63
    house.door.options = Options(request_s=0.01)
    for octets, expected in (
        (b"GET / HTTP/1.1\r\nHost: mail.exa", 408),
        (b"", 0),
    ):
        reader, writer = await house.open()
        writer.write(octets)
        while not house.deadlines._live:
            await asyncio.sleep(0.005)
        await asyncio.sleep(0.05)
        house.deadlines.sweep()
        async with asyncio.timeout(5):
            assert status(await reader.read()) == expected
        writer.close()
    assert house.reached == ["web.request_s"]


async def test_a_handshake_that_fails_is_told_and_harms_nobody(house: House) -> None:
    host, port = house.secure.address
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"GET / HTTP/1.1\r\nHost: mail.example.org\r\n\r\n")
    await reader.read()
    writer.close()
    assert house.reached == ["plaintext"]
    assert status(await house.say(get("/"), secure=True)) == 404


async def test_a_thousand_requests_leave_nothing_behind(house: House) -> None:
    async def one(number: int) -> None:
        reader, writer = await house.open()
        writer.write(get("/")[: number % 60] if number % 3 else get("/"))
        if number % 2:
            writer.transport.abort()
        else:
            writer.write_eof()
            house.deadlines.sweep()
            with contextlib.suppress(ConnectionError):
                await reader.read(1)
            writer.close()

    house.door.options = Options(request_s=0.05)
    sweeper = asyncio.create_task(house.deadlines.run())
    for start in range(0, 1000, 50):
        await asyncio.gather(*(one(start + number) for number in range(50)))
    async with asyncio.timeout(10):
        while house.plain.sessions or house.door.server.connections:
            await asyncio.sleep(0.02)
    sweeper.cancel()
    assert len(house.deadlines) == 0


@pytest.mark.parametrize(
    ("host", "folder"),
    [("openpgpkey.example.org", "example.org/"), ("example.org", "")],
)
async def test_keys_of_the_web_key_directory(house: House, host: str, folder: str) -> None:
    name = wkd.local_hash("ada")
    base = f"/.well-known/openpgpkey/{folder}"
    found = await house.say(get(f"{base}hu/{name}?l=ada", host), secure=True)
    assert found.startswith(b"HTTP/1.1 200") and found.endswith(b"\r\n\r\nthe key")
    assert b"application/octet-stream" in found and b"Access-Control-Allow-Origin: *" in found
    policy = await house.say(get(f"{base}policy", host), secure=True)
    assert policy.startswith(b"HTTP/1.1 200") and b"auth-submit\n" in policy
    submission = await house.say(get(f"{base}submission-address", host), secure=True)
    assert submission.endswith(b"\r\n\r\nkey-submission@example.org\n")
    other = await house.say(get(f"{base}hu/{wkd.local_hash('eve')}", host), secure=True)
    assert other.startswith(b"HTTP/1.1 404")
    plainly = await house.say(get(f"{base}hu/{name}", host))
    assert not plainly.startswith(b"HTTP/1.1 200")
    stranger = await house.say(get(f"{base}hu/{name}", "example.net"), secure=True)
    assert stranger.startswith(b"HTTP/1.1 404")


async def test_no_keys_are_asked_for_where_there_is_none_to_encrypt_them_to(house: House) -> None:
    base, host = "/.well-known/openpgpkey/example.com/", "openpgpkey.example.com"
    policy = await house.say(get(f"{base}policy", host), secure=True)
    assert policy.startswith(b"HTTP/1.1 200") and policy.endswith(b"\r\n\r\n")
    submission = await house.say(get(f"{base}submission-address", host), secure=True)
    assert submission.startswith(b"HTTP/1.1 404")
