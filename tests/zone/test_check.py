"""A look at a domain of a real server on loopback, with its records broken one by one."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec
import pytest
import pytest_asyncio

from posthouse.accounts import domain_keys
from posthouse.config import build_clients, build_keys, schema
from posthouse.config.schema import Config, Service
from posthouse.kernel.envelope import Address
from posthouse.kernel.ports import Fetched, FetchFailed, FetchTrouble
from posthouse.sim.dns import DnsFault, ZoneResolver, Zones
from posthouse.sim.ground import Loopback
from posthouse.sim.lab import Lab, LabNode
from posthouse.tls.peers import Verifier
from posthouse.web.autoconfig import client_config
from posthouse.web.mta_sts import policy_text
from posthouse.zone.check import check_domain
from posthouse.zone.checked import Checked, Report, State
from posthouse.zone.policy import own_policy, wishes_for
from posthouse.zone.records import Record, Wishes, records, txt_strings
from posthouse.zone.subject import Ports, Subject

DOMAIN, HOST = "north.example", "mail.north.example"
LIST = "list.example"


class Pages:
    """The port `Fetch` over a table."""

    def __init__(self) -> None:
        self.pages: dict[str, Fetched | FetchFailed] = {}

    async def get(
        self, url: str, *, octets_max: int, timeout_s: float, allow_http: bool = False
    ) -> Fetched:
        page = self.pages.get(url, FetchFailed("nobody answers", FetchTrouble.CONNECT))
        if isinstance(page, FetchFailed):
            raise page
        return page

    async def post(
        self, url: str, octets: bytes, *, media_type: str, octets_max: int, timeout_s: float
    ) -> Fetched:
        raise AssertionError("a look posts nothing")


POLICY_URL = f"https://mta-sts.{DOMAIN}/.well-known/mta-sts.txt"


class House:
    """A node of the laboratory whose zone has everything that `records` says."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.node: LabNode = lab.nodes["north"]
        self.fetch = Pages()
        self.roots = Verifier([])
        self.config: Config = self.node.config
        self.ports = dict(lab.ground.ports)
        self.unchecked = ZoneResolver(lab.zones, is_unchecked=True)

    @property
    def zones(self) -> Zones:
        return self.lab.zones

    async def wishes(self) -> Wishes:
        keys = await self.node.store.read(lambda tx: domain_keys.keys(tx, DOMAIN))
        return wishes_for(self.config, DOMAIN, keys, addresses=(self.node.address,))

    async def publish(self) -> None:
        """What `dns records` prints, and the policy on the web."""
        found = records(self.config, DOMAIN, await self.wishes())
        for record in found:
            self.zones.remove(record.name, record.type)
        for record in found:
            self.zones.add(record.name, record.type, value(record))
        policy = own_policy(self.config, DOMAIN)
        assert policy is not None
        self.serve(policy_text(policy))

    def serve(self, text: bytes) -> None:
        self.fetch.pages[POLICY_URL] = Fetched(status=200, media_type="text/plain", octets=text)

    def change(self, name: str, kind: str, *values: str) -> None:
        self.zones.remove(name, kind)
        if values:
            self.zones.add(name, kind, *values)

    async def look(self) -> Report:
        wishes = await self.wishes()
        ground = self.lab.ground
        node = self.node.node
        subject = Subject(
            self.config,
            DOMAIN,
            wishes=wishes,
            wanted=records(self.config, DOMAIN, wishes),
            rotation=build_keys.rotation_options(self.config),
            ports=Ports(
                resolver=ground.ports_of(self.node.address, self.node.folder).resolver(self.config),
                unchecked=self.unchecked,
                network=ground.network,
                clock=ground.clock,
                deadlines=node.deadlines,
                fetch=self.fetch,
                verifier=self.roots,
                port_of=lambda service: self.ports[service],
                is_unknown=lambda address: address == Address("dmarc", DOMAIN),
            ),
        )
        return await check_domain(subject)


def value(record: Record) -> str:
    return txt_strings(record.value) if record.type == "TXT" else record.value


def of(report: Report, subject: str, what: str = "") -> Checked:
    found = [c for c in report.checked if c.subject == subject and what in c.what]
    assert len(found) == 1, [(c.subject, c.what) for c in report.checked]
    return found[0]


def bad(report: Report) -> list[tuple[str, State]]:
    return [(c.subject, c.state) for c in report.checked if c.is_bad]


def served(config: Config) -> Config:
    """As in the lab, with a web listener (that the tests answer for) and a blocklist of ours."""
    web = schema.Listener(service=Service.HTTPS, addresses=("127.0.0.1",), port=0)
    return msgspec.structs.replace(
        config,
        listener=(*config.listener, web),
        dns=msgspec.structs.replace(config.dns, blocklists=(LIST,)),
    )


@pytest_asyncio.fixture
async def house() -> AsyncIterator[House]:
    async with Lab(Loopback(), domains={DOMAIN: ("ada",)}) as lab:
        made = House(lab)
        made.config = served(made.config)
        lab.zones.add(f"2.0.0.127.{LIST}", "A", "127.0.0.2")
        await made.publish()
        yield made


async def test_what_dns_records_prints_is_what_dns_check_wants(house: House) -> None:
    report = await house.look()
    assert bad(report) == [], [c for c in report.checked if c.is_bad]
    states = {(c.subject, c.what): c.state for c in report.checked}
    assert of(report, "spf", f"of {DOMAIN}").words == "this server passes, 1 of 10 look-ups used"
    assert of(report, "port", "(mx)").words.startswith(f"it greets as {HOST}, TLSv1.3")
    assert of(report, "ptr").state is State.RIGHT
    assert of(report, "blocklist").state is State.RIGHT
    assert of(report, "mta-sts", "policy at").state is State.ADVICE, "testing could be enforce"
    assert of(report, "dane").state is State.ADVICE, "the lab's zone is not signed"
    assert of(report, "certificate", str(house.lab.ground.ports[Service.MX])).words.startswith(
        "no trusted root"
    )
    assert {state for (subject, _), state in states.items() if subject == "dkim"} == {State.RIGHT}


# Issue 4: break records one by one and let `dns check` find each.
BROKEN = [
    ("mx", DOMAIN, "MX", (), State.MISSING, "nothing says where mail"),
    ("mx", DOMAIN, "MX", ("10 mail.other.example.",), State.WRONG, "mail.other.example"),
    ("mx", DOMAIN, "MX", ("0 .",), State.WRONG, "the null MX"),
    ("mx", DOMAIN, "MX", ("10 5.5.5.5.",), State.WRONG, "must name a host, not an address"),
    ("address", HOST, "A", ("10.0.0.1",), State.WRONG, "this server is also reached at 127."),
    ("spf", DOMAIN, "TXT", (), State.MISSING, "nothing says who may send"),
    ("spf", DOMAIN, "TXT", ('"v=spf1 -all"',), State.WRONG, "gets fail, not pass"),
    ("spf", DOMAIN, "TXT", ('"v=spf1 mx +all"',), State.WRONG, "lets everybody send"),
    ("spf", DOMAIN, "TXT", ('"v=spf1 mx ~al"',), State.WRONG, "cannot be read"),
    (
        "spf",
        DOMAIN,
        "TXT",
        ('"v=spf1 mx -all"', '"v=spf1 a -all"'),
        State.WRONG,
        "there are 2 SPF records",
    ),
    (
        "spf",
        DOMAIN,
        "TXT",
        (f'"v=spf1 mx {" ".join(f"a:a{n}.example" for n in range(10))} -all"',),
        State.WRONG,
        "it takes 11 look-ups",
    ),
    (
        "spf",
        DOMAIN,
        "TXT",
        ('"v=spf1 mx include:nosuch.example -all"',),
        State.ADVICE,
        "nosuch.example, which it follows, has no SPF record, so hosts stop there with an error",
    ),
    ("spf", DOMAIN, "TXT", ('"v=spf1 mx"',), State.ADVICE, "says nothing of all other hosts"),
    ("dmarc", f"_dmarc.{DOMAIN}", "TXT", (), State.MISSING, "hosts do not know what to do"),
    ("dmarc", f"_dmarc.{DOMAIN}", "TXT", ('"v=dmarc; p=none"',), State.WRONG, "v=DMARC1"),
    ("dmarc", f"_dmarc.{DOMAIN}", "TXT", ('"v=DMARC1; p=no"',), State.WRONG, "p=no is none of"),
    (
        "dmarc",
        f"_dmarc.{DOMAIN}",
        "TXT",
        ('"v=DMARC1; p=none"', '"v=DMARC1; p=reject"'),
        State.WRONG,
        "there are 2 DMARC records",
    ),
    ("tls-rpt", f"_smtp._tls.{DOMAIN}", "TXT", (), State.ABSENT, "nobody tells you"),
    (
        "tls-rpt",
        f"_smtp._tls.{DOMAIN}",
        "TXT",
        ('"v=TLSRPTv1; ruf=mailto:a@b.example"',),
        State.WRONG,
        "no rua=",
    ),
    (
        "mta-sts",
        f"_mta-sts.{DOMAIN}",
        "TXT",
        ('"v=STSv1; id=old"',),
        State.WRONG,
        "the policy has changed since",
    ),
    ("mta-sts", f"_mta-sts.{DOMAIN}", "TXT", ('"v=STSv1"',), State.WRONG, "not one record"),
    (
        "dane",
        f"_25._tcp.{HOST}",
        "TLSA",
        (f"3 1 1 {'00' * 32}",),
        State.WRONG,
        "none of the records is of the key",
    ),
    ("dane", f"_25._tcp.{HOST}", "TLSA", (), State.ABSENT, "without it senders cannot use DANE"),
]


@pytest.mark.parametrize(("subject", "name", "kind", "values", "state", "words"), BROKEN)
async def test_a_broken_record_is_found_and_explained(
    subject: str,
    name: str,
    kind: str,
    values: tuple[str, ...],
    state: State,
    words: str,
    house: House,
) -> None:
    house.change(name, kind, *values)
    report = await house.look()
    [found] = [
        c
        for c in report.checked
        if c.subject == subject and words in c.words and c.what.split(",")[0].endswith(tail(name))
    ]
    assert found.state is state
    assert report.is_good is (state in (State.ADVICE, State.ABSENT))
    if values and state is State.WRONG and subject not in ("spf", "address"):
        assert found.found, "it shows what is there"
    if state in (State.WRONG, State.MISSING):
        assert found.wanted, "it shows what should be"


PREFIXES = ("_dmarc.", "_smtp._tls.", "_mta-sts.", "_25._tcp.")


def tail(name: str) -> str:
    """What a check calls the place of a record."""
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


async def test_a_key_record_that_is_gone_or_cut_is_found(house: House) -> None:
    keys = (await house.wishes()).keys
    rsa = next(key for key in keys if key.algorithm == domain_keys.RSA)
    house.change(f"{rsa.record_name}", "TXT")
    gone = of(await house.look(), "dkim", rsa.selector)
    assert (gone.state, gone.found) == (State.MISSING, ())
    assert gone.words.startswith("this key signs your mail, and others cannot verify it")
    house.change(f"{rsa.record_name}", "TXT", f'"{rsa.record[:200]}"')
    cut = of(await house.look(), "dkim", rsa.selector)
    assert cut.state is State.WRONG
    assert cut.wanted == (f'"{rsa.record}"',)


async def test_a_reverse_name_that_is_gone_or_leads_elsewhere_is_found(house: House) -> None:
    pointer = ".".join(reversed(house.node.address.split("."))) + ".in-addr.arpa"
    house.change(pointer, "PTR", "elsewhere.example.")
    wrong = of(await house.look(), "ptr")
    assert (wrong.state, wrong.found) == (State.WRONG, ("elsewhere.example.",))
    house.change(pointer, "PTR", "other.example.")
    house.zones.add("other.example", "A", house.node.address)
    assert of(await house.look(), "ptr").state is State.ADVICE
    house.change(pointer, "PTR")
    assert of(await house.look(), "ptr").state is State.MISSING


async def test_a_host_that_is_an_alias_is_found(house: House) -> None:
    house.change(HOST, "A")
    house.change(HOST, "TXT")
    house.zones.remove(HOST, "CAA")
    house.zones.add("real.north.example", "A", house.node.address)
    house.zones.add(HOST, "CNAME", "real.north.example.")
    found = of(await house.look(), "address")
    assert found.state is State.WRONG
    assert "is a CNAME" in found.words


async def test_a_policy_that_cannot_be_fetched_or_names_another_host_is_found(
    house: House,
) -> None:
    house.fetch.pages.clear()
    assert "nobody answers" in of(await house.look(), "mta-sts", "policy at").words
    house.serve(b"version: STSv1\nmode: enforce\nmx: mx.other.example\nmax_age: 86400\n")
    wrong = of(await house.look(), "mta-sts", "policy at")
    assert wrong.state is State.WRONG
    assert f"it does not name {HOST}" in wrong.words
    house.serve(b"version: STSv1\nmode: enforce\nmx: *.north.example\nmax_age: 86400\n")
    other = of(await house.look(), "mta-sts", "policy at")
    assert other.state is State.WRONG
    assert (
        "is not the policy of this server's config: it has mode enforce, the config" in other.words
    )
    assert "reload the server" in other.words
    house.fetch.pages[POLICY_URL] = Fetched(status=404, media_type="", octets=b"")
    assert "answers with 404" in of(await house.look(), "mta-sts", "policy at").words


# A changed config that the server has not read yet: what is published is not what is served.
async def test_a_policy_that_the_server_has_not_reloaded_is_found(house: House) -> None:
    house.config = msgspec.structs.replace(
        house.config, mta_sts=schema.MtaSts(mode=schema.MtaStsMode.ENFORCE)
    )
    await house.publish()
    house.serve(f"version: STSv1\nmode: testing\nmx: {HOST}\nmax_age: 1209600\n".encode())
    found = of(await house.look(), "mta-sts", "policy at")
    assert found.state is State.WRONG
    assert "it has mode testing, the config enforce" in found.words
    assert "it still serves the old policy" in found.words


async def test_an_mx_that_the_policy_does_not_name_is_found(house: House) -> None:
    house.zones.add(DOMAIN, "MX", "20 backup.example.")
    found = of(await house.look(), "mta-sts", "policy at")
    assert found.state is State.WRONG
    assert "it does not name backup.example, so hosts that keep to it report" in found.words
    assert f'set [mta_sts] mx = ["{HOST}", "backup.example"]' in found.words


async def test_what_is_not_answered_for_a_name_above_says_which(house: House) -> None:
    house.zones.fault("example", DnsFault.SERVFAIL)
    found = of(await house.look(), "caa")
    assert found.state is State.UNKNOWN
    assert found.words.startswith("the DNS gave no answer for example: ")


CLIENTS_URL = f"https://autoconfig.{DOMAIN}/mail/config-v1.1.xml"


async def test_what_mail_clients_are_told_is_looked_at(house: House) -> None:
    assert not [c for c in (await house.look()).checked if c.subject == "autoconfig"]
    house.config = msgspec.structs.replace(  # beside what the laboratory opens on loopback
        house.config,
        listener=(
            *house.config.listener,
            schema.Listener(service=Service.POP3S, addresses=("0.0.0.0",), port=995),
        ),
    )

    async def seen() -> tuple[State, str]:
        found = of(await house.look(), "autoconfig")
        assert found.wanted == (f"{HOST}.",)
        return found.state, found.words

    assert (await seen())[0] is State.ABSENT
    await house.publish()
    state, words = await seen()
    assert state is State.WRONG and "nobody answers" in words
    ours = client_config(DOMAIN, build_clients.mail_servers(house.config))
    for octets, expected, part in (
        (ours, State.RIGHT, "set themselves up"),
        (ours.replace(b"995", b"996"), State.ADVICE, "not what this server would say"),
        (b"<hostname>imap.example.net</hostname>", State.WRONG, f"does not name {HOST}"),
    ):
        page = Fetched(status=200, media_type="text/xml", octets=octets)
        house.fetch.pages[CLIENTS_URL] = page
        state, words = await seen()
        assert state is expected and part in words
    house.fetch.pages[CLIENTS_URL] = Fetched(status=404, media_type="", octets=b"")
    assert "answers with 404" in (await seen())[1]
    trouble = FetchFailed("no trusted root", FetchTrouble.TLS)
    house.fetch.pages[CLIENTS_URL] = trouble
    assert "a certificate for autoconfig.north.example is needed" in (await seen())[1]
    house.zones.fault(f"autoconfig.{DOMAIN}", DnsFault.SERVFAIL)
    assert of(await house.look(), "autoconfig").state is State.UNKNOWN


async def test_an_enforced_policy_with_a_certificate_nobody_trusts_is_found(house: House) -> None:
    house.config = msgspec.structs.replace(
        house.config, mta_sts=schema.MtaSts(mode=schema.MtaStsMode.ENFORCE)
    )
    await house.publish()
    found = of(await house.look(), "certificate", str(house.lab.ground.ports[Service.MX]))
    assert found.state is State.WRONG
    assert "your MTA-STS policy tells others to send nothing then" in found.words


async def test_a_listed_address_is_found(house: House) -> None:
    reverse = ".".join(reversed(house.node.address.split(".")))
    house.zones.add(f"{reverse}.{LIST}", "A", "127.0.0.3")
    found = of(await house.look(), "blocklist")
    assert (found.state, found.found) == (State.WRONG, ("127.0.0.3",))


async def test_a_port_that_nobody_answers_is_found(house: House) -> None:
    house.ports[Service.MX] = 1
    found = of(await house.look(), "port", "(mx)")
    assert found.state is State.WRONG
    assert "refused, as seen from this machine" in found.words
    house.ports[Service.MX] = house.lab.ground.ports[Service.IMAP]
    assert "it does not speak SMTP" in of(await house.look(), "port", "(mx)").words


# Silence would be taken for a good word.
async def test_what_is_not_looked_at_is_said(house: House) -> None:
    srv = of(await house.look(), "srv")
    assert srv.state is State.UNKNOWN
    assert srv.words.startswith("not looked at: mail clients reach this server on loopback only")
    house.config = msgspec.structs.replace(
        house.config,
        relay=msgspec.structs.replace(house.config.relay, allow_private_addresses=False),
    )
    ports = of(await house.look(), "port")
    assert ports.state is State.UNKNOWN
    assert ports.what == f"ports and certificate of {HOST}"
    assert ports.words == (
        "not looked at: this server listens on loopback only, where nobody else comes to"
    )


async def test_records_of_others_and_a_key_of_ours_with_dnssec_are_right(house: House) -> None:
    house.zones.sign("north.example")
    report = await house.look()
    assert of(report, "dane").state is State.RIGHT
    assert of(report, "dnssec").state is State.RIGHT


async def test_reports_to_another_domain_need_its_word(house: House) -> None:
    house.change(
        f"_dmarc.{DOMAIN}", "TXT", '"v=DMARC1; p=reject; rua=mailto:dmarc@reports.example"'
    )
    wrong = of(await house.look(), "dmarc", "reports to")
    assert wrong.state is State.WRONG
    house.zones.add(f"{DOMAIN}._report._dmarc.reports.example", "TXT", '"v=DMARC1"')
    assert of(await house.look(), "dmarc", "reports to").state is State.RIGHT
    assert of(await house.look(), "dmarc", "DMARC of").state is State.RIGHT


async def test_reports_to_an_address_of_ours_that_nobody_has_are_found(house: House) -> None:
    house.change(f"_dmarc.{DOMAIN}", "TXT", f'"v=DMARC1; p=reject; rua=mailto:dmarc@{DOMAIN}"')
    found = of(await house.look(), "dmarc", "DMARC of")
    assert found.state is State.WRONG
    assert f"dmarc@{DOMAIN} does not exist on this server" in found.words
    house.change(f"_smtp._tls.{DOMAIN}", "TXT", f'"v=TLSRPTv1; rua=mailto:dmarc@{DOMAIN}"')
    tls = of(await house.look(), "tls-rpt")
    assert tls.state is State.WRONG
    assert "does not exist on this server" in tls.words
    house.change(f"_dmarc.{DOMAIN}", "TXT", f'"v=DMARC1; p=reject; rua=mailto:ada@{DOMAIN}"')
    assert of(await house.look(), "dmarc", "DMARC of").state is State.RIGHT


# P8, F23: what the DNS does not say is not called missing.
@pytest.mark.parametrize("name", [DOMAIN, HOST, f"_dmarc.{DOMAIN}", f"_mta-sts.{DOMAIN}"])
async def test_a_dns_that_fails_is_told_as_that(name: str, house: House) -> None:
    house.zones.fault(name, DnsFault.SERVFAIL)
    report = await house.look()
    assert State.MISSING not in {c.state for c in report.checked}
    unknown = [c for c in report.checked if c.state is State.UNKNOWN and "SERVFAIL" in c.words]
    assert unknown


# RFC 4035 §5.5: SERVFAIL for all but who asks not to check.
@pytest.mark.parametrize("name", [DOMAIN, HOST])
async def test_dnssec_signatures_that_do_not_fit_are_named(name: str, house: House) -> None:
    house.zones.fault(name, DnsFault.BOGUS)
    found = of(await house.look(), "dnssec")
    assert found.state is State.WRONG
    assert f"the DNSSEC signatures of {name} do not fit" in found.words
    house.zones.fault(name, DnsFault.SERVFAIL)
    assert of(await house.look(), "dnssec").state is not State.WRONG


async def test_a_caa_record_that_shuts_our_authority_out_is_found(house: House) -> None:
    house.config = msgspec.structs.replace(
        house.config, acme=schema.Acme(is_enabled=True, accepts_terms=True)
    )
    house.zones.add(DOMAIN, "CAA", '0 issue "other.example"')
    found = of(await house.look(), "caa")
    assert found.state is State.WRONG
    assert "will refuse" in found.words
    house.zones.add(HOST, "CAA", '0 issue "letsencrypt.org; validationmethods=http-01"')
    assert of(await house.look(), "caa").state is State.RIGHT, "the nearest name decides"


# RFC 8659 §4.2: an empty issuer lets nobody; whoever our authority is, it will refuse.
async def test_a_caa_record_that_shuts_everybody_out_is_found(house: House) -> None:
    acme = schema.Acme(is_enabled=True, accepts_terms=True)
    for directory in (acme.directory, "https://ca.example/directory"):
        house.config = msgspec.structs.replace(
            house.config, acme=msgspec.structs.replace(acme, directory=directory)
        )
        house.change(DOMAIN, "CAA", '0 issue ";"')
        found = of(await house.look(), "caa")
        assert found.state is State.WRONG, directory
        assert "lets nobody make certificates" in found.words
