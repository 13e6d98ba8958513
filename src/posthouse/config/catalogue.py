"""The schema as a table: every section and setting in order, read from the structs themselves.

The loader checks a file against it; `config show`, the limits and the reference page print it.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from functools import cache
from typing import Any, Final

import msgspec
from msgspec import inspect

from posthouse.config.schema import Config
from posthouse.config.setting import EXTRA_KEY, About


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """One setting, or one key within a table that may be repeated."""

    key: str
    """With its section, "smtp.idle_s"; "listener.port" stands for every [[listener]]."""
    name: str
    type: Any
    """`bool`, `int`, `float`, `str`, an Enum class, or `tuple` for a list of texts."""
    about: About
    default: Any
    """`msgspec.NODEFAULT` where a value must be given."""
    low: float | None = None
    high: float | None = None

    @property
    def is_required(self) -> bool:
        return self.default is msgspec.NODEFAULT


class Section(msgspec.Struct, frozen=True, kw_only=True):
    """One table; `is_repeated` for [[listener]] and [[relay.route]]."""

    key: str
    meaning: str
    struct: type[msgspec.Struct]
    is_repeated: bool
    settings: dict[str, Setting]
    sections: dict[str, Section]

    def walk(self) -> Iterator[Section]:
        """This section and those within it, in the order of the file."""
        yield self
        for section in self.sections.values():
            yield from section.walk()

    def names(self) -> list[str]:
        return [*self.settings, *self.sections]


@cache
def root() -> Section:
    """The whole file; its key is ""."""
    info = inspect.type_info(Config)
    assert isinstance(info, inspect.StructType)
    return _section("", info, is_repeated=False)


@cache
def settings() -> dict[str, Setting]:
    """Every setting by its key, in the order of the reference page."""
    return {
        setting.key: setting for section in root().walk() for setting in section.settings.values()
    }


def _section(key: str, info: inspect.StructType, *, is_repeated: bool) -> Section:
    own: dict[str, Setting] = {}
    inner: dict[str, Section] = {}
    for field in info.fields:
        path = f"{key}.{field.name}" if key else field.name
        kind = field.type
        if isinstance(kind, inspect.StructType):
            inner[field.name] = _section(path, kind, is_repeated=False)
        elif isinstance(kind, inspect.VarTupleType):
            assert isinstance(kind.item_type, inspect.StructType), path
            inner[field.name] = _section(path, kind.item_type, is_repeated=True)
        else:
            own[field.name] = _setting(path, field)
    doc = " ".join((info.cls.__doc__ or "").split())
    return Section(
        key=key,
        meaning=doc,
        struct=info.cls,
        is_repeated=is_repeated,
        settings=own,
        sections=inner,
    )


_PYTHON_TYPES: Final[dict[type, type]] = {
    inspect.BoolType: bool,
    inspect.IntType: int,
    inspect.FloatType: float,
    inspect.StrType: str,
    inspect.VarTupleType: tuple,
}


def _setting(key: str, field: inspect.Field) -> Setting:
    kind: Any = field.type
    if isinstance(kind, inspect.UnionType):  # a number that may be absent
        kind = next(item for item in kind.types if isinstance(item, inspect.Metadata))
    assert isinstance(kind, inspect.Metadata), f"{key} says nothing about itself"
    about = (kind.extra or {})[EXTRA_KEY]
    inner = kind.type
    return Setting(
        key=key,
        name=field.name,
        type=inner.cls if isinstance(inner, inspect.EnumType) else _PYTHON_TYPES[type(inner)],
        about=about,
        default=field.default,
        low=getattr(inner, "ge", None),
        high=getattr(inner, "le", None),
    )


def choices(setting: Setting) -> tuple[str, ...]:
    """The words that an Enum setting takes; () for others."""
    if isinstance(setting.type, type) and issubclass(setting.type, enum.Enum):
        return tuple(str(member.value) for member in setting.type)
    return ()
