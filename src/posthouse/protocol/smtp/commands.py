"""One function for each SMTP command: what it means in this session, or why it is refused.

Called by `ServerSession` with a command that is in turn; gives the event it makes, or None when
the machine answers by itself. BDAT is with the session, as its octets are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from posthouse.kernel.errors import Disconnect, Refusal
from posthouse.protocol.sasl.grammar import SaslSyntaxError, decode_base64, decode_initial
from posthouse.protocol.smtp import grammar, replies
from posthouse.protocol.smtp.events import (
    AuthResponded,
    AuthStarted,
    DataRequested,
    Event,
    HelloReceived,
    StartTlsReceived,
)
from posthouse.protocol.smtp.limits import EXCESS_RECIPIENTS_MAX, Mode
from posthouse.protocol.smtp.phases import Phase

if TYPE_CHECKING:
    from posthouse.protocol.smtp.server import ServerSession


def read_hello(session: ServerSession, verb: bytes, argument: bytes) -> Event | None:
    if (verb == b"LHLO") != (session.mode is Mode.LMTP):  # RFC 2033 §4.1
        raise Refusal(replies.UNKNOWN_COMMAND)
    if session.phase is not Phase.GREETED:
        _count_junk(session)
    return HelloReceived(name=grammar.parse_hello_name(argument), is_extended=verb != b"HELO")


def read_starttls(session: ServerSession, verb: bytes, argument: bytes) -> Event | None:
    if session.is_tls:
        raise Refusal(replies.TLS_ACTIVE)
    if not session.hello.is_starttls:
        raise Refusal(replies.NOT_OFFERED)
    if session.inbox:  # RFC 3207 §4: it is the last of its group
        raise Disconnect(replies.TLS_INJECTION, detail="octets behind STARTTLS")
    if argument:
        raise Refusal(replies.BAD_ARGUMENT)
    return StartTlsReceived()


def read_auth(session: ServerSession, verb: bytes, argument: bytes) -> Event | None:
    """RFC 4954 §4."""
    if not session.hello.mechanisms:
        raise Refusal(replies.NOT_OFFERED)
    if session.is_authenticated:
        raise Refusal(replies.AUTHENTICATED)
    if session.inbox:
        raise Disconnect(replies.EARLY_TALKER, detail="pipelined behind AUTH")
    if not session.is_tls and not session.hello.is_auth_without_tls:
        raise Refusal(replies.TLS_FOR_AUTH)
    mechanism, _, initial = argument.partition(b" ")
    name = mechanism.decode("ascii", "replace").upper()
    if name not in session.hello.mechanisms:
        raise Refusal(replies.UNKNOWN_MECHANISM if name else replies.BAD_ARGUMENT)
    try:
        octets = decode_initial(initial) if initial else None
    except SaslSyntaxError:
        session.fail_auth(replies.BAD_BASE64)
        return None
    session.auth_rounds = 0
    return AuthStarted(mechanism=name, initial=octets)


def read_response(session: ServerSession, line: bytes) -> Event | None:
    if session.inbox:
        raise Disconnect(replies.EARLY_TALKER, detail="pipelined behind AUTH")
    if line == b"*":
        session.fail_auth(replies.AUTH_CANCELLED)
        return None
    try:
        return AuthResponded(response=decode_base64(line))
    except SaslSyntaxError:
        session.fail_auth(replies.BAD_BASE64)
        return None


def read_mail(session: ServerSession, verb: bytes, argument: bytes) -> Event | None:
    if session.mode is Mode.SUBMISSION and not session.is_authenticated:  # RFC 6409 §4.3
        can_tls = session.hello.is_starttls and not session.is_tls
        raise Refusal(replies.TLS_FIRST if can_tls else replies.AUTH_FIRST)
    if session.transactions >= session.limits.transactions_max:
        session.budget.hit("smtp.transactions_max")
        raise Disconnect(replies.TOO_MANY_TRANSACTIONS, detail="smtp.transactions_max")
    hello = session.hello
    event = grammar.parse_sender(
        argument,
        is_smtputf8=hello.is_smtputf8,
        is_binary=hello.is_binary,
        is_dsn=hello.is_dsn,
        is_requiretls=hello.is_requiretls and session.is_tls,
    )
    if event.size_octets is not None and event.size_octets > session.limits.message_octets_max:
        session.budget.hit("smtp.message_octets_max")
        raise Refusal(replies.MESSAGE_TOO_BIG)  # RFC 1870 §6.1
    return event


def read_rcpt(session: ServerSession, verb: bytes, argument: bytes) -> Event | None:
    event = grammar.parse_recipient(
        argument, is_smtputf8=session.is_smtputf8, is_dsn=session.hello.is_dsn
    )
    session.offered += 1
    if session.offered > session.limits.recipients_max + EXCESS_RECIPIENTS_MAX:
        raise Disconnect(replies.TOO_MANY_ERRORS, detail="smtp.recipients_max")
    if session.recipients < session.limits.recipients_max:
        return event
    session.budget.hit("smtp.recipients_max")
    session.say(replies.TOO_MANY_RECIPIENTS)  # RFC 5321 §4.5.3.1.10
    return None


def read_data(session: ServerSession, verb: bytes, argument: bytes) -> Event | None:
    if argument or session.is_binary:  # RFC 3030 §3: BINARYMIME comes by BDAT
        if session.inbox:
            raise Disconnect(replies.EARLY_TALKER, detail="content behind a refused DATA")
        raise Refusal(replies.BAD_ARGUMENT if argument else replies.BAD_SEQUENCE)
    return DataRequested()


def answer_simple(session: ServerSession, verb: bytes, argument: bytes) -> Event | None:
    """Commands that bring no mail nearer; VRFY and EXPN reveal nothing (RFC 5321 §7.3)."""
    _count_junk(session)
    if verb == b"RSET":
        if argument:
            raise Refusal(replies.BAD_ARGUMENT)
        if session.phase is not Phase.GREETED:
            session.phase = Phase.READY
        session.reset()
        session.say(replies.OK)
    elif verb == b"NOOP":
        session.say(replies.OK)
    elif verb == b"HELP":
        session.say(replies.HELP)
    elif not argument:
        raise Refusal(replies.BAD_ARGUMENT)
    else:
        session.say(replies.CANNOT_VERIFY)
    return None


def read_bdat(session: ServerSession, verb: bytes, argument: bytes) -> Event | None:
    return session.begin_chunk(argument)


def read_quit(session: ServerSession, verb: bytes, argument: bytes) -> Event | None:
    raise Disconnect(replies.BYE, detail="quit")


def _count_junk(session: ServerSession) -> None:
    if not session.budget.count_junk(session.limits):
        raise Disconnect(replies.TOO_MUCH_JUNK, detail="smtp.junk_commands_max")


COMMANDS: Final[dict[bytes, Callable[[ServerSession, bytes, bytes], Event | None]]] = {
    b"EHLO": read_hello,
    b"HELO": read_hello,
    b"LHLO": read_hello,
    b"STARTTLS": read_starttls,
    b"AUTH": read_auth,
    b"MAIL": read_mail,
    b"RCPT": read_rcpt,
    b"DATA": read_data,
    b"BDAT": read_bdat,
    b"RSET": answer_simple,
    b"NOOP": answer_simple,
    b"VRFY": answer_simple,
    b"EXPN": answer_simple,
    b"HELP": answer_simple,
    b"QUIT": read_quit,
}
