"""What `posthouse key …` says of keys that cannot be used, and of policies that no key serves."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from posthouse.cli.output import ExitCode
from posthouse.mimesec.pgp.keys import read_public
from posthouse.mimesec.pgp.make import make_key

from .conftest import PASSWORD, Cli

ADA = "ada@example.org"


@pytest.fixture
def house(cli: Cli, tmp_path: Path) -> Cli:
    code, _, err = cli(
        *("quickstart", ADA, "--data", str(tmp_path / "mail"), "--password-stdin"),
        *("--listen", "127.0.0.1", "--port-base", "24000"),
        stdin=f"{PASSWORD}\n",
    )
    assert code == ExitCode.OK, err

    def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        config = str(tmp_path / "mail" / "posthouse.toml")
        return cli(*arguments, "--config", config, stdin=stdin)

    return run  # type: ignore[return-value]


def certificate(folder: Path, *extensions: str) -> str:
    """Of Ada, with its key in the same file."""
    made = folder / "made.pem"
    more = [part for one in extensions for part in ("-addext", one)]
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9"),
            *("-subj", "/CN=ada", "-addext", f"subjectAltName=email:{ADA}", *more),
            *("-keyout", "key.pem", "-out", "cert.pem"),
        ],
        check=True,
        capture_output=True,
        cwd=folder,
    )
    made.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return str(made)


def over(folder: Path) -> str:
    """An OpenPGP key that has ended."""
    made, _ = make_key([ADA], at=datetime.now(UTC) - timedelta(days=20), days=9)
    file = folder / "over.asc"
    file.write_bytes(made.armored(None))
    return str(file)


def signing_only(folder: Path) -> str:
    """An OpenPGP key without a part to encrypt to."""
    home = folder / "gnupg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", str(home), "--batch", "--passphrase", ""]
    subprocess.run(
        [*gpg, "--quick-gen-key", f"Ada <{ADA}>", "ed25519", "sign", "never"],
        check=True,
        capture_output=True,
    )
    out = subprocess.run(
        [*gpg, "--armor", "--export-secret-keys"], check=True, capture_output=True
    ).stdout
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False)
    file = folder / "signs.asc"
    file.write_bytes(out)
    return str(file)


def test_a_certificate_for_servers_is_kept_and_told_to_be_of_no_use(
    house: Cli, tmp_path: Path
) -> None:
    file = certificate(tmp_path, "extendedKeyUsage=serverAuth")
    code, _, err = house("key", "import", ADA, file)
    assert code == ExitCode.OK and "imported" in err
    assert "nothing can be encrypted to it: the certificate is not for e-mail" in err
    assert "nothing can be signed by it" in err and "posthouse key remove" in err
    words = ("--at-rest", "always", "--sign", "always", "--at-rest-append", "always")
    code, _, err = house("key", "policy", ADA, *words)
    assert code == ExitCode.OK
    assert f"{ADA} has no key that can be used (the certificate is not for e-mail" in err
    assert "so mail for it is deferred now: posthouse key make" in err
    assert "so what its mail programs put there is refused now" in err
    assert "has no key to sign with that can be used" in err
    house("key", "make", ADA)
    assert "hint" not in house("key", "policy", ADA, *words)[2]


def test_an_openpgp_key_that_only_signs(house: Cli, tmp_path: Path) -> None:
    code, _, err = house("key", "import", ADA, signing_only(tmp_path))
    assert code == ExitCode.OK and "the key has no part to encrypt to" in err
    assert "signed by it" not in err
    err = house("key", "policy", ADA, "--at-rest", "always", "--sign", "always")[2]
    assert "deferred now" in err and "what it sends" not in err


def test_a_key_that_has_ended(house: Cli, tmp_path: Path) -> None:
    code, _, err = house("key", "import", ADA, over(tmp_path))
    assert code == ExitCode.OK and "ended on" in err and "nothing can be signed by it" in err
    err = house("key", "policy", ADA, "--at-rest", "always")[2]
    assert "has no key that can be used (" in err and "ended on" in err


@pytest.mark.parametrize("whom", [ADA, "example.org"])
@pytest.mark.parametrize("command", [("revoke",), ("remove", "--yes")])
def test_the_last_key_that_a_policy_asks_for_goes(
    house: Cli, whom: str, command: tuple[str, ...]
) -> None:
    for _ in range(2):
        house("key", "make", ADA)
    house("key", "policy", whom, "--at-rest", "always", "--sign", "always")
    second, first = [one["fingerprint"] for one in json.loads(house("key", "list", "--json")[1])]
    assert "now" not in house("key", command[0], first, *command[1:])[2].replace("no more", "")
    err = house("key", command[0], second, *command[1:])[2]
    assert "so mail for it is deferred now" in err and "so what it sends is refused now" in err


def test_an_imported_key_takes_the_place_of_an_older_one(house: Cli, tmp_path: Path) -> None:
    house("key", "make", ADA)
    [old] = json.loads(house("key", "list", "--json")[1])
    err = house("key", "import", ADA, certificate(tmp_path))[2]
    assert f"it is used from now on; {ADA} has {old['fingerprint']}, too" in err
    assert f"posthouse key revoke {old['fingerprint']}" in err
    (tmp_path / "old.pem").write_text(house("key", "export", old["fingerprint"])[1])
    err = house("key", "import", ADA, str(tmp_path / "old.pem"))[2]
    assert "from now on" not in err  # it stays the older one


def test_a_word_of_a_policy_is_taken_back(house: Cli) -> None:
    house("key", "policy", "example.org", "--sign", "when possible", "--at-rest", "when possible")
    house("key", "policy", ADA, "--sign", "never", "--scheme", "openpgp")
    out = house("key", "policy", ADA, "--sign", "Not-said", "--scheme", "not said")[1]
    assert "sign             not said; the domain says when possible, which counts" in out
    assert "scheme           not said; so it is either" in out
    out = house("key", "policy", "example.org", "--at-rest", "not said")[1]
    assert "at rest          not said" in out and "sign             when possible" in out
    code, _, err = house("key", "policy", ADA, "--sign", "")
    assert code == ExitCode.FAILED and "the word of the policy is empty" in err
    code, _, err = house("key", "policy", ADA, "--sign", "sometimes")
    assert '"sometimes" is no word of a policy' in err and '"not said"' in err


def test_a_domain_s_policy_says_how_many_accounts_have_no_key(house: Cli) -> None:
    for name in ("bob", "carol"):
        house("account", "add", f"{name}@example.org", "--password-stdin", stdin="a long word 7\n")
    err = house("key", "policy", "example.org", "--at-rest", "always")[2]
    assert "3 accounts of example.org have no key, so mail for them is deferred now" in err
    house("key", "make", ADA)
    house("key", "policy", "bob@example.org", "--at-rest", "never")
    err = house("key", "policy", "example.org", "--at-rest", "always")[2]
    assert "1 account of example.org has no key, so mail for them is deferred now" in err
    assert "no key" not in house("key", "policy", "example.org", "--at-rest", "when possible")[2]


def test_of_several_keys_the_list_says_which_is_in_use_and_published(house: Cli) -> None:
    for scheme in ("smime", "smime", "openpgp"):
        house("key", "make", ADA, "--scheme", scheme)
    house("key", "publish", ADA, "--scheme", "openpgp")
    listed = json.loads(house("key", "list", "--json")[1])
    assert [(one["state"], one["is_published"]) for one in listed] == [
        ("kept to read old mail", False),
        ("in use", False),
        ("in use", True),
    ]
    assert "in use, published" in house("key", "list")[1]


def test_a_key_that_is_published_and_over_is_told(house: Cli, tmp_path: Path) -> None:
    house("key", "import", ADA, over(tmp_path))
    err = house("key", "publish", ADA)[2]
    assert "it ended on" in err and "web.addresses" in err and "start the server again" in err
    assert "is not shown any more" in house("key", "publish", ADA, "--stop")[2]
    err = house("key", "publish", ADA, "--stop")[2]
    assert "was not shown" in err and "any more" not in err
    code, _, err = house("key", "revoke", ADA)
    assert code == ExitCode.OK and "used no more" in err and "others cannot hear of it" in err
    assert "it is revoked, and others will hear just that" in house("key", "publish", ADA)[2]


def test_a_key_is_found_by_what_reports_call_it(house: Cli, tmp_path: Path) -> None:
    house("key", "make", ADA)
    (tmp_path / "cert.pem").write_text(house("key", "export", ADA)[1])
    [smime] = json.loads(house("key", "list", "--json")[1])
    serial = subprocess.run(
        ["openssl", "x509", "-in", "cert.pem", "-noout", "-serial"],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    ).stdout.strip()[len("serial=") :]
    assert json.loads(house("key", "list", serial, "--json")[1]) == [smime]
    house("key", "make", ADA, "--scheme", "openpgp")
    [public] = read_public(house("key", "export", ADA, "--scheme", "openpgp")[1].encode())
    for part in (*public.key_ids, public.key_ids[-1][-8:]):
        [found] = json.loads(house("key", "list", part, "--json")[1])
        assert found["fingerprint"] == public.fingerprint
    for part in (smime["fingerprint"][:7], smime["fingerprint"][9:20]):
        code, _, err = house("key", "export", part)
        assert code == ExitCode.NOT_FOUND
        assert "take eight digits or more of either end of a fingerprint" in err


def test_of_a_certificate_that_vouches_for_itself_no_issuer_is_told(house: Cli) -> None:
    house("key", "make", ADA)
    err = house("key", "revoke", ADA)[2]
    assert "whoever issued" not in err and "tell those who have it" in err


def test_a_key_that_a_person_imported_is_named_by_find(house: Cli, tmp_path: Path) -> None:
    eve, _ = make_key(["eve@far.example"], at=datetime.now(UTC), days=9)
    (tmp_path / "eve.asc").write_bytes(eve.public.armored())
    house("key", "import", "eve@far.example", str(tmp_path / "eve.asc"))
    err = house("key", "find", "eve@far.example", "--resolver", "127.0.0.1:9")[2]
    assert f"{eve.public.fingerprint} (OpenPGP) of eve@far.example is here" in err
