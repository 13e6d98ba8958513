"""Serial numbers that are not positive, as in some old roots that everybody still has: RFC 5280
§4.1.2.2 asks to take such certificates, and the library that reads them warns and soon will not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from posthouse.mimesec.smime import der
from posthouse.mimesec.smime.der import Element

_AUTHORITY_KEY: Final = b"\x55\x1d\x23"
_AUTHORITY_SERIAL: Final = der.context(2, is_constructed=False)


def with_positive_serials(certificate: bytes) -> bytes:
    """The certificate with another in the place of each, its own and its issuer's (RFC 5280
    §4.2.1.1), for who asks neither for its number nor for its signature.

    Raises:
        BadStructure, ValueError: it is no certificate.
    """
    octets = certificate
    for at, number in _serials(certificate):
        if der.integer(number) <= 0:
            other = b"\x01".ljust(len(number.content), b"\0")  # the shortest form for its value
            octets = octets[:at] + other + octets[at + len(other) :]
    return octets


def _serials(certificate: bytes) -> Iterator[tuple[int, Element]]:
    """With the places of their contents."""
    [(begin, outer)] = _parts(certificate, 0)
    begin, body = next(_parts(outer.content, begin))
    for at, field in _parts(body.content, begin):
        if field.identifier == der.INTEGER:
            yield at, field
        elif field.identifier == der.context(3):
            yield from _of_extensions(field.content, at)


def _of_extensions(octets: bytes, begin: int) -> Iterator[tuple[int, Element]]:
    [(begin, extensions)] = _parts(octets, begin)
    for behind, extension in _parts(extensions.content, begin):
        inside = list(_parts(extension.content, behind))
        if not inside or inside[0][1].content != _AUTHORITY_KEY:
            continue
        inner, value = inside[-1]
        [(inner, identifier)] = _parts(value.content, inner)
        for at, part in _parts(identifier.content, inner):
            if part.identifier == _AUTHORITY_SERIAL:
                yield at, part


def _parts(octets: bytes, at: int) -> Iterator[tuple[int, Element]]:
    """The values in some octets that begin at a place, and where the content of each begins."""
    for one in der.elements(octets):
        yield at + len(one.whole) - len(one.content), one
        at += len(one.whole)
