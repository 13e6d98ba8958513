"""A sealer, which Posthouse has none of, and the way to judge a chain."""

from __future__ import annotations

from posthouse.mailauth import questions
from posthouse.mailauth.arc import verify as arc
from posthouse.mailauth.dkim import verify as dkim
from posthouse.mailauth.dkim.verify import Options
from posthouse.mailauth.results import ArcOutcome
from posthouse.message.fields import read_section
from tests.mailauth.dkim.lab import NOW, Records, dns, records


def judge(
    message: bytes,
    found: Records | None = None,
    *,
    now: int = NOW,
    options: Options = dkim.DEFAULTS,
) -> ArcOutcome:
    prepared = arc.prepare(message, read_section(message), options=options)
    answers = dns(records() if found is None else found)
    return questions.answer(arc.verify(prepared, now), answers)
