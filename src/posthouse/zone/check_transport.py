"""A look at how mail to a domain is carried: MX, addresses, MTA-STS, TLS-RPT, DANE, CAA, DNSSEC."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Sequence
from typing import Final

from posthouse.kernel.ports import (
    CaaRecord,
    DnsAnswer,
    Fetched,
    FetchFailed,
    MxRecord,
    RecordType,
    TlsaRecord,
)
from posthouse.mailauth import questions
from posthouse.message.address import format_address
from posthouse.relay.sts_policy import (
    PATH,
    POLICY_OCTETS_MAX,
    BadPolicy,
    Mode,
    StsPolicy,
    parse_policy,
    record_id,
)
from posthouse.reporting import tlsrpt_record
from posthouse.reporting.uris import MailTo
from posthouse.web.mta_sts import policy_host, policy_text
from posthouse.zone.checked import (
    Checked,
    State,
    is_unanswered,
    listed,
    record_text,
    texts,
    unanswered,
)
from posthouse.zone.dmarc_words import unknown_words
from posthouse.zone.fetching import fetch_advice
from posthouse.zone.policy import own_policy
from posthouse.zone.subject import Subject

FETCH_S: Final = 15.0
ROOT: Final = "."
SERVFAIL: Final = "SERVFAIL"


# --- MX and addresses ---


async def check_mx(subject: Subject) -> list[Checked]:
    answer = await subject.ask(subject.domain, RecordType.MX)
    what = f"MX of {subject.domain}"
    if is_unanswered(answer):
        return [unanswered("mx", what, answer)]
    state, words = judge_mx(answer.records, subject.host)
    return [
        Checked(
            subject="mx",
            what=what,
            state=state,
            found=texts(answer),
            wanted=tuple(r.value for r in subject.wants(subject.domain, RecordType.MX)),
            words=words,
        )
    ]


def judge_mx(records: Sequence[MxRecord], host: str) -> tuple[State, str]:
    hosts = [record.host for record in records]
    if not hosts:
        return State.MISSING, (
            "nothing says where mail for the domain is to be brought; others then try the address"
            " of the domain itself, if it has one"
        )
    if "" in hosts:
        return State.WRONG, (
            "the null MX says that the domain takes no mail at all (RFC 7505), so nobody sends any;"
            " put the wanted record in its place"
        )
    if addresses := [each for each in hosts if _is_address(each)]:
        return State.WRONG, (
            f"an MX must name a host, not an address as {listed(addresses)} is (RFC 5321 §5.1), so"
            f" others find no server there; name {host}"
        )
    if host not in hosts:
        return State.WRONG, (
            f"mail for the domain is brought to {listed(hosts)}, never to this server; name"
            f" {host}, or set node.hostname to the name that the MX has"
        )
    others = [each for each in hosts if each != host]
    if others:
        return State.RIGHT, f"{listed(others)} must take mail for the domain, too"
    return State.RIGHT, "mail for the domain is brought here"


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def check_addresses(subject: Subject) -> list[Checked]:
    four, six = await subject.host_answers()
    what = f"address of {subject.host}"
    if is_unanswered(four) or is_unanswered(six):
        return [unanswered("address", what, four if is_unanswered(four) else six)]
    found = (*four.records, *six.records)
    wanted = tuple(
        record.value
        for kind in (RecordType.A, RecordType.AAAA)
        for record in subject.wants(subject.host, kind)
        if record.is_whole
    )
    owner = four.name if four.records else six.name
    state, words = judge_addresses(
        found,
        wanted,
        is_alias=bool(found) and owner.rstrip(".").lower() != subject.host,
        unreachable=[each for each in found if not subject.is_reachable(each)],
    )
    return [
        Checked(subject="address", what=what, state=state, found=found, wanted=wanted, words=words)
    ]


def judge_addresses(
    found: Sequence[str], wanted: Sequence[str], *, is_alias: bool, unreachable: Sequence[str]
) -> tuple[State, str]:
    if not found:
        return State.MISSING, "the name of this server leads nowhere, so no mail arrives"
    if unreachable:
        return State.WRONG, (
            f"{listed(unreachable)} cannot be reached from the Internet; publish the public address"
        )
    if is_alias:
        return State.WRONG, (
            "the name is a CNAME, and an MX may not lead to one (RFC 5321 §5.1): some hosts do not"
            " deliver; give it A and AAAA records of its own"
        )
    if missing := [each for each in wanted if each not in found]:
        return State.WRONG, f"this server is also reached at {listed(missing)}, which is not there"
    return State.RIGHT, ""


# --- TLS-RPT and MTA-STS ---


async def check_tls_reports(subject: Subject) -> list[Checked]:
    name = f"_smtp._tls.{subject.domain}"
    what = f"TLS-RPT of {subject.domain}"
    answer = await subject.ask(name, RecordType.TXT)
    if is_unanswered(answer):
        return [unanswered("tls-rpt", what, answer)]
    if not answer.records:
        state, words = State.ABSENT, "nobody tells you when TLS with you fails; publish the record"
    else:
        reporting = await questions.run(tlsrpt_record.find(subject.domain), subject.ports.resolver)
        reason = reporting.reason or reporting.failure
        state = State.WRONG if reason else State.RIGHT
        words = f"{reason}, so nobody sends you reports (RFC 8460 §3)" if reason else ""
        unknown = [
            format_address(each.address)
            for each in reporting.targets
            if isinstance(each, MailTo) and subject.ports.is_unknown(each.address)
        ]
        if unknown:
            state, words = State.WRONG, unknown_words(unknown)
    return [
        Checked(
            subject="tls-rpt",
            what=what,
            state=state,
            found=texts(answer),
            wanted=tuple(r.value for r in subject.wants(name, RecordType.TXT)),
            words=words,
        )
    ]


async def check_mta_sts(subject: Subject) -> list[Checked]:
    """The record that announces a policy, and the policy as others fetch it."""
    name = f"_mta-sts.{subject.domain}"
    what = f"MTA-STS of {subject.domain}"
    answer = await subject.ask(name, RecordType.TXT)
    if is_unanswered(answer):
        return [unanswered("mta-sts", what, answer)]
    announced = record_id([bytes(record) for record in answer.records])
    wanted_id = subject.wishes.policy_id

    def judged(state: State, words: str) -> Checked:
        wanted = tuple(r.value for r in subject.wants(name, RecordType.TXT))
        return Checked(
            subject="mta-sts",
            what=what,
            state=state,
            found=texts(answer),
            wanted=wanted,
            words=words,
        )

    if not answer.records:
        return [judged(State.ABSENT, _NO_POLICY if wanted_id else _NO_WEB)]
    if announced is None:
        return [
            judged(
                State.WRONG,
                "it is not one record of the form v=STSv1; id=… (RFC 8461 §3.1), so nobody looks"
                " for your policy",
            )
        ]
    if wanted_id and announced != wanted_id:
        first = judged(
            State.WRONG,
            "the policy has changed since this id was published, and others look for a new policy"
            " only when id changes; publish the wanted record",
        )
    else:
        first = judged(State.RIGHT, "")
    return [first, await _check_policy(subject)]


_NO_POLICY: Final = (
    "others cannot know that they have to send to you by TLS only; publish the record once the"
    " policy is served"
)
_NO_WEB: Final = (
    "this server serves no policy, as it listens on no HTTPS port; open it with [acme] or [web]"
)


async def _check_policy(subject: Subject) -> Checked:
    host = policy_host(subject.domain)
    url = f"https://{host}{PATH}"
    what = f"policy at {url}"
    try:
        fetched = await subject.ports.fetch.get(
            url, octets_max=POLICY_OCTETS_MAX, timeout_s=FETCH_S
        )
        policy = _policy(fetched)
    except FetchFailed as error:
        advice = fetch_advice(error, host, subject.config)
        return Checked(
            subject="mta-sts",
            what=what,
            state=State.WRONG,
            words=f"others cannot fetch it, so it does not count: {error}; {advice}",
        )
    except BadPolicy as error:
        return Checked(subject="mta-sts", what=what, state=State.WRONG, words=f"{error}")
    exchange = await subject.ask(subject.domain, RecordType.MX)
    hosts = [subject.host, *(each.host for each in exchange.records if each.host)]
    ours = own_policy(subject.config, subject.domain)
    configured = None if ours is None else parse_policy(policy_text(ours))
    state, words = judge_policy(policy, hosts, configured)
    return Checked(subject="mta-sts", what=what, state=state, found=policy.lines, words=words)


def _policy(fetched: Fetched) -> StsPolicy:
    if fetched.status != 200:
        raise BadPolicy(f"the web server answers with {fetched.status}, not with the policy")
    return parse_policy(fetched.octets)


def judge_policy(
    policy: StsPolicy, hosts: Sequence[str], configured: StsPolicy | None
) -> tuple[State, str]:
    """Args:
    hosts: ours, and all that the MX names.
    configured: what the config of this server says; None where it serves no policy.
    """
    missing = [each for each in dict.fromkeys(hosts) if not policy.allows(each)]
    effect = ""
    if missing and policy.mode is not Mode.NONE:
        effect = (
            f"it does not name {listed(missing)}, so hosts that keep to it"
            f" {'refuse to send there' if policy.mode is Mode.ENFORCE else 'report a failure'}"
        )
    if configured is not None and configured != policy:
        return State.WRONG, (
            "what is served there is not the policy of this server's config"
            f"{_other_mode(policy, configured)}{'; ' if effect else ''}{effect}; if the config was"
            " changed, reload the server (SIGHUP), as it still serves the old policy; if not, the"
            " name leads to another server"
        )
    if effect:
        names = ", ".join(f'"{each}"' for each in (*policy.mx, *missing))
        mend = f"set [mta_sts] mx = [{names}]" if configured else f"add mx: {listed(missing)}"
        return State.WRONG, f"{effect}; {mend}"
    if policy.mode is Mode.NONE:
        return State.ADVICE, "mode none takes the policy back; it protects nothing"
    if policy.mode is Mode.TESTING:
        return State.ADVICE, (
            "mode testing only reports; when TLS reports show no failures, set mode to enforce"
        )
    return State.RIGHT, "others send here by verified TLS only"


def _other_mode(served: StsPolicy, configured: StsPolicy) -> str:
    if served.mode is configured.mode:
        return ""
    return f": it has mode {served.mode.value}, the config {configured.mode.value}"


# --- DANE, CAA, DNSSEC ---


async def check_dnssec(subject: Subject) -> list[Checked]:
    """Whether the zones are signed, as far as our resolver tells."""
    root, zone, host = await asyncio.gather(
        subject.ask(ROOT, RecordType.NS),
        subject.ask(subject.domain, RecordType.MX),
        subject.ask(subject.host, RecordType.A),
    )
    what = f"DNSSEC of {subject.domain}"
    if words := await _broken_dnssec(subject, zone, host):
        return [Checked(subject="dnssec", what=what, state=State.WRONG, words=words)]
    if is_unanswered(zone):
        return [unanswered("dnssec", what, zone)]
    if zone.is_authenticated and host.is_authenticated:
        words = "its answers are proven, and so are those of the host"
        return [Checked(subject="dnssec", what=what, state=State.RIGHT, words=words)]
    if zone.is_authenticated:
        words = f"the domain is signed, but {subject.host} is not, so DANE does not work"
        return [Checked(subject="dnssec", what=what, state=State.ADVICE, words=words)]
    if not root.is_authenticated:
        words = (
            "the resolver asked does not say: it does not validate, or is not trusted for it (see"
            " dns.is_trusted)"
        )
        return [Checked(subject="dnssec", what=what, state=State.UNKNOWN, words=words)]
    words = "the zone is not signed: answers can be forged, and DANE does not work"
    return [Checked(subject="dnssec", what=what, state=State.ABSENT, words=words)]


async def _broken_dnssec(subject: Subject, zone: DnsAnswer, host: DnsAnswer) -> str:
    """A resolver that validates answers SERVFAIL for what is proven wrong, and gives it to who asks
    it not to check (RFC 4035 §3.2.2, §5.5); "" where that is not so."""
    asked = ((subject.domain, RecordType.MX, zone), (subject.host, RecordType.A, host))
    for name, kind, answer in asked:
        if not is_unanswered(answer) or SERVFAIL not in answer.detail:
            continue
        if not is_unanswered(await subject.ports.unchecked.resolve(name, kind)):
            return (
                f"the DNSSEC signatures of {name} do not fit: the DNS answers only who does not"
                " check them, so mail from hosts that do waits, and yours is not believed. Mostly"
                " the DS record at the registrar is of an old key: let your DNS provider mend it"
            )
    return ""


async def check_tlsa(subject: Subject) -> list[Checked]:
    name = f"_25._tcp.{subject.host}"
    answer = await subject.ask(name, RecordType.TLSA)
    what = f"TLSA of {subject.host}, port 25"
    if is_unanswered(answer):
        return [unanswered("dane", what, answer)]
    state, words = judge_tlsa(answer, subject.wishes.tlsa)
    return [
        Checked(
            subject="dane",
            what=what,
            state=state,
            found=texts(answer),
            wanted=tuple(map(record_text, subject.wishes.tlsa)),
            words=words,
        )
    ]


def judge_tlsa(answer: DnsAnswer, ours: Sequence[TlsaRecord]) -> tuple[State, str]:
    """Args:
    ours: of the key in use, and of the next one where there is one.
    """
    published: tuple[TlsaRecord, ...] = answer.records
    if not published:
        return State.ABSENT, "without it senders cannot use DANE; it needs a zone signed by DNSSEC"
    if not ours:
        return State.UNKNOWN, "this server has no certificate yet to compare with"
    if ours[0] not in published:
        proof = (
            "senders that use DANE refuse to deliver to you"
            if answer.is_authenticated
            else "once the zone is signed, senders that use DANE would refuse to deliver to you"
        )
        return State.WRONG, (
            f"none of the records is of the key this server uses, so {proof}; publish the wanted"
            " one, or remove the others"
        )
    if not answer.is_authenticated:
        return State.ADVICE, (
            "the record is right, but the answer is not proven by DNSSEC, so nobody uses it"
        )
    if missing := [record for record in ours if record not in published]:
        return State.WRONG, (
            f"the next key waits for its record ({record_text(missing[0])}); add it"
        )
    return State.RIGHT, "senders that use DANE know this server by its key"


async def check_caa(subject: Subject) -> list[Checked]:
    """The nearest name above the host that has CAA records decides (RFC 8659 §3)."""
    labels = subject.host.split(".")
    what = f"CAA of {subject.host}"
    wanted = tuple(r.value for r in subject.wants(subject.host, RecordType.CAA))
    for at in range(len(labels)):
        answer = await subject.ask(".".join(labels[at:]), RecordType.CAA)
        if is_unanswered(answer):
            return [unanswered("caa", what, answer, asked=".".join(labels[at:]))]
        if answer.records:
            owner = ".".join(labels[at:])
            state, words = judge_caa(answer.records, wanted, owner)
            return [
                Checked(
                    subject="caa",
                    what=what,
                    state=state,
                    found=texts(answer),
                    wanted=wanted,
                    words=words,
                )
            ]
    words = "every authority may make certificates for this server"
    return [Checked(subject="caa", what=what, state=State.ABSENT, wanted=wanted, words=words)]


def judge_caa(records: Sequence[CaaRecord], wanted: Sequence[str], owner: str) -> tuple[State, str]:
    """Args:
    wanted: the record for the authority that [acme] uses; empty without [acme].
    """
    issuers = [
        record.value.decode("ascii", "replace").partition(";")[0].strip(" \t")
        for record in records
        if record.tag == "issue"
    ]
    if not issuers:
        return State.RIGHT, f"what {owner} has does not restrict who may make certificates"
    allowed = [issuer for issuer in issuers if issuer]
    names = listed(allowed) if allowed else "nobody"
    for value in wanted:
        authority = value.partition('"')[2].rstrip('"')
        if not allowed and "<" in authority:
            return State.WRONG, (
                f"{owner} lets nobody make certificates, and [acme] gets some for this server: its"
                " authority will refuse; name that authority there"
            )
        if authority not in allowed and "<" not in authority:
            return State.WRONG, (
                f"{owner} lets {names} make certificates, and this server gets its own from"
                f" {authority}, which will refuse; add the wanted record"
            )
    return State.RIGHT, f"{names} may make certificates"
