"""What ports 80 and 443 answer: ACME's http-01 (RFC 8555 §8.3), our MTA-STS policies (RFC 8461
§3.3), OpenPGP keys (the Web Key Directory), and what mail clients ask to set themselves up. Nothing
else: no path ever becomes a file's name, and a name that is not ours gets 404 (H63).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Protocol

import msgspec
from aiohttp import web

from posthouse.mimesec.pgp import wkd
from posthouse.store.reports import KEY_SUBMISSION
from posthouse.web import autoconfig
from posthouse.web.autoconfig import Clients
from posthouse.web.door import PAGE_HEADERS, is_tls, plain

CHALLENGES: Final = "/.well-known/acme-challenge/"
POLICY: Final = "/.well-known/mta-sts.txt"
METHODS: Final = ("GET", "HEAD")
HTTPS_PORT: Final = 443
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")  # RFC 8555 §8.3: base64url
_HOST: Final = re.compile(r"([a-z0-9_-]+(?:\.[a-z0-9_-]+)*)\.?(?::[0-9]{1,5})?")
_PLAIN_QUERY: Final = re.compile(r"[A-Za-z0-9._~%@+=&-]{1,512}")
_PLAIN_PATH: Final = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]*)+")


class Api(Protocol):
    """`web.api.Api`."""

    def is_for(self, path: str) -> bool: ...

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse: ...


Answer = Callable[[str, str], str | None]
"""The key authorization for a host and a token, while an authority may ask for it."""


class Sites(msgspec.Struct, frozen=True, kw_only=True):
    """What we are on the web; made anew whenever domains or settings change."""

    hosts: frozenset[str] = frozenset()
    """Names whose plain requests are sent on to https."""
    policies: Mapping[str, bytes] = {}
    """The text of mta-sts.txt by policy host, `mta-sts.example.org`."""
    clients: Clients = Clients()
    keys: Mapping[str, Mapping[str, bytes]] = {}
    """By domain the OpenPGP keys it shows, by `wkd.local_hash`, that of its submission address with
    them; a domain is there without any, too."""


class WellKnown:
    """Answers requests; `respond` is what a `Door` calls."""

    def __init__(self, answer: Answer, *, https_port: int = HTTPS_PORT) -> None:
        self.sites = Sites()
        self.api: Api | None = None
        self._answer = answer
        self._port = "" if https_port == HTTPS_PORT else f":{https_port}"

    async def respond(self, request: web.BaseRequest) -> web.StreamResponse:
        api = self.api
        if api is not None and api.is_for(request.raw_path) and _host(request) is not None:
            answer = await api.respond(request)
            if answer.status >= 400:
                answer.force_close()  # the rest of a body is not read
            return answer
        response = self._response(request)
        if response.status != 200 or request.can_read_body:
            response.force_close()
        return response

    def _response(self, request: web.BaseRequest) -> web.Response:
        host = _host(request)
        if host is None or not request.raw_path.startswith("/"):
            return plain(400)
        if request.method not in METHODS:
            return plain(405, "Method Not Allowed", {"Allow": ", ".join(METHODS)})
        path = request.raw_path
        if path.startswith(CHALLENGES):
            return self._challenge(host, path.removeprefix(CHALLENGES))
        page, _, query = path.partition("?")
        if page in autoconfig.PATHS:
            return self._client_config(host, page, query, is_encrypted=is_tls(request))
        if not is_tls(request):
            return self._redirect(host, path)
        if page.startswith(wkd.FOLDER):
            return self._key(host, path)
        policy = self.sites.policies.get(host) if path == POLICY else None
        if policy is None:
            return plain(404)
        return web.Response(
            body=policy, headers={**PAGE_HEADERS, "Content-Type": "text/plain; charset=utf-8"}
        )

    def _challenge(self, host: str, token: str) -> web.Response:
        answer = self._answer(host, token) if _TOKEN.fullmatch(token) else None
        if answer is None:
            return plain(404)
        headers = {**PAGE_HEADERS, "Cache-Control": "no-store"}
        return web.Response(
            body=answer.encode("ascii"), content_type="application/octet-stream", headers=headers
        )

    def _client_config(
        self, host: str, page: str, query: str, *, is_encrypted: bool
    ) -> web.Response:
        answer = self.sites.clients.answer(host, page, query)
        if answer is None:
            return plain(404)
        if not is_encrypted:  # whoever sits on the line could name a server of his own
            more = f"?{query}" if _PLAIN_QUERY.fullmatch(query) else ""
            return self._moved(f"https://{host}{self._port}{page}{more}")
        return web.Response(
            body=answer, headers={**PAGE_HEADERS, "Content-Type": "text/xml; charset=utf-8"}
        )

    def _key(self, host: str, path: str) -> web.Response:
        asked = wkd.asked(host, path)
        keys = self.sites.keys.get(asked.domain) if asked is not None else None
        if asked is None or keys is None:
            return plain(404)
        octets = keys.get(asked.hash) if asked.hash else _key_file(asked, keys)
        if octets is None:
            return plain(404)
        # A page of any origin may ask: what is here is for everybody.
        headers = {**PAGE_HEADERS, "Access-Control-Allow-Origin": "*"}
        media_type = "application/octet-stream" if asked.hash else "text/plain"
        return web.Response(body=octets, content_type=media_type, headers=headers)

    def _redirect(self, host: str, path: str) -> web.Response:
        is_ours = host in self.sites.hosts or host in self.sites.policies
        if not is_ours or _PLAIN_PATH.fullmatch(path) is None:
            return plain(404)
        return self._moved(f"https://{host}{self._port}{path}")

    def _moved(self, location: str) -> web.Response:
        return plain(301, "Moved Permanently", {"Location": location})


def _key_file(asked: wkd.Asked, keys: Mapping[str, bytes]) -> bytes | None:
    """Where keys may be sent: only with a key to encrypt them to, as programs always do. The policy
    is there without it, too, and says that there is a directory."""
    is_policy = asked.file == wkd.POLICY_FILE
    if wkd.local_hash(KEY_SUBMISSION) not in keys:
        return b"" if is_policy else None
    address = f"{KEY_SUBMISSION}@{asked.domain}"
    return wkd.policy(address) if is_policy else f"{address}\n".encode("ascii")


def _host(request: web.BaseRequest) -> str | None:
    """The one Host of a request, without its port; None when there is no such thing, which RFC 9112
    §3.2 answers 400."""
    values = request.headers.getall("Host", [])
    if len(values) != 1:
        return None
    found = _HOST.fullmatch(values[0].lower())
    return found[1] if found is not None else None
