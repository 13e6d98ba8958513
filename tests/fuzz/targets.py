"""What is fuzzed: each parser of what a stranger sends, with inputs to begin from. Those of mail
authentication are in `authentication`, those of reports and transport policies in `reports`."""

from __future__ import annotations

import re
from collections.abc import Hashable
from pathlib import Path

from posthouse.config import settings
from posthouse.config.host import FixedHost
from posthouse.kernel.ports import RecordType
from posthouse.message import dsn, preview
from posthouse.message.address import AddressError, format_address, parse_mailbox
from posthouse.message.address_list import parse_address_list
from posthouse.message.dates import parse_date
from posthouse.message.fields import from_fault, read_section
from posthouse.message.html import to_words
from posthouse.message.mime import content, scan
from posthouse.message.parameters import parse_disposition, parse_type
from posthouse.message.words import decode
from posthouse.net.proxy import ProxyError, parse_proxy
from posthouse.protocol.dns.grammar import read_response
from posthouse.protocol.imap import structure, utf7
from posthouse.protocol.imap.server import Phase
from posthouse.protocol.sasl.events import Challenge
from posthouse.protocol.sasl.grammar import SaslSyntaxError, decode_base64
from posthouse.protocol.sasl.server import MECHANISMS, server_mechanism
from posthouse.protocol.smtp.client import ClientSession
from posthouse.protocol.smtp.client_events import Ready
from posthouse.protocol.smtp.reply_reader import Nonsense, ReplyReader
from tests.fuzz import authentication, mimesec_pgp, mimesec_smime, reports, samples
from tests.fuzz.target import Target
from tests.protocol.imap.runs import machine, run
from tests.protocol.pop3.test_server import DIALOGUE, Client
from tests.protocol.smtp.dialogue import MachinePeer, all_dialogues
from tests.protocol.smtp.test_client import message

DIALOGUES = Path(__file__).parent.parent / "dialogues"
ITEM = re.compile(rb'[()]| |"(?:[^"\\\r\n\0\x80-\xff]|\\["\\])*"|\{([0-9]+)\}\r\n|NIL|[0-9]+')
CONTROLS = re.compile(r"[\0-\x08\x0a-\x1f\x7f]")


def is_one_list(text: bytes) -> bool:
    """Whether it is one IMAP list, its strings closed; 8-bit octets stand in literals only."""
    depth = at = 0
    while at < len(text):
        found = ITEM.match(text, at)
        if found is None:
            return False
        at = found.end() + int(found[1] or 0)
        depth += (found[0] == b"(") - (found[0] == b")")
        if depth == 0:
            return at == len(text)
    return False


def smtp_server(octets: bytes) -> Hashable:
    peer = MachinePeer({"mode": "submission", "tls": "yes", "hello": "mechanisms=PLAIN,LOGIN"})
    stranger = MachinePeer()
    for each in (peer, stranger):
        each.send(octets)
        assert each.written.endswith(b"\r\n")
        assert all(line[:3].isdigit() for line in each.written.splitlines())
    codes = re.findall(rb"^[0-9]{3}", stranger.written + peer.written, re.MULTILINE)
    return tuple(codes[:20]), stranger.ended


def smtp_replies(octets: bytes) -> Hashable:
    reader, seen = ReplyReader(), []
    reader.receive(octets)
    while (reply := reader.next_reply()) is not None:
        seen.append("nonsense" if isinstance(reply, Nonsense) else (reply.code, reply.status))
        if isinstance(reply, Nonsense):
            break
    return tuple(seen[:10])


def smtp_client(octets: bytes) -> Hashable:
    session, seen = ClientSession(name="client.example"), []
    for line in octets.splitlines(keepends=True):
        session.receive(line)
        while (event := session.next_event()) is not None:
            seen.append(type(event).__name__)
            if isinstance(event, Ready):
                session.send(message("bob", "carol"))
        while session.take_outgoing():
            pass
    return tuple(seen), session.is_over


def imap_server(octets: bytes) -> Hashable:
    seen: list[Hashable] = []
    for phase in (Phase.GREETED, Phase.SELECTED):
        events, said = run(machine(phase), octets)
        assert not said or said.endswith(b"\r\n")
        seen.append((*(type(event).__name__ for event in events[:20]), said[:12]))
    return tuple(seen)


def pop3_server(octets: bytes) -> Hashable:
    client = Client()
    client.send(octets)
    assert not client.replies or client.replies.endswith(b"\r\n")
    return tuple(line[:8] for line in client.replies.splitlines()[:20])


def mime(octets: bytes) -> Hashable:
    root = scan(octets)
    rendered = structure.render(octets)
    for text in (rendered.envelope, rendered.bodystructure, rendered.body):
        assert is_one_list(text), text
    parts = list(root.walk())
    for part in parts:
        content(part, octets_max=1000)
    assert not CONTROLS.search(preview.preview(octets))
    return len(parts), rendered.bodystructure.count(b"("), root.is_ambiguous


def header(octets: bytes) -> Hashable:
    section = read_section(octets)
    for field in section.fields:
        assert not CONTROLS.search(decode(section.value(field)))
    return len(section.fields), from_fault(section)


def field_values(octets: bytes) -> Hashable:
    addresses = parse_address_list(octets)
    return (
        len(addresses.items),
        parse_date(octets) is None,
        parse_type(octets) is None,
        parse_disposition(octets) is None,
        len(to_words(octets.decode("latin-1"))) // 16,
    )


def address(octets: bytes) -> Hashable:
    try:
        found = parse_mailbox(octets.decode("utf-8", "surrogateescape"))
    except AddressError as error:
        return error.fault
    assert parse_mailbox(format_address(found)) == found
    return len(found.local_part), "." in found.domain


def mailbox_name(octets: bytes) -> Hashable:
    try:
        name = utf7.decode(octets)
    except ValueError:
        return None
    return utf7.decode(utf7.encode(name)) == name, len(name)


def notice(octets: bytes) -> Hashable:
    report = dsn.parse(octets)
    return report and tuple((one.action, one.status) for one in report.recipients[:5])


def dns_answer(octets: bytes) -> Hashable:
    name, kind = "example.org", RecordType.MX
    answer = read_response(octets, name=name, record_type=kind, message_id=7)
    return type(answer).__name__, getattr(answer, "detail", "")


def proxy_header(octets: bytes) -> Hashable:
    try:
        found = parse_proxy(octets)
    except ProxyError as error:
        return str(error)[:20]
    return found is None


def sasl(octets: bytes) -> Hashable:
    """Each line a response, to a fresh exchange of each mechanism."""
    seen: list[Hashable] = []
    for name in MECHANISMS:
        exchange = server_mechanism(name)
        assert exchange is not None
        for line in octets.split(b"\n")[:4]:
            try:
                step = exchange.step(decode_base64(line))
            except SaslSyntaxError as error:
                seen.append(str(error)[:20])
                continue
            seen.append(type(step).__name__)
            if not isinstance(step, Challenge):
                break
    return tuple(seen)


def config(octets: bytes) -> Hashable:
    try:
        loaded = settings.read(octets.decode("utf-8", "replace"), "x.toml", FixedHost())
    except settings.ConfigError as error:
        assert all("\n" not in str(problem) for problem in error.problems)
        return tuple(problem.text[:12] for problem in error.problems[:3])
    return tuple(loaded.origins)[:5]


def _smtp_seeds() -> tuple[bytes, ...]:
    sent = (
        b"".join(step.value for step in dialogue.steps if step.kind == "C")
        for dialogue in all_dialogues()
    )
    return tuple(octets for octets in sent if 0 < len(octets) < 8192)


def _imap_seeds() -> tuple[bytes, ...]:
    seeds = []
    for path in sorted((DIALOGUES / "imap").glob("*.txt")):
        lines = path.read_text("utf-8").splitlines()
        seeds.append("".join(f"{line[3:]}\r\n" for line in lines if line.startswith("C:")).encode())
    return tuple(seeds)


TARGETS = (
    Target("smtp-server", smtp_server, _smtp_seeds()),
    Target("smtp-replies", smtp_replies, samples.REPLIES),
    Target("smtp-client", smtp_client, samples.REPLIES),
    Target("imap-server", imap_server, _imap_seeds()),
    Target("pop3-server", pop3_server, (DIALOGUE, *samples.POP3)),
    Target("mime", mime, samples.MESSAGES),
    Target("header", header, samples.MESSAGES),
    Target("field-values", field_values, samples.FIELD_VALUES),
    Target("address", address, samples.ADDRESSES),
    Target("mailbox-name", mailbox_name, samples.MAILBOX_NAMES),
    Target("notice", notice, samples.MESSAGES),
    Target("dns-answer", dns_answer, samples.DNS_ANSWERS),
    Target("proxy-header", proxy_header, samples.PROXY_HEADERS),
    Target("sasl", sasl, samples.SASL),
    Target("config", config, samples.CONFIGS),
    *authentication.TARGETS,
    *reports.TARGETS,
    *mimesec_smime.TARGETS,
    *mimesec_pgp.TARGETS,
)
