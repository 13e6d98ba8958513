"""A sealer, which Posthouse has none of, and the way to judge a chain."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256

from posthouse.mailauth import questions
from posthouse.mailauth.arc import verify as arc
from posthouse.mailauth.arc.verify import MESSAGE_SIGNATURE, RESULTS, SEAL
from posthouse.mailauth.dkim import verify as dkim
from posthouse.mailauth.dkim.canonical import Canonicalization, Fields, hash_body, relaxed_value
from posthouse.mailauth.dkim.grammar import ED25519
from posthouse.mailauth.dkim.sign import SigningKey
from posthouse.mailauth.dkim.verify import Options
from posthouse.mailauth.results import ArcOutcome
from posthouse.message.fields import read_section
from tests.mailauth.dkim.lab import NOW, Records, dns, key, records

RELAXED = Canonicalization.RELAXED


def judge(
    message: bytes,
    found: Records | None = None,
    *,
    now: int = NOW,
    options: Options = dkim.DEFAULTS,
) -> ArcOutcome:
    prepared = arc.prepare(message, read_section(message), options=options)
    answers = dns(records() if found is None else found)
    return questions.answer(arc.verify(prepared, now), answers)


def seal(
    message: bytes,
    *,
    instance: int | None = None,
    chain_status: str | None = None,
    signer: SigningKey | None = None,
    results: str = "mx.example.net; dmarc=pass header.from=example.org",
    names: str = "From:To:Subject:Date",
    tags: str = "",
    more: str = "",
) -> bytes:
    """The message with one ARC set more (RFC 8617 §5.1).

    Args:
        tags: more of the ARC-Message-Signature.
        more: tags more of the ARC-Seal.
    """
    signer = signer or key(ED25519)
    last = count_sets(message)
    instance = instance or last + 1
    chain_status = chain_status or ("pass" if last else "none")
    place = f"a={signer.algorithm}; d={signer.domain}; s={signer.selector}"
    section = read_section(message)
    aar = b"ARC-Authentication-Results: i=%d; %b\r\n" % (instance, results.encode())
    body = hash_body(message, section.body, RELAXED)[None].digest
    value = (
        f" i={instance}; {place}; c=relaxed/relaxed; {tags}"
        f" h={names}; bh={b64encode(body).decode()}; b="
    )
    covered, _ = Fields(section).chosen(names.lower().encode().split(b":"), RELAXED)
    ams = signed(b"ARC-Message-Signature", value.encode(), covered, signer)
    earlier = []
    for number in range(1, last + 1):
        for name in (RESULTS, MESSAGE_SIGNATURE, SEAL):
            earlier.append(set_field(message, name, number))
    fields = [*earlier, *(relaxed(each) for each in (aar, ams))]
    value = f" i={instance}; cv={chain_status}; {place}; {more} b="
    return signed(b"ARC-Seal", value.encode(), fields, signer) + ams + aar + message


def signed(name: bytes, value: bytes, covered: list[bytes], signer: SigningKey) -> bytes:
    hashed = sha256(b"".join(covered))
    hashed.update(name.lower() + b":" + relaxed_value(value))
    return name + b":" + value + b64encode(signer.signature(hashed.digest())) + b"\r\n"


def relaxed(field: bytes) -> bytes:
    name, _, value = field.partition(b":")
    return name.lower() + b":" + relaxed_value(value.rstrip(b"\r\n")) + b"\r\n"


def count_sets(message: bytes) -> int:
    return read_section(message).count(SEAL)


def set_field(message: bytes, name: bytes, instance: int) -> bytes:
    """In relaxed form."""
    section = read_section(message)
    for field in section.fields:
        if field.name == name and b"i=%d;" % instance in section.value(field):
            return relaxed(section.octets[field.start : field.end])
    raise AssertionError(f"no {name.decode()} i={instance}")
