"""`check_host()` of RFC 7208 §4.1, and both identities of a session, as generators of DNS
questions.

The limits of §4.6.4 bound the questions of one identity (`QUESTIONS_MAX`); the driver's deadline is
its limit of time, as a question that is not answered in time is a temporary failure.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

import msgspec

from posthouse.kernel.envelope import Address
from posthouse.kernel.finding import Evidence
from posthouse.kernel.reply import printable
from posthouse.mailauth.questions import Answers, Question, Questions
from posthouse.mailauth.results import Result, SpfIdentity, SpfOutcome
from posthouse.mailauth.spf.evaluation import (
    LIMITS,
    REASON_CHARACTERS_MAX,
    TEXT_CHARACTERS_MAX,
    Decision,
    Ended,
    Evaluation,
    Limits,
    cut,
)
from posthouse.mailauth.spf.macros import read_client
from posthouse.mailauth.spf.names import has_two_labels
from posthouse.message.address import AddressError, domain_to_ascii

QUESTIONS_MAX: Final = 1 + LIMITS.terms_max * (1 + LIMITS.mx_max) + (1 + LIMITS.ptr_max) + 1
"""Of one identity: the first record, each term an mx, the client's names, the explanation."""


def verify(
    ip: str,
    helo: str,
    mail_from: Address | None,
    *,
    receiver: str = "unknown",
    at_unix_s: int = 0,
    limits: Limits = LIMITS,
) -> Questions[tuple[SpfOutcome, SpfOutcome]]:
    """The HELO identity and the MAIL FROM identity of a transaction (RFC 7208 §2.3, §2.4).

    Both are checked side by side. DMARC takes the second one only.

    Args:
        helo: as the client said it, "" for nothing; what is no domain name gets the result none.
        mail_from: None is the null reverse-path: then postmaster at the HELO name is meant.
        receiver, at_unix_s: our host's name and the time, for explanations.
    """

    def identity(domain: str, sender: str, identity: SpfIdentity) -> Questions[SpfOutcome]:
        return check_host(
            ip,
            domain,
            sender,
            helo=helo,
            identity=identity,
            receiver=receiver,
            at_unix_s=at_unix_s,
            limits=limits,
        )

    host = _host_name(helo)
    if host:
        by_helo = identity(host, f"postmaster@{host}", SpfIdentity.HELO)
    else:
        by_helo = _no_name(helo, SpfIdentity.HELO)
    if mail_from is None:
        outcome = yield from by_helo
        return outcome, msgspec.structs.replace(outcome, identity=SpfIdentity.MAIL_FROM)
    if mail_from.domain.startswith("["):
        by_mail_from = _no_name(mail_from.domain, SpfIdentity.MAIL_FROM)
    else:
        sender = f"{mail_from.local_part}@{mail_from.domain}"
        by_mail_from = identity(mail_from.domain, sender, SpfIdentity.MAIL_FROM)
    return (yield from _side_by_side(by_helo, by_mail_from))


def check_host(
    ip: str,
    domain: str,
    sender: str,
    *,
    helo: str,
    identity: SpfIdentity,
    receiver: str = "unknown",
    at_unix_s: int = 0,
    limits: Limits = LIMITS,
) -> Questions[SpfOutcome]:
    """Whether `ip` may use `domain` (RFC 7208 §4.1). Never raises, whatever the arguments hold.

    Args:
        domain: A-labels or U-labels (RFC 8616 §4).
        sender: an address, its local-part without quotes; without one, postmaster is put in.
    """
    local_part, _, sender_domain = sender.rpartition("@")
    local_part = local_part or "postmaster"  # RFC 7208 §4.3
    domain, sender_domain = _a_labels(domain).removesuffix("."), _a_labels(sender_domain)
    sender = f"{local_part}@{sender_domain}"
    client = read_client(ip)
    if client is None:
        decision = Decision(Result.NONE, reason=f"{cut(ip)} is no IP address")
        return _outcome(decision, identity, domain, sender)
    values = {
        "s": sender,
        "l": local_part,
        "o": sender_domain,
        "i": client.dotted,
        "v": client.family,
        "h": helo,
        "c": client.text,
        "r": receiver,
        "t": str(at_unix_s),
    }
    evaluation = Evaluation(client, values, limits)
    explanation = ""
    try:
        decision = yield from evaluation.decide(domain)
        if decision.explanation is not None:
            explanation = yield from evaluation.explain(decision.explanation, decision.domain)
    except Ended as ended:
        decision = Decision(ended.result, reason=ended.reason)
    return _outcome(decision, identity, domain, sender, explanation, evaluation.evidence)


def _outcome(
    decision: Decision,
    identity: SpfIdentity,
    domain: str,
    sender: str,
    explanation: str = "",
    evidence: Iterable[Evidence] = (),
) -> SpfOutcome:
    return SpfOutcome(
        result=decision.result,
        identity=identity,
        domain=cut(domain),
        sender=cut(sender),
        mechanism=decision.mechanism[:TEXT_CHARACTERS_MAX],
        explanation=explanation,
        reason=printable(decision.reason[:REASON_CHARACTERS_MAX]),
        evidence=tuple(evidence),
    )


def _no_name(text: str, identity: SpfIdentity) -> Questions[SpfOutcome]:
    """RFC 7208 §2.6.1: there is no domain name that could be asked about."""
    yield from ()
    reason = f"{cut(text)} is no domain name" if text else "the client named itself with nothing"
    decision = Decision(Result.NONE, reason=reason)
    return _outcome(decision, identity, text, f"postmaster@{text}")


def _side_by_side(
    first: Questions[SpfOutcome], second: Questions[SpfOutcome]
) -> Questions[tuple[SpfOutcome, SpfOutcome]]:
    """Both checks, each step asking what both want."""
    one, two = _step(first), _step(second)
    while isinstance(one, tuple) and isinstance(two, tuple):
        answers = yield (*one, *two)
        end = len(one)
        one, two = _step(first, answers[:end]), _step(second, answers[end:])
    while isinstance(one, tuple):
        one = _step(first, (yield one))
    while isinstance(two, tuple):
        two = _step(second, (yield two))
    return one, two


def _step(
    check: Questions[SpfOutcome], answers: Answers | None = None
) -> tuple[Question, ...] | SpfOutcome:
    try:
        return next(check) if answers is None else check.send(answers)
    except StopIteration as end:
        outcome: SpfOutcome = end.value
        return outcome


@lru_cache(maxsize=4096)
def _host_name(helo: str) -> str:
    """The name in HELO, or "" when it is a literal or no fully qualified name (RFC 7208 §2.3)."""
    try:
        name = domain_to_ascii(helo.removesuffix("."))
    except AddressError:
        return ""
    is_qualified = has_two_labels(name) and not name.rpartition(".")[2].isdigit()
    return name if is_qualified else ""


def _a_labels(domain: str) -> str:
    """RFC 8616 §4. What is no domain name stays as it is: nothing will be asked for it."""
    if domain.isascii():
        return domain
    try:
        return domain_to_ascii(domain)
    except AddressError:
        return domain
