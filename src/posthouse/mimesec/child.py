"""Opening a message in a process of its own: what goes there, and what comes back.

`open_isolated` is what a server calls. The request holds private keys as octets: they live in the
memory of two processes as long as the work takes, and in no log, error or file.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeVar

import msgspec

from posthouse.kernel.ports import Isolated, IsolationFailed
from posthouse.mimesec.opening import Opened, open_message
from posthouse.mimesec.pgp.keys import PrivateKey, PublicKey
from posthouse.mimesec.pgp.opener import PgpOpener
from posthouse.mimesec.ports import Opener, ProtectionError
from posthouse.mimesec.smime.certificates import Certificate
from posthouse.mimesec.smime.chain import Trust
from posthouse.mimesec.smime.der import BadStructure
from posthouse.mimesec.smime.identity import from_pem, read_certificates
from posthouse.mimesec.smime.opener import SmimeOpener
from posthouse.mimesec.smime.revocation import Crl, OcspResponse
from posthouse.mimesec.trust import Pin

T = TypeVar("T")

WORK: Final = "posthouse.mimesec.child:open_in_child"


class SmimeKey(msgspec.Struct, frozen=True):
    """A private key of ours with its certificates, as the key store has them."""

    private: bytes
    """PEM or DER, without a password."""
    certificates: bytes
    """PEM, in any order."""

    def __repr__(self) -> str:
        return "SmimeKey(***)"


class SmimeKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What S/MIME needs; certificates are PEM, or DER one by one."""

    own: tuple[SmimeKey, ...] = ()
    roots: tuple[bytes, ...] = ()
    intermediates: tuple[bytes, ...] = ()
    known: tuple[bytes, ...] = ()
    """Of others, seen before."""
    pins: tuple[Pin, ...] = ()
    revoked: tuple[str, ...] = ()
    """Fingerprints of those that are used no more."""
    crls: tuple[bytes, ...] = ()
    ocsp: tuple[bytes, ...] = ()


class PgpKeys(msgspec.Struct, frozen=True, kw_only=True):
    """What OpenPGP needs, binary."""

    own: tuple[bytes, ...] = ()
    """Private keys, without a password: they decrypt and say nothing of signatures."""
    known: tuple[bytes, ...] = ()
    """Certificates that signatures are verified by."""
    pins: tuple[Pin, ...] = ()
    """Those of them that somebody vouches for, and for whom."""
    revoked: tuple[str, ...] = ()
    """Fingerprints of those that are used no more."""

    def __repr__(self) -> str:
        return f"PgpKeys({len(self.own)} of our own, {len(self.known)} known)"


class OpenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """`open_message`, as octets."""

    message: bytes
    at: datetime
    """Aware."""
    smime: SmimeKeys = SmimeKeys()
    pgp: PgpKeys = PgpKeys()
    from_addresses: tuple[str, ...] | None = None
    allow_unauthenticated: bool = False

    def __repr__(self) -> str:
        return f"OpenRequest({len(self.message)} octets)"


async def open_isolated(
    isolated: Isolated,
    request: OpenRequest,
    *,
    timeout_s: float,
    memory_octets: int,
    result_octets: int,
) -> Opened:
    """Open a message with bounds on time and memory.

    Args:
        memory_octets: besides what the message takes.
        result_octets: of everything that comes back: the message shown, and its sections apart.

    Raises:
        IsolationFailed: a bound was met, or something broke; the message stays as it is.
    """
    answer = await isolated.run(
        WORK,
        msgspec.msgpack.encode(request),
        timeout_s=timeout_s,
        memory_octets=memory_octets,
        result_octets=result_octets,
    )
    try:
        return msgspec.msgpack.decode(answer, type=Opened)
    except (
        msgspec.MsgspecError
    ) as error:  # it is the one that strangers' octets may have taken over
        raise IsolationFailed("the child answered something that cannot be understood") from error


def open_in_child(octets: bytes) -> bytes:
    """An `OpenRequest` to an `Opened`, both in MessagePack."""
    request = msgspec.msgpack.decode(octets, type=OpenRequest)
    opened = open_message(
        request.message,
        openers(request),
        at=request.at,
        from_addresses=request.from_addresses,
        allow_unauthenticated=request.allow_unauthenticated,
    )
    return msgspec.msgpack.encode(opened)


def openers(request: OpenRequest) -> list[Opener]:
    """Made of the keys; one that cannot be read is as if it were not there."""
    keys = request.smime
    identities = [
        found for one in keys.own if (found := _made(from_pem, one.private, one.certificates))
    ]
    trust = Trust(
        roots=[one for octets in keys.roots for one in _certificates(octets)],
        intermediates=[one for octets in keys.intermediates for one in _certificates(octets)],
        known=[one for octets in keys.known for one in _certificates(octets)],
        pins=keys.pins,
        revoked=keys.revoked,
        revocations=[
            *(crl for octets in keys.crls if (crl := _made(Crl, octets))),
            *(answer for octets in keys.ocsp if (answer := _made(OcspResponse, octets))),
        ],
    )
    # `open_message` compares with From itself, so nothing is to be expected here.
    return [SmimeOpener(identities=identities, trust=trust), _pgp_opener(request.pgp)]


def _pgp_opener(keys: PgpKeys) -> Opener:
    own = [found for octets in keys.own if (found := _made(PrivateKey, octets))]
    known = [one for octets in keys.known if (one := _made(PublicKey, octets))]
    return PgpOpener(own=own, known=known, trusted=keys.pins, revoked=keys.revoked)


def _certificates(octets: bytes) -> list[Certificate]:
    return _made(read_certificates, octets) or []


def _made(make: Callable[..., T], *octets: bytes) -> T | None:
    try:
        return make(*octets)
    except (ProtectionError, BadStructure):
        return None
