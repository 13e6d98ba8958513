"""What Posthouse's pure code costs per message and per octet: microseconds, best of several runs.

  micro.py                       all cases
  micro.py --only machine,end    some of them
  micro.py --json                one record instead of the table

machine   MAIL, RCPT, DATA and the content through the SMTP server machine, in segments of 64 KiB
bdat      the same by BDAT
stuff     the content on its way out through the client, dots doubled
prepare   what a delivery renders of a message before its commit, hash included
render    of that the MIME scan with BODYSTRUCTURE and ENVELOPE
envelope  ENVELOPE alone, from a header section read before
end       the search for a content's end, by its rare octet beside a plain find, in text of all kinds
newlines  the search for bare CR and LF, beside counting

Nothing is sent anywhere; runs on any machine with Posthouse importable. A neighbour's load doubles
such figures easily, so the best run counts.
"""
import argparse
import base64
import json
import random
import timeit
from collections.abc import Callable, Iterator

from posthouse.kernel.reply import Reply
from posthouse.mailbox.append import prepare
from posthouse.message import mime
from posthouse.message.fields import read_section
from posthouse.message.search import find_marker
from posthouse.protocol.imap import structure
from posthouse.protocol.smtp.content import END, has_bare_newline
from posthouse.protocol.smtp.events import DataRequested, HelloReceived, MessageReceived
from posthouse.protocol.smtp.limits import Limits, Mode, ServerHello
from posthouse.protocol.smtp.outgoing import OutgoingContent
from posthouse.protocol.smtp.server import ServerSession

SEGMENT_OCTETS = 65_536
OK = Reply(250, "2.0.0", "ok")
HEAD = (
    b"Return-Path: <p17@remote.test>\r\n"
    b"Received: from mail3.remote.test (mail3.remote.test [192.0.2.17])\r\n"
    b"\tby mx.bench.test with ESMTPS id 00c0ffee\r\n"
    b"\tfor <u0@bench.test>; Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\n"
    b"From: Ada Weaver <p17@remote.test>\r\n"
    b"To: Bench User <u0@bench.test>\r\n"
    b"Subject: Quarterly figures\r\n"
    b"Message-ID: <00000017@remote.test>\r\n"
    b"MIME-Version: 1.0\r\n"
)
WORDS = b"the mail house keeps what it was given and. says so, well-known words of no - weight".split()


def text(octets: int) -> bytes:
    """Words in CRLF lines of about 72 octets, a sentence here and there."""
    rng = random.Random(7)
    lines: list[bytes] = []
    size = 0
    while size < octets:
        line = b" ".join(rng.choices(WORDS, k=13)) + b"\r\n"
        lines.append(line)
        size += len(line)
    return b"".join(lines)


def base64_lines(octets: int) -> bytes:
    digits = base64.encodebytes(random.Random(7).randbytes(octets * 57 // 78))
    return digits.replace(b"\n", b"\r\n")


def small(octets: int) -> bytes:
    """One text part."""
    return HEAD + b"Content-Type: text/plain; charset=us-ascii\r\n\r\n" + text(octets - len(HEAD))


def two_parts(octets: int) -> bytes:
    """A text and an attachment."""
    return b"".join(
        (
            HEAD,
            b'Content-Type: multipart/mixed; boundary="=-frontier-17"\r\n\r\n',
            b"--=-frontier-17\r\nContent-Type: text/plain\r\n\r\n",
            text(2000),
            b"-- \r\nAda\r\n--=-frontier-17\r\n",
            b'Content-Type: application/pdf; name="figures.pdf"\r\n',
            b'Content-Disposition: attachment; filename="figures.pdf"\r\n',
            b"Content-Transfer-Encoding: base64\r\n\r\n",
            base64_lines(octets - 3000),
            b"--=-frontier-17--\r\n",
        )
    )


MESSAGES = {
    "4 KiB text": small(4 << 10),
    "100 KiB, two parts": two_parts(100 << 10),
    "1 MiB, two parts": two_parts(1 << 20),
    "1 MiB text": small(1 << 20),
}
MIB = 1 << 20
SEGMENTS = {
    "base64": base64_lines(MIB),
    "text": text(MIB),
    "dots only": b"." * MIB,
    "dot, letter": b".a" * (MIB // 2),
    "lines of a dot and more": b"..a\r\n" * (MIB // 5),
    "CRLF only": b"\r\n" * (MIB // 2),
}

Case = tuple[str, Callable[[], object]]


def session() -> ServerSession:
    made = ServerSession(
        limits=Limits(transactions_max=10**9), hello=ServerHello(host="mx.example"), mode=Mode.MX
    )
    made.greet()
    made.receive(b"EHLO client.example\r\n")
    event = made.next_event()
    assert isinstance(event, HelloReceived)
    made.accept_hello()
    made.take_outgoing()
    return made


def transaction(made: ServerSession, segments: list[bytes]) -> MessageReceived:
    """The caller's part of a transaction, everybody accepted."""
    for segment in segments:
        made.receive(segment)
        while True:
            event = made.next_event()
            if event is None:
                if not made.take_outgoing():
                    break
            elif type(event) is MessageReceived:
                made.answer(OK)
                made.take_outgoing()
                return event
            elif type(event) is DataRequested:
                made.accept_data()
            else:
                made.answer(OK)
    raise AssertionError("the message did not end")


def cut(octets: bytes) -> list[bytes]:
    return [octets[at : at + SEGMENT_OCTETS] for at in range(0, len(octets), SEGMENT_OCTETS)]


def machine_cases() -> Iterator[Case]:
    commands = [b"MAIL FROM:<p17@remote.test>\r\nRCPT TO:<u0@bench.test>\r\nDATA\r\n"]
    for name, octets in MESSAGES.items():
        made, segments = session(), commands + cut(octets + b".\r\n")
        assert transaction(made, segments).octets == octets
        yield name, lambda made=made, segments=segments: transaction(made, segments)


def bdat_cases() -> Iterator[Case]:
    for name, octets in MESSAGES.items():
        commands = b"MAIL FROM:<p17@remote.test>\r\nRCPT TO:<u0@bench.test>\r\n"
        made, segments = session(), cut(commands + b"BDAT %d LAST\r\n" % len(octets) + octets)
        assert transaction(made, segments).octets == octets
        yield name, lambda made=made, segments=segments: transaction(made, segments)


def stuffed(octets: bytes) -> int:
    content = OutgoingContent(octets, is_stuffed=True)
    size = 0
    while not content.is_sent:
        size += len(content.take())
    return size


def stuff_cases() -> Iterator[Case]:
    for name, octets in MESSAGES.items():
        yield name, lambda octets=octets: stuffed(octets)


def prepare_cases() -> Iterator[Case]:
    for name, octets in MESSAGES.items():
        section = read_section(octets)
        yield name, lambda octets=octets, section=section: prepare(octets, section)


def render_cases() -> Iterator[Case]:
    for name, octets in MESSAGES.items():
        section = read_section(octets)
        yield (
            name,
            lambda octets=octets, section=section: structure.render_part(
                mime.scan(octets, section=section)
            ),
        )


def envelope_cases() -> Iterator[Case]:
    section = read_section(MESSAGES["4 KiB text"])
    yield "of a section", lambda: structure.envelope(section)
    octets = MESSAGES["4 KiB text"]
    yield "section read as well", lambda: structure.envelope(read_section(octets))


def end_cases() -> Iterator[Case]:
    for name, octets in SEGMENTS.items():
        assert octets.find(END) == find_marker(octets, END, 2) == -1
        yield f"{name}: plain", lambda octets=octets: octets.find(END)
        yield f"{name}: rare octet", lambda octets=octets: find_marker(octets, END, 2)


def counted(octets: bytes) -> bool:
    lines = octets.count(b"\r\n")
    return octets.count(b"\n") != lines or octets.count(b"\r") != lines


def newlines_cases() -> Iterator[Case]:
    for name, octets in SEGMENTS.items():
        assert counted(octets) == has_bare_newline(octets)
        yield f"{name}: counted", lambda octets=octets: counted(octets)
        yield f"{name}: decoded", lambda octets=octets: has_bare_newline(octets)


GROUPS = {
    "machine": machine_cases,
    "bdat": bdat_cases,
    "stuff": stuff_cases,
    "prepare": prepare_cases,
    "render": render_cases,
    "envelope": envelope_cases,
    "end": end_cases,
    "newlines": newlines_cases,
}


def best_us(run: Callable[[], object], seconds: float) -> float:
    timer = timeit.Timer(run)
    once = max(timer.timeit(1), 1e-7)
    count = max(1, int(seconds / 7 / once))
    return min(timer.repeat(repeat=7, number=count)) / count * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default=",".join(GROUPS), help="groups, comma between them")
    parser.add_argument("--seconds", type=float, default=0.3, help="for each case")
    parser.add_argument("--json", action="store_true", help="one JSON record")
    options = parser.parse_args()
    record: dict[str, dict[str, float]] = {}
    for group in options.only.split(","):
        for name, run in GROUPS[group]():
            us = best_us(run, options.seconds)
            record.setdefault(group, {})[name] = round(us, 2)
            if not options.json:
                print(f"{group:10} {name:36} {us:10.1f} µs", flush=True)
    if options.json:
        print(json.dumps(record))


if __name__ == "__main__":
    main()
