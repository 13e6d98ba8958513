"""When to renew and retry, what a request and a proof hold, what an authority's errors mean."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.errors import UserError
from posthouse.net.tls_adapter import TlsAdapter
from posthouse.tls.acme import schedule
from posthouse.tls.acme.authority import Proof, certificate_id
from posthouse.tls.acme.keys import challenge_certificate, load_key, new_key, request
from posthouse.tls.acme.options import KeyKind, Kind
from posthouse.tls.acme.solvers import Answers, TlsAlpn01
from posthouse.tls.acme.trouble import cut, hint_for
from posthouse.tls.certificates import CertificateFiles, Certificates
from posthouse.tls.contexts import opportunistic_client_context
from posthouse.tls.self_signed import make_self_signed
from posthouse.tls.tlsa import published_set, tlsa_3_1_1, tlsa_record
from tests.tls.test_certificates import NowClock, issued, names_of

NOW = datetime(2026, 6, 1, tzinfo=UTC)


@given(st.floats(0, 1), st.integers(1, 400))
def test_a_third_of_the_lifetime_is_left_at_renewal_more_or_less(chance: float, days: int) -> None:
    end = NOW + timedelta(days=days)
    at = schedule.renewal_at(NOW, end, chance=chance)
    assert timedelta(days=days) * 0.33 <= end - at <= timedelta(days=days) * 0.37


def test_the_authority_s_wish_is_followed_but_not_to_the_last_day() -> None:  # RFC 9773 §4.2
    end = NOW + timedelta(days=90)
    for wish, at in [(10, 10), (70, 70), (80, 75), (200, 75), (0, 0.5), (-9, 0.5)]:
        wished = schedule.wished_at(NOW, end, NOW + timedelta(days=wish), obtained_at=NOW)
        assert wished == NOW + timedelta(days=at)


def test_retries_back_off_up_to_a_day_and_obey_the_authority() -> None:
    def wait(failures: int, chance: float = 0.5, told_s: float | None = None) -> float:
        at = schedule.retry_at(NOW, failures, chance=chance, told_s=told_s)
        return (at - NOW).total_seconds()

    assert [wait(n) for n in (1, 2, 3)] == [900, 1800, 3600]
    assert wait(10**6) == 86_400 and wait(1, 0.0) == 675 and wait(1, 1.0) == 1125
    assert wait(1, told_s=7200) == 7200 and wait(20, told_s=60) == 86_400
    assert wait(1, told_s=1e12) == 7 * 86_400
    # RFC 9773 §4.3.2
    for after, kept in [(0, 60), (21_600, 21_600), (1e9, 86_400)]:
        assert schedule.ask_again_at(NOW, after) - NOW == timedelta(seconds=kept)


def test_a_request_names_one_host_and_is_signed_with_its_key() -> None:  # RFC 8555 §7.4
    for kind in KeyKind:
        key = new_key(kind)
        csr = x509.load_pem_x509_csr(request("*.example.org", key))
        assert csr.is_signature_valid
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["*.example.org"]
    assert isinstance(load_key(new_key(KeyKind.RSA), "x"), rsa.RSAPrivateKey)
    assert isinstance(load_key(new_key(), "x"), ec.EllipticCurvePrivateKey)
    with pytest.raises(UserError, match="x holds no private key"):
        load_key(b"", "x")


def test_an_identifier_of_a_certificate_is_as_the_rfc_shows() -> None:
    # RFC 9773 §4.1: key identifier 69:88:5B:6B:87:46:40:41:E1:B3:7B:84:7B:A0:AE:2C:DE:01:C8:D4,
    # serial 00:87:65:43:21
    identifier = bytes.fromhex("69885B6B87464041E1B37B847BA0AE2CDE01C8D4")
    assert certificate_id(leaf(identifier, 0x87654321)) == ("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE")
    assert certificate_id(leaf(identifier, 0x1)).endswith(".AQ")
    assert certificate_id(x509.load_pem_x509_certificate(make_self_signed(["a"], NOW)[0])) is None


def leaf(key_identifier: bytes, serial: int) -> x509.Certificate:
    from cryptography.hazmat.primitives import hashes

    key = ec.generate_private_key(ec.SECP256R1())
    extension = x509.AuthorityKeyIdentifier(key_identifier, None, None)
    return (
        x509.CertificateBuilder(x509.Name([]), x509.Name([]), key.public_key(), serial)
        .not_valid_before(NOW)
        .not_valid_after(NOW + timedelta(days=1))
        .add_extension(extension, critical=False)
        .sign(key, hashes.SHA256())
    )


def proof(kind: Kind = Kind.TLS_ALPN_01, name: str = "mail.example.org") -> Proof:
    return Proof(name=name, kind=kind, token="t", key_authorization="t.thumb", inner=None)


def test_the_text_of_dns_01_is_the_digest_of_the_key_authorization() -> None:  # RFC 8555 §8.4
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"t.thumb").digest()).rstrip(b"=")
    assert proof(Kind.DNS_01).dns_text == digest.decode()


def test_a_tls_alpn_certificate_is_as_the_rfc_wants_it() -> None:  # RFC 8737 §3
    chain, _ = challenge_certificate("mail.example.org", "t.thumb", NOW)
    certificate = x509.load_pem_x509_certificate(chain)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [x509.DNSName("mail.example.org")]
    extension = certificate.extensions.get_extension_for_oid(
        x509.ObjectIdentifier("1.3.6.1.5.5.7.1.31")
    )
    assert extension.critical
    assert extension.value.public_bytes() == b"\x04\x20" + hashlib.sha256(b"t.thumb").digest()


# RFC 8737 §3: only to who negotiates acme-tls/1 for that name, while the proof is open
async def test_the_answer_s_certificate_is_shown_to_the_authority_alone(tmp_path: Path) -> None:
    clock, answers = NowClock(), Answers()
    clock.at = datetime.now(UTC)
    authority = trustme.CA()
    certificates = Certificates([issued(authority, tmp_path, "mail.example.org")], clock)
    certificates.challenge = answers.context
    solver = TlsAlpn01(answers, clock)

    def shake(name: str, *protocols: str, cut_at: int = 10_000) -> TlsAdapter:
        client_context = opportunistic_client_context()
        if protocols:
            client_context.set_alpn_protocols(list(protocols))
        server = TlsAdapter(certificates.context(), server_side=True, server_name=None)
        client = TlsAdapter(client_context, server_side=False, server_name=name)
        client.advance()
        hello = client.take_outgoing()
        for piece in (hello[:cut_at], hello[cut_at:]):
            server.receive(piece)
        for _ in range(3):
            client.receive(server.take_outgoing())
            server.receive(client.take_outgoing())
        assert client.is_established and server.is_established
        return client

    def has_answer(adapter: TlsAdapter) -> bool:
        der = x509.load_der_x509_certificate(adapter.peer_chain()[0])
        return any(e.oid.dotted_string == "1.3.6.1.5.5.7.1.31" for e in der.extensions)

    assert not has_answer(shake("mail.example.org", "acme-tls/1"))
    await solver.put(proof())
    for cut_at in (1, 100, 10_000):
        seen = shake("mail.example.org", "acme-tls/1", cut_at=cut_at)
        assert has_answer(seen) and seen.info().alpn == "acme-tls/1"
    assert has_answer(shake("MAIL.example.org", "acme-tls/1"))
    for name, protocols in [
        ("mail.example.org", ()),
        ("mail.example.org", ("http/1.1",)),
        ("other.example.org", ("acme-tls/1",)),
    ]:
        seen = shake(name, *protocols)
        assert not has_answer(seen) and seen.info().alpn is None
        assert names_of(seen) == ["mail.example.org"]
    await solver.remove(proof())
    await solver.remove(proof())
    assert not has_answer(shake("mail.example.org", "acme-tls/1"))


def test_certificates_are_added_and_replaced_while_running(tmp_path: Path) -> None:
    authority = trustme.CA()
    first = issued(authority, tmp_path, "self.example.org", name="self")
    certificates = Certificates([first], NowClock())
    more = issued(authority, tmp_path, "mta-sts.example.org", name="more")
    certificates.put(more)
    assert certificates.for_name("mta-sts.example.org").files == more
    assert certificates.for_name(None).files == first
    host = issued(authority, tmp_path, "mail.example.org", name="host")
    certificates.put(host, instead_of=first, is_default=True)
    assert [each.files for each in certificates.loaded] == [host, more]
    newer = issued(authority, tmp_path, "mta-sts.example.org", name="newer")
    certificates.put(newer, instead_of=more)
    assert [each.files for each in certificates.loaded] == [host, newer]
    bad = CertificateFiles(chain=host.chain, key=newer.key)
    with pytest.raises(UserError, match="does not belong"):
        certificates.put(bad, instead_of=host, is_default=True)
    assert [each.files for each in certificates.loaded] == [host, newer]
    newer.chain.write_bytes(b"half")  # what was put in is watched, too
    [told] = certificates.reload_if_changed()
    assert told.files == newer and told.certificate is None


def test_an_expired_one_is_served_where_that_is_better_than_none(tmp_path: Path) -> None:
    chain, key = make_self_signed(["old.example"], NOW - timedelta(days=9), valid_days=1)
    files = CertificateFiles(chain=tmp_path / "c", key=tmp_path / "k")
    files.chain.write_bytes(chain)
    files.key.write_bytes(key)
    good = issued(trustme.CA(), tmp_path, "mail.example.org", name="good")
    certificates = Certificates([good], NowClock())
    with pytest.raises(UserError, match="expired"):
        certificates.put(files)
    certificates.put(files, may_be_expired=True)
    assert certificates.for_name("old.example").files == files


def test_tlsa_records_bind_the_key(tmp_path: Path) -> None:  # RFC 7671 §8.1
    chain, key = make_self_signed(["mail.example.org"], NOW)
    certificate = x509.load_pem_x509_certificate(chain)
    public = load_key(key, "x").public_key()
    assert tlsa_3_1_1(certificate) == tlsa_3_1_1(public) and len(tlsa_3_1_1(public)) == 32
    record = tlsa_record(certificate)
    assert (record.usage, record.selector, record.matching) == (3, 1, 1)
    upcoming = load_key(new_key(), "x").public_key()
    assert published_set(certificate) == (record,)
    assert published_set(certificate, upcoming) == (record, tlsa_record(upcoming))
    assert published_set(certificate, public) == (record,)


@pytest.mark.parametrize(
    ("code", "challenge", "words"),
    [
        ("connection", "http-01", "port 80 of every address a.example"),
        ("connection", "tls-alpn-01", "port 443"),
        ("unauthorized", "dns-01", "_acme-challenge.a.example shows another text"),
        ("caa", "http-01", "CAA records of a.example"),
        ("rateLimited", "http-01", "by itself"),
        ("malformed", "tls-alpn-01", "port 443 of every address a.example"),
        (None, "", ""),
    ],
)
def test_an_authority_s_errors_have_something_to_do_about_them(
    code: str | None, challenge: str, words: str
) -> None:
    hint = hint_for(code, "a.example", challenge)
    assert words in hint and bool(words) == bool(hint)


@pytest.mark.parametrize(
    "said",
    [
        'Error occurred while resolving URL "http://a.example/x": lookup a.example: i/o timeout',
        "DNS problem: NXDOMAIN looking up A for a.example",
        "dial tcp: lookup a.example on 192.0.2.53:53: no such host",
    ],
)
def test_a_name_that_cannot_be_looked_up_is_no_matter_of_ports(said: str) -> None:
    hint = hint_for("connection", "a.example", "tls-alpn-01", said=said)
    assert hint.startswith("the DNS of a.example cannot be asked")
    reached = hint_for("connection", "a.example", "tls-alpn-01", said="Connection refused")
    assert reached.startswith("port 443")


def test_an_authority_s_words_are_one_line_of_bearable_length() -> None:
    assert cut("a\n b\t c") == "a b c"
    assert len(cut("x" * 10_000)) == 601
