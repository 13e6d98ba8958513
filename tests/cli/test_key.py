"""`posthouse key`: keys of accounts, and what is done with their mail."""

from __future__ import annotations

import json
import subprocess
import time
from datetime import UTC, datetime
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


def test_the_list_has_all_of_them(house: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.cli.key.PAGE", 2)
    for _ in range(5):
        house("key", "make", ADA)
    _, out, _ = house("key", "list", "--json")
    assert len(json.loads(out)) == 5


def test_a_key_is_made_listed_exported_revoked_and_removed(house: Cli, tmp_path: Path) -> None:
    code, out, err = house("key", "list")
    assert "no key yet" in out + err
    code, _, err = house("key", "make", ADA)
    assert code == ExitCode.OK and "good until" in err and "key export" in err
    code, out, _ = house("key", "list", "--json")
    (shown,) = json.loads(out)
    assert shown["owner"] == ADA and shown["state"] == "in use" and shown["has_private"]
    code, out, _ = house("key", "export", ADA)
    assert "BEGIN CERTIFICATE" in out and "PRIVATE" not in out
    (tmp_path / "cert.pem").write_text(out)
    done = subprocess.run(
        ["openssl", "x509", "-in", tmp_path / "cert.pem", "-noout", "-email"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == ADA
    code, out, _ = house("key", "export", ADA, "--private", "--password-stdin", stdin="s3same\n")
    assert "BEGIN ENCRYPTED PRIVATE KEY" in out
    (tmp_path / "key.pem").write_text(out)
    code, _, err = house("key", "revoke", shown["fingerprint"][-16:])
    assert "used no more" in err
    assert json.loads(house("key", "list", "--json")[1])[0]["state"] == "revoked"
    code, _, err = house("key", "remove", ADA, "--yes")
    assert code == ExitCode.OK and json.loads(house("key", "list", "--json")[1]) == []
    code, _, err = house(
        "key", "import", ADA, str(tmp_path / "key.pem"), "--password-stdin", stdin="s3same\n"
    )
    assert code == ExitCode.OK and "with its private half" in err


def test_a_certificate_alone_will_do(house: Cli, tmp_path: Path) -> None:
    house("key", "make", ADA)
    (tmp_path / "cert.pem").write_text(house("key", "export", ADA)[1])
    house("key", "remove", ADA, "--yes")
    code, _, err = house("key", "import", ADA, str(tmp_path / "cert.pem"))
    assert code == ExitCode.OK and "the public half" in err
    assert json.loads(house("key", "list", "--json")[1])[0]["state"] == "certificate only"
    code, _, err = house("key", "export", ADA, "--private", "--unlocked")
    assert code == ExitCode.FAILED and "is not here" in err


def test_a_private_key_is_not_printed_unlocked_by_oversight(house: Cli) -> None:
    house("key", "make", ADA)
    code, out, err = house("key", "export", ADA, "--private")
    assert (code, out) == (ExitCode.USAGE, "") and "use --password-stdin" in err
    for more in (("--unlocked",), ("--private", "--unlocked", "--password-stdin")):
        code, out, err = house("key", "export", ADA, *more, stdin="s3same\n")
        assert (code, out) == (ExitCode.USAGE, "") and "--unlocked goes with --private" in err


def test_pkcs12_is_taken_and_a_wrong_password_told(house: Cli, tmp_path: Path) -> None:
    house("key", "make", ADA)
    (tmp_path / "key.pem").write_text(house("key", "export", ADA, "--private", "--unlocked")[1])
    subprocess.run(
        [
            *("openssl", "pkcs12", "-export", "-in", tmp_path / "key.pem"),
            *("-out", tmp_path / "key.p12", "-passout", "pass:s3same"),
        ],
        check=True,
        capture_output=True,
    )
    file = str(tmp_path / "key.p12")
    code, _, err = house("key", "import", ADA, file, "--password-stdin", stdin="wrong\n")
    assert code == ExitCode.FAILED and "password" in err and "s3same" not in err
    code, _, err = house("key", "import", ADA, file, "--password-stdin", stdin="s3same\n")
    assert code == ExitCode.OK and "with its private half" in err


def test_policies_are_said_in_words(house: Cli) -> None:
    assert "not said" in house("key", "policy", ADA)[1]
    code, out, err = house("key", "policy", ADA, "--at-rest", "always")
    assert code == ExitCode.OK and "always or refuse" in out
    assert "has no key, so mail for it is deferred now" in err
    house("key", "policy", "example.org", "--at-rest", "when-possible")
    code, out, _ = house("key", "policy", "example.org", "--json")
    assert json.loads(out) == {
        **dict.fromkeys(("scheme", "sign", "encrypt", "open", "at_rest_append"), ""),
        "at_rest": "when possible",
    }
    code, out, err = house("key", "policy", ADA, "--sign", "always", "--scheme", "smime")
    assert code == ExitCode.OK and "at rest          always or refuse" in out
    assert "key" in err
    code, _, err = house("key", "policy", ADA, "--at-rest", "sometimes")
    assert code == ExitCode.FAILED and "when possible" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("key", "make", "eve@example.org"), "no account"),
        (("key", "make", "nonsense"), "write the whole of it, like you@example.org"),
        (("key", "make", "example.org"), "is no account's address"),
        (("key", "export", "DEADBEEF"), "there is no key"),
        (("key", "revoke", "eve@example.org"), "there is no key"),
        (("key", "policy", "example.net"), "not known"),
        (("key", "policy", "nobody"), "an account is named by its whole address"),
    ],
)
def test_what_is_not_there_is_told(house: Cli, arguments: tuple[str, ...], words: str) -> None:
    code, _, err = house(*arguments)
    assert code != ExitCode.OK and words in err


def test_a_file_that_is_no_key_is_told(house: Cli, tmp_path: Path) -> None:
    """Before a password is asked for."""
    for octets, words in (
        (b"nonsense", "none of the files that keys come in"),
        (b"", "is empty"),
        (b"0" + b"\x82\xff\xff" + bytes(100), "is cut short or damaged"),
        (b"0\x82\0\x60" + b"\5\0" * 48, "holds no key and no certificate"),
        (b"ssh-ed25519 AAAA ada@example.org\n", "for SSH"),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\nx", "for SSH"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nx", "a request for a certificate"),
        (b"-----BEGIN PRIVATE KEY-----\nx\n-----END PRIVATE KEY-----\n", "without its certificate"),
        (b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nx", "without its certificate"),
        (b"-----BEGIN PUBLIC KEY-----\nx", "a public key without a certificate"),
        (b"-----BEGIN PGP MESSAGE-----\n\nx\n", "a message or a signature of OpenPGP"),
        (b"-----BEGIN RANDOM THING-----\nx", "holds no key and no certificate"),
    ):
        (tmp_path / "x").write_bytes(octets)
        code, _, err = house("key", "import", ADA, str(tmp_path / "x"))
        assert code == ExitCode.FAILED and words in err, octets


def test_der_is_told_apart_before_a_password_is_asked_for(house: Cli, tmp_path: Path) -> None:
    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=tmp_path)

    house("key", "make", ADA)
    (tmp_path / "both.pem").write_text(house("key", "export", ADA, "--private", "--unlocked")[1])
    der = ("-outform", "DER", "-out")
    openssl("pkey", "-in", "both.pem", *der, "key.der")
    openssl("pkcs8", "-topk8", "-in", "both.pem", "-passout", "pass:a", *der, "locked.der")
    openssl("ec", "-in", "both.pem", *der, "ec.der")
    openssl("pkey", "-in", "both.pem", "-pubout", *der, "public.der")
    openssl("req", "-new", "-key", "both.pem", "-subj", "/CN=ada", *der, "request.der")
    for name, words in (
        ("key.der", "holds a private key without its certificate"),
        ("locked.der", "holds a private key without its certificate"),
        ("ec.der", "holds a private key without its certificate"),
        ("public.der", "is a public key without a certificate"),
        ("request.der", "is a request for a certificate"),
    ):
        code, _, err = house("key", "import", ADA, str(tmp_path / name))
        assert code == ExitCode.FAILED and words in err, name
    openssl("x509", "-in", "both.pem", *der, "cert.der")
    openssl("crl2pkcs7", "-nocrl", "-certfile", "both.pem", "-out", "bundle.pem")
    for name in ("cert.der", "bundle.pem"):
        assert house("key", "import", ADA, str(tmp_path / name))[0] == ExitCode.OK, name


def test_pkcs12_without_a_password_or_a_key(house: Cli, tmp_path: Path) -> None:
    house("key", "make", ADA)
    (tmp_path / "both.pem").write_text(house("key", "export", ADA, "--private", "--unlocked")[1])
    export = ["openssl", "pkcs12", "-export", "-in", "both.pem", "-passout"]
    for more in (["pass:", "-out", "open.p12"], ["pass:s3same", "-nokeys", "-out", "none.p12"]):
        subprocess.run([*export, *more], check=True, capture_output=True, cwd=tmp_path)
    code, _, err = house("key", "import", ADA, str(tmp_path / "open.p12"))
    assert code == ExitCode.OK and "with its private half" in err
    file = str(tmp_path / "none.p12")
    code, _, err = house("key", "import", ADA, file, "--password-stdin", stdin="s3same\n")
    assert code == ExitCode.FAILED and "holds no private key" in err


def test_an_openpgp_key_is_made_exported_revoked_and_shown(house: Cli, tmp_path: Path) -> None:
    code, _, err = house("key", "make", ADA, "--scheme", "openpgp")
    assert code == ExitCode.OK and "--private" in err
    public = house("key", "export", ADA)[1]
    assert public.startswith("-----BEGIN PGP PUBLIC KEY BLOCK-----")
    private = house("key", "export", ADA, "--private", "--password-stdin", stdin="s3same-7\n")[1]
    assert "PRIVATE KEY BLOCK" in private
    (tmp_path / "key.asc").write_text(private)
    house("key", "remove", ADA, "--yes")
    file = str(tmp_path / "key.asc")
    code, _, err = house("key", "import", ADA, file, "--password-stdin", stdin="wrong\n")
    assert code == ExitCode.FAILED and "password is wrong" in err
    code, _, err = house("key", "import", ADA, file, "--password-stdin", stdin="s3same-7\n")
    assert code == ExitCode.OK and "with its private half" in err
    assert house("key", "revoke", ADA)[0] == ExitCode.OK
    assert "revoked" in house("key", "list")[1]
    revoked = read_public(house("key", "export", ADA)[1].encode())
    assert revoked[0].is_revoked  # what others get says so


def test_a_scheme_has_its_own_algorithms(house: Cli) -> None:
    code, _, err = house("key", "make", ADA, "--scheme", "openpgp", "--algorithm", "p256")
    assert code == ExitCode.FAILED and "cv25519" in err


def test_the_key_of_somebody_elsewhere_is_believed_for_that_address(
    house: Cli, tmp_path: Path
) -> None:
    eve, _ = make_key(["eve@far.example", "ceo@bank.example"], at=datetime.now(UTC), days=9)
    file = tmp_path / "eve.asc"
    file.write_bytes(eve.public.armored())
    code, _, err = house("key", "import", "eve@far.example", str(file))
    assert code == ExitCode.OK and "the public half" in err
    assert "ceo@bank.example" not in house("key", "list")[1]
    code, _, err = house("key", "import", "bob@far.example", str(file))
    assert code == ExitCode.FAILED and "not bob@far.example" in err
    file.write_bytes(eve.armored(None))
    code, _, err = house("key", "import", "eve@far.example", str(file))
    assert code == ExitCode.FAILED and "private key" in err


def test_an_openpgp_key_gets_another_end_and_a_certificate_does_not(house: Cli) -> None:
    house("key", "make", ADA, "--scheme", "openpgp", "--days", "5")
    time.sleep(1.1)  # of two statements of one second nobody can tell which is the later
    code, _, err = house("key", "extend", ADA, "--days", "500")
    assert code == ExitCode.OK and "is good until" in err
    expires = json.loads(house("key", "list", "--json")[1])[0]["expires"]
    left = datetime.fromisoformat(expires).date() - datetime.now(UTC).date()
    assert 498 <= left.days <= 500
    house("key", "remove", ADA, "--yes")
    house("key", "make", ADA)
    code, _, err = house("key", "extend", ADA)
    assert code == ExitCode.FAILED and "keeps the end it was issued with" in err


def test_a_revoked_key_gets_no_other_end(house: Cli) -> None:
    house("key", "make", ADA, "--scheme", "openpgp")
    house("key", "revoke", ADA)
    code, _, err = house("key", "extend", ADA)
    assert code == ExitCode.FAILED and "is revoked, which no date takes back" in err


def test_of_two_keys_the_scheme_says_which(house: Cli) -> None:
    for scheme in ("smime", "openpgp"):
        house("key", "make", ADA, "--scheme", scheme)
    listed = json.loads(house("key", "list", "--json")[1])
    assert {one["scheme"] for one in listed} == {"S/MIME", "OpenPGP"}
    assert "OpenPGP" in house("key", "list")[1]
    code, _, err = house("key", "export", ADA)
    assert code == ExitCode.FAILED and "(S/MIME)" in err and "(OpenPGP)" in err
    assert "add --scheme smime or --scheme openpgp" in err
    for one in listed:
        for part in (one["fingerprint"][:8].lower(), one["fingerprint"][-8:]):
            assert json.loads(house("key", "list", part, "--json")[1]) == [one]
    assert "PGP PUBLIC KEY" in house("key", "export", ADA, "--scheme", "openpgp")[1]
    assert "BEGIN CERTIFICATE" in house("key", "export", ADA, "--scheme", "smime")[1]
    assert house("key", "publish", ADA, "--scheme", "openpgp")[0] == ExitCode.OK
    time.sleep(1.1)
    assert house("key", "extend", ADA)[0] == ExitCode.OK  # only one of them can be
    assert house("key", "revoke", ADA, "--scheme", "smime")[0] == ExitCode.OK
    assert house("key", "remove", ADA, "--scheme", "smime", "--yes")[0] == ExitCode.OK
    code, _, err = house("key", "export", ADA, "--scheme", "smime")
    assert code == ExitCode.NOT_FOUND and "there is no S/MIME key" in err


def test_a_key_stays_where_its_owner_says_no(house: Cli) -> None:
    house("key", "make", ADA)
    code, _, err = house("key", "remove", ADA, stdin="n\n")
    assert code == ExitCode.FAILED and "nothing was removed" in err and "interrupted" not in err
    assert json.loads(house("key", "list", "--json")[1])


def test_what_an_account_does_not_say_its_domain_says(house: Cli) -> None:
    house("key", "policy", "example.org", "--sign", "always")
    house("key", "policy", "example.org", "--open", "never")
    house("key", "policy", ADA, "--open", "when possible")
    out = house("key", "policy", ADA)[1]
    assert "sign             not said; the domain says always or refuse, which counts" in out
    assert "open             when possible; the domain says never, which does not count here" in out
    assert "encrypt          not said; so it is never" in out
    told = json.loads(house("key", "policy", ADA, "--json")[1])
    assert told["in_force"]["sign"] == "always or refuse" == told["domain"]["sign"]
    assert told["in_force"]["open"] == "when possible"


def listed(house: Cli, *whom: str) -> list[tuple[str, str]]:
    """Fingerprints and states."""
    found = json.loads(house("key", "list", *whom, "--json")[1])
    return [(one["fingerprint"], one["state"]) for one in found]


def test_a_key_counts_for_its_owner_s_addresses_and_the_others_are_told(
    house: Cli, tmp_path: Path
) -> None:
    made, _ = make_key(
        [ADA, "ada-x@example.org", "team@example.org", "ceo@example.org", "ceo@bank.example"],
        at=datetime.now(UTC),
        days=9,
    )
    file = tmp_path / "ada.asc"
    file.write_bytes(made.public.armored())
    with (tmp_path / "mail" / "posthouse.toml").open("a") as config:
        config.write('\n[route]\nsubaddress_separator = "-"\n')
    house("account", "add", "ceo@example.org", "--password-stdin", stdin="a long word of 7\n")
    house("alias", "add", "team@example.org", ADA)
    code, _, err = house("key", "import", ADA, str(file))
    assert code == ExitCode.OK
    assert "counts for ada-x@example.org, ada@example.org, team@example.org and not for" in err
    assert "not for ceo@bank.example, ceo@example.org\nhint: a key vouches" in err
    assert listed(house, "ceo@example.org") == []
    assert listed(house, "team@example.org") == [(made.public.fingerprint, "certificate only")]
    code, _, err = house("key", "import", "team@example.org", str(file))
    assert code == ExitCode.FAILED and "is an alias" in err and f"key import {ADA}" in err
    code, _, err = house("key", "import", "example.org", str(file))
    assert code == ExitCode.FAILED and "another owner's" in err


def test_a_key_of_an_address_that_went_away_is_told_and_revoked_by_it(
    house: Cli, tmp_path: Path
) -> None:
    team = "team@example.org"
    house("alias", "add", team, ADA)
    (tmp_path / "team.asc").write_bytes(
        make_key([team], at=datetime.now(UTC), days=9)[0].armored(None)
    )
    code, _, err = house("key", "import", ADA, str(tmp_path / "team.asc"))
    assert code == ExitCode.OK and "not for" not in err
    assert [state for _, state in listed(house, team)] == ["in use"]
    house("alias", "remove", team)
    assert [state for _, state in listed(house, team)] == ["its owner has no such address"]
    assert house("key", "revoke", team)[0] == ExitCode.OK
    assert house("key", "remove", team, "--yes")[0] == ExitCode.OK


@pytest.mark.parametrize("scheme", ["smime", "openpgp"])
def test_of_several_keys_of_an_address_the_one_in_use_is_shown(house: Cli, scheme: str) -> None:
    made = ("key", "make", ADA, "--scheme", scheme)
    assert "used from now on" not in house(*made)[2]
    ((old, _),) = listed(house)
    code, _, err = house(*made)
    assert code == ExitCode.OK and f"it is used from now on; {ADA} has {old}, too" in err
    assert f"key revoke {old}" in err
    _, (new, _) = listed(house)
    code, out, err = house("key", "export", ADA)
    assert code == ExitCode.OK and f"{ADA} has 2 keys; this is {new}" in err and old in err
    assert out == house("key", "export", new)[1]
    assert house("key", "revoke", new)[0] == ExitCode.OK
    code, out, err = house("key", "publish", ADA)
    assert code == ExitCode.OK and f"this is {old}" in err
    assert house("key", "export", ADA)[1] == house("key", "export", old)[1]
    assert house("key", "publish", new)[0] == ExitCode.OK
    assert house("key", "publish", ADA, "--stop")[2].count(f"{old} is not shown") == 1
    assert house("key", "publish", ADA, "--stop")[2].count(f"{new} is not shown") == 1
    assert "used from now on" in house(*made)[2]
    code, _, err = house("key", "revoke", ADA)
    assert code == ExitCode.FAILED and "3 keys fit" in err  # of what cannot be undone it is asked


def test_the_private_half_is_that_of_a_key_that_has_one(house: Cli, tmp_path: Path) -> None:
    house("key", "make", ADA, "--scheme", "openpgp")
    ((kept, _),) = listed(house)
    (tmp_path / "x.asc").write_bytes(
        make_key([ADA], at=datetime.now(UTC), days=9)[0].public.armored()
    )
    house("key", "import", ADA, str(tmp_path / "x.asc"))
    code, out, err = house("key", "export", ADA, "--private", "--unlocked")
    assert code == ExitCode.OK and f"this is {kept}" in err and "PRIVATE KEY BLOCK" in out


def test_that_an_address_has_no_key_is_said_of_that_address(house: Cli) -> None:
    house("key", "make", ADA)
    house("account", "add", "bob@example.org", "--password-stdin", stdin="a long word of 7\n")
    for address, way in (
        ("zed@example.org", ""),
        ("bob@example.org", ": posthouse key make bob@example.org"),
        ("zed@far.example", ": posthouse key find zed@far.example"),
    ):
        code, out, err = house("key", "list", address)
        assert (code, out) == (ExitCode.OK, "")
        assert err == f"there is no key of {address} here{way}\n"


def test_nobody_there_to_ask_is_told_with_the_option_to_give(house: Cli) -> None:
    house("key", "make", ADA)
    code, _, err = house("key", "remove", ADA, stdin="")
    assert code == ExitCode.USAGE and "nobody to ask" in err and "hint: add --yes" in err
    assert "interrupted" not in err and listed(house)
