"""The page about signing and encrypting in Python: all of its code runs, in one go."""

from __future__ import annotations

import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_pem_x509_certificate

from posthouse.mimesec.pgp import make_key
from posthouse.mimesec.smime import from_pem, from_pkcs12, make_authority, make_identity

PAGE = Path(__file__).parents[2] / "docs" / "library" / "protecting.md"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SYSTEM_ROOTS = "/etc/ssl/certs/ca-certificates.crt"
PASSWORD = b"its password"


def put_keys(folder: Path) -> None:
    """The files that the page names, and the authority that issued the certificates."""
    at = datetime.now(UTC) - timedelta(minutes=1)
    authority = make_authority("Test authority", at=at)
    ada = make_identity(["ada@example.org"], at=at, days=2, issuer=authority)
    bob = make_identity(["bob@example.net"], at=at, days=2, issuer=authority)
    (folder / "ada.p12").write_bytes(
        serialize_key_and_certificates(
            b"ada",
            load_pem_private_key(ada.key_pem(), None),  # type: ignore[arg-type]  # an EC key
            load_pem_x509_certificate(ada.certificates_pem()),
            None,
            BestAvailableEncryption(PASSWORD),
        )
    )
    (folder / "bob.pem").write_bytes(bob.certificates_pem())
    (folder / "roots.pem").write_bytes(authority.certificates_pem())
    for name in ("ada@example.org", "bob@example.net"):
        key = make_key([name], at=at, days=2)[0]
        whole = key.armored(PASSWORD.decode(), salt=bytes(24))
        octets = whole if name.startswith("ada") else key.public.armored()
        (folder / f"{name.partition('@')[0]}.asc").write_bytes(octets)


def test_all_of_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    put_keys(tmp_path)
    blocks = BLOCK.findall(PAGE.read_text())
    assert len(blocks) == 5
    code = "\n".join(blocks)
    assert code.count(SYSTEM_ROOTS) == 2
    names: dict[str, Any] = {}
    exec(compile(code.replace(SYSTEM_ROOTS, "roots.pem"), str(PAGE), "exec"), names)
    said = capsys.readouterr().out
    assert said.startswith("The offer We take it.")
    assert "The message was encrypted, and is signed by its author." in said
    assert said.endswith("signed and encrypted\n")  # in a process of its own
    assert "signed by its author and encrypted\n" in said
    assert names["WORDS"].keys() == set(names["Summary"])
    # What the page only makes can be sent, too, and is read by whom the page says reads it.
    key = names["own_key"]
    own = names["PgpOpener"](own=[key], known=[key.public], trusted=[key.public.fingerprint])
    message = names["Message"](
        sender="ada@example.org",
        to="bob@example.net",
        subject="By the other way",
        text="We take it.",
        protection=names["protection"],
    )
    with names["Transport"]("memory:") as transport:
        octets = transport.prepare(message).octets
    opened = names["open_message"](octets, [own], at=datetime.now(UTC))
    assert opened.summary is names["Summary"].SIGNED_AND_ENCRYPTED
    # What nobody signed looks the same inside, and only the summary tells.
    protection = msgspec.structs.replace(names["protection"], signer=None)
    with names["Transport"]("memory:") as transport:
        octets = transport.prepare(msgspec.structs.replace(message, protection=protection)).octets
    opened = names["open_message"](octets, [own], at=datetime.now(UTC))
    assert "not signed" in names["WORDS"][opened.summary]


def test_a_key_for_a_try_becomes_the_files_of_the_page(tmp_path: Path) -> None:
    """As the page says it, with names of its own."""
    text = " ".join(PAGE.read_text().split())
    assert "write_bytes(made.key_pem() + made.certificates_pem())" in text
    made = make_identity("ada@example.org", at=datetime.now(UTC), days=30)
    pem = made.key_pem() + made.certificates_pem()
    (tmp_path / "ada.pem").write_bytes(pem)
    assert from_pem(pem, pem).certificate.fingerprint == made.certificate.fingerprint
    command = "openssl pkcs12 -export -in ada.pem -out ada.p12"
    assert command in text
    subprocess.run(
        [*command.split(), "-passout", "pass:its password"],
        check=True,
        capture_output=True,
        cwd=tmp_path,
    )
    own = from_pkcs12((tmp_path / "ada.p12").read_bytes(), "its password")[0]
    assert own.certificate.fingerprint == made.certificate.fingerprint
