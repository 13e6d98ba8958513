"""The evaluation of records, with all they include and redirect to (RFC 7208 §4.4 to §6).

Terms are looked up one after the other, as their order decides; what one term needs is asked at
once. `check` is the caller.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import Final, assert_never

import msgspec

from posthouse.kernel.finding import Evidence
from posthouse.kernel.ports import DnsAnswer, DnsStatus, MxRecord, RecordType
from posthouse.kernel.reply import printable
from posthouse.mailauth.questions import Question, Questions
from posthouse.mailauth.results import Result
from posthouse.mailauth.spf.grammar import (
    All,
    BadRecord,
    DomainSpec,
    Exists,
    Hosts,
    Include,
    Mechanism,
    Network,
    Ptr,
    Record,
    is_record,
    parse_explanation,
    parse_record,
)
from posthouse.mailauth.spf.macros import Client, expand_name, expand_text
from posthouse.mailauth.spf.names import has_two_labels, question_name

EVIDENCE_MAX: Final = 40
FOUND_CHARACTERS_MAX: Final = 512
REASON_CHARACTERS_MAX: Final = 300
TEXT_CHARACTERS_MAX: Final = 255
SHOWN_RECORDS_MAX: Final = 20


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """RFC 7208 §4.6.4. `terms_max` is the depth of includes, too: a hundred at most."""

    terms_max: int = 10
    """Terms that look something up; one more is permerror."""
    voids_max: int = 2
    """Terms of which a look-up found nothing; one more is permerror."""
    mx_max: int = 10
    """Hosts of one mx; more are permerror."""
    ptr_max: int = 10
    """Names of the client; the others are not looked at."""


LIMITS: Final = Limits()


class Decision(msgspec.Struct, frozen=True):
    """What a record said, or that there is none."""

    result: Result
    mechanism: str = ""
    reason: str = ""
    explanation: DomainSpec | None = None
    domain: str = ""
    """The domain whose record it is."""


class Ended(Exception):
    """The exception of RFC 7208 §4.6.2: evaluation is over, at every depth."""

    def __init__(self, result: Result, reason: str) -> None:
        super().__init__(reason)
        self.result = result
        self.reason = reason


class _Reverse(msgspec.Struct, frozen=True):
    """The client's names that lead back to it (RFC 7208 §5.5)."""

    names: tuple[str, ...]
    is_void: bool


class Evaluation:
    """One `check_host()` with all that it includes: limits count for the whole."""

    __slots__ = (
        "_addresses",
        "_client",
        "_is_void_counted",
        "_limits",
        "_reverse",
        "_terms",
        "_values",
        "_voids",
        "evidence",
    )

    def __init__(self, client: Client, values: dict[str, str], limits: Limits) -> None:
        self._client = client
        self._values = values
        self._limits = limits
        self._addresses = RecordType.A if client.version == 4 else RecordType.AAAA
        self._terms = 0
        self._voids = 0
        self._is_void_counted = False
        self._reverse: _Reverse | None = None
        self.evidence: list[Evidence] = []

    def decide(self, domain: str) -> Questions[Decision]:
        """Evaluate the record of `domain`, and of those it redirects to."""
        is_redirected = False
        while True:
            record = yield from self._record(domain)
            if isinstance(record, str):
                if is_redirected:  # RFC 7208 §6.1
                    raise Ended(Result.PERMERROR, f"redirect: {record}")
                return Decision(Result.NONE, reason=record)
            client = self._client
            for mechanism in record.mechanisms:
                if type(mechanism) is Network:
                    if (
                        mechanism.version == client.version
                        and client.number >> mechanism.shift == mechanism.prefix
                    ):
                        break
                elif type(mechanism) is All or (yield from self._matches(mechanism, domain)):
                    break
            else:
                if record.redirect is None:
                    reason = f"no mechanism of {domain} matched"
                    return Decision(Result.NEUTRAL, reason=reason)  # RFC 7208 §4.7
                self._count_term()
                target = yield from self._target(record.redirect, domain)
                domain, is_redirected = target or "", True
                continue
            result = mechanism.result
            explanation = record.explanation if result is Result.FAIL else None
            return Decision(result, mechanism.text, "", explanation, domain)

    def explain(self, spec: DomainSpec, domain: str) -> Questions[str]:
        """The explanation of a failure, "" for anything wrong with it (RFC 7208 §6.2). It counts
        for no limit."""
        if "p" in spec.letters:
            self._values["p"] = yield from self._client_name(domain)
        self._values["d"] = domain
        name = question_name(expand_name(spec, self._values))
        if not name:
            return ""
        question = Question(name, RecordType.TXT)
        (answer,) = yield (question,)
        self._note_answer(question, answer)
        if len(answer.records) != 1:
            return ""
        parts = parse_explanation(answer.records[0])
        if parts is None:
            return ""
        if any(not isinstance(part, str) and part.letter == "p" for part in parts):
            self._values["p"] = yield from self._client_name(domain)
        return expand_text(parts, self._values)

    # --- records ---

    def _record(self, domain: str) -> Questions[Record | str]:
        """The one record of a domain, or why it has none (RFC 7208 §4.3, §4.4, §4.5)."""
        name = question_name(domain)
        if not name or not has_two_labels(name):
            return f"{cut(domain) or 'nothing'} is no domain name that could have a record"
        question = Question(name, RecordType.TXT)
        (answer,) = yield (question,)
        if answer.status is DnsStatus.TEMPFAIL:
            raise self._failed(question, answer)
        found = [octets for octets in answer.records if is_record(octets)]
        if not found:
            self._note_answer(question, answer)
            return f"{name} has no SPF record"
        if len(found) > 1:
            self._note(f"TXT {name}", f"{len(found)} SPF records")
            raise Ended(Result.PERMERROR, f"{name} has {len(found)} SPF records")
        record = parse_record(found[0])
        self._note(f"TXT {name}", record.text)
        if isinstance(record, BadRecord):
            raise Ended(Result.PERMERROR, f"{name}: {record.reason}")
        return record

    # --- terms that look something up ---

    def _matches(self, mechanism: Mechanism, domain: str) -> Questions[bool]:
        assert not isinstance(mechanism, All | Network)  # these look nothing up
        self._count_term()
        target = yield from self._target(mechanism.domain, domain)
        if target is None:
            return False
        if isinstance(mechanism, Include):
            return (yield from self._matches_include(target))
        name = question_name(target)
        if not name:  # RFC 7208 §4.8 leaves it open; what does not exist does not match
            return False
        match mechanism:
            case Hosts():
                return (yield from self._matches_hosts(mechanism, name))
            case Ptr():
                return (yield from self._matches_ptr(name))
            case Exists():
                return (yield from self._matches_exists(name))
            case _:
                assert_never(mechanism)

    def _matches_include(self, target: str) -> Questions[bool]:
        """RFC 7208 §5.2."""
        decision = yield from self.decide(target)
        if decision.result is Result.NONE:
            raise Ended(Result.PERMERROR, f"include: {decision.reason}")
        return decision.result is Result.PASS

    def _matches_hosts(self, mechanism: Hosts, name: str) -> Questions[bool]:
        """RFC 7208 §5.3, §5.4. One host that matches outweighs others that fail: no order of the
        look-ups is prescribed."""
        if mechanism.is_mx:
            hosts = yield from self._mail_hosts(name)
        else:
            hosts = (name,)
        if not hosts:
            return False
        questions = tuple(Question(host, self._addresses) for host in hosts)
        answers = yield questions
        if self._client.version == 4:
            shift = 32 - mechanism.bits_4
        else:
            shift = 128 - mechanism.bits_6
        wanted = self._client.number >> shift
        for question, answer in zip(questions, answers):
            if any(_number(text) >> shift == wanted for text in answer.records):
                self._note_answer(question, answer)
                return True
        for question, answer in zip(questions, answers):
            if answer.status is DnsStatus.TEMPFAIL:
                raise self._failed(question, answer)
            self._note_answer(question, answer)
        if not all(answer.records for answer in answers):
            self._count_void()
        return False

    def _mail_hosts(self, name: str) -> Questions[tuple[str, ...]]:
        answer = yield from self._ask(Question(name, RecordType.MX))
        if len(answer.records) > self._limits.mx_max:
            reason = f"{name} has {len(answer.records)} MX records, {self._limits.mx_max} may be"
            raise Ended(Result.PERMERROR, reason)
        # The null MX has no host (RFC 7505); a host may stand there with two preferences.
        return tuple({record.host: None for record in answer.records if record.host})

    def _matches_ptr(self, name: str) -> Questions[bool]:
        reverse = yield from self._validated()
        if any(each == name or each.endswith(f".{name}") for each in reverse.names):
            return True
        if reverse.is_void:
            self._count_void()
        return False

    def _matches_exists(self, name: str) -> Questions[bool]:
        """RFC 7208 §5.7: addresses of IPv4, whatever the client has."""
        answer = yield from self._ask(Question(name, RecordType.A))
        return bool(answer.records)

    def _ask(self, question: Question) -> Questions[DnsAnswer]:
        """One question of a term; an answer without records is a void lookup (RFC 7208 §4.6.4)."""
        (answer,) = yield (question,)
        if answer.status is DnsStatus.TEMPFAIL:
            raise self._failed(question, answer)
        self._note_answer(question, answer)
        if not answer.records:
            self._count_void()
        return answer

    def _target(self, spec: DomainSpec | None, domain: str) -> Questions[str | None]:
        """The `<target-name>` of a term, or None when it cannot match."""
        if spec is None:
            return domain
        if spec.name is not None:
            return spec.name
        if not spec.letters.isdisjoint("sl") and not self._values["l"].isascii():
            return None  # RFC 8616 §4
        if "p" in spec.letters:
            if self._reverse is None:
                self._count_term()  # RFC 7208 §4.6.4: the PTR query of %{p} is one of the ten
            self._values["p"] = yield from self._client_name(domain)
            if self._reverse is not None and self._reverse.is_void:
                self._count_void()
        self._values["d"] = domain
        return expand_name(spec, self._values)

    # --- names of the client ---

    def _client_name(self, domain: str) -> Questions[str]:
        """The "p" macro (RFC 7208 §7.3)."""
        names = (yield from self._validated()).names
        wanted = question_name(domain)
        if wanted in names:
            return wanted
        inside = (name for name in names if name.endswith(f".{wanted}"))
        return next(inside, names[0] if names else "unknown")

    def _validated(self) -> Questions[_Reverse]:
        """RFC 7208 §5.5, once for a check: a failure of the DNS makes no name, and no error."""
        if self._reverse is not None:
            return self._reverse
        question = Question(self._client.reverse_name, RecordType.PTR)
        (answer,) = yield (question,)
        self._note_answer(question, answer)
        is_void = answer.status is not DnsStatus.TEMPFAIL and not answer.records
        # A name with octets that need escapes is no host's, and would not survive a macro.
        asked = [name for name in answer.records[: self._limits.ptr_max] if "\\" not in name]
        valid: list[str] = []
        if asked:
            questions = tuple(Question(name, self._addresses) for name in asked)
            answers = yield questions
            for about, heard in zip(questions, answers):
                if any(_number(text) == self._client.number for text in heard.records):
                    valid.append(about.name.lower().removesuffix("."))
                elif heard.status is not DnsStatus.TEMPFAIL and not heard.records:
                    is_void = True
                self._note_answer(about, heard)
        self._reverse = _Reverse(tuple(valid), is_void)
        return self._reverse

    # --- limits ---

    def _count_term(self) -> None:
        self._is_void_counted = False
        self._terms += 1
        if self._terms > self._limits.terms_max:
            reason = f"more than {self._limits.terms_max} terms that look something up"
            raise Ended(Result.PERMERROR, reason)

    def _count_void(self) -> None:
        """A look-up of this term found nothing. RFC 7208 §4.6.4 limits the number of such terms: an
        mx with three hosts that have no AAAA is one of them."""
        if self._is_void_counted:
            return
        self._is_void_counted = True
        self._voids += 1
        if self._voids > self._limits.voids_max:
            reason = f"more than {self._limits.voids_max} terms that find nothing"
            raise Ended(Result.PERMERROR, reason)

    # --- evidence ---

    def _note(self, what: str, found: str) -> None:
        evidence = Evidence(what, printable(found[:FOUND_CHARACTERS_MAX]))
        if len(self.evidence) < EVIDENCE_MAX:
            self.evidence.append(evidence)
        else:
            self.evidence[-1] = evidence  # what came last decided

    def _note_answer(self, question: Question, answer: DnsAnswer) -> None:
        self._note(str(question), _told(answer))

    def _failed(self, question: Question, answer: DnsAnswer) -> Ended:
        self._note_answer(question, answer)
        return Ended(Result.TEMPERROR, f"{question}: {_told(answer)}")


def _told(answer: DnsAnswer) -> str:
    """What an answer said, in words."""
    if answer.status is DnsStatus.TEMPFAIL:
        return printable(answer.detail[:REASON_CHARACTERS_MAX]) or answer.status.value
    if not answer.records:
        return str(answer.status.value)
    shown = ", ".join(_record_text(each) for each in answer.records[:SHOWN_RECORDS_MAX])
    more = len(answer.records) - SHOWN_RECORDS_MAX
    return f"{shown}, {more} more" if more > 0 else shown


def _record_text(record: object) -> str:
    if isinstance(record, bytes):
        return str(record[:FOUND_CHARACTERS_MAX], "latin-1")
    if isinstance(record, MxRecord):
        return f"{record.preference} {record.host or '.'}"
    return str(record)


@lru_cache(maxsize=4096)
def _number(text: str) -> int:
    """An address record's number."""
    return int(ipaddress.ip_address(text))


def cut(text: str) -> str:
    return printable(text[:TEXT_CHARACTERS_MAX])
