"""What holds for SPF whatever anybody publishes or says (H44)."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.kernel.envelope import Address
from posthouse.kernel.ports import DnsAnswer, DnsStatus, MxRecord, RecordType
from posthouse.mailauth.questions import Question, answer
from posthouse.mailauth.results import SpfOutcome
from posthouse.mailauth.spf.check import QUESTIONS_MAX, verify
from posthouse.mailauth.spf.evaluation import EVIDENCE_MAX
from posthouse.mailauth.spf.grammar import Record, parse_record
from posthouse.mailauth.spf.names import NAME_CHARACTERS_MAX
from posthouse.mailauth.spf.refusal import refusal
from posthouse.protocol.dns.grammar import canonical, encode_question

WORDS = """
a mx ptr all include: exists: ip4: ip6: redirect= exp= a: mx: ptr: - ~ ? + / // . : = %{ } % %% %_
%- %{d} %{s} %{l1r-} %{ir} %{p} %{h} %{d999} %{d0} %{L} a.example b.example c.example 192.0.2.1 ::1
2001:db8:: 24 128 0 ( " xn--a \\ é
"""
PIECES = st.sampled_from([*WORDS.split(), " ", "\n", "\0"])
WHOLE = """
a mx ptr -all ~all ?all a:b.example mx:b.example ptr:c.example include:a.example include:b.example
include:c.example redirect=a.example redirect=b.example exists:%{p}.a.example a:%{d} exp=a.example
exp=%{s}.%{p}.b.example a:%{l}.b.example exists:%{i}%{i}%{i}%{i}%{i}%{h} ip4:192.0.2.0/24 ip6:::/1
a//0 mx/0 foo=%{d}
"""
TERMS = st.sampled_from(WHOLE.split())
RECORDS = st.one_of(
    st.lists(TERMS, max_size=14).map(lambda terms: " ".join(("v=spf1", *terms)).encode()),
    st.lists(PIECES, max_size=20).map(lambda some: b"v=spf1 " + "".join(some).encode("latin-1")),
    st.binary(max_size=60).map(lambda octets: b"v=spf1 " + octets),
    st.binary(max_size=60),
    st.just(b"v=spf1 " + b"mx:b.example " * 1000),
)
HOSTS = st.sampled_from(["a.example", "b.example", "c.example", "a\\032b.example", "", "x.y"])
ADDRESSES = {
    RecordType.A: st.sampled_from(["192.0.2.1", "198.51.100.1"]),
    RecordType.AAAA: st.sampled_from(["2001:db8::1", "::1"]),
    RecordType.MX: st.builds(MxRecord, st.integers(0, 65535), HOSTS),
    RecordType.PTR: HOSTS.filter(bool),
    RecordType.TXT: RECORDS,
}


@st.composite
def answers(draw: st.DrawFn, record_type: RecordType) -> DnsAnswer:
    status = draw(st.sampled_from([DnsStatus.FOUND] * 5 + list(DnsStatus)))
    if status is not DnsStatus.FOUND:
        return DnsAnswer(status=status, detail="d\r\n\x1b")
    size = 1 if record_type is RecordType.TXT else draw(st.sampled_from([1, 1, 2, 11, 40]))
    records = draw(st.lists(ADDRESSES[record_type], min_size=1, max_size=size))
    return DnsAnswer(status=status, records=tuple(records))


SAID = st.text(max_size=300) | st.sampled_from(["mx.a.example", "a.example", "a\r\n.b", "\ud800"])


@settings(max_examples=300, deadline=None)
@given(
    st.data(),
    st.sampled_from(["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.1", "", "x"]),
    SAID,
    st.none()
    | st.builds(Address, SAID, st.sampled_from(["a.example", "b.example", "[::1]"]) | SAID),
    SAID,
)
def test_a_check_ends_bounded_and_printable(
    data: st.DataObject, ip: str, helo: str, mail_from: Address | None, receiver: str
) -> None:
    known: dict[Question, DnsAnswer] = {}
    asked: list[Question] = []

    def answers_to(question: Question) -> DnsAnswer:
        asked.append(question)
        if question not in known:
            known[question] = data.draw(answers(question.record_type))
        return known[question]

    outcomes = answer(verify(ip, helo, mail_from, receiver=receiver, at_unix_s=1), answers_to)
    assert len(asked) <= 2 * QUESTIONS_MAX
    for question in asked:  # every name can be asked for, and is in the form of the cache
        encode_question(question.name, question.record_type, message_id=0)
        assert question.name == canonical(question.name)
    for outcome in outcomes:
        assert_told(outcome)


def assert_told(outcome: SpfOutcome) -> None:
    texts = [outcome.explanation, outcome.reason, outcome.mechanism, outcome.domain, outcome.sender]
    texts += [text for each in outcome.evidence for text in (each.what, each.found)]
    assert all(text.isascii() and text.isprintable() for text in texts if text)
    assert all(len(text) <= 1024 for text in texts)
    assert len(outcome.explanation) <= 480
    assert len(outcome.evidence) <= EVIDENCE_MAX
    if outcome.result.value in ("fail", "temperror", "permerror"):
        for line in refusal(outcome).encode().split(b"\r\n"):
            assert len(line) <= 510


@settings(max_examples=500, deadline=None)
@given(RECORDS)
def test_a_record_is_read_or_refused(octets: bytes) -> None:
    record = parse_record(octets)
    assert record.text.isascii()
    if isinstance(record, Record):
        assert all(mechanism.text in record.text for mechanism in record.mechanisms)
        named = [record.redirect, record.explanation]
        named += [getattr(mechanism, "domain", None) for mechanism in record.mechanisms]
        for spec in named:
            assert spec is None or spec.name is None or len(spec.name) <= NAME_CHARACTERS_MAX
    else:
        assert record.reason
