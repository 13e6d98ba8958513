"""DMARC aggregate reports: RFC 9990's form, RFC 7489's and what was sent before them, leniently.

RFC 9990 §3.1.1 would have a report that does not match discarded, but lets an evaluator use what
there is of it. Elements that are not known, among them all extensions, are passed over.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from posthouse.reporting import read_xml
from posthouse.reporting.model import (
    AggregateReport,
    DkimResult,
    Overrun,
    PublishedPolicy,
    Reason,
    Record,
    SpfResult,
    Unreadable,
)

TEXT_CHARACTERS_MAX: Final = 1_000
"""Of one value; a longer one is cut."""
RESULTS_MAX: Final = 100
"""Signatures, SPF results, reasons of one record (RFC 9990 §3.1.3)."""
ERRORS_MAX: Final = 100
COUNT_MAX: Final = 2**53
TIME_MAX: Final = 2**40

DEPTH_MAX: Final = 32
ELEMENTS_FREE: Final = 100_000
ELEMENTS_PER_RECORD: Final = 60
"""A report may have as many elements as `ELEMENTS_FREE` and this for each record in it: a common
record has 20, and what has no records is no report."""


class _Node:
    """What an element is by where it stands: a value (with its key), a group, or a branch."""

    __slots__ = ("children", "is_value", "key", "path")

    def __init__(self, path: str, *, is_value: bool = False) -> None:
        self.path = path
        self.key = path.rpartition("/")[2]
        self.is_value = is_value
        self.children: dict[str, _Node] = {}


def _tree(paths: Iterable[str]) -> _Node:
    root = _Node("")
    for path in paths:
        node = root
        names = path.split("/")
        for at, name in enumerate(names):
            here = "/".join(names[: at + 1])
            node = node.children.setdefault(name, _Node(here, is_value=here == path))
    return root


_POLICY: Final = PublishedPolicy.__struct_fields__
_TREE: Final = _tree(
    (
        "version",
        *(f"report_metadata/{n}" for n in ("org_name", "email", "extra_contact_info")),
        *(f"report_metadata/{n}" for n in ("report_id", "error", "generator")),
        *(f"report_metadata/date_range/{name}" for name in ("begin", "end")),
        *(f"policy_published/{name}" for name in _POLICY),
        *(f"record/row/{name}" for name in ("source_ip", "count")),
        *(f"record/row/policy_evaluated/{name}" for name in ("disposition", "dkim", "spf")),
        *(f"record/row/policy_evaluated/reason/{name}" for name in ("type", "comment")),
        *(f"record/identifiers/{n}" for n in ("header_from", "envelope_from", "envelope_to")),
        # The drafts before RFC 7489 had the identifiers under another name.
        "record/identities/header_from",
        *(f"record/auth_results/dkim/{n}" for n in ("domain", "selector", "result")),
        "record/auth_results/dkim/human_result",
        *(f"record/auth_results/spf/{n}" for n in ("domain", "scope", "result", "human_result")),
    )
)
"""Where values stand, below the root."""
_GROUPS: Final = frozenset(
    {"record/auth_results/dkim", "record/auth_results/spf", "record/row/policy_evaluated/reason"}
)


def read(pieces: Iterable[bytes], *, records_max: int) -> AggregateReport:
    """Raises Unreadable."""
    handler = _Handler(records_max)
    read_xml.parse(pieces, "feedback", handler)
    return handler.report()


class _Handler:
    """Keeps the values of known places; a group (a record, a signature) is closed at its end."""

    def __init__(self, records_max: int) -> None:
        self._records_max = records_max
        self._nodes: list[_Node] = []
        self._passed_over = 0
        """Depth within an element that is not known."""
        self._elements_left = ELEMENTS_FREE
        self._prefix = ""
        self._pieces: list[str] | None = None
        self._length = 0
        self._head: dict[str, str] = {}
        self._errors: list[str] = []
        self._row: dict[str, str] = {}
        self._reasons: list[Reason] = []
        self._dkim: list[DkimResult] = []
        self._spf: list[SpfResult] = []
        self._group: dict[str, str] = {}
        self._records: list[Record] = []
        self.is_done = False

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._elements_left -= 1
        if self._elements_left < 0:
            raise Unreadable("the XML has far more elements than a report")
        self._pieces = None
        if self._passed_over:
            self._pass_over()
        elif not self._nodes:
            if not self.is_done:
                self._prefix = name[: -len("feedback")]
                self._nodes.append(_TREE)
        else:
            # An element of another namespace is never ours: it keeps its prefix.
            if self._prefix and name.startswith(self._prefix):
                name = name[len(self._prefix) :]
            node = self._nodes[-1].children.get(name)
            if node is None:
                self._pass_over()
                return
            self._nodes.append(node)
            if node.is_value:
                self._pieces = []
                self._length = 0

    def _pass_over(self) -> None:
        self._passed_over += 1
        if self._passed_over > DEPTH_MAX:
            raise Unreadable(f"the XML is nested deeper than {DEPTH_MAX} elements")

    def text(self, text: str) -> None:
        if self._pieces is not None and self._length < TEXT_CHARACTERS_MAX:
            self._pieces.append(text)
            self._length += len(text)

    def end(self, name: str) -> None:
        if self._passed_over:
            self._passed_over -= 1
            return
        if self.is_done:
            return
        node = self._nodes.pop()
        if node.is_value:
            # An element within a value has taken its text away: that is no value.
            pieces = self._pieces or ()
            self._value(node, "".join(pieces)[:TEXT_CHARACTERS_MAX].strip())
            self._pieces = None
        else:
            self._close(node.path)
            self.is_done = not self._nodes

    def _value(self, node: _Node, value: str) -> None:
        parent = self._nodes[-1].path
        if parent in _GROUPS:
            self._group.setdefault(node.key, value)
        elif node.path.startswith("record/"):
            self._row.setdefault(node.path[len("record/") :], value)
        elif node.key == "error":
            if value and len(self._errors) < ERRORS_MAX:
                self._errors.append(value)
        else:
            self._head.setdefault(node.path, value)

    def _close(self, path: str) -> None:
        group = self._group
        match path:
            case "record/auth_results/dkim":
                if len(self._dkim) < RESULTS_MAX:
                    self._dkim.append(
                        DkimResult(
                            group.get("domain", "").lower(),
                            group.get("selector", ""),
                            group.get("result", "").lower(),
                            group.get("human_result", ""),
                        )
                    )
            case "record/auth_results/spf":
                if len(self._spf) < RESULTS_MAX:
                    self._spf.append(
                        SpfResult(
                            group.get("domain", "").lower(),
                            group.get("result", "").lower(),
                            group.get("scope", "").lower(),
                            group.get("human_result", ""),
                        )
                    )
            case "record/row/policy_evaluated/reason":
                if len(self._reasons) < RESULTS_MAX:
                    reason = Reason(group.get("type", "").lower(), group.get("comment", ""))
                    self._reasons.append(reason)
            case "record":
                self._close_record()
            case _:
                return
        self._group = {}

    def _close_record(self) -> None:
        most = self._records_max
        if len(self._records) >= most:
            raise Unreadable(
                f"the report has more than {most} records",
                Overrun(name="reports.records_max", value=most, observed=most + 1),
            )
        row = self._row
        header_from = row.get("identifiers/header_from") or row.get("identities/header_from", "")
        self._records.append(
            Record(
                source_ip=row.get("row/source_ip", ""),
                messages=_number(row.get("row/count", ""), COUNT_MAX),
                disposition=row.get("row/policy_evaluated/disposition", "").lower(),
                dkim=row.get("row/policy_evaluated/dkim", "").lower(),
                spf=row.get("row/policy_evaluated/spf", "").lower(),
                reasons=tuple(self._reasons),
                header_from=header_from.lower(),
                envelope_from=_lower(row.get("identifiers/envelope_from")),
                envelope_to=row.get("identifiers/envelope_to", "").lower(),
                dkim_results=tuple(self._dkim),
                spf_results=tuple(self._spf),
            )
        )
        self._row, self._reasons, self._dkim, self._spf = {}, [], [], []
        self._elements_left += ELEMENTS_PER_RECORD

    def report(self) -> AggregateReport:
        head = self._head
        domain = head.get("policy_published/domain", "").lower().rstrip(".")
        if not domain:
            raise Unreadable("the report does not say which domain it is about")
        policy = {name: head.get(f"policy_published/{name}", "") for name in _POLICY}
        policy = {name: value if name == "fo" else value.lower() for name, value in policy.items()}
        policy["domain"] = domain
        return AggregateReport(
            version=head.get("version", ""),
            organization=head.get("report_metadata/org_name", ""),
            email=head.get("report_metadata/email", ""),
            contact=head.get("report_metadata/extra_contact_info", ""),
            report_id=head.get("report_metadata/report_id", ""),
            begin_s=_number(head.get("report_metadata/date_range/begin", ""), TIME_MAX),
            end_s=_number(head.get("report_metadata/date_range/end", ""), TIME_MAX),
            errors=tuple(self._errors),
            generator=head.get("report_metadata/generator", ""),
            policy=PublishedPolicy(**policy),
            records=tuple(self._records),
        )


def _lower(value: str | None) -> str | None:
    return None if value is None else value.lower()


def _number(text: str, most: int) -> int:
    """0 for what is none; some write times with a fraction."""
    whole = text.partition(".")[0]
    return min(int(whole), most) if len(whole) <= 20 and whole.isascii() and whole.isdigit() else 0
