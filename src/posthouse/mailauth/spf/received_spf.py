"""The Received-SPF field (RFC 7208 §9.1), for old filters; Authentication-Results is the one to
read. What a client or a record said is in it only as printable ASCII, quoted and cut."""

from __future__ import annotations

import re
from typing import Final

from posthouse.kernel.reply import printable
from posthouse.mailauth.results import Result, SpfIdentity, SpfOutcome
from posthouse.mailauth.spf.macros import read_client

LINE_CHARACTERS: Final = 78  # RFC 5322 §2.1.1
WORD_CHARACTERS_MAX: Final = 255
_DOT_ATOM: Final = re.compile(
    r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*+"
)
_QUOTED: Final = re.compile(r'(["\\])')
_NO_COMMENT: Final = re.compile(r'["()\\]')

_COMMENTS: Final = {
    Result.PASS: "domain of {sender} designates {ip} as permitted sender",
    Result.FAIL: "domain of {sender} does not designate {ip} as permitted sender",
    Result.SOFTFAIL: "transitioning domain of {sender} does not designate {ip} as permitted sender",
    Result.NEUTRAL: "{ip} is neither permitted nor denied by domain of {sender}",
    Result.NONE: "domain of {sender} does not designate permitted senders",
    Result.TEMPERROR: "temporary error in processing domain of {sender}",
    Result.PERMERROR: "permanent error in processing domain of {sender}",
}


def received_spf(outcome: SpfOutcome, ip: str, helo: str, receiver: str) -> bytes:
    """The whole field, folded, CRLF at its end. It goes above the Received field of the same hop.

    Args:
        receiver: our host's name.
    """
    client = read_client(ip)
    address = client.text if client is not None else ip
    comment = _COMMENTS[outcome.result].format(sender=_word(outcome.sender), ip=_word(address))
    pairs = [("client-ip", address)]
    if outcome.identity is SpfIdentity.MAIL_FROM:
        pairs.append(("envelope-from", outcome.sender))
    pairs += [("helo", helo), ("receiver", receiver), ("identity", outcome.identity.value)]
    if outcome.result is Result.PERMERROR:
        pairs.append(("problem", outcome.reason))
    elif outcome.result is Result.TEMPERROR:  # the reason names our own name servers
        pairs.append(("problem", "the DNS did not answer"))
    elif outcome.result is not Result.NONE:
        pairs.append(("mechanism", outcome.mechanism or "default"))
    words = [outcome.result.value, *f"({_word(receiver)}: {comment})".split(" ")]
    words += [f"{key}={_value(text)};" for key, text in pairs]
    return _folded("Received-SPF:", words)


def _word(text: str) -> str:
    """For a comment: one word without brackets and quotes."""
    shown = printable(text[:WORD_CHARACTERS_MAX])
    return _NO_COMMENT.sub("?", shown).replace(" ", "_") or "?"


def _value(text: str) -> str:
    """A dot-atom where it is one, else a quoted-string."""
    shown = printable(text[:WORD_CHARACTERS_MAX])
    if _DOT_ATOM.fullmatch(shown) is not None:
        return shown
    quoted = _QUOTED.sub(r"\\\1", shown)
    return f'"{quoted}"'


def _folded(name: str, words: list[str]) -> bytes:
    lines = [name]
    for word in words:
        if len(lines[-1]) + 1 + len(word) > LINE_CHARACTERS:
            lines.append("")
            lines[-1] = f"\t{word}"
        else:
            lines[-1] = f"{lines[-1]} {word}"
    return ("\r\n".join(lines) + "\r\n").encode("ascii")
