"""Random histories of several sessions: what each was told adds up to what there is (P7)."""

from __future__ import annotations

import random
import re

import pytest

from tests.access.imap.house import Client, House, message

UNTAGGED = re.compile(rb"\* (\d+) (EXISTS|EXPUNGE|FETCH \((.*)\))\r\n")
FLAGS = ("\\Seen", "\\Flagged", "\\Deleted", "Todo", "\\Answered")


class Mirror:
    """A client that believes every untagged response."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.messages: list[dict[str, object]] = []

    async def command(self, text: str) -> bytes:
        answer = await self.client.command(text)
        if ".SILENT" in text:  # whoever asks not to be told works it out; this one forgets
            for told in self.messages:
                told.pop("flags", None)
        self.believe(answer)
        word = text.split(" ")[0]
        if word in ("FETCH", "STORE", "SEARCH"):  # RFC 3501 §7.4.1
            assert b" EXPUNGE\r\n" not in answer
        return answer

    def believe(self, answer: bytes) -> None:
        for found in UNTAGGED.finditer(answer):
            number = int(found[1])
            if found[2] == b"EXISTS":
                assert number >= len(self.messages)
                self.messages += [{} for _ in range(number - len(self.messages))]
            elif found[2] == b"EXPUNGE":
                assert 1 <= number <= len(self.messages)
                del self.messages[number - 1]
            else:
                told = self.messages[number - 1]
                if uid := re.search(rb"UID (\d+)", found[3]):
                    assert told.setdefault("uid", int(uid[1])) == int(uid[1])
                if flags := re.search(rb"FLAGS \(([^)]*)\)", found[3]):
                    told["flags"] = frozenset(flags[1].split()) - {b"\\Recent"}


async def look(client: Client) -> list[tuple[int, frozenset[bytes]]]:
    """All messages as one who comes now sees them."""
    answer = await client.command("FETCH 1:* (UID FLAGS)")
    lines = re.findall(rb"\* \d+ FETCH \(UID (\d+) FLAGS \(([^)]*)\)\)\r\n", answer)
    return [(int(uid), frozenset(flags.split()) - {b"\\Recent"}) for uid, flags in lines]


def choose(chance: random.Random, count: int) -> str:
    number = chance.randint(1, max(count, 1))
    flags = " ".join(chance.sample(FLAGS, chance.randint(0, 3)))
    sign = chance.choice(("", "+", "-"))
    several = f"{number}:{chance.choice(('*', str(chance.randint(1, count + 2))))}"
    return chance.choice(
        (
            f"STORE {number} {sign}FLAGS ({flags})",
            f"STORE {several} {sign}FLAGS.SILENT ({flags})",
            f"UID STORE {several} +FLAGS (\\Deleted)",
            f"FETCH {several} FLAGS",
            f"UID FETCH {several} (UID FLAGS ENVELOPE)",
            f"FETCH {number} BODY[TEXT]",
            f"COPY {number} INBOX",
            f"MOVE {number} Trash",
            f"UID MOVE {several} INBOX",
            "SEARCH UNSEEN",
            "UID SEARCH DELETED",
            "EXPUNGE",
            "NOOP",
            "CHECK",
            "append",
            "append",
            "append",
            "idle",
        )
    )


@pytest.mark.parametrize("seed", range(12))
async def test_what_sessions_were_told_adds_up_to_what_there_is(seed: int, house: House) -> None:
    chance = random.Random(seed)
    mirrors = [Mirror(await house.client(mailbox="INBOX")) for _ in range(3)]
    for _ in range(60):
        mirror = chance.choice(mirrors)
        text = choose(chance, len(mirror.messages))
        if text == "append":
            mirror.believe(await mirror.client.append(message()))
        elif text == "idle":
            mirror.believe(await mirror.client.exchange(b"i IDLE\r\n"))
            other = chance.choice([one for one in mirrors if one is not mirror])
            await other.command("NOOP")
            other.believe(await other.client.append(message()))
            await mirror.client.settle()
            mirror.believe(await mirror.client.exchange(b"DONE\r\n"))
        else:
            answer = await mirror.command(text)
            assert re.search(rb"A (OK|NO) ", answer), (text, answer)
    there = await look(await house.client(mailbox="INBOX"))
    uids = [uid for uid, _ in there]
    assert uids == sorted(set(uids))
    for mirror in mirrors:
        await mirror.command("NOOP")
        await mirror.command("NOOP")
        assert len(mirror.messages) == len(there)
        for told, (uid, flags) in zip(mirror.messages, there):
            assert told.get("uid", uid) == uid
            assert told.get("flags", flags) == flags, (uid, told)
        assert await look(mirror.client) == there
