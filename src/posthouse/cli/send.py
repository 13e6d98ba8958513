"""`posthouse send`: submit a message to any server, show the dialogue, say the likely mistake."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import mimetypes
import socket
import ssl
import sys
from pathlib import Path
from typing import Any, Final, TextIO

import click
import msgspec

from posthouse.cli import send_many
from posthouse.cli.config import config_option, load_config
from posthouse.cli.dialogue import Dialogue, Submission, Submitted, TlsUse, Trouble, submit
from posthouse.cli.output import (
    CommandError,
    ExitCode,
    json_option,
    password_option,
    read_password,
    say_error,
    say_hint,
    show_json,
    show_text,
)
from posthouse.cli.send_many import many_options
from posthouse.config.host import ThisHost
from posthouse.config.schema import Config, Service
from posthouse.kernel.envelope import Address, Envelope, ForwardPath
from posthouse.kernel.errors import UserError
from posthouse.message import build
from posthouse.message.address import AddressError, format_address, parse_mailbox
from posthouse.net.world import SystemChance, SystemClock
from posthouse.protocol.smtp.client_events import Outcome, OutgoingMessage, Result, Stage
from posthouse.protocol.smtp.outgoing import has_unicode_header
from posthouse.relay.plan import parse_place
from posthouse.sending.options import Keywords
from posthouse.tls.contexts import opportunistic_client_context, verifying_client_context
from posthouse.tls.self_signed import CHAIN_NAME
from posthouse.zone import services

SUBMISSION_PORT: Final = 587
SUBMISSIONS_PORT: Final = 465
ADDRESSES_MAX: Final = 8
RECIPIENTS_MAX: Final = 1000
FILE_OCTETS_MAX: Final = 256 << 20
BODY: Final = "This is a message from `posthouse send`.\n"
SUBJECT: Final = "A message from posthouse send"
MANY: Final = (
    *("template", "data", "html", "service", "dry_run", "journal", "repeat_unknown", "rate"),
    "dkim",
)
"""Options that only say something about many letters."""
_TLS_WORDS: Final = {"starttls": "starttls", "implicit": "implicit", "none": "off"}
_CONTENT: Final = (Stage.DATA, Stage.BLOCK, Stage.DOT)
"""Refused at one of these, the message itself displeased."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """Where to, and what its certificate must say."""

    host: str
    addresses: tuple[str, ...]
    port: int
    server_name: str
    own_certificate: Path | None = None
    is_implicit: bool = False


class ForRecipient(msgspec.Struct, frozen=True, kw_only=True):
    recipient: str
    is_accepted: bool
    reply: str


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The result as `--json` shows it."""

    server: str
    is_accepted: bool
    """By the server, for every recipient."""
    recipients: tuple[ForRecipient, ...]
    error: str
    hint: str


@click.command()
@click.option(
    "--server", metavar="HOST[:PORT]", help="Port 587 if not given; else this node's own."
)
@click.option("--from", "sender", required=True, metavar="ADDRESS", help='"<>" for none.')
@click.option("--to", "recipients", multiple=True, metavar="ADDRESS")
@click.option("--subject", metavar="TEXT")
@click.option("--body", metavar="TEXT")
@click.option("--body-file", type=click.File("r"), metavar="FILE", help='"-" is stdin.')
@click.option("--header", "fields", multiple=True, metavar="'NAME: VALUE'", help="One more field.")
@click.option("--attach", "attached", multiple=True, metavar="FILE")
@click.option(
    "--tls",
    type=click.Choice([use.value for use in TlsUse]),
    default=TlsUse.AUTO.value,
    show_default=True,
    help="auto: from the start on port 465, else STARTTLS when it is offered.",
)
@click.option("--ca", metavar="FILE", help="Trust the certificates in FILE (PEM) only.")
@click.option("--insecure", is_flag=True, help="Take any certificate.")
@click.option("--user", metavar="NAME", help="Log in; asks for the password.")
@password_option
@many_options
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(1, 3600),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest wait for each answer.",
)
@json_option
@config_option
def send(
    server: str | None,
    sender: str,
    recipients: tuple[str, ...],
    subject: str | None,
    body: str | None,
    body_file: TextIO | None,
    fields: tuple[str, ...],
    attached: tuple[str, ...],
    tls: str,
    ca: str | None,
    insecure: bool,
    user: str | None,
    password_stdin: bool,
    timeout_s: float,
    as_json: bool,
    config_path: str | None,
    **many: Any,
) -> int:
    """Submit a message to any server and show the dialogue; or one to each row of a table.

    The dialogue goes to stderr, what became of the message to stdout. Ends with 0 when the server
    took it for every recipient, with 75 when it may take it later (it cannot be reached, or said
    4yz or 421), else with 1.

    With --recipients there is a letter for each row, and no dialogue: a progress bar, and at the
    end what failed.
    """
    if bool(recipients) == bool(many["recipients_file"]):
        raise click.UsageError("give --to, once or more often, or --recipients FILE")
    named = [name for name in MANY if many[name]]
    if recipients and named:
        raise click.UsageError(f"--{named[0].replace('_', '-')} needs --recipients FILE")
    if body is not None and body_file is not None:
        raise click.UsageError("give --body or --body-file, not both")
    if password_stdin and user is None:
        raise click.UsageError("--password-stdin needs --user")
    if many["recipients_file"]:
        if fields:
            raise click.UsageError("--header is for a single message")
        if body_file is not None:
            body = body_file.read(FILE_OCTETS_MAX)
        wish_for_all = send_many.wish_of(
            many, sender=sender, subject=subject, body=body, attached=attached, as_json=as_json
        )
        keywords = _keywords(server, many, tls=tls, ca=ca, is_insecure=insecure)
        keywords |= _timeouts(timeout_s)
        if user is not None:
            keywords["user"] = user
            keywords["password"] = read_password(
                password_stdin=password_stdin, prompt=f"Password of {user}"
            )
        return send_many.run(wish_for_all, keywords, service=many["service"])
    place = _named(server) if server else _own(load_config(config_path).config)
    use = TlsUse(tls)
    if use is TlsUse.AUTO and place.is_implicit:
        use = TlsUse.IMPLICIT
    context = _context(place, ca=ca, is_insecure=insecure)
    password = (
        read_password(password_stdin=password_stdin, prompt=f"Password of {user}")
        if user is not None
        else None
    )
    if body_file is not None:
        body = body_file.read(FILE_OCTETS_MAX)
    name = ThisHost().name()
    wish = Submission(
        host=place.host,
        addresses=place.addresses,
        port=place.port,
        server_name=place.server_name,
        tls=use,
        context=context,
        name=name,
        user=user,
        password=password,
        timeout_s=timeout_s,
        message=_message(sender, recipients, subject, body, fields, attached, name),
    )
    return _tell(wish, asyncio.run(submit(wish, Dialogue())), as_json=as_json)


# --- to many ---


def _keywords(
    server: str | None, many: dict[str, Any], *, tls: str, ca: str | None, is_insecure: bool
) -> Keywords:
    """The same options in the words of the library."""
    keywords: Keywords = {"connections_max": many["connections"]}
    if many["dry_run"] is not None:
        return keywords
    if server is not None:
        try:
            place = parse_place(server, port=SUBMISSION_PORT)
        except ValueError:
            raise click.UsageError(
                f"--server takes host, host:port or [address]:port, and {server!r} is none"
            ) from None
        keywords["host"], keywords["port"] = place.host, place.port
    elif many["service"] is None:
        raise click.UsageError("name a --server, a --service or a folder for --dry-run")
    if tls != TlsUse.AUTO.value:
        keywords["tls"] = _TLS_WORDS[tls]
    if ca is not None:
        keywords["ca"] = ca
    if is_insecure:
        keywords["verify"] = False
    if many["rate"]:
        keywords["rate"] = many["rate"]
    if many["dkim"]:
        keywords["dkim"] = send_many.dkim_keys(many["dkim"])
    return keywords


def _timeouts(timeout_s: float) -> Keywords:
    return {
        "connect_timeout_s": timeout_s,
        "greeting_timeout_s": timeout_s,
        "command_timeout_s": timeout_s,
        "data_timeout_s": timeout_s,
    }


# --- where to ---


def _named(text: str) -> Server:
    try:
        place = parse_place(text, port=SUBMISSION_PORT)
    except ValueError:
        raise click.UsageError(
            f"--server takes host, host:port or [address]:port, and {text!r} is none"
        ) from None
    try:
        found = socket.getaddrinfo(place.host, place.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        words = getattr(error, "strerror", None) or "it is no host name"
        raise CommandError(
            f"the address of {place.host} cannot be found: {words}",
            hint="check its spelling; `posthouse resolve a NAME` asks the DNS",
        ) from None
    addresses = dict.fromkeys(str(item[4][0]) for item in found)
    return Server(
        host=place.host,
        addresses=tuple(addresses)[:ADDRESSES_MAX],
        port=place.port,
        server_name=place.host,
        is_implicit=place.port == SUBMISSIONS_PORT,
    )


def _own(config: Config) -> Server:
    """This node's submission port, whose own certificate is trusted."""
    for service in (Service.SUBMISSION, Service.SUBMISSIONS):
        if (place := services.own_place(config, service)) is not None:
            chain = config.tls.certificate or str(Path(config.node.data_folder, "tls", CHAIN_NAME))
            return Server(
                host=place[0],
                addresses=(place[0],),
                port=place[1],
                server_name=config.node.hostname,
                own_certificate=Path(chain),
                is_implicit=service is Service.SUBMISSIONS,
            )
    raise CommandError("the config has no listener for submission", hint="name a --server")


def _context(place: Server, *, ca: str | None, is_insecure: bool) -> ssl.SSLContext:
    if is_insecure:
        return opportunistic_client_context()
    if ca is not None:
        return verifying_client_context(Path(ca))
    context = verifying_client_context()
    if place.own_certificate is not None:
        with contextlib.suppress(OSError):  # no server has made it yet: nothing will answer
            context.load_verify_locations(cafile=str(place.own_certificate))
    return context


# --- the message ---


def _message(
    sender: str,
    recipients: tuple[str, ...],
    subject: str | None,
    body: str | None,
    fields: tuple[str, ...],
    attached: tuple[str, ...],
    name: str,
) -> OutgoingMessage:
    if len(recipients) > RECIPIENTS_MAX:
        raise click.UsageError(f"more than {RECIPIENTS_MAX} recipients")
    reverse_path = None if sender in ("", "<>") else _address("--from", sender)
    to = [_address("--to", text) for text in recipients]
    given = [_field(text) for text in fields]
    own = _own_fields(reverse_path, to, subject or SUBJECT, name)
    kept = {key.lower() for key, _ in given}
    try:
        head = [octets for key, octets in own if key.lower() not in kept]
        head += [octets for _, octets in given]
        octets = build.message(head, _entity(body if body is not None else BODY, attached))
    except build.BuildError as error:
        raise UserError(f"the message cannot be built: {error}") from None
    is_smtputf8 = has_unicode_header(octets) or not all(
        address.local_part.isascii() for address in (*to, *filter(None, [reverse_path]))
    )
    envelope = Envelope(
        reverse_path=reverse_path,
        recipients=tuple(ForwardPath(address=address) for address in to),
        is_smtputf8=is_smtputf8,
    )
    return OutgoingMessage(envelope=envelope, octets=octets)


def _own_fields(
    reverse_path: Address | None, to: list[Address], subject: str, name: str
) -> list[tuple[str, bytes]]:
    author = reverse_path or Address("mailer-daemon", name)
    token = SystemChance().token(12).hex()
    return [
        ("Date", build.date_field(SystemClock().now())),
        ("From", build.address_field("From", [build.Mailbox(author)])),
        ("To", build.address_field("To", [build.Mailbox(address) for address in to])),
        ("Subject", build.text_field("Subject", subject)),
        ("Message-ID", build.message_id_field(f"<{token}@{name}>")),
    ]


def _field(text: str) -> tuple[str, bytes]:
    key, colon, value = text.partition(":")
    if not colon:
        raise click.UsageError(f"--header takes 'NAME: VALUE', and {text!r} has no colon")
    make = build.field if value.isascii() else build.text_field
    try:
        return key, make(key, value.strip())
    except build.BuildError as error:
        raise click.UsageError(f"--header {error}") from None


def _entity(body: str, attached: tuple[str, ...]) -> build.Entity:
    text = build.text_entity(body)
    return build.multipart("mixed", [text, *map(_attachment, attached)]) if attached else text


def _attachment(path: str) -> build.Entity:
    with Path(path).open("rb") as file:
        octets = file.read(FILE_OCTETS_MAX + 1)
    if len(octets) > FILE_OCTETS_MAX:
        raise CommandError(f"{path} is larger than {FILE_OCTETS_MAX >> 20} MiB")
    kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
    return build.octets_entity(kind, octets, file_name=Path(path).name)


def _address(option: str, text: str) -> Address:
    try:
        return parse_mailbox(text.strip().removeprefix("<").removesuffix(">"))
    except AddressError as error:
        raise click.UsageError(f"{option} {text!r} is not an address: {error}") from None


# --- what to say about it ---


def _tell(wish: Submission, result: Submitted, *, as_json: bool) -> int:
    outcomes = result.ended.outcomes if result.ended is not None else ()
    each = tuple(
        ForRecipient(
            recipient=format_address(path.address),
            is_accepted=outcome.result is Result.ACCEPTED,
            reply=_said(outcome),
        )
        for path, outcome in zip(wish.message.envelope.recipients, outcomes)
    )
    error, hint = _words(wish, result)
    is_accepted = bool(each) and all(one.is_accepted for one in each)
    if as_json:
        show_json(
            Shown(
                server=wish.place,
                is_accepted=is_accepted,
                recipients=each,
                error=error,
                hint=hint,
            )
        )
    else:
        for one in each:
            show_text(
                f"{one.recipient}: {'accepted' if one.is_accepted else 'refused'}: {one.reply}"
            )
    sys.stdout.flush()
    if error:
        say_error(error)
        say_hint(hint)
    if is_accepted:
        return ExitCode.OK
    return ExitCode.TEMPORARY if _may_work_later(result, outcomes) else ExitCode.FAILED


def _may_work_later(result: Submitted, outcomes: tuple[Outcome, ...]) -> bool:
    if result.trouble is Trouble.UNREACHABLE:
        return True
    if result.trouble is not None:
        return result.reply is not None and result.reply.is_transient
    failed = [o for o in outcomes if o.result is not Result.ACCEPTED]
    return bool(failed) and all(o.result is not Result.PERMANENT for o in failed)


def _said(outcome: Outcome) -> str:
    return str(outcome.reply) if outcome.reply is not None else outcome.detail


def _words(wish: Submission, result: Submitted) -> tuple[str, str]:
    """What went wrong and what to do about it; "" twice when nothing did."""
    if result.trouble is not None:
        return _trouble(wish, result, result.trouble)
    failed = [
        (path.address, outcome)
        for path, outcome in zip(
            wish.message.envelope.recipients, result.ended.outcomes if result.ended else ()
        )
        if outcome.result is not Result.ACCEPTED
    ]
    if not failed:
        return "", ""
    address, outcome = failed[0]
    return _refusal(wish, format_address(address), outcome, count=len(failed))


def _refusal(wish: Submission, address: str, outcome: Outcome, *, count: int) -> tuple[str, str]:
    said = _said(outcome)
    code = outcome.reply.code if outcome.reply is not None else 0
    sender = wish.message.envelope.reverse_path
    error = f"{wish.place} did not take the message: {said}"
    if outcome.stage is Stage.RCPT:
        others = f" and {count - 1} more" if count > 1 else ""
        error = f"{wish.place} refused the recipient {address}{others}: {said}"
    if outcome.result is Result.UNKNOWN:
        return error, "it may have been taken or not: look before you send it again"
    if outcome.result is Result.TRANSIENT:
        return error, "it may work later"
    if outcome.status == "5.3.4":
        return error, _size_hint(wish, outcome)
    if code == 530 or (wish.user is None and outcome.status == "5.7.1"):
        return error, f"log in with --user, at port {SUBMISSION_PORT} or {SUBMISSIONS_PORT}"
    if outcome.status in ("5.1.1", "5.1.2", "5.1.3"):
        return error, f"check the spelling of {address}"
    if outcome.status == "5.7.1" and outcome.stage in _CONTENT and "from" in said.lower():
        return error, (
            f"the From field of the message is not of {wish.user}: leave out the --header for it,"
            " or give an address of that account"
        )
    if outcome.status == "5.7.1" and sender is not None:
        return error, f"{wish.user} may not send as {format_address(sender)}, or not there"
    if outcome.reply is None:
        return error, "the server was not asked: what it offers says so"
    return error, "these are the server's words; its administrator can say more"


def _size_hint(wish: Submission, outcome: Outcome) -> str:
    """RFC 1870: too big by the SIZE of the hello, or by the server's word."""
    whose = "what the server named as its SIZE" if outcome.reply is None else "the server's"
    size = f"the message has {len(wish.message.octets)} octets with all that is attached"
    return f"{size}; the limit is {whose}"


def _trouble(wish: Submission, result: Submitted, trouble: Trouble) -> tuple[str, str]:
    place = wish.place
    said = str(result.reply) if result.reply is not None else result.detail
    match trouble:
        case Trouble.UNREACHABLE:
            return (
                f"{place} cannot be reached: {said}",
                "is the server running, and the port right?",
            )
        case Trouble.SILENT:
            return (
                f"{place} said nothing: {said}",
                "if it speaks TLS from the start, as port 465 does, add --tls implicit",
            )
        case Trouble.PLAINTEXT:
            return (
                f"{place} does not speak TLS from the start: {said}",
                "add --tls starttls, as for port 587; TLS from the start is for port 465",
            )
        case Trouble.CERTIFICATE:
            return f"{place}: {said}", _certificate_hint(wish)
        case Trouble.TLS:
            return f"TLS with {place} failed: {said}", "`openssl s_client` shows more"
        case Trouble.NO_STARTTLS:
            words = f": {said}" if said else ""
            return (
                f"{place} does not offer STARTTLS{words}",
                "add --tls none to send in plain text, or --tls implicit for a port like 465",
            )
        case Trouble.NO_AUTH:
            ports = f"port {SUBMISSION_PORT} or {SUBMISSIONS_PORT}"
            hint = f"logins are for {ports}; or leave out --user"
            if wish.tls is TlsUse.NONE:
                hint = f"a login needs TLS: leave out --tls none; logins are for {ports}"
            return f"{place} offers no login that we know", hint
        case Trouble.UNSAFE_AUTH:
            return (
                f"the password would go to {place} in plain text, so it was not sent",
                "use --tls starttls, or --tls implicit for a port like 465",
            )
        case Trouble.AUTH:
            return f"{place} refused the login of {wish.user}: {said}", _login_hint(wish, result)
        case Trouble.LOST:
            return f"{place} ended the session: {said}", "the dialogue above says when"


def _certificate_hint(wish: Submission) -> str:
    try:
        ipaddress.ip_address(wish.server_name)
        name = ""
    except ValueError:
        name = wish.server_name
    words = (
        "to trust it, add --ca FILE with the certificate (a Posthouse node keeps its own as"
        f" tls/{CHAIN_NAME} in its data folder), or --insecure to take any"
    )
    return words if name else f"{words}\ncertificates name hosts: give --server a name"


def _login_hint(wish: Submission, result: Submitted) -> str:
    if result.reply is not None and result.reply.is_transient:
        return "try again later: too many wrong passwords close the login for a while"
    if wish.user is not None and "@" not in wish.user:
        return "the user name is usually the whole address, like you@example.org"
    return "the user name or the password is wrong"
