"""Octets and counts one peer may use; `config` fills them."""

from __future__ import annotations

from typing import Final

import msgspec

KIB: Final = 1024
MIB: Final = 1024 * 1024


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Of one session's commands. Each is named like its setting under `imap.`."""

    line_octets_max: int = 64 * KIB
    """Of a command without its literals."""
    line_before_login_octets_max: int = 8 * KIB
    literal_octets_max: int = MIB
    """Of a command's literals together, an APPEND's message apart."""
    literal_before_login_octets_max: int = 4 * KIB
    append_octets_max: int = 50 * MIB
    """`smtp.message_octets_max`."""
    literal_discard_octets_max: int = 16 * MIB
    """What is read away of a refused command; more ends the session."""
    errors_before_login_max: int = 3
    errors_max: int = 20
    pipeline_max: int = 32
    """Commands that may wait behind an open one before reading has to stop."""
    depth_max: int = 50
    set_items_max: int = 10_000
    search_keys_max: int = 1_000
    fetch_items_max: int = 1_000


DEFAULT_LIMITS: Final = Limits()
