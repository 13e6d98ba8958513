"""Dynamic updates against a real primary name server, and by a command."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import msgspec
import pytest

from posthouse.dns.options import Options
from posthouse.dns.resolver import CachingResolver
from posthouse.dns.update import HookUpdater, Rfc2136Updater, UpdateOptions, read_key
from posthouse.kernel.errors import UserError
from posthouse.kernel.ports import DnsUpdateFailed
from posthouse.kernel.secret import Secret
from posthouse.net.world import SystemChance, SystemClock, SystemNetwork
from posthouse.sim.dns import DnsFault, ZoneResolver, Zones
from tests.interop.knot import SECRET, Knot, running_knot
from tests.interop.programs import missing_program, needs_program

NAME = "_acme-challenge.mail.example.test"


@pytest.fixture(scope="module")
def knot(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Knot]:
    if missing_program("knotd", package="knot") is not None:
        pytest.skip("knotd is not installed (Debian package knot)")
    with running_knot(tmp_path_factory.mktemp("knot")) as made:
        yield made


def options(knot: Knot, **changes: object) -> UpdateOptions:
    made = UpdateOptions(
        server=("127.0.0.1", knot.port), key_name="posthouse.key", key=read_key(knot.key_file)
    )
    return msgspec.structs.replace(made, **changes)


def updater(knot: Knot, network: object = None, **changes: object) -> Rfc2136Updater:
    resolver = CachingResolver(
        Options(servers=(("127.0.0.1", knot.port),)),
        network=SystemNetwork(),
        clock=SystemClock(),
        chance=SystemChance(),
    )
    return Rfc2136Updater(
        options(knot, **changes),
        network=network or SystemNetwork(),  # type: ignore[arg-type]
        resolver=resolver,
        chance=SystemChance(),
    )


# RFC 2136 §2.5.1, §2.5.4
@needs_program("knotd", package="knot")
async def test_records_are_added_beside_others_and_exactly_those_removed(knot: Knot) -> None:
    made = updater(knot)
    await made.put_txt(NAME, ["one"], 60)
    await made.put_txt(NAME, ["two", 'say "hi" \\ there'], 60)
    await made.put_txt(NAME, ["two"], 60)
    assert knot.texts(NAME) == {"one", "two", 'say "hi" \\ there'}
    await made.remove_txt(NAME, ["two", "never there"])
    assert knot.texts(NAME) == {"one", 'say "hi" \\ there'}
    await made.remove_txt(NAME, ["one", 'say "hi" \\ there'])
    assert knot.texts(NAME) == set()


@needs_program("knotd", package="knot")
async def test_a_text_of_many_strings_goes_by_tcp(knot: Knot) -> None:
    long = "v=DKIM1; p=" + "A" * 700
    await updater(knot, zone="example.test").put_txt("sel._domainkey.example.test", [long], 300)
    assert knot.texts("sel._domainkey.example.test") == {long}


class Silent(SystemNetwork):
    async def exchange(self, datagram, address, port, *, timeout_s):  # type: ignore[no-untyped-def]
        raise TimeoutError


@needs_program("knotd", package="knot")
async def test_an_update_that_udp_loses_is_sent_again_by_tcp(knot: Knot) -> None:
    await updater(knot, network=Silent()).put_txt("lost.example.test", ["x"], 60)
    assert knot.texts("lost.example.test") == {"x"}


@needs_program("knotd", package="knot")
@pytest.mark.parametrize(
    ("changes", "name", "words"),
    [
        ({"key": Secret("b3RoZXI=")}, NAME, "the secret is another one"),
        ({"key_name": "nobody.key"}, NAME, "refuses our TSIG signature: it does not know the key"),
        ({"key_name": "other.key"}, NAME, "does not know the key"),
        ({}, "a.locked.test", "does not know the key"),
        ({"zone": "example.test"}, "a.locked.test", "does not lie in the zone"),
        ({"zone": "elsewhere.test"}, "a.elsewhere.test", r"is not the primary"),
        ({}, "x" * 64 + ".example.test", "is no DNS name"),
    ],
)
async def test_what_the_server_refuses_is_told_in_words(
    knot: Knot, changes: dict[str, object], name: str, words: str
) -> None:
    with pytest.raises(DnsUpdateFailed, match=words):
        await updater(knot, **changes).put_txt(name, ["x"], 60)


class Answering(SystemNetwork):
    """A server in between that answers by itself."""

    def __init__(self, rcode: dns.rcode.Rcode = dns.rcode.NOERROR, *, is_same: bool = True) -> None:
        super().__init__()
        self.rcode = rcode
        self.is_same = is_same

    async def exchange(self, datagram, address, port, *, timeout_s):  # type: ignore[no-untyped-def]
        header = bytearray(datagram[:12])
        header[2] |= 0x80
        header[3] = self.rcode
        header[4:12] = bytes(8)
        if not self.is_same:
            header[2] = 0x80  # a plain answer
        return bytes(header)


@pytest.mark.parametrize(
    ("network", "words"),
    [
        (Answering(), "cannot trust: response requires a TSIG"),  # RFC 8945 §5.3.2
        (Answering(dns.rcode.REFUSED, is_same=False), "something else"),
        (Answering(dns.rcode.NOTIMP), "takes no dynamic updates"),
        (Answering(dns.rcode.SERVFAIL), "failed at the update"),
        (Answering(dns.rcode.YXDOMAIN), "refuses it"),
    ],
)
async def test_an_answer_that_anybody_could_have_sent_is_not_believed(
    network: Answering, words: str
) -> None:
    zones = Zones()
    zones.add("example.test", "A", "192.0.2.1")
    made = Rfc2136Updater(
        UpdateOptions(server=("127.0.0.1", 9), key_name="k.test", key=Secret(SECRET)),
        network=network,
        resolver=ZoneResolver(zones),
        chance=SystemChance(),
    )
    with pytest.raises(DnsUpdateFailed, match=words):
        await made.put_txt("a.example.test", ["x"], 60)
    zones.fault("a.example.test", DnsFault.SERVFAIL)
    with pytest.raises(DnsUpdateFailed, match=r"zone of a\.example\.test\. cannot be found"):
        await made.put_txt("a.example.test", ["x"], 60)
    with pytest.raises(DnsUpdateFailed, match="no zone holds"):
        await made.put_txt("nowhere", ["x"], 60)
    for values in ([], ["x"] * 65, ["\n"], ["é"]):
        with pytest.raises(DnsUpdateFailed):
            await made.put_txt("b.example.test", values, 60)


async def test_a_server_that_is_not_there_is_named() -> None:
    zones = Zones()
    zones.add("example.test", "A", "192.0.2.1")
    made = Rfc2136Updater(
        UpdateOptions(
            server=("127.0.0.1", 1), key_name="k.test", key=Secret(SECRET), zone="example.test"
        ),
        network=SystemNetwork(),
        resolver=ZoneResolver(zones),
        chance=SystemChance(),
    )
    with pytest.raises(DnsUpdateFailed, match="port 1 cannot be reached"):
        await made.put_txt("a.example.test", ["x"], 60)


def test_the_key_is_read_in_the_forms_that_tools_write(tmp_path: Path) -> None:
    path = tmp_path / "key"
    for text in (
        f"{SECRET}\n",
        f'key "k" {{ algorithm hmac-sha256; secret "{SECRET}"; }};',
        f"# hmac-sha256:k:{SECRET}\nkey:\n  - id: k\n    secret: {SECRET}\n",
    ):
        path.write_text(text)
        key = read_key(path)
        assert key.reveal() == SECRET
        assert SECRET not in repr(key)
    for text in ("", "no base64!", "===="):
        path.write_text(text)
        with pytest.raises(UserError, match="holds no TSIG secret"):
            read_key(path)
    with pytest.raises(UserError, match="cannot read"):
        read_key(tmp_path / "missing")


# --- the command ---

SCRIPT = """\
import os, sys
with open({out!r}, "a") as file:
    file.write(repr((sys.argv[1:], sys.stdin.read(), sorted(os.environ))) + "\\n")
"""


def hook(tmp_path: Path, source: str, timeout_s: float = 10.0) -> HookUpdater:
    script = tmp_path / "hook.py"
    script.write_text(source)
    return HookUpdater([sys.executable, str(script)], timeout_s=timeout_s)


async def test_a_command_gets_action_name_ttl_and_the_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_OURS", "1")
    out = tmp_path / "out"
    made = hook(tmp_path, SCRIPT.format(out=str(out)))
    await made.put_txt(NAME, ["one; $(two)", "three"], 60)
    await made.remove_txt(NAME, ["three"])
    first, second = out.read_text().splitlines()
    assert first.startswith(f"(['put', '{NAME}', '60'], 'one; $(two)\\nthree\\n'")
    assert second.startswith(f"(['remove', '{NAME}', '0'], 'three\\n'")
    assert "SECRET_OF_OURS" not in first


async def test_a_command_that_fails_is_told_with_its_own_words(tmp_path: Path) -> None:
    failing = "import sys; sys.stderr.write('zone is\\n locked' + '!' * 100_000); sys.exit(3)"
    with pytest.raises(DnsUpdateFailed, match="ended with 3: zone is locked!!!") as caught:
        await hook(tmp_path, failing).put_txt(NAME, ["x"], 60)
    assert len(str(caught.value)) < 3_000 and f"put {NAME} 60" in caught.value.hint
    dying = "import os; os.kill(os.getpid(), 9)"
    with pytest.raises(DnsUpdateFailed, match="was ended by signal 9"):
        await hook(tmp_path, dying).put_txt(NAME, ["x"], 60)
    with pytest.raises(DnsUpdateFailed, match="cannot be run: No such file"):
        await HookUpdater(["/nowhere/hook"], timeout_s=1).put_txt(NAME, ["x"], 60)
    for name in ("-rf", "a/b", "a b", "a\nb", ""):
        with pytest.raises(DnsUpdateFailed, match="no name for a command"):
            await hook(tmp_path, failing).put_txt(name, ["x"], 60)


# Errors of a command are logged and shown.
@pytest.mark.parametrize("before", [0, 1_990, 1_999, 2_000])
async def test_no_argument_of_a_command_is_in_its_errors(tmp_path: Path, before: int) -> None:
    source = (
        f"import sys; sys.stderr.write('x' * {before} + ' '.join(sys.argv)"
        " + '\\x1b[2J\\x07\\u202e'); sys.exit(1)"
    )
    script = tmp_path / "hook.py"
    script.write_text(source)
    arguments = [sys.executable, "-X", "utf8", str(script), "--token=s3cr3t-of-ours", "pa55word"]
    with pytest.raises(DnsUpdateFailed) as caught:
        await HookUpdater(arguments, timeout_s=10).put_txt(NAME, ["x"], 60)
    text, hint = str(caught.value), caught.value.hint
    for part in ("s3cr3t", "pa55w", "token"):
        assert part not in text and part not in hint
    assert text.isprintable() and len(text) < 2_200
    assert hint.endswith(f"{sys.executable} … put {NAME} 60")
    if not before:
        assert f"... ... ... put {NAME} 60\\x1b[2J\\x07\\x202e" in text


async def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    source = (
        "import subprocess, time\n"
        "child = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(pid)!r}, 'w').write(str(child.pid))\n"
        "time.sleep(600)\n"
    )
    with pytest.raises(DnsUpdateFailed, match="took more than 1 s"):
        await hook(tmp_path, source, timeout_s=1.0).put_txt(NAME, ["x"], 60)
    stat = Path(f"/proc/{pid.read_text()}/stat")
    for _ in range(200):
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            break
        await asyncio.sleep(0.01)
    else:
        raise AssertionError("the command's child is still there")
