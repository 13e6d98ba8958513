"""The openspf test suite for RFC 7208."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import yaml

from posthouse.mailauth.questions import answer
from posthouse.mailauth.results import SpfOutcome
from posthouse.mailauth.spf.check import verify
from tests.mailauth.spf.zone import TIMEOUT, Zone, ask

DEVIATIONS: dict[str, str] = {}
"""Cases by name with the text of the RFC that says otherwise: there are none."""


class Case(msgspec.Struct, frozen=True):
    name: str
    fields: dict[str, object]
    zone: dict[str, dict[str, object]]

    @property
    def results(self) -> list[str]:
        """All that are allowed."""
        result = self.fields["result"]
        return result if isinstance(result, list) else [str(result)]

    @property
    def explanation(self) -> str | None:
        """None where it is not told; "" is the default one, which is empty here."""
        wanted = self.fields.get("explanation")
        return "" if wanted == "DEFAULT" else None if wanted is None else str(wanted)


def read_zone(entries: dict[str, list[object]]) -> dict[str, dict[str, object]]:
    """Records of type SPF stand for TXT unless the name has TXT of its own (head of the file)."""
    zone: dict[str, dict[str, object]] = {}
    for name, items in entries.items():
        records: dict[str, list[object]] = {}
        is_silent = False
        for item in items:
            if item == "TIMEOUT":
                is_silent = True
                continue
            ((kind, value),) = item.items()
            if kind in ("TXT", "SPF") and isinstance(value, list):
                value = "".join(value)
            records.setdefault(kind, []).append(value)
        records.setdefault("TXT", records.get("SPF", []))
        found: dict[str, object] = {**records, "TXT": [t for t in records["TXT"] if t != "NONE"]}
        if "CNAME" in found:
            found["CNAME"] = records["CNAME"][0]
        if is_silent:
            silent = ("A", "AAAA", "MX", "TXT", "PTR")
            found = {kind: found.get(kind) or TIMEOUT for kind in silent}
        zone[name] = found
    return zone


def read_cases(folder: Path) -> Iterator[Case]:
    for file in sorted(folder.glob("*.yml")):
        for scenario in yaml.safe_load_all(file.read_text(encoding="utf-8")):
            zone = read_zone(scenario["zonedata"])
            for name, fields in scenario["tests"].items():
                yield Case(name, fields, zone)


def outcome(case: Case) -> SpfOutcome:
    host, helo = str(case.fields["host"]), str(case.fields["helo"])
    mail_from = str(case.fields["mailfrom"])
    zone = Zone(case.zone)
    if not mail_from:
        return answer(verify(host, helo, None), zone)[1]
    domain = mail_from.rpartition("@")[2]
    return ask(zone, ip=host, domain=domain, sender=mail_from, helo=helo)


def test_the_published_cases_have_their_results(vectors: Path) -> None:  # RFC 7208
    cases = list(read_cases(vectors / "spf"))
    assert len(cases) > 100
    for case in cases:
        if case.name in DEVIATIONS:
            continue
        found = outcome(case)
        assert found.result.value in case.results, f"{case.name}: {found}"
        if case.explanation is not None:
            assert found.explanation == case.explanation, case.name
