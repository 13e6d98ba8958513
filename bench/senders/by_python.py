"""Sends `count` messages with one of Python's ways; prints {"seconds", "cpu_s", "rss_mib", "sent"}.

  by_python.py WAY HOST PORT COUNT CONNECTIONS KIND [KEYFILE]

WAY: posthouse (AsyncTransport), posthouse-sync (Transport in as many threads), aiosmtplib, smtplib.
KIND: text, html (with an attachment of 20 KiB), dkim (as html, signed with RSA-2048).
"""
import asyncio
import json
import resource
import smtplib
import sys
import threading
import time
from email.message import EmailMessage

LINE = "this line is as long as lines of letters mostly are, or nearly.\n"
TEXT = "Dear reader,\n\n" + LINE * 14
HTML = "<p>" + TEXT.replace("\n", "<br>\n") + "</p>"
DATA = bytes([7]) * 20480


def stdlib_message(n, kind, key):
    made = EmailMessage()
    made["From"] = "Ada Lovelace <ada@bench.test>"
    made["To"] = f"Bob <bob{n}@sink.test>"
    made["Subject"] = f"Letter number {n}"
    made["Message-ID"] = f"<{n}.{time.time_ns()}@bench.test>"
    made["Date"] = "Thu, 26 Nov 2026 10:00:00 +0000"
    made.set_content(TEXT)
    if kind != "text":
        made.add_alternative(HTML, subtype="html")
        made.add_attachment(DATA, maintype="application", subtype="octet-stream", filename="data.bin")
    if kind != "dkim":
        return made
    import dkim

    octets = made.as_bytes(policy=made.policy.clone(linesep="\r\n"))
    field = dkim.sign(octets, b"s1", b"bench.test", key)
    return field + octets


def posthouse_message(n, kind):
    from posthouse.sending import Attachment, Message

    more = {}
    if kind != "text":
        more = {"html": HTML, "attachments": [Attachment(content=DATA, filename="data.bin")]}
    return Message(
        sender="Ada Lovelace <ada@bench.test>",
        to=f"Bob <bob{n}@sink.test>",
        subject=f"Letter number {n}",
        text=TEXT,
        **more,
    )


def options(host, port, connections, kind, key_file):
    given = {
        "host": host,
        "port": port,
        "tls": "off",
        "connections_max": connections,
        "messages_per_connection_max": 1_000_000,
    }
    if kind == "dkim":
        from posthouse.sending import Dkim

        given["dkim"] = Dkim(domain="bench.test", selector="s1", key=open(key_file, "rb").read())
    return given


async def by_posthouse(host, port, count, connections, kind, key_file):
    from posthouse.sending import AsyncTransport

    sent = 0
    async with AsyncTransport(**options(host, port, connections, kind, key_file)) as transport:
        async for each in transport.send_all(posthouse_message(n, kind) for n in range(count)):
            sent += each.receipt is not None
    return sent


def by_posthouse_sync(host, port, count, connections, kind, key_file):
    from posthouse.sending import Transport

    with Transport(**options(host, port, connections, kind, key_file)) as transport:
        return sum(
            each.receipt is not None
            for each in transport.send_all(posthouse_message(n, kind) for n in range(count))
        )


async def by_aiosmtplib(host, port, count, connections, kind, key):
    import aiosmtplib

    numbers, sent = iter(range(count)), 0

    async def one():
        nonlocal sent
        client = aiosmtplib.SMTP(hostname=host, port=port, use_tls=False, start_tls=False)
        await client.connect()
        for n in numbers:
            made = stdlib_message(n, kind, key)
            if isinstance(made, bytes):
                await client.sendmail("ada@bench.test", [f"bob{n}@sink.test"], made)
            else:
                await client.send_message(made)
            sent += 1
        await client.quit()

    await asyncio.gather(*(one() for _ in range(connections)))
    return sent


def by_smtplib(host, port, count, connections, kind, key):
    numbers, sent, lock = iter(range(count)), [], threading.Lock()

    def one():
        client = smtplib.SMTP(host, port)
        while True:
            with lock:
                n = next(numbers, None)
            if n is None:
                break
            made = stdlib_message(n, kind, key)
            if isinstance(made, bytes):
                client.sendmail("ada@bench.test", [f"bob{n}@sink.test"], made)
            else:
                client.send_message(made)
            sent.append(n)
        client.quit()

    threads = [threading.Thread(target=one) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(sent)


def main():
    way, host, port, count, connections, kind, *rest = sys.argv[1:]
    key_file = rest[0] if rest else ""
    key = open(key_file, "rb").read() if key_file else b""
    port, count, connections = int(port), int(count), int(connections)
    began, cpu = time.perf_counter(), time.process_time()
    if way == "posthouse":
        import uvloop

        sent = uvloop.run(by_posthouse(host, port, count, connections, kind, key_file))
    elif way == "posthouse-sync":
        sent = by_posthouse_sync(host, port, count, connections, kind, key_file)
    elif way == "aiosmtplib":
        import uvloop

        sent = uvloop.run(by_aiosmtplib(host, port, count, connections, kind, key))
    else:
        sent = by_smtplib(host, port, count, connections, kind, key)
    print(
        json.dumps(
            {
                "seconds": time.perf_counter() - began,
                "cpu_s": time.process_time() - cpu,
                "rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "sent": sent,
            }
        )
    )


if __name__ == "__main__":
    main()
