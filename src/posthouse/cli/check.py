"""`posthouse check mail|spf|dkim|arc|dmarc`: authentication tried by hand, and explained.

The checks are those that port 25 makes, with the same resolver and the same rules, so what they say
is what a message would meet.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

import click
import msgspec

from posthouse.accounts import admin
from posthouse.cli import check_words as words
from posthouse.cli.check_options import (
    FROM_HELP,
    HELO_HELP,
    IP_HELP,
    AddressParam,
    PathParam,
    at_option,
    from_option,
    helo_option,
    ip_option,
)
from posthouse.cli.check_protection import protection_of
from posthouse.cli.config import config_option, load_config
from posthouse.cli.message_file import MessageFile, read_message
from posthouse.cli.output import (
    CommandError,
    ExitCode,
    json_option,
    say,
    show_json,
    show_text,
)
from posthouse.cli.resolver import caching_resolver, dns_options, resolver_option
from posthouse.config import build, build_mailauth
from posthouse.config.schema import Config, Service
from posthouse.kernel.envelope import Address
from posthouse.kernel.finding import Evidence, Finding, Property
from posthouse.kernel.ports import Resolver
from posthouse.mailauth import authres, findings, policy
from posthouse.mailauth import check as checks
from posthouse.mailauth.arc import verify as arc_verify
from posthouse.mailauth.authors import author_domains, homographs
from posthouse.mailauth.dkim import verify as dkim_verify
from posthouse.mailauth.dmarc.discover import Discovered, find_policy
from posthouse.mailauth.questions import Questions, run
from posthouse.mailauth.results import DkimOutcome, Result
from posthouse.mailauth.spf import check as spf_check
from posthouse.net.workers import ThreadWorkers
from posthouse.net.world import SystemClock
from posthouse.reception import verdict

T = TypeVar("T")

ENDS: Final = (
    "Ends with 0 when the check could be made, whatever it found: fail and permerror too (a script"
    " takes the result from --json). Ends with 75 when the DNS gave no answer, so that it may find"
    " something else later."
)
TEMPERROR: Final = Result.TEMPERROR.value
_COUNTS_FIRST: Final = (Result.PASS, Result.TEMPERROR, Result.POLICY, Result.FAIL)
"""Of several signatures, which result is that of the message."""


# --- what is shown ---


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """One finding as `--json` shows it, in the words of RFC 8601."""

    name: str
    result: str
    reason: str
    properties: tuple[Property, ...]
    evidence: tuple[Evidence, ...]
    words: str
    """The same for people."""


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of one method: the finding that counts, and all of them."""

    result: str
    reason: str
    properties: tuple[Property, ...]
    evidence: tuple[Evidence, ...]
    words: str
    findings: tuple[Found, ...]


class VerdictShown(msgspec.Struct, frozen=True, kw_only=True):
    """What this server would do with the message."""

    verdict: str
    """ "accept", "accept as junk", "defer" or "refuse"."""
    reply: str
    """Where it would not be accepted."""
    why: str
    words: str


class MailShown(msgspec.Struct, frozen=True, kw_only=True):
    verdict: VerdictShown
    findings: tuple[Found, ...]
    authentication_results: str
    """The field it would get."""
    protection: tuple[str, ...]
    """What S/MIME and OpenPGP prove, in words."""
    notes: tuple[str, ...]
    """What was done to the file to make a message of it."""


class PolicyShown(msgspec.Struct, frozen=True, kw_only=True):
    """What the tree walk from a domain found (RFC 9989 §4.10)."""

    result: str
    """ "pass" where there is a policy, "none", "permerror" or "temperror"."""
    domain: str
    organizational_domain: str
    policy: dict[str, Any] | None
    """The record that applies, defaults filled in."""
    reason: str
    evidence: tuple[Evidence, ...]
    """Each name asked for, and what was there."""
    words: tuple[str, ...]


@click.group()
def check() -> None:
    """Try SPF, DKIM, ARC and DMARC by hand, and be told what they find and why."""


@check.command(epilog=ENDS)
@click.argument("file")
@ip_option
@helo_option
@from_option
@click.option(
    "--for",
    "whom",
    metavar="ACCOUNT",
    help="Open it with the keys of this account, where it is encrypted.",
)
@at_option
@resolver_option
@json_option
@config_option
def mail(
    file: str,
    address: str,
    hello: str,
    reverse_path: Address | None,
    whom: str | None,
    at: datetime | None,
    resolver: str | None,
    as_json: bool,
    config_path: str | None,
) -> int:
    """All checks of a message that came to port 25, and what would be done with it.

    Signatures and encryption (S/MIME, OpenPGP) are explained, too, by the keys of the key store.

    FILE is the whole message, header and body; "-" is stdin.
    """
    config = load_config(config_path).config
    message = _message(config, file)
    brought = _mail(message, address, hello, reverse_path)
    checked = _check_all(config, resolver, brought, at)
    protection = protection_of(
        config,
        message.octets,
        whom,
        at or SystemClock().now(),
        dns=dns_options(config, resolver),
    )
    found = (*_all_found(checked, address), *(_found(one, one.reason) for one in protection.found))
    shown = MailShown(
        verdict=_verdict(config, brought, checked),
        findings=found,
        authentication_results=_results_field(config, checked, address),
        protection=protection.lines,
        notes=message.notes,
    )
    if as_json:
        show_json(shown)
    else:
        _show_found(found)
        for line in shown.protection:
            show_text(line)
        show_text(f"\n{shown.verdict.words}\n")
        show_text(shown.authentication_results)
    return _exit_code(found)


@check.command(epilog=ENDS)
@ip_option
@helo_option
@from_option
@resolver_option
@json_option
@config_option
def spf(
    address: str,
    hello: str,
    reverse_path: Address | None,
    resolver: str | None,
    as_json: bool,
    config_path: str | None,
) -> int:
    """May this host send mail of this sender (RFC 7208)?

    The name in HELO and the sender's domain are both checked; the second one counts.
    """
    config = load_config(config_path).config
    receiver = config.node.hostname
    done = _ask(
        config,
        resolver,
        spf_check.verify(address, hello, reverse_path, receiver=receiver, at_unix_s=_unix_s(None)),
    )
    found = tuple(
        _found(findings.spf_finding(one), words.spf_words(one, address=address)) for one in done
    )
    return _tell(found, counting=found[-1], as_json=as_json)


@check.command(epilog=ENDS)
@click.argument("file")
@at_option
@resolver_option
@json_option
@config_option
def dkim(
    file: str, at: datetime | None, resolver: str | None, as_json: bool, config_path: str | None
) -> int:
    """Who signed the message, and does it still say what they signed (RFC 6376)?

    FILE is the whole message, header and body; "-" is stdin.
    """
    config = load_config(config_path).config
    message = _message(config, file)
    prepared = dkim_verify.prepare(
        message.octets,
        message.section,
        author_domains=author_domains(message.section).domains,
        options=build_mailauth.check_options(config).dkim,
    )
    outcomes = _ask(config, resolver, dkim_verify.verify(prepared, _unix_s(at)))
    found = tuple(_found(findings.dkim_finding(one), words.dkim_words(one)) for one in outcomes)
    counting = found[_counting(outcomes)] if found else _nothing("dkim", "nobody signed it")
    return _tell(found, counting=counting, as_json=as_json)


@check.command(epilog=ENDS)
@click.argument("file")
@at_option
@resolver_option
@json_option
@config_option
def arc(
    file: str, at: datetime | None, resolver: str | None, as_json: bool, config_path: str | None
) -> int:
    """Who forwarded the message, and do their seals hold (RFC 8617)?

    FILE is the whole message, header and body; "-" is stdin.
    """
    config = load_config(config_path).config
    message = _message(config, file)
    prepared = arc_verify.prepare(
        message.octets, message.section, options=build_mailauth.check_options(config).dkim
    )
    outcome = _ask(config, resolver, arc_verify.verify(prepared, _unix_s(at)))
    found = _found(findings.arc_finding(outcome), words.arc_words(outcome))
    return _tell((found,), counting=found, as_json=as_json)


@check.command(epilog=ENDS)
@click.argument("file", required=False)
@click.option("--domain", metavar="NAME", help="Show the policy for mail from this domain.")
@click.option("--ip", "address", type=AddressParam(), metavar="ADDRESS", help=IP_HELP)
@click.option("--helo", "hello", metavar="NAME", help=HELO_HELP)
@click.option("--from", "reverse_path", type=PathParam(), metavar="ADDRESS", help=FROM_HELP)
@at_option
@resolver_option
@json_option
@config_option
def dmarc(
    file: str | None,
    domain: str | None,
    address: str | None,
    hello: str | None,
    reverse_path: Address | None,
    at: datetime | None,
    resolver: str | None,
    as_json: bool,
    config_path: str | None,
) -> int:
    """Does the author's domain vouch for a message, and what does it ask for if not (RFC 9989)?

    With FILE, --ip, --helo and --from: about that message. With --domain: what is published for
    mail from there, and which names of the DNS were asked for it.
    """
    config = load_config(config_path).config
    if domain is not None:
        if file is not None:
            raise click.UsageError("--domain shows a policy, FILE checks a message: give one")
        return _tell_policy(config, resolver, domain, as_json=as_json)
    if file is None:
        raise click.UsageError("name the FILE of a message, or a --domain")
    if address is None or hello is None or not _is_given("reverse_path"):
        raise click.UsageError(
            "to check a message, DMARC needs to know who brought it: --ip, --helo and --from"
        )
    message = _message(config, file)
    checked = _check_all(config, resolver, _mail(message, address, hello, reverse_path), at)
    if not checked.authors.domains:
        raise CommandError(
            f"DMARC has no author to ask about: {checked.authors.fault}",
            hint="port 25 refuses messages without exactly one From field",
        )
    found = tuple(_found(findings.dmarc_finding(o), words.dmarc_words(o)) for o in checked.dmarc)
    counting = found[checked.dmarc.index(checked.counted)]
    others = tuple(each for each in _all_found(checked, address) if each.name in ("spf", "dkim"))
    return _tell((*others, *found), counting=counting, as_json=as_json)


def _is_given(name: str) -> bool:
    source = click.get_current_context().get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


# --- the checks ---


def _message(config: Config, file: str) -> MessageFile:
    message = read_message(file, octets_max=config.smtp.message_octets_max)
    for note in message.notes:
        say(note)
    return message


def _mail(
    message: MessageFile, address: str, hello: str, reverse_path: Address | None
) -> checks.Mail:
    return checks.Mail(
        octets=message.octets,
        section=message.section,
        address=address,
        hello=hello,
        reverse_path=reverse_path,
    )


def _unix_s(at: datetime | None) -> int:
    return int(at.timestamp()) if at is not None else SystemClock().unix_us() // 1_000_000


def _ask(config: Config, resolver: str | None, check: Questions[T]) -> T:
    """One check, with the resolver's own time."""
    options = dns_options(config, resolver)

    async def ask() -> T:
        return await run(check, caching_resolver(options), questions_max=config.dns.per_message_max)

    return asyncio.run(ask())


def _check_all(
    config: Config, resolver: str | None, mail: checks.Mail, at: datetime | None
) -> checks.Checked:
    options = build_mailauth.check_options(config)
    servers = dns_options(config, resolver)

    async def ask() -> checks.Checked:
        asked: Resolver = caching_resolver(servers)
        prepared = checks.prepare(mail, options)
        under_way = checks.Checks(mail, prepared, options, now_unix_s=_unix_s(at))
        known = under_way.start(asked.known)
        if known is not None:
            return known
        workers = ThreadWorkers()
        try:
            return await under_way.finish(asked, SystemClock().sleep, workers)
        finally:
            workers.close()

    return asyncio.run(ask())


def _counting(outcomes: Sequence[DkimOutcome]) -> int:
    """Which signature is told first: one that passes, else one that may still do so."""
    for result in _COUNTS_FIRST:
        for at, outcome in enumerate(outcomes):
            if outcome.result is result:
                return at
    return 0


# --- what is made of them ---


def _found(finding: Finding, text: str) -> Found:
    return Found(
        name=finding.name,
        result=finding.result,
        reason=finding.reason,
        properties=finding.properties,
        evidence=finding.evidence,
        words=text,
    )


def _nothing(name: str, text: str) -> Found:
    return _found(Finding(name=name, result=Result.NONE.value, reason=text), text)


def _all_found(checked: checks.Checked, address: str) -> tuple[Found, ...]:
    """In the order of evidence: who brought it, who signed it, who forwarded it, whose it is."""

    def each() -> Iterator[Found]:
        yield _found(findings.iprev_finding(checked.iprev), words.iprev_words(checked.iprev))
        for one in (checked.spf_helo, checked.spf):
            yield _found(findings.spf_finding(one), words.spf_words(one, address=address))
        for signature in checked.dkim:
            yield _found(findings.dkim_finding(signature), words.dkim_words(signature))
        if not checked.dkim:
            yield _nothing("dkim", "nobody signed it")
        chain = findings.arc_finding(checked.arc, remote_ip=address)
        yield _found(chain, words.arc_words(checked.arc))
        for outcome in checked.dmarc:
            yield _found(findings.dmarc_finding(outcome), words.dmarc_words(outcome))
        for more in homographs(checked.authors):
            yield _found(more, more.reason)

    return tuple(each())


def _verdict(config: Config, mail: checks.Mail, checked: checks.Checked) -> VerdictShown:
    """As `reception` decides: the form of the message first, then who it is from."""
    refused = verdict.judge(
        mail.section, options=build.reception_options(config, Service.MX), local=()
    )
    if refused is not None:
        reply = str(refused.reply)
        return VerdictShown(
            verdict=policy.Verdict.REFUSE.value,
            reply=reply,
            why=refused.reply.text,
            words=f'It would be refused with "{reply}"',
        )
    options = build_mailauth.authentication_options(config)
    if not options.is_enabled:
        text = "mailauth.is_enabled is off: it would be accepted, whatever the checks say"
        return VerdictShown(verdict=policy.Verdict.ACCEPT.value, reply="", why=text, words=text)
    judgement = checks.judged(checked, options.rules, address=mail.address).judgement
    return VerdictShown(
        verdict=judgement.verdict.value,
        reply=str(judgement.reply) if judgement.reply is not None else "",
        why=judgement.why,
        words=words.verdict_words(judgement),
    )


def _results_field(config: Config, checked: checks.Checked, address: str) -> str:
    found = findings.for_readers(checks.findings(checked, address=address))
    field = authres.render(config.node.hostname, found).decode("ascii")
    return field.replace("\r\n", "\n").rstrip("\n")


def _tell_policy(config: Config, resolver: str | None, domain: str, *, as_json: bool) -> int:
    name = admin.parse_typed_domain(domain)
    found = _ask(config, resolver, find_policy(name))
    shown = PolicyShown(
        result=_policy_result(found).value,
        domain=found.domain,
        organizational_domain=found.organizational_domain or "",
        policy=msgspec.to_builtins(found.policy) if found.policy is not None else None,
        reason=found.failure or (found.policy.fault if found.policy is not None else ""),
        evidence=found.evidence,
        words=tuple(words.discovered_lines(found)),
    )
    if as_json:
        show_json(shown)
    else:
        for line in shown.words:
            show_text(line)
        _show_evidence(shown.evidence)
    return ExitCode.TEMPORARY if found.failure else ExitCode.OK


def _policy_result(found: Discovered) -> Result:
    if found.failure:
        return Result.TEMPERROR
    if found.policy is None:
        return Result.NONE
    return Result.PERMERROR if found.policy.fault else Result.PASS


# --- telling it ---


def _tell(found: tuple[Found, ...], *, counting: Found, as_json: bool) -> int:
    if as_json:
        show_json(
            Shown(
                result=counting.result,
                reason=counting.reason,
                properties=counting.properties,
                evidence=counting.evidence,
                words=counting.words,
                findings=found,
            )
        )
    else:
        _show_found(found or (counting,))
    return _exit_code(found)


def _show_found(found: Iterable[Found]) -> None:
    for each in found:
        show_text(f"{each.name}: {each.result}: {each.words}")
        _show_evidence(each.evidence)


def _show_evidence(evidence: Iterable[Evidence]) -> None:
    for each in evidence:
        show_text(f"    {each.what}: {each.found}")


def _exit_code(found: Iterable[Found]) -> int:
    is_temporary = any(each.result == TEMPERROR for each in found)
    return ExitCode.TEMPORARY if is_temporary else ExitCode.OK
