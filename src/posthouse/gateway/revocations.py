"""Whether certificates of signed mail have been revoked: lists of their issuers (RFC 5280 §5) and
OCSP responses (RFC 6960), fetched where the certificates say they are, and kept for a while.

Only certificates that lead to an authority that is trusted are asked about: nobody else can make
this server go anywhere. The list comes first, as it is about all certificates of its issuer, so
that the authority does not hear who gets mail from whom. Where nothing can be reached, or not in
time, the signature stands: it is no fault of its author's.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import Final
from urllib.parse import quote

import msgspec

from posthouse.gateway.learning import trust_in
from posthouse.kernel.errors import Fault
from posthouse.kernel.ports import Clock, Fetch, FetchFailed, Workers
from posthouse.mimesec.findings import Scheme, Signature, SignatureResult
from posthouse.mimesec.opening import Opened
from posthouse.mimesec.smime import revocation
from posthouse.mimesec.smime.certificates import Certificate, read_all
from posthouse.mimesec.smime.chain import Trust, check_path
from posthouse.mimesec.smime.der import BadStructure
from posthouse.mimesec.smime.revocation import OCSP_OCTETS_MAX, Crl, OcspResponse, Revocation

SIGNATURES_MAX: Final = 3
"""Of one message that are asked about."""
LINKS_MAX: Final = 6
"""Certificates of those that are asked about."""
CERTIFICATES_MAX: Final = 20
URLS_MAX: Final = 2
"""Of one certificate that are tried, of lists and of responders each."""
LIST_OCTETS_MAX: Final = 16 << 20
FETCH_S: Final = 10.0
KEPT_MAX: Final = 1_000
KEPT_OCTETS_MAX: Final = 64 << 20
KEPT_S: Final = (10 * 60.0, 86_400.0)
"""At least and at most, whatever its issuer says of the next one."""
MISSED_S: Final = 15 * 60.0
"""How long a place is left alone that could not be reached."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    is_enabled: bool = True
    deadline_s: float = 5.0


class Link(msgspec.Struct, frozen=True):
    """A certificate and who issued it."""

    certificate: Certificate
    issuer: Certificate


class Papers(msgspec.Struct, frozen=True, kw_only=True):
    """What says that something was revoked; false where nothing does."""

    crls: tuple[bytes, ...] = ()
    ocsp: tuple[bytes, ...] = ()
    revoked: tuple[str, ...] = ()
    """Fingerprints of the certificates."""

    def __bool__(self) -> bool:
        return bool(self.revoked)


class _Kept(msgspec.Struct, frozen=True):
    paper: Revocation | None
    """None: it could not be reached, or read."""
    until: float


class _Place(msgspec.Struct, frozen=True, kw_only=True):
    url: str
    octets_max: int
    read: Callable[[bytes], Revocation]


class Revocations:
    """One for each process."""

    def __init__(self, options: Options, *, fetch: Fetch, clock: Clock, workers: Workers) -> None:
        self.options = options
        self._fetch = fetch
        self._clock = clock
        self._workers = workers
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._octets = 0
        self._asking: dict[str, _Turn] = {}

    async def of(self, opened: Opened, roots: tuple[bytes, ...], at: datetime) -> Papers:
        """About the certificates of all S/MIME signatures that are VALID so far."""
        if not self.options.is_enabled or not any(_is_asked(one) for one in _signatures(opened)):
            return Papers()
        links = await self._workers.run(partial(links_of, opened, roots, at))
        if not links:
            return Papers()
        asking = [asyncio.ensure_future(self._about(link, at)) for link in links]
        try:
            await asyncio.wait(asking, timeout=self.options.deadline_s)
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        papers = [
            paper
            for task in asking
            if not task.cancelled() and (paper := task.result()) is not None
        ]
        return await self._workers.run(partial(_revoked, links, papers, at)) if papers else Papers()

    async def _about(self, link: Link, at: datetime) -> Revocation | None:
        """The first that is its issuer's word about it."""
        with contextlib.suppress(Fault):  # nothing could be asked: no fault of the author's
            for place in _places(link):
                paper = await self._paper(place)
                if paper is not None and await self._workers.run(partial(_covers, paper, link, at)):
                    return paper
        return None

    async def _paper(self, place: _Place) -> Revocation | None:
        async with self._alone(place.url):
            kept = self._kept.get(place.url)
            if kept is not None and kept.until > self._clock.monotonic_s():
                self._kept.move_to_end(place.url)
                return kept.paper
            paper: Revocation | None = None
            try:
                paper = await self._fetched(place)
            finally:  # one that took too long is not waited for by the next message, either
                self._keep(place.url, paper)
            return paper

    async def _fetched(self, place: _Place) -> Revocation | None:
        try:
            got = await self._fetch.get(
                place.url, octets_max=place.octets_max, timeout_s=FETCH_S, allow_http=True
            )
        except FetchFailed:
            return None
        if got.status != 200:
            return None
        try:
            return await self._workers.run(partial(place.read, got.octets))
        except BadStructure:
            return None

    def _keep(self, url: str, paper: Revocation | None) -> None:
        self._forget(url)
        kept_s = MISSED_S
        if paper is not None:
            lasts = paper.next_update
            left_s = (lasts - self._clock.now()).total_seconds() if lasts is not None else 0.0
            kept_s = min(max(left_s, KEPT_S[0]), KEPT_S[1])
            self._octets += len(paper.octets)
        self._kept[url] = _Kept(paper, self._clock.monotonic_s() + kept_s)
        while len(self._kept) > KEPT_MAX or (
            self._octets > KEPT_OCTETS_MAX and len(self._kept) > 1
        ):
            self._forget(next(iter(self._kept)))

    def _forget(self, url: str) -> None:
        kept = self._kept.pop(url, None)
        if kept is not None and kept.paper is not None:
            self._octets -= len(kept.paper.octets)

    @contextlib.asynccontextmanager
    async def _alone(self, url: str) -> AsyncIterator[None]:
        """Many messages of one issuer's people ask once."""
        turn = self._asking.setdefault(url, _Turn())
        turn.waiting += 1
        try:
            async with turn.lock:
                yield
        finally:
            turn.waiting -= 1
            if not turn.waiting:
                del self._asking[url]


class _Turn:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.waiting = 0


def links_of(opened: Opened, roots: tuple[bytes, ...], at: datetime) -> tuple[Link, ...]:
    """For a worker: the certificates that can be asked about, those of the signers first."""
    trust = trust_in(roots)
    paths = [
        pairwise(path)
        for one in [one for one in _signatures(opened) if _is_asked(one)][:SIGNATURES_MAX]
        if (path := _path(one, trust, at))
    ]
    found = dict.fromkeys(Link(*pair) for path in paths for pair in path)
    return tuple(link for link in found if any(True for _ in _places(link)))[:LINKS_MAX]


def _path(signature: Signature, trust: Trust, at: datetime) -> tuple[Certificate, ...]:
    certificates = read_all(signature.certificates, count_max=CERTIFICATES_MAX)
    if not certificates:
        return ()
    checked = check_path(certificates[0], trust, offered=certificates[1:], at=at)
    return checked.path if checked.result is SignatureResult.VALID else ()


def _signatures(opened: Opened) -> Iterator[Signature]:
    for section in opened.sections:
        yield from section.signatures


def _is_asked(signature: Signature) -> bool:
    return signature.scheme is Scheme.SMIME and signature.result is SignatureResult.VALID


def _places(link: Link) -> Iterator[_Place]:
    for url in revocation.list_urls(link.certificate)[:URLS_MAX]:
        yield _Place(url=url, octets_max=LIST_OCTETS_MAX, read=Crl)
    for url in revocation.ocsp_urls(link.certificate)[:URLS_MAX]:
        request = base64.b64encode(revocation.ocsp_request(link.certificate, link.issuer)).decode()
        # GET, as it can be answered from a cache on the way (RFC 6960 appendix A.1).
        yield _Place(
            url=f"{url.rstrip('/')}/{quote(request, safe='')}",
            octets_max=OCSP_OCTETS_MAX,
            read=OcspResponse,
        )


def _covers(paper: Revocation, link: Link, at: datetime) -> bool:
    if isinstance(paper, Crl):
        return paper.covers(link.certificate, link.issuer)
    return paper.covers(link.certificate, link.issuer, at)


def _revoked(links: Sequence[Link], papers: Sequence[Revocation], at: datetime) -> Papers:
    said = [
        (link.certificate.fingerprint, paper)
        for link in links
        for paper in papers
        if paper.revoked(link.certificate, link.issuer, at) is not None
    ]
    used = list(dict.fromkeys(paper for _, paper in said))
    return Papers(
        crls=tuple(one.octets for one in used if isinstance(one, Crl)),
        ocsp=tuple(one.octets for one in used if isinstance(one, OcspResponse)),
        revoked=tuple(dict.fromkeys(fingerprint for fingerprint, _ in said)),
    )
