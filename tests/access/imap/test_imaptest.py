"""Dovecot's imaptest scripts (its `src/tests`), for the groups that need only what we have.

A small runner of that format: untagged replies come in any order and others may come with them;
words compare without regard to case; `$name` takes and then keeps a value; `$` takes anything.

One deviation: `id` sends 30 fields of 1,024 octets before login. Nobody who has not logged in gets
more than 8 KiB of a line here (H50), so it is run after login.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from tests.access.imap.house import Client, House

GROUPS = (
    "append",
    "fetch-bodystructure",
    "id",
    "mutf7",
    "nil",
    "pipeline",
    "pipeline-connections",
    "search-date",
    "search-flags",
    "search-header",
    "search-sets",
    "search-size",
    "uidvalidity",
)
STATES = ("nonauth", "auth", "created", "appended", "selected")
TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|\{(\d+)\}\r\n|([()\[\]])|([^\s()\[\]"]+)')
MAILBOX = "imaptest"


def tokens(text: str) -> list[Any]:
    """Words and nested lists."""
    stack: list[list[Any]] = [[]]
    at = 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if found is None:
            at += 1
            continue
        at = found.end()
        if found[2] is not None:
            stack[-1].append(text[at : at + int(found[2])])
            at += int(found[2])
        elif found[3] is None:
            stack[-1].append(found[1] if found[1] is not None else found[4])
        elif found[3] in "([":
            stack.append([])
        else:
            done = stack.pop()
            stack[-1].append(done)
    assert len(stack) == 1, text
    return stack[0]


class Script:
    """One connection group: clients, variables, and the comparing."""

    def __init__(self, clients: list[Client]) -> None:
        self.clients = clients
        self.values: dict[str, str] = {}

    def filled(self, text: str) -> str:
        """With `$$` and the variables known so far put in."""

        def value(found: re.Match[str]) -> str:
            name = found[1] or found[2]
            if found[0] == "$$":
                return "\0"
            return {"mailbox": MAILBOX, **self.values}.get(name, found[0])

        return re.sub(r"\$\$|\$\{(\w+)\}|\$(\w+)", value, text).replace("\0", "$")

    def matches(self, expected: Any, got: Any, found: dict[str, str]) -> bool:
        if expected == "$":
            return True
        if isinstance(expected, list):
            if not isinstance(got, list):
                return False
            return self.all_match(expected, got, found)
        if not isinstance(got, str):
            return False
        name = re.fullmatch(r"\$(\w+)", expected)
        if name is not None and name[1] not in self.values and not name[1][0].isdigit():
            return found.setdefault(name[1], got) == got
        return bool(expected.lower() == got.lower())

    def all_match(self, expected: list[Any], got: list[Any], found: dict[str, str]) -> bool:
        return len(expected) == len(got) and all(
            self.matches(one, other, found) for one, other in zip(expected, got)
        )

    def fits(self, expected: str, line: str) -> bool:
        """An untagged reply, with the orders that the format leaves open."""
        wanted, got = tokens(self.filled(expected)), tokens(line)
        if len(wanted) != len(got):
            return False
        found: dict[str, str] = {}
        kind = next((word.lower() for word in wanted[:2] if str(word).isalpha()), "")
        if isinstance(wanted[-1], list) and kind in ("fetch", "status"):
            good = self.all_match(wanted[:-1], got[:-1], found) and self.pairs_match(
                wanted[-1], got[-1], found
            )
        elif kind in ("list", "lsub"):
            good = self.all_match(wanted[2:], got[2:], found)
        else:
            good = self.all_match(wanted, got, found)
        if good:
            self.values |= found
        return good

    def pairs_match(self, wanted: list[Any], got: list[Any], found: dict[str, str]) -> bool:
        have = {str(got[at]).lower(): got[at + 1] for at in range(0, len(got), 2)}
        for at in range(0, len(wanted), 2):
            name, value = wanted[at].lower(), wanted[at + 1]
            if name not in have:
                return False
            if name == "flags":
                flags = {flag.lower() for flag in have[name]} - {"\\recent"}
                if flags != {flag.lower() for flag in value}:
                    return False
            elif not self.matches(value, have[name], found):
                return False
        return True


def messages_of(folder: Path, group: str) -> list[bytes]:
    path = folder / f"{group}.mbox"
    octets = (path if path.exists() else folder / "default.mbox").read_bytes()
    parts = re.split(rb"(?m)^From [^\n]*\n", octets)[1:]
    return [re.sub(rb"\n\Z", b"", part).replace(b"\n", b"\r\n") for part in parts]


def parse(text: str) -> tuple[dict[str, str], list[str]]:
    head, _, body = text.partition("\n\n")
    if ":" not in head.splitlines()[0] and not head.startswith("#"):
        head, body = "", text
    fields = dict(
        line.split(": ", 1) for line in head.splitlines() if ": " in line and line[0] != "#"
    )
    return fields, [line for line in body.splitlines() if line.strip() and line[0] != "#"]


async def prepare(house: House, fields: dict[str, str], messages: list[bytes]) -> list[Client]:
    state = STATES.index(fields.get("state", "selected"))
    if fields.get("capabilities") == "id":
        state = STATES.index("auth")
    count = int(fields.get("connections", "1"))
    clients = [await house.client() if state >= 1 else house.connect() for _ in range(count)]
    if state >= 2:
        assert b"A OK" in await clients[0].command(f"CREATE {MAILBOX}")
    if state >= 3:
        limit = fields.get("messages", "all")
        wanted = len(messages) if limit == "all" else int(limit)
        for at in range(wanted):
            answer = await clients[0].append(messages[at % len(messages)], mailbox=MAILBOX)
            assert b"A OK" in answer
    if state >= 4:
        for client in clients:
            assert b"A OK" in await client.command(f"SELECT {MAILBOX}")
    return clients


def lines_of(answer: bytes) -> list[str]:
    """Responses, with their literals inside."""
    text = answer.decode("utf-8", "surrogateescape")
    out: list[str] = []
    current = ""
    while text:
        line, _, text = text.partition("\r\n")
        current += line
        literal = re.search(r"\{(\d+)\}\Z", line)
        if literal is None:
            out.append(current)
            current = ""
            continue
        size = int(literal[1])
        current += "\r\n" + text[:size]
        text = text[size:]
    return out


async def run(script: Script, lines: list[str], messages: list[bytes]) -> int:
    """Command by command; how many replies were compared."""
    at = compared = appended = 0
    while at < len(lines):
        line = lines[at]
        at += 1
        client, line = pick(script, line)
        expects: list[str] = []
        commands, results = [line], []
        while at < len(lines):
            follows = lines[at]
            if follows[:2] in ("* ", "! "):
                expects.append(follows)
                at += 1
                continue
            _, rest = pick(script, follows)
            if is_result(rest):
                results.append(rest)
                at += 1
                continue
            if results or is_method_1(line) or not is_tagged(line) or not is_tagged(rest):
                break
            commands.append(rest)
            at += 1
        octets, wanted = b"", []
        for number, command in enumerate(commands):
            words, result = split_command(command)
            text = script.filled(words)
            if text.lower().startswith("append"):
                text, octets_of = append_command(text, messages[appended % len(messages)])
                appended += 1
            else:
                octets_of = b""
            octets += f"x{number} {text}".encode() + octets_of + b"\r\n"
            wanted.append(result)
        if results:
            wanted = [result_of(result) for result in results]
        answer = lines_of(await client.exchange(octets))
        compared += compare(script, answer, wanted, expects)
    return compared


def compare(script: Script, answer: list[str], wanted: list[str], expects: list[str]) -> int:
    tagged = [line.split(" ", 1)[1] for line in answer if line[0] == "x"]
    assert len(tagged) == len(wanted), answer
    for got, result in zip(tagged, wanted):
        assert got.lower().startswith(result.lower()), (got, result)
    untagged = [line[2:] for line in answer if line.startswith("* ")]
    for expected in expects:
        found = next((line for line in untagged if script.fits(expected[2:], line)), None)
        if expected[0] == "!":
            assert found is None, expected
        else:
            assert found is not None, (expected, answer)
            untagged.remove(found)
    return len(expects) + len(wanted)


def pick(script: Script, line: str) -> tuple[Client, str]:
    """The connection a line is for."""
    if len(script.clients) > 1 and re.match(r"\d+ ", line):
        number, _, line = line.partition(" ")
        return script.clients[int(number) - 1], line
    return script.clients[0], line


def is_method_1(line: str) -> bool:
    return re.match(r'(?i)(ok|no|bad|"") ', line) is not None


def is_tagged(line: str) -> bool:
    return re.match(r"tag\d+ ", line) is not None


def is_result(line: str) -> bool:
    return re.match(r"(?i)(tag\d+ )?(ok|no|bad)( \[|\Z)", line) is not None


def result_of(line: str) -> str:
    return re.sub(r"\Atag\d+ ", "", line)


def split_command(line: str) -> tuple[str, str]:
    """The command, and the result named in front of it."""
    if is_method_1(line):
        result, _, line = line.partition(" ")
        return line, result.strip('"')
    return re.sub(r"\Atag\d+ ", "", line), ""


def append_command(text: str, octets: bytes) -> tuple[str, bytes]:
    """APPEND with the next message, to the test's mailbox unless one is named."""
    words = text.split(" ", 1)
    rest = words[1] if len(words) > 1 else MAILBOX
    return f"APPEND {rest} {{{len(octets)}+}}", b"\r\n" + octets


@pytest.mark.parametrize("group", GROUPS)
async def test_imaptest_script(group: str, house: House, vectors: Path) -> None:
    folder = vectors / "imap" / "imaptest"
    if not folder.is_dir():
        pytest.skip("the vectors hold no imaptest scripts (dovecot/imaptest, src/tests)")
    fields, lines = parse((folder / group).read_text(encoding="utf-8"))
    messages = messages_of(folder, group)
    script = Script(await prepare(house, fields, messages))
    assert await run(script, lines, messages) > 0
