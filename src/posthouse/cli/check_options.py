"""What the commands of `posthouse check` are told: who brought a message, and when to judge it."""

from __future__ import annotations

import ipaddress
from datetime import UTC, datetime
from typing import Any, Final

import click

from posthouse.cli.output import Command
from posthouse.kernel.envelope import Address
from posthouse.message.address import AddressError, parse_mailbox

NULL_PATHS: Final = ("<>", "")
IP_HELP: Final = "The host that brought the message."
HELO_HELP: Final = "What it said in HELO or EHLO."
FROM_HELP: Final = 'The sender it named in MAIL FROM; "<>" for none.'


class AddressParam(click.ParamType[str]):
    """An IP address."""

    name = "address"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text = str(value).strip()
        try:
            found = ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
        except ValueError:
            self.fail(f"{text!r} is no IP address, as 192.0.2.1 and 2001:db8::1 are", param, ctx)
        mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
        return str(mapped or found)


class PathParam(click.ParamType["Address | None"]):
    """What MAIL FROM says: an address, or "<>" for the null reverse-path."""

    name = "address"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Address | None:
        text = str(value).strip()
        if text in NULL_PATHS:
            return None
        try:
            return parse_mailbox(text.removeprefix("<").removesuffix(">"))
        except AddressError as error:
            self.fail(f'{value!r} is no address: {error}; "<>" is the empty one', param, ctx)


class MomentParam(click.ParamType[datetime]):
    """A moment: a date with or without a time (UTC unless it says otherwise), or Unix seconds."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        text = str(value).strip()
        try:
            if text.isdecimal() and len(text) > len("20260102"):
                return datetime.fromtimestamp(int(text), UTC)
            found = datetime.fromisoformat(text)
        except (ValueError, OverflowError, OSError):
            self.fail(f"{value!r} is no time, as 2026-01-02T03:04:05Z is", param, ctx)
        return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def ip_option(command: Command) -> Command:
    option = click.option(
        "--ip", "address", type=AddressParam(), required=True, metavar="ADDRESS", help=IP_HELP
    )
    return option(command)


def helo_option(command: Command) -> Command:
    option = click.option("--helo", "hello", required=True, metavar="NAME", help=HELO_HELP)
    return option(command)


def from_option(command: Command) -> Command:
    option = click.option(
        "--from",
        "reverse_path",
        type=PathParam(),
        required=True,
        metavar="ADDRESS",
        help=FROM_HELP,
    )
    return option(command)


def at_option(command: Command) -> Command:
    return click.option(
        "--at", type=MomentParam(), metavar="TIME",
        help="Judge the age of signatures as of then, e.g. 2026-01-02T03:04:05Z.",
    )(command)  # fmt: skip
