"""The host at the other end of the relay: takes mail and writes down what came, before its 250.

`python -m tests.crash.sink PORT FILE`; ends with its standard input. A recipient whose local-part
begins with "refuse" is refused for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time

from tests.crash.books import fingerprint


async def _session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, book: int) -> None:
    recipients: list[str] = []
    writer.write(b"220 sink.test ESMTP\r\n")
    while line := await reader.readline():
        verb = line[:4].upper()
        if verb == b"EHLO":
            writer.write(b"250-sink.test\r\n250-PIPELINING\r\n250-SIZE\r\n250 8BITMIME\r\n")
        elif verb == b"MAIL":
            recipients = []
            writer.write(b"250 ok\r\n")
        elif verb == b"RCPT":
            address = line[line.index(b"<") + 1 : line.index(b">")].decode()
            if address.startswith("refuse"):
                writer.write(b"550 5.1.1 nobody here by that name\r\n")
            else:
                recipients.append(address)
                writer.write(b"250 ok\r\n")
        elif verb == b"DATA" and recipients:
            writer.write(b"354 go on\r\n")
            octets = (await reader.readuntil(b"\r\n.\r\n"))[:-3]
            octets = octets.replace(b"\r\n..", b"\r\n.")
            number, digest = fingerprint(octets)
            for address in recipients:
                os.write(book, f"{number} {address} {digest} {time.monotonic()}\n".encode())
            writer.write(b"250 2.0.0 taken\r\n")
        elif verb == b"QUIT":
            writer.write(b"221 bye\r\n")
            break
        else:
            writer.write(b"250 ok\r\n" if verb == b"RSET" else b"554 5.5.1 no\r\n")
    writer.close()


async def _serve(port: int, path: str) -> None:
    book = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await _session(reader, writer, book)
        writer.close()

    async with await asyncio.start_server(session, "127.0.0.1", port, limit=2**22):
        print("listening", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        os._exit(0)  # sessions may be open still


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), sys.argv[2]))
