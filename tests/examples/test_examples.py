"""Each program of `examples/` runs as its first lines say, against a server on loopback."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_pem_x509_certificate

from posthouse.message import read
from posthouse.mimesec import Summary, lines, open_message
from posthouse.mimesec.smime import SmimeOpener, Trust, make_identity
from posthouse.testing import MailServer
from tests.sending.bad_server import USUAL, BadServer
from tests.sending.conftest import Certificates, certificates

__all__ = ["certificates"]  # the fixture

EXAMPLES = Path(__file__).parents[2] / "examples"
LOGIN = (*USUAL, "AUTH PLAIN")


async def run(name: str, *arguments: Any, **environment: str) -> subprocess.CompletedProcess[str]:
    """The program in a process of its own."""
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    return await asyncio.to_thread(
        subprocess.run,
        command,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **environment},
        check=False,
    )


async def test_starttls_with_a_certificate_of_another_name(certificates: Certificates) -> None:
    async with BadServer(extensions=LOGIN, context=certificates.other_name) as server:
        given = (f"localhost:{server.port}", "ada@example.org", certificates.ca, "bob@example.net")
        done = await run("starttls_self_signed.py", *given, MAIL_PASSWORD="sesame")
        assert done.returncode == 1 and 'server_name="mail.elsewhere.test"' in done.stderr
        name = "mail.elsewhere.test"
        done = await run("starttls_self_signed.py", *given, name, MAIL_PASSWORD="sesame")
    assert done.returncode == 0, done.stderr


async def test_starttls_with_a_self_signed_certificate(certificates: Certificates) -> None:
    async with BadServer(extensions=LOGIN, context=certificates.good) as server:
        done = await run(
            "starttls_self_signed.py",
            f"localhost:{server.port}",
            "ada@example.org",
            certificates.ca,
            "bob@example.net",
            MAIL_PASSWORD="sesame",
        )
        assert done.returncode == 0, done.stderr
        assert "('bob@example.net',)" in done.stdout and "over TLSv1." in done.stdout
    async with BadServer(extensions=LOGIN, context=certificates.self_signed) as server:
        done = await run(
            "starttls_self_signed.py",
            f"localhost:{server.port}",
            "ada@example.org",
            certificates.ca,
            "bob@example.net",
            MAIL_PASSWORD="sesame",
        )
    assert done.returncode == 1 and 'ca="certificate.pem"' in done.stderr
    assert "sesame" not in done.stdout + done.stderr and server.taken == []


async def test_a_service_by_name() -> None:
    """mailpit is a service of the table that is on loopback; here nobody has started it."""
    done = await run(
        "service_by_name.py", "mailpit", "ada@example.org", "bob@example.net", MAIL_PASSWORD="x"
    )
    assert done.returncode == 1 and "127.0.0.1:1025 cannot be reached" in done.stderr
    done = await run("service_by_name.py", "gmial", "a@b.example", "c@d.example", MAIL_PASSWORD="x")
    assert done.returncode == 1 and "did you mean gmail?" in done.stderr


async def test_dkim_with_a_private_key(tmp_path: Path) -> None:
    key = generate_private_key(65537, 2048)
    pem = tmp_path / "key.pem"
    pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    out = tmp_path / "out"
    done = await run("dkim.py", f"folder://{out}", "ada@example.org", "b@example.net", "s1", pem)
    assert done.returncode == 0, done.stderr
    (letter,) = out.glob("*.eml")
    assert "d=example.org" in read(letter.read_bytes()).header("DKIM-Signature")
    done = await run("dkim.py", f"folder://{out}", "ada@example.org", "b@x.example", "s1", out)
    assert done.returncode == 1 and "hint" not in done.stdout


async def test_logging_in(certificates: Certificates) -> None:
    async with BadServer(extensions=LOGIN) as server:
        url = f"smtp://ada@127.0.0.1:{server.port}"
        done = await run("login.py", url, MAIL_PASSWORD="sesame")
    assert done.returncode == 0 and "the login works" in done.stdout
    replies = {"AUTH": "535 5.7.8 no"}
    async with BadServer(extensions=LOGIN, replies=replies) as server:
        url = f"smtp://ada@127.0.0.1:{server.port}"
        done = await run("login.py", url, MAIL_PASSWORD="sesame")
    assert done.returncode == 1 and "the whole address" in done.stderr
    async with BadServer(context=certificates.self_signed) as server:
        url = f"smtp+starttls://ada@localhost:{server.port}"
        done = await run("login.py", url, MAIL_PASSWORD="sesame")
    assert done.returncode == 2 and "no safe connection" in done.stderr


async def test_recipients_with_text() -> None:
    people = ["bob@example.net", "eve@example.net"]
    async with BadServer(replies={"RCPT": ["250 ok", "550 5.1.1 nobody here"]}) as server:
        url = f"smtp://127.0.0.1:{server.port}"
        done = await run("recipients.py", url, "ada@example.org", *people)
        assert done.returncode == 0
        assert done.stdout == "bob@example.net: accepted\neve@example.net: 550 nobody here\n"
    async with BadServer(replies={"RCPT": "550 5.1.1 nobody here"}) as server:
        url = f"smtp://127.0.0.1:{server.port}"
        done = await run("recipients.py", url, "ada@example.org", *people)
    assert done.returncode == 1 and "Nobody got it." in done.stderr


async def test_many_letters(tmp_path: Path) -> None:
    people = tmp_path / "people"
    people.write_text("".join(f"p{n}@example.net\n" for n in range(50)))
    async with BadServer() as server:
        url = f"smtp://127.0.0.1:{server.port}"
        done = await run("many.py", url, "ada@example.org", people)
    assert done.returncode == 0 and len(server.taken) == 50
    letter = read(server.taken[0].octets)
    assert letter.header("List-Unsubscribe-Post") == "List-Unsubscribe=One-Click"


async def test_attachments_and_reading_them_again(tmp_path: Path) -> None:
    picture, file = tmp_path / "garden.png", tmp_path / "menu.pdf"
    picture.write_bytes(b"\x89PNG")
    file.write_bytes(b"%PDF")
    async with BadServer() as server:
        url = f"smtp://127.0.0.1:{server.port}"
        done = await run("attachments.py", url, "ada@example.org", "b@x.example", picture, file)
        assert done.returncode == 0, done.stderr
        missing = tmp_path / "missing.pdf"
        failed = await run(
            "attachments.py", url, "ada@example.org", "b@x.example", picture, missing
        )
    assert failed.returncode == 1 and "missing.pdf" in failed.stderr
    (taken,) = server.taken
    received = tmp_path / "letter.eml"
    received.write_bytes(taken.octets)
    done = await run("read_mail.py", received, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "subject Tea, with a picture" in done.stdout
    names = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("attached")]
    assert {"garden.png", "menu.pdf", "notes.txt"} <= set(names)
    assert any(path.read_bytes() == b"%PDF" for path in tmp_path.glob("*-menu.pdf"))


async def test_beside_a_loop() -> None:
    async with BadServer() as server:
        url = f"smtp://127.0.0.1:{server.port}"
        done = await run("beside_a_loop.py", url, "ada@example.org", "b@x.example", "c@x.example")
    assert done.returncode == 0 and len(server.taken) == 2


async def test_a_server_for_a_test_of_ones_own(tmp_path: Path) -> None:
    example = tmp_path / "test_in_a_test.py"
    example.write_text((EXAMPLES / "in_a_test.py").read_text())
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(example)]
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr


def test_each_program_is_named_in_the_readme_and_run_here() -> None:
    programs = {path.name for path in EXAMPLES.glob("*.py")}
    readme = (EXAMPLES / "README.md").read_text()
    assert {name for name in programs if f"({name})" in readme} == programs
    here = Path(__file__).read_text() + "".join(
        path.read_text() for path in Path(__file__).parent.glob("test_*.py")
    )
    assert {name for name in programs if name in here} == programs


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_each_program_says_how_it_is_run(path: Path) -> None:
    assert path.name in path.read_text().split('"""')[1]


async def test_signed_and_encrypted(tmp_path: Path) -> None:
    at = datetime.now(UTC) - timedelta(minutes=1)
    ada = make_identity(["ada@example.org"], at=at, days=2)
    bob = make_identity(["bob@example.net"], at=at, days=2)
    files = {name: tmp_path / name for name in ("ada.p12", "bob.pem")}
    files["ada.p12"].write_bytes(
        serialize_key_and_certificates(
            b"ada",
            load_pem_private_key(ada.key_pem(), None),  # type: ignore[arg-type]  # an EC key
            load_pem_x509_certificate(ada.certificates_pem()),
            None,
            BestAvailableEncryption(b"sesame"),
        )
    )
    files["bob.pem"].write_bytes(bob.certificates_pem())
    arguments = ("ada@example.org", files["ada.p12"], "bob@example.net", files["bob.pem"])
    with MailServer.ephemeral() as server:
        done = await run(
            "signed_and_encrypted.py", server.plain_url, *arguments, KEY_PASSWORD="sesame"
        )
        assert done.returncode == 0, done.stderr
        arrived = (await server.arrival("bob@example.net"))[0].octets
        wrong = await run(
            "signed_and_encrypted.py", server.plain_url, *arguments, KEY_PASSWORD="guess"
        )
        other = await run(
            "signed_and_encrypted.py",
            server.plain_url,
            *arguments[:2],
            "eve@example.net",
            arguments[3],
            KEY_PASSWORD="sesame",
        )
        gone = await run(
            "signed_and_encrypted.py",
            server.plain_url,
            *arguments[:3],
            tmp_path / "gone.pem",
            KEY_PASSWORD="sesame",
        )
    assert b"We take it." not in arrived and b"The offer" not in arrived
    opener = SmimeOpener(identities=[bob], trust=Trust(roots=[ada.certificate]))
    opened = open_message(arrived, [opener], at=datetime.now(UTC))
    assert opened.summary is Summary.SIGNED_AND_ENCRYPTED, lines(opened)
    assert read(opened.octets).subject == "The offer" and "We take it." in read(opened.octets).text
    assert wrong.returncode == 1 and "password" in wrong.stderr and "guess" not in wrong.stderr
    assert other.returncode == 1 and "no key is for eve@example.net" in other.stderr
    assert gone.returncode == 1 and "gone.pem cannot be read: No such file" in gone.stderr
    few = await run("signed_and_encrypted.py", "smtp://127.0.0.1")
    assert few.returncode == 1 and "SENDER.p12" in few.stderr
    assert all("Traceback" not in one.stderr for one in (wrong, other, gone, few))
