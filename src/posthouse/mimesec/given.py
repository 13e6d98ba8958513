"""What a program hands over in the wrong place, told in words: a key where what is made of it
belongs, a path where the octets of the file do."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Final, TypeVar

from posthouse.kernel import keywords
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
_TIME: Final = "give a datetime with a time zone, such as datetime.now(UTC)"
_KEYS: Final = "`recipients`, with a `sealer`"
_MEANT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("sign", "sign_with", "signed_by", "signers", "identity"), "signer"),
    **dict.fromkeys(("encrypt", "encrypt_to", "to", "keys", "certificates"), _KEYS),
    **dict.fromkeys(
        ("cipher", "encrypter", "encryption"), "`sealer`, such as SmimeSealer(cipher=…)"
    ),
    **dict.fromkeys(("bcc", "hidden_recipients"), "hidden"),
    **dict.fromkeys(("sender", "self", "own_key"), "own"),
    **dict.fromkeys(("opaque", "detached"), "is_opaque"),
    **dict.fromkeys(("policy", "headers", "protect_headers"), "header_policy"),
}
"""What else the arguments of a `Protection` may be called."""
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


def check_kind(given: object, kind: type, place: str, *, hint: str = "") -> None:
    if not isinstance(given, kind):
        raise _misplaced(given, place, _with_article(kind.__name__), hint=hint)


def check_choice(given: object, choices: Iterable[Enum], place: str) -> None:
    """One of an enumeration; where the text of one was given, the hint says which it is."""
    found = tuple(choices)
    kind = type(found[0])
    if isinstance(given, kind):
        return
    names = [f"{kind.__name__}.{one.name}" for one in found]
    hint = f"it can be {', '.join(names)}"
    if isinstance(given, str):
        for one, name in zip(found, names, strict=True):
            if _letters(given) in (_letters(one.name), _letters(str(one.value))):
                hint = f"give {name}"
    raise _misplaced(given, place, _with_article(kind.__name__), hint=hint)


def check_call(given: object, place: str, *, hint: str) -> None:
    if not callable(given):
        raise ProtectionError(
            f"{place} has to be something that can be called, not {type(given).__name__}", hint=hint
        )


def check_text(given: object, place: str) -> None:
    if not isinstance(given, str):
        raise ProtectionError(
            f"{place} has to be text (str), not {type(given).__name__}",
            hint="decode it, as in name.decode()" if isinstance(given, bytes) else 'write "…"',
        )


def check_days(given: object, most: int, place: str) -> None:
    if isinstance(given, bool) or not isinstance(given, int):
        raise ProtectionError(
            f"{place} has to be a whole number, not {type(given).__name__}",
            hint=f"give 1 to {most} days",
        )


def texts(given: object, place: str) -> tuple[str, ...]:
    """One text or several; they are not looked at."""
    if isinstance(given, bytes):
        check_text(given, place)
    found = (given,) if isinstance(given, str) else _row(given, place, "addresses", is_any=True)
    kept = []
    for number, one in enumerate(found):
        check_text(one, f"{place}[{number}]")
        kept.append(str(one))
    return tuple(kept)


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
            hint=_TIME,
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


def _misplaced(given: object, place: str, wanted: str, *, hint: str = "") -> ProtectionError:
    """
    Args:
        hint: "" says what is likely for what was given.
    """
    if isinstance(given, type):
        what, hint = f"the class {given.__name__}", f"make one of it: {given.__name__}(…)"
    else:
        what = type(given).__name__
        hint = hint or _HINTS.get(what, f"give {wanted}")
    return ProtectionError(f"{place} has to be {wanted}, not {what}", hint=hint)


def _with_article(name: str) -> str:
    return f"{'an' if name[0] in 'AEIO' else 'a'} {name}"


def _letters(text: str) -> str:
    """Without what sets them apart: "AES-256-GCM" and AES_256_GCM are the same."""
    return re.sub(r"[\W_]", "", text).lower()


class Told(keywords.Told):
    """What a program says of a protection: see `posthouse.kernel.keywords`."""

    def meant(cls) -> Mapping[str, str]:
        return _MEANT

    def refused(cls, found: keywords.Mistake) -> ProtectionError:
        return ProtectionError(found.text, hint=found.hint)
