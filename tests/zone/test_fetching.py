"""Advice for a page that others cannot fetch fits what is the matter."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from posthouse.config.schema import Acme, Config, Node
from posthouse.kernel.ports import FetchFailed, FetchTrouble
from posthouse.zone.fetching import fetch_advice

HOST = "mta-sts.example.org"
UNTRUSTED = f"the certificate of {HOST} does not verify: unable to get local issuer certificate"
EXPIRED = f"the certificate of {HOST} does not verify: certificate has expired"


def house(tmp_path: Path, *, has_acme: bool) -> Config:
    acme = Acme(is_enabled=has_acme, accepts_terms=True, directory="https://ca.example/dir")
    config = Config(node=Node(hostname="mail.example.org", data_folder=str(tmp_path)))
    return msgspec.structs.replace(config, acme=acme)


@pytest.mark.parametrize(
    ("kind", "words", "has_acme", "is_obtained", "expected"),
    [
        (FetchTrouble.DNS, "no such name", True, False, "publish its CNAME record"),
        (FetchTrouble.CONNECT, "refused", True, True, "with port 443 open"),
        (FetchTrouble.TLS, UNTRUSTED, False, False, "which [acme] obtains by itself"),
        (FetchTrouble.TLS, UNTRUSTED, True, False, "[acme] has none yet"),
        (FetchTrouble.TLS, UNTRUSTED, True, True, "from ca.example, whose root this machine does"),
        (FetchTrouble.TLS, EXPIRED, True, True, "is that one in use?"),
    ],
)
def test_advice_fits_the_trouble(
    kind: FetchTrouble,
    words: str,
    has_acme: bool,
    is_obtained: bool,
    expected: str,
    tmp_path: Path,
) -> None:
    if is_obtained:
        folder = tmp_path / "tls" / "acme"
        folder.mkdir(parents=True)
        (folder / HOST).symlink_to("made/1")
    advice = fetch_advice(FetchFailed(words, kind), HOST, house(tmp_path, has_acme=has_acme))
    assert expected in advice
