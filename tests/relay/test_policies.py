"""The relay held to DANE, MTA-STS, the config and what senders demand, in virtual time."""

from __future__ import annotations

from datetime import datetime

import msgspec
import pytest

from posthouse.kernel.envelope import TlsDemand
from posthouse.kernel.tls_result import PolicyType, ResultType
from posthouse.queue.item import State
from posthouse.relay.plan import SmartHost, Tls, TlsOptions, TlsPolicy
from posthouse.sim import personality as p
from posthouse.sim.dns import DnsFault
from posthouse.sim.personality import EXTENSIONS, Personality, Starttls
from posthouse.sim.world import run_virtual
from tests.relay.certificates import (
    AUTHORITY,
    STRANGER,
    in_zone,
    old_tls,
    serving,
    tlsa_2_0_1,
    tlsa_3_1_1,
    trusting,
)
from tests.relay.house import ROUTES, RelayHouse

MX = "mx1.there.example"
GOOD = AUTHORITY.issue_cert(MX)
OTHER_NAME = AUTHORITY.issue_cert("other.example")
UNKNOWN = STRANGER.issue_cert(MX)
EXPIRED = AUTHORITY.issue_cert(MX, not_after=datetime(2024, 1, 1))
POLICY = "version: STSv1\nmode: {mode}\nmx: {mx}\nmax_age: 604800\n"
WITH_TLS = Personality(starttls=Starttls.WORKS)
REQUIRETLS = Personality(starttls=Starttls.WORKS, extensions=(*EXTENSIONS, "REQUIRETLS"))


class Held(RelayHouse):
    """There is one host; `there.example` may be signed and have policies."""

    def __init__(self, folder, world, **options) -> None:
        super().__init__(folder, world, **options)
        self.relay._contexts = trusting()

    def sts(self, mode: str = "enforce", mx: str = "*.there.example", record: str = "1") -> None:
        self.world.zones.remove("_mta-sts.there.example", "TXT")
        self.world.zones.add("_mta-sts.there.example", "TXT", f'"v=STSv1; id={record}"')
        self.web.put_policy("there.example", POLICY.format(mode=mode, mx=mx))

    def dane(self, *records, host: str = MX) -> None:
        self.world.zones.sign("there.example")
        self.world.zones.remove(f"_25._tcp.{host}", "TLSA")
        for record in records:
            self.world.zones.add(f"_25._tcp.{host}", "TLSA", in_zone(record))

    @property
    def results(self) -> list[tuple[PolicyType, ResultType]]:
        return [(one.policy_type, one.result) for one in self.told]


def held(tmp_path, story, **options):
    async def main(world):
        house = Held(tmp_path, world, **options)
        await story(house)
        house.check()
        house.store.close_now()

    run_virtual(main)


STS, TLSA, NONE = PolicyType.STS, PolicyType.TLSA, PolicyType.NONE
OK = ResultType.SUCCESS


# --- what is recorded where nobody asks ---


@pytest.mark.parametrize(
    ("certificate", "words"),
    [
        (GOOD, "verified"),
        (OTHER_NAME, f"not verified: the peer's certificate is not for {MX}"),
        (EXPIRED, "not verified: the peer's certificate expired at 2024-01-01"),
        (
            UNKNOWN,
            "not verified: the peer's certificate leads to no authority that is trusted here",
        ),
    ],
)
def test_what_a_certificate_is_worth_is_recorded_though_nobody_asked(tmp_path, certificate, words):
    async def story(house):
        await house.host(WITH_TLS, tls=serving(certificate))
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]
        (attempt,) = house.attempts(message)
        assert attempt.tls_policy == "opportunistic"
        assert attempt.certificate == words
        assert house.results == [(NONE, OK)]

    held(tmp_path, story)


def test_plaintext_is_recorded_as_such(tmp_path):
    async def story(house):
        await house.host()
        message = house.accept("bob@there.example")
        await house.run_for(10)
        (attempt,) = house.attempts(message)
        assert (attempt.tls, attempt.tls_policy, attempt.certificate) == ("", "opportunistic", "")
        assert house.results == [(NONE, ResultType.STARTTLS_NOT_SUPPORTED)]

    held(tmp_path, story)


# --- DANE ---


@pytest.mark.parametrize("certificate", [GOOD, OTHER_NAME, EXPIRED, UNKNOWN])
def test_a_matching_key_is_enough_for_dane(tmp_path, certificate):
    async def story(house):
        peer = await house.host(WITH_TLS, tls=serving(certificate))
        house.dane(tlsa_3_1_1(certificate))
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]
        assert peer.messages[0].is_tls
        (attempt,) = house.attempts(message)
        assert attempt.tls_policy == "dane"
        assert attempt.certificate.startswith("verified by DANE (3 1 1 ")
        (told,) = house.told
        assert (told.policy_type, told.result) == (TLSA, OK)
        assert (told.domain, told.policy_domain) == ("there.example", MX)
        assert told.policy_strings[0].startswith("3 1 1 ")
        assert (told.mx_host, told.receiving_ip) == (MX, "198.51.100.1")
        assert house.relay.counts.secured == {"dane": 1}

    held(tmp_path, story)


def test_an_authority_in_the_dns_is_enough_for_dane(tmp_path):
    async def story(house):
        await house.host(WITH_TLS, tls=serving(UNKNOWN, with_root=STRANGER))
        house.dane(tlsa_2_0_1(STRANGER))
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]

    held(tmp_path, story)


def test_a_key_that_does_not_match_defers_and_is_told(tmp_path):
    async def story(house):
        peer = await house.host(WITH_TLS, tls=serving(GOOD))
        house.dane(tlsa_3_1_1(UNKNOWN))
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.QUEUED]
        assert not peer.messages and b"MAIL" not in b" ".join(peer.commands)
        assert "matches none of its TLSA records (TLS policy: dane)" in house.last_reply(message)
        (attempt,) = house.attempts(message)
        assert [one.step for one in attempt.exchanges] == ["tls"]
        assert set(house.results) == {(TLSA, ResultType.CERTIFICATE_NOT_TRUSTED)}
        house.dane(tlsa_3_1_1(GOOD))
        await house.run_for(3600)
        assert house.states(message) == [State.RELAYED]

    held(tmp_path, story)


# F28, RFC 7672 §2.2: nothing falls back to plaintext under a policy
@pytest.mark.parametrize(
    ("starttls", "result"),
    [
        (Starttls.ABSENT, ResultType.STARTTLS_NOT_SUPPORTED),
        (Starttls.REFUSED, ResultType.STARTTLS_NOT_SUPPORTED),
        (Starttls.ABORTED, ResultType.VALIDATION_FAILURE),
        (Starttls.GARBAGE, ResultType.VALIDATION_FAILURE),
        (Starttls.INJECTED, None),
    ],
)
@pytest.mark.parametrize("kind", ["dane", "dane without usable", "mta-sts", "both"])
def test_a_stripped_or_broken_starttls_is_caught(tmp_path, kind, starttls, result):
    async def story(house):
        peer = await house.host(Personality(starttls=starttls), tls=serving(GOOD))
        if kind != "mta-sts":
            record = tlsa_3_1_1(GOOD)
            usage = 0 if kind == "dane without usable" else 3
            house.dane(type(record)(usage, 1, 1, record.data))
        if kind in ("mta-sts", "both"):
            house.sts()
        message = house.accept("bob@there.example")
        await house.run_for(60)
        assert house.states(message) == [State.QUEUED]
        assert not peer.messages
        kinds = {"mta-sts": [STS], "both": [TLSA, STS]}.get(kind, [TLSA])
        expected = {(one, result) for one in kinds} if result is not None else set()
        assert set(house.results) == expected
        peer.personality = WITH_TLS
        await house.run_for(3600)
        assert house.states(message) == [State.RELAYED]
        assert peer.messages[0].is_tls

    held(tmp_path, story)


# F28: TLS older than 1.2
@pytest.mark.parametrize("kind", ["none", "dane", "mta-sts"])
def test_old_tls_is_as_good_as_none(tmp_path, kind):
    async def story(house):
        peer = await house.host(WITH_TLS, tls=old_tls(GOOD))
        if kind == "dane":
            house.dane(tlsa_3_1_1(GOOD))
        elif kind == "mta-sts":
            house.sts()
        message = house.accept("bob@there.example")
        await house.run_for(30)
        if kind == "none":
            assert house.states(message) == [State.RELAYED]
            assert not peer.messages[0].is_tls
        else:
            assert house.states(message) == [State.QUEUED]
        assert {result for _, result in house.results} == {ResultType.VALIDATION_FAILURE}

    held(tmp_path, story)


def test_records_that_are_all_unusable_ask_for_any_certificate(tmp_path):  # RFC 7672 §2.2
    async def story(house):
        peer = await house.host(WITH_TLS, tls=serving(UNKNOWN))
        record = tlsa_3_1_1(GOOD)
        house.dane(type(record)(1, 1, 1, record.data))
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]
        assert peer.messages[0].is_tls
        assert house.results == [(TLSA, ResultType.TLSA_INVALID)]

    held(tmp_path, story)


# RFC 7672 §2.1.2
@pytest.mark.parametrize("fault", [DnsFault.SERVFAIL, DnsFault.TIMEOUT, DnsFault.REFUSED])
def test_a_question_for_records_that_fails_defers(tmp_path, fault):
    async def story(house):
        peer = await house.host(WITH_TLS, tls=serving(GOOD))
        house.dane(tlsa_3_1_1(GOOD))
        house.world.zones.fault(f"_25._tcp.{MX}", fault)
        message = house.accept("bob@there.example")
        await house.run_for(30)
        assert house.states(message) == [State.QUEUED]
        assert not peer.counts["connections"]
        assert "TLSA" in house.last_reply(message)
        assert set(house.results) == {(TLSA, ResultType.DNSSEC_INVALID)}
        house.world.zones.heal(f"_25._tcp.{MX}")
        await house.run_for(3600)
        assert house.states(message) == [State.RELAYED]

    held(tmp_path, story)


def test_the_next_host_has_the_mail_when_the_first_fails_its_policy(tmp_path):  # RFC 7672 §2.2
    async def story(house):
        first = await house.host(WITH_TLS, tls=serving(UNKNOWN))
        second = await house.host(
            WITH_TLS, tls=serving(AUTHORITY.issue_cert("mx2.there.example")), preference=20
        )
        house.dane(tlsa_3_1_1(GOOD))
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]
        assert not first.messages and len(second.messages) == 1

    held(tmp_path, story)


# --- MTA-STS ---


def test_an_enforced_policy_that_holds_delivers(tmp_path):
    async def story(house):
        await house.host(WITH_TLS, tls=serving(GOOD))
        house.sts()
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]
        (attempt,) = house.attempts(message)
        assert (attempt.tls_policy, attempt.certificate) == ("mta-sts", "verified")
        (told,) = house.told
        assert (told.policy_type, told.result, told.policy_domain) == (STS, OK, "there.example")
        assert told.policy_strings[:2] == ("version: STSv1", "mode: enforce")
        assert told.mx_patterns == ("*.there.example",)
        assert house.relay.counts.secured == {"mta-sts": 1}

    held(tmp_path, story)


@pytest.mark.parametrize(
    ("certificate", "result"),
    [
        (OTHER_NAME, ResultType.CERTIFICATE_HOST_MISMATCH),
        (EXPIRED, ResultType.CERTIFICATE_EXPIRED),
        (UNKNOWN, ResultType.CERTIFICATE_NOT_TRUSTED),
    ],
)
@pytest.mark.parametrize("mode", ["enforce", "testing"])
def test_a_wrong_certificate_defers_where_enforced_and_is_told(  # F28
    tmp_path, mode, certificate, result
):
    async def story(house):
        peer = await house.host(WITH_TLS, tls=serving(certificate))
        house.sts(mode)
        message = house.accept("bob@there.example")
        await house.run_for(10)
        expected = State.QUEUED if mode == "enforce" else State.RELAYED
        assert house.states(message) == [expected]
        assert len(peer.messages) == (mode == "testing")
        assert set(house.results) == {(STS, result)}
        assert all(one.reason and one.receiving_ip for one in house.told)
        if mode == "enforce":
            assert "(TLS policy: mta-sts)" in house.last_reply(message)
            (row,) = house.recipients(message)
            assert row.attempts == 1

    held(tmp_path, story)


def test_testing_still_falls_back_to_plaintext(tmp_path):  # RFC 8461 §5
    async def story(house):
        peer = await house.host(Personality(starttls=Starttls.GARBAGE))
        house.sts("testing")
        message = house.accept("bob@there.example")
        await house.run_for(30)
        assert house.states(message) == [State.RELAYED]
        assert not peer.messages[0].is_tls
        assert house.results == [(STS, ResultType.VALIDATION_FAILURE)]

    held(tmp_path, story)


def test_a_host_that_the_policy_does_not_name_gets_nothing(tmp_path):  # RFC 8461 §8.4
    async def story(house):
        named = "mx2.there.example"
        first = await house.host(WITH_TLS, tls=serving(GOOD))
        second = await house.host(WITH_TLS, tls=serving(AUTHORITY.issue_cert(named)), preference=20)
        house.sts(mx=named)
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]
        assert not first.counts["connections"] and len(second.messages) == 1
        assert house.results == [(STS, ResultType.CERTIFICATE_HOST_MISMATCH), (STS, OK)]

    held(tmp_path, story)


def test_a_policy_may_be_mended_while_mail_waits(tmp_path):  # RFC 8461 §5
    async def story(house):
        await house.host(WITH_TLS, tls=serving(GOOD))
        house.sts(mx="old.there.example")
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert "does not name this host" in house.last_reply(message)
        house.sts(record="2")
        await house.run_for(3600)
        assert house.states(message) == [State.RELAYED]

    held(tmp_path, story)


def test_mail_goes_on_when_no_policy_can_be_had(tmp_path):  # RFC 8461 §3.3
    async def story(house):
        await house.host(WITH_TLS, tls=serving(UNKNOWN))
        house.sts()
        house.web.pages.clear()
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]
        assert house.results == [(STS, ResultType.STS_POLICY_FETCH_ERROR), (NONE, OK)]

    held(tmp_path, story)


def test_a_policy_that_is_malformed_is_as_good_as_none(tmp_path):  # H47
    async def story(house):
        await house.host(WITH_TLS, tls=serving(UNKNOWN))
        house.sts(mx="*.*.com")
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]
        assert house.results[0] == (STS, ResultType.STS_POLICY_INVALID)

    held(tmp_path, story)


def test_a_slow_policy_host_delays_mail_by_its_deadline_only(tmp_path):
    async def story(house):
        peer = await house.host(WITH_TLS, tls=serving(UNKNOWN))
        house.sts()
        (url,) = house.web.pages
        house.web.delays_s[url] = 50.0
        house.accept("bob@there.example")
        await house.run_for(15)
        assert len(peer.messages) == 1

    held(tmp_path, story)


# RFC 8461 §2
def test_one_policy_that_holds_does_not_excuse_the_other(tmp_path):
    async def story(house):
        peer = await house.host(WITH_TLS, tls=serving(UNKNOWN))
        house.dane(tlsa_3_1_1(UNKNOWN))
        house.sts()
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.QUEUED]
        peer.tls = serving(GOOD)
        await house.run_for(600)
        assert house.states(message) == [State.QUEUED]
        house.dane(tlsa_3_1_1(GOOD))
        await house.run_for(3600)
        assert house.states(message) == [State.RELAYED]
        assert house.results[-2:] == [(TLSA, OK), (STS, OK)]

    held(tmp_path, story)


# --- the config ---


def policies(tls: Tls, **more):
    one = TlsPolicy(domain="there.example", tls=tls, **more)
    return msgspec.structs.replace(ROUTES, tls=TlsOptions(policies=(one,)))


@pytest.mark.parametrize(
    ("tls", "certificate", "is_sent"),
    [
        (Tls.OFF, GOOD, True),
        (Tls.REQUIRED, UNKNOWN, True),
        (Tls.VERIFIED, GOOD, True),
        (Tls.VERIFIED, UNKNOWN, False),
        (Tls.VERIFIED, OTHER_NAME, False),
        (Tls.VERIFIED, EXPIRED, False),
        (Tls.DANE, GOOD, False),
    ],
)
def test_a_persons_policy_holds(tmp_path, tls, certificate, is_sent):
    async def story(house):
        peer = await house.host(WITH_TLS, tls=serving(certificate))
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED if is_sent else State.QUEUED]
        if is_sent:
            assert peer.messages[0].is_tls is (tls is not Tls.OFF)
            assert house.attempts(message)[0].tls_policy == tls.value

    held(tmp_path, story, routes=policies(tls))


@pytest.mark.parametrize("names", [("other.example",), ("*.example", "nobody.example")])
def test_names_that_a_person_gives_are_looked_for(tmp_path, names):
    async def story(house):
        await house.host(WITH_TLS, tls=serving(OTHER_NAME))
        message = house.accept("bob@there.example")
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]

    held(tmp_path, story, routes=policies(Tls.VERIFIED, names=names))


# RFC 8460 §1.1
def test_a_smart_host_is_told_of_itself_and_an_address_of_nothing(tmp_path):
    async def story(house):
        await house.host(WITH_TLS, tls=serving(GOOD))
        house.accept("bob@far.example")
        await house.run_for(10)
        assert [(one.domain, one.result) for one in house.told] == [(MX, OK)]

    smart = SmartHost(host=MX, port=25, tls=Tls.VERIFIED)
    held(tmp_path / "1", story, routes=msgspec.structs.replace(ROUTES, smart_host=smart))

    async def to_an_address(house):
        peer = await house.host(WITH_TLS, tls=serving(GOOD))
        house.accept(f"bob@[{peer.address[0]}]")
        await house.run_for(10)
        assert len(peer.messages) == 1 and not house.told

    held(tmp_path / "2", to_an_address)


# --- what senders demand (RFC 8689) ---


def test_requiretls_goes_along_to_a_host_that_offers_it(tmp_path):
    async def story(house):
        peer = await house.host(REQUIRETLS, tls=serving(GOOD))
        house.world.zones.sign("there.example")
        message = house.accept("bob@there.example", tls_demand=TlsDemand.REQUIRED)
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]
        assert peer.messages[0].mail.endswith(b" REQUIRETLS") and peer.messages[0].is_tls
        assert house.attempts(message)[0].tls_policy == "requiretls"

    held(tmp_path, story)


def test_requiretls_is_content_with_dane_and_with_mta_sts(tmp_path):
    async def story(house):
        peer = await house.host(REQUIRETLS, tls=serving(UNKNOWN))
        house.dane(tlsa_3_1_1(UNKNOWN))
        first = house.accept("bob@there.example", tls_demand=TlsDemand.REQUIRED)
        await house.run_for(30)
        assert house.states(first) == [State.RELAYED]
        house.world.zones.sign("there.example", is_signed=False)
        peer.tls = serving(GOOD)
        house.sts("testing")
        second = house.accept("bob@there.example", tls_demand=TlsDemand.REQUIRED)
        await house.run_for(30)
        assert house.states(second) == [State.RELAYED]

    held(tmp_path, story)


@pytest.mark.parametrize(
    ("personality", "certificate", "is_signed", "status"),
    [
        (WITH_TLS, GOOD, True, b"5.7.30"),
        (REQUIRETLS, GOOD, False, b"5.7.10"),
        (REQUIRETLS, UNKNOWN, True, b"5.7.10"),
        (REQUIRETLS, OTHER_NAME, True, b"5.7.10"),
        (REQUIRETLS, EXPIRED, True, b"5.7.10"),
        (Personality(extensions=(*EXTENSIONS, "REQUIRETLS")), GOOD, True, b"5.7.10"),
    ],
)
def test_requiretls_that_cannot_be_had_is_returned_at_once_and_protected(
    tmp_path, personality, certificate, is_signed, status
):
    async def story(house):
        peer = await house.host(personality, tls=serving(certificate))
        sender = await house.host(
            REQUIRETLS, tls=serving(AUTHORITY.issue_cert("mx2.here.example")), domain="here.example"
        )
        house.world.zones.sign("there.example", is_signed=is_signed)
        message = house.accept("bob@there.example", tls_demand=TlsDemand.REQUIRED)
        await house.run_for(10)
        assert house.states(message) == [State.RETURNED]
        assert not peer.messages
        (notice,) = sender.messages
        assert b"Status: " + status in notice.content
        assert b"Hello." not in notice.content, "RET=HDRS, RFC 8689 §5"
        assert notice.mail.startswith(b"FROM:<>") and notice.mail.endswith(b" REQUIRETLS")

    held(tmp_path, story)


@pytest.mark.parametrize("personality", [WITH_TLS, p.ACCEPTS])
def test_a_protected_notice_goes_without_rather_than_not_at_all(tmp_path, personality):
    async def story(house):  # RFC 8689 §5
        await house.host(WITH_TLS, tls=serving(GOOD))
        sender = await house.host(personality, tls=serving(UNKNOWN), domain="here.example")
        house.world.zones.sign("there.example")
        house.accept("bob@there.example", tls_demand=TlsDemand.REQUIRED)
        await house.run_for(10)
        (notice,) = sender.messages
        assert b"REQUIRETLS" not in notice.mail

    held(tmp_path, story)


def test_requiretls_waits_for_a_host_that_is_away(tmp_path):
    async def story(house):
        peer = await house.host(REQUIRETLS, tls=serving(GOOD))
        house.world.zones.sign("there.example")
        peer.personality = Personality(at={p.Stage.CONNECT: p.TEMPORARY})
        message = house.accept("bob@there.example", tls_demand=TlsDemand.REQUIRED)
        await house.run_for(30)
        assert house.states(message) == [State.QUEUED]
        peer.personality = REQUIRETLS
        await house.run_for(3600)
        assert house.states(message) == [State.RELAYED]

    held(tmp_path, story)


def test_requiretls_tries_every_host(tmp_path):  # RFC 8689 §4.2.1
    async def story(house):
        first = await house.host(WITH_TLS, tls=serving(GOOD))
        name = "mx2.there.example"
        second = await house.host(
            REQUIRETLS, tls=serving(AUTHORITY.issue_cert(name)), preference=20
        )
        house.world.zones.sign("there.example")
        message = house.accept("bob@there.example", tls_demand=TlsDemand.REQUIRED)
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]
        assert not first.messages and len(second.messages) == 1

    held(tmp_path, story)


def test_sessions_are_not_shared_between_demands(tmp_path):
    async def story(house):
        peer = await house.host(REQUIRETLS, tls=serving(UNKNOWN))
        house.world.zones.sign("there.example")
        await house.host(domain="here.example")
        plain = house.accept("bob@there.example")
        strict = house.accept("bob@there.example", tls_demand=TlsDemand.REQUIRED)
        await house.run_for(10)
        assert house.states(plain) == [State.RELAYED]
        assert house.states(strict) == [State.RETURNED]
        assert b"REQUIRETLS" not in peer.messages[0].mail

    held(tmp_path, story)


# RFC 8689 §3: what the destination publishes is set aside, also while it is held to be dead for it
@pytest.mark.parametrize("kind", ["dane", "mta-sts"])
def test_tls_required_no_gets_through_where_others_wait(tmp_path, kind):
    async def story(house):
        peer = await house.host(WITH_TLS, tls=serving(UNKNOWN))
        if kind == "dane":
            house.dane(tlsa_3_1_1(GOOD))
        else:
            house.sts()
        strict = house.accept("bob@there.example")
        await house.run_for(30)
        assert house.states(strict) == [State.QUEUED]
        loose = house.accept("bob@there.example", tls_demand=TlsDemand.OPTIONAL)
        await house.run_for(10)
        assert house.states(loose) == [State.RELAYED]
        assert house.states(strict) == [State.QUEUED]
        assert peer.messages[0].is_tls, "TLS is used where it can be had"
        assert house.attempts(loose)[0].tls_policy == "tls-required: no"

    held(tmp_path, story)


def test_tls_required_no_goes_in_plaintext_too(tmp_path):
    async def story(house):
        peer = await house.host(Personality(starttls=Starttls.GARBAGE))
        house.dane(tlsa_3_1_1(GOOD))
        message = house.accept("bob@there.example", tls_demand=TlsDemand.OPTIONAL)
        await house.run_for(30)
        assert house.states(message) == [State.RELAYED]
        assert not peer.messages[0].is_tls

    held(tmp_path, story)


def test_a_null_reverse_path_has_no_demand_of_its_own(tmp_path):
    async def story(house):
        await house.host(REQUIRETLS, tls=serving(UNKNOWN))
        message = house.accept(
            "bob@there.example", reverse_path=None, tls_demand=TlsDemand.REQUIRED
        )
        await house.run_for(10)
        assert house.states(message) == [State.RELAYED]

    held(tmp_path, story)
