"""Changing the DNS ourselves: dynamic updates (RFC 2136) signed with TSIG (RFC 8945), or a command
of the administrator's. Both are the port `DnsUpdater`; ACME's dns-01 and new DKIM keys use it.

dnspython packs, signs and checks the messages (with the system's clock, as TSIG is about nothing
else); the port `Network` carries them. It is imported when an updater is made: most servers have
none.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import os
import re
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import dns.exception
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.tsig
import dns.update
import msgspec

from posthouse.dns.tcp import exchange_tcp
from posthouse.kernel.errors import UserError
from posthouse.kernel.ports import (
    Chance,
    DnsStatus,
    DnsUpdateFailed,
    Network,
    RecordType,
    Resolver,
)
from posthouse.kernel.secret import Secret

UDP_OCTETS_MAX: Final = 512
"""Longer updates go by TCP (RFC 2136 §2.1 leaves the choice to us)."""
TEXT_OCTETS_MAX: Final = 255
"""Of one string in a TXT record (RFC 1035 §3.3.14)."""
VALUES_MAX: Final = 64
KEY_FILE_OCTETS_MAX: Final = 16_384
STDERR_OCTETS_SHOWN: Final = 2_000
ARGUMENT_OCTETS_HIDDEN_MIN: Final = 4
"""Shorter arguments are options and the like, and would hide half of what a command says."""
ENVIRONMENT: Final = ("PATH", "HOME", "LANG", "LC_ALL", "TZ")
"""All that a command sees of our environment."""
_SECRET: Final = re.compile(rb"secret\s*:?\s*\"?([A-Za-z0-9+/]+={0,2})")
_NAME: Final = re.compile(r"[A-Za-z0-9_*](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?")


class UpdateOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Where updates go and who signs them."""

    server: tuple[str, int]
    key_name: str
    key: Secret
    """Base64."""
    algorithm: str = "hmac-sha256"
    zone: str = ""
    """"" looks for the SOA record nearest above a name."""
    timeout_s: float = 10.0


class Rfc2136Updater:
    """Dynamic updates to one primary server."""

    def __init__(
        self, options: UpdateOptions, *, network: Network, resolver: Resolver, chance: Chance
    ) -> None:
        self._options = options
        self._network = network
        self._resolver = resolver
        self._chance = chance
        name = dns.name.from_text(options.key_name)
        algorithm = dns.name.from_text(options.algorithm)
        self._key = dns.tsig.Key(name, options.key.reveal(), algorithm)

    async def put_txt(self, name: str, values: Sequence[str], ttl_s: int) -> None:
        """As `DnsUpdater.put_txt` (RFC 2136 §2.5.1)."""
        owner = _owner(name)
        update = await self._update(owner)
        for value in _checked(values):
            update.add(owner, ttl_s, _txt(value))
        await self._send(update, name)

    async def remove_txt(self, name: str, values: Sequence[str]) -> None:
        """As `DnsUpdater.remove_txt` (RFC 2136 §2.5.4)."""
        owner = _owner(name)
        update = await self._update(owner)
        for value in _checked(values):
            update.delete(owner, _txt(value))
        await self._send(update, name)

    async def _update(self, owner: dns.name.Name) -> dns.update.UpdateMessage:
        zone = dns.name.from_text(self._options.zone or await self._zone_of(owner))
        if not owner.is_subdomain(zone):
            raise DnsUpdateFailed(
                f"{owner} does not lie in the zone {zone}",
                hint="set dns_update.zone to the zone that holds it, or leave it out",
            )
        message_id = int.from_bytes(self._chance.token(2))
        return dns.update.UpdateMessage(zone, keyring=self._key, id=message_id)

    async def _zone_of(self, owner: dns.name.Name) -> str:
        """The apex nearest above a name: the first that has an SOA record."""
        for depth in range(len(owner.labels) - 1):
            name = dns.name.Name(owner.labels[depth:]).to_text(omit_final_dot=True)
            answer = await self._resolver.resolve(name, RecordType.SOA)
            if answer.status is DnsStatus.FOUND:
                return name
            if answer.status is DnsStatus.TEMPFAIL:
                raise DnsUpdateFailed(f"the zone of {owner} cannot be found: {answer.detail}")
        raise DnsUpdateFailed(
            f"no zone holds {owner}: nothing above it has an SOA record",
            hint="set dns_update.zone",
        )

    async def _send(self, update: dns.update.UpdateMessage, name: str) -> None:
        host, port = self._options.server
        where = f"the name server {host} port {port}"
        octets = update.to_wire()
        try:
            answer = await self._exchange(octets)
        except TimeoutError:
            raise DnsUpdateFailed(
                f"{where} did not answer the update of {name} in time",
                hint="check dns_update.server, and that it may be reached by UDP and TCP",
            ) from None
        except OSError as error:
            raise DnsUpdateFailed(
                f"{where} cannot be reached: {error.strerror or error}",
                hint="check dns_update.server",
            ) from None
        self._judge(answer, update, where, name)

    async def _exchange(self, octets: bytes) -> bytes:
        host, port = self._options.server
        within_s = self._options.timeout_s
        if len(octets) <= UDP_OCTETS_MAX:
            try:
                answer = await self._network.exchange(octets, host, port, timeout_s=within_s / 2)
            except TimeoutError:
                pass  # lost, or dropped on the way: doing it twice does no harm
            else:
                if not (len(answer) > 2 and answer[2] & 0x02):  # TC
                    return answer
        async with asyncio.timeout(within_s):
            return await exchange_tcp(self._network, octets, host, port, timeout_s=within_s)

    def _judge(
        self, octets: bytes, update: dns.update.UpdateMessage, where: str, name: str
    ) -> None:
        """Raises DnsUpdateFailed unless the server says, with the key, that it is done."""
        try:
            # An error may come unsigned (RFC 8945 §5.3.2), "done" may not: it may be anybody's.
            plain = dns.message.from_wire(octets, keyring=False)
            key = self._key if plain.had_tsig or plain.rcode() == dns.rcode.NOERROR else False
            answer = dns.message.from_wire(octets, keyring=key, request_mac=update.mac)
        except dns.tsig.PeerError as error:
            raise DnsUpdateFailed(
                f"{where} refuses our TSIG signature: {_PEER.get(type(error), error)}",
                hint="compare dns_update.key_name, key_file and algorithm with the server's",
            ) from None
        except dns.exception.DNSException as error:
            raise DnsUpdateFailed(f"{where} sent an answer we cannot trust: {error}") from None
        if answer.id != update.id or answer.opcode() != update.opcode():
            raise DnsUpdateFailed(f"{where} answered something else")
        if (code := answer.rcode()) != dns.rcode.NOERROR:
            words, hint = _RCODES.get(code, ("refuses it", ""))
            text = f"{where} {words} ({dns.rcode.to_text(code)}) for {name}"
            raise DnsUpdateFailed(text, hint=hint)


_PEER: Final[dict[type[dns.tsig.PeerError], str]] = {
    dns.tsig.PeerBadKey: "it does not know the key",
    dns.tsig.PeerBadSignature: "the secret is another one",
    dns.tsig.PeerBadTime: "its clock and ours differ by minutes",
    dns.tsig.PeerBadTruncation: "it wants a longer signature",
}
_RCODES: Final = {
    dns.rcode.REFUSED: (
        "does not allow the update",
        "give the key the right to change TXT records of this name",
    ),
    dns.rcode.NOTAUTH: (
        "is not the primary of the zone, or does not know the key",
        "check dns_update.server, key_name and zone",
    ),
    dns.rcode.NOTZONE: ("says that the name is in another zone", "check dns_update.zone"),
    dns.rcode.NOTIMP: ("takes no dynamic updates", "allow them, or use dns_update.hook"),
    dns.rcode.SERVFAIL: ("failed at the update", "its log says why"),
}


class HookUpdater:
    """The administrator's own command makes the change.

    It runs without a shell: `argv… put NAME TTL` or `argv… remove NAME 0`, the texts on its
    standard input, a line each. Ending with 0 says that it is done. Errors hold what it says on
    standard error, in bounds, and none of its arguments.
    """

    def __init__(self, argv: Sequence[str], *, timeout_s: float) -> None:
        self._argv = tuple(argv)
        self._timeout_s = timeout_s
        self._hidden = _argument_values(self._argv[1:])

    async def put_txt(self, name: str, values: Sequence[str], ttl_s: int) -> None:
        await self._run("put", name, values, ttl_s)

    async def remove_txt(self, name: str, values: Sequence[str]) -> None:
        await self._run("remove", name, values, 0)

    async def _run(self, action: str, name: str, values: Sequence[str], ttl_s: int) -> None:
        if _NAME.fullmatch(name) is None:  # no option, no path
            raise DnsUpdateFailed(f"{name!r} is no name for a command")
        lines = "".join(f"{value}\n" for value in _checked(values)).encode()
        # Errors reach the log, and an argument may be a token: only the program is named.
        hint = f"try by hand what dns_update.hook says: {self._argv[0]} … {action} {name} {ttl_s}"
        try:
            process = await asyncio.create_subprocess_exec(
                *(*self._argv, action, name, str(ttl_s)),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
                env={key: os.environ[key] for key in ENVIRONMENT if key in os.environ},
                start_new_session=True,
            )
        except OSError as error:
            raise DnsUpdateFailed(
                f"the command {self._argv[0]} cannot be run: {error.strerror}",
                hint="check dns_update.hook: the first word is the program's path",
            ) from None
        try:
            async with asyncio.timeout(self._timeout_s):
                said = await _talk(process, lines, self._hidden)
        except TimeoutError:
            words = f"the command {self._argv[0]} took more than {self._timeout_s:g} s"
            raise DnsUpdateFailed(words, hint=hint) from None
        finally:
            await _end(process)
        if process.returncode != 0:
            words = f"the command {self._argv[0]} {_ending(process.returncode)}"
            raise DnsUpdateFailed(f"{words}: {said}" if said else words, hint=hint)


async def _talk(process: asyncio.subprocess.Process, octets: bytes, hidden: Sequence[bytes]) -> str:
    """Give it its input and hear it out; the beginning of what it says on standard error."""
    assert process.stdin is not None and process.stderr is not None
    with contextlib.suppress(ConnectionError):  # it need not read
        process.stdin.write(octets)
        await process.stdin.drain()
    process.stdin.close()
    said = b""
    kept = STDERR_OCTETS_SHOWN + max(map(len, hidden), default=0)
    while chunk := await process.stderr.read(4096):
        said = (said + chunk)[:kept]
    await process.wait()
    words = " ".join(_without(said, hidden).decode("utf-8", "replace").split())
    return "".join(each if each.isprintable() else f"\\x{ord(each):02x}" for each in words)


def _argument_values(arguments: Sequence[str]) -> tuple[bytes, ...]:
    """What errors must not show: each argument, and what follows = in it; the longest first."""
    values = {value for each in arguments for value in (each, each.partition("=")[2])}
    octets = [os.fsencode(value) for value in values]
    long = [each for each in octets if len(each) >= ARGUMENT_OCTETS_HIDDEN_MIN]
    return tuple(sorted(long, key=len, reverse=True))


def _without(said: bytes, hidden: Sequence[bytes]) -> bytes:
    """The first `STDERR_OCTETS_SHOWN`, with dots in place of arguments, also of one at the cut."""
    if not hidden:
        return said[:STDERR_OCTETS_SHOWN]
    pieces, at = [], 0
    for match in re.finditer(b"|".join(map(re.escape, hidden)), said):
        if match.start() >= STDERR_OCTETS_SHOWN:
            break
        pieces += [said[at : match.start()], b"..."]
        at = match.end()
    return b"".join([*pieces, said[at : max(at, STDERR_OCTETS_SHOWN)]])


async def _end(process: asyncio.subprocess.Process) -> None:
    """Nothing of it outlives us: it and its children are one process group."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _ending(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by signal {-code}"
    return f"ended with {code}"


def read_key(path: Path) -> Secret:
    """The secret of a key file: base64 alone, or as `tsig-keygen` and `keymgr -t` write it.

    Raises:
        UserError: it cannot be read or holds none.
    """
    try:
        with path.open("rb") as file:
            octets = file.read(KEY_FILE_OCTETS_MAX)
    except OSError as error:
        raise UserError(f"dns_update.key_file: cannot read {path}: {error.strerror}") from None
    found = _SECRET.search(octets)
    text = found[1] if found is not None else octets.strip()
    try:
        if not base64.b64decode(text, validate=True):
            raise ValueError("empty")
    except (binascii.Error, ValueError):
        raise UserError(
            f"dns_update.key_file: {path} holds no TSIG secret",
            hint="it is base64, alone in the file or behind the word secret",
        ) from None
    return Secret(text.decode("ascii"))


def _owner(name: str) -> dns.name.Name:
    try:
        return dns.name.from_text(name)
    except dns.exception.DNSException as error:
        raise DnsUpdateFailed(f"{name!r} is no DNS name: {error}") from None


def _checked(values: Sequence[str]) -> Sequence[str]:
    if not values or len(values) > VALUES_MAX:
        raise DnsUpdateFailed(f"{len(values)} texts cannot be one change")
    for value in values:
        if not value.isascii() or not value.isprintable():
            raise DnsUpdateFailed("the text of a TXT record must be printable ASCII here")
    return values


def _txt(value: str) -> dns.rdata.Rdata:
    """A TXT record; a text of more than 255 octets is several strings, joined by its readers."""
    octets = value.encode("ascii")
    pieces = [octets[at : at + TEXT_OCTETS_MAX] for at in range(0, len(octets), TEXT_OCTETS_MAX)]
    wire = b"".join(len(piece).to_bytes(1) + piece for piece in pieces or [b""])
    return dns.rdata.from_wire(dns.rdataclass.IN, dns.rdatatype.TXT, wire, 0, len(wire))
