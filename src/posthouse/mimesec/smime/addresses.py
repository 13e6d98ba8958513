"""The mail addresses that a certificate names (RFC 8550 §3, RFC 9598), compared with others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cryptography import x509

from posthouse.kernel.envelope import Address
from posthouse.message.address import AddressError, parse_mailbox
from posthouse.mimesec.smime import der
from posthouse.mimesec.smime.der import BadStructure

SMTP_UTF8_MAILBOX: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9")
ADDRESSES_MAX: Final = 100
"""Of one certificate; what is beyond them is not looked at."""
LOCAL_PART_OCTETS_MAX: Final = 255


def named_addresses(
    alternatives: x509.SubjectAlternativeName | None, subject: x509.Name
) -> tuple[str, ...]:
    """rfc822Name and SmtpUTF8Mailbox of subjectAltName; emailAddress of the subject only where it
    names none (RFC 8550 §3: old certificates)."""
    found: list[str] = []
    for name in alternatives or ():
        text = _text(name)
        if text and _parsed(text) is not None and len(found) < ADDRESSES_MAX:
            found.append(text)
    if not found:
        found = [text for text in subject_addresses(subject) if _parsed(text) is not None]
    return tuple(dict.fromkeys(found[:ADDRESSES_MAX]))


def subject_addresses(subject: x509.Name) -> list[str]:
    attributes = subject.get_attributes_for_oid(x509.NameOID.EMAIL_ADDRESS)
    return [one.value for one in attributes if isinstance(one.value, str)]


def _text(name: x509.GeneralName) -> str:
    if isinstance(name, x509.RFC822Name):
        return name.value
    if isinstance(name, x509.OtherName) and name.type_id == SMTP_UTF8_MAILBOX:
        try:
            return der.element(name.value, der.UTF8_STRING).content.decode()
        except (BadStructure, UnicodeDecodeError):
            return ""
    return ""


def alternative_name(address: str) -> x509.GeneralName:
    """How a certificate writes an address: an rfc822Name when it is ASCII, else (RFC 9598 §3) a
    SmtpUTF8Mailbox.

    Raises:
        AddressError: it is no address.
    """
    parsed = parse_mailbox(address)
    written = f"{address.rpartition('@')[0]}@{parsed.domain}"
    if written.isascii():
        return x509.RFC822Name(written)
    return x509.OtherName(SMTP_UTF8_MAILBOX, der.tlv(der.UTF8_STRING, written.encode()))


def is_same(one: str, other: str) -> bool:
    """Whether two texts are the same mailbox: the domain in any case and spelling, the local-part
    exactly (RFC 5280 §7.5)."""
    first, second = _parsed(one), _parsed(other)
    return first is not None and first == second


def names_all(certified: Iterable[str], wanted: Iterable[str]) -> bool:
    """Whether each of the wanted addresses is one of the certified ones, and there is one."""
    known = {_parsed(text) for text in certified} - {None}
    asked = [_parsed(text) for text in wanted]
    return bool(asked) and all(one is not None and one in known for one in asked)


def _parsed(text: str) -> Address | None:
    try:
        return parse_mailbox(text, local_part_octets_max=LOCAL_PART_OCTETS_MAX)
    except AddressError:
        return None
