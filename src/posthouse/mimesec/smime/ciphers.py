"""Encrypting and decrypting a content (RFC 5652 §6.3, RFC 5084, RFC 8103)."""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher as BlockCipher
from cryptography.hazmat.primitives.ciphers import modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.padding import PKCS7

from posthouse.mimesec.smime import algorithms, der
from posthouse.mimesec.smime.algorithms import UnsupportedForm
from posthouse.mimesec.smime.capabilities import CCM, GCM, REFUSED, Cipher
from posthouse.mimesec.smime.structures import Sealed

NONCE_OCTETS: Final = 12  # RFC 5084 §3.2 recommends it
TAG_OCTETS: Final = 16
TAG_OCTETS_MIN: Final = 12  # the default of RFC 5084 §3.2; shorter ones are guessed
_KNOWN: Final = {cipher.value: cipher for cipher in Cipher}


class Undecipherable(Exception):
    """The key does not fit or the content was changed: nobody is told which."""


class Encrypted(msgspec.Struct, frozen=True):
    algorithm: bytes
    """AlgorithmIdentifier in DER."""
    content: bytes
    tag: bytes
    """b"" where the cipher authenticates nothing."""


def fresh(octets: int) -> bytes:
    """Unguessable octets, from the generator of the library that also makes the keys."""
    return b"".join(AESGCM.generate_key(256) for _ in range(-(-octets // 32)))[:octets]


def encrypt(cipher: Cipher, key: bytes, content: bytes) -> Encrypted:
    """With a fresh nonce or initial vector.

    Args:
        key: of this message alone.
    """
    if cipher in GCM:
        nonce = fresh(NONCE_OCTETS)
        sealed = AESGCM(key).encrypt(nonce, content, None)
        parameters = der.sequence(der.octet_string(nonce), der.number(TAG_OCTETS))
    elif cipher is Cipher.CHACHA20_POLY1305:
        nonce = fresh(NONCE_OCTETS)
        sealed = ChaCha20Poly1305(key).encrypt(nonce, content, None)
        parameters = der.octet_string(nonce)
    elif cipher in (Cipher.AES_128_CBC, Cipher.AES_192_CBC, Cipher.AES_256_CBC):
        vector = fresh(16)
        return Encrypted(
            algorithms.algorithm(cipher.value, der.octet_string(vector)),
            _cbc_encrypted(key, vector, content),
            b"",
        )
    else:
        raise UnsupportedForm(f"{cipher.label} is read, but not written")
    algorithm = algorithms.algorithm(cipher.value, parameters)
    return Encrypted(algorithm, sealed[:-TAG_OCTETS], sealed[-TAG_OCTETS:])


def _cbc_encrypted(key: bytes, vector: bytes, content: bytes) -> bytes:
    padder = PKCS7(128).padder()
    encryptor = BlockCipher(AES(key), modes.CBC(vector)).encryptor()
    padded = padder.update(content) + padder.finalize()
    return encryptor.update(padded) + encryptor.finalize()


def cipher_of(sealed: Sealed) -> Cipher:
    """Raises UnsupportedForm for one that is not read, in words."""
    cipher = _KNOWN.get(sealed.algorithm.oid)
    if cipher is None:
        name = REFUSED.get(sealed.algorithm.oid)
        raise UnsupportedForm(
            f"it is encrypted by {name}, which anybody can break"
            if name
            else f"it is encrypted by {sealed.algorithm.oid}, which is not known"
        )
    # A stream that GCM made, given as EnvelopedData without its tag, would be opened unproven.
    if cipher.is_authenticated is not sealed.is_authenticated:
        raise UnsupportedForm(f"{cipher.label} does not belong into this kind of structure")
    return cipher


def decrypt(sealed: Sealed, cipher: Cipher, key: bytes) -> bytes:
    """The content.

    Raises:
        Undecipherable: for every reason that depends on the key.
        UnsupportedForm, BadStructure: the parameters are not accepted.
    """
    if not cipher.is_authenticated:
        return _cbc_decrypted(sealed, cipher, key)
    nonce, tag_octets = _nonce(sealed, cipher)
    tag, additional = sealed.tag, sealed.attributes or None
    if len(tag) != tag_octets:
        raise UnsupportedForm("its tag has another length than it says")
    try:
        if cipher in GCM:
            mode = modes.GCM(nonce, tag, min_tag_length=TAG_OCTETS_MIN)
            decryptor = BlockCipher(AES(key), mode).decryptor()
            decryptor.authenticate_additional_data(additional or b"")
            return decryptor.update(sealed.content) + decryptor.finalize()
        if cipher in CCM:
            return AESCCM(key, tag_octets).decrypt(nonce, sealed.content + tag, additional)
        return ChaCha20Poly1305(key).decrypt(nonce, sealed.content + tag, additional)
    except (InvalidTag, ValueError):
        raise Undecipherable from None


def _nonce(sealed: Sealed, cipher: Cipher) -> tuple[bytes, int]:
    parameters = sealed.algorithm.parameters
    if cipher is Cipher.CHACHA20_POLY1305:  # RFC 8103 §1.1
        nonce, tag_octets = der.element(parameters, der.OCTET_STRING).content, TAG_OCTETS
    else:
        fields = der.Fields.of(parameters)
        nonce = fields.take(der.OCTET_STRING).content
        written = fields.take_if(der.INTEGER)
        tag_octets = der.small(written) if written else TAG_OCTETS_MIN
    low, high = (7, 13) if cipher in CCM else (8, 128) if cipher in GCM else (12, 12)
    if not low <= len(nonce) <= high or not TAG_OCTETS_MIN <= tag_octets <= TAG_OCTETS:
        raise UnsupportedForm(f"{cipher.label} with a nonce or a tag of a length that is not taken")
    if cipher in CCM and tag_octets % 2:
        raise UnsupportedForm(f"{cipher.label} with a tag of a length that is not taken")
    return nonce, tag_octets


def _cbc_decrypted(sealed: Sealed, cipher: Cipher, key: bytes) -> bytes:
    block = 8 if cipher.is_triple_des else 16
    vector = der.element(sealed.algorithm.parameters, der.OCTET_STRING).content
    if len(vector) != block or not sealed.content or len(sealed.content) % block:
        raise UnsupportedForm("its length or its initial vector is not one of its cipher")
    algorithm = TripleDES(key) if cipher.is_triple_des else AES(key)
    decryptor = BlockCipher(algorithm, modes.CBC(vector)).decryptor()
    padded = decryptor.update(sealed.content) + decryptor.finalize()
    unpadder = PKCS7(block * 8).unpadder()
    try:
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise Undecipherable from None
