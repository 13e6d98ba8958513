"""Addresses as SMTP knows them (RFC 5321 §4.1.2, RFC 6531 §3.3) and domains in both spellings.

`parse_mailbox` is the only way from text to `Address`: the SMTP grammar, the config, the command
line and the store all use it. What header fields hold is read by `address_list`.
"""

from __future__ import annotations

import re
import unicodedata
from enum import Enum
from functools import lru_cache
from typing import Final

from posthouse.kernel.envelope import Address

LOCAL_PART_OCTETS_MAX: Final = 64  # quotes included, RFC 5321 §4.5.3.1.1
LOCAL_PART_REMOTE_OCTETS_MAX: Final = 128
"""What may be let through to other hosts: senders with longer local-parts than ours exist."""
DOMAIN_OCTETS_MAX: Final = 255  # RFC 5321 §4.5.3.1.2
DOMAIN_NAME_OCTETS_MAX: Final = 253  # what fits the DNS's 255 octets (RFC 1035 §3.1)
ADDRESS_OCTETS_MAX: Final = 254  # a path of 256 less its brackets, RFC 5321 §4.5.3.1.3

_ATEXT: Final = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
# Deviation: RFC 5321 §4.1.2 knows no "_" in a domain, but hosts named so send mail and other
# servers take it.
_LABEL: Final = r"(?!-)[A-Za-z0-9_\-]{1,63}(?<!-)"
_PLAIN: Final = re.compile(
    rf"([{_ATEXT}]++(?:\.[{_ATEXT}]++)*+)@({_LABEL}(?:\.{_LABEL})*+)", re.ASCII
)
_LOCAL_PART: Final = re.compile(
    rf"(?:([{_ATEXT}\x80-\U0010ffff]++(?:\.[{_ATEXT}\x80-\U0010ffff]++)*+)"
    r'|"((?:[ !#-\[\]-~\x80-\U0010ffff]|\\[ -~])*+)")(?=@)'
)
_DOT_STRING: Final = re.compile(rf"[{_ATEXT}\x80-\U0010ffff]++(?:\.[{_ATEXT}\x80-\U0010ffff]++)*+")
_DOMAIN_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*+", re.ASCII)
_IPV4: Final = re.compile(r"(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})", re.ASCII)
_QUOTED_PAIR: Final = re.compile(r"\\(.)", re.DOTALL)
_UNQUOTABLE: Final = re.compile(r'(["\\])')
_NONCHARACTERS: Final = "".join(
    f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
)
# Controls, lone surrogates, noncharacters, line separators and marks that turn the text around.
_FORBIDDEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
    f"\ud800-\udfff\ufdd0-\ufdef\ufff9-\uffff{_NONCHARACTERS}]"
)


class AddressFault(Enum):
    """Why a text is no address; the value is the reply's text behind 5.1.3 or 5.1.7."""

    NO_LOCAL_PART = "the local-part is missing"
    NO_DOMAIN = "the domain is missing"
    LOCAL_PART_SYNTAX = "the local-part is malformed"
    LOCAL_PART_TOO_LONG = "the local-part is longer than 64 octets"
    DOMAIN_SYNTAX = "the domain is malformed"
    DOMAIN_TOO_LONG = "the domain is longer than 255 octets"
    LITERAL_SYNTAX = "the address literal is malformed"
    ADDRESS_TOO_LONG = "the address is longer than 254 octets"
    CHARACTER = "a character is not allowed in an address"


class AddressError(ValueError):
    """A text is not an address that SMTP could carry; `fault` says why."""

    def __init__(self, fault: AddressFault) -> None:
        super().__init__(fault.value)
        self.fault = fault


def parse_mailbox(text: str, *, local_part_octets_max: int = LOCAL_PART_OCTETS_MAX) -> Address:
    """The `Mailbox` of RFC 5321 §4.1.2, with RFC 6531 §3.3 characters, as an `Address`.

    No brackets, source route, comment or blank is taken: those belong to the SMTP path grammar or
    to header fields.

    Args:
        local_part_octets_max: as written, quotes and backslashes counted.

    Raises:
        AddressError: with the reason in `fault`.
    """
    plain = _PLAIN.fullmatch(text)
    if plain is not None:
        local_part, domain = plain.groups()
        written, domain = local_part, domain.lower()
        if "xn--" in domain or len(domain) > DOMAIN_NAME_OCTETS_MAX:
            domain = domain_to_ascii(domain)
    else:
        written, local_part, domain = _split(text)
        domain = _literal(domain) if domain.startswith("[") else domain_to_ascii(domain)
    local_octets = len(written) if written.isascii() else len(written.encode())
    if local_octets > local_part_octets_max:
        raise AddressError(AddressFault.LOCAL_PART_TOO_LONG)
    if local_octets + 1 + len(domain) > ADDRESS_OCTETS_MAX:
        raise AddressError(AddressFault.ADDRESS_TOO_LONG)
    return Address(local_part, domain)


def _split(text: str) -> tuple[str, str, str]:
    """The local-part as written and as meant, and the domain as written."""
    if _FORBIDDEN.search(text) is not None:
        raise AddressError(AddressFault.CHARACTER)
    match = _LOCAL_PART.match(text)
    if match is None:
        if "@" not in text:
            raise AddressError(AddressFault.NO_DOMAIN)
        missing = text.startswith("@")
        raise AddressError(
            AddressFault.NO_LOCAL_PART if missing else AddressFault.LOCAL_PART_SYNTAX
        )
    domain = text[match.end() + 1 :]
    if not domain:
        raise AddressError(AddressFault.NO_DOMAIN)
    dot_string, quoted = match.groups()
    if dot_string is not None:
        return dot_string, dot_string, domain
    return match[0], _QUOTED_PAIR.sub(r"\1", quoted), domain


def format_address(address: Address, *, unicode: bool = False) -> str:
    """The address as SMTP and header fields write it, without brackets.

    Args:
        unicode: show U-labels, for people; the wire has A-labels (RFC 6531 §3.2 allows both).
    """
    local_part = quote_local_part(address.local_part)
    if not address.domain:
        return local_part
    domain = domain_to_unicode(address.domain) if unicode else address.domain
    return f"{local_part}@{domain}"


def quote_local_part(local_part: str) -> str:
    """The local-part as a Dot-string where it can be one, else as a Quoted-string.

    A control character cannot be written by RFC 5321 §4.1.2 at all and becomes "?": the address
    is then a wrong one, but never two lines.
    """
    if not local_part.isascii() or not local_part.isprintable():
        local_part = _FORBIDDEN.sub("?", local_part)
    if _DOT_STRING.fullmatch(local_part) is not None:
        return local_part
    quoted = _UNQUOTABLE.sub(r"\\\1", local_part)
    return f'"{quoted}"'


def needs_smtputf8(address: Address) -> bool:
    """Whether only an SMTPUTF8 host can take it (RFC 6531 §3.2); domains never need that."""
    return not address.local_part.isascii()


@lru_cache(maxsize=16_384)
def domain_to_ascii(domain: str) -> str:
    """A domain name in lower-case A-labels; the one place where IDNA2008 is applied (H49).

    Text is mapped first as UTS 46 says without its transitional part, so that "ß" stays itself and
    full-width letters and dots are taken as people type them.

    Raises:
        AddressError: for what no domain name can be.
    """
    if domain.isascii():
        folded = domain.lower()
        if "xn--" not in folded:
            return _checked_domain(folded)
    elif len(domain) > DOMAIN_OCTETS_MAX:
        raise AddressError(AddressFault.DOMAIN_TOO_LONG)
    if len(domain) > DOMAIN_OCTETS_MAX * 2:  # before work that grows with it
        raise AddressError(AddressFault.DOMAIN_TOO_LONG)
    import idna  # late: ASCII names need none of it, and it is slow to load

    try:
        mapped = idna.uts46_remap(domain, std3_rules=False, transitional=False)
        labels = [_ascii_label(label) for label in mapped.split(".")]
    except (UnicodeError, IndexError):
        raise AddressError(AddressFault.DOMAIN_SYNTAX) from None
    return _checked_domain(".".join(labels))


def _ascii_label(label: str) -> str:
    if label.isascii() and not label.startswith("xn--"):
        return label
    import idna

    return idna.alabel(label).decode("ascii").lower()


def _checked_domain(domain: str) -> str:
    if len(domain) > DOMAIN_NAME_OCTETS_MAX:
        raise AddressError(AddressFault.DOMAIN_TOO_LONG)
    if _DOMAIN_NAME.fullmatch(domain) is None:
        raise AddressError(AddressFault.DOMAIN_SYNTAX if domain else AddressFault.NO_DOMAIN)
    return domain


@lru_cache(maxsize=1024)
def domain_to_unicode(domain: str) -> str:
    """The domain as people read it; a label that is no valid A-label stays as it is."""
    if "xn--" not in domain:
        return domain
    return ".".join(map(_unicode_label, domain.split(".")))


def _unicode_label(label: str) -> str:
    if not label.startswith("xn--"):
        return label
    import idna

    try:
        return idna.ulabel(label)
    except (UnicodeError, IndexError):
        return label


def fold_local_part(local_part: str) -> str:
    """What local-parts of our own domains are compared by: NFC and case folding (H49)."""
    if local_part.isascii():
        return local_part.lower()
    # Folding can undo composition, so it is composed again (as Unicode's canonical caseless match).
    folded = unicodedata.normalize("NFC", local_part).casefold()
    return unicodedata.normalize("NFC", folded)


def _literal(text: str) -> str:
    """An address literal (RFC 5321 §4.1.3) in one spelling, brackets kept.

    IPv6 is the only registered tag, so a General-address-literal is never known.
    """
    if not (text.endswith("]") and text.isascii()):
        raise AddressError(AddressFault.LITERAL_SYNTAX)
    inner = text[1:-1]
    if inner[:5].lower() == "ipv6:":
        return f"[IPv6:{_ipv6(inner[5:])}]"
    return f"[{'.'.join(map(str, _ipv4(inner)))}]"


def _ipv4(text: str) -> list[int]:
    match = _IPV4.fullmatch(text)
    numbers = [int(group) for group in match.groups()] if match else [256]
    if max(numbers) > 255:
        raise AddressError(AddressFault.LITERAL_SYNTAX)
    return numbers


_HEX_GROUP: Final = re.compile(r"[0-9A-Fa-f]{1,4}", re.ASCII)


def _ipv6(text: str) -> str:
    """RFC 5321 §4.1.3: "::" stands for two groups or more, an IPv4 tail for two."""
    head, colons, tail = text.partition("::")
    groups = head.split(":") if head else []
    behind = tail.split(":") if tail else []
    last = behind if colons else groups
    if last and "." in last[-1]:
        a, b, c, d = _ipv4(last.pop())
        last += [f"{a * 256 + b:x}", f"{c * 256 + d:x}"]
    count = len(groups) + len(behind)
    if not (count <= 6 if colons else count == 8):
        raise AddressError(AddressFault.LITERAL_SYNTAX)
    if not all(map(_HEX_GROUP.fullmatch, groups + behind)):
        raise AddressError(AddressFault.LITERAL_SYNTAX)
    filled = groups + ["0"] * (8 - count) + behind
    return _compressed([int(group, 16) for group in filled])


def _compressed(groups: list[int]) -> str:
    """The spelling of RFC 5952 §4: lower case, the first longest run of zeros as "::"."""
    text = ":".join(f"{group:x}" for group in groups)
    runs = re.findall(r"(?:^|(?<=:))0(?::0)+(?=:|$)", text)
    if not runs:
        return text
    longest = max(runs, key=len)
    head, _, tail = f":{text}:".partition(f":{longest}:")
    return f"{head.removeprefix(':')}::{tail.removesuffix(':')}"
