"""Whether a certificate is for a host: its presented identifiers against ours (RFC 9525 §6)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

IDENTIFIERS_MAX: Final = 1_000
"""Looked at in one certificate; large hosts have some hundred."""
_SHOWABLE: Final = re.compile(r"(?:\*\.)?[0-9a-z._:-]{1,253}")


def presented(certificate: x509.Certificate, *, has_common_name: bool = False) -> tuple[str, ...]:
    """The DNS names a certificate is for, in lower case; empty where it cannot be read.

    Args:
        has_common_name: take the subject's common name where there is no DNS name at all. RFC 9525
            §2 ended that; DANE-TA still asks for it (RFC 7672 §3.2.3).
    """
    names: list[str] = []
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        pass
    except ValueError:
        return ()
    else:
        names = extension.value.get_values_for_type(x509.DNSName)
    if not names and has_common_name:
        try:
            attributes = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        except ValueError:
            return ()
        names = [str(attribute.value) for attribute in attributes[:1]]
    return tuple(_plain(name) for name in names[:IDENTIFIERS_MAX])


def told(certificate: bytes) -> tuple[str, ...]:
    """The host names and IP addresses that a certificate (DER) is for, fit to be shown; empty
    where it cannot be read. A stranger wrote them: what cannot be in a host name is left out."""
    try:
        leaf = x509.load_der_x509_certificate(certificate)
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    names = [_plain(one) for one in found.get_values_for_type(x509.DNSName)]
    addresses = [str(one) for one in found.get_values_for_type(x509.IPAddress)]
    every = (*names[:IDENTIFIERS_MAX], *addresses[:IDENTIFIERS_MAX])
    return tuple(dict.fromkeys(one for one in every if _SHOWABLE.fullmatch(one)))


def matches(identifier: str, name: str) -> bool:
    """Whether a presented identifier covers a name (RFC 9525 §6.3): equal, or "*" as the whole
    first label, which stands for exactly one label."""
    identifier, name = _plain(identifier), _plain(name)
    if identifier.startswith("*."):
        rest = identifier[2:]
        first, _, parent = name.partition(".")
        return bool(first) and bool(parent) and parent == rest and "*" not in rest
    return bool(identifier) and identifier == name and "*" not in identifier


def is_for_any(
    certificate: x509.Certificate, names: Sequence[str], *, has_common_name: bool = False
) -> bool:
    """Whether it is for one of `names` (A-labels)."""
    found = presented(certificate, has_common_name=has_common_name)
    return any(matches(identifier, name) for identifier in found for name in names)


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")
