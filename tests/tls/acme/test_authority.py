"""The library's wrapper against a small server that has ARI, refuses and lies."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from posthouse.kernel.errors import UserError
from posthouse.net.workers import ThreadWorkers
from posthouse.tls.acme.authority import ASK_AGAIN_S, Authority, certificate_id
from posthouse.tls.acme.folder import AcmeFolder
from posthouse.tls.acme.keys import new_key, request
from posthouse.tls.acme.options import Kind, Options
from posthouse.tls.acme.trouble import OrderFailed
from tests.tls.acme.small_authority import SmallAuthority, as_json, problem
from tests.tls.acme.test_rules import leaf

NAME = "mail.example.org"
NOW = datetime(2026, 6, 1, tzinfo=UTC)


class House:
    def __init__(self, tmp_path: Path) -> None:
        (tmp_path / "tls").mkdir()
        self.server = SmallAuthority(tmp_path)
        self.folder = AcmeFolder(tmp_path / "tls" / "acme")
        self.workers = ThreadWorkers(hash_max=1)
        self.options = Options(
            directory=self.server.url, accepts_terms=True, ca_file=self.server.ca_file
        )

    def authority(self, **changes: Any) -> Authority:
        options = msgspec.structs.replace(self.options, **changes)
        return Authority(options, self.folder, self.workers)

    async def opened(self, **changes: Any) -> Authority:
        made = self.authority(**changes)
        await made.open()
        return made


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = House(tmp_path)
    yield made
    made.server.close()
    made.workers.close()


# RFC 8555 §7.3
async def test_an_account_is_made_once_with_a_key_of_its_own(house: House) -> None:
    await house.opened(contact=("ada@example.org", "bob@example.org"))
    await house.opened()
    [first, second] = house.server.requests["/account"]
    assert first["termsOfServiceAgreed"] is True
    assert first["contact"] == ["mailto:ada@example.org", "mailto:bob@example.org"]
    assert second["contact"] == []
    [key] = (house.folder.root / ".accounts").iterdir()
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    assert serialization.load_pem_private_key(key.read_bytes(), None)


async def test_an_account_that_is_there_already_is_used_and_its_contact_kept_right(
    house: House,
) -> None:
    me = f"{house.server.base}/me"
    account = {"status": "valid", "contact": ["mailto:old@example.org"]}
    house.server.answers["/account"] = lambda _: as_json(account, Location=me)
    house.server.answers["/me"] = lambda given: as_json({"status": "valid", **given})
    await house.opened(contact=("new@example.org",))
    assert house.server.requests["/me"][-1]["contact"] == ["mailto:new@example.org"]
    house.server.requests.clear()
    await house.opened(contact=("old@example.org",))
    assert "/me" not in house.server.requests


async def test_terms_that_nobody_accepted_are_shown_and_nothing_is_asked(house: House) -> None:
    with pytest.raises(OrderFailed, match="terms are not accepted") as caught:
        await house.opened(accepts_terms=False)
    assert "https://ca.example/terms" in caught.value.hint
    assert "/account" not in house.server.requests


async def test_a_damaged_account_key_is_told_and_not_replaced(house: House) -> None:
    await house.opened()
    [key] = (house.folder.root / ".accounts").iterdir()
    key.write_bytes(b"half")
    with pytest.raises(UserError, match="is damaged") as caught:
        await house.opened()
    assert "remove it" in caught.value.hint and key.read_bytes() == b"half"


def order_of(house: House, *, typ: str = "http-01", status: str = "pending") -> None:
    base, answers = house.server.base, house.server.answers
    challenge = {"type": typ, "url": f"{base}/challenge", "token": "dG9rZW50b2tlbnRva2VudG9rZW4"}
    authorization = {
        "status": status,
        "identifier": {"type": "dns", "value": NAME},
        "challenges": [challenge],
    }
    order = {"status": "pending", "authorizations": [f"{base}/authz"], "finalize": f"{base}/fin"}
    answers["/order"] = lambda _: as_json(order, 201, Location=f"{base}/order/1")
    answers["/authz"] = lambda _: as_json(authorization)


async def test_a_way_that_is_not_offered_is_told(house: House) -> None:
    order_of(house, typ="dns-01")
    authority = await house.opened()
    order = await authority.order(request(NAME, new_key()))
    with pytest.raises(OrderFailed, match=f"does not offer http-01 for {NAME}, only dns-01"):
        authority.proofs(order, Kind.HTTP_01)
    [proof] = authority.proofs(order, Kind.DNS_01)
    assert proof.name == NAME and proof.key_authorization.startswith(proof.token + ".")


async def test_what_is_proved_already_is_not_proved_again(house: House) -> None:
    order_of(house, status="valid")
    authority = await house.opened()
    assert authority.proofs(await authority.order(request(NAME, new_key())), Kind.HTTP_01) == []


# RFC 8737 §3
async def test_tls_alpn_01_is_known_though_the_library_left_it_out(house: House) -> None:
    order_of(house, typ="tls-alpn-01")
    authority = await house.opened()
    order = await authority.order(request(NAME, new_key()))
    [proof] = authority.proofs(order, Kind.TLS_ALPN_01)
    base = house.server.base
    house.server.answers["/challenge"] = lambda _: as_json(
        {"type": "tls-alpn-01", "url": f"{base}/challenge", "token": proof.token},
        Link=f'<{base}/authz>;rel="up"',
    )
    await authority.answer(proof)
    assert house.server.requests["/challenge"] == [{}]  # RFC 8555 §7.5.1: an empty object
    assert not await authority.is_valid(proof)


# RFC 9773 §4.1, §4.2, §4.3
async def test_the_renewal_window_is_asked_for_by_the_certificate_s_identifier(
    house: House,
) -> None:
    certificate = leaf(b"\x11" * 20, 0x8001)
    path = f"/ari/{certificate_id(certificate)}"
    house.server.directory["renewalInfo"] = f"{house.server.base}/ari"
    window = {"start": "2026-07-01T04:00:00Z", "end": "2026-07-02T04:00:00Z"}
    info = {"suggestedWindow": window, "explanationURL": "https://ca.example/why"}
    house.server.answers[path] = lambda _: as_json(info, Retry_After="7200")
    authority = house.authority()
    await authority.open(with_account=False)
    found, again_s = await authority.window(certificate)
    assert found is not None and again_s == 7200
    assert found.start == datetime(2026, 7, 1, 4, tzinfo=UTC)
    assert found.end - found.start == timedelta(days=1)
    assert found.explanation == "https://ca.example/why"
    assert "/account" not in house.server.requests

    later, earlier = window["end"], window["start"]
    for body in (
        {"suggestedWindow": {"start": later, "end": earlier}},
        {"suggestedWindow": {"start": later, "end": later}},
        {"suggestedWindow": {"start": "2026-07-01T04:00:00", "end": later}},
        {"suggestedWindow": {"start": "soon", "end": later}},
        {"suggestedWindow": {}},
        {},
        [],
    ):
        house.server.answers[path] = lambda _, body=body: as_json(body, Retry_After="7200")
        assert await authority.window(certificate) == (None, ASK_AGAIN_S)
    house.server.answers[path] = lambda _: problem("malformed", "no", 404)
    assert await authority.window(certificate) == (None, ASK_AGAIN_S)
    house.server.answers[path] = lambda _: as_json(
        info, Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"
    )
    assert (await authority.window(certificate))[1] == ASK_AGAIN_S


async def test_an_authority_without_renewal_information_is_not_asked(house: House) -> None:
    authority = await house.opened()
    assert await authority.window(leaf(b"\x11" * 20, 1)) == (None, ASK_AGAIN_S)


# RFC 9773 §5
async def test_a_renewal_says_what_it_replaces_where_the_authority_knows_that(
    house: House,
) -> None:
    order_of(house)
    old = leaf(b"\x11" * 20, 0x8001)
    pem = old.public_bytes(serialization.Encoding.PEM)
    csr = request(NAME, new_key())
    authority = await house.opened()
    await authority.order(csr, replaces=pem)
    house.server.directory["renewalInfo"] = f"{house.server.base}/ari"
    authority = await house.opened()
    await authority.order(csr, replaces=pem)
    await authority.order(csr)
    replaced = [given.get("replaces") for given in house.server.requests["/order"]]
    assert replaced == [None, certificate_id(old), None]
    names = [given["identifiers"] for given in house.server.requests["/order"]]
    assert names == [[{"type": "dns", "value": NAME}]] * 3

    right = house.server.answers["/order"]

    def replaced_already(given: Any) -> Any:
        if "replaces" in given:
            return problem("alreadyReplaced", "it has been", 409)
        return right(given)

    house.server.answers["/order"] = replaced_already
    assert authority.proofs(await authority.order(csr, replaces=pem), Kind.HTTP_01)


# --- trouble ---


async def test_an_error_is_told_with_name_words_and_what_to_do(house: House) -> None:
    limit = problem("rateLimited", "too many\n certificates", 429, Retry_After="3600")
    house.server.answers["/order"] = lambda _: limit
    authority = await house.opened()
    with pytest.raises(OrderFailed, match="says: too many certificates \\(rateLimited\\)") as one:
        await authority.order(request(NAME, new_key()))
    assert one.value.retry_after_s == 3600 and "by itself" in one.value.hint
    body = {
        "type": "urn:ietf:params:acme:error:compound",
        "detail": "Errors",
        "identifier": {"type": "dns", "value": NAME},
        "subproblems": [{"type": "urn:ietf:params:acme:error:caa", "detail": "CAA forbids"}],
    }
    house.server.answers["/order"] = lambda _: as_json(body, 403)
    with pytest.raises(OrderFailed, match=f"^{NAME}: .*Errors / CAA forbids"):
        await authority.order(request(NAME, new_key()))


async def test_a_failed_proof_carries_the_authority_s_reason(house: House) -> None:
    order_of(house)
    authority = await house.opened()
    [proof] = authority.proofs(await authority.order(request(NAME, new_key())), Kind.HTTP_01)
    error = {"type": "urn:ietf:params:acme:error:connection", "detail": "refused"}
    failed = {
        "status": "invalid",
        "identifier": {"type": "dns", "value": NAME},
        "challenges": [{"type": "http-01", "url": "u", "token": proof.token, "error": error}],
    }
    house.server.answers["/authz"] = lambda _: as_json(failed)
    with pytest.raises(OrderFailed, match=f"{NAME}: the authority says: refused") as caught:
        await authority.is_valid(proof)
    assert f"port 80 of every address {NAME}" in caught.value.hint
    failed["challenges"] = []
    with pytest.raises(OrderFailed, match="without saying why"):
        await authority.is_valid(proof)


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"Content-Type": "application/json"}, b"no JSON"),
        (200, {"Content-Type": "application/json"}, b"[]"),
        (200, {}, b"{}"),
        (200, {}, b"[" * 100_000),
        (500, {}, b"<html>"),
        (404, {}, b""),
        (200, {"Content-Type": "application/json"}, b'"' + b"a" * 2_000_000 + b'"'),
        (302, {"Location": "http://127.0.0.1:1/"}, b""),
        (302, {"Location": "/dir"}, b""),
    ],
)
async def test_a_directory_that_makes_no_sense_is_a_failure_in_words(
    house: House, answer: Any
) -> None:
    house.server.answers["/dir"] = lambda _: answer
    with pytest.raises(OrderFailed) as caught:
        await (await house.opened()).order(request(NAME, new_key()))
    assert len(caught.value.text) < 1_000 and "\n" not in caught.value.text


async def test_an_endless_answer_is_cut_off(house: House) -> None:
    body = b'{"a": "' + b"a" * 3_000_000 + b'"}'
    house.server.answers["/dir"] = lambda _: (200, {"Content-Type": "application/json"}, body)
    with pytest.raises(OrderFailed, match="too large"):
        await house.opened()


async def test_an_authority_that_cannot_be_reached_or_trusted_is_told(
    house: House, tmp_path: Path
) -> None:
    words = r"^https://127\.0\.0\.1:1/ does not answer \(Connection refused\)$"
    with pytest.raises(OrderFailed, match=words):
        await house.opened(directory="https://127.0.0.1:1/")
    other = tmp_path / "other"
    other.mkdir()
    stranger = SmallAuthority(other)
    try:
        with pytest.raises(OrderFailed, match="is not trusted") as caught:
            await house.opened(ca_file=stranger.ca_file)
    finally:
        stranger.close()
    assert "acme.ca_file" in caught.value.hint
    with pytest.raises(OrderFailed):
        await house.opened(directory="http://127.0.0.1:1/")


async def test_refused_nonces_are_taken_anew_a_bounded_number_of_times(house: House) -> None:
    left = 7
    right = house.server.answers["/account"]

    def refusing(given: Any) -> Any:
        nonlocal left
        left -= 1
        return problem("badNonce", "old", 400) if left > 0 else right(given)

    house.server.answers["/account"] = refusing
    await house.opened()
    left = 10**9
    with pytest.raises(OrderFailed, match="one nonce after the other"):
        await house.opened()
    assert left >= 10**9 - 12


def test_certificates_without_an_authority_key_have_no_identifier() -> None:
    from posthouse.tls.self_signed import make_self_signed

    chain, _ = make_self_signed(["a.example"], NOW)
    assert certificate_id(x509.load_pem_x509_certificate(chain)) is None
