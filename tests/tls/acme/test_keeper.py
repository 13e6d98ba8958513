"""What the keeper does when, with an authority in memory and a clock that is turned by hand."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from posthouse.kernel.errors import UserError
from posthouse.net.workers import ThreadWorkers
from posthouse.sim.chance import SeededChance
from posthouse.sim.dns import DnsFault, ZoneResolver, Zones
from posthouse.tls.acme import keeper as keepers
from posthouse.tls.acme.authority import Proof, Window
from posthouse.tls.acme.folder import AcmeFolder, Status
from posthouse.tls.acme.keeper import Keeper
from posthouse.tls.acme.keys import new_key
from posthouse.tls.acme.options import KeyKind, Kind, Options, Wanted
from posthouse.tls.acme.solvers import Answers, Http01, TlsAlpn01
from posthouse.tls.acme.trouble import OrderFailed
from posthouse.tls.certificates import CertificateFiles, load_certificate
from posthouse.tls.tlsa import tlsa_3_1_1
from tests.tls.test_certificates import NOW, NowClock

HOST = Wanted(name="mail.example.org")
DAY = timedelta(days=1)


class Authority:
    """Issues for 90 days, unless told to fail."""

    def __init__(self, clock: NowClock) -> None:
        self.clock = clock
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.failure: Exception | None = None
        self.window: Window | None = None
        self.again_s = 21_600.0
        self.orders: list[tuple[str, str]] = []
        """Of each: the way of proving, and what it replaces."""
        self.asked = 0
        self.polls = 1
        self.change: Callable[[bytes], bytes] = lambda chain: chain
        self._csr = b""
        self._replaces = b""

    async def open(self, *, with_account: bool = True) -> None:
        if self.failure is not None and with_account:
            raise self.failure

    async def order(self, csr: bytes, *, replaces: bytes | None = None) -> Any:
        self._csr, self._replaces = csr, replaces or b""
        return "order"

    def proofs(self, order: Any, kind: Kind) -> list[Proof]:
        self.orders.append((kind.value, "a renewal" if self._replaces else "new"))
        name = HOST.name
        return [Proof(name=name, kind=kind, token="t", key_authorization="t.x", inner=None)]

    async def answer(self, proof: Proof) -> None:
        self.left = self.polls

    async def is_valid(self, proof: Proof) -> bool:
        self.left -= 1
        return self.left <= 0

    async def finish(self, order: Any) -> bytes:
        csr = x509.load_pem_x509_csr(self._csr)
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        root = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "Authority")])
        leaf = (
            x509.CertificateBuilder(root, csr.subject, csr.public_key(), len(self.orders) + 1)
            .not_valid_before(self.clock.now())
            .not_valid_after(self.clock.now() + 90 * DAY)
            .add_extension(names.value, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return self.change(leaf.public_bytes(serialization.Encoding.PEM))

    async def window_of(self, leaf: x509.Certificate) -> tuple[Window | None, float]:
        self.asked += 1
        return self.window, self.again_s


class _Opened:
    """An `Authority` in the shape of the real one, whose `window` is a method."""

    def __init__(self, inner: Authority) -> None:
        self._inner = inner
        self.window = inner.window_of

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class Told:
    """The observer."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.is_heard = True

    def obtained(self, name: str, files: CertificateFiles, *, not_after: datetime) -> None:
        self.lines.append(f"obtained {name}")

    def failed(self, name: str, failure: UserError, *, next_at: datetime) -> None:
        self.lines.append(f"failed {name}: {failure.text}")

    def waits(self, name: str, words: str) -> None:
        self.lines.append(f"waits {name}: {words}")

    def wished(self, name: str, at: datetime, explanation: str) -> None:
        self.lines.append(f"wished {name} {explanation}")

    async def expiring(self, name: str, not_after: datetime, failure: UserError) -> bool:
        self.lines.append(f"mail {name}: {failure.text}")
        return self.is_heard

    async def missing(self, names: Mapping[str, Status]) -> bool:
        self.lines.append(f"missing {' '.join(names)}")
        return self.is_heard


class House:
    def __init__(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "tls").mkdir()
        self.clock, self.told, self.zones = NowClock(), Told(), Zones()
        self.zones.add(HOST.name, "A", "192.0.2.1")
        self.authority = Authority(self.clock)
        self.folder = AcmeFolder(tmp_path / "tls" / "acme")
        self.answers = Answers()
        monkeypatch.setattr(keepers, "open_authority", lambda *given: _Opened(self.authority))
        self.keeper = self.made(Options(directory="https://ca.example/"))

    def made(self, options: Options, **more: Any) -> Keeper:
        solvers = {
            Kind.HTTP_01: Http01(self.answers),
            Kind.TLS_ALPN_01: TlsAlpn01(self.answers, self.clock),
        }
        return Keeper(
            options, folder=self.folder, solvers=more.pop("solvers", solvers),
            resolver=ZoneResolver(self.zones, timeout_s=0.0), workers=ThreadWorkers(),
            clock=self.clock, chance=SeededChance(1), observer=self.told, **more,
        )  # fmt: skip

    async def look(self, *wanted: Wanted) -> list[str]:
        self.told.lines.clear()
        await self.keeper.look(wanted or (HOST,))
        return self.told.lines

    async def later(self, by: timedelta) -> list[str]:
        self.clock.at += by
        return await self.look()

    def leaf(self) -> x509.Certificate:
        held = self.folder.held(HOST.name)
        assert held is not None
        return held.leaf


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    return House(tmp_path, monkeypatch)


async def test_a_name_without_certificate_gets_one_and_then_there_is_peace(house: House) -> None:
    assert await house.look() == ["obtained mail.example.org"]
    for days in range(57):
        assert await house.later(DAY) == [], days
    assert house.authority.orders == [("http-01", "new")]


async def test_it_is_renewed_with_a_third_left_and_the_same_key(house: House) -> None:
    await house.look()
    first = house.leaf()
    days = 0
    while not (said := await house.later(DAY)):
        days += 1
    assert said == ["obtained mail.example.org"] and 56 <= days <= 60
    assert house.authority.orders[-1] == ("http-01", "a renewal")
    assert house.leaf().public_key() == first.public_key()
    assert house.leaf().not_valid_after_utc > first.not_valid_after_utc


async def test_failures_back_off_and_leave_the_certificate_in_use(house: House) -> None:
    await house.look()
    before = house.folder.files(HOST.name)
    house.clock.at += 61 * DAY
    house.authority.failure = OrderFailed("mail.example.org: no way", hint="do this")
    attempts = []
    for minute in range(0, 3 * 1440, 5):
        if house.told.lines and house.told.lines[0].startswith("failed"):
            attempts.append(minute)
        await house.later(timedelta(minutes=5))
    gaps = [b - a for a, b in itertools.pairwise(attempts)]
    assert 8 <= len(attempts) <= 14 and gaps[0] < 25 and gaps[-1] > 600
    status = house.folder.status(HOST.name)
    assert (status.problem, status.hint) == ("mail.example.org: no way", "do this")
    assert house.folder.files(HOST.name) == before
    house.authority.failure = None
    assert await house.later(2 * DAY) == ["obtained mail.example.org"]
    assert house.folder.status(HOST.name).failures == 0


async def test_postmaster_is_told_once_a_day_when_little_time_is_left(house: House) -> None:
    await house.look()
    house.authority.failure = OrderFailed("no way")
    house.clock.at += 70 * DAY
    mails = 0
    while house.clock.at < NOW + 90 * DAY:
        told = await house.later(timedelta(hours=1))
        assert house.clock.at >= NOW + 80 * DAY or not any("mail mail" in line for line in told)
        mails += sum(line.startswith("mail ") for line in told)
    assert 7 <= mails <= 10


async def test_a_first_certificate_that_cannot_be_had_is_told_and_again_each_week(
    house: House,
) -> None:
    house.authority.failure = OrderFailed("no way")
    await house.look()
    told = []
    for minutes in range(0, 30 * 1440, 30):
        if "missing mail.example.org" in await house.later(timedelta(minutes=30)):
            told.append(minutes / 60)
            assert house.folder.status(HOST.name).failures >= 5
    assert 2 <= told[0] <= 6 and len(told) == 5
    assert all(b - a == 7 * 24 for a, b in itertools.pairwise(told))
    house.authority.failure = None
    house.clock.at += 2 * DAY
    assert await house.look() == ["obtained mail.example.org"]
    house.authority.failure = OrderFailed("no way")
    house.clock.at += 70 * DAY
    said = [line for _ in range(90) for line in list(await house.later(timedelta(hours=2)))]
    assert not any(line.startswith("missing") for line in said), "that is told as expiring"


async def test_after_a_day_few_failures_are_told_too(house: House) -> None:
    house.authority.failure = OrderFailed("too many", retry_after_s=200 * 3600.0)
    assert len(await house.look()) == 1
    assert await house.later(timedelta(hours=23)) == []
    assert await house.later(timedelta(hours=1)) == ["missing mail.example.org"]
    assert await house.later(5 * DAY) == []


async def test_a_name_that_waits_for_its_address_is_not_told_as_missing(house: House) -> None:
    wanted = Wanted(name=HOST.name, is_optional=True)
    house.zones.remove(HOST.name, "A")
    await house.keeper.attempt(HOST.name)  # somebody asked for it by hand
    house.clock.at += DAY
    assert await house.look(wanted) == [
        "waits mail.example.org: the DNS has no address for mail.example.org yet"
    ]
    house.clock.at += 9 * DAY
    assert await house.look(wanted) == []


async def test_names_that_lack_certificates_are_told_together_until_somebody_hears(
    house: House,
) -> None:
    other = Wanted(name="mta-sts.example.org", is_optional=True)
    house.zones.add(other.name, "A", "192.0.2.1")
    house.authority.failure = OrderFailed("no way", retry_after_s=600 * 3600.0)
    await house.look()
    house.clock.at += timedelta(hours=20)
    await house.look(HOST, other)
    house.clock.at += timedelta(hours=4)
    house.told.is_heard = False  # the store is full, say
    for _ in range(2):
        assert await house.look(HOST, other) == [f"missing {HOST.name} {other.name}"]
        assert await house.look(HOST, other) == []
        house.clock.at += timedelta(hours=1)
    house.told.is_heard = True
    await house.look(HOST, other)
    house.clock.at += 2 * DAY
    assert await house.look(HOST, other) == [], "the other one was in the same mail"
    await house.keeper.attempt(HOST.name)  # by hand: who asks hears it
    assert house.told.lines == ["failed mail.example.org: no way"]


async def test_rate_limits_are_obeyed(house: House) -> None:
    house.authority.failure = OrderFailed("too many", retry_after_s=10 * 3600.0)
    assert len(await house.look()) == 1
    assert await house.later(timedelta(hours=9)) == []
    assert len(await house.later(timedelta(hours=1))) == 1


async def test_the_ways_that_are_open_take_turns(house: House) -> None:
    house.authority.failure = None
    house.authority.change = lambda chain: b"no certificate"
    await house.look()
    await house.later(DAY)
    await house.later(2 * DAY)
    assert [kind for kind, _ in house.authority.orders] == ["http-01", "tls-alpn-01", "http-01"]
    assert not house.answers.texts and not house.answers.contexts


# F35
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda chain: b"no certificate", "no complete certificate"),
        (lambda chain: chain[: len(chain) // 2], "no complete certificate"),
        (lambda chain: b"", "no complete certificate"),
    ],
)
async def test_what_an_authority_sends_is_looked_at_before_it_is_used(
    house: House, change: Callable[[bytes], bytes], words: str
) -> None:
    await house.look()
    before = house.folder.files(HOST.name)
    house.authority.change = change
    [said] = await house.later(61 * DAY)
    assert "of no use" in said and words in said
    assert house.folder.files(HOST.name) == before


async def test_a_certificate_with_another_key_or_name_is_refused(house: House) -> None:
    other = Authority(house.clock)
    other._csr = keepers.request("mail.example.org", new_key())
    wrong_key = await other.finish("order")
    house.authority.change = lambda chain: wrong_key
    [said] = await house.look()
    assert "does not belong" in said
    real = house.authority.order

    async def another(csr: bytes, *, replaces: bytes | None = None) -> Any:
        key = (house.folder.root / "k").read_bytes()
        return await real(keepers.request("other.example.org", key), replaces=replaces)

    house.folder.root.mkdir(exist_ok=True)
    (house.folder.root / "k").write_bytes(new_key())
    house.authority.change = lambda chain: chain
    house.authority.order = another  # type: ignore[method-assign]
    house.keeper = house.made(
        house.keeper.options, first_key=lambda name: (house.folder.root / "k").read_bytes()
    )
    [said, missing] = await house.later(DAY)
    assert missing == "missing mail.example.org"
    assert "is not for mail.example.org" in said


async def test_the_first_order_goes_on_with_the_key_that_was_served(house: House) -> None:
    key = new_key(KeyKind.RSA)
    house.keeper = house.made(house.keeper.options, first_key=lambda name: key)
    await house.look()
    files = house.folder.files(HOST.name)
    assert files is not None and files.key.read_bytes() == key


async def test_a_policy_host_without_address_waits_quietly(house: House) -> None:
    wanted = Wanted(name="mail.example.org", is_optional=True)
    house.zones.remove("mail.example.org", "A")
    [said] = await house.look(wanted)
    assert said == "waits mail.example.org: the DNS has no address for mail.example.org yet"
    house.clock.at += timedelta(minutes=11)
    assert await house.look(wanted) == [] and house.authority.orders == []
    house.zones.add("mail.example.org", "AAAA", "2001:db8::1")
    assert await house.look(wanted) == []
    house.clock.at += timedelta(minutes=11)
    assert await house.look(wanted) == ["obtained mail.example.org"]
    other = Wanted(name="mta-sts.example.net", is_optional=True)
    house.zones.fault("mta-sts.example.net", DnsFault.SERVFAIL)
    assert await house.look(other) == ["obtained mta-sts.example.net"]
    gone = Wanted(name="gone.example.net")
    [said] = await house.look(gone)
    assert said == "failed gone.example.net: gone.example.net: the DNS has no address for it"
    hint = house.folder.status("gone.example.net").hint
    assert hint.startswith("publish a CNAME record from gone.example.net")
    assert len(house.authority.orders) == 2, "the authority was not troubled"


# RFC 9773 §4.2, §4.3
async def test_the_authority_s_wish_moves_a_renewal(house: House) -> None:
    house.authority.window = Window(
        start=NOW + 20 * DAY, end=NOW + 22 * DAY, explanation="https://ca.example/why"
    )
    await house.look()
    assert await house.look() == ["wished mail.example.org https://ca.example/why"]
    for _ in range(19):
        assert not any("obtained" in line for line in await house.later(DAY))
    assert house.authority.asked == 20
    said = [line for _ in range(3) for line in list(await house.later(DAY))]
    assert said.count("obtained mail.example.org") == 1


async def test_a_wish_in_the_past_for_ever_is_no_order_every_moment(house: House) -> None:
    house.authority.window = Window(start=NOW - 9 * DAY, end=NOW - 8 * DAY)
    said = [line for _ in range(96) for line in list(await house.later(timedelta(hours=1)))]
    assert said.count("obtained mail.example.org") == 8


async def test_a_wish_for_now_is_a_renewal_now(house: House) -> None:
    await house.look()
    assert await house.later(DAY) == []
    house.authority.window = Window(start=NOW - 2 * DAY, end=NOW - DAY)
    house.authority.again_s = 600.0
    said = await house.later(DAY)
    assert said == ["wished mail.example.org ", "obtained mail.example.org"]


async def test_an_expired_certificate_is_not_asked_about(house: House) -> None:
    await house.look()
    house.authority.failure = OrderFailed("down")
    asked = house.authority.asked
    house.clock.at += 91 * DAY
    await house.look()
    assert house.authority.asked == asked
    house.authority.failure = None
    assert await house.later(DAY) == ["obtained mail.example.org"]


async def test_an_order_asked_for_is_carried_out_at_once_and_answered(house: House) -> None:
    await house.look()
    house.folder.ask("mail.example.org", "t1")
    house.folder.ask("stranger.example", "t2")
    assert await house.look() == ["obtained mail.example.org"]
    assert house.folder.status("mail.example.org").answered == "t1"
    assert house.folder.status("stranger.example").answered == "t2"
    assert "does not know that stranger.example" in house.folder.status("stranger.example").problem
    assert house.folder.asked() == {} and len(house.authority.orders) == 2
    await house.later(61 * DAY)
    assert house.folder.status("mail.example.org").answered == "t1"


async def test_an_order_that_takes_too_long_is_given_up(house: House) -> None:
    async def never(proof: Proof) -> bool:
        await asyncio.sleep(3600)
        return False

    house.authority.is_valid = never  # type: ignore[method-assign]
    house.keeper = house.made(msgspec.structs.replace(house.keeper.options, order_s=0.05))
    [said] = await house.look()
    assert "took longer than 0.05 s" in said and not house.answers.texts


async def test_a_bug_is_raised_but_not_repeated_every_second(house: House) -> None:
    house.authority.failure = RuntimeError("a bug")
    with pytest.raises(RuntimeError):
        await house.look()
    house.told.lines.clear()
    assert await house.look() == []
    assert house.folder.status(HOST.name).failures == 1


async def test_a_way_that_is_not_open_is_told(house: House) -> None:
    house.keeper = house.made(msgspec.structs.replace(house.keeper.options, challenge=Kind.DNS_01))
    [said] = await house.look()
    assert "dns-01: that way is not open" in said
    assert house.folder.status(HOST.name).hint == "set up [dns_update]"
    house.keeper = house.made(house.keeper.options, solvers={})
    await house.keeper.attempt("*.example.org")
    assert "*.example.org cannot be proved by dns-01" in house.told.lines[-1]


async def test_another_process_at_it_is_a_failure_for_later(house: House) -> None:
    with house.folder.locked():
        [said] = await house.look()
    assert "another process" in said
    assert await house.later(DAY) == ["obtained mail.example.org"]


# --- keys ---


def rotating(house: House) -> None:
    options = msgspec.structs.replace(house.keeper.options, rotates_key_days=30)
    house.keeper = house.made(options)


async def test_the_next_key_is_made_in_advance_and_used_when_its_time_has_come(
    house: House,
) -> None:
    rotating(house)
    await house.look()
    first, upcoming = house.leaf(), house.folder.next_key(HOST.name)
    assert upcoming is not None
    for _ in range(29):
        assert await house.later(DAY) == []
    assert await house.later(DAY) == ["obtained mail.example.org"]  # no TLSA anywhere
    files = house.folder.files(HOST.name)
    assert files is not None and files.key.read_bytes() == upcoming
    assert house.leaf().public_key() != first.public_key()
    assert house.folder.next_key(HOST.name) not in (None, upcoming)


async def test_it_is_not_used_before_the_dns_shows_it_however_old_the_other_is(
    house: House,
) -> None:
    rotating(house)
    await house.look()
    first = house.leaf()
    owner = f"_25._tcp.{HOST.name}"
    house.zones.add(owner, "TLSA", f"3 1 1 {tlsa_3_1_1(first).hex()}", ttl_s=3600)
    said = [line for _ in range(70) for line in list(await house.later(DAY))]
    assert said[0].startswith("waits mail.example.org: a new key waits: _25._tcp.")
    assert said.count("obtained mail.example.org") == 1, "renewed with the present key meanwhile"
    assert house.leaf().public_key() == first.public_key()

    pem = house.folder.next_key(HOST.name)
    assert pem is not None
    upcoming = tlsa_3_1_1(serialization.load_pem_private_key(pem, None).public_key())
    house.zones.add(owner, "TLSA", f"3 1 1 {upcoming.hex()}", ttl_s=3600)
    hours = 0
    while "obtained mail.example.org" not in await house.later(timedelta(minutes=15)):
        hours += 0.25  # type: ignore[assignment]
        assert hours < 10
    assert 1.9 <= hours <= 2.6, "two TTLs"
    assert tlsa_3_1_1(house.leaf()) == upcoming


async def test_a_rotation_that_fails_is_tried_again_as_one(house: House) -> None:
    rotating(house)
    await house.look()
    upcoming = house.folder.next_key(HOST.name)
    house.authority.failure = OrderFailed("down")
    assert len(await house.later(30 * DAY)) == 1
    assert await house.later(timedelta(minutes=5)) == []
    house.authority.failure = None
    assert await house.later(DAY) == ["obtained mail.example.org"]
    files = house.folder.files(HOST.name)
    assert files is not None and files.key.read_bytes() == upcoming


async def test_a_key_that_came_into_use_just_before_a_kill_is_not_the_next_one(
    house: House,
) -> None:
    rotating(house)
    await house.look()
    files = house.folder.files(HOST.name)
    assert files is not None
    house.folder.put_next_key(HOST.name, files.key.read_bytes())
    await house.later(DAY)
    assert house.folder.next_key(HOST.name) != files.key.read_bytes()
    load_certificate(files, house.clock.now())


def test_without_the_library_a_person_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import builtins

    real = builtins.__import__

    def missing(name: str, *given: Any, **more: Any) -> Any:
        if name == "posthouse.tls.acme.authority":
            raise ModuleNotFoundError("No module named 'acme'", name="acme")
        return real(name, *given, **more)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(UserError, match="not installed") as caught:
        keepers.open_authority(
            Options(directory="https://ca.example/"), AcmeFolder(tmp_path), ThreadWorkers()
        )
    assert caught.value.hint == "pip install 'posthouse[acme]'"
