"""`posthouse send`: a front of the client library. It submits a message to any server, shows the
dialogue, and says the likely mistake; or it sends one to each row of a table (`send_many`)."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from posthouse.cli import send_many
from posthouse.cli.config import config_option
from posthouse.cli.log_words import log_in_options
from posthouse.cli.output import (
    CommandError,
    ExitCode,
    json_option,
    progress,
    say,
    say_error,
    say_hint,
    show_json,
    show_text,
)
from posthouse.cli.send_keys import protection_of, warn_of_author
from posthouse.cli.send_letter import filled, letter_of, notice_subject
from posthouse.cli.send_many import many_options
from posthouse.cli.send_options import (
    KeysWish,
    LetterWish,
    LoginWish,
    NoticeWish,
    SendCommand,
    ServerWish,
    keys_options,
    letter_options,
    login_options,
    notice_options,
    server_options,
    taken,
)
from posthouse.cli.send_server import WAIT_S, Way, dkim_keys, way_to
from posthouse.cli.send_words import (
    command_error,
    exit_code,
    in_options,
    option_of,
    rejection,
    said,
)
from posthouse.sending import (
    AsyncTransport,
    AuthError,
    Message,
    MessageError,
    OptionError,
    Outcome,
    OutcomeState,
    Receipt,
    SendingError,
)
from posthouse.sending.options import Keywords

FOR_MANY: Final = ("journal", "repeat_unknown", "rate")
"""Options that only say something about many letters."""
FOR_ONE: Final = ("eml", "outcome_mailbox", "wait_s")
_OPTIONS: Final = {"journal": "--resume", "wait_s": "--wait"}


class ForRecipient(msgspec.Struct, frozen=True, kw_only=True):
    """`state` is "" unless it was waited for: see `OutcomeState`."""

    recipient: str
    is_accepted: bool
    reply: str
    may_have_been_sent: bool = False
    """Not accepted, and nobody can know: the line broke before the server said."""
    written_to: str = ""
    """The file, where that is all that was to be done: nobody has accepted it."""
    state: str = ""
    detail: str = ""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The result as `--json` shows it."""

    server: str
    is_accepted: bool
    """By the server, for every recipient."""
    recipients: tuple[ForRecipient, ...]
    error: str
    hint: str
    message_id: str = ""
    queue_id: str = ""
    """The server's name for the message, when its reply has one."""
    size_octets: int = 0
    tls: str = ""


class Sending(msgspec.Struct, frozen=True, kw_only=True):
    """How it ended: with a receipt or an error."""

    server: str
    receipt: Receipt | None = None
    folder: str = ""
    """Where it was only written to."""
    error: SendingError | None = None
    outcomes: tuple[Outcome, ...] = ()
    outcome_error: SendingError | None = None
    """Why it is not known what became of a message that was taken."""


@click.command(cls=SendCommand)
@letter_options
@server_options
@login_options
@notice_options
@keys_options
@many_options
@click.option("--quiet", is_flag=True, help="Leave the dialogue, or the progress bar, out.")
@json_option
@config_option
def send(
    quiet: bool,
    as_json: bool,
    config_path: str | None,
    **given: Any,
) -> int:
    """Submit a message to any server and show the dialogue; or one to each row of a table.

    The dialogue goes to stderr, what became of the message to stdout. Ends with 0 when the server
    took it for every recipient, with 75 when it may take it later (it cannot be reached, or said
    4yz or 421), else with 1.

    With --recipients there is a letter for each row, and no dialogue: a progress bar, and at the
    end what failed.

    No option takes a password, as others on a machine can see them: it is asked for, or read from
    stdin, a file or the environment.
    """
    log_in_options()
    letter, login = taken(LetterWish, given), taken(LoginWish, given)
    notices, keys = taken(NoticeWish, given), taken(KeysWish, given)
    server = taken(ServerWish, given)
    is_many = given["recipients_file"] is not None
    _check_kind(letter, given, is_many=is_many)

    def way() -> Way:
        return way_to(server, login, keys, notices, config_path=config_path)

    try:
        # A password on stdin stands in front of all else there; a person is asked for theirs when
        # the message is known to be one.
        begun = way() if login.password_stdin else None
        message = letter_of(letter, notices, is_many=is_many, is_stdin_begun=login.password_stdin)
        message = msgspec.structs.replace(message, protection=protection_of(keys))
        if is_many:
            wish = send_many.wish_of(given, letter, message, is_quiet=quiet, as_json=as_json)
            return send_many.run(wish, lambda: begun or way(), dkim_keys(keys))
        message = filled(message, letter)
        asyncio.run(_look_at(message, keys))
        notice_subject(message, letter)
        chosen = begun or way()
        wait_s = WAIT_S if notices.wait_s is None else notices.wait_s
        sending = asyncio.run(_send(chosen, message, wait_s=wait_s, is_quiet=quiet))
    except OptionError as error:
        raise _of_url(error, server.url) or command_error(error) from None
    except MessageError as error:
        raise command_error(error, attached=len(letter.attached)) from None
    return _tell(sending, chosen, as_json=as_json)


def _check_kind(letter: LetterWish, given: dict[str, Any], *, is_many: bool) -> None:
    has_recipients = bool(letter.to or letter.cc or letter.bcc)
    if (is_many and letter.to) or not (is_many or has_recipients or letter.eml):
        raise click.UsageError("give --to, once or more often, or --recipients FILE")
    for name in FOR_ONE if is_many else FOR_MANY:
        if given[name]:
            words = "is for a single message" if is_many else "needs --recipients FILE"
            raise click.UsageError(f"{_OPTIONS.get(name) or option_of(name)} {words}")
    if given["repeat_unknown"] and given["journal"] is None:
        raise click.UsageError("--repeat-unknown needs --resume, which knows who they are")
    if given["dry_run"] is not None and given["journal"] is not None:
        raise click.UsageError(
            "--dry-run sends nothing, so that nothing is to be kept by --resume: leave one out"
        )


def _of_url(error: OptionError, url: str | None) -> CommandError | None:
    """A mistake in the URL, which names things that are no options."""
    options = {name for param in send.params for name in param.opts}
    is_option = option_of(error.option) in options and error.option not in ("host", "port")
    if url is None or not error.option or (is_option and error.option != "folder"):
        return None
    return CommandError(f"--url: {error.text}", hint=in_options(error)[1], code=ExitCode.USAGE)


async def _look_at(message: Message, keys: KeysWish) -> None:
    """What is wrong with the message is told before anybody is called or asked for a password.

    Raises:
        MessageError: it cannot be made, or somebody could not read it.
    """
    async with AsyncTransport("memory:", dkim=dkim_keys(keys)) as transport:
        letter = await transport.prepare(message)
    if message.protection is not None:
        warn_of_author(message.protection, letter.octets)


# --- sending ---


async def _send(way: Way, message: Message, *, wait_s: float, is_quiet: bool) -> Sending:
    """
    Raises:
        OptionError, MessageError: before anybody was called.
    """
    keywords: Keywords = {**way.keywords, "connections_max": 1}
    if not is_quiet and way.has_dialogue:
        keywords["watch"] = say
    transport = AsyncTransport(way.url, service=way.service, **keywords)
    with progress("sending") if is_quiet else nullcontext():
        async with transport:
            try:
                receipt = await transport.send(message)
            except SendingError as error:
                if isinstance(error, MessageError) and error.field:
                    raise
                return Sending(server=_place(transport), error=error)
    if transport.options.notice_box is None:
        folder = transport.options.folder
        return Sending(server=receipt.server, receipt=receipt, folder=str(folder or ""))
    if not is_quiet:
        say(f"== waiting up to {wait_s:g} s for notices")
    try:
        outcomes = await receipt.outcome(timeout_s=wait_s)
    except SendingError as error:
        return Sending(server=receipt.server, receipt=receipt, outcome_error=error)
    return Sending(server=receipt.server, receipt=receipt, outcomes=outcomes)


def _place(transport: AsyncTransport) -> str:
    options = transport.options
    return str(options.folder) if options.folder is not None else options.place


# --- what to say about it ---


def _tell(sending: Sending, way: Way, *, as_json: bool) -> int:
    each = tuple(_recipients(sending))
    error, hint = _words(sending, way)
    receipt = sending.receipt
    is_accepted = bool(each) and all(one.is_accepted for one in each)
    if as_json:
        tls = receipt.tls if receipt is not None else None
        show_json(
            Shown(
                server=sending.server,
                is_accepted=is_accepted,
                recipients=each,
                error=error,
                hint=hint,
                message_id=receipt.message_id if receipt is not None else "",
                queue_id=receipt.queue_id if receipt is not None else "",
                size_octets=receipt.size_octets if receipt is not None else 0,
                tls=f"{tls.version} with {tls.cipher}" if tls is not None else "",
            )
        )
    else:
        for one in each:
            show_text(_line(one))
    sys.stdout.flush()
    if error:
        say_error(error)
        say_hint(hint)
    return _code(sending)


def _recipients(sending: Sending) -> Iterator[ForRecipient]:
    receipt, error = sending.receipt, sending.error
    if receipt is None:
        for one in error.rejected if error is not None else ():
            yield ForRecipient(
                recipient=one.recipient,
                is_accepted=False,
                reply=said(one),
                may_have_been_sent=one.may_have_been_sent,
            )
        return
    later = {one.recipient: one for one in sending.outcomes}
    rejected = {one.recipient: one for one in receipt.rejected}
    for name in receipt.recipients:
        outcome, refused = later.get(name), rejected.get(name)
        file = Path(sending.folder, f"{receipt.queue_id}.eml") if sending.folder else ""
        yield ForRecipient(
            recipient=name,
            is_accepted=refused is None and not file,
            written_to=str(file),
            reply=receipt.response if refused is None else said(refused),
            may_have_been_sent=refused is not None and refused.may_have_been_sent,
            state=outcome.state.value if outcome is not None else "",
            detail=outcome.detail if outcome is not None else "",
        )


def _line(one: ForRecipient) -> str:
    if one.state:
        return f"{one.recipient}: {one.state}: {one.detail}"
    if one.written_to:
        return f"{one.recipient}: written to {one.written_to}"
    word = "accepted" if one.is_accepted else "unknown" if one.may_have_been_sent else "refused"
    return f"{one.recipient}: {word}: {one.reply}"


def _words(sending: Sending, way: Way) -> tuple[str, str]:
    """What went wrong and what to do about it; "" twice when nothing did."""
    if sending.error is not None:
        error, hint = in_options(sending.error)
        if isinstance(sending.error, AuthError):
            hint = f"{hint}\n{way.login_hint}".strip()
        return error, hint
    assert sending.receipt is not None
    if sending.outcome_error is not None:
        error, hint = in_options(sending.outcome_error)
        return f"it was sent, and what became of it is not known: {error}", hint
    returned = [one for one in sending.outcomes if one.state is OutcomeState.RETURNED]
    if sending.receipt.rejected:
        return _rejected(sending)
    if returned:
        one = returned[0]
        return f"the copy of {one.recipient} came back: {one.detail}", ""
    unknown = [one for one in sending.outcomes if one.state is OutcomeState.UNKNOWN]
    if unknown:
        one = unknown[0]
        words = f"what became of {one.recipient}'s copy is not known"
        return f"it was sent, and {words}: {one.detail}", ""
    return "", ""


def _rejected(sending: Sending) -> tuple[str, str]:
    """Some of several were turned down, or nobody knows, and the others have it."""
    assert sending.receipt is not None
    rejected = sending.receipt.rejected
    kinds = (
        [one for one in rejected if not one.may_have_been_sent],
        [one for one in rejected if one.may_have_been_sent],
    )
    told = [rejection(sending.server, kind) for kind in kinds if kind]
    return "\n".join(text for text, _ in told), "\n".join(hint for _, hint in told)


def _code(sending: Sending) -> ExitCode:
    if sending.error is not None:
        return exit_code(sending.error)
    assert sending.receipt is not None
    rejected = sending.receipt.rejected
    if rejected:
        is_later = all(one.is_transient and not one.may_have_been_sent for one in rejected)
        return ExitCode.TEMPORARY if is_later else ExitCode.FAILED
    is_back = any(one.state is OutcomeState.RETURNED for one in sending.outcomes)
    return ExitCode.FAILED if is_back else ExitCode.OK
