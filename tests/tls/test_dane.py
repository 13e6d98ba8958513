"""TLSA records against chains: what authenticates a host and what not (RFC 7671, RFC 7672 §3)."""

from __future__ import annotations

import hashlib
import random
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.ports import TlsaRecord
from posthouse.tls.dane import Mismatch, shown, usable, verify
from posthouse.tls.der import BadDer, public_key_info
from tests.fuzz.oracle import Shape, growth
from tests.tls.authority import CLIENTS, NOW, SERVERS, Made, make, root

ROOT = root()
MIDDLE = make("Middle", issuer=ROOT, is_ca=True)
LEAF = MIDDLE.issue("mx.there.example")
OTHER = root("Other").issue("mx.there.example")
NAMES = ("mx.there.example", "there.example")


def sha256(octets: bytes) -> bytes:
    return hashlib.sha256(octets).digest()


def sha512(octets: bytes) -> bytes:
    return hashlib.sha512(octets).digest()


def record(usage: int, selector: int, matching: int, of: Made) -> TlsaRecord:
    octets = of.spki if selector else of.der
    data = {0: octets, 1: sha256(octets), 2: sha512(octets)}[matching]
    return TlsaRecord(usage, selector, matching, data)


def judged(records, chain, names=NAMES, now=NOW):
    return verify(usable(records), chain, names, now)


@pytest.mark.parametrize("selector", [0, 1])
@pytest.mark.parametrize("matching", [0, 1, 2])
@pytest.mark.parametrize(("usage", "of"), [(3, LEAF), (2, MIDDLE), (2, ROOT)])
def test_every_kind_of_record_authenticates_what_it_names(usage, of, selector, matching) -> None:
    matched = judged([record(usage, selector, matching, of)], LEAF.chain)
    assert matched.is_authenticated
    assert matched.words.startswith(f"{usage} {selector} {matching} ")
    assert not judged([record(usage, selector, matching, of)], OTHER.chain).is_authenticated


def test_one_matching_record_of_several_is_enough() -> None:
    records = [record(3, 1, 1, OTHER), record(3, 1, 1, LEAF)]
    assert judged(records, LEAF.chain).is_authenticated


# RFC 7672 §3.1.1, §3.2.1
@pytest.mark.parametrize(
    "leaf",
    [
        make("elsewhere.example"),
        make("mx.there.example", days=(-90, -10)),
        make("mx.there.example", days=(10, 90)),
        make("mx.there.example", usage=CLIENTS),
        make("no name", names=()),
    ],
)
def test_an_end_entity_record_looks_at_nothing_but_the_key(leaf: Made) -> None:
    assert judged([record(3, 1, 1, leaf)], [leaf.der]).is_authenticated


def test_an_end_entity_record_never_matches_a_certificate_above_the_leaf() -> None:
    matched = judged([record(3, 0, 1, MIDDLE)], LEAF.chain)
    assert matched.mismatch is Mismatch.NO_MATCH


def test_a_trust_anchor_record_never_matches_the_leaf_itself() -> None:
    lone = make("mx.there.example", is_ca=True, names=("mx.there.example",))
    for chain in ([lone.der], [lone.der, lone.der]):
        assert not judged([record(2, 0, 1, lone)], chain).is_authenticated


# --- DANE-TA ---


# RFC 7672 §3.2.2
def test_names_are_checked_against_all_reference_identifiers() -> None:
    anchor = [record(2, 0, 1, ROOT)]
    assert judged(anchor, ROOT.issue("there.example").chain).is_authenticated
    assert judged(anchor, ROOT.issue("*.there.example").chain).is_authenticated
    for name in ("elsewhere.example", "*.org", "deep.mx.there.example", "mx*.there.example"):
        assert judged(anchor, ROOT.issue(name).chain).mismatch is Mismatch.NAME


# RFC 7672 §3.2.3
def test_the_common_name_counts_only_where_no_dns_name_stands() -> None:
    anchor = [record(2, 0, 1, ROOT)]
    assert judged(anchor, ROOT.issue("mx.there.example", names=()).chain).is_authenticated
    other = ROOT.issue("mx.there.example", names=("elsewhere.example",))
    assert judged(anchor, other.chain).mismatch is Mismatch.NAME


# RFC 7671 §5.2.2
def test_only_a_whole_anchor_in_the_dns_may_be_left_out_of_the_chain() -> None:
    without = LEAF.chain[:2]
    assert judged([record(2, 0, 0, ROOT)], without).is_authenticated
    for selector, matching in ((0, 1), (0, 2), (1, 1), (1, 2)):
        assert not judged([record(2, selector, matching, ROOT)], without).is_authenticated


# RFC 7671 §5.2.3
def test_a_bare_key_in_the_dns_signs_the_topmost_certificate() -> None:
    assert judged([record(2, 1, 0, ROOT)], LEAF.chain[:2]).is_authenticated
    assert judged([record(2, 1, 0, MIDDLE)], LEAF.chain[:1]).is_authenticated
    assert not judged([record(2, 1, 0, OTHER)], LEAF.chain[:2]).is_authenticated


def test_the_order_of_the_certificates_above_does_not_matter() -> None:
    leaf, *above = LEAF.chain
    assert judged([record(2, 0, 1, ROOT)], [leaf, *reversed(above), OTHER.der]).is_authenticated


@pytest.mark.parametrize(
    ("flawed", "kind"),
    [
        (ROOT.issue("mx.there.example", days=(-90, -1)), Mismatch.EXPIRED),
        (ROOT.issue("mx.there.example", days=(1, 9)), Mismatch.EXPIRED),
        (make("Old", issuer=ROOT, is_ca=True, days=(-90, -1)).issue("mx.there.example"), None),
        (make("No CA", issuer=ROOT, names=()).issue("mx.there.example"), None),
        (make("Mute", issuer=ROOT, is_ca=True, signs=False).issue("mx.there.example"), None),
        (ROOT.issue("mx.there.example", usage=CLIENTS), Mismatch.NO_MATCH),
        (
            ROOT.issue("mx.there.example", critical=x509.ObjectIdentifier("1.3.6.1.4.1.99999.1")),
            Mismatch.NO_MATCH,
        ),
        (
            make("Bound", issuer=ROOT, is_ca=True, permitted=["elsewhere.example"]).issue(
                "mx.there.example"
            ),
            Mismatch.NO_MATCH,
        ),
        (
            make("Barred", issuer=ROOT, is_ca=True, excluded=["there.example"]).issue(
                "mx.there.example"
            ),
            Mismatch.NO_MATCH,
        ),
    ],
)
def test_a_flaw_anywhere_on_the_path_ends_it(flawed: Made, kind: Mismatch | None) -> None:
    matched = judged([record(2, 0, 1, ROOT)], flawed.chain)
    assert not matched.is_authenticated
    assert kind is None or matched.mismatch is kind


def test_what_an_authority_allows_is_allowed() -> None:
    bound = make("Bound", issuer=ROOT, is_ca=True, permitted=["there.example"], signs=True)
    leaf = bound.issue("mx.there.example", usage=SERVERS)
    assert judged([record(2, 0, 1, ROOT)], leaf.chain).is_authenticated


# RFC 6698 §2.1.1: an anchor is trusted for as long as the DNS names it
def test_an_anchor_may_be_of_any_date() -> None:
    old = root("Old", days=(-90, -10))
    assert judged([record(2, 0, 1, old)], old.issue("mx.there.example").chain).is_authenticated


# RFC 7671 §5.2.3: a certificate with the key goes before the bare key
def test_the_constraints_of_an_anchor_count_though_only_its_key_is_named() -> None:
    short = root("Short", path_length=0)
    long = make("Between", issuer=short, is_ca=True).issue("mx.there.example")
    assert not judged([record(2, 1, 0, short)], long.chain).is_authenticated
    assert judged([record(2, 1, 0, short)], long.chain[:2]).is_authenticated


# RFC 7671 §5.2.1
def test_the_anchors_own_path_length_holds() -> None:
    short = root("Short", path_length=0)
    assert judged([record(2, 0, 1, short)], short.issue("mx.there.example").chain).is_authenticated
    long = make("Between", issuer=short, is_ca=True).issue("mx.there.example")
    assert not judged([record(2, 0, 1, short)], long.chain).is_authenticated


def test_keys_of_other_kinds_sign_too() -> None:
    edwards = root("Edwards", is_edwards=True)
    leaf = edwards.issue("mx.there.example", is_edwards=True)
    assert judged([record(2, 0, 1, edwards)], leaf.chain).is_authenticated


def test_a_forged_signature_is_no_path() -> None:
    impostor = root("Root")
    forged = impostor.issue("mx.there.example")
    chain = [forged.der, ROOT.der]
    assert not judged([record(2, 0, 1, ROOT)], chain).is_authenticated


# --- usable records ---


# H48: usage 0 and 1, unknown numbers, bad lengths
@pytest.mark.parametrize(
    "bad",
    [
        TlsaRecord(0, 1, 1, sha256(LEAF.spki)),
        TlsaRecord(1, 1, 1, sha256(LEAF.spki)),
        TlsaRecord(4, 1, 1, sha256(LEAF.spki)),
        TlsaRecord(255, 1, 1, sha256(LEAF.spki)),
        TlsaRecord(3, 2, 1, sha256(LEAF.spki)),
        TlsaRecord(3, 1, 3, sha256(LEAF.spki)),
        TlsaRecord(3, 1, 1, sha256(LEAF.spki)[:-1]),
        TlsaRecord(3, 1, 1, sha256(LEAF.spki) + b"\0"),
        TlsaRecord(3, 1, 1, b""),
        TlsaRecord(3, 1, 2, sha256(LEAF.spki)),
        TlsaRecord(3, 1, 0, b""),
        TlsaRecord(3, 0, 0, LEAF.spki),
        TlsaRecord(3, 1, 0, LEAF.der),
        TlsaRecord(3, 0, 0, b"\x30" * 100),
    ],
)
def test_records_that_cannot_be_used_are_passed_over(bad: TlsaRecord) -> None:
    assert usable([bad]) == ()
    good = record(3, 1, 1, LEAF)
    assert usable([bad, good]) == (good,)


# H48: a thousand records
def test_of_many_records_a_few_are_used_and_always_the_same() -> None:
    flood = [TlsaRecord(2 + n % 2, n % 2, 1, sha256(str(n).encode())) for n in range(1000)]
    kept = usable(flood)
    assert len(kept) == 20
    random.Random(1).shuffle(flood)
    assert usable(flood) == kept
    began = time.thread_time()
    assert not judged(flood, LEAF.chain * 30).is_authenticated
    assert time.thread_time() - began < 1.0


# H48
@pytest.mark.timed
def test_looking_at_records_takes_linear_time() -> None:
    def judge(octets: bytes) -> None:
        pieces = [octets[at : at + 32] for at in range(0, len(octets), 32)]
        records = [TlsaRecord(2 + n % 2, n % 2, n % 3, piece) for n, piece in enumerate(pieces)]
        verify(usable(records), LEAF.chain, NAMES, NOW)

    counting = Shape(b"", b"".join(sha256(bytes((n,))) for n in range(256)), b"")
    found = growth(judge, counting.octets, sizes=(16 * 1024, 256 * 1024))
    assert found is None or not found.is_too_fast, f"{found}"


# RFC 7671 §9
def test_the_strongest_digest_of_a_usage_and_selector_counts_and_whole_data_always() -> None:
    weak, strong = record(3, 1, 1, LEAF), record(3, 1, 2, OTHER)
    assert usable([weak, strong]) == (strong,)
    assert not judged([weak, strong], LEAF.chain).is_authenticated
    assert judged([strong, record(3, 1, 0, LEAF)], LEAF.chain).is_authenticated
    assert set(usable([weak, record(3, 0, 2, OTHER)])) == {weak, record(3, 0, 2, OTHER)}
    damaged = TlsaRecord(3, 1, 2, b"short")
    assert usable([weak, damaged]) == (weak,), "what is malformed hides nothing"


def test_a_record_is_shown_as_zone_files_have_it() -> None:
    assert shown(TlsaRecord(3, 1, 1, bytes(32))) == f"3 1 1 {'00' * 32}"


# --- what hosts may send ---


@pytest.mark.parametrize("usage", [2, 3])
@pytest.mark.parametrize("chain", [[], [b""], [b"\x30\x80" * 40], [LEAF.der[:-20], ROOT.der]])
def test_nonsense_is_a_mismatch(usage: int, chain: list[bytes]) -> None:
    matched = judged([record(usage, 1, 1, ROOT)], chain)
    assert not matched.is_authenticated and matched.words


@pytest.mark.timed
def test_many_certificates_that_lead_in_circles_cost_little() -> None:
    crowd = [make("Same", is_ca=True) for _ in range(30)]
    again = [make("Same", issuer=one, is_ca=True) for one in crowd]
    leaf = again[0].issue("mx.there.example")
    chain = [leaf.der, *(one.der for one in again + crowd)]
    began = time.thread_time()
    assert not judged([record(2, 0, 1, ROOT)], chain).is_authenticated
    assert time.thread_time() - began < 1.0


def test_the_key_stands_in_the_certificate_as_it_is() -> None:
    for one in (ROOT, MIDDLE, LEAF, make("x", is_edwards=True)):
        assert public_key_info(one.der) == one.spki


@given(st.binary(max_size=200))
def test_what_is_no_certificate_has_no_key(octets: bytes) -> None:
    try:
        public_key_info(octets)
    except BadDer:
        return


@given(st.integers(0, len(LEAF.der) - 1), st.integers(0, 255))
def test_a_damaged_certificate_never_raises(at: int, value: int) -> None:
    octets = bytearray(LEAF.der)
    octets[at] = value
    for kind in (record(3, 1, 1, LEAF), record(2, 0, 1, ROOT)):
        verify([kind], [bytes(octets), *LEAF.chain[1:]], NAMES, NOW)


def test_a_certificate_loaded_again_is_the_same_octets() -> None:
    again = x509.load_der_x509_certificate(LEAF.der).public_bytes(Encoding.DER)
    assert again == LEAF.der
