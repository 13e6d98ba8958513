"""What is done with a message, from the results of its checks."""

from __future__ import annotations

import ipaddress

import msgspec
import pytest

from posthouse.mailauth.indirect import signs
from posthouse.mailauth.policy import (
    DmarcAction,
    Judgement,
    Override,
    Rules,
    SpfAction,
    Verdict,
    judge,
    trusted_seal,
)
from posthouse.mailauth.results import (
    ArcOutcome,
    Disposition,
    DkimOutcome,
    DmarcOutcome,
    DmarcPolicy,
    Result,
    SpfIdentity,
    SpfOutcome,
)
from posthouse.message.fields import read_section

NO_CHAIN = ArcOutcome(result=Result.NONE)
POLICY = DmarcPolicy(domain="good.example", policy=Disposition.REJECT)


def dmarc(result: Result, requested: Disposition = Disposition.NONE) -> DmarcOutcome:
    return DmarcOutcome(
        result=result, from_domain="good.example", policy=POLICY, requested=requested
    )


NO_POLICY = DmarcOutcome(result=Result.NONE, from_domain="good.example")


def spf(result: Result, explanation: str = "") -> SpfOutcome:
    return SpfOutcome(
        result=result,
        identity=SpfIdentity.MAIL_FROM,
        domain="bad.example",
        sender="x@bad.example",
        explanation=explanation,
    )


def judged(
    rules: Rules | None = None,
    *,
    dmarc: DmarcOutcome = NO_POLICY,
    spf: SpfOutcome | None = None,
    arc: ArcOutcome = NO_CHAIN,
) -> Judgement:
    return judge(rules or Rules(), address="192.0.2.7", spf=spf, arc=arc, dmarc=dmarc)


def chain(*sealers: str, results: tuple[bytes, ...] | None = None) -> ArcOutcome:
    said = tuple(b"x.example; dmarc=pass header.from=good.example" for _ in sealers)
    return ArcOutcome(
        result=Result.PASS, sealers=sealers, results=said if results is None else results
    )


FAIL_REJECT = dmarc(Result.FAIL, Disposition.REJECT)
FAIL_QUARANTINE = dmarc(Result.FAIL, Disposition.QUARANTINE)


@pytest.mark.parametrize(  # RFC 9989 §5.4
    ("requested", "verdict", "disposition"),
    [
        (Disposition.REJECT, Verdict.REFUSE, Disposition.REJECT),
        (Disposition.QUARANTINE, Verdict.JUNK, Disposition.QUARANTINE),
        (Disposition.NONE, Verdict.ACCEPT, Disposition.NONE),
    ],
)
def test_a_failure_ends_as_the_policy_asks(
    requested: Disposition, verdict: Verdict, disposition: Disposition
) -> None:
    found = judged(dmarc=dmarc(Result.FAIL, requested))
    assert (found.verdict, found.disposition, found.override) == (verdict, disposition, None)


def test_a_refusal_names_the_domain_that_asked_for_it_and_is_for_good() -> None:
    reply = judged(dmarc=FAIL_REJECT).reply
    assert reply is not None
    assert (reply.code, reply.status) == (550, "5.7.26")
    assert "good.example" in reply.text


def test_quarantining_in_place_of_refusing_is_an_override() -> None:
    found = judged(Rules(dmarc=DmarcAction.QUARANTINE), dmarc=FAIL_REJECT)
    assert (found.verdict, found.override) == (Verdict.JUNK, Override.LOCAL_POLICY)
    asked = judged(Rules(dmarc=DmarcAction.QUARANTINE), dmarc=FAIL_QUARANTINE)
    assert (asked.verdict, asked.override) == (Verdict.JUNK, None)


def test_what_looks_passed_on_is_junk_and_not_refused() -> None:  # RFC 9989 §7.4
    found = judge(
        Rules(),
        address="192.0.2.7",
        spf=None,
        arc=NO_CHAIN,
        dmarc=FAIL_REJECT,
        indirect="it has a List-Id field",
    )
    assert (found.verdict, found.disposition) == (Verdict.JUNK, Disposition.QUARANTINE)
    assert found.override is Override.MAILING_LIST
    assert "List-Id" in found.why


@pytest.mark.parametrize(
    ("fields", "dkim", "arc", "said"),
    [
        (b"List-Id: <a.example>\r\n", (), NO_CHAIN, "List-Id"),
        (b"Resent-From: a@x.example\r\n", (), NO_CHAIN, "Resent-From"),
        (b"", (), chain("l.example"), "l.example sealed"),
        (b"", (DkimOutcome(result=Result.FAIL, domain="good.example"),), NO_CHAIN, "changed"),
        (b"", (DkimOutcome(result=Result.FAIL, domain="bad.example"),), NO_CHAIN, ""),
        (b"", (DkimOutcome(result=Result.PERMERROR, domain="good.example"),), NO_CHAIN, ""),
        (b"Subject: List-Id\r\n", (), NO_CHAIN, ""),
    ],
)
def test_what_speaks_for_a_list_or_a_forwarder(
    fields: bytes, dkim: tuple[DkimOutcome, ...], arc: ArcOutcome, said: str
) -> None:
    section = read_section(fields + b"From: x@good.example\r\n\r\n")
    found = signs(section, author_domains=("good.example",), dkim=dkim, arc=arc)
    assert said in found
    assert bool(found) is bool(said)


def test_where_policies_are_only_marked_nothing_is_refused() -> None:
    found = judged(Rules(dmarc=DmarcAction.MARK), dmarc=FAIL_REJECT)
    assert (found.verdict, found.override) == (Verdict.ACCEPT, Override.LOCAL_POLICY)


def test_a_trusted_forwarder_is_not_blamed() -> None:
    rules = Rules(forwarders=(ipaddress.ip_network("192.0.2.0/28"),))
    found = judged(rules, dmarc=FAIL_REJECT)
    assert (found.verdict, found.override) == (Verdict.ACCEPT, Override.TRUSTED_FORWARDER)
    elsewhere = msgspec.structs.replace(
        rules, forwarders=(ipaddress.ip_network("198.51.100.0/24"),)
    )
    assert judged(elsewhere, dmarc=FAIL_REJECT).verdict is Verdict.REFUSE


def test_a_trusted_seal_that_says_it_had_passed_is_believed() -> None:  # RFC 8617 §7.2
    rules = Rules(sealers=frozenset({"list.example"}))
    found = judged(rules, dmarc=FAIL_REJECT, arc=chain("list.example"))
    assert (found.verdict, found.override) == (Verdict.ACCEPT, Override.TRUSTED_FORWARDER)


@pytest.mark.parametrize(
    "arc",
    [
        chain("stranger.example"),
        chain("list.example", "stranger.example"),  # the last could have changed anything
        chain("list.example", results=(b"x.example; dmarc=fail header.from=good.example",)),
        chain("list.example", results=(b"x.example; dmarc=pass header.from=other.example",)),
        chain("list.example", results=(b"junk",)),
        msgspec.structs.replace(chain("list.example"), result=Result.FAIL),
    ],
)
def test_no_other_chain_helps(arc: ArcOutcome) -> None:
    sealers = frozenset({"list.example"})
    assert trusted_seal(arc, sealers, "good.example") is None
    assert judged(Rules(sealers=sealers), dmarc=FAIL_REJECT, arc=arc).verdict is Verdict.REFUSE


def test_a_seal_in_the_middle_counts_when_all_after_it_are_trusted() -> None:
    arc = chain(
        "stranger.example",
        "list.example",
        "home.example",
        results=(
            b"x.example; none",
            b"l.example; dmarc=pass header.from=good.example",
            b"h.example; dmarc=fail header.from=good.example",
        ),
    )
    sealers = frozenset({"list.example", "home.example"})
    assert trusted_seal(arc, sealers, "good.example") == "list.example"


def test_what_cannot_be_found_out_is_put_off_where_a_policy_would_matter() -> None:  # P8
    found = judged(dmarc=dmarc(Result.TEMPERROR, Disposition.REJECT))
    assert found.verdict is Verdict.DEFER
    assert found.reply is not None and found.reply.code == 451
    assert judged(dmarc=dmarc(Result.TEMPERROR)).verdict is Verdict.ACCEPT


def test_spf_alone_decides_only_as_told_and_only_without_a_dmarc_policy() -> None:
    failed = spf(Result.FAIL, "see http://bad.example/why")
    assert judged(spf=failed).verdict is Verdict.ACCEPT
    assert judged(Rules(spf=SpfAction.JUNK), spf=failed).verdict is Verdict.JUNK
    refused = judged(Rules(spf=SpfAction.REFUSE), spf=failed)
    assert refused.reply is not None
    assert (refused.reply.code, refused.reply.status) == (550, "5.7.23")  # RFC 7372 §3.2
    assert "see http://bad.example/why" in refused.reply.text
    covered = judged(Rules(spf=SpfAction.REFUSE), spf=failed, dmarc=dmarc(Result.PASS))
    assert covered.verdict is Verdict.ACCEPT
    monitored = judged(Rules(spf=SpfAction.REFUSE), spf=failed, dmarc=dmarc(Result.FAIL))
    assert monitored.verdict is Verdict.REFUSE  # p=none changes nothing, RFC 9989 §5.4
    assert judged(Rules(spf=SpfAction.REFUSE), spf=spf(Result.SOFTFAIL)).verdict is Verdict.ACCEPT


def test_an_author_field_that_names_nobody_is_junk() -> None:  # H33
    nobody = DmarcOutcome(result=Result.PERMERROR, from_domain="", reason="no domain")
    assert judged(dmarc=nobody).verdict is Verdict.JUNK
    assert judged(Rules(dmarc=DmarcAction.MARK), dmarc=nobody).verdict is Verdict.ACCEPT
    own_fault = DmarcOutcome(result=Result.PERMERROR, from_domain="good.example")
    assert judged(dmarc=own_fault).verdict is Verdict.ACCEPT
