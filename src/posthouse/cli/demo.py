"""`posthouse demo`: two servers, their DNS and their people on loopback, with mail between them.

It needs no privilege, no config and no network, and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import msgspec
import uvloop

from posthouse.accounts.password import Cost
from posthouse.cli.output import CommandError, ExitCode, say, show_text
from posthouse.config.schema import STANDARD_PORTS, Service
from posthouse.kernel.errors import UserError
from posthouse.net.own_process import keep_memory_private
from posthouse.observe.log import Put
from posthouse.observe.options import LogFormat, LogLevel, LogOptions
from posthouse.observe.sink import ThreadSink
from posthouse.sim.ground import Loopback
from posthouse.sim.lab import Lab, LabNode, NeverHappened

PORT_BASE: Final = 2500
PORT_BASE_MAX: Final = 64_000
DNS_SHIFT: Final = 53
PASSWORD: Final = "posthouse-demo"  # noqa: S105  printed for everybody who runs it
DOMAINS: Final = {"north.example": ("ada", "alan"), "south.example": ("bob", "grace")}
ADA, ALAN = "ada@north.example", "alan@north.example"
BOB, GRACE = "bob@south.example", "grace@south.example"
NOBODY = "nobody@south.example"
LINES_WAITING_MAX: Final = 10_000
NOTES: Final = (
    "Minutes of the meeting\n\n1. The house stands.\n2. Somebody has to water the plants.\n"
)


class Advice(msgspec.Struct, frozen=True):
    """A command to paste, and what it does."""

    what: str
    command: str


@click.command()
@click.option(
    "--port-base",
    type=click.IntRange(1_024, PORT_BASE_MAX),
    default=PORT_BASE,
    show_default=True,
    metavar="N",
    help="Listen on N+25, N+587, N+465, N+143, N+993, N+110, N+995; the DNS on N+53.",
)
@click.option("--verbose", "-v", is_flag=True, help="Show the log of both servers.")
@click.option("--exit-after", type=float, metavar="SECONDS", hidden=True)
def demo(port_base: int, verbose: bool, exit_after: float | None) -> int:
    """Run two servers with their own DNS on loopback, with mail between them, until Ctrl-C."""
    keep_memory_private()
    sink = ThreadSink("", lines_waiting_max=LINES_WAITING_MAX) if verbose else None
    try:
        with tempfile.TemporaryDirectory(prefix="posthouse-demo-") as folder:
            put = sink.put if sink is not None else None
            uvloop.run(_run(Path(folder), port_base, put, exit_after))
    finally:
        if sink is not None:
            sink.close()
    say("stopped; nothing is left behind")
    return ExitCode.OK


async def _run(folder: Path, port_base: int, put: Put | None, exit_after: float | None) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    lab = Lab(
        _ground(port_base),
        domains=DOMAINS,
        folder=folder,
        password=PASSWORD,
        put=put,
        log_options=LogOptions(format=LogFormat.TEXT, level=LogLevel.INFO),
    )
    try:
        await lab.__aenter__()
    except (UserError, OSError) as error:
        raise _cannot_start(error) from error
    try:
        for node in lab.nodes.values():
            lab.zones.add(f"_dmarc.{node.domain}", "TXT", '"v=DMARC1; p=reject"')
        bounced = await _exchange(lab)
        for node in lab.nodes.values():
            _config_file(node).write_text(_config_text(lab, node), encoding="utf-8")
        for line in guide(lab, bounced):
            show_text(line)
        try:
            async with asyncio.timeout(exit_after):
                await stop.wait()
        except TimeoutError:
            pass
        say("stopping")
    finally:
        await lab.__aexit__(None, None, None)


def _ground(port_base: int) -> Loopback:
    return Loopback(
        network="127.0.0",
        port_base=port_base,
        dns_port=port_base + DNS_SHIFT,
        password_cost=Cost(),
    )


def _cannot_start(error: UserError | OSError) -> CommandError:
    text = error.text if isinstance(error, UserError) else (error.strerror or str(error))
    hint = (
        "choose other ports with --port-base N (make demo PORT_BASE=N), or stop the other demo if"
        " there is one"
    )
    return CommandError(f"the demo cannot start: {text}", hint=hint)


async def _exchange(lab: Lab) -> str:
    """Mail both ways, one with a file, and one that comes back: its queue id is returned."""
    sent = [
        await lab.send(
            ADA, BOB, subject="Greetings from the north", text="Dear Bob,\n\nit snows.\n\nAda\n"
        ),
        await lab.send(
            GRACE,
            ADA,
            ALAN,
            subject="Minutes",
            text="They are attached.\n\nGrace\n",
            attachment=("minutes.txt", NOTES.encode()),
        ),
        await lab.send(BOB, ADA, subject="Re: Greetings from the north", text="Here too!\n\nBob\n"),
        await lab.send(ADA, NOBODY, subject="Are you there?", text="This will come back to me.\n"),
    ]
    refused = [reply for reply in sent if not reply.startswith("2")]
    try:
        if refused:
            raise NeverHappened(refused[0])
        await lab.settled()
    except NeverHappened as error:
        raise CommandError(f"the first mails did not arrive: {error}") from error
    return sent[-1].split()[-1]


# --- what is printed ---


def guide(lab: Lab, bounced: str) -> Iterator[str]:
    """The text for the person who started it, line by line."""
    yield "Two mail servers are running, each with its domain:"
    yield ""
    for node, local_parts in zip(lab.nodes.values(), DOMAINS.values()):
        people = " and ".join(f"{local_part}@{node.domain}" for local_part in local_parts)
        yield f"  {node.hostname:<20} {node.address}  {people}"
    yield ""
    yield f"Everybody's password is {PASSWORD}. Each has mail already; Ada also has a bounce."
    yield "The certificates are self-signed, so programs have to be told not to check them."
    yield ""
    for advice in advices(lab, bounced):
        yield f"# {advice.what}"
        yield advice.command
        yield ""
    yield "A mail program like Thunderbird (add an account, then configure manually):"
    yield ""
    yield from _settings(lab)
    yield ""
    yield f"The data is in {lab.folder}, and removed at the end."
    yield "Press Ctrl-C to stop."


def advices(lab: Lab, bounced: str) -> list[Advice]:
    """Commands to paste; each works as it stands.

    Args:
    bounced: queue id of the message that came back.
    """
    north, south = lab.node("north"), lab.node("south")
    ports = lab.ground.ports
    submission = f"{north.address} --port {ports[Service.SUBMISSION]}"
    return [
        Advice(
            "Send a message from Ada to Bob (swaks, STARTTLS)",
            f"swaks --server {submission} --tls --auth PLAIN --auth-user {ADA}"
            f" --auth-password {PASSWORD} --from {ADA} --to {BOB}"
            " --header 'Subject: a message by hand'",
        ),
        Advice(
            "The same with curl",
            f"printf 'From: {ADA}\\r\\nTo: {BOB}\\r\\nSubject: by curl\\r\\n\\r\\nHello!\\r\\n' |"
            f" curl --silent --show-error --insecure --ssl-reqd --user {ADA}:{PASSWORD}"
            f" --mail-from {ADA} --mail-rcpt {BOB} --upload-file -"
            f" smtp://{north.address}:{ports[Service.SUBMISSION]}",
        ),
        Advice(
            "Read Bob's first message (IMAP over TLS)",
            f"curl --silent --show-error --insecure --user {BOB}:{PASSWORD}"
            f" 'imaps://{south.address}:{ports[Service.IMAPS]}/INBOX;MAILINDEX=1'",
        ),
        Advice(
            "List Ada's messages, the bounce among them",
            f"curl --silent --show-error --insecure --user {ADA}:{PASSWORD}"
            f" --request 'FETCH 1:* (RFC822.SIZE ENVELOPE)'"
            f" 'imaps://{north.address}:{ports[Service.IMAPS]}/INBOX'",
        ),
        Advice(
            "Talk to port 25 of the south yourself, with TLS (end with QUIT)",
            "openssl s_client -quiet -crlf -starttls smtp"
            f" -connect {south.address}:{ports[Service.MX]}",
        ),
        Advice(
            "Forge a message from Bob: the north asks the DNS of his domain and refuses it",
            f"swaks --server {north.address} --port {ports[Service.MX]} --from {BOB} --to {ADA}"
            f" --header 'From: {BOB}'",
        ),
        *_own_commands(lab, north, bounced),
    ]


def _own_commands(lab: Lab, node: LabNode, bounced: str) -> list[Advice]:
    own, config = _own_name(), f"--config {_config_file(node)}"
    place = f"{node.address}:{lab.ground.ports[Service.SUBMISSION]}"
    return [
        Advice(
            "Send with Posthouse itself, and see what the two said to each other",
            f"echo {PASSWORD} | {own} send --server {place} --insecure --user {ADA}"
            f" --password-stdin --from {ADA} --to {BOB} --subject 'by Posthouse'",
        ),
        Advice("Why Ada's last message came back", f"{own} explain {bounced} {config}"),
        Advice(
            "What the domain of the south asks for, and how that was found",
            f"{own} check dmarc --domain south.example {config}",
        ),
        Advice("The accounts of the north", f"{own} account list {config}"),
        Advice("Proof that the north lost nothing it accepted", f"{own} ledger check {config}"),
    ]


def _own_name() -> str:
    """How to call Posthouse from a shell."""
    return "posthouse" if shutil.which("posthouse") else f"{sys.executable} -m posthouse"


def _settings(lab: Lab) -> Iterator[str]:
    ports = lab.ground.ports
    rows = [("", *(node.domain for node in lab.nodes.values()))]
    incoming = [f"IMAP {n.address} port {ports[Service.IMAPS]}" for n in lab.nodes.values()]
    outgoing = [f"SMTP {n.address} port {ports[Service.SUBMISSIONS]}" for n in lab.nodes.values()]
    rows += [("incoming", *incoming), ("outgoing", *outgoing)]
    rows += [("security", *("SSL/TLS" for _ in incoming))]
    rows += [("authentication", *("normal password" for _ in incoming))]
    rows += [("user name", *("the whole address" for _ in incoming))]
    for row in rows:
        yield "  " + "".join(f"{cell:<28}" for cell in row).rstrip()


def _config_file(node: LabNode) -> Path:
    return node.folder / "posthouse.toml"


def _config_text(lab: Lab, node: LabNode) -> str:
    """So that the other commands find this node's data; `serve` does not read it here."""
    servers = ", ".join(f'"{server}"' for server in lab.ground.dns_servers)
    base = lab.ground.ports[Service.MX] - STANDARD_PORTS[Service.MX]
    return (
        f'[node]\nhostname = "{node.hostname}"\ndata_folder = "{node.folder}"\n'
        f"[net]\nport_base = {base}\n"
        f"[dns]\nservers = [{servers}]\n"
        "[relay]\nallow_private_addresses = true\n"
    )
