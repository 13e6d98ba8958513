"""What a simulated SMTP host has been given."""

from __future__ import annotations

import msgspec


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A message the peer answered 2yz for, or was about to when the line was to be dropped."""

    mail: bytes
    """The argument of MAIL as it came, `FROM:<…>` with parameters."""
    recipients: tuple[bytes, ...]
    """Arguments of the accepted RCPTs."""
    content: bytes
    """Dots unstuffed."""
    helo: bytes
    is_tls: bool
    is_acknowledged: bool
    """False when the personality kept the reply to itself."""
    received_s: float
    """By the loop's clock."""
    client: str

    @property
    def reverse_path(self) -> str:
        return path_of(self.mail)

    @property
    def forward_paths(self) -> tuple[str, ...]:
        return tuple(path_of(each) for each in self.recipients)


def path_of(argument: bytes) -> str:
    """The address between the angle brackets, source route and all."""
    begin, end = argument.find(b"<"), argument.rfind(b">")
    return argument[begin + 1 : end].decode("utf-8", "replace")
