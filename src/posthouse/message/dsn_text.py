"""What a DSN says to people: what happened and what they can do, in plain words."""

from __future__ import annotations

import textwrap
from typing import Final

DIAGNOSTIC_CHARACTERS_MAX: Final = 600
"""Of a remote host's words that people are shown; programs get more."""
_COLUMNS: Final = 76

# By the subject and detail of the enhanced status code (RFC 3463 §3), the longest match first.
ADVICE: Final = {
    "1.0": "Check the address for mistakes and send the message again.",
    "1.1": "Nobody has this address. Check it for mistakes and send the message again.",
    "1.2": "The domain of this address takes no mail or does not exist. Check it for mistakes.",
    "1.3": "The address is not written as addresses are. Check it for mistakes.",
    "1.6": "The recipient has moved. Ask them for their new address.",
    "1.7": "The other system did not accept your own address. Ask your administrator.",
    "1.8": "The other system did not accept your own address. Ask your administrator.",
    "1.10": "The domain of this address says that it takes no mail at all. Check it for mistakes.",
    "1": "Check the address for mistakes and send the message again.",
    "2.1": "The recipient's mailbox is switched off. Reach them in another way.",
    "2.2": "The recipient's mailbox is full. Try again later, or reach them in another way.",
    "2.3": "The message is too big for the recipient. Send a smaller one, or a link to the files.",
    "2": "There is a problem with the recipient's mailbox. Reach them in another way.",
    "3.4": "The message is too big for the other system. Send a smaller one.",
    "3": "The other system has a problem. Try again later.",
    "4.1": "The other system did not answer. Check the domain of the address, or try again later.",
    "4.4": "The way to the other system is not known. Check the domain of the address.",
    "4.6": "The message was going round in a circle. Ask your administrator.",
    "4.7": "The time for delivery ran out. Check the domain of the address, or try again later.",
    "4": "The other system could not be reached. Check the domain of the address, or try later.",
    "5": "The two systems did not understand each other. Ask your administrator.",
    "6.7": "The other system cannot take addresses with letters outside ASCII.",
    "6": "The other system cannot take a message of this kind.",
    "7.1": "The other system does not allow this message. Ask the recipient in another way.",
    "7": "The other system refused the message for its rules. Ask the recipient in another way.",
}

_HAPPENED: Final = {
    "failed": "Your message could not be delivered to\n    {recipient}",
    "delayed": "Your message has not been delivered yet to\n    {recipient}",
    "delivered": "Your message was delivered to\n    {recipient}",
    "relayed": (
        "Your message was handed to a system that does not report further, for\n    {recipient}"
    ),
    "expanded": "Your message was delivered to the list\n    {recipient}",
}


def subject(actions: list[str]) -> str:
    """The Subject for those actions, the worst of them deciding."""
    if "failed" in actions:
        return "Your message could not be delivered"
    if "delayed" in actions:
        return "Your message is delayed"
    return "Your message was delivered"


def advice(status: str) -> str:
    """What to do about a status code like "5.1.1"."""
    key = status.partition(".")[2]
    return ADVICE.get(key) or ADVICE.get(key.partition(".")[0]) or "Try again later."


def explanation(
    *,
    recipient: str,
    action: str,
    status: str,
    remote_mta: str,
    diagnostic: str,
    last_attempt: str,
    retry_until: str,
) -> str:
    """The paragraph about one recipient, ending in an empty line. All values are on one line and
    "" where they are not known."""
    lines = [_HAPPENED[action].format(recipient=recipient), ""]
    if diagnostic:
        who = f"The mail system {remote_mta} said:" if remote_mta else "The reason given was:"
        lines += [who, *_indented(_shortened(diagnostic)), ""]
    if action == "delayed":
        until = f" until {retry_until}" if retry_until else ""
        words = f"You need to do nothing now: delivery is tried again{until}."
        words += " If it does not succeed you get another notice."
        if last_attempt:
            words += f" The last attempt was on {last_attempt}."
        lines += [*textwrap.wrap(words, _COLUMNS), ""]
    elif action == "failed":
        lines += [*textwrap.wrap("What you can do: " + advice(status), _COLUMNS), ""]
    return "\n".join(lines)


def _shortened(text: str) -> str:
    if len(text) <= DIAGNOSTIC_CHARACTERS_MAX:
        return text
    return text[: DIAGNOSTIC_CHARACTERS_MAX - 3] + "..."


def _indented(text: str) -> list[str]:
    indent = "    "
    return textwrap.wrap(text, _COLUMNS, initial_indent=indent, subsequent_indent=indent)
