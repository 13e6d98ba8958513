"""The records that a domain should publish, and the zone file that holds them."""

from __future__ import annotations

import subprocess
from pathlib import Path

import dns.rdatatype
import dns.zone
import msgspec
import pytest

from posthouse.accounts.domain_keys import ED25519, RSA, DomainKey, KeyState
from posthouse.config import schema
from posthouse.config.schema import Config, Service
from posthouse.kernel.ports import TlsaRecord
from posthouse.mailauth.dmarc.grammar import parse
from posthouse.relay.sts_policy import record_id
from posthouse.zone.policy import own_policy_id, wishes_for
from posthouse.zone.records import Need, Record, Wishes, records, txt_strings, zone_file
from tests.accounts.keys import new_key
from tests.interop.programs import find_program, needs_program

DOMAIN, HOST = "example.org", "mail.example.org"
HEAD = "$TTL 60\n@ IN SOA ns hostmaster 1 3600 600 604800 60\n@ IN NS ns\nns IN A 192.0.2.53\n"
TLSA = TlsaRecord(usage=3, selector=1, matching=1, data=bytes(range(32)))


def config(**sections: object) -> Config:
    return Config(node=schema.Node(hostname=HOST, data_folder="/nonexistent"), **sections)


def key(algorithm: str, state: KeyState) -> DomainKey:
    return new_key(algorithm, state, selector=f"{algorithm[0]}{state.value}")


@pytest.fixture(scope="module")
def keys() -> tuple[DomainKey, ...]:
    return (
        key(RSA, KeyState.SIGNING),
        key(ED25519, KeyState.WAITING),
        key(ED25519, KeyState.RETIRED),
        key(ED25519, KeyState.REVOKED),
    )


@pytest.fixture
def wishes(keys: tuple[DomainKey, ...]) -> Wishes:
    return Wishes(
        keys=keys, tlsa=(TLSA,), policy_id="abc", addresses=("192.0.2.25", "2001:db8::25")
    )


def named(found: tuple[Record, ...], name: str, kind: str) -> list[str]:
    return [each.value for each in found if each.name == f"{name}." and each.type == kind]


def test_everything_that_mail_needs_is_there(wishes: Wishes) -> None:
    found = records(config(acme=schema.Acme(is_enabled=True)), DOMAIN, wishes)
    assert named(found, DOMAIN, "MX") == [f"10 {HOST}."]
    assert named(found, HOST, "A") == ["192.0.2.25"]
    assert named(found, HOST, "AAAA") == ["2001:db8::25"]
    assert named(found, "25.2.0.192.in-addr.arpa", "PTR") == [f"{HOST}."]
    assert named(found, DOMAIN, "TXT") == ['"v=spf1 mx -all"']
    assert named(found, HOST, "TXT") == ['"v=spf1 a -all"']
    assert named(found, "_dmarc.example.org", "TXT") == [
        '"v=DMARC1; p=none; rua=mailto:dmarc-reports@example.org"'
    ]
    assert named(found, "_smtp._tls.example.org", "TXT") == [
        '"v=TLSRPTv1; rua=mailto:tls-reports@example.org"'
    ]
    assert named(found, "mta-sts.example.org", "CNAME") == [f"{HOST}."]
    assert named(found, "_mta-sts.example.org", "TXT") == ['"v=STSv1; id=abc"']
    assert named(found, f"_25._tcp.{HOST}", "TLSA") == [f"3 1 1 {bytes(range(32)).hex()}"]
    assert named(found, HOST, "CAA") == ['0 issue "letsencrypt.org"']
    assert named(found, "_submissions._tcp.example.org", "SRV") == [f"0 1 465 {HOST}."]
    assert named(found, "_imaps._tcp.example.org", "SRV") == [f"0 1 993 {HOST}."]
    assert all(each.why and each.is_whole for each in found)


def test_revoked_keys_are_not_published_any_more(
    wishes: Wishes, keys: tuple[DomainKey, ...]
) -> None:
    found = records(config(), DOMAIN, wishes)
    names = [each.name for each in found if "_domainkey" in each.name]
    assert names == [f"{key.record_name}." for key in keys[:3]]


def test_what_is_not_known_is_left_to_a_person() -> None:
    found = records(config(), DOMAIN)
    holes = {(each.type, each.value) for each in found if not each.is_whole}
    assert holes == {
        ("A", "<the public IPv4 address of this machine>"),
        ("AAAA", "<its public IPv6 address, if it has one>"),
        ("PTR", f"{HOST}."),
    }


def test_an_address_of_one_kind_leaves_the_other_out() -> None:
    found = records(config(), DOMAIN, Wishes(addresses=("2001:db8::25",)))
    assert named(found, HOST, "AAAA") == ["2001:db8::25"]
    assert named(found, HOST, "A") == []


def test_only_what_is_served_is_told_to_mail_clients() -> None:
    listeners = (
        schema.Listener(service=Service.MX),
        schema.Listener(service=Service.IMAPS, port=10993),
        schema.Listener(service=Service.SUBMISSIONS, addresses=("127.0.0.1",)),
    )
    found = records(config(listener=listeners), DOMAIN)
    assert [(each.name, each.value) for each in found if each.type == "SRV"] == [
        ("_imaps._tcp.example.org.", f"0 1 10993 {HOST}.")
    ]


def test_the_name_that_mail_clients_ask_is_there_where_it_is_answered() -> None:
    web = schema.Web(is_enabled=True)
    found = records(config(web=web), DOMAIN)
    assert named(found, "autoconfig.example.org", "CNAME") == [f"{HOST}."]
    [record] = [each for each in found if each.name == "autoconfig.example.org."]
    assert "set themselves up" in record.why and record.need is Need.OPTIONAL
    off = msgspec.structs.replace(web, serves_autoconfig=False)
    only_mx = (schema.Listener(service=Service.MX),)
    for other in (config(), config(web=off), config(web=web, listener=only_mx)):
        assert named(records(other, DOMAIN), "autoconfig.example.org", "CNAME") == []


def test_with_a_smart_host_its_senders_have_to_be_filled_in() -> None:
    relay = schema.Relay(smart_host=schema.SmartHost(host="out.example.net"))
    [spf] = named(records(config(relay=relay), DOMAIN), DOMAIN, "TXT")
    assert spf == '"v=spf1 mx include:<what out.example.net tells you to include> -all"'


@pytest.mark.parametrize("policy", ["none", "quarantine", "reject"])
def test_the_dmarc_record_is_one_that_receivers_read(policy: str) -> None:
    [value] = named(records(config(), DOMAIN, Wishes(dmarc=policy)), "_dmarc.example.org", "TXT")
    read = parse(value.strip('"').encode(), DOMAIN)
    assert read is not None and (read.policy.value, read.fault) == (policy, "")
    assert read.aggregate_uris == ("mailto:dmarc-reports@example.org",)


def test_reports_go_to_postmaster_where_they_are_not_read() -> None:
    found = records(config(reports=schema.Reports(is_enabled=False)), DOMAIN)
    assert named(found, "_dmarc.example.org", "TXT") == [
        '"v=DMARC1; p=none; rua=mailto:postmaster@example.org"'
    ]


# RFC 8461 §3.1
def test_a_policy_that_is_served_is_announced_and_a_changed_one_anew() -> None:
    served = config(web=schema.Web(is_enabled=True))
    first = own_policy_id(served, DOMAIN)
    assert record_id([f"v=STSv1; id={first}".encode()]) == first
    enforced = msgspec.structs.replace(
        served, mta_sts=schema.MtaSts(mode=schema.MtaStsMode.ENFORCE)
    )
    assert own_policy_id(enforced, DOMAIN) != first
    assert own_policy_id(config(), DOMAIN) == "", "no HTTPS port is open"
    others = msgspec.structs.replace(served, mta_sts=schema.MtaSts(domains=("example.net",)))
    assert own_policy_id(others, DOMAIN) == ""
    names = {each.name for each in records(served, DOMAIN, wishes_for(served, DOMAIN, ()))}
    assert {"mta-sts.example.org.", "_mta-sts.example.org."} <= names


def test_without_a_certificate_there_is_no_tlsa_record() -> None:
    assert wishes_for(config(), DOMAIN, ()).tlsa == ()


# RFC 1035 §3.3
@pytest.mark.parametrize(
    ("text", "strings"),
    [
        ("", '""'),
        ("short", '"short"'),
        ("a" * 255, '"' + "a" * 255 + '"'),
        ("a" * 256, '"' + "a" * 255 + '" "a"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
    ],
)
def test_texts_are_cut_into_strings_of_255_octets(text: str, strings: str) -> None:
    assert txt_strings(f'"{text}"') == strings


def test_the_zone_file_is_read_as_it_was_meant(wishes: Wishes) -> None:
    found = records(config(), DOMAIN, wishes)
    text = zone_file(found, domain=DOMAIN)
    zone = dns.zone.from_text(HEAD + text, DOMAIN, relativize=False)
    for record in found:
        if record.type == "PTR":
            continue
        rdataset = zone.get_rdataset(record.name, record.type)
        assert rdataset is not None, record
        assert rdataset.ttl == record.ttl_s
        if record.type == "TXT":
            texts = [b"".join(rdata.strings).decode() for rdata in rdataset]
            assert record.value.strip('"') in texts
        else:
            kind = dns.rdatatype.from_text(record.type)
            wanted = dns.rdata.from_text("IN", kind, record.value)
            assert wanted in rdataset
    assert all(len(line) <= 1_000 for line in text.splitlines())


def test_what_belongs_to_another_zone_or_is_not_known_is_a_comment() -> None:
    elsewhere = Config(node=schema.Node(hostname="mail.example.net", data_folder="/nonexistent"))
    text = zone_file(records(elsewhere, DOMAIN), domain=DOMAIN)
    plain = [line for line in text.splitlines() if line and not line.startswith(";")]
    assert all(line.split()[0].endswith("example.org.") for line in plain)
    assert "; mail.example.net. 3600 IN A <the public IPv4 address of this machine>" in text
    assert "in the zone of that name" in text
    dns.zone.from_text(HEAD + text, DOMAIN, relativize=False)


def test_the_needed_comes_first(wishes: Wishes) -> None:
    text = zone_file(records(config(), DOMAIN, wishes), domain=DOMAIN)
    places = [text.index(f"; --- {name} ---") for name in ("needed", "makes it safer")]
    assert places == sorted(places)
    assert text.index("v=spf1 mx") < places[1] < text.index("_smtp._tls")
    needed = {e.name for e in records(config(), DOMAIN, wishes) if e.need is Need.NEEDED}
    assert "_dmarc.example.org." in needed


@needs_program("knotc", package="knot")
def test_another_name_server_takes_the_zone_file(wishes: Wishes, tmp_path: Path) -> None:
    text = zone_file(records(config(), DOMAIN, wishes), domain=DOMAIN)
    (tmp_path / "example.org.zone").write_text(HEAD + text)
    settings = tmp_path / "knot.conf"
    settings.write_text(
        f"server:\n  rundir: {tmp_path}\ndatabase:\n  storage: {tmp_path}\n"
        f"zone:\n  - domain: example.org\n    storage: {tmp_path}\n    file: example.org.zone\n"
    )
    knotc = find_program("knotc")
    assert knotc is not None
    done = subprocess.run(
        [knotc, "-c", str(settings), "zone-check", "example.org"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "error" not in (done.stdout + done.stderr).lower()
