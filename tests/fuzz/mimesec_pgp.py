"""Targets of OpenPGP: messages and signatures as an opener sees them, files of keys.

The people in it are made anew in each run of the tests, as keys are; what is mutated is not.
"""

from __future__ import annotations

from collections.abc import Hashable

from posthouse.mimesec.findings import SignatureResult
from posthouse.mimesec.pgp import locking
from posthouse.mimesec.pgp.keys import read_private, read_public
from posthouse.mimesec.pgp.make import KeyForm
from posthouse.mimesec.ports import ProtectionError
from tests.fuzz.target import Target
from tests.mimesec.pgp.people import NOW, person
from tests.mimesec.pgp.test_hostile import ENTITY, opener, samples


def message(octets: bytes) -> Hashable:
    """As a detached signature and as an encrypted message."""
    found = opener().verify(ENTITY, octets, at=NOW)
    assert found
    for one in found:
        assert (one.result is SignatureResult.VALID) is (one.reason == "")
        assert one.reason.isprintable()
    unsealed = opener().unseal(octets, at=NOW)
    layer = unsealed.encryption
    assert layer.is_opened or (unsealed.entity == b"" and layer.reason.isprintable())
    return (
        tuple((one.result, one.reason[:24], one.algorithm) for one in found[:3]),
        (layer.is_opened, layer.algorithm, layer.reason[:24]),
    )


def keys(octets: bytes) -> Hashable:
    found: list[Hashable] = []
    for read in (read_public, read_private):
        try:
            found.append(len(read(octets)))
        except ProtectionError as error:
            assert error.text.isprintable()
            found.append(error.text[:32])
    return tuple(found)


def seeds() -> tuple[bytes, ...]:
    """One of each form, and one with a password."""
    forms = [person(form=form).octets for form in KeyForm]
    locked = person().armored("sesame", salt=bytes(locking.SALT_OCTETS))
    return (*forms, person().public.armored(), locked)


TARGETS = (
    Target("openpgp messages", message, samples()),
    Target("openpgp keys", keys, seeds()),
)
