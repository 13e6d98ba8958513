"""Autocrypt: keys in header fields, written and read strictly."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message.fields import read_section
from posthouse.mimesec import Protection, protect
from posthouse.mimesec.pgp import autocrypt
from posthouse.mimesec.pgp.autocrypt import KEY_OCTETS_MAX, Autocrypt
from posthouse.mimesec.pgp.recipient import PgpRecipient
from posthouse.mimesec.pgp.sealer import PgpSealer
from tests.mimesec.pgp.people import ADA, BOB, NOW, PLAIN, person

KEY = base64.b64encode(b"the key").decode()
OWN = Autocrypt(address=ADA, key=b"the key", prefers_encryption=True)


def read(*fields: str, author: str = f"From: Ada <{ADA}>") -> Autocrypt | None:
    text = "\r\n".join((author, *fields, "", ""))
    return autocrypt.read(read_section(text.encode()))


def test_what_is_written_is_read() -> None:
    for own in (OWN, Autocrypt(address=ADA, key=bytes(range(256)) * 30)):
        section = autocrypt.field(own) + PLAIN
        assert autocrypt.read(read_section(section)) == own
        assert max(map(len, section.split(b"\r\n"))) < 100


@pytest.mark.parametrize(
    "field",
    [
        f"addr={ADA}; prefer-encrypt=mutual; keydata={KEY}",
        f"addr={ADA}; _more=x; prefer-encrypt=mutual; keydata={KEY[:4]}\r\n {KEY[4:]};",
        f" addr = {ADA.upper()} ; prefer-encrypt=mutual;keydata= {KEY}",
    ],
)
def test_forms_of_a_field(field: str) -> None:
    found = read(f"Autocrypt: {field}")
    assert found is not None and (found.key, found.prefers_encryption) == (b"the key", True)


@pytest.mark.parametrize(
    "fields",
    [
        (f"addr={BOB}; keydata={KEY}",),
        (f"addr={ADA}; keydata={KEY}", f"addr={ADA}; keydata={KEY}"),
        (f"addr={ADA}; critical=x; keydata={KEY}",),
        (f"addr={ADA}; addr={ADA}; keydata={KEY}",),
        (f"addr={ADA}; keydata=***",),
        (f"addr={ADA}; keydata=",),
        (f"keydata={KEY}",),
        (f"addr={ADA}",),
        (f"addr={ADA}; keydata={'A' * (KEY_OCTETS_MAX * 2)}",),
        ("nonsense",),
        ("",),
    ],
)
def test_what_is_not_valid_is_none(fields: tuple[str, ...]) -> None:
    assert read(*(f"Autocrypt: {one}" for one in fields)) is None


@pytest.mark.parametrize(
    "author", ["From: a@x.example, b@x.example", f"From: {ADA}\r\nFrom: {ADA}", "To: x@x.example"]
)
def test_without_one_author_there_is_none(author: str) -> None:
    assert read(f"Autocrypt: addr={ADA}; keydata={KEY}", author=author) is None


def test_what_cannot_travel_is_told() -> None:
    with pytest.raises(ValueError, match="too large"):
        autocrypt.field(Autocrypt(address=ADA, key=bytes(KEY_OCTETS_MAX + 1)))
    with pytest.raises(ValueError, match="address"):
        autocrypt.field(Autocrypt(address="a; b=c@x.example", key=b"x"))


def test_keys_of_other_recipients_are_seen_by_readers_alone() -> None:
    gossip = autocrypt.field(msgspec.structs.replace(OWN, address=BOB), is_gossip=True)
    assert gossip.startswith(b"Autocrypt-Gossip: addr=" + BOB.encode()) and b"mutual" not in gossip
    octets = gossip + PLAIN
    recipient = PgpRecipient(person(BOB).public)
    wish = Protection(sealer=PgpSealer(), recipients=(recipient,))
    assert b"gossip" not in protect(octets, wish, at=NOW).lower()


@given(st.binary(max_size=300))
def test_fields_by_chance_never_raise(octets: bytes) -> None:
    autocrypt.read(read_section(b"From: a@x.example\r\nAutocrypt: " + octets + b"\r\n\r\n"))
