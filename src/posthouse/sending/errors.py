"""What can go wrong when mail is sent, as a small tree: one class for each thing to do about it.

Every error says what happened in its text and, where there is a likely mistake behind it, what to
do about it in `hint`. Nothing here carries a password, a token or the content of a message.
"""

from __future__ import annotations

from collections.abc import Sequence

from posthouse.kernel.errors import PosthouseError
from posthouse.kernel.reply import Reply
from posthouse.protocol.smtp.client_events import Stage
from posthouse.sending.receipt import Rejected

__all__ = [
    "AuthError",
    "CapabilityError",
    "ConnectError",
    "EnvelopeError",
    "MessageError",
    "OptionError",
    "ProtocolError",
    "SendTimeout",
    "SendingError",
    "TlsError",
    "again",
]


class SendingError(PosthouseError):
    """The message was not sent, as far as anybody knows; catch this one to catch them all."""

    def __init__(
        self,
        text: str,
        *,
        hint: str = "",
        server: str = "",
        stage: Stage | None = None,
        reply: Reply | None = None,
        is_transient: bool = False,
        may_have_been_sent: bool = False,
        rejected: Sequence[Rejected] = (),
    ) -> None:
        """
        Args:
            text: what happened, in words.
            hint: what to do about it; "" where nothing is likelier than anything else.
            server: "host:port", or the name of another kind of transport.
            stage: what was being waited for.
            reply: the server's words, where it said something.
            is_transient: the same may work later.
            may_have_been_sent: the line broke between the end of the message and its reply, so
                the server has it or not; sending it again may send it twice (RFC 1047).
            rejected: recipients that were turned down, with the reply to each.
        """
        super().__init__(text)
        self.text = text
        self.hint = hint
        self.server = server
        self.stage = stage
        self.reply = reply
        self.is_transient = is_transient
        self.may_have_been_sent = may_have_been_sent
        self.rejected = tuple(rejected)

    def __str__(self) -> str:
        return f"{self.text}\nhint: {self.hint}" if self.hint else self.text

    def __reduce__(self) -> tuple[object, ...]:
        """With all it says, to another process or into a copy; arguments are not repeated, as
        those of subclasses are not what `args` has."""
        return _bare, (type(self), self.args), self.__dict__.copy()


class OptionError(SendingError, ValueError):
    """The transport was told something that cannot be; `option` names the keyword."""

    def __init__(self, option: str, words: str, *, hint: str = "") -> None:
        super().__init__(f"the option {option} {words}" if option else words, hint=hint)
        self.option = option


class ConnectError(SendingError):
    """The server cannot be found or reached, or a proxy on the way says no."""


class TlsError(SendingError):
    """TLS was asked for and cannot be had: the handshake failed, the certificate is not trusted or
    is another host's, the other side speaks plain text, or does not offer STARTTLS."""


class AuthError(SendingError):
    """The login was refused, or no mechanism is known to both sides."""


class EnvelopeError(SendingError):
    """The server takes nothing from this sender, or turned down every recipient; or an address
    cannot be one. Nobody has the message."""


class MessageError(SendingError):
    """The message cannot be made of what was given, or the server refused its content.

    `field` names the argument or header field that is wrong; "" when the server refused it.
    """

    def __init__(self, text: str, *, field: str = "", **more: object) -> None:
        super().__init__(text, **more)  # type: ignore[arg-type]  # the keywords of SendingError
        self.field = field


class SendTimeout(SendingError):
    """No answer in time; `stage` says to what."""


class ProtocolError(SendingError):
    """The other side does not speak SMTP, or broke the line in the middle."""


class CapabilityError(SendingError):
    """The server does not offer what this message needs (SMTPUTF8, REQUIRETLS, its SIZE)."""


def again(error: SendingError) -> SendingError:
    """The same error for one more who waits, as a traceback is kept in it."""
    copy = _bare(type(error), error.args)
    copy.__dict__.update(error.__dict__)
    copy.__cause__ = error.__cause__
    return copy


def _bare(kind: type[SendingError], args: tuple[object, ...]) -> SendingError:
    """Without `__init__`, as the attributes come from elsewhere."""
    return kind.__new__(kind, *args)
