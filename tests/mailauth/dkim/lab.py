"""Keys, a DNS made of a dictionary, and the two ways: sign a message, judge a message."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache

from posthouse.kernel.ports import DnsAnswer, DnsStatus
from posthouse.mailauth import questions
from posthouse.mailauth.dkim import sign as signing
from posthouse.mailauth.dkim import verify as verifying
from posthouse.mailauth.dkim.grammar import ED25519, RSA
from posthouse.mailauth.dkim.sign import SigningKey, SignOptions
from posthouse.mailauth.dkim.verify import Options
from posthouse.mailauth.questions import Question
from posthouse.mailauth.results import DkimOutcome
from posthouse.message.fields import read_section

NOW = 1_800_000_000
DOMAIN = "example.org"
Records = Mapping[str, "str | bytes | DnsStatus | tuple[str, ...]"]

MESSAGE = (
    b"Received: from a.example by b.example; Fri, 15 Jan 2027 08:00:00 +0000\r\n"
    b"From: Ann <ann@example.org>\r\n"
    b"To: Ben <ben@example.net>,\r\n\tCleo <cleo@example.com>\r\n"
    b"Subject: A  letter \r\n"
    b"Date: Fri, 15 Jan 2027 08:00:00 +0000\r\n"
    b"Message-ID: <1@example.org>\r\n"
    b"\r\n"
    b"Hello  Ben,\t\r\n\r\nthis is it. \r\n-- \r\nAnn\r\n\r\n\r\n"
)


_generated = cache(signing.generate)


def new_key(algorithm: str, rsa_bits: int = 2048) -> signing.NewKey:
    return _generated(algorithm, rsa_bits)


@cache
def key(algorithm: str = RSA, domain: str = DOMAIN, rsa_bits: int = 2048) -> SigningKey:
    return SigningKey(
        domain=domain,
        selector="r" if algorithm == RSA else "e",
        algorithm=algorithm,
        private=signing.load_private(new_key(algorithm, rsa_bits).private),
    )


def record(algorithm: str = RSA, rsa_bits: int = 2048) -> str:
    return signing.key_record(algorithm, new_key(algorithm, rsa_bits).public)


def records(domain: str = DOMAIN) -> dict[str, str]:
    return {
        f"r._domainkey.{domain}": record(RSA),
        f"e._domainkey.{domain}": record(ED25519),
    }


def dns(found: Records) -> Callable[[Question], DnsAnswer]:
    def answer(question: Question) -> DnsAnswer:
        value = found.get(question.name, DnsStatus.NO_NAME)
        if isinstance(value, DnsStatus):
            return DnsAnswer(status=value, detail="for a test")
        values = value if isinstance(value, tuple) else (value,)
        octets = tuple(each.encode() if isinstance(each, str) else each for each in values)
        return DnsAnswer(status=DnsStatus.FOUND, records=octets)

    return answer


def sign(
    message: bytes,
    *keys: SigningKey,
    now: int = NOW,
    expires_s: int | None = 86_400,
    options: SignOptions = signing.DEFAULTS,
) -> bytes:
    """The message with its signatures in front."""
    fields = signing.sign(
        read_section(message),
        keys or (key(),),
        now_unix_s=now,
        expires_s=expires_s,
        options=options,
    )
    return fields + message


def judge(
    message: bytes,
    found: Records | None = None,
    *,
    now: int = NOW,
    authors: tuple[str, ...] = (),
    options: Options = verifying.DEFAULTS,
) -> tuple[DkimOutcome, ...]:
    prepared = verifying.prepare(
        message, read_section(message), author_domains=authors, options=options
    )
    answers = dns(records() if found is None else found)
    return questions.answer(verifying.verify(prepared, now), answers)


def results(outcomes: tuple[DkimOutcome, ...]) -> list[str]:
    return [outcome.result.value for outcome in outcomes]


def crlf(octets: bytes) -> bytes:
    """Vectors are kept with bare LF."""
    return octets.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
