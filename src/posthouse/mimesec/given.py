"""What a program hands over in the wrong place, told in words: a key where what is made of it
belongs, a path where the octets of the file do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, TypeVar

from posthouse.kernel.secret import Secret
from posthouse.message import words
from posthouse.message.address import LOCAL_PART_REMOTE_OCTETS_MAX, AddressError, parse_mailbox
from posthouse.mimesec.ports import ProtectionError
from posthouse.mimesec.trust import Pin

_SIGNER: Final = ("scheme", "addresses", "sign")
_RECIPIENT: Final = ("scheme", "addresses", "key", "why_unusable")
_SEALER: Final = ("seal",)
_OPENER: Final = ("verify", "unseal")
_FIRST: Final = "a file may hold several: take one out of what was read, such as the first, [0]"
_READ: Final = (
    "read it first: read_certificates and from_pkcs12 for S/MIME, read_public and read_private for"
    " OpenPGP"
)
_OCTETS: Final = "give what is in the file: Path(…).read_bytes()"
_HINTS: Final = {
    "Certificate": "to encrypt to it, SmimeRecipient(certificate)",
    "Identity": "to sign with it, SmimeSigner(identity); to encrypt to it,"
    " SmimeRecipient(identity.certificate)",
    "PublicKey": "to encrypt to it, PgpRecipient(key)",
    "PrivateKey": "to sign with it, PgpSigner(key); to encrypt to it, PgpRecipient(key.public)",
    "list": _FIRST,
    "tuple": _FIRST,
    "str": _READ,
    "bytes": _READ,
    "PosixPath": _READ,
    "WindowsPath": _READ,
}
"""By the type of what was given."""
_FINGERPRINT: Final = re.compile(r"[0-9A-F]{40}|[0-9A-F]{64}")
T = TypeVar("T")

# All of these raise ProtectionError where something else was given than what they are named for.


def check_signer(given: object, place: str) -> None:
    _check_port(given, _SIGNER, place, "a SmimeSigner or PgpSigner")


def check_recipient(given: object, place: str) -> None:
    _check_port(given, _RECIPIENT, place, "a SmimeRecipient or PgpRecipient")


def check_recipients(given: object, place: str) -> None:
    for number, one in enumerate(_row(given, place, "SmimeRecipient or PgpRecipient")):
        check_recipient(one, f"{place}[{number}]")


def check_sealer(given: object, place: str) -> None:
    _check_port(given, _SEALER, place, "a SmimeSealer or PgpSealer")


def check_openers(given: object, place: str) -> None:
    for number, one in enumerate(_row(given, place, "SmimeOpener or PgpOpener")):
        _check_port(one, _OPENER, f"{place}[{number}]", "a SmimeOpener or PgpOpener")


def check_kind(given: object, kind: type, place: str) -> None:
    if not isinstance(given, kind):
        raise _misplaced(given, place, _with_article(kind.__name__))


def all_of(given: Iterable[T], kind: type[T], place: str, *, wanted: str = "") -> tuple[T, ...]:
    """The things of one kind that somebody has given in a row of any sort."""
    found = tuple(_row(given, place, wanted or kind.__name__, is_any=True))
    for number, one in enumerate(found):
        check_kind(one, kind, f"{place}[{number}]")
    return found  # type: ignore[return-value]  # as was looked at


def pins(given: Iterable[str | Pin], place: str) -> tuple[Pin, ...]:
    """Fingerprints as people write them: of any case, in groups, with 0x in front."""
    found: list[Pin] = []
    wanted = "fingerprints"
    for number, one in enumerate(_row(given, place, wanted, is_any=True)):
        if not isinstance(one, str | Pin):
            raise _misplaced(one, f"{place}[{number}]", "a fingerprint or a Pin")
        pin = one if isinstance(one, Pin) else Pin(one)
        text = re.sub(r"[\s:]", "", pin.fingerprint).upper().removeprefix("0X")
        if not _FINGERPRINT.fullmatch(text):
            raise ProtectionError(
                f"{place}[{number}] is no fingerprint: {words.shown(pin.fingerprint[:80])!r}",
                hint="give all 40 or 64 hexadecimal digits, as in key.fingerprint; a key id of 8 or"
                " 16 is anybody's to forge",
            )
        found.append(Pin(text, pin.address))
    return tuple(found)


def check_octets(given: object, place: str, *, hint: str = _OCTETS) -> None:
    if not isinstance(given, bytes | bytearray | memoryview):
        raise ProtectionError(
            f"{place} wants octets (bytes), not {type(given).__name__}", hint=hint
        )


def secret(given: object) -> Secret | None:
    """A password as it is handed on; None where there is none."""
    if given is None or isinstance(given, Secret):
        return given
    if isinstance(given, str):
        return Secret(given)
    raise ProtectionError(
        f"a password has to be a str or a Secret, not {type(given).__name__}",
        hint="decode it, as in password.decode()" if isinstance(given, bytes) else "",
    )


def check_time(given: object, place: str) -> None:
    if not isinstance(given, datetime) or given.tzinfo is None:
        what = "one without" if isinstance(given, datetime) else type(given).__name__
        raise ProtectionError(
            f"{place} has to be a datetime with a time zone, not {what}",
            hint="give datetime.now(UTC)",
        )


def addresses(given: object, place: str) -> tuple[str, ...]:
    """One address or several."""
    found = [given] if isinstance(given, str) else _row(given, place, "addresses")
    for one in found:
        try:
            parse_mailbox(str(one), local_part_octets_max=LOCAL_PART_REMOTE_OCTETS_MAX)
        except AddressError:
            raise ProtectionError(
                f"{place}: {words.shown(str(one))!r} is no address",
                hint="write it without a name, as in bob@example.net",
            ) from None
    return tuple(map(str, found))


def _row(given: object, place: str, wanted: str, *, is_any: bool = False) -> Iterable[object]:
    """
    Args:
        is_any: a set or what is made while it is gone through will do, too.
    """
    is_text = isinstance(given, str | bytes)
    if isinstance(given, Iterable) and (is_any or isinstance(given, Sequence)) and not is_text:
        return given
    hint = _READ if isinstance(given, bytes) else "put a single one into brackets, too: […]"
    raise ProtectionError(
        f"{place} has to be several {wanted}, as a tuple or list, not {type(given).__name__}",
        hint=hint,
    )


def _check_port(given: object, names: tuple[str, ...], place: str, wanted: str) -> None:
    if isinstance(given, type) or not all(hasattr(given, name) for name in names):
        raise _misplaced(given, place, wanted)


def _misplaced(given: object, place: str, wanted: str) -> ProtectionError:
    if isinstance(given, type):
        what, hint = f"the class {given.__name__}", f"make one of it: {given.__name__}(…)"
    else:
        what = type(given).__name__
        hint = _HINTS.get(what, f"give {wanted}")
    return ProtectionError(f"{place} has to be {wanted}, not {what}", hint=hint)


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name}"
