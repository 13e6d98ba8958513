"""Our judgement of TLSA records beside OpenSSL's own, on the same chains.

`openssl s_client -dane_tlsa_domain` implements RFC 7671; where it and we differ the table says why.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from posthouse.kernel.ports import TlsaRecord
from posthouse.tls.dane import shown, usable, verify
from tests.interop.programs import find_program, needs_program
from tests.tls import authority
from tests.tls.authority import CLIENTS, Made
from tests.tls.test_dane import record

pytestmark = needs_program("openssl", package="openssl")

NAME = "mx.there.example"
NOW = datetime.now(UTC)


def make(name: str, **options) -> Made:
    return authority.make(name, now=NOW, **options)


ROOT = make("Root", is_ca=True)
MIDDLE = make("Middle", issuer=ROOT, is_ca=True)
SHORT = make("Short", is_ca=True, path_length=0)
OTHER = make("Other", is_ca=True)
EDWARDS = make("Edwards", is_ca=True, is_edwards=True)


def below(name: str, **options) -> Made:
    return make("Between", issuer=ROOT, **options).issue(name, now=NOW)


LEAVES = {
    "plain": make(NAME, issuer=MIDDLE),
    "directly": make(NAME, issuer=ROOT),
    "wildcard": make("*.there.example", issuer=ROOT),
    "partial wildcard": make("mx*.there.example", issuer=ROOT),
    "another name": make("elsewhere.example", issuer=ROOT),
    "common name": make(NAME, issuer=ROOT, names=()),
    "common name beside another": make(NAME, issuer=ROOT, names=("elsewhere.example",)),
    "expired": make(NAME, issuer=ROOT, days=(-90, -1)),
    "from tomorrow": make(NAME, issuer=ROOT, days=(1, 9)),
    "for clients": make(NAME, issuer=ROOT, usage=CLIENTS),
    "expired above": below(NAME, is_ca=True, days=(-90, -1)),
    "no authority above": below(NAME),
    "mute above": below(NAME, is_ca=True, signs=False),
    "signs above": below(NAME, is_ca=True, signs=True),
    "bound to it": below(NAME, is_ca=True, permitted=["there.example"]),
    "bound elsewhere": below(NAME, is_ca=True, permitted=["elsewhere.example"]),
    "barred": below(NAME, is_ca=True, excluded=["there.example"]),
    "short": make("Between", issuer=SHORT, is_ca=True).issue(NAME, now=NOW),
    "short enough": make(NAME, issuer=SHORT),
    "edwards": make(NAME, issuer=EDWARDS, is_edwards=True),
    "alone": make(NAME),
    "alone and an authority": make(NAME, is_ca=True, names=(NAME,)),
}


LENIENT = {"partial wildcard"}
"""OpenSSL takes these unless it is told not to; RFC 7672 §3.2.3 does not allow them."""


def top(leaf: Made) -> Made:
    while leaf.issuer is not None:
        leaf = leaf.issuer
    return leaf


def records_of(leaf: Made) -> dict[str, list[TlsaRecord]]:
    """Sets of records for a leaf, by what they are about."""
    anchor = top(leaf)
    found = {
        f"{usage} {selector} {matching}": [record(usage, selector, matching, of)]
        for usage, of in ((3, leaf), (2, anchor))
        for selector, matching in itertools.product((0, 1), (0, 1, 2))
    }
    found["of another"] = [record(3, 1, 1, OTHER), record(2, 0, 1, OTHER)]
    found["another first"] = [record(3, 1, 1, OTHER), record(2, 0, 1, anchor)]
    found["weak matches, strong does not"] = [record(3, 1, 1, leaf), record(3, 1, 2, OTHER)]
    if leaf.issuer is not None and leaf.issuer is not anchor:
        found["the authority between"] = [record(2, 0, 1, leaf.issuer)]
    return found


@contextlib.contextmanager
def serving(leaf: Made, folder: Path, *, is_whole: bool) -> Iterator[int]:
    """A TLS server on loopback that shows the chain, with or without what is on top of it."""
    key = leaf.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "chain.pem"
    path.write_bytes(
        key
        + b"".join(
            x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
            for der in sent(leaf, is_whole=is_whole)
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    listening = socket.create_server(("127.0.0.1", 0))
    listening.settimeout(20)

    def serve() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:  # closed: the end
                return
            connection.settimeout(20)
            with (
                connection,
                contextlib.suppress(OSError),
                context.wrap_socket(connection, server_side=True) as talk,
            ):
                talk.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listening.getsockname()[1]
    finally:
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()
        listening.close()


def sent(leaf: Made, *, is_whole: bool) -> list[bytes]:
    chain = leaf.chain
    return chain if is_whole or len(chain) == 1 else chain[:-1]


def openssl_says(port: int, records: list[TlsaRecord]) -> bool:
    program = find_program("openssl")
    assert program is not None
    arguments = [word for one in records for word in ("-dane_tlsa_rrdata", shown(one))]
    done = subprocess.run(
        [
            *(program, "s_client", "-connect", f"127.0.0.1:{port}", "-brief"),
            *("-verify_return_error", "-dane_ee_no_namechecks", "-servername", NAME),
            *("-dane_tlsa_domain", NAME),
            *arguments,
        ],
        input=b"",
        capture_output=True,
        timeout=30,
        check=False,
    )
    return b"Verification: OK" in done.stderr + done.stdout


@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("name", LEAVES)
def test_we_judge_as_openssl_does(tmp_path: Path, name: str, is_whole: bool) -> None:
    leaf = LEAVES[name]
    chain = sent(leaf, is_whole=is_whole)
    ours, theirs = {}, {}
    with serving(leaf, tmp_path, is_whole=is_whole) as port:
        for about, records in records_of(leaf).items():
            ours[about] = verify(usable(records), chain, (NAME,), NOW).is_authenticated
            theirs[about] = openssl_says(port, records)
    if name in LENIENT:
        theirs = {about: says and about.startswith("3") for about, says in theirs.items()}
    assert ours == theirs
