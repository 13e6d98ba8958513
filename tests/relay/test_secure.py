"""What TLS has to be with each host: DNS, policies, config and demands put together."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from posthouse.kernel.ports import RecordType, TlsaRecord
from posthouse.kernel.tls_result import PolicyType, ResultType
from posthouse.relay.mta_sts import StsFound
from posthouse.relay.plan import (
    Demand,
    HostPolicy,
    Kind,
    Route,
    RouteOptions,
    RoutePlan,
    SmartHost,
    Tls,
    TlsOptions,
    TlsPolicy,
)
from posthouse.relay.route import plan_route
from posthouse.relay.sts_policy import Mode, StsPolicy
from posthouse.relay.tls_result import StsTrouble
from posthouse.sim.chance import SeededChance
from tests.relay.records import FAILS, Proven

DEFAULT = TlsOptions()
DOMAIN, MX = "there.example", "mx.there.example"
RECORD = TlsaRecord(3, 1, 1, bytes(32))
UNUSABLE = TlsaRecord(0, 1, 1, bytes(32))
ENFORCED = StsPolicy(mode=Mode.ENFORCE, max_age_s=86400, mx=("*.there.example",))
TESTING = msgspec.structs.replace(ENFORCED, mode=Mode.TESTING)
ELSEWHERE = msgspec.structs.replace(ENFORCED, mx=("mx.elsewhere.example",))


class Sts:
    def __init__(self, policy: StsPolicy | None = None, trouble: StsTrouble | None = None) -> None:
        self.found = StsFound(policy=policy, trouble=trouble)
        self.asked: list[str] = []

    async def policy_for(self, domain: str) -> StsFound:
        self.asked.append(domain)
        return self.found


def zone(*, is_signed: bool = True) -> Proven:
    records = Proven().mx(DOMAIN, MX).at(MX, "8.8.8.8")
    return records.sign(DOMAIN) if is_signed else records


def planned(
    records: Proven,
    sts: Sts | None = None,
    *,
    domain: str = DOMAIN,
    demand: Demand = Demand.NONE,
    route: str | None = None,
    tls: TlsOptions = DEFAULT,
    **options: object,
) -> RoutePlan:
    return asyncio.run(
        plan_route(
            domain,
            route=route,
            resolver=records,
            chance=SeededChance(1),
            options=RouteOptions(tls=tls, **options),
            demand=demand,
            policies=sts,
        )
    )


def policy(*args, **options) -> HostPolicy:
    (host,) = planned(*args, **options).hosts
    return host.policy


# --- DANE ---


def test_without_policies_tls_is_opportunistic() -> None:
    found = policy(zone(is_signed=False), Sts())
    assert (found.tls, found.words, found.refusal) == (Tls.OPPORTUNISTIC, "opportunistic", None)
    assert found.sni == MX and found.allows_plaintext


def test_a_proven_record_makes_dane() -> None:
    found = policy(zone().tlsa(MX, RECORD))
    assert (found.tls, found.tlsa, found.words) == (Tls.DANE, (RECORD,), "dane")
    assert found.tlsa_names == (MX, DOMAIN)  # RFC 7672 §3.2.2
    assert not found.allows_plaintext


# RFC 7672 §2.2: nothing is asked where nothing could be proven
@pytest.mark.parametrize("signed", [(), (DOMAIN,), ("host.example",)])
def test_records_are_looked_for_only_where_mx_and_addresses_are_proven(signed) -> None:
    records = Proven().mx(DOMAIN, "mx.host.example").at("mx.host.example", "8.8.8.8")
    records.tlsa("mx.host.example", RECORD).sign(*signed)
    found = policy(records)
    assert (found.tls, found.tlsa_base) == (Tls.OPPORTUNISTIC, "")
    assert not [kind for _, kind in records.asked if kind == "TLSA"]
    records.sign(DOMAIN, "host.example")
    assert policy(records).tls is Tls.DANE


def test_an_unproven_record_in_a_proven_place_is_none() -> None:
    records = zone().alias(f"_25._tcp.{MX}", "_dane.unsigned.example")
    records.put("_dane.unsigned.example", RecordType.TLSA, (RECORD,))
    assert policy(records).tls is Tls.OPPORTUNISTIC
    assert policy(records.sign("unsigned.example")).tls is Tls.DANE


# RFC 7672 §2.1.2
def test_a_question_for_records_that_fails_makes_the_host_unusable() -> None:
    found = policy(zone().fail(f"_25._tcp.{MX}", RecordType.TLSA))
    assert found.refusal is not None
    assert found.refusal.result is ResultType.DNSSEC_INVALID
    assert found.refusal.policy is PolicyType.TLSA
    assert found.refusal.status.startswith("4.") and not found.refusal.is_permanent


# RFC 7672 §2.2
def test_records_that_are_all_unusable_ask_for_tls_without_authentication() -> None:
    found = policy(zone().tlsa(MX, UNUSABLE))
    assert (found.tls, found.tlsa, found.tlsa_base) == (Tls.REQUIRED, (), MX)
    assert found.words == "dane without a usable record"


def test_one_host_with_and_one_without_records_keep_their_order() -> None:  # RFC 7672 §2.2.1
    records = zone().mx(DOMAIN, MX, "mx2.there.example").at("mx2.there.example", "8.8.4.4")
    plan = planned(records.tlsa("mx2.there.example", RECORD))
    assert [(host.name, host.policy.tls) for host in plan.hosts] == [
        (MX, Tls.OPPORTUNISTIC),
        ("mx2.there.example", Tls.DANE),
    ]


def test_the_port_belongs_to_the_name() -> None:
    records = zone().tlsa(MX, RECORD, port=2525)
    assert policy(records).tls is Tls.OPPORTUNISTIC
    assert policy(records, mx_port=2525).tls is Tls.DANE


# RFC 7672 §2.2.2, §2.2.3: aliases
def test_the_expanded_name_goes_before_the_one_asked_for() -> None:
    records = Proven().mx(DOMAIN, MX).alias(MX, "real.host.example").sign(DOMAIN, "host.example")
    records.at("real.host.example", "8.8.8.8").tlsa(MX, RECORD)
    found = policy(records)
    assert (found.tlsa_base, found.sni) == (MX, MX)
    found = policy(records.tlsa("real.host.example", RECORD))
    assert (found.tlsa_base, found.sni) == ("real.host.example", "real.host.example")
    assert found.tlsa_names == ("real.host.example", DOMAIN)


def test_a_proven_alias_into_an_unsigned_zone_has_its_own_records() -> None:
    records = Proven().mx(DOMAIN, MX).alias(MX, "real.host.example").sign(DOMAIN)
    records.at("real.host.example", "8.8.8.8").tlsa(MX, RECORD)
    records.tlsa("real.host.example", RECORD)
    assert policy(records).tlsa_base == MX


class NoCname(Proven):
    async def resolve(self, name: str, record_type: RecordType):
        return (
            FAILS if record_type is RecordType.CNAME else await super().resolve(name, record_type)
        )


def test_an_alias_whose_proof_cannot_be_asked_for_is_unusable() -> None:  # RFC 7672 §2.1.2
    records = NoCname().mx(DOMAIN, MX).alias(MX, "real.host.example").sign(DOMAIN)
    records.at("real.host.example", "8.8.8.8")
    found = policy(records)
    assert found.refusal is not None and found.refusal.result is ResultType.DNSSEC_INVALID


def test_an_unproven_alias_has_none() -> None:
    records = Proven().mx(DOMAIN, "alias.unsigned.example").sign(DOMAIN, "host.example")
    records.alias("alias.unsigned.example", "real.host.example")
    records.at("real.host.example", "8.8.8.8").tlsa("real.host.example", RECORD)
    records.tlsa("alias.unsigned.example", RECORD)
    assert policy(records).tls is Tls.OPPORTUNISTIC


def test_the_domain_behind_an_alias_is_a_reference_too() -> None:  # RFC 7672 §3.2.2
    records = Proven().alias("mail.example", DOMAIN).mx(DOMAIN, MX).at(MX, "8.8.8.8")
    records.tlsa(MX, RECORD).sign("mail.example", DOMAIN)
    found = policy(records, domain="mail.example")
    assert found.tlsa_names == (MX, "mail.example", DOMAIN)


def test_a_domain_without_mx_is_its_own_host() -> None:
    records = Proven().at(DOMAIN, "8.8.8.8").tlsa(DOMAIN, RECORD).sign(DOMAIN)
    plan = planned(records)
    assert plan.kind is Kind.IMPLICIT_MX
    assert plan.hosts[0].policy.tlsa_names == (DOMAIN,)


def test_a_literal_has_no_policy() -> None:  # RFC 7672 §2.2, RFC 8461 §3.4
    sts = Sts(ENFORCED)
    found = policy(Proven(), sts, domain="[8.8.8.8]")
    assert (found.tls, found.sni) == (Tls.OPPORTUNISTIC, "")
    assert not sts.asked


def test_dane_can_be_switched_off() -> None:
    records = zone().tlsa(MX, RECORD)
    assert policy(records, tls=TlsOptions(is_dane=False)).tls is Tls.OPPORTUNISTIC


# --- MTA-STS ---


def test_an_enforced_policy_asks_for_the_hosts_verified_name() -> None:
    found = policy(zone(is_signed=False), Sts(ENFORCED))
    assert (found.tls, found.names, found.words) == (Tls.VERIFIED, ((MX,),), "mta-sts")
    assert found.refusal is None


def test_a_host_that_the_policy_does_not_name_is_passed_over() -> None:
    plan = planned(zone(is_signed=False), Sts(ELSEWHERE))
    (host,) = plan.hosts
    assert host.policy.refusal is not None
    assert host.policy.refusal.result is ResultType.CERTIFICATE_HOST_MISMATCH
    assert host.policy.refusal.policy is PolicyType.STS


def test_a_policy_of_testing_changes_nothing_but_the_reports() -> None:
    for sts in (TESTING, msgspec.structs.replace(ELSEWHERE, mode=Mode.TESTING)):
        found = policy(zone(is_signed=False), Sts(sts))
        assert (found.tls, found.sts, found.refusal) == (Tls.OPPORTUNISTIC, sts, None)


def test_the_domain_mail_goes_to_is_asked_and_no_other() -> None:  # RFC 8461 §3.4
    sts = Sts()
    planned(zone(), sts)
    assert sts.asked == [DOMAIN]
    planned(zone(), sts, tls=TlsOptions(is_mta_sts=False))
    assert sts.asked == [DOMAIN]


# RFC 8461 §2: neither overrides the other
def test_dane_and_mta_sts_both_have_to_hold() -> None:
    found = policy(zone().tlsa(MX, RECORD), Sts(ENFORCED))
    assert (found.tls, found.tlsa, found.words) == (Tls.VERIFIED, (RECORD,), "dane, mta-sts")
    assert policy(zone().tlsa(MX, RECORD), Sts(ELSEWHERE)).refusal is not None


def test_a_policy_that_cannot_be_had_is_told_with_the_plan() -> None:
    trouble = StsTrouble(result=ResultType.STS_POLICY_FETCH_ERROR, words="nobody is there")
    plan = planned(zone(), Sts(None, trouble))
    assert plan.sts_trouble == trouble and plan.hosts[0].policy.tls is Tls.OPPORTUNISTIC


# --- the config ---


def configured(tls: Tls, **more) -> TlsOptions:
    return TlsOptions(policies=(TlsPolicy(domain=DOMAIN, tls=tls, **more),))


@pytest.mark.parametrize("tls", [Tls.OFF, Tls.OPPORTUNISTIC, Tls.REQUIRED, Tls.VERIFIED])
def test_a_persons_level_is_the_least(tls: Tls) -> None:
    found = policy(zone(), Sts(), tls=configured(tls))
    assert (found.tls, found.words) == (tls, tls.value)
    assert policy(zone(), Sts(), tls=TlsOptions(tls=tls)).tls is tls


def test_what_the_domain_publishes_comes_on_top() -> None:
    assert policy(zone().tlsa(MX, RECORD), tls=configured(Tls.REQUIRED)).tls is Tls.DANE
    found = policy(zone().tlsa(MX, RECORD), tls=configured(Tls.VERIFIED))
    assert (found.tls, found.tlsa) == (Tls.VERIFIED, (RECORD,))


def test_a_person_may_set_aside_what_the_domain_publishes() -> None:
    sts = Sts(ELSEWHERE)
    options = configured(Tls.REQUIRED, uses_published=False)
    found = policy(zone().tlsa(MX, RECORD), sts, tls=options)
    assert (found.tls, found.tlsa, found.refusal) == (Tls.REQUIRED, (), None)
    assert not sts.asked
    assert policy(zone().tlsa(MX, RECORD), Sts(ELSEWHERE), tls=configured(Tls.OFF)).tls is Tls.OFF


# RFC 7672 §6
@pytest.mark.parametrize(
    "records", [zone(), zone().tlsa(MX, UNUSABLE), zone(is_signed=False).tlsa(MX, RECORD)]
)
def test_dane_that_a_person_asks_for_defers_where_there_is_none(records: Proven) -> None:
    found = policy(records, tls=configured(Tls.DANE))
    assert found.refusal is not None
    assert found.refusal.result is ResultType.DANE_REQUIRED


def test_dane_that_a_person_asks_for_is_used() -> None:
    found = policy(zone().tlsa(MX, RECORD), tls=configured(Tls.DANE))
    assert (found.tls, found.words, found.refusal) == (Tls.DANE, "dane", None)


def test_names_that_a_person_gives_count_in_place_of_the_hosts() -> None:
    options = configured(Tls.VERIFIED, names=("there.example", "*.host.example"))
    assert policy(zone(), tls=options).names == (("there.example", "*.host.example"),)
    found = policy(zone(), Sts(ENFORCED), tls=options)
    assert found.names == (("there.example", "*.host.example"), (MX,)), "both have to hold"


def test_the_first_policy_that_matches_counts() -> None:
    options = TlsOptions(
        policies=(
            TlsPolicy(domain="*.example", tls=Tls.REQUIRED),
            TlsPolicy(domain=DOMAIN, tls=Tls.OFF),
        )
    )
    assert policy(zone(), tls=options).tls is Tls.REQUIRED


# --- hosts that a person named ---


def test_a_named_host_is_held_to_its_own_records() -> None:  # RFC 7672 §2.2.2
    records = Proven().at("relay.isp.example", "8.8.8.8").sign("isp.example")
    records.tlsa("relay.isp.example", RECORD, port=587)
    smart = SmartHost(host="relay.isp.example", tls=Tls.REQUIRED)
    found = policy(records, smart_host=smart)
    assert (found.tls, found.tlsa_names) == (Tls.DANE, ("relay.isp.example",))
    smart = SmartHost(host="relay.isp.example", tls=Tls.VERIFIED)
    found = policy(records, smart_host=smart)
    assert (found.tls, found.tlsa) == (Tls.VERIFIED, ()), "what a person says goes before"


def test_a_named_host_is_its_own_policy_domain() -> None:  # RFC 8461 §3.4
    sts = Sts(StsPolicy(mode=Mode.ENFORCE, max_age_s=1, mx=("relay.isp.example",)))
    records = Proven().at("relay.isp.example", "8.8.8.8")
    route = Route(domain=DOMAIN, hosts=("relay.isp.example",))
    found = policy(records, sts, routes=(route,))
    assert sts.asked == ["relay.isp.example"]
    assert (found.tls, found.refusal) == (Tls.VERIFIED, None)


def test_a_reroute_is_a_persons_word_against_the_domains_hosts() -> None:
    sts = Sts(ENFORCED)
    records = Proven().at("other.example", "8.8.8.8")
    found = policy(records, sts, route="other.example:25")
    assert (found.tls, found.refusal) == (Tls.OPPORTUNISTIC, None)
    assert policy(records, sts, route="other.example:25", tls=configured(Tls.REQUIRED)).tls is (
        Tls.REQUIRED
    )


# --- what messages demand (RFC 8689) ---

REQUIRETLS = Demand.REQUIRETLS


@pytest.mark.parametrize(
    ("records", "sts"),
    [
        (zone(), Sts()),
        (zone(is_signed=False), Sts(ENFORCED)),
        (zone(is_signed=False), Sts(TESTING)),
    ],
)
def test_requiretls_wants_a_proven_host_and_its_verified_name(records, sts) -> None:
    found = policy(records, sts, demand=REQUIRETLS)
    assert (found.tls, found.names, found.is_requiretls) == (Tls.VERIFIED, ((MX,),), True)
    assert found.refusal is None


def test_requiretls_is_content_with_dane() -> None:
    found = policy(zone().tlsa(MX, RECORD), demand=REQUIRETLS)
    assert (found.tls, found.refusal, found.words) == (Tls.DANE, None, "requiretls, dane")


@pytest.mark.parametrize(
    "sts", [None, Sts(), Sts(msgspec.structs.replace(ELSEWHERE, mode=Mode.TESTING))]
)
def test_requiretls_fails_for_good_where_nothing_proves_the_host(sts) -> None:
    found = policy(zone(is_signed=False), sts, demand=REQUIRETLS)
    assert found.refusal is not None and found.refusal.is_permanent
    assert found.refusal.status == "5.7.10" and found.refusal.policy is None


def test_requiretls_waits_where_the_proof_cannot_be_had_now() -> None:
    trouble = StsTrouble(result=ResultType.STS_POLICY_FETCH_ERROR, words="nobody is there")
    found = policy(zone(is_signed=False), Sts(None, trouble), demand=REQUIRETLS)
    assert found.refusal is not None and not found.refusal.is_permanent


def test_requiretls_takes_a_domain_without_mx_by_its_own_name() -> None:
    found = policy(Proven().at(DOMAIN, "8.8.8.8"), demand=REQUIRETLS)
    assert (found.tls, found.names, found.refusal) == (Tls.VERIFIED, ((DOMAIN,),), None)


def test_requiretls_cannot_go_to_an_address() -> None:
    found = policy(Proven(), demand=REQUIRETLS, domain="[8.8.8.8]")
    assert found.refusal is not None and found.refusal.is_permanent


def test_tls_optional_sets_aside_what_the_domain_publishes() -> None:
    sts = Sts(ELSEWHERE)
    found = policy(zone().tlsa(MX, RECORD), sts, demand=Demand.TLS_OPTIONAL)
    assert (found.tls, found.tlsa, found.refusal) == (Tls.OPPORTUNISTIC, (), None)
    assert not sts.asked and found.words == "tls-required: no"


def test_tls_optional_does_not_set_aside_what_a_person_here_asks() -> None:
    demand = Demand.TLS_OPTIONAL
    assert policy(zone(), demand=demand, tls=configured(Tls.REQUIRED)).tls is Tls.REQUIRED
    found = policy(zone().tlsa(MX, RECORD), demand=demand, tls=configured(Tls.DANE))
    assert found.tls is Tls.DANE
