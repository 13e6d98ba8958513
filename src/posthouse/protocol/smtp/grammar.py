"""SMTP's text to values and back: commands, paths, ESMTP parameters, xtext, replies.

RFC 5321 §4.1.2, RFC 3461 §4, RFC 6531 §3.4, RFC 6533 §3. Used by both machines. Failures are
`Refusal`s with the reply a server gives; what a client reads never raises.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from posthouse.kernel.envelope import Address, BodyType, Notify, Ret
from posthouse.kernel.errors import Refusal
from posthouse.kernel.reply import Reply
from posthouse.message.address import (
    LOCAL_PART_REMOTE_OCTETS_MAX,
    AddressError,
    parse_mailbox,
)
from posthouse.protocol.smtp import replies
from posthouse.protocol.smtp.events import RecipientOffered, SenderOffered

HELLO_NAME_OCTETS_MAX: Final = 255
ENVELOPE_ID_OCTETS_MAX: Final = 100  # RFC 3461 §4.4
ORIGINAL_RECIPIENT_OCTETS_MAX: Final = 500  # RFC 3461 §4.2
CACHED_ARGUMENT_OCTETS_MAX: Final = 128

_HELLO_NAME: Final = re.compile(r"[A-Za-z0-9._:\[\]\x80-\U0010ffff-]++")
_PATH: Final = re.compile(
    rb"<(?:(?:@(?:\[[^\]<>\" ]*+\]|[^:,<>\"\[\]@ ]++),?+)++:)?"  # a source route, passed over
    rb"((?:\"(?:[^\"\\]|\\.)*+\"|[^<>\" \\])*+)>",
    re.DOTALL,
)
_BARE_PATH: Final = re.compile(rb"[^<>\" \\]++")
_PARAMETER: Final = re.compile(rb"([A-Za-z0-9][A-Za-z0-9-]*+)(?:=([^\x00-\x20\x7f]++))?")
# The shape nearly all MAIL and RCPT have; what it lets through is the same for the long way.
_PLAIN_SENDER: Final = re.compile(
    rb"FROM:<([^\x00-\x20\x7f-\xff<>\"\\:@]++@[A-Za-z0-9.-]++)?>"
    rb"(?: SIZE=([0-9]{1,15}+))?+(?: BODY=(7BIT|8BITMIME))?+",
    re.IGNORECASE,
)
_PLAIN_RECIPIENT: Final = re.compile(
    rb"TO:<([^\x00-\x20\x7f-\xff<>\"\\:@]++@[A-Za-z0-9.-]++)>", re.IGNORECASE
)
_SIZE: Final = re.compile(rb"[0-9]{1,20}")  # RFC 1870 §4
_XTEXT: Final = re.compile(rb"(?:[!-*,-~\x80-\xff]|\+[0-9A-Fa-f]{2})*+")
_XTEXT_CHARACTER: Final = re.compile(rb"\+([0-9A-Fa-f]{2})")
_XTEXT_UNSAFE: Final = re.compile(r"[^!-*,-<>-~]")
_EMBEDDED_CHARACTER: Final = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_UTF8_UNSAFE: Final = re.compile(r"[^!-*,-<>-\[\]-~]")
_ADDRESS_TYPE: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
_UNPRINTABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")
_BODIES: Final = {b"7BIT": BodyType.SEVEN_BIT, b"8BITMIME": BodyType.EIGHT_BIT}
_NOTIFY: Final = {
    b"SUCCESS": Notify.SUCCESS,
    b"FAILURE": Notify.FAILURE,
    b"DELAY": Notify.DELAY,
}
_CHUNK: Final = re.compile(rb"([0-9]{1,20})(?: +(LAST))? *", re.IGNORECASE)
_COUNT: Final = re.compile(rb"[0-9]{1,20}(?![0-9])")


def split_command(line: bytes) -> tuple[bytes, bytes]:
    """Verb in upper case and argument, without the blanks at its ends."""
    verb, _, argument = line.partition(b" ")
    return verb.upper(), argument.strip(b" ")


def parse_hello_name(argument: bytes) -> str:
    """The name after EHLO, HELO or LHLO.

    Deviation: RFC 5321 §4.1.1.1 asks for a domain or an address literal; clients send underscores,
    U-labels and unbracketed addresses too, which harm nobody. Blanks, quotes and controls do.
    """
    if not 0 < len(argument) <= HELLO_NAME_OCTETS_MAX:
        raise Refusal(replies.BAD_ARGUMENT, detail="hello name missing or too long")
    try:
        name = argument.decode()
    except UnicodeDecodeError as error:
        raise Refusal(replies.BAD_ARGUMENT, detail="hello name is not UTF-8") from error
    if _HELLO_NAME.fullmatch(name) is None or _UNPRINTABLE.search(name) is not None:
        raise Refusal(replies.BAD_ARGUMENT, detail="hello name malformed")
    return name


# --- MAIL and RCPT ---


def parse_sender(
    argument: bytes,
    *,
    is_smtputf8: bool,
    is_binary: bool,
    is_dsn: bool,
    is_requiretls: bool = False,
) -> SenderOffered:
    """What follows MAIL (RFC 5321 §4.1.1.2).

    Args:
        is_smtputf8: whether SMTPUTF8 is offered.
        is_binary: whether BINARYMIME is.
        is_dsn: whether DSN is.
        is_requiretls: whether REQUIRETLS is, as it is in a session with TLS only.
    """
    if len(argument) <= CACHED_ARGUMENT_OCTETS_MAX:
        plain = _plain_sender(argument)
        if plain is not None:
            return plain
    path, parameters = _split_path(argument, b"FROM:")
    if not is_dsn:
        _refuse_dsn(parameters)
    if b"REQUIRETLS" in parameters and not is_requiretls:  # RFC 8689 §2
        raise Refusal(replies.UNKNOWN_PARAMETER, detail="REQUIRETLS is not offered")
    return _sender(path, parameters, is_smtputf8=is_smtputf8, is_binary=is_binary)


def parse_recipient(argument: bytes, *, is_smtputf8: bool, is_dsn: bool) -> RecipientOffered:
    """What follows RCPT (RFC 5321 §4.1.1.3).

    Args:
        is_smtputf8: whether this transaction's MAIL had SMTPUTF8.
    """
    if len(argument) <= CACHED_ARGUMENT_OCTETS_MAX:
        plain = _plain_recipient(argument)
        if plain is not None:
            return plain
    path, parameters = _split_path(argument, b"TO:")
    if not is_dsn:
        _refuse_dsn(parameters)
    return _recipient(path, parameters, is_smtputf8=is_smtputf8)


@lru_cache(maxsize=2048)
def _plain_sender(argument: bytes) -> SenderOffered | None:
    """The event for an argument of the usual shape; events are values, so they are shared."""
    match = _PLAIN_SENDER.fullmatch(argument)
    if match is None:
        return None
    path, size, body = match.groups()
    return SenderOffered(
        reverse_path=_mailbox(path, is_sender=True) if path else None,
        size_octets=None if size is None else int(size),
        body=_BODIES[body.upper()] if body else BodyType.SEVEN_BIT,
    )


@lru_cache(maxsize=4096)
def _plain_recipient(argument: bytes) -> RecipientOffered | None:
    match = _PLAIN_RECIPIENT.fullmatch(argument)
    return RecipientOffered(address=_mailbox(match[1], is_sender=False)) if match else None


def _sender(
    path: bytes, parameters: Mapping[bytes, bytes], *, is_smtputf8: bool, is_binary: bool
) -> SenderOffered:
    wants_smtputf8 = b"SMTPUTF8" in parameters
    if wants_smtputf8 and not is_smtputf8:
        raise Refusal(replies.UNKNOWN_PARAMETER, detail="SMTPUTF8 is not offered")
    size: int | None = None
    body, ret, envelope_id = BodyType.SEVEN_BIT, None, None
    for keyword, value in parameters.items():
        if keyword == b"SIZE":
            size = _parse_size(value)
        elif keyword == b"BODY":
            body = _parse_body(value, is_binary=is_binary)
        elif keyword == b"RET":
            ret = _parse_ret(value)
        elif keyword == b"ENVID":
            envelope_id = parse_envelope_id(value)
        elif keyword == b"SMTPUTF8":
            if value:
                raise Refusal(replies.BAD_PARAMETER, detail="SMTPUTF8 takes no value")
        elif keyword == b"REQUIRETLS":
            if value:
                raise Refusal(replies.BAD_PARAMETER, detail="REQUIRETLS takes no value")
        elif keyword != b"AUTH":  # accepted and ignored: nobody is trusted for what it claims
            raise Refusal(replies.UNKNOWN_PARAMETER, detail=_shown(keyword))
    return SenderOffered(
        reverse_path=_address(path, is_sender=True, is_smtputf8=wants_smtputf8) if path else None,
        size_octets=size,
        body=body,
        is_smtputf8=wants_smtputf8,
        ret=ret,
        envelope_id=envelope_id,
        is_requiretls=b"REQUIRETLS" in parameters,
    )


def _recipient(
    path: bytes, parameters: Mapping[bytes, bytes], *, is_smtputf8: bool
) -> RecipientOffered:
    notify, original_recipient = None, None
    for keyword, value in parameters.items():
        if keyword == b"NOTIFY":
            notify = _parse_notify(value)
        elif keyword == b"ORCPT":
            original_recipient = parse_original_recipient(value, is_smtputf8=is_smtputf8)
        else:
            raise Refusal(replies.UNKNOWN_PARAMETER, detail=_shown(keyword))
    if path.lower() == b"postmaster":  # RFC 5321 §4.5.1
        address = Address(path.decode(), "")
    elif path:
        address = _address(path, is_sender=False, is_smtputf8=is_smtputf8)
    else:
        raise Refusal(Reply(501, "5.1.3", "A recipient is needed"))
    return RecipientOffered(address=address, notify=notify, original_recipient=original_recipient)


def _refuse_dsn(parameters: Mapping[bytes, bytes]) -> None:
    if not parameters.keys().isdisjoint((b"RET", b"ENVID", b"NOTIFY", b"ORCPT")):
        raise Refusal(replies.UNKNOWN_PARAMETER, detail="DSN is not offered")


def _split_path(argument: bytes, keyword: bytes) -> tuple[bytes, Mapping[bytes, bytes]]:
    """The mailbox between the angle brackets and the parameters.

    A source route is read and ignored (RFC 5321 §4.1.1.3, appendix C). Deviation: a blank behind
    the colon and a mailbox without brackets are taken, as hand-written clients send them.
    """
    if argument[: len(keyword)].upper() != keyword:
        raise Refusal(replies.BAD_ARGUMENT, detail=f"{keyword.decode()} expected")
    argument = argument[len(keyword) :].lstrip(b" ")
    if argument.startswith(b"<"):
        match = _PATH.match(argument)
        path = b"" if match is None else match[1]
    else:
        match = _BARE_PATH.match(argument)
        path = b"" if match is None else match[0]
    if match is None:
        raise Refusal(replies.BAD_ARGUMENT, detail="malformed path")
    rest = argument[match.end() :]
    if rest and not rest.startswith(b" "):
        raise Refusal(replies.BAD_ARGUMENT, detail="octets behind the path")
    return path, _parse_parameters(rest)


def _parse_parameters(octets: bytes) -> Mapping[bytes, bytes]:
    """Keywords in upper case with their values, b"" where there is none (RFC 5321 §4.1.2)."""
    parameters: dict[bytes, bytes] = {}
    for word in octets.split(b" "):
        if not word:
            continue
        match = _PARAMETER.fullmatch(word)
        if match is None:
            raise Refusal(replies.BAD_PARAMETER)
        keyword = match[1].upper()
        if keyword in parameters:
            raise Refusal(replies.DUPLICATE_PARAMETER)
        parameters[keyword] = match[2] or b""
    return parameters


def _address(path: bytes, *, is_sender: bool, is_smtputf8: bool) -> Address:
    if not is_smtputf8 and not path.isascii():
        raise Refusal(replies.NON_ASCII_ADDRESS)  # RFC 6531 §3.5
    return _mailbox(path, is_sender=is_sender)


def _mailbox(path: bytes, *, is_sender: bool) -> Address:
    """A local-part of up to 128 octets is let through: other hosts have such."""
    status = "5.1.7" if is_sender else "5.1.3"
    try:
        return parse_mailbox(path.decode(), local_part_octets_max=LOCAL_PART_REMOTE_OCTETS_MAX)
    except UnicodeDecodeError as error:
        raise Refusal(Reply(501, status, "The address is not UTF-8")) from error
    except AddressError as error:
        raise Refusal(Reply(501, status, f"Bad address: {error}")) from error


def _parse_size(value: bytes) -> int:
    if _SIZE.fullmatch(value) is None:
        raise Refusal(replies.BAD_PARAMETER, detail="SIZE")
    return int(value)


def _parse_body(value: bytes, *, is_binary: bool) -> BodyType:
    value = value.upper()
    if value == b"BINARYMIME" and is_binary:
        return BodyType.BINARY
    if value not in _BODIES:
        raise Refusal(replies.UNSUPPORTED_VALUE, detail="BODY")
    return _BODIES[value]


def _parse_ret(value: bytes) -> Ret:
    value = value.upper()
    if value not in (b"FULL", b"HDRS"):
        raise Refusal(replies.BAD_PARAMETER, detail="RET")
    return Ret.FULL if value == b"FULL" else Ret.HDRS


def _parse_notify(value: bytes) -> Notify:
    value = value.upper()
    if value == b"NEVER":
        return Notify.NEVER
    notify = Notify.NEVER
    for word in value.split(b","):
        if word not in _NOTIFY or _NOTIFY[word] in notify:
            raise Refusal(replies.BAD_PARAMETER, detail="NOTIFY")
        notify |= _NOTIFY[word]
    return notify


def _shown(octets: bytes) -> str:
    return octets.decode("ascii", "backslashreplace")


# --- xtext ---


def decode_xtext(octets: bytes) -> bytes:
    """RFC 3461 §4; control octets are refused, however they were written.

    Deviation: "=" and lower-case hexadecimal digits are taken, as some senders write them.
    """
    if _XTEXT.fullmatch(octets) is None:
        raise Refusal(replies.BAD_PARAMETER, detail="xtext")
    decoded = _XTEXT_CHARACTER.sub(lambda match: bytes((int(match[1], 16),)), octets)
    if any(octet < 0x20 or octet == 0x7F for octet in decoded):
        raise Refusal(replies.BAD_PARAMETER, detail="control octet in xtext")
    return decoded


def encode_xtext(text: str) -> str:
    """ASCII as xtext (RFC 3461 §4)."""
    return _XTEXT_UNSAFE.sub(lambda match: f"+{ord(match[0]):02X}", text)


def parse_envelope_id(value: bytes) -> str:
    """ENVID= decoded; printable ASCII (RFC 3461 §4.4)."""
    decoded = decode_xtext(value)
    if not 0 < len(value) <= ENVELOPE_ID_OCTETS_MAX or not decoded.isascii():
        raise Refusal(replies.BAD_PARAMETER, detail="ENVID")
    return decoded.decode()


def parse_original_recipient(value: bytes, *, is_smtputf8: bool) -> str:
    """ORCPT= decoded to "type;address" (RFC 3461 §4.2; type utf-8: RFC 6533 §3)."""
    if len(value) > ORIGINAL_RECIPIENT_OCTETS_MAX or (not is_smtputf8 and not value.isascii()):
        raise Refusal(replies.BAD_PARAMETER, detail="ORCPT")
    kind_octets, _, address_octets = value.partition(b";")
    try:
        kind = kind_octets.decode("ascii")
        address = decode_xtext(address_octets).decode()
    except UnicodeDecodeError as error:
        raise Refusal(replies.BAD_PARAMETER, detail="ORCPT") from error
    if kind.lower() == "utf-8":
        address = _decode_embedded(address)
    elif not address.isascii():
        if kind.lower() != "rfc822" or not is_smtputf8:
            raise Refusal(replies.BAD_PARAMETER, detail="ORCPT")
        kind = "utf-8"  # Postfix knows no other name for it
    if not address or _ADDRESS_TYPE.fullmatch(kind) is None or _UNPRINTABLE.search(address):
        raise Refusal(replies.BAD_PARAMETER, detail="ORCPT")
    return f"{kind};{address}"


def _decode_embedded(address: str) -> str:
    r"""`\x{263A}` to its character (RFC 6533 §3)."""

    def character(match: re.Match[str]) -> str:
        code = int(match[1], 16)
        return chr(code) if code <= 0x10FFFF else "\ufffe"  # refused by the caller

    return _EMBEDDED_CHARACTER.sub(character, address)


def format_original_recipient(original_recipient: str) -> str:
    """ "type;address" as the value of ORCPT=, in ASCII whatever the peer offers."""
    kind, _, address = original_recipient.partition(";")
    if kind.lower() == "utf-8":
        encoded = _UTF8_UNSAFE.sub(lambda match: f"\\x{{{ord(match[0]):X}}}", address)
        return f"{kind};{encoded}"
    return f"{kind};{encode_xtext(address)}"


# --- BDAT ---


def parse_chunk(argument: bytes) -> tuple[int, bool]:
    """Chunk size in octets and whether LAST is there (RFC 3030 §2)."""
    match = _CHUNK.fullmatch(argument)
    if match is None:
        raise Refusal(replies.BAD_CHUNK)
    return int(match[1]), match[2] is not None


def chunk_octets(argument: bytes) -> int | None:
    """The size at the beginning of a BDAT argument that is otherwise malformed."""
    match = _COUNT.match(argument)
    return int(match[0]) if match is not None else None
