"""DKIM signatures of the client library, judged on the far side of an SMTP server by OpenDKIM (its
filter in test mode, which reads key records from a file) and by dkimpy.

OpenDKIM knows Ed25519 (RFC 8463) from 2.11 on, which Debian has. It looks at three signatures of a
message unless told otherwise.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import dkim as dkimpy
import msgspec
import pytest
import trustme
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from posthouse.mailauth.dkim.grammar import ED25519, RSA
from posthouse.mailauth.dkim.keys import key_record
from posthouse.mailauth.dkim.sign import public_octets
from posthouse.message.fields import read_section
from posthouse.sending import (
    Attachment,
    CalendarEvent,
    Dkim,
    ListFields,
    Mailbox,
    Message,
    Transport,
)
from posthouse.testing import MailServer
from tests.crash.server import free_port_base
from tests.interop.postfix import FRIEND, Postfix
from tests.interop.programs import find_program, needs_program

pytestmark = needs_program("opendkim", package="opendkim")

READER = "bob@example.test"
WITHIN_S = 30.0
CONF = """\
Mode v
TestDNSData file:{folder}/records
MaximumSignaturesToVerify 9
"""


class Signer(msgspec.Struct, frozen=True):
    """A key of ours and the record that its domain publishes."""

    dkim: Dkim
    algorithm: str
    record: str

    @property
    def where(self) -> str:
        return f"{self.dkim.selector}._domainkey.{self.dkim.domain}"


def signer(
    selector: str,
    private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey,
    domain: str,
    **how: object,
) -> Signer:
    octets = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    algorithm = RSA if isinstance(private, rsa.RSAPrivateKey) else ED25519
    record = key_record(algorithm, public_octets(private))
    given = Dkim(domain=domain, selector=selector, key=octets, **how)  # type: ignore[arg-type]
    return Signer(given, algorithm, record)


PLAIN = signer("plain", rsa.generate_private_key(65537, 2048), "example.org")
LARGE = signer("large", rsa.generate_private_key(65537, 4096), "example.org")
MODERN = signer("modern", ed25519.Ed25519PrivateKey.generate(), "example.org")
OTHER = signer("s.2026", rsa.generate_private_key(65537, 2048), "mailer.example", expires_s=86_400)
FEW = signer(
    "few",
    ed25519.Ed25519PrivateKey.generate(),
    "mailer.example",
    header_fields=("From", "From", "To", "Subject", "Content-Type", "X-Absent"),
)
SIGNERS = (PLAIN, LARGE, MODERN, OTHER, FEW)
RECORDS = {one.where: one.record for one in SIGNERS}
DKIM = [one.dkim for one in SIGNERS]

LETTERS = {
    "short": Message(text="At five?\n"),
    "nothing in it": Message(text=""),
    "only line ends": Message(text="\n\n\n"),
    "dots and blanks": Message(text=".\n..\n \t\n  two  blanks \t \n.\n\n", text_encoding="7bit"),
    "not ASCII": Message(subject="Grüße 日本語 " * 30, text="Tschüß\n", html="<p>😀</p>"),
    "long": Message(subject="word " * 300, text=f"{'x' * 5_000}\n", headers={"X-L": "a, " * 500}),
    "quoted": Message(text="Ärger = 3 \n" * 50, text_encoding="quoted-printable"),
    "eight bits": Message(text="Zeile für Zeile\n" * 9, text_encoding="8bit"),
    "attached": Message(
        text="See there.\n",
        html='<img src="cid:a@example.org">',
        attachments=[
            Attachment(content=bytes(range(256)) * 900, filename="Übersicht.bin"),
            Attachment(content=b"\x89PNG", filename="a.png", cid="a@example.org"),
        ],
    ),
    "list": Message(
        text="News.\n",
        list=ListFields(
            id="News <news.example.org>",
            unsubscribe="https://example.org/u?x=1",
            is_one_click=True,
        ),
    ),
    "meeting": Message(
        text="Come.\n",
        calendar=CalendarEvent(content="BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nEND:VCALENDAR\r\n"),
    ),
    "of others' making": Message(
        raw=(
            b"from:\tAda  <ada@example.org>\r\nSubject:  odd \r\n\tfolding   here\r\n"
            b"X-Empty:\r\nX-Twice: 1\r\nX-Twice: 2\r\nMIME-Version: 1.0\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
            b" starts with a blank\r\n\xc3\xb6\t\r\nno end of line"
        )
    ),
}


def addressed(message: Message, to: str = READER) -> Message:
    """From Ada, whose name needs a word encoded, where the message does not say itself."""
    if message.raw is not None:
        return msgspec.structs.replace(message, to=to)
    ada = Mailbox("ada@example.org", "Ada Lövelace")
    return msgspec.structs.replace(message, sender=ada, to=to)


# --- the judges ---


class Judged(msgspec.Struct, frozen=True):
    selector: str
    algorithm: str
    result: str


_RESULT = re.compile(r"\bdkim=(\w+)[^;]*? header\.a=(\S+) header\.s=(\S+)")


def by_opendkim(octets: bytes, folder: Path, records: dict[str, str] = RECORDS) -> list[Judged]:
    """What its filter would write into Authentication-Results, signature by signature."""
    (folder / "records").write_text("".join(f"{name} {text}\n" for name, text in records.items()))
    (folder / "conf").write_text(CONF.format(folder=folder))
    (folder / "message").write_bytes(octets)
    program = find_program("opendkim")
    assert program is not None
    done = subprocess.run(
        [program, "-x", folder / "conf", "-t", folder / "message", "-vv"],
        capture_output=True,
        text=True,
        check=False,
        timeout=WITHIN_S,
    )
    found = _RESULT.findall(done.stdout)
    assert found, done.stdout + done.stderr
    return [Judged(selector, algorithm, result) for result, algorithm, selector in found]


def by_dkimpy(octets: bytes, records: dict[str, str] = RECORDS) -> list[Judged]:
    def ask(name: bytes, timeout: float = 5) -> bytes | None:
        record = records.get(name.decode().rstrip("."))
        return None if record is None else record.encode()

    checked = dkimpy.DKIM(octets)
    judged = []
    for at, tags in enumerate(signatures(octets)):
        try:
            is_right = checked.verify(at, dnsfunc=ask)
        except dkimpy.DKIMException:
            is_right = False
        judged.append(Judged(tags["s"], tags["a"], "pass" if is_right else "fail"))
    return judged


def signatures(octets: bytes) -> list[dict[str, str]]:
    section = read_section(octets)
    values = [section.value(one) for one in section.fields if one.name == b"dkim-signature"]
    return [
        dict(re.findall(r"(\w+)=([^;]*)", re.sub(r"\s", "", value.decode()))) for value in values
    ]


def wanted(signers: Sequence[Signer], result: str = "pass") -> list[Judged]:
    return [Judged(one.dkim.selector, one.algorithm, result) for one in signers]


# --- what they say ---


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    with MailServer.ephemeral() as made:
        yield made


def arrived(server: MailServer, message: Message, dkim: Sequence[Dkim] = DKIM) -> bytes:
    """As a reader gets it: with the server's fields in front of ours."""
    server.clear()
    with Transport(server.url, ca=server.ca, dkim=dkim) as way:
        way.send(addressed(message))
    return server.wait_for(READER)[0].octets


@pytest.mark.parametrize("name", LETTERS)
def test_five_keys_of_two_domains_are_right_for_opendkim_and_dkimpy(
    server: MailServer, name: str, tmp_path: Path
) -> None:
    octets = arrived(server, LETTERS[name])
    assert by_opendkim(octets, tmp_path) == wanted(SIGNERS)
    assert by_dkimpy(octets) == wanted(SIGNERS)


@pytest.mark.parametrize("one", SIGNERS, ids=lambda one: one.dkim.selector)
def test_each_key_is_right_by_itself(server: MailServer, one: Signer, tmp_path: Path) -> None:
    octets = arrived(server, LETTERS["attached"], [one.dkim])
    assert by_opendkim(octets, tmp_path) == wanted([one])
    assert by_dkimpy(octets) == wanted([one])


def test_keys_of_the_message_stand_in_for_those_of_the_transport(
    server: MailServer, tmp_path: Path
) -> None:
    own = msgspec.structs.replace(LETTERS["short"], dkim=MODERN.dkim)
    octets = arrived(server, own, [PLAIN.dkim])
    assert by_opendkim(octets, tmp_path) == by_dkimpy(octets) == wanted([MODERN])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\r\nSubject: Tea", b"\r\nSubject: Tee"),
        (b"\r\nTo: bob@", b"\r\nTo: rob@"),
        (b"At five?", b"At nine?"),
        (b"\r\nFrom: ", b"\r\nFrom: eve@example.com\r\nFrom: "),
    ],
)
def test_what_was_changed_on_the_way_is_wrong_for_both(
    server: MailServer, old: bytes, new: bytes, tmp_path: Path
) -> None:
    octets = arrived(server, msgspec.structs.replace(LETTERS["short"], subject="Tea"))
    assert octets.count(old) == 1
    changed = octets.replace(old, new)
    assert by_opendkim(changed, tmp_path) == wanted(SIGNERS, "fail")
    assert by_dkimpy(changed) == wanted(SIGNERS, "fail")


def test_a_field_that_was_signed_as_absent_cannot_be_added(
    server: MailServer, tmp_path: Path
) -> None:  # RFC 6376 §8.15
    octets = b"X-Absent: no more\r\n" + arrived(server, LETTERS["short"], [PLAIN.dkim, FEW.dkim])
    expected = wanted([PLAIN]) + wanted([FEW], "fail")
    assert by_opendkim(octets, tmp_path) == expected
    assert by_dkimpy(octets) == expected


def test_another_key_in_the_record_is_wrong_for_both(server: MailServer, tmp_path: Path) -> None:
    octets = arrived(server, LETTERS["short"], [PLAIN.dkim, OTHER.dkim])
    swapped = {PLAIN.where: OTHER.record, OTHER.where: OTHER.record}
    expected = wanted([PLAIN], "fail") + wanted([OTHER])
    assert by_opendkim(octets, tmp_path, swapped) == expected
    assert by_dkimpy(octets, swapped) == expected


@pytest.fixture(scope="module")
def postfix(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postfix, Path]]:
    folder = tmp_path_factory.mktemp("dkim")
    authority = trustme.CA()
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(str(folder / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    made = Postfix(
        free_port_base() + 27,
        relay_to=("nowhere.test", 1),
        certificate=folder / "cert.pem",
        key=folder / "key.pem",
    )
    with made.running():
        yield made, folder / "ca.pem"


@needs_program("postfix", package="postfix", root=True)
def test_signatures_come_through_postfix(postfix: tuple[Postfix, Path], tmp_path: Path) -> None:
    server, ca = postfix
    with Transport(host="localhost", port=server.port, tls="starttls", ca=ca, dkim=DKIM) as way:
        for number, message in enumerate(LETTERS.values()):
            if message.raw is None:  # Postfix rewrites what is short of fields
                marked = {**dict(message.headers), "X-Number": f"{number}."}
                way.send(addressed(msgspec.structs.replace(message, headers=marked), FRIEND))
    for number, message in enumerate(LETTERS.values()):
        if message.raw is None:
            octets = server.wait_for(b"\r\nX-Number: %d.\r\n" % number)
            assert by_opendkim(octets, tmp_path) == wanted(SIGNERS)
            assert by_dkimpy(octets) == wanted(SIGNERS)
