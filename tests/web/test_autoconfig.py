"""What mail clients are told when they set themselves up."""

from __future__ import annotations

import random
import string
import xml.etree.ElementTree as ElementTree

import msgspec
import pytest

from posthouse.config import build_acme, schema
from posthouse.config.schema import Config, Service
from posthouse.web.autoconfig import (
    PATH,
    WELL_KNOWN_PATH,
    Clients,
    MailServer,
    Protocol,
    Security,
    client_config,
)

HOST = "mail.example.org"
DOMAINS = ("example.org", "xn--bcher-kva.example")


def config(**sections: object) -> Config:
    node = schema.Node(hostname=HOST, data_folder="/nonexistent")
    return Config(node=node, **{"web": schema.Web(is_enabled=True)} | sections)


def clients(**sections: object) -> Clients:
    return build_acme.sites(config(**sections), DOMAINS).clients


def read(octets: bytes | None) -> list[tuple[str, ...]]:
    """Domain, then for each server: element, type, host, port, security."""
    assert octets is not None
    root = ElementTree.fromstring(octets)
    assert (root.tag, root.get("version")) == ("clientConfig", "1.1")
    [provider] = root
    found: list[tuple[str, ...]] = [(provider.get("id", ""), provider.findtext("domain", ""))]
    for server in provider:
        if server.tag.endswith("Server"):
            assert server.findtext("username") == "%EMAILADDRESS%"
            assert server.findtext("authentication") == "password-cleartext"
            texts = (server.findtext(each, "") for each in ("hostname", "port", "socketType"))
            found.append((server.tag, server.get("type", ""), *texts))
    return found


def test_every_way_in_is_told_tls_from_the_start_first() -> None:
    assert read(clients().answer("autoconfig.example.org", PATH, "")) == [
        ("example.org", "example.org"),
        ("incomingServer", "imap", HOST, "993", "SSL"),
        ("incomingServer", "imap", HOST, "143", "STARTTLS"),
        ("incomingServer", "pop3", HOST, "995", "SSL"),
        ("incomingServer", "pop3", HOST, "110", "STARTTLS"),
        ("outgoingServer", "smtp", HOST, "465", "SSL"),
        ("outgoingServer", "smtp", HOST, "587", "STARTTLS"),
    ]


def test_only_what_others_reach_is_told() -> None:
    listeners = (
        schema.Listener(service=Service.MX),
        schema.Listener(service=Service.IMAPS, port=10993),
        schema.Listener(service=Service.IMAP, addresses=("127.0.0.1", "::1")),
        schema.Listener(service=Service.SUBMISSIONS),
    )
    told = read(clients(listener=listeners).answer("autoconfig.example.org", PATH, ""))
    assert told[1:] == [
        ("incomingServer", "imap", HOST, "10993", "SSL"),
        ("outgoingServer", "smtp", HOST, "465", "SSL"),
    ]


@pytest.mark.parametrize(
    "sections",
    [
        {"web": schema.Web()},
        {"web": schema.Web(is_enabled=True, serves_autoconfig=False)},
        {"listener": (schema.Listener(service=Service.MX),)},
    ],
)
def test_nothing_is_told_where_there_is_nothing_to_tell_or_nobody_who_may(
    sections: dict[str, object],
) -> None:
    told = clients(**sections)
    assert told.answer("autoconfig.example.org", PATH, "") is None
    assert told.answer("example.org", WELL_KNOWN_PATH, "") is None
    served = config(acme=schema.Acme(is_enabled=True), **sections)
    names = [each.name for each in build_acme.wanted(served, DOMAINS)]
    assert "autoconfig.example.org" not in names or sections == {"web": schema.Web()}


def test_acme_obtains_certificates_for_the_names_once_they_have_an_address() -> None:
    served = config(acme=schema.Acme(is_enabled=True))
    found = {each.name: each.is_optional for each in build_acme.wanted(served, DOMAINS)}
    assert found == {
        HOST: False,
        "mta-sts.example.org": True,
        "mta-sts.xn--bcher-kva.example": True,
        "autoconfig.example.org": True,
        "autoconfig.xn--bcher-kva.example": True,
    }


@pytest.mark.parametrize(
    ("host", "path", "query", "domain"),
    [
        ("autoconfig.example.org", PATH, "emailaddress=ada%40example.org", "example.org"),
        ("autoconfig.example.org", PATH, "emailaddress=ada+shop@EXAMPLE.org&x=1", "example.org"),
        ("autoconfig.example.org", PATH, "emailaddress=", "example.org"),
        ("autoconfig.example.org", PATH, "emailaddress=a@b%C3%BCcher.example", DOMAINS[1]),
        ("example.org", WELL_KNOWN_PATH, "", "example.org"),
        (HOST, WELL_KNOWN_PATH, "emailaddress=ada@example.org", "example.org"),
        (HOST, WELL_KNOWN_PATH, "", ""),
        ("autoconfig.example.org", WELL_KNOWN_PATH, "", ""),
        ("example.org", PATH, "", ""),
        ("autoconfig.example.net", PATH, "emailaddress=ada@example.org", ""),
        ("autoconfig.autoconfig.example.org", PATH, "", ""),
        ("xautoconfig.example.org", PATH, "", ""),
        ("example.net", WELL_KNOWN_PATH, "emailaddress=ada@example.org", ""),
        ("autoconfig.example.org", PATH, "emailaddress=ada@example.net", ""),
        ("autoconfig.example.org", PATH, "emailaddress=ada", ""),
        ("autoconfig.example.org", PATH, "emailaddress=ada@", ""),
        ("autoconfig.example.org", PATH, "emailaddress=a@example.org&emailaddress=a@b", ""),
        ("autoconfig.example.org", PATH, "emailaddress=a@%00%0d%0a<x>", ""),
        ("autoconfig.example.org", PATH, "a=1&" * 9, ""),
        ("autoconfig.example.org", PATH, f"emailaddress={'a' * 2_000}@example.org", ""),
    ],
)
def test_the_domain_of_the_address_decides_and_has_to_be_ours(
    host: str, path: str, query: str, domain: str
) -> None:
    answer = clients().answer(host, path, query)
    if domain:
        assert read(answer)[0] == (domain, domain)
    else:
        assert answer is None


def test_every_address_gets_the_same_answer() -> None:
    told = clients()
    answers = {
        told.answer("autoconfig.example.org", PATH, f"emailaddress={local}@example.org")
        for local in ("ada", "nobody", "postmaster", "%22%3E%3Cx%3E", "%EMAILADDRESS%")
    }
    assert len(answers) == 1


def test_no_value_breaks_out_of_the_document() -> None:
    evil = "</domain><x y=\"'&\x00\ud800"
    server = MailServer(protocol=Protocol.IMAP, host=evil, port=1, security=Security.TLS)
    [(identity, domain), (_, _, host, *_)] = read(client_config(evil, (server,)))
    assert identity == domain == host == "</domain><x y=\"'&\ufffd\ufffd"


def test_no_query_of_a_stranger_does_more_than_be_answered() -> None:
    told, chance = clients(), random.Random(4)
    pieces = [*string.printable, "emailaddress=", "@", "%", "xn--", "example.org", "\udcff", "ü"]
    for _ in range(3_000):
        query = "".join(chance.choices(pieces, k=chance.randrange(40)))
        answer = told.answer("autoconfig.example.org", PATH, query)
        assert answer is None or b"example" in answer


def test_values_are_plain_ones() -> None:
    [first, *_] = clients().servers
    assert msgspec.to_builtins(first)["security"] == "SSL"
