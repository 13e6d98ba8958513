"""All HTTP that goes out because of what others say: the port `Fetch` over aiohttp (H47).

The name is looked up with our resolver, every address is judged, and the connection can go to none
but those that passed: there is no second look-up in between. Redirects, proxies of the environment,
cookies and compression are not followed, and everything that comes back has a bound.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Final

import aiohttp
import yarl
from aiohttp.abc import AbstractResolver, ResolveResult

from posthouse.kernel.ports import (
    DnsStatus,
    Fetched,
    FetchFailed,
    FetchTrouble,
    RecordType,
    Resolver,
)
from posthouse.net.addresses import is_public

HTTPS_PORT: Final = 443
HTTP_PORT: Final = 80
HEADER_LINE_OCTETS_MAX: Final = 8_190
HEADERS_MAX: Final = 100
CHUNK_OCTETS: Final = 16_384
ADDRESSES_MAX: Final = 8
USER_AGENT: Final = "Posthouse"
"""No version: whoever reads it need not know which holes to try."""


class HttpsFetch:
    """The port `Fetch`. One connection for each request, none is kept."""

    def __init__(
        self,
        resolver: Resolver,
        *,
        context: ssl.SSLContext,
        port: int = HTTPS_PORT,
        http_port: int = HTTP_PORT,
        allow_private_addresses: bool = False,
    ) -> None:
        """Args:
        context: verifies the server's certificate and its name (`tls.contexts`).
        port: 443 but in a laboratory, where hosts on loopback cannot have it.
        http_port: 80 likewise.
        allow_private_addresses: for laboratories too.
        """
        self._resolver = resolver
        self._context = context
        self._ports = {"https": port, "http": http_port}
        self._allow_private_addresses = allow_private_addresses

    async def get(
        self, url: str, *, octets_max: int, timeout_s: float, allow_http: bool = False
    ) -> Fetched:
        """As the port says."""
        return await self._fetch("GET", url, {}, None, octets_max, timeout_s, allow_http=allow_http)

    async def post(
        self, url: str, octets: bytes, *, media_type: str, octets_max: int, timeout_s: float
    ) -> Fetched:
        """As the port says."""
        fields = {"Content-Type": media_type}
        return await self._fetch("POST", url, fields, octets, octets_max, timeout_s)

    async def _fetch(
        self,
        method: str,
        url: str,
        fields: Mapping[str, str],
        content: bytes | None,
        octets_max: int,
        timeout_s: float,
        *,
        allow_http: bool = False,
    ) -> Fetched:
        asked = self._checked(url, allow_http)
        try:
            async with asyncio.timeout(timeout_s):  # look-up, connection, answer: all of it
                addresses = await self._addresses(asked.raw_host or "")
                return await self._exchange(method, asked, fields, content, addresses, octets_max)
        except TimeoutError:
            words = f"{asked.host} did not answer within {timeout_s:g} s"
            raise FetchFailed(words, FetchTrouble.TIMEOUT) from None

    def _checked(self, url: str, allow_http: bool) -> yarl.URL:
        """The URL with the port it goes to."""
        try:
            asked = yarl.URL(url)
            host, port = asked.raw_host, asked.explicit_port
        except ValueError as error:
            raise _protocol(f"{url!r} is no URL") from error
        if not host or (asked.scheme != "https" and not (allow_http and asked.scheme == "http")):
            raise _protocol(f"{url!r} does not begin with https:// and a host name")
        if asked.user is not None or asked.password is not None:
            raise _protocol(f"{url!r} holds a login")
        if ":" in host or host.replace(".", "").isdigit():
            # aiohttp would connect to a literal without asking the resolver that it was given.
            raise FetchFailed(f"{url!r} names an address in place of a host", FetchTrouble.ADDRESS)
        usual = HTTPS_PORT if asked.scheme == "https" else HTTP_PORT
        if port is not None and port != usual:
            raise _protocol(f"{url!r} names a port; only {usual} is gone to")
        return asked.with_port(self._ports[asked.scheme]).with_fragment(None)

    async def _addresses(self, host: str) -> tuple[str, ...]:
        """Where the connection may go."""
        four, six = await asyncio.gather(
            self._resolver.resolve(host, RecordType.A),
            self._resolver.resolve(host, RecordType.AAAA),
        )
        found: tuple[str, ...] = (*four.records, *six.records)
        if not found:
            troubles = [one.detail for one in (four, six) if one.status is DnsStatus.TEMPFAIL]
            words = f"looking up {host} failed: {troubles[0]}" if troubles else ""
            words = words or f"{host} has no address"
            raise FetchFailed(words, FetchTrouble.DNS, is_unknown=bool(troubles))
        allowed = [a for a in found if self._allow_private_addresses or is_public(a)]
        if not allowed:
            words = f"{host} leads to private or otherwise special addresses only"
            raise FetchFailed(words, FetchTrouble.ADDRESS)
        return tuple(allowed[:ADDRESSES_MAX])

    async def _exchange(
        self,
        method: str,
        url: yarl.URL,
        fields: Mapping[str, str],
        content: bytes | None,
        addresses: Sequence[str],
        octets_max: int,
    ) -> Fetched:
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(url.raw_host or "", addresses),
            use_dns_cache=False,
            ssl=self._context,
            force_close=True,
            limit=1,
        )
        try:
            async with aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(),  # the caller's deadline is around all of it
                max_line_size=HEADER_LINE_OCTETS_MAX,
                max_field_size=HEADER_LINE_OCTETS_MAX,
                max_headers=HEADERS_MAX,
            ) as session:
                return await _ask(session, method, url, fields, content, octets_max)
        except aiohttp.ClientError as error:
            raise _failure(url.host or "", error) from error
        except (ValueError, OSError) as error:  # a response that the parser trips over; a reset
            if isinstance(error, TimeoutError):
                raise
            raise _protocol(f"{url.host}: {error}") from error


async def _ask(
    session: aiohttp.ClientSession,
    method: str,
    url: yarl.URL,
    fields: Mapping[str, str],
    content: bytes | None,
    octets_max: int,
) -> Fetched:
    head = {
        # The port is the laboratory's affair; Host is what any other client would send.
        "Host": url.raw_host or "",
        "User-Agent": USER_AGENT,
        "Accept-Encoding": "identity",
        **fields,
    }
    async with session.request(
        method, url, headers=head, data=content, allow_redirects=False
    ) as response:
        coding = response.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("", "identity"):
            raise _protocol(f"{url.host} sends {coding!r} though we asked for plain octets")
        octets = bytearray()
        async for chunk in response.content.iter_chunked(CHUNK_OCTETS):
            octets += chunk
            if len(octets) > octets_max:
                words = f"{url.host} sends more than {octets_max} octets"
                raise FetchFailed(words, FetchTrouble.TOO_BIG)
        media_type = response.headers.get("Content-Type", "")
        return Fetched(
            status=response.status,
            media_type=media_type.partition(";")[0].strip().lower(),
            octets=bytes(octets),
        )


class _Pinned(AbstractResolver):
    """Gives aiohttp the addresses that were judged, for the one host they were judged for."""

    def __init__(self, host: str, addresses: Sequence[str]) -> None:
        self._host = host
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        if host != self._host:
            raise OSError(f"{host} was not asked for")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in self._addresses
        ]

    async def close(self) -> None: ...


def _failure(host: str, error: aiohttp.ClientError) -> FetchFailed:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        words = getattr(error.certificate_error, "verify_message", "") or error.certificate_error
        return FetchFailed(f"the certificate of {host} does not verify: {words}", FetchTrouble.TLS)
    if isinstance(error, aiohttp.ClientSSLError):
        return FetchFailed(f"no TLS with {host}: {error}", FetchTrouble.TLS)
    if isinstance(error, aiohttp.ClientConnectorError):
        said = error.os_error.strerror or error.os_error
        return FetchFailed(f"{host} cannot be reached: {said}", FetchTrouble.CONNECT)
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return FetchFailed(f"{host} closed the connection", FetchTrouble.CONNECT)
    said = str(error).partition("\n")[0][:200] or type(error).__name__
    return _protocol(f"the answer of {host} is no good HTTP: {said}")


def _protocol(words: str) -> FetchFailed:
    return FetchFailed(words, FetchTrouble.PROTOCOL)
