"""The injected world: time, chance, DNS, network, disk and CPU workers.

Nothing in Posthouse asks the system for these on its own. `app` builds the real ones (in `net`,
`dns`, `store`) and hands them down; `sim` builds seeded ones for tests. Signatures only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from enum import Enum
from typing import Any, Protocol, TypeVar

import msgspec

T = TypeVar("T")


class Clock(Protocol):
    """Wall time for people and expiry, monotonic time for waiting (fault F16)."""

    def now(self) -> datetime:
        """Aware, UTC."""
        ...

    def unix_us(self) -> int:
        """Wall time in microseconds since 1970, what the store keeps."""
        ...

    def monotonic_s(self) -> float:
        """Never goes back; only differences mean something."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class Chance(Protocol):
    """Randomness: jitter, shuffling, and unguessable octets."""

    def uniform(self, low: float, high: float) -> float: ...

    def shuffled(self, items: list[T]) -> list[T]: ...

    def token(self, octets: int) -> bytes:
        """Unguessable in production; from the seed in the simulator."""
        ...


class Workers(Protocol):
    """Threads for work of more than a few milliseconds that releases the GIL (argon2, RSA)."""

    def run(self, work: Callable[[], T]) -> Awaitable[T]: ...


class IsolationFailed(Exception):
    """There is no result: `str()` says in plain words what bound was met or what broke.

    `is_for_now` is False where the work itself went past a bound on memory or result: it would
    do so again, and each try costs as much. Time may be the fault of a busy machine.
    """

    def __init__(self, words: str, *, is_for_now: bool = True) -> None:
        super().__init__(words)
        self.is_for_now = is_for_now


class Isolated(Protocol):
    """Work on what strangers sent that may take any amount of time and memory (decryption), in a
    child process with bounds on both. What it does wrong harms nobody else."""

    async def run(
        self, work: str, octets: bytes, *, timeout_s: float, memory_octets: int, result_octets: int
    ) -> bytes:
        """The result of `work(octets)`.

        Args:
            work: "package.module:function", a function of ours from bytes to bytes.
            memory_octets: that the child may use beside what it begins with.
            result_octets: how much result is taken.

        Raises:
            IsolationFailed: a bound was met, the child died, or `work` raised.
            ValueError: `work` names no function of ours.
        """
        ...

    def close(self) -> None:
        """End all work; what comes later begins anew."""
        ...


# --- DNS ---


class RecordType(Enum):
    A = "A"
    AAAA = "AAAA"
    MX = "MX"
    TXT = "TXT"
    TLSA = "TLSA"
    PTR = "PTR"
    CNAME = "CNAME"
    NS = "NS"
    SOA = "SOA"
    SRV = "SRV"
    CAA = "CAA"
    SMIMEA = "SMIMEA"
    OPENPGPKEY = "OPENPGPKEY"


class DnsStatus(Enum):
    """How a question ended. Only TEMPFAIL may change when asked again soon (promise P8)."""

    FOUND = "found"
    NO_DATA = "no data"  # the name exists, this type does not
    NO_NAME = "no such name"  # NXDOMAIN
    TEMPFAIL = "temporary failure"  # SERVFAIL, REFUSED, timeout, nonsense


class MxRecord(msgspec.Struct, frozen=True):
    preference: int
    host: str
    """A-labels in lower case without the final dot; "" is the null MX's root (RFC 7505)."""


class TlsaRecord(msgspec.Struct, frozen=True):
    usage: int
    selector: int
    matching: int
    data: bytes


class SrvRecord(msgspec.Struct, frozen=True):
    priority: int
    weight: int
    port: int
    target: str
    """As `MxRecord.host`; "" says that there is no such service (RFC 2782)."""


class CaaRecord(msgspec.Struct, frozen=True):
    flags: int
    tag: str
    """In lower case (RFC 8659 §4.1)."""
    value: bytes


class DnsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. `records` holds `str` for A, AAAA, PTR, CNAME, NS and for SOA (the primary
    server's name), `bytes` for TXT (strings joined) and OPENPGPKEY, `TlsaRecord` for TLSA and
    SMIMEA, and `MxRecord`, `SrvRecord` or `CaaRecord` for the type of that name; it is empty
    unless `status` is FOUND."""

    status: DnsStatus
    records: tuple[Any, ...] = ()
    is_authenticated: bool = False
    """The AD bit (RFC 4035 §3.2.3), from a resolver trusted for it."""
    name: str = ""
    """The owner of the records after CNAMEs."""
    ttl_s: float = 0.0
    detail: str = ""
    """For TEMPFAIL: what went wrong, in words, for logs and `explain`."""


class Resolver(Protocol):
    async def resolve(self, name: str, record_type: RecordType) -> DnsAnswer:
        """Never raises for anything the network does: failures are `DnsStatus.TEMPFAIL`.

        Args:
            name: A-labels or an underscore name, with or without a final dot.
        """
        ...

    def known(self, name: str, record_type: RecordType) -> DnsAnswer | None:
        """The answer where it is known without asking, for paths that are too hot to wait."""
        ...


class DnsUpdateFailed(Exception):
    """The DNS was not changed: `str()` says why in plain words, `hint` what to do."""

    def __init__(self, words: str, *, hint: str = "") -> None:
        super().__init__(words)
        self.hint = hint


class DnsUpdater(Protocol):
    """Changes TXT records in zones of ours; `dns.update` has one for RFC 2136 and one for a
    command. Where nobody set it up there is none, and a person publishes by hand."""

    async def put_txt(self, name: str, values: Sequence[str], ttl_s: int) -> None:
        """Add these records to those that `name` has. Adding one twice is once.

        Raises:
            DnsUpdateFailed: nothing, or a part, was added.
        """
        ...

    async def remove_txt(self, name: str, values: Sequence[str]) -> None:
        """Remove exactly these records; those that are gone already are no error.

        Raises:
            DnsUpdateFailed: they may still be there.
        """
        ...


# --- HTTP ---


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP response, whatever its status."""

    status: int
    media_type: str
    """In lower case without parameters; "" when there was none."""
    octets: bytes


class FetchFailed(Exception):
    """There is no response: `str()` says why in plain words; the kind says what to make of it."""

    def __init__(self, words: str, kind: FetchTrouble, *, is_unknown: bool = False) -> None:
        """
        Args:
            is_unknown: of the kind DNS: whether there is such a host could not be found out.
        """
        super().__init__(words)
        self.kind = kind
        self.is_unknown = is_unknown


class FetchTrouble(Enum):
    """Why a fetch has no response."""

    DNS = "dns"
    ADDRESS = "address"  # only private, loopback or otherwise forbidden addresses (SSRF)
    CONNECT = "connect"
    TLS = "tls"  # the handshake failed or the certificate is not for that host
    TOO_BIG = "too big"
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"  # no HTTP, or a URL that may not be asked for


class Fetch(Protocol):
    """All HTTP that goes out because of what others say (MTA-STS, reports, revocation lists): one
    guard for it.

    `https` on port 443 only, to public addresses only, looked up with our resolver and pinned for
    the connection; no redirects, bounded in size and time (H47).
    """

    async def get(
        self, url: str, *, octets_max: int, timeout_s: float, allow_http: bool = False
    ) -> Fetched:
        """
        Args:
            allow_http: `http` on port 80 will do, too: what comes is signed itself.

        Raises:
            FetchFailed: there is no response.
        """
        ...

    async def post(
        self, url: str, octets: bytes, *, media_type: str, octets_max: int, timeout_s: float
    ) -> Fetched:
        """Raises FetchFailed. `octets_max` is of the response."""
        ...


# --- network ---


class Transport(Protocol):
    """The part of `asyncio.Transport` that `net.stream` uses; `sim` has one in memory."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> None: ...
    def abort(self) -> None: ...
    def is_closing(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def get_write_buffer_size(self) -> int: ...
    def get_extra_info(self, name: str, default: Any = None) -> Any: ...


class TransportProtocol(Protocol):
    """`asyncio.Protocol`'s callbacks."""

    def connection_made(self, transport: Any) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class Listening(Protocol):
    """Sockets that accept; `address` is what was bound (with the real port)."""

    @property
    def address(self) -> tuple[str, int]: ...

    def close(self) -> None:
        """Accept no more; connections already open go on."""
        ...


class Network(Protocol):
    async def connect(
        self,
        factory: Callable[[], TransportProtocol],
        address: str,
        port: int,
        *,
        timeout_s: float,
        local_address: str | None = None,
    ) -> TransportProtocol:
        """Open a TCP connection to an IP address, or one to the Unix socket whose path `address`
        is: it begins with "/", and `port` and `local_address` say nothing then.

        Raises:
            OSError: refused, unreachable, or `TimeoutError` after `timeout_s`.
        """
        ...

    async def listen(
        self, factory: Callable[[], TransportProtocol], address: str, port: int
    ) -> Listening: ...

    async def exchange(
        self, datagram: bytes, address: str, port: int, *, timeout_s: float
    ) -> bytes:
        """Send one UDP datagram from a fresh random port and return the first one that comes back
        from that peer and is accepted by the caller's id check (the DNS message id, octets 0–1).

        Raises:
            OSError: refused or unreachable, or `TimeoutError`.
        """
        ...


# --- disk ---


class Disk(Protocol):
    """Append-only files beside the database, for blobs too large for a row.

    Called on store threads, never on the event loop, so nothing here is awaited. Paths are whole.
    """

    def append(self, path: str, octets: bytes) -> int:
        """Write `octets` behind what is there (making file and folder when needed) and return the
        offset they begin at. After an error the file may hold a part of them: no row names it.

        Raises:
            OSError: with `errno` ENOSPC, EDQUOT, EROFS, EIO or EMFILE as the system says (F4, F6).
        """
        ...

    def sync(self, path: str) -> None:
        """Make everything appended so far, and the file's name, survive a loss of power.

        Raises:
            OSError: the process must not write again; what the file keeps is unknown (F2).
        """
        ...

    def read(self, path: str, offset: int, length: int) -> bytes:
        """Exactly `length` octets, or fewer where the file ends. Raises OSError."""
        ...

    def size(self, path: str) -> int:
        """Octets in the file; 0 when there is none. Raises OSError."""
        ...

    def remove(self, path: str) -> None:
        """Delete the file; one that is gone already is no error. Raises OSError."""
        ...

    def list(self, folder: str) -> tuple[str, ...]:
        """Whole paths of the files in `folder`, sorted; empty when there is no such folder."""
        ...

    def free_octets(self, folder: str) -> int:
        """Octets an ordinary user may still write where `folder` is (or will be made)."""
        ...

    def free_inodes(self, folder: str) -> int | None:
        """Files an ordinary user may still make there; None where the file system has no bound."""
        ...
