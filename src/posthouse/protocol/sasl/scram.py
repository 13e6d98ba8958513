"""Client side of SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677).

Neither side shows the password to the other, and the server has to prove that it knew it: an
impostor that only says yes is found out. Channel binding is `tls-server-end-point` (RFC 5929 §4),
as the standard library gives no exporter for the newer `tls-exporter`.
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import stringprep
import unicodedata
from typing import Final

from posthouse.protocol.sasl.grammar import SaslSyntaxError

ITERATIONS_MIN: Final = 4_096  # RFC 7677 §4
ITERATIONS_MAX: Final = 2_000_000
"""Some seconds of work; a server that asks for more wants to keep us busy."""
MESSAGE_OCTETS_MAX: Final = 8_192
SALT_OCTETS_MAX: Final = 1_024
NONCE_OCTETS_MIN: Final = 8

_PROHIBITED: Final = (
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


class ScramClient:
    """One exchange: `initial`, then `step` for the challenge and for the server's proof."""

    __slots__ = ("_binding", "_first_bare", "_header", "_nonce", "_password", "_signature", "name")

    def __init__(
        self,
        username: str,
        password: str,
        *,
        nonce: bytes,
        authorization_id: str = "",
        binding: bytes | None = None,
        may_bind: bool = False,
    ) -> None:
        """
        Args:
            nonce: at least 18 octets of chance.
            binding: the hash of the server's certificate, for -PLUS.
            may_bind: we could have bound and the server did not offer it; it is told, so that
                somebody in the middle who took the offer away is found out (RFC 5802 §6).
        """
        self.name = "SCRAM-SHA-256" if binding is None else "SCRAM-SHA-256-PLUS"
        flag = "y" if may_bind else "n"
        if binding is not None:
            flag = "p=tls-server-end-point"
        authzid = f"a={_escaped(authorization_id)}" if authorization_id else ""
        self._header = f"{flag},{authzid},".encode()
        self._binding = binding or b""
        self._nonce = binascii.b2a_base64(nonce, newline=False)
        self._first_bare = f"n={_escaped(prepared(username))},r=".encode() + self._nonce
        self._password = prepared(password).encode()
        self._signature: bytes | None = None

    def initial(self) -> bytes | None:
        return self._header + self._first_bare

    def step(self, challenge: bytes) -> bytes:
        if self._signature is None:
            return self._prove(challenge)
        self._check(challenge)
        return b""

    def _prove(self, challenge: bytes) -> bytes:
        """client-final-message (RFC 5802 §7)."""
        fields = _fields(challenge)
        nonce, salt_text, count = (fields.get(name, b"") for name in (b"r", b"s", b"i"))
        if b"m" in fields:
            raise SaslSyntaxError("an extension that is not known")
        if not nonce.startswith(self._nonce) or len(nonce) < len(self._nonce) + NONCE_OCTETS_MIN:
            raise SaslSyntaxError("the nonce does not begin with ours")
        if not count.isdigit() or len(count) > 8:
            raise SaslSyntaxError("no iteration count")
        iterations = int(count)
        if not ITERATIONS_MIN <= iterations <= ITERATIONS_MAX:
            raise SaslSyntaxError(f"{iterations} iterations")
        try:
            salt = binascii.a2b_base64(salt_text, strict_mode=True)
        except ValueError as error:
            raise SaslSyntaxError("the salt is not base64") from error
        if not 0 < len(salt) <= SALT_OCTETS_MAX:
            raise SaslSyntaxError("the salt is of a strange size")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, iterations)
        bound = binascii.b2a_base64(self._header + self._binding, newline=False)
        without_proof = b"c=" + bound + b",r=" + nonce
        auth_message = b",".join((self._first_bare, challenge, without_proof))
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        stored_key = hashlib.sha256(client_key).digest()
        signature = hmac.digest(stored_key, auth_message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self._signature = hmac.digest(server_key, auth_message, "sha256")
        return without_proof + b",p=" + binascii.b2a_base64(proof, newline=False)

    @property
    def is_proven(self) -> bool:
        """The server has shown that it knows the password, too."""
        return self._signature == b""

    def _check(self, challenge: bytes) -> None:
        fields = _fields(challenge)
        expected = binascii.b2a_base64(self._signature or b"", newline=False)
        if not hmac.compare_digest(fields.get(b"v", b""), expected):
            raise SaslSyntaxError("the server did not prove that it knows the password")
        self._signature = b""


def _fields(message: bytes) -> dict[bytes, bytes]:
    if len(message) > MESSAGE_OCTETS_MAX:
        raise SaslSyntaxError("a challenge that is too long")
    found: dict[bytes, bytes] = {}
    for item in message.split(b","):
        name, equals, value = item.partition(b"=")
        if not equals or len(name) != 1:
            raise SaslSyntaxError("a challenge of another form")
        found.setdefault(name, value)
    return found


def _escaped(text: str) -> str:
    return text.replace("=", "=3D").replace(",", "=2C")


def prepared(text: str) -> str:
    """SASLprep (RFC 4013) of a name or password that is typed: what looks the same is the same.

    Text with characters that it forbids stays as it was typed, as other clients do.
    """
    if text.isascii():
        return text
    mapped = "".join(
        " " if stringprep.in_table_c12(one) else one
        for one in text
        if not stringprep.in_table_b1(one)
    )
    normal = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
    if any(forbids(one) for one in normal for forbids in _PROHIBITED):
        return text
    if any(stringprep.in_table_d1(one) for one in normal):  # RFC 3454 §6
        if any(stringprep.in_table_d2(one) for one in normal):
            return text
        if not (stringprep.in_table_d1(normal[0]) and stringprep.in_table_d1(normal[-1])):
            return text
    return normal
