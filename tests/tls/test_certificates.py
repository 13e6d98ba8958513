"""Certificates from files: what is checked, what is chosen by name, what a reload may do."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from posthouse.kernel.errors import UserError
from posthouse.net.tls_adapter import TlsAdapter, TlsFailure
from posthouse.tls.certificates import CertificateFiles, Certificates, load_certificate
from posthouse.tls.contexts import opportunistic_client_context, verifying_client_context
from posthouse.tls.peers import Verifier, system_roots
from posthouse.tls.self_signed import VALID_DAYS, ensure_self_signed, make_self_signed

NOW = datetime(2026, 6, 1, tzinfo=UTC)


class NowClock:
    def __init__(self) -> None:
        self.at = NOW

    def now(self) -> datetime:
        return self.at

    def unix_us(self) -> int:
        return int(self.at.timestamp() * 1e6)

    def monotonic_s(self) -> float:
        return self.at.timestamp()

    async def sleep(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def files_in(folder: Path, name: str = "mail") -> CertificateFiles:
    return CertificateFiles(chain=folder / f"{name}.pem", key=folder / f"{name}.key")


def put(files: CertificateFiles, chain: bytes, key: bytes) -> CertificateFiles:
    files.chain.write_bytes(chain)
    files.key.write_bytes(key)
    files.key.chmod(0o600)
    return files


def issued(
    authority: trustme.CA, folder: Path, *names: str, name: str = "mail"
) -> CertificateFiles:
    leaf = authority.issue_cert(*names)
    chain = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
    return put(files_in(folder, name), chain, leaf.private_key_pem.bytes())


def shake(server: ssl.SSLContext, client: ssl.SSLContext, name: str | None) -> TlsAdapter:
    """The client's end of a finished handshake."""
    one = TlsAdapter(server, server_side=True, server_name=None)
    other = TlsAdapter(client, server_side=False, server_name=name)
    other.advance()
    for _ in range(3):
        one.receive(other.take_outgoing())
        other.receive(one.take_outgoing())
    assert one.is_established and other.is_established and one.info().sni == name
    return other


def names_of(adapter: TlsAdapter) -> list[str]:
    leaf = x509.load_der_x509_certificate(adapter.peer_chain()[0])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return names.get_values_for_type(x509.DNSName)


def test_a_good_pair_is_loaded_and_described(authority: trustme.CA, tmp_path: Path) -> None:
    files = issued(authority, tmp_path, "Mail.Example.org", "*.example.net")
    certificate = load_certificate(files, NOW)
    assert certificate.names == ("mail.example.org", "*.example.net")
    assert not certificate.is_self_signed and certificate.warnings == ()
    files.key.chmod(0o644)
    assert "chmod 600" in load_certificate(files, NOW).warnings[0]


def test_what_is_wrong_with_files_is_said_in_words(authority: trustme.CA, tmp_path: Path) -> None:
    # F35
    good = issued(authority, tmp_path, "mail.example.org")
    chain, key = good.chain.read_bytes(), good.key.read_bytes()
    other = issued(authority, tmp_path, "mail.example.org", name="other").key.read_bytes()
    expired, expired_key = make_self_signed(["x.example"], NOW - timedelta(days=9), valid_days=1)
    future, future_key = make_self_signed(["x.example"], NOW + timedelta(days=9))
    small = rsa.generate_private_key(65537, 1024).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    locked = serialization.load_pem_private_key(key, None).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    root = authority.cert_pem.bytes()
    cases = [
        (chain[:200], key, "no complete certificate"),
        (b"", key, "no complete certificate"),
        (chain, key[:60], "no complete private key"),
        (chain, other, "does not belong"),
        (chain, locked, "protected by a password"),
        (chain, small, "2048 bits"),
        (root + chain, key, "wrong order"),
        (expired, expired_key, "expired at 2026-05-24"),
        (future, future_key, "valid only from"),
        (b"x" * 1_048_577, key, "too large"),
    ]
    for bad_chain, bad_key, words in cases:
        bad = put(files_in(tmp_path, "bad"), bad_chain, bad_key)
        with pytest.raises(UserError, match=words):
            load_certificate(bad, NOW)
    with pytest.raises(UserError, match="No such file"):
        load_certificate(files_in(tmp_path, "missing"), NOW)
    with pytest.raises(UserError):
        Certificates([], NowClock())


def test_the_server_name_chooses_and_an_unknown_one_gets_the_default(  # H62
    authority: trustme.CA, tmp_path: Path
) -> None:
    certificates = Certificates(
        [
            issued(authority, tmp_path, "mail.example.org", name="a"),
            issued(authority, tmp_path, "mail.example.net", "*.example.net", name="b"),
        ],
        NowClock(),
    )
    client = opportunistic_client_context()
    for name, served in [
        ("mail.example.org", "mail.example.org"),
        ("mail.example.net", "mail.example.net"),
        ("imap.example.net", "mail.example.net"),
        ("a.b.example.net", "mail.example.org"),  # a wildcard is one label
        ("unknown.example", "mail.example.org"),
        (None, "mail.example.org"),
    ]:
        assert names_of(shake(certificates.context(), client, name))[0] == served
    assert certificates.for_name("MAIL.example.NET.").names[0] == "mail.example.net"


def test_any_number_of_unknown_names_costs_no_memory(  # H62
    authority: trustme.CA, tmp_path: Path
) -> None:
    certificates = Certificates([issued(authority, tmp_path, "mail.example.org")], NowClock())
    for number in range(1000):
        assert certificates.for_name(f"n{number}.example") is certificates.loaded[0]
    assert len(certificates._by_name) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_server_name_that_is_no_text_fails_only_its_own_handshake(  # H62
    authority: trustme.CA, tmp_path: Path
) -> None:
    server = Certificates([issued(authority, tmp_path, "mail.example.org")], NowClock()).context()
    client = TlsAdapter(
        opportunistic_client_context(), server_side=False, server_name="mail.example.org"
    )
    client.advance()
    hello = client.take_outgoing().replace(b"mail.example.org", b"ma\xffl.example.org")
    with pytest.raises(TlsFailure, match="no host name"):
        TlsAdapter(server, server_side=True, server_name=None).receive(hello)
    shake(server, opportunistic_client_context(), "mail.example.org")


def test_a_server_of_tls_1_3_turns_older_clients_away(  # RFC 9325 §3.1.1
    authority: trustme.CA, tmp_path: Path
) -> None:
    files = issued(authority, tmp_path, "mail.example.org")
    old = opportunistic_client_context()
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    shake(Certificates([files], NowClock()).context(), old, "mail.example.org")
    strict = Certificates([files], NowClock(), minimum_version=ssl.TLSVersion.TLSv1_3)
    shake(strict.context(), opportunistic_client_context(), "mail.example.org")
    with pytest.raises((TlsFailure, ssl.SSLError)):
        shake(strict.context(), old, "mail.example.org")
    put(files, files.chain.read_bytes(), files.key.read_bytes())
    assert len(strict.reload_if_changed()) == 1
    assert strict.context().minimum_version is ssl.TLSVersion.TLSv1_3


def test_new_files_are_served_and_bad_ones_leave_the_old_in_use(  # F35
    authority: trustme.CA, tmp_path: Path
) -> None:
    clock = NowClock()
    files = issued(authority, tmp_path, "old.example.org")
    certificates = Certificates([files], clock)
    client = opportunistic_client_context()
    assert certificates.reload_if_changed() == []

    fresh = issued(authority, tmp_path, "new.example.org", name="fresh")
    chain, key = fresh.chain.read_bytes(), fresh.key.read_bytes()
    expired, expired_key = make_self_signed(["x.example"], NOW - timedelta(days=9), valid_days=1)
    for bad_chain, bad_key, words in [
        (chain[: len(chain) // 3], key, "no complete certificate"),
        (chain, files.key.read_bytes(), "does not belong"),
        (expired, expired_key, "expired"),
    ]:
        put(files, bad_chain, bad_key)
        [told] = certificates.reload_if_changed()
        assert told.certificate is None and words in told.problem and told.files == files
        assert certificates.reload_if_changed() == []  # told once
        assert names_of(shake(certificates.context(), client, None)) == ["old.example.org"]

    files.key.unlink()
    assert "No such file" in certificates.reload_if_changed()[0].problem
    put(files, chain, key)
    [told] = certificates.reload_if_changed()
    assert told.certificate is not None and told.problem == ""
    assert names_of(shake(certificates.context(), client, None)) == ["new.example.org"]


def test_one_bad_pair_does_not_hold_up_another(authority: trustme.CA, tmp_path: Path) -> None:
    first = issued(authority, tmp_path, "a.example", name="a")
    second = issued(authority, tmp_path, "b.example", name="b")
    certificates = Certificates([first, second], NowClock())
    first.chain.write_bytes(b"half")
    issued(authority, tmp_path, "c.example", name="b")
    told = certificates.reload_if_changed()
    assert [item.certificate is None for item in told] == [True, False]
    assert certificates.for_name("c.example").names == ("c.example",)
    assert certificates.for_name("a.example").names == ("a.example",)


# --- self-signed ---


def test_a_self_signed_pair_is_made_once_and_kept_private(tmp_path: Path) -> None:
    folder = tmp_path / "tls"
    files = ensure_self_signed(folder, ["mail.example.org", "127.0.0.1", "::1"], NOW)
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    certificate = load_certificate(files, NOW)
    assert certificate.is_self_signed and certificate.names == ("mail.example.org",)
    assert certificate.warnings == ()
    assert certificate.not_after == NOW + timedelta(days=VALID_DAYS)
    before = files.chain.read_bytes()
    assert ensure_self_signed(folder, ["other.example"], NOW) == files
    assert files.chain.read_bytes() == before
    assert sorted(path.name for path in folder.iterdir()) == [files.key.name, files.chain.name]


def test_half_a_pair_or_an_expired_one_is_made_anew(tmp_path: Path) -> None:
    files = ensure_self_signed(tmp_path, ["mail.example.org"], NOW)
    files.chain.unlink()
    ensure_self_signed(tmp_path, ["mail.example.org"], NOW)
    load_certificate(files, NOW)
    much_later = NOW + timedelta(days=VALID_DAYS + 1)
    with pytest.raises(UserError):
        load_certificate(files, much_later)
    ensure_self_signed(tmp_path, ["mail.example.org"], much_later)
    load_certificate(files, much_later)


def test_a_name_that_no_certificate_carries_is_told(tmp_path: Path) -> None:
    for names in ([], ["bücher.example"]):
        with pytest.raises(UserError):
            ensure_self_signed(tmp_path, names, NOW)
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    with pytest.raises(UserError, match="cannot keep"):
        ensure_self_signed(in_the_way / "tls", ["mail.example.org"], NOW)


# --- clients ---


def test_a_verifying_client_takes_its_own_roots(authority: trustme.CA, tmp_path: Path) -> None:
    server = Certificates([issued(authority, tmp_path, "mail.example.org")], NowClock()).context()
    roots = tmp_path / "roots.pem"
    authority.cert_pem.write_to_path(str(roots))
    shake(server, verifying_client_context(roots), "mail.example.org")
    roots.write_text("nothing")
    for path in (roots, tmp_path / "missing"):
        with pytest.raises(UserError, match=path.name):
            verifying_client_context(path)
    assert verifying_client_context().verify_mode is ssl.CERT_REQUIRED


def test_an_opportunistic_client_s_result_is_recorded(
    authority: trustme.CA, tmp_path: Path
) -> None:
    server = Certificates([issued(authority, tmp_path, "mail.example.org")], NowClock()).context()
    chain = shake(server, opportunistic_client_context(), "mail.example.org").peer_chain()
    root = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    verifier = Verifier([root])
    assert verifier.verify(chain, "mail.example.org", NOW).is_verified
    assert verifier.verify(chain, "mail.example.org", NOW) is verifier.verify(
        chain, "mail.example.org", NOW
    )
    wrong = verifier.verify(chain, "other.example.org", NOW)
    assert not wrong.is_verified and wrong.reason
    long_ago = datetime(1999, 1, 1, tzinfo=UTC)
    assert not verifier.verify(chain, "mail.example.org", long_ago).is_verified
    assert not Verifier([]).verify(chain, "mail.example.org", NOW).is_verified
    stranger = x509.load_pem_x509_certificate(trustme.CA().cert_pem.bytes())
    assert not Verifier([stranger]).verify(chain, "mail.example.org", NOW).is_verified


def test_a_server_s_certificate_cannot_vouch_for_another(authority: trustme.CA) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = authority.issue_cert("mail.example.org")
    signer = serialization.load_pem_private_key(leaf.private_key_pem.bytes(), None)
    middle = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(middle.subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=9))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("victim.example")]), True)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(middle.public_key()), False
        )
        .sign(signer, hashes.SHA256())
    )
    verifier = Verifier([x509.load_pem_x509_certificate(authority.cert_pem.bytes())])
    chain = [item.public_bytes(serialization.Encoding.DER) for item in (forged, middle)]
    assert not verifier.verify(chain, "victim.example", NOW).is_verified
    assert verifier.verify(chain[1:], "mail.example.org", NOW).is_verified


def test_a_certificate_for_another_use_is_no_server_s(tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "root")])

    def issue(subject: x509.Name, *extensions: x509.ExtensionType) -> x509.Certificate:
        builder = x509.CertificateBuilder(name, subject, key.public_key(), 7)
        builder = builder.not_valid_before(NOW).not_valid_after(NOW + timedelta(days=9))
        for extension in extensions:
            builder = builder.add_extension(extension, isinstance(extension, x509.BasicConstraints))
        return builder.sign(key, hashes.SHA256())

    signs = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    root = issue(name, x509.BasicConstraints(True, None), signs, own, issuer)
    host = x509.SubjectAlternativeName([x509.DNSName("mail.example.org")])
    for purpose, is_verified in (
        (ExtendedKeyUsageOID.SERVER_AUTH, True),
        (ExtendedKeyUsageOID.EMAIL_PROTECTION, False),
    ):
        leaf = issue(x509.Name([]), host, x509.ExtendedKeyUsage([purpose]), issuer)
        chain = [leaf.public_bytes(serialization.Encoding.DER)]
        result = Verifier([root]).verify(chain, "mail.example.org", NOW)
        assert result.is_verified is is_verified, result.reason


def test_a_strange_certificate_is_a_result_and_never_an_error(authority: trustme.CA) -> None:
    root = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    verifier = Verifier([root])
    old, _ = make_self_signed(["x.example"], NOW - timedelta(days=9), valid_days=1)
    own, _ = make_self_signed(["x.example"], NOW)
    for chain, words in [
        ((), "no certificate"),
        ((b"junk",), "malformed"),
        ((ssl.PEM_cert_to_DER_cert(old.decode()),), "expired"),
        ((ssl.PEM_cert_to_DER_cert(own.decode()),), "self-signed"),
    ]:
        result = verifier.verify(chain, "x.example", NOW)
        assert not result.is_verified and words in result.reason
    assert not verifier.verify((own,), "not a name", NOW).is_verified


def test_the_machine_s_roots_are_read_one_by_one(
    authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(authority.cert_pem.bytes() + b"words\n" + trustme.CA().cert_pem.bytes())
    monkeypatch.setattr("posthouse.tls.peers.BUNDLES", (str(tmp_path / "none"), str(bundle)))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "missing"))
    assert len(system_roots()) == 2
    monkeypatch.setattr("posthouse.tls.peers.BUNDLES", ())
    assert system_roots() == []
