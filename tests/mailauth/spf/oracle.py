"""pyspf on the same zones, and what it does otherwise than RFC 7208 says.

Each class of `CORRECTIONS` takes one such thing away, so that a disagreement is explained by the
ones after which pyspf gives our result, and by no others.
"""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from itertools import combinations
from typing import Any

from posthouse.kernel.ports import DnsStatus, RecordType
from posthouse.mailauth.questions import Question
from posthouse.mailauth.spf.macros import EXPLANATION_CHARACTERS_MAX
from posthouse.mailauth.spf.names import question_name
from tests.mailauth.spf.policies import Policy
from tests.mailauth.spf.zone import Zone

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of invalid escapes in its docstrings
    import spf

DEFAULT_EXPLANATION = "SPF fail - not authorized"
RECEIVER = "mx.example.net"


class Voids(spf.query):
    """RFC 7208 §4.6.4 limits "the number of "terms" for which DNS queries return" nothing; pyspf
    counts the queries, so that an mx with three hosts that have no AAAA is an error for everybody
    who comes by IPv6."""

    counted = 0
    is_counted = False

    @property
    def void_lookups(self) -> int:
        return self.counted

    @void_lookups.setter
    def void_lookups(self, value: int) -> None:
        if value == 0:
            self.counted = 0
        elif not self.is_counted:
            self.counted += 1
            self.is_counted = True

    def check_lookups(self) -> None:
        self.is_counted = False
        super().check_lookups()


class _Found(list):  # type: ignore[type-arg]
    """Addresses or names, and what is to be raised when none of them matches."""

    error: Exception | None = None
    voids = 0


class MatchFirst(spf.query):
    """RFC 7208 §5.4: "If any address matches, the mechanism matches"; §5.5 says the same of names.
    No order is prescribed, so one that matches outweighs others that fail or do not exist; pyspf
    looks up all of them before it compares."""

    voids = -1

    def dns(self, name: str, kind: str, cnames: Any = None, ignore_void: bool = False) -> list[Any]:
        is_waiting = self.voids >= 0
        found: list[Any] = super().dns(name, kind, cnames, ignore_void or is_waiting)
        if is_waiting and not found and not ignore_void:
            self.voids += 1
        return found

    def dns_mx(self, domainname: str) -> list[str]:
        names = self.dns(domainname, "MX")
        if len(names) > spf.MAX_MX:
            raise spf.PermError("More than 10 MX records returned")
        found = _Found()
        self.voids = 0
        for _, host in sorted(names):
            try:
                found += self.dns_a(host, self.A)
            except spf.TempError as error:
                found.error = error
        found.voids, self.voids = self.voids, -1
        return found

    def validated_ptrs(self) -> list[str]:
        self.voids = 0
        found = _Found(super().validated_ptrs())
        found.voids, self.voids = self.voids, -1
        found.settle = lambda: self.settle(found)
        return found

    def cidrmatch(self, addresses: list[str], length: int) -> bool:
        is_match: bool = super().cidrmatch(addresses, length)
        if not is_match and isinstance(addresses, _Found):
            self.settle(addresses)
        return is_match

    def settle(self, found: _Found) -> None:
        if found.error is not None:
            raise found.error
        for _ in range(found.voids):
            self.void_lookups += 1
            if self.void_lookups > spf.MAX_VOID_LOOKUPS:
                raise spf.PermError("Void lookup limit exceeded")


def _domainmatch(names: list[str], domain: str, find: Callable[..., bool]) -> bool:
    is_match = bool(find(names, domain))
    if not is_match and isinstance(names, _Found):
        names.settle()
    return is_match


spf.domainmatch = partial(_domainmatch, find=spf.domainmatch)


class PtrErrors(spf.query):
    """RFC 7208 §5.5: "If a DNS error occurs while doing the PTR RR lookup, then this mechanism
    fails to match. If a DNS error occurs while doing an A RR lookup, then that domain name is
    skipped"; §7.3 has "unknown" for %{p} then. pyspf gives temperror."""

    def validated_ptrs(self) -> list[str]:
        try:
            names = self.dns_ptr(self.i)[: spf.MAX_PTR]
        except spf.TempError:
            return []
        return [name for name in names if self._leads_back(name)]

    def _leads_back(self, name: str) -> bool:
        try:
            return bool(self.cidrmatch(self.dns_a(name, self.A), self.cidrmax))
        except spf.TempError:
            return False


class Recursion(spf.query):
    """RFC 7208 §4.6.2: "Each mechanism is considered in turn from left to right". pyspf refuses an
    include of the record's own domain before it has looked at the mechanisms in front."""

    def validate_mechanism(self, mech: str) -> Any:
        try:
            return super().validate_mechanism(mech)
        except spf.PermError as error:
            if "trivial recursion" not in error.msg:
                raise
            name, _, domain = mech.partition(":")
            result = spf.RESULTS.get(name[0], "pass")
            return mech, "include", self.expand_domain(domain), self.cidrmax, result


class Percents(spf.query):
    """RFC 7208 §7.1: "%%" is a macro-expand and may end a domain-spec. pyspf takes its second
    octet for a "%" with nothing behind it."""

    def expand(self, text: str, stripdot: bool = True) -> str:
        expanded: str = super().expand(text.replace("%%", "\x01"), stripdot)
        return expanded.replace("\x01", "%")


class Modifiers(spf.query):
    """RFC 7208 §6: "Unrecognized modifiers MUST be ignored no matter where, or how often, they
    appear"; §4.6.1: names are case-insensitive. pyspf refuses the second of a name and does not
    know EXP=."""

    def dns_spf(self, domain: str) -> str | None:
        record: str | None = super().dns_spf(domain)
        return None if record is None else " ".join(self._terms(record))

    def _terms(self, record: str) -> Iterator[str]:
        seen: set[str] = set()
        for term in record.split(" "):
            match = spf.RE_MODIFIER.match(term)
            name = match[1].lower() if match else ""
            if name in ("exp", "redirect"):
                yield name + term[len(name) :]
            elif not name or name not in seen:
                yield term
            seen.add(name)


class Malformed(spf.query):
    """RFC 7208 §4.8 leaves open what a name means that the DNS cannot have: "not-match and
    therefore ignore such names", here, so that no name within it has to be looked for. pyspf does
    so, but asks for the client's names in vain before."""

    def validate_mechanism(self, mech: str) -> Any:
        mech, name, domain, length, result = super().validate_mechanism(mech)
        is_in_vain = name == "ptr" and not question_name(domain)
        return mech, "exists" if is_in_vain else name, domain, length, result


class Postmaster(spf.query):
    """RFC 7208 §4.3: "If the <sender> has no local-part, substitute the string "postmaster"", in
    %{s}, too (§7.3); pyspf does so in %{l} only."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.s.startswith("@"):
            self.s = f"postmaster{self.s}"


class MacroSyntax(spf.query):
    """RFC 7208 §7.1: "macro-letter transformers *delimiter" and nothing else, and §7.3: "If a DIGIT
    is specified, the value MUST be nonzero". pyspf does not look at what is behind the letter."""

    def expand(self, text: str, stripdot: bool = True) -> str:
        for macro in re.findall(r"%(?:%|_|-|\{[^}]*\}?)", text):
            if macro[1] == "{" and not _MACRO.fullmatch(macro):
                raise spf.PermError("a macro with something else", macro)
        return str(super().expand(text, stripdot))


_MACRO = re.compile(r"%\{[a-zA-Z](?:0*[1-9][0-9]*)?[rR]?[.+,/_=-]*\}")
_PIECES = re.compile(r"%\{[^}]*\}|%.?|[^%]{1,100}")


class Redirects(spf.query):
    """RFC 7208 §4.6.4 limits the terms "during SPF evaluation"; pyspf counts a redirect= before it
    has looked at the mechanisms, also when one of them matches."""

    is_include = False

    def check_lookups(self) -> None:
        known = _locals_of_check0()
        if "cidrlength" in known:  # of the loop over mechanisms, which comes second
            self.is_include = known["m"] == "include"
            super().check_lookups()

    def dns_spf(self, domain: str) -> str | None:
        if _locals_of_check0() and not self.is_include:
            super().check_lookups()
        self.is_include = False
        record: str | None = super().dns_spf(domain)
        return record


def _locals_of_check0() -> dict[str, Any]:
    """Of the record being evaluated; the first one is looked for before there is any."""
    frame = sys._getframe(2)
    while frame.f_code.co_name in ("check_lookups", "dns_spf") and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_locals if frame.f_code.co_name == "check0" else {}


class LongNames(spf.query):
    """RFC 7208 §7.3: labels go "until the total length does not exceed 253 characters"; pyspf takes
    one, and shortens explanations in the same way, too."""

    def expand(self, text: str, stripdot: bool = True) -> str:
        if not stripdot:
            expand = super().expand
            return "".join(expand(piece, False) for piece in _PIECES.findall(text))
        expanded: str = super().expand(text)
        while len(expanded) > 253 and "." in expanded:
            expanded = expanded.partition(".")[2]
        return expanded


CORRECTIONS: tuple[type, ...] = (
    Voids,
    MatchFirst,
    PtrErrors,
    Recursion,
    Percents,
    Modifiers,
    Redirects,
    LongNames,
    Malformed,
    Postmaster,
    MacroSyntax,
)


def verdict(policy: Policy, *corrections: type) -> tuple[str, str]:
    """pyspf's result and explanation ("" for its default one)."""
    spf.DNSLookup = _lookup(Zone(policy.zone))
    kind = type("Corrected", (*corrections, spf.query), {})
    query = kind(i=policy.ip, s=policy.sender, h=policy.helo, receiver=RECEIVER)
    result, _, explanation = query.check()
    if result != "fail" or explanation == DEFAULT_EXPLANATION:
        explanation = ""
    return result, explanation[:EXPLANATION_CHARACTERS_MAX]  # RFC 7208 §6.2 allows the limit


def explain(policy: Policy, ours: tuple[str, str]) -> tuple[type, ...] | None:
    """The fewest corrections after which pyspf agrees; None when none help."""
    for count in range(len(CORRECTIONS) + 1):
        for chosen in combinations(CORRECTIONS, count):
            if verdict(policy, *chosen) == ours:
                return chosen
    return None


def _lookup(zone: Zone) -> Callable[..., list[tuple[tuple[str, str], object]]]:
    def lookup(
        name: str, kind: str, strict: bool = True, timeout: float = 20
    ) -> list[tuple[tuple[str, str], object]]:
        question = Question(question_name(re.sub(r"\.$", "", name)), RecordType[kind])
        answer = zone(question)
        if answer.status is DnsStatus.TEMPFAIL:
            raise spf.TempError(f"DNS {answer.detail}")
        return [((name, kind), _data(record, kind)) for record in answer.records]

    return lookup


def _data(record: Any, kind: str) -> object:
    if kind == "MX":
        return record.preference, record.host
    return (record,) if kind == "TXT" else record
