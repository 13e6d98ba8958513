"""Dialogues in `tests/dialogues/imap`, run against sessions over a real store.

`C:` is a client's line, `S:` what must come back, in order; `C2:` and `S2:` are a second session of
the same account. `~` in an `S:` line stands for any text. A line that begins with `=` sets where
both sessions start: `= nonauth`, `= auth` or `= selected` (INBOX).
"""

from __future__ import annotations

import re
from itertools import groupby
from pathlib import Path

import pytest

from tests.access.imap.house import Client, House

FOLDER = Path(__file__).parents[2] / "dialogues" / "imap"
FILES = sorted(FOLDER.glob("*.txt"))
LINE = re.compile(r"([CS])(2?):(?: (.*))?\Z")


def read(text: str) -> tuple[str, list[tuple[str, str, list[str]]]]:
    """Where to start, and turns: (C or S, which session, lines)."""
    start = "nonauth"
    lines: list[tuple[str, str, str]] = []
    for line in text.splitlines():
        if line.startswith("="):
            start = line[1:].strip()
        elif line and not line.startswith("#"):
            found = LINE.match(line)
            assert found is not None, f"not a line of a dialogue: {line!r}"
            lines.append((found[1], found[2], found[3] or ""))
    turns = [
        (side, who, [line for _, _, line in group])
        for (side, who), group in groupby(lines, key=lambda line: line[:2])
    ]
    return start, turns


def fits(expected: str, line: str) -> bool:
    pattern = ".*".join(re.escape(part) for part in expected.split("~"))
    return re.fullmatch(pattern, line) is not None


async def connected(house: House, start: str) -> Client:
    if start == "nonauth":
        return house.connect()
    return await house.client(mailbox="INBOX" if start == "selected" else None)


def test_there_are_dialogues() -> None:
    assert len(FILES) >= 5


@pytest.mark.parametrize("is_cut", [False, True], ids=["whole", "octet by octet"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
async def test_dialogue(path: Path, is_cut: bool, house: House) -> None:
    start, turns = read(path.read_text(encoding="utf-8"))
    clients = {who: await connected(house, start) for who in {who for _, who, _ in turns}}
    got = dict.fromkeys(clients, b"")
    for side, who, lines in turns:
        client = clients[who]
        if side == "C":
            assert got[who] == b"", f"unexpected: {got[who]!r} before {lines!r}"
            octets = "".join(f"{line}\r\n" for line in lines).encode()
            for part in [octets[at : at + 1] for at in range(len(octets))] if is_cut else [octets]:
                got[who] += await client.exchange(part)
            continue
        await client.settle()
        got[who] += client.read()
        for expected in lines:
            line, end, got[who] = got[who].partition(b"\r\n")
            assert end and fits(expected, line.decode()), f"{expected!r} is not {line!r}"
    assert not any(got.values()), f"left over: {got}"
