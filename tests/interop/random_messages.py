"""Random messages of ours, read by the standard library, mail-parser and Dovecot to one content.

    python -m tests.interop.random_messages [--count 10000] [--seed 1] [--readers library,dovecot]

A smoke of it runs with the tests. What a reader finds is compared field by field and part by part
with what the message was made of; where one reads it otherwise, `EXPLANATIONS` has the reason or
the run fails. What one does not tell is not compared: mail-parser has no nesting.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec

from tests.interop import dovecot
from tests.interop.letter_content import Content, Part
from tests.interop.letter_readers import (
    Dovecot,
    by_mail_parser,
    by_the_library,
    for_dovecot,
    for_mail_parser,
)
from tests.interop.random_letters import make
from tests.sending.making import check_wire, letter_of

SHOWN_MAX = 20
SHOWN_CHARACTERS = 600


# --- comparing ---


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    seed: int
    reader: str
    where: str
    """ "subject", or "parts[2].file_name"."""
    wanted: Any
    found: Any


PEOPLE = ("sender", "on_behalf", "to", "cc", "reply_to")


def _differ_in_blanks(one: Disagreement) -> bool:
    """People whose names are the same but for blanks; no-break spaces are blanks for it, too
    (Python 3.11)."""
    return one.where in PEOPLE and _packed(one.wanted) == _packed(one.found)


def _packed(people: Any) -> Any:
    if isinstance(people, str):
        return "".join(people.split())
    return None if people is None else [_packed(one) for one in people]


def _bracketed(name: Any) -> tuple[str, str]:
    return f"<{name}>", f'"{name}"'


EXPLANATIONS: list[tuple[str, str, Callable[[Disagreement], bool]]] = [
    (
        "library",
        "RFC 2047 §6.2: blanks between encoded-words are no text. In display names it keeps some",
        _differ_in_blanks,
    ),
    (
        "mail-parser",
        "RFC 2047 §5 (3): there are no encoded-words in parameters. It decodes what looks like one",
        lambda one: one.where.endswith(".file_name") and "=?" in (one.wanted or ""),
    ),
    (
        "mail-parser",
        "It makes up names of attachments that have none, or one of blanks",
        lambda one: one.where.endswith(".file_name") and not one.wanted,
    ),
    (
        "mail-parser",
        "It takes quotes and angle brackets off the ends of a name, which are a part of it",
        lambda one: one.where.endswith(".file_name") and one.wanted in _bracketed(one.found),
    ),
    (
        "mail-parser",
        "It writes an attached message anew, with other line ends",
        lambda one: (
            one.where.endswith(".content")
            and one.wanted.startswith(b"Date: ")
            and one.wanted == one.found.replace(b"\n", b"\r\n")
        ),
    ),
]
"""Reader, why it reads something otherwise, and where."""


def explained(one: Disagreement) -> str:
    """Why they disagree; "" where nobody knows."""
    for reader, text, holds in EXPLANATIONS:
        if reader == one.reader and holds(one):
            return text
    return ""


def disagreements(seed: int, reader: str, wanted: Content, found: Content) -> list[Disagreement]:
    return [
        Disagreement(seed=seed, reader=reader, where=where, wanted=left, found=right)
        for where, left, right in _pairs(wanted, found)
        if left != right
    ]


def _pairs(wanted: Content, found: Content) -> Iterator[tuple[str, Any, Any]]:
    for name in Content.__struct_fields__:
        if name != "parts":
            yield name, getattr(wanted, name), getattr(found, name)
    yield "number of parts", len(wanted.parts), len(found.parts)
    for at, (left, right) in enumerate(zip(wanted.parts, found.parts, strict=False)):
        for name in Part.__struct_fields__:
            yield f"parts[{at}].{name}", getattr(left, name), getattr(right, name)


# --- a run ---


class Judge(msgspec.Struct, frozen=True):
    """A reader, and what it can tell of a content."""

    read: Callable[[bytes], Content]
    tells: Callable[[Content], Content]


class Tally(msgspec.Struct, kw_only=True):
    """What a run found."""

    messages: int = 0
    parts: int = 0
    octets: int = 0
    seconds: float = 0.0
    known: Counter[tuple[str, str]] = msgspec.field(default_factory=Counter)
    """Reader and reason, how often."""
    unknown: list[Disagreement] = msgspec.field(default_factory=list)

    def report(self) -> str:
        size = f"{self.parts:,} parts, {self.octets / 1e6:,.1f} MB"
        lines = [f"{self.messages:,} messages, {size} in {self.seconds:.0f} s"]
        lines += [
            f"{reader}, {count:,} times: {text}"
            for (reader, text), count in sorted(self.known.items())
        ]
        lines += [f"{one}"[:SHOWN_CHARACTERS] for one in self.unknown[:SHOWN_MAX]]
        return "\n".join([*lines, f"not explained: {len(self.unknown)}"])


READERS = ("library", "mail-parser", "dovecot")


@contextlib.contextmanager
def judges(names: Iterable[str]) -> Iterator[dict[str, Judge]]:
    """Those readers, with a Dovecot started where it is one of them."""
    found: dict[str, Judge] = {}
    with contextlib.ExitStack() as stack:
        for name in names:
            if name == "library":
                found[name] = Judge(by_the_library, lambda content: content)
            elif name == "mail-parser":
                found[name] = Judge(by_mail_parser, for_mail_parser)
            else:
                _, port = stack.enter_context(dovecot.running())
                client = stack.enter_context(contextlib.closing(Dovecot(port)))
                found[name] = Judge(client, for_dovecot)
        yield found


def run(seeds: Iterable[int], readers: Mapping[str, Judge]) -> Tally:
    tally = Tally()
    started_s = time.monotonic()
    for seed in seeds:
        made = make(seed)
        octets = letter_of(made.message).octets
        check_wire(octets)
        assert b"blind@" not in octets, seed
        for name, judge in readers.items():
            try:
                found = judge.read(octets)
            except Exception as error:
                error.add_note(f"the message of seed {seed}, read by {name}")
                raise
            for one in disagreements(seed, name, judge.tells(made.content), found):
                if text := explained(one):
                    tally.known[name, text] += 1
                else:
                    tally.unknown.append(one)
        tally.messages += 1
        tally.parts += len(made.content.parts)
        tally.octets += len(octets)
    tally.seconds = time.monotonic() - started_s
    return tally


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=10_000, help="how many messages")
    parser.add_argument("--seed", type=int, default=1, help="of the first; the next have the next")
    parser.add_argument("--readers", default=",".join(READERS), help="which, with commas")
    asked = parser.parse_args()
    names = asked.readers.split(",")
    if unknown := set(names) - set(READERS):
        parser.error(f"there is no reader {', '.join(sorted(unknown))}; there are {READERS}")
    if "dovecot" in names and (why := dovecot.why_not()):
        parser.error(f"{why}; leave it out with --readers library,mail-parser")
    logging.getLogger("mailparser").setLevel(logging.ERROR)  # it warns of each calendar
    with judges(names) as readers:
        tally = run(range(asked.seed, asked.seed + asked.count), readers)
    print(tally.report())
    return 1 if tally.unknown else 0


if __name__ == "__main__":
    sys.exit(main())
