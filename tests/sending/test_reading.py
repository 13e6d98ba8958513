"""What a transport can be told, and what is said about what it cannot."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.secret import Secret
from posthouse.sending import AsyncTransport, Dkim, OptionError, Proxy, services
from posthouse.sending.options import Keywords, Kind, Options, TlsUse
from posthouse.sending.reading import read_options

KEY = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def told(url: str | None = None, service: str | None = None, **keywords: Any) -> Options:
    return read_options(url, service, keywords)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "kind", "host", "port", "tls"),
    [
        ("smtp://mail.example.org", Kind.SMTP, "mail.example.org", 587, TlsUse.AUTO),
        ("smtp://mail.example.org:465", Kind.SMTP, "mail.example.org", 465, TlsUse.IMPLICIT),
        ("smtps://mail.example.org", Kind.SMTP, "mail.example.org", 465, TlsUse.IMPLICIT),
        ("smtps://mail.example.org:587", Kind.SMTP, "mail.example.org", 587, TlsUse.IMPLICIT),
        ("smtp+starttls://m.example", Kind.SMTP, "m.example", 587, TlsUse.STARTTLS),
        ("smtp://[2001:db8::1]:2525", Kind.SMTP, "2001:db8::1", 2525, TlsUse.AUTO),
        ("smtp://bücher.example", Kind.SMTP, "xn--bcher-kva.example", 587, TlsUse.AUTO),
        ("lmtp://127.0.0.1", Kind.LMTP, "127.0.0.1", 24, TlsUse.AUTO),
        ("memory:", Kind.MEMORY, "127.0.0.1", 587, TlsUse.AUTO),
        ("smtp://m.example?tls=off", Kind.SMTP, "m.example", 587, TlsUse.OFF),
    ],
)
def test_urls_say_where_and_how(url: str, kind: Kind, host: str, port: int, tls: TlsUse) -> None:
    options = told(url)
    assert (options.kind, options.host, options.port, options.tls) == (kind, host, port, tls)


def test_a_url_holds_login_and_options() -> None:
    options = told("smtp://a%40b.example:p%3A%2F@m.example:25?connections_max=3&verify=no&rate=7")
    assert options.login is not None and options.login.password is not None
    assert options.login.user == "a@b.example" and options.login.password.reveal() == "p:/"
    assert (options.connections_max, options.is_verifying, options.rate) == (3, False, 7)


def test_keywords_come_before_the_url_and_the_url_before_the_service() -> None:
    options = told("smtp://m.example:2525", "gmail", host="other.example")
    assert (options.host, options.port) == ("other.example", 2525)


def test_files_and_commands_by_url() -> None:
    assert told("folder:outbox").folder == Path("outbox")
    assert told("folder:///var/out").folder == Path("/var/out")
    assert told("eml:///var/out").kind is Kind.FOLDER
    assert told("sendmail:///usr/bin/msmtp").command == "/usr/bin/msmtp"
    assert told("sendmail:").command == "/usr/sbin/sendmail"


def test_a_socket_stands_for_host_and_port() -> None:
    options = told("lmtp:///run/my%20dovecot/lmtp?connections_max=2")
    assert (options.kind, options.socket_path) == (Kind.LMTP, "/run/my dovecot/lmtp")
    assert (options.place, options.tls) == ("/run/my dovecot/lmtp", TlsUse.OFF)
    assert options.connections_max == 2


def test_a_command_has_arguments() -> None:
    options = told("sendmail:///usr/bin/msmtp", arguments=["-a", "work"])
    assert (options.command, options.arguments) == ("/usr/bin/msmtp", ("-a", "work"))
    assert told("sendmail:").arguments == ()


@pytest.mark.parametrize(
    ("url", "keywords", "option", "hint"),
    [
        ("mail.example.org", {}, "", "smtps:"),
        ("imap://m.example", {}, "", "smtps:"),
        ("smtp://", {}, "host", "smtps://"),
        ("smtp://a:b@c:d@m.example:x", {}, "", "%40"),
        ("smtp://m.example/path", {}, "", ""),
        ("smtp://m.example?tsl=off", {}, "tsl", "tls"),
        ("smtp://m.example?rate=fast", {}, "rate", ""),
        ("smtp://m.ex\r\nample", {}, "", ""),
        (None, {"host": "m.example:587"}, "host", "port=587"),
        (None, {"host": ""}, "host", ""),
        (None, {"host": "two words"}, "host", ""),
        (None, {"port": 0}, "port", ""),
        (None, {"port": "587"}, "port", ""),
        (None, {"tls": "sometimes"}, "tls", "starttls"),
        (None, {"user": "ada"}, "password", "token"),
        (None, {"password": "x"}, "user", ""),
        (None, {"user": "a", "password": "x", "token": "y"}, "token", ""),
        (None, {"user": "a", "password": "x", "mechanism": "NTLM"}, "mechanism", "PLAIN"),
        (None, {"user": "a\nb", "password": "x"}, "user", ""),
        (None, {"hello_name": "two words"}, "hello_name", ""),
        (None, {"connections_max": 0}, "connections_max", ""),
        (None, {"idle_s": -1}, "idle_s", ""),
        (None, {"verify": "no"}, "verify", ""),
        (None, {"tls": "off", "ca": "x.pem"}, "ca", ""),
        (None, {"ca": "/no/such.pem"}, "ca", ""),
        (None, {"ca": b"nonsense"}, "ca", ""),
        (None, {"certificate": "/no/such.pem"}, "certificate", ""),
        (None, {"tls_version_min": "1.1"}, "tls_version_min", "1.3"),
        (None, {"proxy": "ftp://x"}, "proxy", "socks5"),
        (None, {"proxy": "https://x"}, "proxy", "http://host"),
        (None, {"dkim": "key"}, "dkim", ""),
        ("folder:", {}, "folder", "outbox"),
        ("mail.example.org", {}, "", "smtps://mail.example.org,"),
        ("mail.example.org:587", {}, "", "smtp+starttls://mail.example.org:587;"),
        ("smtp://m.example:99999", {}, "", "1 to 65535"),
        ("smtp://ada:x@m.example:abc", {}, "", "1 to 65535"),
        ("smtp://ada:pa/ss@m.example:587", {}, "", "%2F"),
        ("smtp://ada:12/34@m.example:587", {}, "", "%2F"),
        ("smtp://ada:pa#ss@m.example:587", {}, "", "%23"),
        ("smtp://ada:pa?ss@m.example:587", {}, "", "%3F"),
        ("smtp://ada:12?s3same@m.example:587", {}, "", "%3F"),
        ("smtp://ada:12#s3same@m.example:587", {}, "", "%23"),
        ("localhost:1025", {}, "", "smtps://localhost:1025,"),
        ("ada:x@m.example", {}, "", "in front of it"),
        ("smpt://m.example", {}, "", "did you mean smtp:?"),
        (len, {}, "", "smtps://"),
        (None, {"ca": 5}, "ca", "PEM file"),
        (None, {"ca": "-----BEGIN x"}, "ca", "BEGIN CERTIFICATE"),
        (None, {"certificate": 5}, "certificate", "PEM file"),
        (None, {"user": "a", "token": "x", "mechanism": "PLAIN"}, "password", ""),
        (None, {"user": "a", "password": "x", "mechanism": "XOAUTH2"}, "token", ""),
        (None, {"user": "a", "token": "x", "authorization_id": "b"}, "authorization_id", "PLAIN"),
        ("folder:out", {"proxy": "http://x"}, "proxy", "leave it out"),
        ("smtp://m.example", {"folder": "out"}, "folder", "leave it out"),
        ("smtps://m.example", {"tls": "off"}, "tls", "smtp://"),
        ("smtp+starttls://m.example?tls=off", {}, "tls", "smtp://"),
        ("sendmail:", {"user": "a", "password": "x"}, "password", "leave it out"),
        ("posthouse://a:x@m.example", {"rate": 3}, "rate", "leave it out"),
        ("posthouse://a@m.example", {"token": "x"}, "token", "password"),
        ("lmtp:///", {}, "host", "lmtp:///run/"),
        ("lmtp://ada@/run/lmtp", {}, "host", "no login"),
        ("lmtp://ada:x@/run/lmtp", {}, "host", "no login"),
        ("lmtp:///run/l%00mtp", {}, "", "lmtp:///run/"),
        (f"lmtp:///{'x' * 107}", {}, "", ""),
        ("lmtp:///run/lmtp", {"proxy": "http://x"}, "proxy", "leave it out"),
        ("lmtp:///run/lmtp", {"tls": "starttls"}, "tls", "leave it out"),
        ("lmtp:///run/lmtp", {"port": 24}, "port", "leave it out"),
        ("smtp:///run/lmtp", {}, "host", "smtps://"),
        ("sendmail:", {"arguments": "-a work"}, "arguments", '["-a", "work"]'),
        ("sendmail:", {"arguments": ["-a", 1]}, "arguments", '["-a", "work"]'),
        ("sendmail:", {"arguments": ["-a\0"]}, "arguments", '["-a", "work"]'),
        ("sendmail:?arguments=-a", {}, "arguments", '["-a", "work"]'),
        ("smtp://m.example", {"arguments": ["-a"]}, "arguments", "leave it out"),
    ],
)
def test_what_cannot_be_is_told_with_the_options_name(
    url: str | None, keywords: dict[str, Any], option: str, hint: str
) -> None:
    with pytest.raises(OptionError) as caught:
        told(url, **keywords)
    assert caught.value.option == option
    assert hint in caught.value.hint


def test_who_asks_for_a_check_by_name_gets_one() -> None:
    assert told("smtp://localhost", verify=True).tls is TlsUse.STARTTLS
    assert told("smtp://localhost").tls is TlsUse.AUTO


def test_a_folder_of_certificates_has_their_hashes(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="no certificates under their hashes") as caught:
        told("smtps://m.example", ca=tmp_path)
    assert "openssl rehash" in caught.value.hint


def test_a_service_is_named_by_text() -> None:
    wrong: Any = 5
    with pytest.raises(OptionError, match="service has to be text"):
        read_options(service=wrong)


def test_no_error_repeats_a_password() -> None:
    for url in (
        "smtp://ada:s3same@m.example:99999",
        "smtp://ada:s3same@/x",
        "s3same://ada:s3same@m",
        "ada:s3same@m.example:587",
        "smtp://ada:12?s3same@m.example:587",
        "smtp://ada:12?s3same=x@m.example:587",
        "smtp://ada:12/s3same@m.example:587",
        "smtp://ada:12#s3same@m.example:587",
    ):
        with pytest.raises(OptionError) as caught:
            told(url)
        assert "s3same" not in str(caught.value)
    for secret in ({"password": "s3same"}, {"token": "s3same"}, {"token": Secret("s3same")}):
        options = told(user="ada", host="m.example", **secret)
        assert options.login is not None and "s3same" not in repr(options)


def test_a_token_has_no_place_in_a_url_as_urls_land_in_logs() -> None:
    with pytest.raises(OptionError, match="no place in a URL") as caught:
        told("smtps://ada@m.example?token=s3same")
    assert caught.value.option == "token" and "token=…" in caught.value.hint
    assert "s3same" not in str(caught.value)


def test_the_context_of_ones_own_says_it_all() -> None:
    context = ssl.create_default_context()
    assert told(ssl_context=context).context is context
    with pytest.raises(OptionError):
        told(ssl_context=context, verify=False)


def test_proxies_and_keys_are_read() -> None:
    options = told(proxy="socks5://ada:x@proxy.example")
    assert options.proxy is not None
    assert (options.proxy.scheme, options.proxy.port) == ("socks5", 1080)
    assert "x" not in repr(options.proxy.password)
    made = Proxy(scheme="http", host="p.example", port=1)
    assert told(proxy=made).proxy is made
    key = Dkim(domain="example.org", selector="s", key=KEY)
    assert told(dkim=key).dkim == told(dkim=[key]).dkim == (key,)


def test_a_key_that_cannot_be_used_is_known_at_once(tmp_path: Path) -> None:
    for key, words in ((tmp_path / "gone.pem", "no key file"), (b"s3same", "key")):
        with pytest.raises(OptionError, match=words) as caught:
            told("memory:", dkim=[Dkim(domain="example.org", selector="s1", key=key)])
        assert caught.value.option == "dkim" and "PEM or DER" in caught.value.hint
        assert "'s1'" in caught.value.text and "s3same" not in str(caught.value)


@given(st.text(max_size=60))
def test_any_url_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(OptionError):
        told(text)


def test_every_keyword_is_an_option_that_is_taken() -> None:
    assert set(Keywords.__annotations__) >= {"host", "port", "tls", "user", "password", "dkim"}
    with pytest.raises(OptionError):
        AsyncTransport(nonsense=1)  # type: ignore[call-arg]


# --- services ---


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("gmail", "smtp.gmail.com"),
        ("Google Mail", "smtp.gmail.com"),
        ("GMAIL.com", "smtp.gmail.com"),
        ("Office365", "smtp.office365.com"),
        ("ses-eu-west-1", "email-smtp.eu-west-1.amazonaws.com"),
        ("mailbox.org", "smtp.mailbox.org"),
    ],
)
def test_services_go_by_many_names(name: str, host: str) -> None:
    assert told(service=name).host == host


@pytest.mark.parametrize("name", ["infomaniak", "brevo", "gmail"])
def test_a_service_that_offers_tls_from_the_first_octet_is_reached_by_it(name: str) -> None:
    options = told(service=name)  # RFC 8314 §3.3
    assert (options.port, options.tls) == (465, TlsUse.IMPLICIT)


def test_an_unknown_service_names_the_nearest() -> None:
    with pytest.raises(OptionError) as caught:
        told(service="gmial")
    assert caught.value.hint == "did you mean gmail?"


def test_each_service_is_whole() -> None:
    names = [name for one in services.known() for name in (one.name, *one.aliases)]
    assert len(names) == len(set(names)) and len(services.known()) >= 60
    for one in services.known():
        assert one.source.startswith("https://") and len(one.checked) == 7
        assert one.tls in (TlsUse.IMPLICIT, TlsUse.STARTTLS) or one.host == "127.0.0.1"
        assert services.by_name(one.name) is one
        told(service=one.name)
    found = services.for_address("you@gmail.com")
    assert found is not None and found.name == "gmail"
    assert services.for_address("you@example.org") is None
