"""SMIMECapabilities (RFC 8551 §2.5.2): what a correspondent's program says that it can read."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import Final

import msgspec

from posthouse.mimesec import given
from posthouse.mimesec.ports import ProtectionError
from posthouse.mimesec.smime import algorithms, der

CAPABILITIES_MAX: Final = 50
OAEP: Final = "RSAES-OAEP"


class Cipher(Enum):
    """How a content is encrypted; the value is the identifier."""

    AES_128_GCM = "2.16.840.1.101.3.4.1.6"
    AES_192_GCM = "2.16.840.1.101.3.4.1.26"
    AES_256_GCM = "2.16.840.1.101.3.4.1.46"
    CHACHA20_POLY1305 = "1.2.840.113549.1.9.16.3.18"
    AES_128_CCM = "2.16.840.1.101.3.4.1.7"
    AES_192_CCM = "2.16.840.1.101.3.4.1.27"
    AES_256_CCM = "2.16.840.1.101.3.4.1.47"
    AES_128_CBC = "2.16.840.1.101.3.4.1.2"
    AES_192_CBC = "2.16.840.1.101.3.4.1.22"
    AES_256_CBC = "2.16.840.1.101.3.4.1.42"
    TRIPLE_DES_CBC = "1.2.840.113549.3.7"

    @property
    def label(self) -> str:
        """ "AES-256-GCM"."""
        return self.name.replace("_", "-").replace("TRIPLE-DES", "3DES").replace("CHACHA", "ChaCha")

    @property
    def key_octets(self) -> int:
        return {"128": 16, "192": 24}.get(self.name[4:7], 24 if self.is_triple_des else 32)

    @property
    def is_triple_des(self) -> bool:
        return self is Cipher.TRIPLE_DES_CBC

    @property
    def is_authenticated(self) -> bool:
        return not self.name.endswith("CBC")


GCM: Final = frozenset({Cipher.AES_128_GCM, Cipher.AES_192_GCM, Cipher.AES_256_GCM})
CCM: Final = frozenset({Cipher.AES_128_CCM, Cipher.AES_192_CCM, Cipher.AES_256_CCM})
REFUSED: Final = {
    "1.2.840.113549.3.2": "RC2",
    "1.2.840.113549.3.4": "RC4",
    "1.3.14.3.2.7": "DES",
    "1.2.840.113533.7.66.10": "CAST-128",
}

CHOICE: Final = (
    Cipher.AES_256_GCM, Cipher.AES_128_GCM, Cipher.CHACHA20_POLY1305,
    Cipher.AES_256_CBC, Cipher.AES_128_CBC,
)  # fmt: skip
"""That are written, best first."""


class Capabilities(msgspec.Struct, frozen=True):
    """What somebody reads, best first as they say."""

    ciphers: tuple[Cipher, ...] = ()
    has_oaep: bool = False

    @property
    def words(self) -> tuple[str, ...]:
        """As they are kept and shown: "AES-256-GCM", "RSAES-OAEP"."""
        return (*(cipher.label for cipher in self.ciphers), *((OAEP,) if self.has_oaep else ()))

    @staticmethod
    def of_words(words: Iterable[str]) -> Capabilities | None:
        """None where nothing was said; a word that is not known is passed over."""
        said = tuple(words)
        by_label = {cipher.label: cipher for cipher in Cipher}
        ciphers = tuple(by_label[word] for word in said if word in by_label)
        return Capabilities(ciphers, OAEP in said) if said else None


OWN: Final = Capabilities(
    (*CHOICE[:3], Cipher.AES_192_GCM, *CHOICE[3:], Cipher.AES_192_CBC), has_oaep=True
)
"""What we read."""
COMMON: Final = Capabilities((Cipher.AES_256_CBC, Cipher.AES_192_CBC, Cipher.AES_128_CBC))
"""What every program of today reads."""


def check(offered: object, place: str) -> None:
    """Raises ProtectionError where something else was given."""
    given.check_kind(offered, Capabilities, place, hint=_HINT)
    ciphers = getattr(offered, "ciphers", ())
    if not isinstance(ciphers, tuple | list):
        raise ProtectionError(
            f"the ciphers of {place} have to be several, not {type(ciphers).__name__}", hint=_HINT
        )
    for number, one in enumerate(ciphers):
        given.check_choice(one, Cipher, f"ciphers[{number}] of {place}")


_HINT: Final = "give COMMON, OWN, or Capabilities((Cipher.AES_256_GCM, …))"


def read_capabilities(octets: bytes) -> Capabilities:
    """Of the value of the attribute; what is not known is passed over.

    Raises:
        BadStructure: it is no list of capabilities.
    """
    known = {cipher.value: cipher for cipher in Cipher}
    ciphers: list[Cipher] = []
    has_oaep = False
    values = der.elements(der.element(octets, der.SEQUENCE).content)
    for value in values[:CAPABILITIES_MAX]:
        found = algorithms.identifier(value)
        if (cipher := known.get(found.oid)) is not None and cipher not in ciphers:
            ciphers.append(cipher)
        has_oaep |= found.oid == algorithms.RSA_OAEP and _is_own_oaep(found)
    return Capabilities(tuple(ciphers), has_oaep)


def _is_own_oaep(found: algorithms.Identifier) -> bool:
    """Whether it is OAEP as it is written here (RFC 3560 §5 has the parameters there)."""
    try:
        digests = algorithms.oaep_digests(found.parameters)
    except (algorithms.UnsupportedForm, der.BadStructure):
        return False
    return digests == (algorithms.SHA256, algorithms.SHA256)


def write_capabilities(said: Capabilities) -> bytes:
    """The value of the attribute."""
    plain = [algorithms.algorithm(cipher.value) for cipher in said.ciphers]
    return der.sequence(*plain, *((algorithms.oaep_der(),) if said.has_oaep else ()))


def best_for_all(known: list[Capabilities | None]) -> Cipher:
    """The best cipher that everybody is known to read (RFC 8551 §2.7.1). Of whom nothing is known
    it is taken that they read AES-256-CBC and no GCM: so it is with Thunderbird and gpgsm."""
    for cipher in CHOICE:
        if all(cipher in _read_by(one) for one in known):
            return cipher
    return Cipher.AES_128_CBC


def _read_by(one: Capabilities | None) -> tuple[Cipher, ...]:
    return one.ciphers if one is not None and one.ciphers else (Cipher.AES_256_CBC,)
