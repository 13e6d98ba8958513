"""TLS for one connection over two `ssl.MemoryBIO`s: octets in, octets out, no sockets.

`Stream` is the only caller. The loops' own TLS keeps 25 KiB (uvloop) to 279 KiB (asyncio) for an
idle connection and up to 309 KiB once it was used; this keeps no buffer of its own, and the BIOs,
which never shrink, see at most `FEED_OCTETS` or `RECORD_OCTETS` at a time.
"""

from __future__ import annotations

import contextlib
import ssl
from enum import Enum
from typing import Any, Final

import msgspec

from posthouse.kernel.errors import PosthouseError
from posthouse.net.client_hello import OCTETS_MAX as HELLO_OCTETS_MAX

FEED_OCTETS: Final = 2048
"""Received octets given to OpenSSL at a time: a memory BIO keeps 4/3 of the most it ever held."""
RECORD_OCTETS: Final = 4096
"""Plaintext of one record we send, for the same reason; a record may hold 16384 (RFC 8446 §5.1)."""
READ_OCTETS: Final = 16_384


class TlsTrouble(Enum):
    """Why TLS failed, as metrics and the relay's decisions need it."""

    PLAINTEXT = "plaintext"
    VERSION = "version"
    CIPHER = "cipher"
    CERTIFICATE = "certificate"
    ALERT = "alert"
    TIMEOUT = "timeout"
    CUT = "cut"
    OTHER = "other"


class TlsFailure(PosthouseError):
    """The handshake failed, or the records that followed made no sense; `str()` is for people."""

    def __init__(self, trouble: TlsTrouble, text: str, *, verify_code: int = 0) -> None:
        super().__init__(text)
        self.trouble = trouble
        self.text = text
        self.verify_code = verify_code
        """OpenSSL's X509_V_ERR_…, where the peer's certificate does not verify."""
        self.certificate = b""
        """Which that is, as DER; b"" where it is not known."""


class TlsInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a finished handshake agreed on."""

    version: str
    """As OpenSSL says it: "TLSv1.3" or "TLSv1.2"."""
    cipher: str
    bits: int
    sni: str | None
    """The name the client asked for (RFC 6066 §3), on either side."""
    is_resumed: bool
    alpn: str | None = None
    """The protocol agreed on (RFC 7301)."""


class SniObject(ssl.SSLObject):
    """An `SSLObject` that remembers the client's server name; server contexts use it as
    `sslobject_class` and set `sni` in their callback."""

    sni: str | None = None
    hello: bytes = b""
    """While the handshake runs: what the client sent, for `net.client_hello`."""


_WORDS: Final[dict[str, tuple[TlsTrouble, str]]] = {
    "WRONG_VERSION_NUMBER": (TlsTrouble.PLAINTEXT, "the peer spoke plain text where TLS begins"),
    "HTTP_REQUEST": (TlsTrouble.PLAINTEXT, "the peer spoke HTTP without TLS where TLS begins"),
    "HTTPS_PROXY_REQUEST": (TlsTrouble.PLAINTEXT, "the peer spoke HTTP without TLS"),
    "UNSUPPORTED_PROTOCOL": (TlsTrouble.VERSION, "the peer only speaks TLS older than 1.2"),
    "UNKNOWN_PROTOCOL": (TlsTrouble.VERSION, "the peer only speaks TLS older than 1.2"),
    "VERSION_TOO_LOW": (TlsTrouble.VERSION, "the peer only speaks TLS older than 1.2"),
    "TLSV1_ALERT_PROTOCOL_VERSION": (TlsTrouble.VERSION, "the peer refuses our TLS versions"),
    "NO_SHARED_CIPHER": (TlsTrouble.CIPHER, "no cipher suite in common with the peer"),
    "NO_SUITABLE_SIGNATURE_ALGORITHM": (
        TlsTrouble.CIPHER,
        "no signature algorithm in common with the peer",
    ),
    "NO_SUITABLE_GROUPS": (TlsTrouble.CIPHER, "no key exchange group in common with the peer"),
    "DH_KEY_TOO_SMALL": (TlsTrouble.CIPHER, "the peer's Diffie-Hellman key is too small"),
    "SSLV3_ALERT_HANDSHAKE_FAILURE": (
        TlsTrouble.CIPHER,
        "the peer found nothing in common with us",
    ),
    "TLSV1_ALERT_UNKNOWN_CA": (TlsTrouble.CERTIFICATE, "the peer does not trust our certificate"),
    "SSLV3_ALERT_BAD_CERTIFICATE": (TlsTrouble.CERTIFICATE, "the peer refuses our certificate"),
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": (
        TlsTrouble.CERTIFICATE,
        "the peer refuses our certificate",
    ),
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": (
        TlsTrouble.CERTIFICATE,
        "the peer says our certificate has expired",
    ),
    "UNEXPECTED_EOF_WHILE_READING": (TlsTrouble.CUT, "the peer hung up in the middle of TLS"),
    "CALLBACK_FAILED": (TlsTrouble.OTHER, "the client asked for a name that is no host name"),
    "UNEXPECTED_MESSAGE": (TlsTrouble.OTHER, "the peer broke the order of the handshake"),
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": (
        TlsTrouble.OTHER,
        "a TLS record arrived damaged or forged",
    ),
}


def failure_of(error: ssl.SSLError) -> TlsFailure:
    """OpenSSL's error in plain words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        words = f"the peer's certificate does not verify: {error.verify_message}"
        return TlsFailure(TlsTrouble.CERTIFICATE, words, verify_code=error.verify_code)
    if isinstance(error, ssl.SSLEOFError):
        return TlsFailure(*_WORDS["UNEXPECTED_EOF_WHILE_READING"])
    reason = error.reason or ""
    if (known := _WORDS.get(reason)) is not None:
        return TlsFailure(*known)
    said = reason.replace("_", " ").lower() or "without a reason"
    trouble = TlsTrouble.ALERT if "ALERT" in reason else TlsTrouble.OTHER
    return TlsFailure(trouble, f"TLS failed: {said}")


class TlsAdapter:
    """Both directions of one TLS connection.

    After anything that may have produced octets for the peer, the caller sends `take_outgoing()`.
    """

    __slots__ = ("_incoming", "_object", "_outgoing", "early", "has_ended", "is_established")

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool, server_name: str | None
    ) -> None:
        """Raises `TlsFailure` when OpenSSL does not take `server_name`."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        try:
            self._object = context.wrap_bio(
                self._incoming,
                self._outgoing,
                server_side=server_side,
                server_hostname=None if server_side else server_name,
            )
        except ValueError as error:
            raise TlsFailure(TlsTrouble.OTHER, f"no TLS to {server_name!r}: {error}") from error
        self.is_established = False
        self.has_ended = False
        """The peer sent close_notify: nothing follows (RFC 8446 §6.1)."""
        self.early = b""
        """Written before the handshake was done; goes out when it is."""

    def advance(self) -> None:
        """Take the handshake as far as the octets at hand allow. Raises `TlsFailure`."""
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return
        except ssl.SSLCertVerificationError as error:
            failure = failure_of(error)
            failure.certificate = next(iter(self.peer_chain()), b"")
            raise failure from error
        except ssl.SSLError as error:
            raise failure_of(error) from error
        self.is_established = True
        if isinstance(self._object, SniObject):
            self._object.hello = b""

    def receive(self, octets: bytes) -> bytes:
        """Decrypt; b"" when no record is complete. Raises `TlsFailure`."""
        if len(octets) <= FEED_OCTETS:
            return self._receive_piece(octets)
        view = memoryview(octets)
        pieces = [
            self._receive_piece(view[start : start + FEED_OCTETS])
            for start in range(0, len(octets), FEED_OCTETS)
        ]
        return b"".join(pieces)

    def _receive_piece(self, octets: bytes | memoryview) -> bytes:
        incoming = self._incoming
        incoming.write(octets)
        if not self.is_established:
            self._note_hello(octets)
            self.advance()
            if not self.is_established:
                return b""
        plain: list[bytes] = []
        read, pending = self._object.read, self._object.pending
        try:
            while incoming.pending or pending():
                octets = read(READ_OCTETS)
                if not octets:
                    self.has_ended = True
                    incoming.read()  # whatever stands behind close_notify is nothing to us
                    break
                plain.append(octets)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.has_ended = True
            incoming.read()
        except ssl.SSLError as error:
            raise failure_of(error) from error
        return plain[0] if len(plain) == 1 else b"".join(plain)

    def _note_hello(self, octets: bytes | memoryview) -> None:
        """Keep the beginning of what a client sends for whoever chooses its certificate."""
        if isinstance(self._object, SniObject) and len(self._object.hello) < HELLO_OCTETS_MAX:
            self._object.hello += octets

    def encrypt(self, octets: bytes) -> bytes:
        """All of `octets` as records, behind anything OpenSSL had to say anyway (tickets)."""
        if not self.is_established:
            self.early += octets
            return b""
        write, take = self._object.write, self._outgoing.read
        if len(octets) <= RECORD_OCTETS:
            if octets:
                write(octets)
            return take()
        view = memoryview(octets)
        out: list[bytes] = []
        for start in range(0, len(octets), RECORD_OCTETS):
            # A write into memory is never partial or refused.
            write(view[start : start + RECORD_OCTETS])
            out.append(take())
        return b"".join(out)

    def take_outgoing(self) -> bytes:
        """Handshake messages, tickets and alerts that wait to be sent."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def shutdown(self) -> bytes:
        """close_notify (RFC 8446 §6.1), without waiting for the peer's."""
        if self.is_established:
            # It would wait for the peer's close_notify, or the connection is already broken.
            with contextlib.suppress(ssl.SSLError):
                self._object.unwrap()
        return self._outgoing.read()

    def info(self) -> TlsInfo:
        name, _, bits = self._object.cipher() or ("", "", 0)
        asked = getattr(self._object, "sni", None) or self._object.server_hostname
        return TlsInfo(
            version=self._object.version() or "",
            cipher=name,
            bits=bits,
            sni=asked,
            is_resumed=bool(self._object.session_reused),
            alpn=self._object.selected_alpn_protocol(),
        )

    def peer_chain(self) -> tuple[bytes, ...]:
        """The certificates the peer sent, leaf first, as DER; empty when it sent none.

        `ssl` has a public name for this from 3.13 on; before, only the inner object has it.
        """
        inner: Any = getattr(self._object, "_sslobj", None)
        chain = inner.get_unverified_chain() if inner is not None else None
        return tuple(ssl.PEM_cert_to_DER_cert(item.public_bytes()) for item in chain or ())
