"""From a domain to its hosts: a table of zones."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from posthouse.kernel.ports import DnsAnswer, DnsStatus, MxRecord, RecordType
from posthouse.relay.mx import is_allowed
from posthouse.relay.plan import Kind, Place, Route, RouteOptions, SmartHost, Tls, parse_place
from posthouse.relay.route import destination_of, explain_route
from posthouse.sim.chance import SeededChance

OPTIONS = RouteOptions(
    own_names=frozenset({"mail.us.example"}), own_addresses=frozenset({"9.9.9.9"})
)
FAILS = DnsAnswer(status=DnsStatus.TEMPFAIL, detail="SERVFAIL")
NO_NAME = DnsAnswer(status=DnsStatus.NO_NAME)
NO_DATA = DnsAnswer(status=DnsStatus.NO_DATA)


class Records:
    """A resolver that knows what it is told; the rest does not exist."""

    def __init__(self, **names: DnsAnswer) -> None:
        self.answers: dict[tuple[str, RecordType], DnsAnswer] = {}
        self.asked: list[str] = []

    def mx(self, name: str, *records: tuple[int, str]) -> Records:
        found = tuple(MxRecord(*record) for record in records)
        return self.put(name, RecordType.MX, DnsAnswer(status=DnsStatus.FOUND, records=found))

    def at(self, name: str, *addresses: str) -> Records:
        for kind in (RecordType.A, RecordType.AAAA):
            is_six = kind is RecordType.AAAA
            here = tuple(a for a in addresses if (":" in a) == is_six)
            answer = DnsAnswer(status=DnsStatus.FOUND, records=here) if here else NO_DATA
            self.put(name, kind, answer)
        return self

    def put(self, name: str, kind: RecordType, answer: DnsAnswer) -> Records:
        self.answers[name, kind] = answer
        return self

    async def resolve(self, name: str, record_type: RecordType) -> DnsAnswer:
        self.asked.append(name)
        known = any(other == name for other, _ in self.answers)
        return self.answers.get((name, record_type), NO_DATA if known else NO_NAME)

    def known(self, name: str, record_type: RecordType) -> DnsAnswer | None:
        return None


def plan(records: Records, domain: str = "there.example", *, seed: int = 1, **options: object):
    return asyncio.run(
        explain_route(
            domain,
            resolver=records,
            chance=SeededChance(seed),
            options=msgspec.structs.replace(OPTIONS, **options),
        )
    )


def hosts(made) -> list[tuple[str, tuple[str, ...]]]:
    return [(host.name, host.addresses) for host in made.hosts]


def test_hosts_come_by_preference_with_both_families() -> None:  # RFC 5321 §5.1
    records = Records().mx("there.example", (20, "b.x"), (10, "a.x"))
    records.at("a.x", "8.8.8.1", "2a00::1", "8.8.8.2").at("b.x", "8.8.8.3")
    assert hosts(plan(records)) == [
        ("a.x", ("2a00::1", "8.8.8.1", "8.8.8.2")),
        ("b.x", ("8.8.8.3",)),
    ]


def test_equal_preferences_are_left_to_chance() -> None:  # RFC 5321 §5.1
    records = Records().mx("there.example", *[(10, f"h{n}.x") for n in range(3)], (20, "last.x"))
    for n in range(3):
        records.at(f"h{n}.x", f"8.8.8.{n + 1}")
    records.at("last.x", "8.8.8.9")
    orders = {tuple(name for name, _ in hosts(plan(records, seed=seed))) for seed in range(30)}
    assert len(orders) == 6
    assert all(order[-1] == "last.x" for order in orders)


def test_without_mx_the_domain_itself_is_the_host() -> None:
    made = plan(Records().at("there.example", "8.8.8.1"))
    assert made.kind is Kind.IMPLICIT_MX
    assert hosts(made) == [("there.example", ("8.8.8.1",))]


FAILURES = {
    "no such domain": (Records(), "5.1.2"),
    "null mx": (Records().mx("there.example", (0, "")), "5.1.10"),  # RFC 7505 §3
    "neither mx nor address": (Records().put("there.example", RecordType.TXT, NO_DATA), "5.1.2"),
    "mx hosts without addresses": (Records().mx("there.example", (1, "a.x")), "5.4.4"),
    "mx is our name": (
        Records().mx("there.example", (1, "mail.us.example")).at("mail.us.example", "8.8.8.1"),
        "5.4.6",
    ),
    "mx is our address": (Records().mx("there.example", (1, "a.x")).at("a.x", "9.9.9.9"), "5.4.6"),
    "address is ours": (Records().at("there.example", "9.9.9.9"), "5.4.6"),
    "mx is loopback": (Records().mx("there.example", (1, "a.x")).at("a.x", "127.0.0.1"), "5.3.5"),
    "mx is ::1": (Records().mx("there.example", (1, "a.x")).at("a.x", "::1"), "5.3.5"),
}


@pytest.mark.parametrize("name", FAILURES)
def test_what_the_dns_says_for_certain_is_permanent(name: str) -> None:  # P8 F24
    records, status = FAILURES[name]
    failure = plan(records).failure
    assert failure is not None and failure.is_permanent
    assert failure.status == status


TROUBLES = {
    "mx fails": Records().put("there.example", RecordType.MX, FAILS),
    "address of the mx fails": Records()
    .mx("there.example", (1, "a.x"))
    .put("a.x", RecordType.A, FAILS),
    "own address fails": Records()
    .put("there.example", RecordType.MX, NO_DATA)
    .put("there.example", RecordType.AAAA, FAILS),
    "one host is gone, the other fails": Records()
    .mx("there.example", (1, "a.x"), (2, "b.x"))
    .put("b.x", RecordType.A, FAILS),
}


@pytest.mark.parametrize("name", TROUBLES)
def test_a_question_that_failed_is_temporary(name: str) -> None:  # P8 F23
    failure = plan(TROUBLES[name]).failure
    assert failure is not None and not failure.is_permanent
    assert failure.status == "4.4.3"


def test_a_host_that_can_be_found_makes_up_for_one_that_cannot() -> None:
    records = Records().mx("there.example", (1, "a.x"), (2, "b.x")).at("b.x", "8.8.8.1")
    records.put("a.x", RecordType.A, FAILS)
    made = plan(records)
    assert hosts(made) == [("b.x", ("8.8.8.1",))]
    assert made.notes == ("a.x: SERVFAIL",)


def test_hosts_behind_ourselves_are_left_out() -> None:  # F24, RFC 5321 §5.1
    records = Records().mx("there.example", (1, "a.x"), (5, "mail.us.example"), (9, "c.x"))
    records.at("a.x", "8.8.8.1").at("c.x", "8.8.8.3").at("mail.us.example", "8.8.8.2")
    assert hosts(plan(records)) == [("a.x", ("8.8.8.1",))]


def test_private_addresses_are_used_only_when_that_is_configured() -> None:  # F24
    records = Records().mx("there.example", (1, "a.x")).at("a.x", "10.0.0.1", "8.8.8.1")
    assert hosts(plan(records)) == [("a.x", ("8.8.8.1",))]
    made = plan(records, allow_private_addresses=True)
    assert hosts(made) == [("a.x", ("10.0.0.1", "8.8.8.1"))]


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "192.168.1.1", "172.16.0.1", "169.254.169.254", "0.0.0.0"),
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "::1", "fe80::1", "fd00::1", "::"),
        *("::ffff:127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "ff02::1"),
        "nonsense",
    ],
)
def test_addresses_inside_are_known_in_every_dress(address: str) -> None:  # F24
    assert not is_allowed(address, OPTIONS)


@pytest.mark.parametrize("address", ["8.8.8.8", "2a00:1450::1", "64:ff9b::808:808"])
def test_addresses_outside_are_allowed(address: str) -> None:
    assert is_allowed(address, OPTIONS)


def test_hosts_and_addresses_are_bounded() -> None:
    records = Records().mx("there.example", *[(n, f"h{n}.x") for n in range(50)])
    for n in range(50):
        records.at(f"h{n}.x", *[f"8.8.{n}.{m + 1}" for m in range(4)])
    made = plan(records)
    assert len(made.hosts) == 3
    assert sum(len(host.addresses) for host in made.hosts) == 10
    assert len({name for name in records.asked if name != "there.example"}) <= 20


def test_an_address_literal_is_its_own_host() -> None:  # RFC 5321 §4.1.3
    assert hosts(plan(Records(), "[8.8.8.8]")) == [("8.8.8.8", ("8.8.8.8",))]
    assert hosts(plan(Records(), "[IPv6:2a00::1]")) == [("2a00::1", ("2a00::1",))]
    assert plan(Records(), "[127.0.0.1]").failure.status == "5.3.5"
    assert plan(Records(), "[9.9.9.9]").failure.status == "5.4.6"


def test_a_route_goes_before_the_smart_host_and_both_before_mx() -> None:
    records = Records().at("hub.x", "10.0.0.1").at("smart.x", "8.8.8.8")
    route = Route(domain="*.inner.example", hosts=("[10.0.0.9]:2525", "hub.x"), tls=Tls.REQUIRED)
    smart = SmartHost(host="smart.x", port=465, tls=Tls.IMPLICIT)
    options = {"routes": (route,), "smart_host": smart}
    made = plan(records, "a.inner.example", **options)
    assert made.kind is Kind.ROUTE and made.tls is Tls.REQUIRED
    assert [(host.addresses, host.port) for host in made.hosts] == [
        (("10.0.0.9",), 2525),
        (("10.0.0.1",), 25),
    ]
    made = plan(records, "inner.example", **options)
    assert made.kind is Kind.SMART_HOST and made.hosts[0].port == 465
    keys = {
        destination_of(name, None, msgspec.structs.replace(OPTIONS, **options))
        for name in ("a.inner.example", "b.inner.example", "c.example", "d.example")
    }
    assert len(keys) == 2


def test_what_is_wrong_with_a_host_of_ours_is_temporary() -> None:  # P8
    smart = SmartHost(host="gone.x")
    failure = plan(Records(), smart_host=smart).failure
    assert failure is not None and not failure.is_permanent


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("mx.example.net", Place("mx.example.net", 25, False)),
        ("MX.example.net.:2525", Place("mx.example.net", 2525, False)),
        ("[192.0.2.1]", Place("192.0.2.1", 25, True)),
        ("192.0.2.1:26", Place("192.0.2.1", 26, True)),
        ("[2001:db8::1]:26", Place("2001:db8::1", 26, True)),
        ("2001:db8::1", Place("2001:db8::1", 25, True)),
    ],
)
def test_places_are_read(text: str, place: Place) -> None:
    assert parse_place(text) == place


@pytest.mark.parametrize("text", ["", ":25", "a:0", "a:99999", "a:x", "[a]", "[1.2.3.4", "[::1]25"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        parse_place(text)
