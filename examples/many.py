"""Thousands of letters, one for each line of a file, without holding them all in memory.

  python many.py URL SENDER FILE [PER_SECOND]

Letters are made when there is room to send them; results come as they come, not in order.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

from posthouse.sending import ListFields, Message, Transport


def letters(sender: str, file: Path) -> Iterator[Message]:
    with file.open(encoding="utf-8") as lines:
        for line in lines:
            if address := line.strip():
                yield Message(
                    sender=sender,
                    to=address,
                    subject="What is new this month",
                    text="Dear reader,\n\nnothing much is new.\n",
                    list=ListFields(
                        unsubscribe=f"https://example.org/unsubscribe?who={address}",
                        is_one_click=True,
                    ),
                    tag=address,
                )


def main(url: str, sender: str, file: str, per_second: str = "0") -> int:
    failed = 0
    with Transport(url, connections_max=5, rate=int(per_second)) as transport:
        for sent in transport.send_all(letters(sender, Path(file))):
            if sent.receipt is None:
                failed += 1
                print(f"{sent.tag}: {sent.error}", file=sys.stderr)
            else:
                print(f"{sent.tag}: {sent.receipt.response}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
