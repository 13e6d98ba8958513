"""Keeps a certificate for each wanted name: what is due, one order at a time, what came of it.

`look` is called every moment by the server's background job; `attempt` is one order at once, as the
command line wants it. What is known of a name is in files, so that a restart forgets nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

import msgspec
from cryptography import x509

from posthouse.kernel.errors import UserError
from posthouse.kernel.ports import Chance, Clock, DnsStatus, RecordType, Resolver, Workers
from posthouse.tls.acme import rollover, schedule
from posthouse.tls.acme.folder import About, AcmeFolder, Held, Status
from posthouse.tls.acme.keys import new_key, public_key, request
from posthouse.tls.acme.options import Kind, Options, Wanted
from posthouse.tls.acme.solvers import Solver
from posthouse.tls.acme.trouble import OrderFailed
from posthouse.tls.certificates import CertificateFiles, load_certificate
from posthouse.tls.tlsa import tlsa_3_1_1

if TYPE_CHECKING:
    from posthouse.tls.acme.authority import Authority, Proof, Window

POLL_S: Final = 1.0
POLL_S_MAX: Final = 5.0
WAIT_FOR_DNS: Final = timedelta(minutes=10)
"""Between looks for a name or record that nobody has published yet."""
TOLD_EVERY: Final = timedelta(days=1)
MISSING_FAILURES: Final = 5
MISSING_FOR: Final = timedelta(days=1)
"""A first certificate that fails so often, or for so long, is told to a person; then at most each
`MISSING_TOLD_EVERY`."""
MISSING_TOLD_EVERY: Final = timedelta(days=7)
UNHEARD_FOR: Final = timedelta(hours=1)
"""Until telling is tried again, where there is no postmaster yet or the store failed."""


class Observer(Protocol):
    """Who is told; `app` writes the log, serves the certificate and writes to postmaster."""

    def obtained(self, name: str, files: CertificateFiles, *, not_after: datetime) -> None: ...

    def failed(self, name: str, failure: UserError, *, next_at: datetime) -> None: ...

    def waits(self, name: str, words: str) -> None: ...

    def wished(self, name: str, at: datetime, explanation: str) -> None: ...

    async def expiring(self, name: str, not_after: datetime, failure: UserError) -> bool:
        """Returns whether somebody was told."""
        ...

    async def missing(self, names: Mapping[str, Status]) -> bool:
        """Names that fail and never had a certificate. Returns whether somebody was told."""
        ...


def open_authority(options: Options, folder: AcmeFolder, workers: Workers) -> Authority:
    """Raises UserError, with what to install, where the library is missing."""
    try:
        from posthouse.tls.acme.authority import Authority
    except ModuleNotFoundError as error:
        raise UserError(
            f"certificates by ACME need a package that is not installed ({error.name})",
            hint="pip install 'posthouse[acme]'",
        ) from error
    return Authority(options, folder, workers)


async def has_address(resolver: Resolver, name: str) -> bool:
    """Whether the DNS has an address, or cannot say."""
    for kind in (RecordType.A, RecordType.AAAA):
        answer = await resolver.resolve(name, kind)
        if answer.status in (DnsStatus.FOUND, DnsStatus.TEMPFAIL):
            return True
    return False


class Keeper:
    """The certificates of one data folder."""

    def __init__(
        self,
        options: Options,
        *,
        folder: AcmeFolder,
        solvers: Mapping[Kind, Solver],
        resolver: Resolver,
        workers: Workers,
        clock: Clock,
        chance: Chance,
        observer: Observer,
        first_key: Callable[[str], bytes | None] = lambda name: None,
    ) -> None:
        """Args:
        solvers: the ways that are open to us.
        workers: for the blocking library; its calls may take minutes.
        first_key: the key a name is served with until its first order, which goes on with it, so
            that a published TLSA record stays right; None for a new one.
        """
        self.options = options
        self.folder = folder
        self._solvers = solvers
        self._resolver = resolver
        self._workers = workers
        self._clock = clock
        self._chance = chance
        self._observer = observer
        self._first_key = first_key
        self._tell_at: datetime | None = None
        """When telling of missing ones is tried again after it failed."""

    # --- what is due ---

    async def look(self, wanted: Iterable[Wanted]) -> None:
        """Carry out what is due now, and what the command line asks for."""
        names = {item.name: item for item in wanted}
        for name, token in self.folder.asked().items():
            if name in names:
                await self.attempt(name)
                self._change(name, answered=token)
            else:
                self._change(
                    name,
                    answered=token,
                    problem=f"the running server does not know that {name} needs a certificate",
                    hint="it goes by the config that it read last: have it read it again (SIGHUP)",
                )
            self.folder.drop_asked(name)
        for item in names.values():
            await self._look_at(item)
            await asyncio.sleep(0)  # a thousand names are no hold-up
        await self._tell_missing(names)

    async def _look_at(self, wanted: Wanted) -> None:
        name, now = wanted.name, self._clock.now()
        held, status = self.folder.held(name), self.folder.status(name)
        if held is not None and not status.failures:
            status = await self._with_wish(name, held, status, now)
        is_due = status.next_at is None or now >= status.next_at
        if not is_due and status.failures:
            return
        rotates = held is not None and await self._may_rotate(name, held, now)
        if not is_due and not rotates:
            return
        if held is None and wanted.is_optional and not await has_address(self._resolver, name):
            self._wait_for_address(name, status, now)
            return
        await self.attempt(name, rotates=rotates)

    async def _with_wish(self, name: str, held: Held, status: Status, now: datetime) -> Status:
        """When to renew: by our own rule, or by the authority's wish (RFC 9773 §4.2)."""
        leaf = held.leaf
        before, after = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        next_at, ask_at = status.next_at, status.ask_at
        if next_at is None:  # a folder from a backup, say
            next_at = schedule.renewal_at(before, after, chance=self._chance.uniform(0.0, 1.0))
        if (ask_at is None or now >= ask_at) and now < after:
            window, again_s = await self._window(leaf)
            ask_at = schedule.ask_again_at(now, again_s)
            if window is not None:
                length_s = (window.end - window.start).total_seconds()
                wish = window.start + timedelta(seconds=self._chance.uniform(0.0, length_s))
                obtained_at = held.about.obtained_at
                next_at = schedule.wished_at(before, after, wish, obtained_at=obtained_at)
                self._observer.wished(name, next_at, window.explanation)
        if (next_at, ask_at) != (status.next_at, status.ask_at):
            return self._change(name, next_at=next_at, ask_at=ask_at)
        return status

    async def _window(self, leaf: x509.Certificate) -> tuple[Window | None, float]:
        try:
            authority = open_authority(self.options, self.folder, self._workers)
            await authority.open(with_account=False)
            return await authority.window(leaf)
        except UserError:
            return None, schedule.ASK_S_MAX / 4

    def _wait_for_address(self, name: str, status: Status, now: datetime) -> None:
        words = f"the DNS has no address for {name} yet"
        if words != status.waits_for:
            self._observer.waits(name, words)
        self._change(name, waits_for=words, next_at=now + WAIT_FOR_DNS)

    # --- keys ---

    def _prepare_key(self, name: str) -> None:
        """Have the next key, so that its TLSA record can be published long before."""
        upcoming, files = self.folder.next_key(name), self.folder.files(name)
        is_used = files is not None and upcoming == self.folder.pem(files.key)  # killed in between
        if upcoming is None or is_used:
            self.folder.put_next_key(name, new_key(self.options.key_kind))
            self._change(name, tlsa_seen_at=None, tlsa_ttl_s=0.0)

    async def _may_rotate(self, name: str, held: Held, now: datetime) -> bool:
        """Whether the present key is old enough and the DNS ready for the next one."""
        days = self.options.rotates_key_days
        if days is None:
            return False
        self._prepare_key(name)
        status, upcoming = self.folder.status(name), self.folder.next_key(name)
        if upcoming is None or now < held.about.key_made_at + timedelta(days=days):
            return False
        if status.looked_at is not None and now < status.looked_at + WAIT_FOR_DNS:
            return False
        sight = await rollover.look(
            self._resolver,
            name,
            tlsa_3_1_1(public_key(upcoming, "the next key")),
            now=now,
            seen_at=status.tlsa_seen_at,
            ttl_s=status.tlsa_ttl_s,
        )
        if sight.waits_for != status.waits_for and sight.waits_for:
            self._observer.waits(name, f"a new key waits: {sight.waits_for}")
        self._change(
            name,
            tlsa_seen_at=sight.seen_at,
            tlsa_ttl_s=sight.ttl_s,
            waits_for=sight.waits_for,
            looked_at=now,
        )
        return sight.is_ready

    # --- what a person is told ---

    async def _tell_missing(self, names: Iterable[str]) -> None:
        """All names without a certificate at once, when one of them is worth telling: a hundred
        domains behind a closed port are one mail."""
        now = self._clock.now()
        if self._tell_at is not None and now < self._tell_at:
            return
        lacking: dict[str, Status] = {}
        for name in names:
            if self.folder.files(name) is None:
                status = self.folder.status(name)
                if status.failures and not status.waits_for:  # that is for its address
                    lacking[name] = status
        if not any(_is_worth_telling(status, now) for status in lacking.values()):
            return
        if not await self._observer.missing(lacking):
            self._tell_at = now + UNHEARD_FOR
            return
        for name in lacking:
            self._change(name, told_at=now)

    # --- one order ---

    async def attempt(self, name: str, *, rotates: bool = False) -> UserError | None:
        """Order a certificate now; None when it is there, else why not."""
        held = self.folder.held(name)
        now = self._clock.now()
        try:
            with self.folder.locked():
                async with asyncio.timeout(self.options.order_s):
                    files, leaf = await self._obtain(name, held, now, rotates=rotates)
        except UserError as error:
            return await self._record_failure(name, held, error, now)
        except TimeoutError:
            late = OrderFailed(
                f"{name}: the order took longer than {self.options.order_s:g} s",
                hint="it is tried again by itself; acme.order_s is the limit",
            )
            return await self._record_failure(name, held, late, now)
        except Exception as error:  # a bug: told, and not met again every second
            await self._record_failure(name, held, OrderFailed(f"{name}: {error!r}"), now)
            raise
        self._record_success(name, files, leaf, rotates=rotates)
        return None

    async def _obtain(
        self, name: str, held: Held | None, now: datetime, *, rotates: bool
    ) -> tuple[CertificateFiles, x509.Certificate]:
        key, made_at = self._key_for(name, held, now, rotates=rotates)
        solver = self._solver(name)
        if solver.kind is not Kind.DNS_01 and not await has_address(self._resolver, name):
            raise OrderFailed(
                f"{name}: the DNS has no address for it",
                hint=f"publish a CNAME record from {name} to the name of this server, or A and AAAA"
                " records of its own",
            )
        authority = open_authority(self.options, self.folder, self._workers)
        await authority.open()
        replaces = self.folder.pem(held.files.chain) if held is not None else None
        order = await authority.order(request(name, key), replaces=replaces)
        for proof in authority.proofs(order, solver.kind):
            await self._prove(authority, solver, proof)
        chain = await authority.finish(order)
        about = About(
            directory=self.options.directory,
            challenge=solver.kind.value,
            obtained_at=self._clock.now(),
            key_made_at=made_at,
        )
        files = self.folder.put(name, chain, key, about, check=lambda new: self._check(name, new))
        return files, load_certificate(files, self._clock.now()).leaf

    async def _prove(self, authority: Authority, solver: Solver, proof: Proof) -> None:
        """RFC 8555 §7.5.1."""
        await solver.put(proof)
        try:
            await authority.answer(proof)
            wait_s = POLL_S
            while not await authority.is_valid(proof):
                await self._clock.sleep(wait_s)
                wait_s = min(wait_s * 1.5, POLL_S_MAX)
        finally:
            await solver.remove(proof)

    def _check(self, name: str, files: CertificateFiles) -> None:
        """Before it is put into use: the pair fits, is valid now and for this name."""
        try:
            certificate = load_certificate(files, self._clock.now())
        except UserError as error:
            raise OrderFailed(f"what the authority sent is of no use: {error.text}") from error
        if name.lower() not in certificate.names:
            raise OrderFailed(f"what the authority sent is not for {name}")

    def _key_for(
        self, name: str, held: Held | None, now: datetime, *, rotates: bool
    ) -> tuple[bytes, datetime]:
        """The key to ask for, and when it was made: the one in use, unless it is its turn to go."""
        if rotates and (upcoming := self.folder.next_key(name)) is not None:
            return upcoming, now
        if held is not None:
            return self.folder.pem(held.files.key), held.about.key_made_at
        return self._first_key(name) or new_key(self.options.key_kind), now

    def _solver(self, name: str) -> Solver:
        """The way to prove this name, after each failure the next one that is open."""
        if name.startswith("*."):
            kinds = [Kind.DNS_01]
        elif self.options.challenge is not None:
            kinds = [self.options.challenge]
        else:
            kinds = [Kind.DNS_01, Kind.HTTP_01, Kind.TLS_ALPN_01]
        there = [kind for kind in kinds if kind in self._solvers]
        if not there:
            raise OrderFailed(
                f"{name} cannot be proved by {kinds[0].value}: that way is not open",
                hint="set up [dns_update]"
                if kinds[0] is Kind.DNS_01
                else "let the server listen on ports 80 and 443",
            )
        return self._solvers[there[self.folder.status(name).failures % len(there)]]

    def _record_success(
        self, name: str, files: CertificateFiles, leaf: x509.Certificate, *, rotates: bool
    ) -> None:
        before, after = leaf.not_valid_before_utc, leaf.not_valid_after_utc
        chance = self._chance.uniform(0.0, 1.0)
        old = self.folder.status(name)
        status = Status(
            next_at=schedule.renewal_at(before, after, chance=chance), answered=old.answered
        )
        if rotates:
            self.folder.drop_next_key(name)
        else:
            status = msgspec.structs.replace(
                status,
                tlsa_seen_at=old.tlsa_seen_at,
                tlsa_ttl_s=old.tlsa_ttl_s,
                looked_at=old.looked_at,
            )
        self.folder.put_status(name, status)
        if self.options.rotates_key_days is not None:
            self._prepare_key(name)
        self._observer.obtained(name, files, not_after=after)

    async def _record_failure(
        self, name: str, held: Held | None, failure: UserError, now: datetime
    ) -> UserError:
        status = self.folder.status(name)
        failures = status.failures + 1
        next_at = schedule.retry_at(
            now,
            failures,
            chance=self._chance.uniform(0.0, 1.0),
            told_s=failure.retry_after_s if isinstance(failure, OrderFailed) else None,
        )
        self._observer.failed(name, failure, next_at=next_at)
        told_at = status.told_at
        left_max = timedelta(days=self.options.warns_days)
        not_after = held.leaf.not_valid_after_utc if held is not None else None
        if (
            not_after is not None
            and not_after - now < left_max
            and (told_at is None or now - told_at >= TOLD_EVERY)
        ):
            told_at = now if await self._observer.expiring(name, not_after, failure) else told_at
        self._change(
            name,
            failures=failures,
            failing_since=status.failing_since or now,
            next_at=next_at,
            problem=failure.text,
            hint=failure.hint,
            waits_for="",
            told_at=told_at,
        )
        return failure

    def _change(self, name: str, **changes: object) -> Status:
        status = msgspec.structs.replace(self.folder.status(name), **changes)
        self.folder.put_status(name, status)
        return status


def _is_worth_telling(status: Status, now: datetime) -> bool:
    """Of a name that fails and never had a certificate."""
    if status.told_at is not None and now - status.told_at < MISSING_TOLD_EVERY:
        return False
    since = status.failing_since or now
    return status.failures >= MISSING_FAILURES or now - since >= MISSING_FOR
