"""Every limit of a node with its value and what reaching it causes, for `config show --limits`.

Each counts in `posthouse_limit_total{name=}` under the name given here (RELIABILITY section 2).
"""

from __future__ import annotations

from typing import Final

import msgspec

from posthouse.config.catalogue import Setting, root
from posthouse.config.quantity import format_value
from posthouse.config.schema import Config
from posthouse.config.setting import Unit
from posthouse.message.address_list import ADDRESSES_MAX
from posthouse.message.mime import BOUNDARY_OCTETS_MAX, DEPTH_MAX, PARTS_MAX
from posthouse.message.parameters import PARAMETERS_MAX


class Limit(msgspec.Struct, frozen=True, kw_only=True):
    """One bound on what a peer, a message, an account or a domain may use."""

    name: str
    value: int | float
    unit: Unit
    reached: str
    meaning: str
    is_fixed: bool = False
    """Set by an RFC, the machine or the program, and not by the config."""

    @property
    def shown(self) -> str:
        """The value for people."""
        return format_value(self.value, self.unit)


FIXED: Final = (
    Limit(
        name="address.local_part_octets_max",
        value=64,
        unit=Unit.OCTETS,
        reached="501 5.1.3 (RCPT), 5.1.7 (MAIL); up to 128 are let through to other domains",
        meaning="A local-part (RFC 5321 §4.5.3.1.1).",
        is_fixed=True,
    ),
    Limit(
        name="address.domain_octets_max",
        value=255,
        unit=Unit.OCTETS,
        reached="501 5.1.3 (RCPT), 5.1.7 (MAIL)",
        meaning="A domain (RFC 5321 §4.5.3.1.2).",
        is_fixed=True,
    ),
    Limit(
        name="address.path_octets_max",
        value=256,
        unit=Unit.OCTETS,
        reached="501 5.1.3 (RCPT), 5.1.7 (MAIL)",
        meaning="A reverse-path or forward-path with its brackets (RFC 5321 §4.5.3.1.3).",
        is_fixed=True,
    ),
    Limit(
        name="net.descriptors",
        value=64,
        unit=Unit.COUNT,
        reached="421 4.3.2 (IMAP `* BYE`, POP3 `-ERR`) and closed",
        meaning="File descriptors that connections leave for files, DNS and saying no: these, or an"
        " eighth of those allowed (RLIMIT_NOFILE) if that is less.",
        is_fixed=True,
    ),
    Limit(
        name="message.addresses_max",
        value=ADDRESSES_MAX,
        unit=Unit.COUNT,
        reached="further ones are not parsed",
        meaning="Addresses parsed of one header field.",
        is_fixed=True,
    ),
    Limit(
        name="mime.depth_max",
        value=DEPTH_MAX,
        unit=Unit.COUNT,
        reached="the rest is one opaque leaf",
        meaning="Parts within parts (RFC 2046).",
        is_fixed=True,
    ),
    Limit(
        name="mime.parts_max",
        value=PARTS_MAX,
        unit=Unit.COUNT,
        reached="the last part holds all the rest",
        meaning="Parts of a message.",
        is_fixed=True,
    ),
    Limit(
        name="mime.parameters_max",
        value=PARAMETERS_MAX,
        unit=Unit.COUNT,
        reached="further ones are ignored",
        meaning="Parameters of one field (RFC 2045).",
        is_fixed=True,
    ),
    Limit(
        name="mime.boundary_octets_max",
        value=BOUNDARY_OCTETS_MAX,
        unit=Unit.OCTETS,
        reached="the part is one opaque leaf",
        meaning="A boundary (RFC 2046 §5.1.1 allows 70).",
        is_fixed=True,
    ),
)


def limits(config: Config) -> tuple[Limit, ...]:
    """All of them, in the order of the reference page."""
    found = list(FIXED)
    for section in root().walk():
        for setting in section.settings.values():
            if setting.about.reached and not section.is_repeated:
                found.append(_limit(config, setting))
    return tuple(found)


def limit_names() -> frozenset[str]:
    """The closed set of names that `posthouse_limit_total` may be labelled with."""
    return frozenset(limit.name for limit in limits(Config()))


def _limit(config: Config, setting: Setting) -> Limit:
    value: object = config
    for name in setting.key.split("."):
        value = getattr(value, name)
    assert isinstance(value, int | float), setting.key
    return Limit(
        name=setting.key,
        value=value,
        unit=setting.about.unit,
        reached=setting.about.reached,
        meaning=setting.about.meaning,
    )
