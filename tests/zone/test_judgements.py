"""What is made of what was seen: tables for what a laboratory on loopback cannot show."""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from posthouse.accounts.domain_keys import DomainKey, KeyState
from posthouse.accounts.rotation import Options, Sight
from posthouse.kernel.ports import DnsAnswer, DnsStatus, SrvRecord, TlsaRecord
from posthouse.mailauth import questions
from posthouse.mailauth.dmarc.grammar import parse
from posthouse.mailauth.spf.grammar import is_record
from posthouse.tls.self_signed import make_self_signed
from posthouse.zone.check_clients import judge_srv
from posthouse.zone.check_host import judge_certificate
from posthouse.zone.check_sender import follow
from posthouse.zone.check_transport import judge_addresses, judge_tlsa
from posthouse.zone.checked import State, listed
from posthouse.zone.dmarc_words import judge_dmarc
from posthouse.zone.key_words import difference, judge_key
from tests.accounts.keys import new_key

NOW = datetime(2026, 7, 1, tzinfo=UTC)
WANTED = "0 1 993 mail.example.org."


@pytest.mark.parametrize(
    ("records", "state", "words"),
    [
        ((), State.ABSENT, "cannot find this by themselves"),
        ((SrvRecord(5, 9, 993, "mail.example.org"),), State.RIGHT, ""),
        (
            (SrvRecord(0, 1, 993, "imap.example.net"),),
            State.WRONG,
            "are sent to imap.example.net port 993 and not to mail.example.org port 993",
        ),
        ((SrvRecord(0, 1, 143, "mail.example.org"),), State.WRONG, "mail.example.org port 143"),
        ((SrvRecord(0, 0, 0, ""),), State.WRONG, "nowhere port 0"),
        (
            (SrvRecord(9, 1, 1, "old.example.org"), SrvRecord(0, 1, 993, "mail.example.org")),
            State.RIGHT,
            "",
        ),
    ],
)
def test_srv_records(records: tuple[SrvRecord, ...], state: State, words: str) -> None:
    found = judge_srv(records, WANTED)
    assert found[0] is state
    assert words in found[1]


def leaf(days: int) -> bytes:
    pem, _ = make_self_signed(["mail.example.org"], NOW, valid_days=days)
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


@pytest.mark.parametrize(
    ("days", "problem", "is_enforced", "state", "words"),
    [
        (60, "", False, State.RIGHT, "good for 60 days more"),
        (13, "", False, State.ADVICE, "expires in 13 days"),
        (60, "the peer's certificate is self-signed", False, State.ADVICE, "mail clients ask"),
        (60, "the peer's certificate is self-signed", True, State.WRONG, "MTA-STS policy tells"),
        (1, "the peer's certificate expired at 2026-06-30", False, State.WRONG, "will refuse it"),
    ],
)
def test_certificates(days: int, problem: str, is_enforced: bool, state: State, words: str) -> None:
    found = judge_certificate(leaf(days), NOW, problem=problem, is_enforced=is_enforced)
    assert found[0] is state
    assert words in found[1]


@pytest.mark.parametrize(
    ("found", "wanted", "is_alias", "unreachable", "state"),
    [
        ((), (), False, (), State.MISSING),
        (("192.0.2.1",), (), False, (), State.RIGHT),
        (("192.0.2.1",), ("192.0.2.1", "2001:db8::1"), False, (), State.WRONG),
        (("192.0.2.1",), (), True, (), State.WRONG),
        (("10.0.0.1",), (), False, ("10.0.0.1",), State.WRONG),
    ],
)
def test_addresses(
    found: tuple[str, ...],
    wanted: tuple[str, ...],
    is_alias: bool,
    unreachable: tuple[str, ...],
    state: State,
) -> None:
    judged = judge_addresses(found, wanted, is_alias=is_alias, unreachable=unreachable)
    assert judged[0] is state


OURS = TlsaRecord(usage=3, selector=1, matching=1, data=b"\1" * 32)
NEXT = TlsaRecord(usage=3, selector=1, matching=1, data=b"\2" * 32)
OLD = TlsaRecord(usage=3, selector=1, matching=1, data=b"\3" * 32)


@pytest.mark.parametrize(
    ("published", "is_signed", "ours", "state", "words"),
    [
        ((), True, (OURS,), State.ABSENT, "without it senders cannot use DANE"),
        ((OURS,), True, (OURS,), State.RIGHT, "know this server by its key"),
        ((OURS, OLD), True, (OURS,), State.RIGHT, "know this server by its key"),
        ((OURS,), False, (OURS,), State.ADVICE, "not proven by DNSSEC"),
        ((OLD,), True, (OURS,), State.WRONG, "refuse to deliver to you"),
        ((OLD,), False, (OURS,), State.WRONG, "once the zone is signed"),
        ((OURS,), True, (OURS, NEXT), State.WRONG, "the next key waits for its record"),
        ((OURS,), True, (), State.UNKNOWN, "no certificate yet"),
    ],
)
def test_tlsa_records(
    published: tuple[TlsaRecord, ...],
    is_signed: bool,
    ours: tuple[TlsaRecord, ...],
    state: State,
    words: str,
) -> None:
    answer = DnsAnswer(
        status=DnsStatus.FOUND if published else DnsStatus.NO_DATA,
        records=published,
        is_authenticated=is_signed,
    )
    found = judge_tlsa(answer, ours)
    assert found[0] is state
    assert words in found[1]


@pytest.fixture(scope="module")
def key() -> DomainKey:
    return new_key()


SHOWN = Sight(is_shown=True)
GONE = Sight(is_shown=False, found="no record")
OTHER = Sight(is_shown=False, found="v=DKIM1; k=ed25519; p=AAAA")
EMPTY = Sight(is_shown=False, found="v=DKIM1; k=ed25519; p=", is_revoked=True)
LIFETIME_S = 6 * 86_400.0
RETIRED_AT = 1_795_651_200_000_000  # 2026-11-26


@pytest.mark.parametrize(
    ("state", "seen", "is_needless", "has_other", "judged", "words"),
    [
        (KeyState.WAITING, SHOWN, False, False, State.RIGHT, "posthouse domain keys example.org"),
        (KeyState.WAITING, GONE, False, False, State.MISSING, "goes out without its signature"),
        (KeyState.WAITING, GONE, False, True, State.MISSING, "the key before it signs on"),
        (KeyState.WAITING, OTHER, False, True, State.WRONG, "differs from character "),
        (KeyState.SIGNING, SHOWN, False, False, State.RIGHT, "others can verify it"),
        (KeyState.SIGNING, GONE, False, False, State.MISSING, "publish its record now"),
        (KeyState.RETIRED, SHOWN, False, True, State.RIGHT, "its record stays until 2026-12-02"),
        (KeyState.RETIRED, SHOWN, True, True, State.ADVICE, "remove its record"),
        (KeyState.RETIRED, GONE, False, True, State.MISSING, "put it back until 2026-12-02"),
        (KeyState.RETIRED, OTHER, False, True, State.WRONG, "put it back until 2026-12-02"),
        (KeyState.RETIRED, EMPTY, False, True, State.RIGHT, "nobody shall trust it"),
        (KeyState.RETIRED, GONE, True, True, State.RIGHT, "its record is gone"),
    ],
)
def test_keys(
    state: KeyState,
    seen: Sight,
    is_needless: bool,
    has_other: bool,
    judged: State,
    words: str,
    key: DomainKey,
) -> None:
    found = judge_key(
        msgspec.structs.replace(key, state=state, retired_at=RETIRED_AT),
        seen,
        now_us=RETIRED_AT + (int(LIFETIME_S * 1_000_000) if is_needless else 0),
        options=Options(lifetime_s=LIFETIME_S),
        has_other=has_other,
    )
    assert found[0] is judged
    assert words in found[1]


# `posthouse domain keys` says the same.
def test_a_new_key_that_waits_for_caches_has_a_time(key: DomainKey) -> None:
    ready_at = RETIRED_AT + 3_600_000_000

    def words(now_us: int, ready_at: int | None) -> str:
        waiting = msgspec.structs.replace(key, ready_at=ready_at)
        return judge_key(waiting, SHOWN, now_us=now_us, options=Options(), has_other=True)[1]

    assert "it signs from 2026-11-26 01:00 UTC on, when no cache" in words(RETIRED_AT, ready_at)
    assert "signs with it within the hour" in words(ready_at, ready_at)
    assert "It signs when no cache is left without it" in words(RETIRED_AT, None)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        ("v=DKIM1; k=rsa; p=MIIBIjANBgX", 'from character 11 of p= on: "X" where "kq" should be'),
        ("v=DKIM1; k=rsa; p=MIIB", "cut short, with 4 of 12 characters of p="),
        ("v=DKIM1; k=rsa; p=", "revokes it, as nothing follows p="),
        ("v=DKIM1; k=ed25519; p=MIIBIjANBgkq", "p= is right there, but something else is not"),
        ("v=DKIM1; k=rsa; p=MIIBIjANBgkqAB", 'on: "AB" where nothing should be'),
        ("google-site-verification=1", "what is there is no key record"),
        ("hello", "what is there is no key record"),
        ("2 TXT records, not one", "2 TXT records, not one there"),
    ],
)
def test_where_a_key_record_differs_is_said(found: str, words: str) -> None:
    assert words in difference(found, "v=DKIM1; k=rsa; p=MIIBIjANBgkq")


# RFC 7208 §4.6.4: include, a, mx, ptr, exists and redirect count; all, ip4, ip6 and exp do not.
@pytest.mark.parametrize(
    ("records", "count"),
    [
        ({"d": "v=spf1 -all"}, 0),
        ({"d": "v=spf1 ip4:192.0.2.1 ip6:2001:db8::1 exp=e.d -all"}, 0),
        ({"d": "v=spf1 a mx a:x.example mx:y.example ptr exists:z.example -all"}, 6),
        ({"d": "v=spf1 include:i -all", "i": "v=spf1 a mx include:j -all", "j": "v=spf1 a"}, 5),
        ({"d": "v=spf1 redirect=i", "i": "v=spf1 a mx -all"}, 3),
        ({"d": "v=spf1 -all redirect=i", "i": "v=spf1 a mx -all"}, 0),
        ({"d": "v=spf1 include:gone.example -all"}, 1),
        ({"d": "v=spf1 include:d -all"}, 2),
    ],
)
def test_look_ups_of_a_whole_record_are_counted(records: dict[str, str], count: int) -> None:
    texts = {f"{name}.example": text for name, text in records.items()}
    for name in records:
        texts = {
            owner: text.replace(f":{name} ", f":{name}.example ").replace(
                f"={name}", f"={name}.example"
            )
            for owner, text in texts.items()
        }

    def answer(question: questions.Question) -> DnsAnswer:
        text = texts.get(question.name)
        if text is None:
            return DnsAnswer(status=DnsStatus.NO_NAME)
        return DnsAnswer(status=DnsStatus.FOUND, records=(text.encode(),))

    record = texts["d.example"].encode()
    assert is_record(record)
    costs = questions.answer(follow(record), answer)
    assert costs.lookups == count
    assert costs.broken == (
        ("gone.example, which it follows, has no SPF record",)
        if "gone" in texts["d.example"]
        else ()
    )


# H44: a tree of includes without end costs no more than a bound.
def test_counting_look_ups_has_an_end() -> None:
    asked = []

    def answer(question: questions.Question) -> DnsAnswer:
        asked.append(question.name)
        below = " ".join(f"include:{n}.{question.name}" for n in range(5))
        return DnsAnswer(status=DnsStatus.FOUND, records=(f"v=spf1 {below} -all".encode(),))

    assert questions.answer(follow(b"v=spf1 include:a.example -all"), answer).lookups < 100
    assert len(asked) < 100


def test_lists_are_read_aloud() -> None:
    assert [listed([]), listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == [
        "",
        "a",
        "a and b",
        "a, b and c",
    ]


RUA = b"rua=mailto:dmarc-reports@example.org"


# RFC 9989 §4.10.1: readers are lenient, so the owner has to be told.
@pytest.mark.parametrize(
    ("record", "state", "words"),
    [
        (b"v=DMARC1; p=reject; " + RUA, State.RIGHT, "is refused"),
        (b"v=DMARC1; p=none; " + RUA, State.ADVICE, "watches only"),
        (b"v=DMARC1; P=REJECT; " + RUA, State.RIGHT, "is refused"),
        (
            b"v=DMARC1; p=rejct; " + RUA,
            State.WRONG,
            "p=rejct is none of none, quarantine, reject, so hosts treat the whole record as",
        ),
        (b"v=DMARC1; p=nome", State.WRONG, "so hosts use none of the record"),
        (b"v=DMARC1; " + RUA, State.WRONG, "the record has no p=, so hosts treat"),
        (b"v=DMARC1; p=reject; sp=qarantine; " + RUA, State.WRONG, "sp=qarantine is none of"),
        (
            b"v=DMARC1; p=none; rua=dmarc-reports@example.org",
            State.WRONG,
            "needs mailto: before the address, or no reports come: write rua=mailto:dmarc-reports@",
        ),
        (
            b"v=DMARC1; p=none; rua=mailto:reports",
            State.WRONG,
            "mailto:reports in rua= is no addre",
        ),
        (b"v=DMARC1; p=none; " + RUA + b", a@b.example", State.WRONG, "rua=a@b.example needs mai"),
        (b"v=DMARC1; p=reject; rua=", State.WRONG, "rua= has no address"),
        (b"v=DMARC1; p=reject; " + RUA + b"!10m", State.RIGHT, "is refused"),
        (b"v=DMARC1; p=reject", State.ADVICE, "without rua= you get no reports"),
    ],
)
def test_slips_in_a_dmarc_record_are_told(record: bytes, state: State, words: str) -> None:
    found = judge_dmarc("example.org", [record], parse(record, "example.org"), [])
    assert found[0] is state
    assert words in found[1]
