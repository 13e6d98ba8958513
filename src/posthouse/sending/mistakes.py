"""What went wrong in a session, as the error that says so and the likely mistake behind it.

The words are for somebody who has never run a mail server; hints name the library's own options.
"""

from __future__ import annotations

import errno
import os
import re
import socket
from collections.abc import Sequence
from typing import Final

from posthouse.kernel.reply import Reply
from posthouse.message.address import format_address
from posthouse.net.stream import TlsFailure, TlsTrouble
from posthouse.protocol.smtp.client_events import (
    MessageEnded,
    Outcome,
    Result,
    SessionFailed,
    Stage,
)
from posthouse.sending.errors import (
    AuthError,
    CapabilityError,
    ConnectError,
    EnvelopeError,
    MessageError,
    ProtocolError,
    SendingError,
    SendTimeout,
    TlsError,
)
from posthouse.sending.options import Kind, Options, TlsUse
from posthouse.sending.receipt import Rejected

__all__ = [
    "connect_failed",
    "error_words",
    "login_impossible",
    "login_refused",
    "login_unsafe",
    "message_refused",
    "name_unknown",
    "no_starttls",
    "rejected",
    "session_failed",
    "tls_failed",
    "token_failed",
]

SMTP_PORT: Final = 25
SUBMISSION_PORT: Final = 587
SUBMISSIONS_PORT: Final = 465
IN_TIME: Final = "in time"
"""What the driver says of a deadline (`net.smtp_client`)."""

_APP_PASSWORD: Final = re.compile(
    r"app(?:lication)?[- ]?(?:specific)?[- ]password|5\.7\.9|less secure|InvalidSecondFactor",
    re.IGNORECASE,
)
_NO_PASSWORDS: Final = re.compile(
    r"basic auth\w* is disabled|5\.7\.139|SmtpClientAuthentication is disabled", re.IGNORECASE
)
_APP_PASSWORD_PAGES: Final = {
    "gmail": "https://myaccount.google.com/apppasswords",
    "google": "https://myaccount.google.com/apppasswords",
    "yahoo": "https://login.yahoo.com/account/security",
    "icloud": "https://account.apple.com",
    "me.com": "https://account.apple.com",
    "fastmail": "https://app.fastmail.com/settings/security",
    "zoho": "https://accounts.zoho.com",
}
_GREYLISTED: Final = re.compile(r"gr[ea]ylist|try again later|temporarily deferred", re.IGNORECASE)
_RELAY: Final = re.compile(r"relay", re.IGNORECASE)


# --- before a session ---


def name_unknown(options: Options, error: OSError) -> ConnectError:
    """The host's address cannot be found."""
    is_transient = isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN
    hint = "check the spelling of the host"
    if is_transient:
        hint = "is this machine connected to a network that has a DNS server?"
    return ConnectError(
        f"the address of {options.host} cannot be found",
        hint=hint,
        server=options.place,
        is_transient=is_transient,
    )


def connect_failed(options: Options, error: OSError) -> SendingError:
    """No address of the host takes a connection."""
    if isinstance(error, TimeoutError):
        return SendTimeout(
            f"{options.place} did not answer within {options.connect_timeout_s:g} s",
            hint=_silence_hint(options),
            server=options.place,
            is_transient=True,
        )
    words = error_words(error)
    hint = "is the server running, and the host right?"
    if error.errno == errno.ECONNREFUSED:
        hint = _refused_hint(options)
    elif error.errno == errno.EADDRNOTAVAIL and options.local_address:
        hint = "local_address has to be an address of this machine"
    elif error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        hint = _silence_hint(options)
    return ConnectError(
        f"{options.place} cannot be reached: {words}",
        hint=hint,
        server=options.place,
        is_transient=True,
    )


def _refused_hint(options: Options) -> str:
    nothing = f"nothing listens at port {options.port}"
    if options.kind is Kind.LMTP:
        return (
            f"{nothing}: LMTP has no port that all use; name the one of the server's config, as in"
            f" lmtp://{options.host}:PORT"
        )
    return (
        f"{nothing}: mail programs use {SUBMISSIONS_PORT} (smtps://) or {SUBMISSION_PORT}"
        " (smtp+starttls://)"
    )


def error_words(error: OSError) -> str:
    """What the system calls it."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return os.strerror(error.errno) if error.errno else str(error)


def _silence_hint(options: Options) -> str:
    if options.port == SMTP_PORT:
        return (
            "most providers block port 25 for everybody but mail servers: send through your"
            f" provider's server at port {SUBMISSION_PORT} or {SUBMISSIONS_PORT}"
        )
    return "a firewall may be in the way, or the port is wrong"


# --- TLS ---


def tls_failed(options: Options, failure: TlsFailure) -> SendingError:
    """The handshake failed."""
    text = f"{options.place}: {failure.text}"
    if failure.trouble is TlsTrouble.PLAINTEXT:
        hint = (
            'the server begins in plain text: use tls="starttls" (smtp+starttls://), as is usual'
            f" at port {SUBMISSION_PORT}"
        )
        return TlsError(text, hint=hint, server=options.place)
    if failure.trouble is TlsTrouble.CERTIFICATE:
        return TlsError(text, hint=_certificate_hint(options, failure), server=options.place)
    if failure.trouble is TlsTrouble.TIMEOUT:
        return SendTimeout(
            text, hint=_handshake_hint(options), server=options.place, is_transient=True
        )
    if failure.trouble is TlsTrouble.VERSION:
        hint = "the server is too old to be spoken to safely; ask for another"
        return TlsError(text, hint=hint, server=options.place)
    if failure.trouble is TlsTrouble.CUT and options.tls is TlsUse.IMPLICIT:
        return TlsError(
            text, hint=_handshake_hint(options), server=options.place, is_transient=True
        )
    return TlsError(text, server=options.place)


def _handshake_hint(options: Options) -> str:
    if options.port == SUBMISSIONS_PORT:
        return ""
    return (
        f'port {options.port} may begin in plain text: use tls="starttls" (smtp+starttls://),'
        f" or port {SUBMISSIONS_PORT} for TLS from the start"
    )


# What OpenSSL's verification says (`X509_V_ERR_…`).
_SELF_SIGNED: Final = frozenset({18, 19})
_NOT_FOUND: Final = frozenset({2, 20, 21})
_EXPIRED: Final = 10
_NOT_YET: Final = 9
_WRONG_NAME: Final = frozenset({62, 64})
NAMES_SHOWN: Final = 5
"""Of those that a certificate is for."""


def _certificate_hint(options: Options, failure: TlsFailure) -> str:
    from posthouse.tls.names import told  # which loads cryptography

    code = failure.verify_code
    name = options.server_name or options.host
    names = told(failure.certificate)
    if code in _WRONG_NAME:
        if not names:
            return (
                f"the certificate is not for {name}: give as host the name that it has, or name it"
                " with server_name"
            )
        return f"the certificate is for {_listed(names)}, not for {name}{_named_by(names)}"
    if code == _EXPIRED:
        return "its administrator has to renew it; is the clock of this machine right?"
    if code == _NOT_YET:
        return "it is not valid yet: is the clock of this machine right?"
    if code in _SELF_SIGNED or code in _NOT_FOUND:
        how = "" if options.tls is TlsUse.IMPLICIT else "-starttls smtp "
        return (
            'if you trust this server, name its certificate: ca="certificate.pem"'
            f" (openssl s_client {how}-connect {options.place} -showcerts prints it);"
            " verify=False takes any, for tests only"
            f"{_other_names(names, name)}"
        )
    return "is our own certificate (option certificate) the one the server expects?"


def _other_names(names: Sequence[str], name: str) -> str:
    """What would be wrong next."""
    from posthouse.tls.names import matches

    if not names or any(matches(one, name) for one in names):
        return ""
    return f"\nthe certificate is for {_listed(names)}, not for {name}{_named_by(names)}"


def _named_by(names: Sequence[str]) -> str:
    chosen = next((one for one in names if "*" not in one), "")
    if not chosen:
        return ": give as host the name that the server has, or name it with server_name"
    return f': if this is that server, add server_name="{chosen}"'


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    more = len(names) - NAMES_SHOWN
    return f"{shown} and {more} more" if more > 0 else shown


def no_starttls(options: Options, reply: Reply | None) -> TlsError:
    """STARTTLS is required and not offered, or refused."""
    said = f": {reply}" if reply is not None else ""
    if options.port == SUBMISSIONS_PORT:
        hint = 'port 465 speaks TLS from the start: use tls="implicit" (smtps://)'
    else:
        hint = (
            f"use port {SUBMISSIONS_PORT} with smtps:// where the server has it;"
            ' tls="off" sends in plain text, which anybody on the way can read'
        )
    return TlsError(
        f"{options.place} does not offer STARTTLS{said}",
        hint=hint,
        server=options.place,
        stage=Stage.STARTTLS,
        reply=reply,
    )


def tls_from_the_start(options: Options) -> TlsError:
    """Nothing came in plain text, and the same place greets over TLS."""
    return TlsError(
        f"{options.place} speaks TLS from the first octet, and we waited in plain text",
        hint='use tls="implicit" (smtps://), as is usual at port 465',
        server=options.place,
        stage=Stage.GREETING,
    )


def not_verified(options: Options) -> TlsError:
    """REQUIRETLS is asked for (RFC 8689 §4.2.1), and nobody has checked whose server this is."""
    return TlsError(
        f"{options.place}: REQUIRETLS wants TLS with a certificate that was checked",
        hint='use tls="implicit" (smtps://) or tls="starttls", without verify=False;'
        ' ca="certificate.pem" trusts a certificate of its own making',
        server=options.place,
    )


# --- logging in ---


def login_unsafe(options: Options) -> AuthError:
    """A password would travel in plain text."""
    return AuthError(
        f"the password would go to {options.place} in plain text, so it was not sent",
        hint='use tls="starttls" or, for port 465, tls="implicit"',
        server=options.place,
        stage=Stage.AUTH,
    )


def login_impossible(options: Options, offered: Sequence[str]) -> AuthError:
    """No mechanism is known to both sides."""
    if not offered:
        hint = f"logins are for port {SUBMISSION_PORT} or {SUBMISSIONS_PORT}"
        if options.tls is TlsUse.OFF:
            hint = 'many servers offer a login only over TLS: leave out tls="off"'
        text = f"{options.place} offers no login"
    else:
        text = f"{options.place} offers {', '.join(offered)}, and none of these fits what was given"
        login = options.login
        hint = "give a password for PLAIN, LOGIN or SCRAM, or a token for OAUTHBEARER or XOAUTH2"
        if login is not None and login.mechanism:
            hint = f"mechanism={login.mechanism!r} asks for one that it does not offer"
    return AuthError(text, hint=hint, server=options.place, stage=Stage.AUTH)


def login_refused(options: Options, reply: Reply, *, mechanism: str = "") -> AuthError:
    """The server says no to the login."""
    login = options.login
    user = login.user if login is not None else ""
    said = str(reply)
    if reply.is_transient:
        hint = "try again later: too many wrong passwords close the login for a while"
    elif _NO_PASSWORDS.search(said):
        hint = "this server takes no passwords from programs any more: give a token (OAuth 2)"
    elif _APP_PASSWORD.search(said):
        hint = f"this service wants an app password in place of yours{_page(options, user)}"
    elif login is not None and login.token is not None:
        hint = "the token may be for another service or over: give a callable that refreshes it"
    elif user and "@" not in user:
        hint = "the user name is usually the whole address, like you@example.org"
    else:
        hint = "try name and password where you read your mail"
        hint += _app_hint(options, user)
    by = f" by {mechanism}" if mechanism else ""
    return AuthError(
        f"{options.place} refused the login of {user}{by}: {said}",
        hint=hint,
        server=options.place,
        stage=Stage.AUTH,
        reply=reply,
        is_transient=reply.is_transient,
    )


def token_failed(options: Options, error: Exception) -> AuthError:
    """The callable that gives tokens raised. Its text may hold a secret, so its kind is told."""
    return AuthError(
        f"no token for {options.place}: the callable raised {type(error).__name__}",
        hint="see the cause of this error",
        server=options.place,
        stage=Stage.AUTH,
    )


def _page(options: Options, user: str) -> str:
    for key, page in _APP_PASSWORD_PAGES.items():
        if key in options.host or key in user.rpartition("@")[2]:
            return f"; make one at {page}"
    return "; make one on its pages"


def _app_hint(options: Options, user: str) -> str:
    page = _page(options, user)
    page = page if "http" in page else ""
    return f"; with a second factor on, an app password is needed{page}"


# --- sessions ---


def session_failed(options: Options, event: SessionFailed) -> SendingError:
    """The session ended before its time and no TLS failure is to blame."""
    if event.reply is not None:
        return _refused_session(options, event.stage, event.reply)
    if IN_TIME in event.detail:
        return SendTimeout(
            f"{options.place} did not answer in time ({event.stage.value})",
            hint=_greeting_hint(options) if event.stage is Stage.GREETING else "",
            server=options.place,
            stage=event.stage,
            is_transient=True,
        )
    hint = ""
    if event.stage is Stage.GREETING:
        if (other := _OTHERS.match(event.detail)) is not None:
            return _other_protocol(options, event, other.lastgroup or "")
        hint = _greeting_hint(options)
    return ProtocolError(
        f"{options.place} ended the session ({event.stage.value}): {event.detail}",
        hint=hint,
        server=options.place,
        stage=event.stage,
        is_transient=event.is_transient,
    )


# How those begin that are taken for SMTP servers.
_OTHERS: Final = re.compile(
    r"unreadable reply: (?:"
    r"(?P<IMAP>\* (?:OK|PREAUTH|BYE)\b)"
    r"|(?P<POP3>\+OK\b|-ERR\b)"
    r'|(?P<ManageSieve>"IMPLEMENTATION")'
    r"|(?P<HTTP>HTTP/[0-9])"
    r"|(?P<SSH>SSH-[0-9]))"
)


def _other_protocol(options: Options, event: SessionFailed, name: str) -> ProtocolError:
    """The port is another's, today and tomorrow."""
    what = "which mail is read by" if name in ("IMAP", "POP3") else "which takes no mail"
    return ProtocolError(
        f"{options.place} speaks {name}, {what}, and not SMTP: {event.detail}",
        hint=f"mail is sent by SMTP, which is usually at port {SUBMISSIONS_PORT} (smtps://) or"
        f" {SUBMISSION_PORT} (smtp+starttls://)",
        server=options.place,
        stage=event.stage,
    )


def _greeting_hint(options: Options) -> str:
    """The server said nothing, or nothing that is SMTP."""
    if options.tls is TlsUse.IMPLICIT:
        return ""
    if options.port == SUBMISSIONS_PORT:
        return 'port 465 speaks TLS from the start: use tls="implicit" (smtps://)'
    return (
        'if the server speaks TLS from the start, use tls="implicit" (smtps://); else the port may'
        " be another program's"
    )


def _refused_session(options: Options, stage: Stage, reply: Reply) -> SendingError:
    hint = "it may work later" if reply.is_transient else ""
    if stage is Stage.EHLO and reply.code in (500, 502):  # the command is not known there
        return _other_hello(options, reply)
    if stage is Stage.EHLO:
        hint = "the server dislikes our name: set hello_name to this machine's own"
    kind = ConnectError if stage in (Stage.GREETING, Stage.EHLO) else ProtocolError
    return kind(
        f"{options.place} turns us away: {reply}",
        hint=hint,
        server=options.place,
        stage=stage,
        reply=reply,
        is_transient=reply.is_transient,
    )


def _other_hello(options: Options, reply: Reply) -> ProtocolError:
    """LMTP begins with a command of its own (RFC 2033 §4.1), which tells the two apart."""
    text = f"{options.place} speaks SMTP and not LMTP: {reply}"
    hint = "use smtp://, smtps:// or smtp+starttls://"
    if options.kind is not Kind.LMTP:
        text = f"{options.place} takes neither EHLO nor HELO: {reply}"
        hint = f"if it is a port for LMTP, use lmtp://{options.place}"
    return ProtocolError(text, hint=hint, server=options.place, stage=Stage.EHLO, reply=reply)


# --- messages ---


def rejected(ended: MessageEnded) -> tuple[Rejected, ...]:
    """The recipients that did not get it, with the reply to each."""
    return tuple(
        Rejected(
            recipient=format_address(path.address, unicode=True),
            code=outcome.reply.code if outcome.reply is not None else 0,
            status=outcome.status,
            text=outcome.reply.text if outcome.reply is not None else outcome.detail,
            is_transient=outcome.result is not Result.PERMANENT,
            response=str(outcome.reply) if outcome.reply is not None else "",
            may_have_been_sent=outcome.result is Result.UNKNOWN,
        )
        for path, outcome in zip(ended.message.envelope.recipients, ended.outcomes, strict=True)
        if outcome.result is not Result.ACCEPTED
    )


def message_refused(options: Options, ended: MessageEnded) -> SendingError:
    """Nobody got it, or nobody can know: the error that says why, by what was said to the first
    recipient, or the first who may have it."""
    unknown = (one for one in ended.outcomes if one.result is Result.UNKNOWN)
    outcome = next(unknown, ended.outcomes[0])
    turned_down = rejected(ended)
    is_transient = any(one.is_transient for one in turned_down)  # worth another try for somebody
    said = str(outcome.reply) if outcome.reply is not None else outcome.detail
    if outcome.result is Result.UNKNOWN:
        kind = _cut_short(outcome)
        what = "it did not answer in time" if kind is SendTimeout else f"the line broke: {said}"
        return kind(
            f"{options.place} did not say whether it took the message: {what}",
            hint="it may have been taken or not: look before you send it again",
            may_have_been_sent=True,
            rejected=turned_down,
            server=options.place,
            stage=outcome.stage,
            is_transient=True,
        )
    if outcome.reply is None:
        return _without_a_word(options, ended, outcome, turned_down)
    if outcome.stage in (Stage.MAIL, Stage.RCPT):
        return EnvelopeError(
            _envelope_text(options, ended, outcome, said),
            hint=_envelope_hint(options, ended, outcome, said),
            rejected=turned_down,
            server=options.place,
            stage=outcome.stage,
            reply=outcome.reply,
            is_transient=is_transient,
        )
    return MessageError(
        f"{options.place} did not take the message: {said}",
        hint=_content_hint(ended, outcome, said),
        rejected=turned_down,
        server=options.place,
        stage=outcome.stage,
        reply=outcome.reply,
        is_transient=is_transient,
    )


def _cut_short(outcome: Outcome) -> type[SendTimeout | ProtocolError]:
    return SendTimeout if IN_TIME in outcome.detail else ProtocolError


def _without_a_word(
    options: Options, ended: MessageEnded, outcome: Outcome, turned_down: tuple[Rejected, ...]
) -> SendingError:
    """The server was not asked, as what it offers says that it cannot; or the line broke."""
    if outcome.result is Result.PERMANENT:
        return CapabilityError(
            f"{options.place} cannot take this message: {outcome.detail}",
            hint=_capability_hint(ended, outcome),
            server=options.place,
            stage=outcome.stage,
            rejected=turned_down,
        )
    return _cut_short(outcome)(
        f"{options.place} ended the session before it took the message"
        f" ({outcome.stage.value}): {outcome.detail}",
        server=options.place,
        stage=outcome.stage,
        is_transient=True,
        rejected=turned_down,
    )


def _capability_hint(ended: MessageEnded, outcome: Outcome) -> str:
    match outcome.status:
        case "5.3.4":
            return f"the message has {len(ended.message.octets)} octets with all that is attached"
        case "5.6.7":
            return "an address outside ASCII needs a server with SMTPUTF8 (RFC 6531)"
        case "5.7.10" | "5.7.30":
            return "tls_demand=REQUIRED asks for a server with REQUIRETLS (RFC 8689)"
        case _:
            return ""


def _envelope_text(options: Options, ended: MessageEnded, outcome: Outcome, said: str) -> str:
    envelope = ended.message.envelope
    if outcome.stage is Stage.MAIL:
        sender = envelope.reverse_path
        name = format_address(sender, unicode=True) if sender is not None else "<>"
        return f"{options.place} takes nothing from {name}: {said}"
    first = format_address(envelope.recipients[0].address, unicode=True)
    others = f" and {len(envelope.recipients) - 1} more" if len(envelope.recipients) > 1 else ""
    return f"{options.place} refused the recipient {first}{others}: {said}"


def _envelope_hint(options: Options, ended: MessageEnded, outcome: Outcome, said: str) -> str:
    reply = outcome.reply
    code = reply.code if reply is not None else 0
    if code == 530 or (options.login is None and outcome.status in ("5.7.0", "5.7.1")):
        return f"log in with user and password, at port {SUBMISSION_PORT} or {SUBMISSIONS_PORT}"
    if _RELAY.search(said) and options.login is None:
        return f"log in with user and password, at port {SUBMISSION_PORT} or {SUBMISSIONS_PORT}"
    if _GREYLISTED.search(said) and outcome.result is Result.TRANSIENT:
        return "the server asks strangers to come again: send it once more in some minutes"
    if outcome.result is Result.TRANSIENT:
        return "it may work later"
    if outcome.stage is Stage.RCPT and outcome.status in ("5.1.1", "5.1.2", "5.1.3", "5.1.10"):
        return "check the spelling of the address"
    if outcome.stage is Stage.MAIL and options.login is not None:
        return f"{options.login.user} may not send as this address: use one of that account"
    if outcome.status == "5.7.1" and options.login is not None:
        return f"{options.login.user} may not send as this address, or not there"
    return "these are the server's words; its administrator can say more"


def _content_hint(ended: MessageEnded, outcome: Outcome, said: str) -> str:
    if outcome.result is Result.TRANSIENT:
        return "it may work later"
    if outcome.status in ("5.3.4", "5.2.3") or "size" in said.lower():
        return f"the message has {len(ended.message.octets)} octets with all that is attached"
    if outcome.status == "5.7.1" and "from" in said.lower():
        return "the From field is not of the account that logged in: change sender"
    if outcome.status == "5.7.5":  # not encrypted as it has to be: the words say what is missing
        return ""
    return "these are the server's words; its administrator can say more"
