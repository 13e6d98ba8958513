"""PKCS #12 files (RFC 7292): all private keys and certificates in one, whatever their kind.

cryptography's reader gives one key and knows no X25519, so the file is read here: BER and DER, MAC
by the file's own derivation or PBMAC1 (RFC 9579), bags by PBES2 (AES) or by 3DES and RC2 of old.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

import msgspec
from cryptography.hazmat.decrepit.ciphers.algorithms import RC2, TripleDES
from cryptography.hazmat.primitives.ciphers import BlockCipherAlgorithm, Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.padding import PKCS7

from posthouse.kernel.secret import Secret
from posthouse.mimesec.ports import ProtectionError
from posthouse.mimesec.smime import algorithms, der
from posthouse.mimesec.smime.algorithms import Identifier, UnsupportedForm
from posthouse.mimesec.smime.der import BadStructure, Element, Fields
from posthouse.mimesec.smime.structures import DATA, ENCRYPTED_DATA

OCTETS_MAX: Final = 1024 * 1024
ITERATIONS_MAX: Final = 2_000_000
"""Of a key derivation; one of a file's own kind takes a microsecond each."""
BAGS_MAX: Final = 200
DEPTH_MAX: Final = 4

_BAG: Final = "1.2.840.113549.1.12.10.1."
KEY_BAG, SHROUDED_KEY_BAG, CERTIFICATE_BAG, SAFE_BAG = (
    f"{_BAG}1", f"{_BAG}2", f"{_BAG}3", f"{_BAG}6",
)  # fmt: skip
X509_CERTIFICATE: Final = "1.2.840.113549.1.9.22.1"
PBES2: Final = "1.2.840.113549.1.5.13"
PBKDF2: Final = "1.2.840.113549.1.5.12"
PBMAC1: Final = "1.2.840.113549.1.5.14"
_PRFS: Final = {
    "1.2.840.113549.2.7": "sha1",
    "1.2.840.113549.2.8": "sha224",
    "1.2.840.113549.2.9": "sha256",
    "1.2.840.113549.2.10": "sha384",
    "1.2.840.113549.2.11": "sha512",
}
_HASHES: Final = {
    "1.3.14.3.2.26": "sha1",
    "2.16.840.1.101.3.4.2.4": "sha224",
    "2.16.840.1.101.3.4.2.1": "sha256",
    "2.16.840.1.101.3.4.2.2": "sha384",
    "2.16.840.1.101.3.4.2.3": "sha512",
}
# Ways of PKCS #12 itself (RFC 7292 appendix C): octets of the key.
_OWN: Final = {
    "1.2.840.113549.1.12.1.3": 24,  # 3DES
    "1.2.840.113549.1.12.1.4": 16,  # 3DES with two keys
    "1.2.840.113549.1.12.1.5": 16,  # RC2
}
_OWN_RC2: Final = "1.2.840.113549.1.12.1.5"
_REFUSED: Final = {
    "1.2.840.113549.1.12.1.1": "RC4",
    "1.2.840.113549.1.12.1.2": "RC4 of 40 bits",
    "1.2.840.113549.1.12.1.6": "RC2 of 40 bits",
}
_CIPHERS: Final = {
    "2.16.840.1.101.3.4.1.2": 16,
    "2.16.840.1.101.3.4.1.22": 24,
    "2.16.840.1.101.3.4.1.42": 32,
    "1.2.840.113549.3.7": 24,
}
_TRIPLE_DES: Final = "1.2.840.113549.3.7"
_KEY_ID, _IV_ID, _MAC_ID = 1, 2, 3


class _WrongPassword(Exception):
    pass


class _Words(msgspec.Struct, frozen=True):
    """A password in its two spellings."""

    utf8: bytes
    bmp: bytes


def read(octets: bytes, password: Secret | None) -> tuple[list[bytes], list[bytes]]:
    """The private keys (PKCS #8 in DER) and the certificates of a file.

    Raises:
        ProtectionError: it is no such file, uses what is not read, or the password is wrong or
            missing.
    """
    text = password.reveal() if password else ""
    spellings = [_Words(text.encode(), f"{text}\0".encode("utf-16-be"))]
    if not text:  # files without a password come in both kinds
        spellings.append(_Words(b"", b""))
    try:
        for words in spellings:
            try:
                return _read(octets, words)
            except _WrongPassword:
                continue
    except UnsupportedForm as refused:
        raise ProtectionError(
            f"the PKCS #12 file cannot be opened: {refused}", hint="export it again with AES"
        ) from None
    except (BadStructure, ValueError):
        raise ProtectionError(
            "this is no whole PKCS #12 file", hint="export the certificate with its key again"
        ) from None
    if not text:
        raise ProtectionError(
            "the PKCS #12 file has a password, and none was given",
            hint="give the password that was set when it was exported",
        )
    raise ProtectionError(
        "the password of the PKCS #12 file is wrong",
        hint="give the password that was set when it was exported",
    )


def _read(octets: bytes, words: _Words) -> tuple[list[bytes], list[bytes]]:
    if len(octets) > OCTETS_MAX:
        raise BadStructure(f"more than {OCTETS_MAX} octets")
    fields = Fields.of(der.definite(octets))
    if der.small(fields.take(der.INTEGER)) != 3:
        raise BadStructure("another version")
    outer = Fields(fields.take(der.SEQUENCE).content)
    if der.dotted(outer.take(der.OID).content) != DATA:
        raise UnsupportedForm("it is signed by a key in place of a password")
    content = der.element(outer.take(der.context(0)).content, der.OCTET_STRING).content
    if (mac := fields.take_if(der.SEQUENCE)) is not None:
        _check_mac(mac, content, words)
    found = _Found(words)
    safe = der.definite(content)
    for info in der.elements(der.element(safe, der.SEQUENCE).content, count_max=BAGS_MAX):
        found.take_safe(info)
    return found.keys, found.certificates


class _Found:
    def __init__(self, words: _Words) -> None:
        self.keys: list[bytes] = []
        self.certificates: list[bytes] = []
        self._words = words
        self._bags = 0

    def take_safe(self, info: Element) -> None:
        fields = Fields.of(info.whole)
        kind = der.dotted(fields.take(der.OID).content)
        content = fields.take(der.context(0)).content
        if kind == DATA:
            plain = der.element(content, der.OCTET_STRING).content
        elif kind == ENCRYPTED_DATA:
            plain = self._opened(content)
        else:
            raise UnsupportedForm("it is encrypted to a key in place of a password")
        self._take_bags(der.definite(plain), depth=0)

    def _opened(self, content: bytes) -> bytes:
        """EncryptedData (RFC 5652 §8)."""
        fields = Fields.of(content)
        fields.take(der.INTEGER)
        inner = Fields(fields.take(der.SEQUENCE).content)
        inner.take(der.OID)
        how = algorithms.identifier(inner.take(der.SEQUENCE))
        sealed = der.string(inner.take(der.context(0), der.context(0, is_constructed=False)))
        return _decrypted(how, sealed, self._words)

    def _take_bags(self, octets: bytes, *, depth: int) -> None:
        if depth == DEPTH_MAX:
            raise BadStructure("bags nested too deep")
        for bag in der.elements(der.element(octets, der.SEQUENCE).content, count_max=BAGS_MAX):
            self._bags += 1
            if self._bags > BAGS_MAX:
                raise BadStructure(f"more than {BAGS_MAX} bags")
            fields = Fields.of(bag.whole)
            kind = der.dotted(fields.take(der.OID).content)
            value = fields.take(der.context(0)).content
            if kind == KEY_BAG:
                self.keys.append(value)
            elif kind == SHROUDED_KEY_BAG:
                self.keys.append(self._shrouded(value))
            elif kind == CERTIFICATE_BAG:
                self._take_certificate(value)
            elif kind == SAFE_BAG:
                self._take_bags(value, depth=depth + 1)

    def _shrouded(self, value: bytes) -> bytes:
        """EncryptedPrivateKeyInfo."""
        fields = Fields.of(value)
        how = algorithms.identifier(fields.take(der.SEQUENCE))
        return _decrypted(how, fields.take(der.OCTET_STRING).content, self._words)

    def _take_certificate(self, value: bytes) -> None:
        fields = Fields.of(value)
        if der.dotted(fields.take(der.OID).content) == X509_CERTIFICATE:
            inner = fields.take(der.context(0)).content
            self.certificates.append(der.element(inner, der.OCTET_STRING).content)


# --- passwords ---


def _check_mac(mac: Element, content: bytes, words: _Words) -> None:
    """MacData (RFC 7292 §4)."""
    fields = Fields(mac.content)
    info = Fields(fields.take(der.SEQUENCE).content)
    how = algorithms.identifier(info.take(der.SEQUENCE))
    written = info.take(der.OCTET_STRING).content
    salt = fields.take(der.OCTET_STRING).content
    counted = fields.take_if(der.INTEGER)
    iterations = _iterations(counted) if counted else 1
    if how.oid == PBMAC1:
        key, name = _pbmac(how, words)
    else:
        name = _named(_HASHES, how.oid, "its MAC")
        size = hashlib.new(name).digest_size
        key = _own_derived(name, words.bmp, salt, iterations, _MAC_ID, size)
    if not hmac.compare_digest(hmac.digest(key, content, name), written):
        raise _WrongPassword


def _pbmac(how: Identifier, words: _Words) -> tuple[bytes, str]:
    """RFC 9579: the length of the key is written."""
    fields = Fields.of(how.parameters)
    derivation = algorithms.identifier(fields.take(der.SEQUENCE))
    name = _named(_PRFS, algorithms.identifier(fields.take(der.SEQUENCE)).oid, "its MAC")
    return _pbkdf2(derivation, words, key_octets=None), name


def _decrypted(how: Identifier, sealed: bytes, words: _Words) -> bytes:
    if how.oid == PBES2:
        algorithm, vector = _pbes2(how, words)
    elif how.oid in _OWN:
        algorithm, vector = _own_cipher(how, words)
    else:
        raise UnsupportedForm(f"it is encrypted by {_REFUSED.get(how.oid, how.oid)}")
    block = algorithm.block_size // 8
    if len(vector) != block or not sealed or len(sealed) % block:
        raise BadStructure("encrypted octets of an odd length")
    decryptor = Cipher(algorithm, modes.CBC(vector)).decryptor()
    padded = decryptor.update(sealed) + decryptor.finalize()
    unpadder = PKCS7(algorithm.block_size).unpadder()
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise _WrongPassword from None


def _pbes2(how: Identifier, words: _Words) -> tuple[BlockCipherAlgorithm, bytes]:
    fields = Fields.of(how.parameters)
    derivation = algorithms.identifier(fields.take(der.SEQUENCE))
    cipher = algorithms.identifier(fields.take(der.SEQUENCE))
    key_octets = _CIPHERS.get(cipher.oid)
    if key_octets is None:
        raise UnsupportedForm(f"it is encrypted by {cipher.oid}")
    key = _pbkdf2(derivation, words, key_octets=key_octets)
    vector = der.element(cipher.parameters, der.OCTET_STRING).content
    return (TripleDES(key) if cipher.oid == _TRIPLE_DES else AES(key)), vector


def _pbkdf2(derivation: Identifier, words: _Words, *, key_octets: int | None) -> bytes:
    if derivation.oid != PBKDF2:
        raise UnsupportedForm(f"its key derivation is {derivation.oid}")
    fields = Fields.of(derivation.parameters)
    salt = fields.take(der.OCTET_STRING).content
    iterations = _iterations(fields.take(der.INTEGER))
    written = fields.take_if(der.INTEGER)
    name = "sha1"
    if (prf := fields.take_if(der.SEQUENCE)) is not None:
        name = _named(_PRFS, algorithms.identifier(prf).oid, "its key derivation")
    size = key_octets or (der.small(written) if written else 0)
    if not 0 < size <= 64:
        raise BadStructure("a key of a length that cannot be")
    return hashlib.pbkdf2_hmac(name, words.utf8, salt, iterations, size)


def _own_cipher(how: Identifier, words: _Words) -> tuple[BlockCipherAlgorithm, bytes]:
    fields = Fields.of(how.parameters)
    salt = fields.take(der.OCTET_STRING).content
    iterations = _iterations(fields.take(der.INTEGER))
    size = _OWN[how.oid]
    key = _own_derived("sha1", words.bmp, salt, iterations, _KEY_ID, size)
    vector = _own_derived("sha1", words.bmp, salt, iterations, _IV_ID, 8)
    if how.oid == _OWN_RC2:
        return RC2(key), vector
    return TripleDES(key if size == 24 else key + key[:8]), vector


def _own_derived(
    name: str, password: bytes, salt: bytes, iterations: int, purpose: int, size: int
) -> bytes:
    """RFC 7292 appendix B.2."""
    block = hashlib.new(name).block_size
    diversifier = bytes([purpose]) * block
    filled = bytearray(_filled(salt, block) + _filled(password, block))
    derived = b""
    while len(derived) < size:
        digest = hashlib.new(name, diversifier + bytes(filled)).digest()
        for _ in range(iterations - 1):
            digest = hashlib.new(name, digest).digest()
        derived += digest
        add = int.from_bytes(_filled(digest, block)[:block], "big") + 1
        for at in range(0, len(filled), block):
            part = int.from_bytes(filled[at : at + block], "big") + add
            filled[at : at + block] = (part % (1 << 8 * block)).to_bytes(block, "big")
    return derived[:size]


def _filled(octets: bytes, block: int) -> bytes:
    """Repeated up to whole blocks."""
    if not octets:
        return b""
    size = -(-len(octets) // block) * block
    return (octets * -(-size // len(octets)))[:size]


def _iterations(value: Element) -> int:
    found = der.small(value)
    if not 1 <= found <= ITERATIONS_MAX:
        raise UnsupportedForm(f"its key derivation takes {found} rounds")
    return found


def _named(known: dict[str, str], oid: str, what: str) -> str:
    if oid not in known:
        raise UnsupportedForm(f"{what} is {oid}")
    return known[oid]
