"""One session of a simulated SMTP host."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from posthouse.sim.peer_tls import TlsSide
from posthouse.sim.personality import (
    Behaviour,
    Drip,
    Drop,
    Flood,
    Say,
    Stage,
    Stall,
    Starttls,
    says,
)
from posthouse.sim.received import Received, path_of

if TYPE_CHECKING:
    from posthouse.sim.peers import SmtpPeer

LINE_OCTETS_MAX: Final = 65_536
FLOOD_LINE: Final = b"250-" + b"x" * 500 + b"\r\n"
OK: Final = b"250 2.0.0 ok\r\n"
Act = Callable[[], None]


class PeerSession(asyncio.Protocol):
    """Takes one command at a time; what is pipelined waits until the reply has left."""

    def __init__(self, peer: SmtpPeer) -> None:
        self._peer = peer
        self._transport: Any = None
        self._tls: TlsSide | None = None
        self._inbox = bytearray()
        self._is_busy = False  # a reply is on its way; nothing is parsed
        self._is_going_on = False
        self._is_in_data = False
        self._searched_octets = 0  # of the inbox, for the final dot
        self._chunk_octets: int | None = None  # of BDAT, still to come
        self._is_last_chunk = False
        self._is_lost = False
        self._is_aborting = False
        self._client = ""
        self._helo = b""
        self._messages = 0
        self._reset()

    def _reset(self) -> None:
        self._mail: bytes | None = None
        self._recipients: list[bytes] = []
        self._content = bytearray()

    # --- asyncio.Protocol ---

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._client = str((transport.get_extra_info("peername") or ("",))[0])
        self._peer.sessions.add(self)
        self._peer.counts["connections"] += 1
        hostname = self._peer.personality.hostname
        if self._peer.is_crowded():
            self._say(Stage.CONNECT, b"421 4.7.0 too many connections\r\n", self._close)
        else:
            self._answer(Stage.CONNECT, f"220 {hostname} ESMTP\r\n".encode())

    def data_received(self, data: bytes) -> None:
        if self._is_aborting:
            self.abort()
            return
        if self._tls is not None:
            try:
                data = self._tls.receive(data)
            except ssl.SSLError:
                self._peer.counts["tls failures"] += 1
                self.abort()
                return
        self._inbox += data
        self._go_on()

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_lost = True
        self._peer.sessions.discard(self)

    def abort(self) -> None:
        self._transport.abort()

    # --- replies ---

    def _answer(
        self, stage: Stage, usual: bytes, then: Act | None = None, *, by: Behaviour | None = None
    ) -> None:
        """Say the usual, or do what the personality does at this stage. `then` follows only a
        usual reply that was positive."""
        behaviour = by or self._peer.personality.at.get(stage)
        self._is_busy = True
        later = asyncio.get_running_loop().call_later
        match behaviour:
            case None:
                self._say(stage, usual, then)
            case Say(octets):
                is_closing = octets.startswith(b"421")
                self._say(stage, octets, self._close if is_closing else None)
            case Drop():
                self.abort() if behaviour.is_reset else self._close()
            case Stall():
                if behaviour.seconds is not None:
                    later(behaviour.seconds, self._say, stage, usual, then)
            case Drip():
                self._drip(stage, usual, then, behaviour.seconds)
            case Flood():
                lines = behaviour.octets // len(FLOOD_LINE)
                self._say(stage, FLOOD_LINE * lines + usual, then)

    def _say(self, stage: Stage, octets: bytes, then: Act | None = None) -> None:
        self._is_busy = True
        delay_s = self._peer.personality.reply_delay_s
        if delay_s:
            asyncio.get_running_loop().call_later(delay_s, self._said, stage, octets, then)
        else:
            self._said(stage, octets, then)

    def _said(self, stage: Stage, octets: bytes, then: Act | None) -> None:
        if self._is_lost:
            return
        self._peer.note(stage, octets)
        self._write(octets)
        self._is_busy = False
        if then is not None:
            then()
        self._go_on()

    def _drip(self, stage: Stage, octets: bytes, then: Act | None, seconds: float) -> None:
        if self._is_lost:
            return
        if len(octets) <= 1:
            self._say(stage, octets, then)
            return
        self._write(octets[:1])
        later = asyncio.get_running_loop().call_later
        later(seconds, self._drip, stage, octets[1:], then, seconds)

    def _write(self, octets: bytes) -> None:
        self._transport.write(octets if self._tls is None else self._tls.send(octets))

    def _close(self) -> None:
        self._is_busy = True
        self._transport.close()

    # --- what comes in ---

    def _go_on(self) -> None:
        """Take what can be taken. Replies call it too; only the outermost call loops."""
        if self._is_going_on:
            return
        self._is_going_on = True
        try:
            while not self._is_busy and not self._is_lost and self._take():
                pass
        finally:
            self._is_going_on = False

    def _take(self) -> bool:
        """One command, chunk or message; False when octets are missing."""
        if self._chunk_octets is not None:
            return self._take_chunk()
        if self._is_in_data:
            return self._take_data()
        line = self._take_line()
        if line is not None:
            self._obey(line)
        return line is not None

    def _take_line(self) -> bytes | None:
        end = self._inbox.find(b"\r\n")
        if end < 0:
            if len(self._inbox) > LINE_OCTETS_MAX:
                self.abort()
            return None
        line = bytes(self._inbox[:end])
        del self._inbox[: end + 2]
        return line

    def _obey(self, line: bytes) -> None:
        self._peer.commands.append(line)
        verb, _, argument = line.partition(b" ")
        act = VERBS.get(verb.upper())
        if act is None:
            self._say(Stage.RSET, b"500 5.5.1 unknown command\r\n")
        else:
            act(self, argument)

    def _ehlo(self, argument: bytes) -> None:
        personality = self._peer.personality
        if not personality.is_esmtp:
            self._say(Stage.EHLO, b"502 5.5.1 what is EHLO\r\n")
            return
        self._helo = argument
        self._reset()
        words = list(personality.extensions)
        if personality.starttls is not Starttls.ABSENT and self._tls is None:
            words.append("STARTTLS")
        lines = [personality.hostname, *words]
        octets = "".join(f"250-{line}\r\n" for line in lines[:-1]) + f"250 {lines[-1]}\r\n"
        self._answer(Stage.EHLO, octets.encode())

    def _hello(self, argument: bytes) -> None:
        self._helo = argument
        self._reset()
        self._answer(Stage.EHLO, f"250 {self._peer.personality.hostname}\r\n".encode())

    def _starttls(self, _argument: bytes) -> None:
        match self._peer.personality.starttls:
            case Starttls.ABSENT:
                self._say(Stage.STARTTLS, b"502 5.5.1 no TLS here\r\n")
            case Starttls.REFUSED:
                self._say(Stage.STARTTLS, b"454 4.7.0 TLS is not available\r\n")
            case Starttls.WORKS:
                self._answer(Stage.STARTTLS, b"220 2.0.0 go ahead\r\n", self._start_tls)
            case Starttls.ABORTED:
                self._say(Stage.STARTTLS, b"220 2.0.0 go ahead\r\n", self._expect_abort)
            case Starttls.GARBAGE:
                self._say(Stage.STARTTLS, b"220 2.0.0 go ahead\r\n", self._send_garbage)
            case Starttls.INJECTED:
                injected = b"220 2.0.0 go ahead\r\n250-peer.test\r\n250 AUTH PLAIN\r\n"
                self._say(Stage.STARTTLS, injected, self._start_tls)

    def _start_tls(self) -> None:
        assert self._peer.tls is not None, "Starttls.WORKS needs a TLS context"
        self._inbox.clear()
        self._reset()
        self._tls = TlsSide(self._peer.tls, self._transport.write, self._note_tls)

    def _note_tls(self) -> None:
        self._peer.counts["tls"] += 1

    def _expect_abort(self) -> None:
        """Cut the line as soon as the ClientHello comes."""
        self._is_busy = self._is_aborting = True

    def _send_garbage(self) -> None:
        self._is_busy = True
        self._transport.write(b"this is no TLS record at all, and never will be\r\n")

    def _mail_from(self, argument: bytes) -> None:
        if self._mail is not None:
            self._say(Stage.MAIL, b"503 5.5.1 one at a time\r\n")
        elif self._peer.is_throttled(self._messages):
            self._say(Stage.MAIL, b"421 4.7.0 too much mail from you\r\n", self._close)
        else:

            def begin() -> None:
                self._mail = argument

            self._answer(Stage.MAIL, b"250 2.1.0 ok\r\n", begin)

    def _rcpt_to(self, argument: bytes) -> None:
        if self._mail is None:
            self._say(Stage.RCPT, b"503 5.5.1 MAIL first\r\n")
            return
        by = self._peer.personality.recipients.get(path_of(argument).lower())
        if by is None and self._peer.is_greylisted(self._client, self._mail, argument):
            by = says(451, "4.7.1 greylisted, come back later")
        self._answer(
            Stage.RCPT, b"250 2.1.5 ok\r\n", lambda: self._recipients.append(argument), by=by
        )

    def _data(self, _argument: bytes) -> None:
        if not self._recipients:
            self._say(Stage.DATA, b"554 5.5.1 no valid recipients\r\n")
            return

        def begin() -> None:
            self._is_in_data = True

        self._answer(Stage.DATA, b"354 go ahead\r\n", begin)

    def _take_data(self) -> bool:
        if self._inbox.startswith(b".\r\n"):
            end, after = 0, 3
        else:
            found = self._inbox.find(b"\r\n.\r\n", self._searched_octets)
            if found < 0:
                self._searched_octets = max(0, len(self._inbox) - 4)
                limit = self._peer.personality.content_octets_until_drop
                if limit is not None and len(self._inbox) >= limit:
                    self.abort()
                return False
            end, after = found + 2, found + 5
        content = bytes(self._inbox[:end])
        del self._inbox[:after]
        self._is_in_data = False
        self._searched_octets = 0
        content = content[1:] if content.startswith(b".") else content
        self._accept(content.replace(b"\r\n.", b"\r\n"))
        return True

    def _bdat(self, argument: bytes) -> None:
        size, _, last = argument.partition(b" ")
        self._chunk_octets = int(size)
        self._is_last_chunk = last.strip().upper() == b"LAST"

    def _take_chunk(self) -> bool:
        size = self._chunk_octets
        assert size is not None
        if len(self._inbox) < size:
            return False
        self._content += self._inbox[:size]
        del self._inbox[:size]
        self._chunk_octets = None
        if not self._recipients:
            self._say(Stage.DOT, b"554 5.5.1 no valid recipients\r\n")
        elif self._is_last_chunk:
            self._accept(bytes(self._content))
        else:
            self._say(Stage.DATA, OK)
        return True

    def _accept(self, content: bytes) -> None:
        personality = self._peer.personality
        if len(content) > personality.message_octets_max:
            self._reset()
            self._say(Stage.DOT, b"552 5.3.4 too large\r\n")
            return
        behaviour = personality.at.get(Stage.DOT)
        # One that drops the line here has the message; its client must repeat it (F26).
        is_kept = not isinstance(behaviour, Say) or behaviour.octets.startswith(b"2")
        if is_kept:
            self._keep(content, is_acknowledged=not isinstance(behaviour, Drop | Stall))
        self._messages += 1
        self._reset()
        self._answer(Stage.DOT, OK)

    def _keep(self, content: bytes, *, is_acknowledged: bool) -> None:
        self._peer.messages.append(
            Received(
                mail=self._mail or b"",
                recipients=tuple(self._recipients),
                content=content,
                helo=self._helo,
                is_tls=self._tls is not None,
                is_acknowledged=is_acknowledged,
                received_s=asyncio.get_running_loop().time(),
                client=self._client,
            )
        )

    def _rset(self, _argument: bytes) -> None:
        self._reset()
        self._answer(Stage.RSET, OK)

    def _noop(self, _argument: bytes) -> None:
        self._say(Stage.RSET, OK)

    def _quit(self, _argument: bytes) -> None:
        self._answer(Stage.QUIT, b"221 2.0.0 bye\r\n", self._close)


VERBS: Final[dict[bytes, Callable[[PeerSession, bytes], None]]] = {
    b"EHLO": PeerSession._ehlo,
    b"HELO": PeerSession._hello,
    b"STARTTLS": PeerSession._starttls,
    b"MAIL": PeerSession._mail_from,
    b"RCPT": PeerSession._rcpt_to,
    b"DATA": PeerSession._data,
    b"BDAT": PeerSession._bdat,
    b"RSET": PeerSession._rset,
    b"NOOP": PeerSession._noop,
    b"QUIT": PeerSession._quit,
}
