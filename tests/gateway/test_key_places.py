"""Keys of others, found where their domain shows them, and what is believed of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from posthouse.accounts import key_material, mail_keys
from posthouse.accounts.mail_keys import KeyMaterial, Source
from posthouse.accounts.mail_policy import Mode
from posthouse.config.schema import Config
from posthouse.gateway import key_search
from posthouse.gateway.key_places import Authorities, KeyPlaces, Told
from posthouse.gateway.key_search import OUTAGE_S, KeySearch, Options
from posthouse.kernel.ports import (
    DnsAnswer,
    DnsStatus,
    Fetched,
    FetchFailed,
    FetchTrouble,
    RecordType,
    TlsaRecord,
)
from posthouse.mimesec.findings import Scheme
from posthouse.mimesec.pgp import dns as pgp_dns
from posthouse.mimesec.pgp import wkd
from posthouse.mimesec.pgp.make import make_key, revoked_by, with_end
from posthouse.mimesec.pgp.signer import PgpSigner
from posthouse.mimesec.protection import Protection, protect
from posthouse.mimesec.smime import read_certificates, smimea
from posthouse.mimesec.smime.identity import Identity
from posthouse.mimesec.smime.make import make_authority, make_identity
from posthouse.net.workers import ThreadWorkers
from posthouse.net.world import SystemClock
from posthouse.sending import MessageError
from tests.gateway.house import ADA, EVE, HandClock, House

NOW = datetime.now(UTC)
ADVANCED, DIRECT = wkd.urls(EVE)


class Web:
    """What is published, by URL; an exception is raised."""

    def __init__(self, pages: dict[str, bytes | int | FetchFailed] | None = None) -> None:
        self.pages = pages or {}
        self.asked: list[str] = []

    async def get(
        self, url: str, *, octets_max: int, timeout_s: float, allow_http: bool = False
    ) -> Fetched:
        self.asked.append(url)
        found = self.pages.get(url, FetchFailed("there is no such host", FetchTrouble.DNS))
        if isinstance(found, FetchFailed):
            raise found
        if isinstance(found, int):
            return Fetched(status=found, media_type="text/plain", octets=b"")
        return Fetched(status=200, media_type="application/octet-stream", octets=found)

    async def post(self, url: str, octets: bytes, **named: Any) -> Fetched:
        raise AssertionError("nothing is posted")


class Zone:
    def __init__(self, records: dict[str, Any] | None = None, *, is_signed: bool = True) -> None:
        self.records = records or {}
        self.is_signed = is_signed

    async def resolve(self, name: str, record_type: RecordType) -> DnsAnswer:
        if name not in self.records:
            return DnsAnswer(status=DnsStatus.NO_NAME)
        found = self.records[name]
        if found is None:
            return DnsAnswer(status=DnsStatus.TEMPFAIL, detail="no server answered")
        return DnsAnswer(
            status=DnsStatus.FOUND,
            records=found if isinstance(found, tuple) else (found,),
            is_authenticated=self.is_signed,
        )

    def known(self, name: str, record_type: RecordType) -> DnsAnswer | None:
        return None


def key(*addresses: str, scheme: Scheme = Scheme.OPENPGP) -> KeyMaterial:
    return key_material.make(addresses or (EVE,), at=NOW, days=30, scheme=scheme)


def ask(web: Web, zone: Zone) -> dict[str, Told]:
    places = KeyPlaces(resolver=zone, fetch=web)
    told = asyncio.run(places.ask(EVE, deadline_s=5))
    return {one.where: one for one in told}


@pytest.mark.parametrize("advanced_is_there", [True, False])
def test_the_web_key_directory_is_asked(advanced_is_there: bool) -> None:
    web = Web({(ADVANCED if advanced_is_there else DIRECT): key().public})
    told = ask(web, Zone())["WKD"]
    assert [one.addresses for one in told.keys] == [(EVE,)] and told.source is Source.WKD
    assert web.asked == ([ADVANCED] if advanced_is_there else [ADVANCED, DIRECT])


def test_a_host_that_is_there_has_the_last_word() -> None:
    web = Web({ADVANCED: 404, DIRECT: key().public})
    told = ask(web, Zone())["WKD"]
    assert not told.keys and told.words == "there is none" and not told.is_for_now


def test_records_count_with_dnssec() -> None:
    certificate = key(scheme=Scheme.SMIME)
    record = smimea.record(read_certificates(certificate.public)[0])
    records = {smimea.name(EVE): record, pgp_dns.name(EVE): key().public}
    told = ask(Web(), Zone(records))
    assert told["SMIMEA record"].keys and told["OPENPGPKEY record"].keys
    told = ask(Web(), Zone(records, is_signed=False))
    for where in ("SMIMEA record", "OPENPGPKEY record"):
        assert not told[where].keys and "without DNSSEC" in told[where].words


@pytest.mark.parametrize(
    ("page", "words"),
    [
        (lambda: b"nonsense", "cannot be read"),
        (lambda: key("other@far.example").public, "names another address"),
        (lambda: key(scheme=Scheme.SMIME).public, "cannot be read"),
        (lambda: 500, "said 500"),
        (lambda: FetchFailed("it took too long", FetchTrouble.TIMEOUT), "too long"),
    ],
)
def test_what_is_no_key_of_the_address_is_told(page: Callable[[], Any], words: str) -> None:
    told = ask(Web({ADVANCED: page()}), Zone())["WKD"]
    assert not told.keys and words in told.words


def test_a_key_is_taken_for_the_address_that_was_asked_for_alone() -> None:
    broad = key(EVE, "ceo@bank.example")
    told = ask(Web({ADVANCED: broad.public}), Zone())["WKD"]
    assert [one.addresses for one in told.keys] == [(EVE,)]


def search(house: House, web: Web, zone: Zone, **options: Any) -> KeySearch:
    return KeySearch(
        Options(**options),
        store=house.node.store,
        places=KeyPlaces(resolver=zone, fetch=web),
        clock=SystemClock(),
    )


def find(house: House, made: KeySearch) -> tuple[Any, ...]:
    found: tuple[Any, ...] = house.server._call(made.find(EVE))
    return found


def test_what_was_found_is_kept_and_asked_for_again_later(house: House) -> None:
    web = Web({ADVANCED: key().public})
    made = search(house, web, Zone())
    assert [one.source for one in find(house, made)] == [Source.WKD]
    assert len(find(house, made)) == 1 and web.asked == [ADVANCED]
    assert len(find(house, search(house, web, Zone(), found_s=0.0))) == 1
    assert web.asked == [ADVANCED, ADVANCED]


def test_that_there_is_none_is_remembered_and_an_outage_for_a_moment(house: House) -> None:
    web = Web()
    made = search(house, web, Zone())
    assert find(house, made) == () and find(house, made) == ()
    assert len(web.asked) == 2  # both methods, once
    again = search(house, web, Zone(), missed_s=60.0)
    web.pages = {ADVANCED: FetchFailed("it took too long", FetchTrouble.TIMEOUT)}
    house.write(lambda tx: tx.run("DELETE FROM mail_key_miss"))
    again._clock = clock = HandClock(SystemClock().now())
    assert find(house, again) == () and find(house, again) == ()
    assert len(web.asked) == 3  # a message that comes meanwhile does not wait
    clock.passed_s = OUTAGE_S + 1
    web.pages = {ADVANCED: key().public}
    assert len(find(house, again)) == 1 and len(web.asked) == 4


def test_mail_that_has_to_be_encrypted_may_be_sent_again_where_a_place_is_out(house: House) -> None:
    house.give_key(ADA)
    house.say(ADA, encrypt=Mode.ALWAYS)
    replies = []
    for page in (TIMEOUT, 404):
        web = Web({ADVANCED: page})
        house.node.gateway.key_search._places = KeyPlaces(resolver=Zone(), fetch=web)
        house.node.gateway.key_search._out_until.clear()
        with pytest.raises(MessageError) as caught:
            house.send(ADA, [EVE])
        assert caught.value.reply is not None
        replies.append((caught.value.reply.code, caught.value.reply.text))
    assert [code for code, _ in replies] == [451, 550]
    assert "not every place could be asked" in replies[0][1]


def test_outages_do_not_fill_the_memory(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("posthouse.gateway.key_search.OUTAGES_MAX", 3)
    people = [f"eve{number}@far.example" for number in range(5)]
    made = search(house, Web({wkd.urls(one)[0]: TIMEOUT for one in people}), Zone())
    for one in people:
        assert house.server._call(made.find(one)) == ()
    assert list(made._out_until) == people[2:]


def test_nobody_is_asked_where_that_is_switched_off(house: House) -> None:
    web = Web({ADVANCED: key().public})
    assert find(house, search(house, web, Zone(), is_enabled=False)) == ()
    assert web.asked == []


def keep(house: House, material: KeyMaterial, source: Source, *, is_trusted: bool = False) -> str:
    """Known already; its fingerprint."""
    house.write(lambda tx: mail_keys.add_found(tx, material, source=source, is_trusted=is_trusted))
    return material.fingerprint


def test_what_mail_said_of_a_key_counts_only_where_the_domain_shows_none(house: House) -> None:
    said, shown = key(), key()
    keep(house, said, Source.AUTOCRYPT)
    web = Web({ADVANCED: 404})
    made = search(house, web, Zone())
    assert prints(find(house, made)) == prints([said]) == prints(find(house, made))
    assert web.asked == [ADVANCED]  # and it is remembered that there is nothing
    house.write(lambda tx: tx.run("DELETE FROM mail_key_miss"))
    web.pages = {ADVANCED: shown.public}
    assert prints(find(house, made)) == prints([shown, said]) == prints(find(house, made))
    assert len(web.asked) == 2


@pytest.mark.parametrize(
    ("source", "scheme", "is_trusted"),
    [
        (Source.IMPORTED, Scheme.OPENPGP, True),
        (Source.IMPORTED, Scheme.SMIME, True),
        (Source.LEARNT, Scheme.SMIME, False),
    ],
)
def test_a_key_that_somebody_vouches_for_is_enough(
    house: House, source: Source, scheme: Scheme, is_trusted: bool
) -> None:
    known = key(scheme=scheme)
    keep(house, known, source, is_trusted=is_trusted)
    web = Web({ADVANCED: key().public})
    assert prints(find(house, search(house, web, Zone()))) == prints([known])
    assert web.asked == []


def test_a_certificate_does_not_vouch_for_an_openpgp_key_of_the_same_address(house: House) -> None:
    certificate, said, shown = key(scheme=Scheme.SMIME), key(), key()
    keep(house, certificate, Source.LEARNT)
    keep(house, said, Source.AUTOCRYPT)
    web = Web({ADVANCED: shown.public})
    found = find(house, search(house, web, Zone()))
    assert prints(found) == prints([shown, said, certificate])


TIMEOUT = FetchFailed("it took too long", FetchTrouble.TIMEOUT)
NOT_FOUND_OUT = FetchFailed("looking it up failed", FetchTrouble.DNS, is_unknown=True)
BAD_TLS = FetchFailed("the certificate does not verify", FetchTrouble.TLS)
GONE = Told(where="WKD", source=Source.WKD, words="there is none")


def again(house: House, web: Web, zone: Zone) -> tuple[Any, ...]:
    """As if what was found were old."""
    return find(house, search(house, web, zone, found_s=0.0))


def record_of(material: KeyMaterial) -> tuple[str, Any]:
    if material.scheme is Scheme.OPENPGP:
        return pgp_dns.name(EVE), material.public
    return smimea.name(EVE), smimea.record(read_certificates(material.public)[0])


@pytest.mark.parametrize("answer", [lambda: 404, lambda: key().public, lambda: b"nonsense"])
def test_what_a_directory_shows_no_more_is_not_trusted_any_more(
    house: House, answer: Callable[[], Any]
) -> None:
    old = key()
    web = Web({ADVANCED: old.public})
    assert prints(again(house, web, Zone())) == prints([old])
    web.pages = {ADVANCED: answer()}
    assert old.fingerprint not in prints(again(house, web, Zone()))
    assert old.fingerprint not in prints(house.keys_of(EVE))
    house.write(lambda tx: tx.run("DELETE FROM mail_key_miss"))
    web.pages = {ADVANCED: old.public}  # shown again
    (found,) = again(house, web, Zone())
    assert found.fingerprint == old.fingerprint and found.is_trusted


def test_where_the_directory_is_gone_its_keys_are(house: House) -> None:
    web = Web({DIRECT: key().public})
    assert len(again(house, web, Zone())) == 1
    web.pages = {}
    assert again(house, web, Zone()) == ()


@pytest.mark.parametrize("page", [TIMEOUT, NOT_FOUND_OUT, BAD_TLS, 503, 429, 403])
def test_a_directory_that_is_not_reached_takes_nothing_away(
    house: House, page: int | FetchFailed
) -> None:
    web = Web({ADVANCED: key().public})
    assert len(again(house, web, Zone())) == 1
    web.pages = {ADVANCED: page}
    (found,) = again(house, web, Zone())
    assert found.is_trusted and DIRECT not in web.asked


@pytest.mark.parametrize("scheme", Scheme)
def test_records_that_are_gone_take_their_key_away_and_no_other(
    house: House, scheme: Scheme
) -> None:
    made, other = key(scheme=scheme), key()
    name, record = record_of(made)
    zone, web = Zone({name: record}), Web({ADVANCED: other.public})
    assert set(prints(again(house, web, zone))) == {made.fingerprint, other.fingerprint}
    zone.records = {name: None}  # no answer
    assert len(again(house, web, zone)) == 2
    zone.records = {}
    assert prints(again(house, web, zone)) == prints([other])


def test_a_key_is_gone_only_where_no_place_shows_it(house: House) -> None:
    made = key()
    name, record = record_of(made)
    web, zone = Web({ADVANCED: made.public}), Zone()
    assert [one.source for one in again(house, web, zone)] == [Source.WKD]
    web.pages, zone.records = {ADVANCED: 404}, {name: record}  # it has moved
    assert [one.source for one in again(house, web, zone)] == [Source.DNS]
    zone.records = {}
    assert again(house, web, zone) == ()


def test_a_key_that_is_taken_back_for_one_address_stays_for_others(house: House) -> None:
    other = "eva@far.example"
    made = key(EVE, other)
    for address in (other, EVE):
        shown = msgspec.structs.replace(made, addresses=(address,))
        keep(house, shown, Source.WKD, is_trusted=True)
    assert again(house, Web({ADVANCED: 404}), Zone()) == ()
    (left,) = house.keys_of(other)
    assert left.addresses == (other,) and left.is_trusted


@pytest.mark.parametrize("is_known_before", [True, False])
def test_a_person_s_word_outlasts_the_domain_s(house: House, is_known_before: bool) -> None:
    made = key()
    if is_known_before:
        keep(house, made, Source.WKD, is_trusted=True)
    keep(house, made, Source.IMPORTED, is_trusted=True)
    keep(house, made, Source.WKD, is_trusted=True)
    house.write(lambda tx: key_search.keep(tx, address=EVE, told=(GONE,), missed_us=1))
    (found,) = house.keys_of(EVE)
    assert found.is_trusted and found.source is Source.IMPORTED


def test_what_mail_taught_and_a_domain_vouched_for_is_the_domain_s_to_take_back(
    house: House,
) -> None:
    made = key()
    keep(house, made, Source.AUTOCRYPT)
    keep(house, made, Source.WKD, is_trusted=True)
    house.write(lambda tx: key_search.keep(tx, address=EVE, told=(GONE,), missed_us=1))
    assert house.keys_of(EVE) == ()


def test_mail_does_not_keep_a_key_that_its_domain_may_have_taken_back(house: House) -> None:
    """Only the domain says that it still shows it, not somebody who wrote the key into a field."""
    made, _ = make_key([EVE], at=NOW, days=30)
    later = with_end(made, at=NOW + timedelta(days=60))
    shown, said = (key_material.read_public(one.public.octets)[0] for one in (made, later))
    keep(house, shown, Source.WKD, is_trusted=True)
    house.write(lambda tx: tx.run("UPDATE mail_key SET seen_at = 1"))
    keep(house, said, Source.AUTOCRYPT)
    assert [one.seen_at for one in house.keys_of(EVE)] == [1]
    web = Web({ADVANCED: 404})
    assert find(house, search(house, web, Zone())) == () and web.asked


def test_a_key_that_is_shown_as_revoked_is_used_no_more(house: House) -> None:
    made, revocation = make_key([EVE], at=NOW, days=30)
    web = Web({ADVANCED: made.public.octets})
    assert len(again(house, web, Zone())) == 1
    web.pages = {ADVANCED: revoked_by(made.public, revocation).octets}
    assert again(house, web, Zone()) == ()
    asked = len(web.asked)
    assert again(house, web, Zone()) == () and len(web.asked) == asked  # nor asked for at once
    (found,) = house.keys_of(EVE)
    assert found.revoked_at is not None
    house.write(lambda tx: tx.run("DELETE FROM mail_key_miss"))
    web.pages = {ADVANCED: made.public.octets}  # without its revocation
    assert again(house, web, Zone()) == ()


class Counting:
    """A store that counts."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.units: list[str] = []

    def read(self, unit: Any) -> Any:
        self.units.append("read")
        return self._store.read(unit)

    def submit(self, unit: Any) -> Any:
        self.units.append("submit")
        return self._store.submit(unit)


def test_what_is_not_old_is_found_by_one_look_into_the_store(house: House) -> None:
    made = search(house, Web({ADVANCED: key().public}), Zone())
    assert len(find(house, made)) == 1
    store = Counting(house.node.store)
    made._store = store  # type: ignore[assignment]
    assert len(find(house, made)) == 1 and store.units == ["read"]


@pytest.mark.parametrize(("page", "is_good"), [(404, False), (TIMEOUT, True)])
def test_a_signature_by_a_key_that_its_domain_took_back_does_not_count(
    house: House, page: int | FetchFailed, is_good: bool
) -> None:
    made, _ = make_key([EVE], at=NOW - timedelta(hours=1), days=30)
    house.say(ADA, open=Mode.WHEN_POSSIBLE)
    web = Web({ADVANCED: made.public.octets})
    node = house.node.gateway
    node.key_search._places = KeyPlaces(resolver=Zone(), fetch=web)
    assert len(find(house, node.key_search)) == 1
    letter = b"From: eve@far.example\r\nTo: ada@example.test\r\n\r\nUnder the oak.\r\n"
    octets = protect(letter, Protection(signer=PgpSigner(made)), at=NOW)
    house.arrive(octets, [ADA])
    assert b"x-openpgp=pass" in house.stored(ADA)
    house.write(lambda tx: tx.run("UPDATE mail_key SET seen_at = 1"))
    web.pages = {ADVANCED: page}
    house.arrive(octets, [ADA])
    assert (b"x-openpgp=pass" in house.stored(ADA, count=2)) is is_good


WORKERS = ThreadWorkers()
ROOT = make_authority("Root", at=NOW)
BELOW = make_authority("Below", at=NOW, issuer=ROOT)


def signed_by(issuer: Identity | None) -> bytes:
    """A certificate for Eve, DER."""
    return make_identity([EVE], at=NOW, issuer=issuer).certificate.octets


def smimea_of(*records: TlsaRecord) -> Zone:
    return Zone({smimea.name(EVE): records})


def believing(zone: Zone, *roots: Identity) -> KeyPlaces:
    pem = b"".join(one.certificates_pem() for one in roots)
    authorities = Authorities((pem,) if pem else (), clock=SystemClock(), workers=WORKERS)
    return KeyPlaces(resolver=zone, fetch=Web(), authorities=authorities)


def shown_in_smimea(places: KeyPlaces) -> Told:
    return asyncio.run(places.ask(EVE, deadline_s=5))[-1]


@pytest.mark.parametrize(
    ("issuer", "roots", "words"),
    [
        (None, [], "authority that is not trusted here"),
        (None, [ROOT], "authority that is not trusted here"),
        (ROOT, [], "authority that is not trusted here"),
        (ROOT, [ROOT], ""),
        (BELOW, [ROOT], ""),
    ],
)
def test_a_record_that_only_narrows_counts_below_an_authority(
    issuer: Identity | None, roots: list[Identity], words: str
) -> None:
    """RFC 6698 §2.1.1: usage 1 is no pin."""
    below = TlsaRecord(0, 0, 0, BELOW.certificate.octets)
    found = shown_in_smimea(
        believing(smimea_of(TlsaRecord(1, 0, 0, signed_by(issuer)), below), *roots)
    )
    assert words in found.words and bool(found.words) is bool(words) is not bool(found.keys)
    assert found.by_issuer == tuple(prints(found.keys))


def test_what_a_domain_pins_counts_beside_what_it_narrows() -> None:
    own, other, bad = signed_by(None), signed_by(ROOT), signed_by(None)
    records = TlsaRecord(3, 0, 0, own), TlsaRecord(1, 0, 0, own), TlsaRecord(1, 0, 0, other)
    found = shown_in_smimea(believing(smimea_of(TlsaRecord(1, 0, 0, bad), *records), ROOT))
    assert len(found.keys) == 2 and found.by_issuer == (found.keys[1].fingerprint,)
    assert found.words == ""


def test_a_certificate_that_its_domain_only_names_is_encrypted_to_and_not_pinned(
    house: House,
) -> None:
    certificate = signed_by(ROOT)
    narrowed, pinned = TlsaRecord(1, 0, 0, certificate), TlsaRecord(3, 0, 0, certificate)

    def look(record: TlsaRecord, *roots: Identity) -> list[bool]:
        made = search(house, Web(), Zone(), found_s=0.0)
        made._places = believing(smimea_of(record), *roots)
        house.write(lambda tx: tx.run("DELETE FROM mail_key_miss"))
        return [one.is_trusted for one in find(house, made)]

    assert look(narrowed, ROOT) == [False]
    assert look(pinned) == [True]
    assert look(narrowed, ROOT) == [False]
    assert look(narrowed) == []


def test_the_server_trusts_the_authorities_of_its_config(house: House) -> None:
    places = house.node.gateway.key_search._places
    assert places._authorities is not None
    options = house.node.gateway.incoming.options
    assert places._authorities.roots == options.roots
    reloaded = msgspec.structs.replace(options, roots=(ROOT.certificates_pem(),))
    house.node.gateway.set_options(Config(), reloaded)
    assert places._authorities.roots == reloaded.roots


def prints(keys: Iterable[Any]) -> list[str]:
    return [one.fingerprint for one in keys]
