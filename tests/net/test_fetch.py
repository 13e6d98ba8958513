"""HTTPS that goes out because of what others say, over real sockets on loopback (H47)."""

from __future__ import annotations

import ssl
import time

import pytest
import trustme

from posthouse.kernel.ports import DnsAnswer, DnsStatus, FetchFailed, FetchTrouble, RecordType
from posthouse.net.fetch import HEADERS_MAX, HttpsFetch
from posthouse.sim.web import Answer, WebPeer, page
from posthouse.tls.contexts import verifying_client_context

HOST = "mta-sts.example.org"
URL = f"https://{HOST}/.well-known/mta-sts.txt"
AUTHORITY = trustme.CA()
POLICY = "version: STSv1\r\nmode: enforce\r\nmx: mx.example.org\r\nmax_age: 86400\r\n"


class Names:
    """A resolver that gives every name the same addresses, and counts the questions."""

    def __init__(self, *addresses: str, status: DnsStatus = DnsStatus.FOUND) -> None:
        self.addresses = addresses
        self.status = status
        self.asked: list[tuple[str, RecordType]] = []

    async def resolve(self, name: str, record_type: RecordType) -> DnsAnswer:
        self.asked.append((name, record_type))
        is_six = record_type is RecordType.AAAA
        found = tuple(a for a in self.addresses if (":" in a) == is_six)
        if self.status is DnsStatus.FOUND and not found:
            return DnsAnswer(status=DnsStatus.NO_DATA)
        return DnsAnswer(status=self.status, records=found, detail="SERVFAIL")

    def known(self, name: str, record_type: RecordType) -> DnsAnswer | None:
        return None


def serving(host: str = HOST, authority: trustme.CA = AUTHORITY) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(host).configure_cert(context)
    return context


def trusting() -> ssl.SSLContext:
    context = verifying_client_context()
    AUTHORITY.configure_trust(context)
    return context


@pytest.fixture
async def peer():
    made = WebPeer(serving(), page(POLICY))
    await made.serve()
    yield made
    await made.close()


def fetching(peer: WebPeer, names: Names | None = None, *, is_lab: bool = True) -> HttpsFetch:
    return HttpsFetch(
        names or Names("127.0.0.1"),
        context=trusting(),
        port=peer.address[1],
        allow_private_addresses=is_lab,
    )


async def failure(fetch: HttpsFetch, url: str = URL, *, octets_max=1000, timeout_s=10.0):
    with pytest.raises(FetchFailed) as caught:
        await fetch.get(url, octets_max=octets_max, timeout_s=timeout_s)
    assert str(caught.value)
    return caught.value.kind


async def test_an_answer_comes_whole_with_its_media_type(peer) -> None:
    fetched = await fetching(peer).get(URL, octets_max=1000, timeout_s=10)
    assert (fetched.status, fetched.media_type) == (200, "text/plain")
    assert fetched.octets == POLICY.encode()
    head = peer.requests[0].lower()
    assert head.startswith(b"get /.well-known/mta-sts.txt http/1.1\r\n")
    assert f"host: {HOST}\r\n".encode() in head
    assert b"accept-encoding: identity\r\n" in head and b"cookie" not in head


async def test_a_report_is_posted(peer) -> None:
    fetched = await fetching(peer).post(
        URL, b"{}", media_type="application/tlsrpt+json", octets_max=1000, timeout_s=10
    )
    assert fetched.status == 200
    assert b"content-type: application/tlsrpt+json\r\n" in peer.requests[0].lower()


# H47: the address is checked after resolution, whatever the name
@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "169.254.169.254",
        "10.0.0.1",
        "::1",
        "fd00::1",
        "64:ff9b::7f00:1",
        "64:ff9b::a9fe:a9fe",
        "::ffff:127.0.0.1",
    ],
)
async def test_a_name_that_leads_inside_is_not_followed(peer, address: str) -> None:
    kind = await failure(fetching(peer, Names(address), is_lab=False))
    assert kind is FetchTrouble.ADDRESS
    assert not peer.requests


# H47: an address that passed is the only one that is gone to
async def test_the_connection_is_pinned_to_what_was_checked(peer) -> None:
    names = Names("127.0.0.1")
    await fetching(peer, names).get(URL, octets_max=1000, timeout_s=10)
    assert names.asked == [(HOST, RecordType.A), (HOST, RecordType.AAAA)]


@pytest.mark.parametrize(
    "url",
    [
        "http://mta-sts.example.org/",
        "https://127.0.0.1/",
        "https://2130706433/",
        "https://[::1]/",
        "https://mta-sts.example.org:8443/",
        "https://user:secret@mta-sts.example.org/",
        "https:///etc/passwd",
        "file:///etc/passwd",
        "https://[broken/",
        "nonsense",
    ],
)
async def test_only_https_to_a_host_by_name_is_asked_for(peer, url: str) -> None:
    kind = await failure(fetching(peer), url)
    assert kind in (FetchTrouble.PROTOCOL, FetchTrouble.ADDRESS)
    assert not peer.requests


async def test_the_standard_port_may_be_named(peer) -> None:
    fetched = await fetching(peer).get(f"https://{HOST}:443/", octets_max=1000, timeout_s=10)
    assert fetched.status == 200


# H47: redirects
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_like_others(peer, status: int) -> None:
    head = f"HTTP/1.1 {status} over there\r\nLocation: https://127.0.0.1/\r\n"
    peer.answer = Answer(octets=f"{head}Content-Length: 0\r\n\r\n".encode())
    fetched = await fetching(peer).get(URL, octets_max=1000, timeout_s=10)
    assert fetched.status == status
    assert len(peer.requests) == 1


# H47: a body without end, with and without a length
@pytest.mark.parametrize(
    "head",
    [b"Content-Length: 999999999\r\n", b"Connection: close\r\n", b"Transfer-Encoding: chunked\r\n"],
)
async def test_a_body_without_end_is_cut_off(peer, head: bytes) -> None:
    body = b"400\r\n" + b"x" * 1017 + b"\r\n" if b"chunked" in head else b"x" * 1024
    octets = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n" + head + b"\r\n" + body
    peer.answer = Answer(octets=octets, is_endless=True)
    kind = await failure(fetching(peer), octets_max=65_536)
    assert kind in (FetchTrouble.TOO_BIG, FetchTrouble.PROTOCOL)


# H47: an octet now and then
@pytest.mark.timed
async def test_an_answer_that_drips_is_left_at_the_deadline(peer) -> None:
    peer.answer = Answer(octets=page(POLICY).octets, drip_s=0.05)
    began = time.monotonic()
    kind = await failure(fetching(peer), timeout_s=0.4)
    assert kind is FetchTrouble.TIMEOUT
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "octets",
    [
        b"HTTP/1.1 200 OK\r\n" + b"X-Long: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X-Many: y\r\n" * (HEADERS_MAX + 50) + b"\r\n",
        b"HTTP/1.1 200 " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"220 mail.example.org ESMTP\r\n",
        b"\x00\xff" * 5_000,
        b"",
    ],
)
async def test_what_is_no_good_http_is_a_failure(peer, octets: bytes) -> None:
    peer.answer = Answer(octets=octets)
    assert await failure(fetching(peer)) in (FetchTrouble.PROTOCOL, FetchTrouble.CONNECT)


async def test_what_is_compressed_though_nobody_asked_is_not_unpacked(peer) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n"
    peer.answer = Answer(octets=head + b"\x1f\x8b")
    assert await failure(fetching(peer)) is FetchTrouble.PROTOCOL


# RFC 8461 §3.3
@pytest.mark.parametrize(
    "context",
    [serving("example.org"), serving("*.mta-sts.example.org"), serving(authority=trustme.CA())],
)
async def test_a_certificate_for_another_or_of_nobody_is_refused(context) -> None:
    peer = WebPeer(context, page(POLICY))
    await peer.serve()
    try:
        assert await failure(fetching(peer)) is FetchTrouble.TLS
        assert not peer.requests
    finally:
        await peer.close()


async def test_nobody_there_is_a_failure_to_connect(peer) -> None:
    fetch = fetching(peer)
    await peer.close()
    assert await failure(fetch) is FetchTrouble.CONNECT


# P8
@pytest.mark.parametrize("status", [DnsStatus.TEMPFAIL, DnsStatus.NO_NAME, DnsStatus.NO_DATA])
async def test_a_name_without_address_is_a_failure_of_the_dns(peer, status) -> None:
    assert await failure(fetching(peer, Names(status=status))) is FetchTrouble.DNS


@pytest.mark.parametrize("status", [DnsStatus.TEMPFAIL, DnsStatus.NO_NAME, DnsStatus.NO_DATA])
async def test_a_host_that_is_not_there_is_told_from_one_that_nobody_could_ask_for(
    peer, status
) -> None:
    with pytest.raises(FetchFailed) as caught:
        await fetching(peer, Names(status=status)).get(URL, octets_max=1000, timeout_s=10)
    assert caught.value.is_unknown is (status is DnsStatus.TEMPFAIL)


async def test_proxies_of_the_environment_are_not_asked(peer, monkeypatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    assert (await fetching(peer).get(URL, octets_max=1000, timeout_s=10)).status == 200


# --- plain HTTP, for what is signed itself ---


async def test_plain_http_is_gone_to_only_where_the_caller_allows_it() -> None:
    peer = WebPeer(None, page("a list"))
    await peer.serve()
    url = f"http://{HOST}/list.crl"
    try:
        fetch = HttpsFetch(
            Names("127.0.0.1"),
            context=trusting(),
            http_port=peer.address[1],
            allow_private_addresses=True,
        )
        got = await fetch.get(url, octets_max=1000, timeout_s=10, allow_http=True)
        assert (got.status, got.octets) == (200, b"a list")
        assert await failure(fetch, url) is FetchTrouble.PROTOCOL
        assert len(peer.requests) == 1
    finally:
        await peer.close()


@pytest.mark.parametrize(
    ("url", "trouble"),
    [
        (f"http://{HOST}/list.crl", FetchTrouble.ADDRESS),  # loopback, and this is no laboratory
        (f"http://{HOST}:8080/list.crl", FetchTrouble.PROTOCOL),
        ("http://127.0.0.1/list.crl", FetchTrouble.ADDRESS),
        (f"ftp://{HOST}/list.crl", FetchTrouble.PROTOCOL),
        (f"http://ada:secret@{HOST}/list.crl", FetchTrouble.PROTOCOL),
    ],
)
async def test_plain_http_is_guarded_like_the_other(url: str, trouble: FetchTrouble) -> None:
    fetch = HttpsFetch(Names("127.0.0.1"), context=trusting())
    with pytest.raises(FetchFailed) as caught:
        await fetch.get(url, octets_max=1000, timeout_s=10, allow_http=True)
    assert caught.value.kind is trouble
