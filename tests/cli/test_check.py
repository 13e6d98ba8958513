"""`posthouse check` against a name server on loopback, with messages signed here."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from posthouse.cli.output import ExitCode
from posthouse.mailauth.dkim.grammar import ED25519
from posthouse.mailauth.dkim.keys import key_record
from posthouse.mailauth.dkim.sign import SigningKey, public_octets, sign
from posthouse.message.fields import read_section
from posthouse.sim.dns import DnsFault, Zones
from posthouse.sim.dns_server import LabDns

from .conftest import Cli

SIGNED_AT = 1_700_000_000
KEY = SigningKey(
    domain="example.net",
    selector="s1",
    algorithm=ED25519,
    private=Ed25519PrivateKey.from_private_bytes(bytes(range(32))),
)
MESSAGE = (
    b"From: Ada <ada@example.net>\r\nTo: you@example.org\r\nSubject: hello\r\n"
    b"Date: Tue, 14 Nov 2023 22:13:20 +0000\r\nMessage-ID: <1@example.net>\r\n\r\nhi  there\r\n"
)
ADDRESS = "192.0.2.25"
SESSION = ("--ip", ADDRESS, "--helo", "mail.example.net", "--from", "ada@example.net")
STRANGER = ("--ip", "203.0.113.9", "--helo", "x.example", "--from", "ada@example.net")


def signed(octets: bytes = MESSAGE) -> bytes:
    fields = sign(read_section(octets), (KEY,), now_unix_s=SIGNED_AT, expires_s=None)
    return fields + octets


@pytest_asyncio.fixture
async def place() -> AsyncIterator[str]:
    zones = Zones()
    zones.add("example.net", "TXT", '"v=spf1 ip4:192.0.2.0/24 exp=why.example.net -all"')
    zones.add("why.example.net", "TXT", '"%{i} is none of ours"')
    zones.add("mail.example.net", "A", ADDRESS)
    zones.add("25.2.0.192.in-addr.arpa", "PTR", "mail.example.net.")
    record = key_record(ED25519, public_octets(KEY.private))
    zones.add("s1._domainkey.example.net", "TXT", f'"{record}"')
    zones.add("_dmarc.example.net", "TXT", '"v=DMARC1; p=reject; rua=mailto:d@example.net"')
    zones.add("_dmarc.soft.example.com", "TXT", '"v=DMARC1; p=quarantine; t=y; aspf=s"')
    zones.add("_dmarc.junk.test", "TXT", '"v=DMARC1; p=quarantine"')
    zones.fault("broken.example.com", DnsFault.SERVFAIL)
    zones.fault("_dmarc.broken.example.com", DnsFault.SERVFAIL)
    server = LabDns(zones)
    await server.serve_loopback()
    yield f"{server.address[0]}:{server.address[1]}"
    server.close()


async def check(cli: Cli, place: str, *arguments: str, stdin: str = "") -> tuple[int, str, str]:
    return await asyncio.to_thread(cli, "check", *arguments, "--resolver", place, stdin=stdin)


async def as_json(cli: Cli, place: str, *arguments: str) -> Any:
    code, out, err = await check(cli, place, *arguments, "--json")
    assert code in (ExitCode.OK, ExitCode.TEMPORARY), err
    return json.loads(out)


def saved(octets: bytes, name: str = "message.eml") -> str:
    Path(name).write_bytes(octets)
    return name


# --- the whole message ---


async def test_a_message_that_passes_is_told_so_by_every_check(cli: Cli, place: str) -> None:
    code, out, err = await check(cli, place, "mail", saved(signed()), *SESSION)
    assert (code, err) == (ExitCode.OK, "")
    lines = out.splitlines()
    told = [line for line in lines if line and not line.startswith((" ", "\t"))]
    assert told[:6] == [
        "iprev: pass: 192.0.2.25 is called mail.example.net, and that name leads back to it",
        "spf: none: mail.example.net (the name in HELO) has no SPF record",
        (
            "spf: pass: example.net (the sender's domain) lets 192.0.2.25 send its mail, by"
            ' "ip4:192.0.2.0/24"'
        ),
        (
            "dkim: pass: signed by example.net (selector s1, ed25519-sha256), and what is signed"
            " was not changed since"
        ),
        "arc: none: no forwarder sealed it",
        "dmarc: pass: the signature of example.net and SPF vouch for example.net (From)",
    ]
    assert "    TXT _dmarc.example.net: v=DMARC1; p=reject; rua=mailto:d@example.net" in lines
    assert "It would be accepted" in lines
    assert "\tdmarc=pass header.from=example.net policy.dmarc=reject" in lines


async def test_json_has_each_finding_in_the_words_of_rfc_8601(cli: Cli, place: str) -> None:
    said = await as_json(cli, place, "mail", saved(signed()), *SESSION)
    assert said["verdict"] == {
        "verdict": "accept", "reply": "", "why": "", "words": "It would be accepted"
    }  # fmt: skip
    found = [(one["name"], one["result"]) for one in said["findings"]]
    assert found == [
        *(("iprev", "pass"), ("spf", "none"), ("spf", "pass")),
        *(("dkim", "pass"), ("arc", "none"), ("dmarc", "pass")),
    ]
    spf = said["findings"][2]
    assert spf["properties"] == [{"ptype": "smtp", "name": "mailfrom", "value": "example.net"}]
    assert spf["evidence"][0]["what"] == "TXT example.net"
    assert said["authentication_results"].startswith("Authentication-Results: ")


async def test_a_forged_message_would_be_refused_with_the_reply_it_would_hear(
    cli: Cli, place: str
) -> None:
    said = await as_json(cli, place, "mail", saved(MESSAGE), *STRANGER)
    assert said["verdict"]["verdict"] == "refuse"
    assert said["verdict"]["reply"].startswith("550 5.7.26 example.net does not vouch for this")
    by_name = {one["name"]: one for one in said["findings"]}
    assert by_name["dkim"]["words"] == "nobody signed it"
    assert by_name["spf"]["words"] == (
        'example.net (the sender\'s domain) does not let 203.0.113.9 send its mail, by "-all";'
        ' it says: "203.0.113.9 is none of ours"'
    )
    assert by_name["dmarc"]["words"] == (
        "neither SPF nor a signature vouches for example.net (From), which asks to refuse it"
    )


async def test_junk_and_deferral_are_told(cli: Cli, place: str) -> None:
    junk = MESSAGE.replace(b"ada@example.net", b"ada@junk.test", 1)
    said = await as_json(cli, place, "mail", saved(junk), *STRANGER)
    assert said["verdict"]["verdict"] == "accept as junk"
    assert said["verdict"]["words"].startswith("It would be put into Junk: DMARC fails")


async def test_what_a_list_passed_on_is_told_as_port_25_would_take_it(cli: Cli, place: str) -> None:
    said = await as_json(cli, place, "mail", saved(b"List-Id: <l.test>\r\n" + MESSAGE), *STRANGER)
    assert said["verdict"]["verdict"] == "accept as junk"
    assert "List-Id" in said["verdict"]["why"]


async def test_a_message_of_a_form_that_port_25_refuses_is_told_so(cli: Cli, place: str) -> None:
    said = await as_json(
        cli, place, "mail", saved(b"From: ada@example.net\r\n" + MESSAGE), *SESSION
    )
    assert said["verdict"]["reply"] == "550 5.6.0 The message has more than one From field"


async def test_the_config_decides_what_would_be_done(cli: Cli, place: str) -> None:
    Path("posthouse.toml").write_text('mailauth.dmarc = "mark"\nnode.hostname = "mx.here.test"\n')
    said = await as_json(cli, place, "mail", saved(MESSAGE), *STRANGER)
    assert said["verdict"]["verdict"] == "accept"
    assert said["verdict"]["why"].endswith("only marked (mailauth.dmarc)")
    assert said["authentication_results"].startswith("Authentication-Results: mx.here.test;")


# --- files ---


async def test_bare_lf_becomes_crlf_with_a_word_about_it(cli: Cli, place: str) -> None:
    path = saved(b"From you@host Tue\n" + signed().replace(b"\r\n", b"\n"))
    code, out, err = await check(cli, place, "dkim", path)
    assert code == ExitCode.OK and out.startswith("dkim: pass: signed by example.net")
    assert err.splitlines() == [
        'the first line, "From …", is mbox\'s and not of the message: left away',
        "the lines of the file end in LF: turned into CRLF, as mail has them",
    ]


async def test_mixed_line_ends_are_kept(cli: Cli, place: str) -> None:
    code, _, err = await check(cli, place, "dkim", saved(signed() + b"a\nb\n"))
    assert code == ExitCode.OK
    assert err.startswith("2 of the lines end in a bare LF and others in CRLF: kept")


def test_a_message_comes_from_stdin(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    class Stdin(io.StringIO):
        buffer = io.BytesIO(MESSAGE)

    monkeypatch.setattr("io.StringIO", lambda text: Stdin(text))
    code, out, _ = cli("check", "dkim", "-", "--resolver", "127.0.0.1:1", "--json")
    assert code == ExitCode.OK
    assert json.loads(out)["result"] == "none"


@pytest.mark.parametrize(
    ("octets", "code", "said"),
    [
        (None, ExitCode.NOT_FOUND, "there is no file message.eml"),
        (b"", ExitCode.FAILED, "message.eml is empty"),
        (b"\r\n \r\n", ExitCode.FAILED, "message.eml is empty"),
        (
            b"\x89PNG\r\n\x1a\n\0\0",
            ExitCode.FAILED,
            "message.eml is not a message: it does not begin with header fields",
        ),
        (
            b"\r\n" + MESSAGE,
            ExitCode.FAILED,
            "message.eml is not a message: it does not begin with header fields",
        ),
    ],
)
def test_what_is_no_message_is_told_in_words(
    octets: bytes | None, code: int, said: str, cli: Cli
) -> None:
    if octets is not None:
        saved(octets)
    for command in (("mail", "message.eml", *SESSION), ("dkim", "message.eml")):
        found, _, err = cli("check", *command)
        assert (found, err.splitlines()[0]) == (code, f"error: {said}")


def test_a_folder_and_a_huge_file_are_no_messages(cli: Cli) -> None:
    Path("folder").mkdir()
    assert cli("check", "arc", "folder")[2].splitlines()[0] == "error: folder is a folder"
    Path("posthouse.toml").write_text('smtp.message_octets_max = "1 MiB"\n')
    code, _, err = cli("check", "arc", saved(MESSAGE + b"x" * (1 << 20)))
    assert code == ExitCode.FAILED
    assert err.splitlines()[0] == "error: the message is larger than 1MiB"


# --- wrong words ---


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("spf", "--helo", "x", "--from", "a@b.example"), "Missing option '--ip'"),
        (
            ("spf", "--ip", "mail.example", "--helo", "x", "--from", "a@b.example"),
            (
                "Invalid value for '--ip': 'mail.example' is no IP address, as 192.0.2.1 and"
                " 2001:db8::1 are"
            ),
        ),
        (
            ("spf", "--ip", ADDRESS, "--helo", "x", "--from", "example.net"),
            (
                "Invalid value for '--from': 'example.net' is no address: the domain is missing;"
                ' "<>" is the empty one'
            ),
        ),
        (("dmarc",), "name the FILE of a message, or a --domain"),
        (
            ("dmarc", "message.eml", "--ip", ADDRESS),
            "to check a message, DMARC needs to know who brought it: --ip, --helo and --from",
        ),
        (
            ("dmarc", "message.eml", "--domain", "example.net"),
            "--domain shows a policy, FILE checks a message: give one",
        ),
        (
            ("dkim", "message.eml", "--at", "yesterday"),
            "Invalid value for '--at': 'yesterday' is no time, as 2026-01-02T03:04:05Z is",
        ),
        (("dkim", "message.eml", "--resolver", "x"), "--resolver takes an IP address with or"),
    ],
)
def test_wrong_words_are_told_and_end_with_2(
    arguments: tuple[str, ...], said: str, cli: Cli
) -> None:
    saved(MESSAGE)
    code, _, err = cli("check", *arguments)
    assert code == ExitCode.USAGE
    assert err.startswith(f"error: {said}"), err


# --- one by one ---


async def test_spf_tells_both_identities_and_the_senders_counts(cli: Cli, place: str) -> None:
    said = await as_json(cli, place, "spf", *SESSION)
    assert (said["result"], said["reason"]) == ("pass", "")
    assert said["properties"] == [{"ptype": "smtp", "name": "mailfrom", "value": "example.net"}]
    assert [one["properties"][0]["name"] for one in said["findings"]] == ["helo", "mailfrom"]
    assert said["evidence"][0]["found"] == "v=spf1 ip4:192.0.2.0/24 exp=why.example.net -all"


async def test_the_null_sender_is_judged_by_helo(cli: Cli, place: str) -> None:
    arguments = ("--ip", f"::ffff:{ADDRESS}", "--helo", "example.net", "--from", "<>")
    said = await as_json(cli, place, "spf", *arguments)
    assert said["result"] == "pass"
    assert "lets 192.0.2.25 send" in said["words"]


async def test_who_names_nothing_is_told_in_a_sentence(cli: Cli, place: str) -> None:
    session = ("--ip", ADDRESS, "--helo", "", "--from", "<>")
    code, out, _ = await check(cli, place, "spf", *session)
    assert code == ExitCode.OK
    words = "spf: none: SPF has nothing to go by: the client named itself with nothing"
    assert out.splitlines() == [words, words]
    path = saved(MESSAGE.partition(b"\r\n")[2])
    code, out, _ = await check(cli, place, "mail", path, *session)
    assert code == ExitCode.OK  # whatever it found
    assert "dmarc: permerror: DMARC cannot be checked: the message has no From field" in out


async def test_a_dns_that_fails_ends_with_75_and_says_what_failed(cli: Cli, place: str) -> None:
    arguments = ("--ip", ADDRESS, "--helo", "[192.0.2.25]", "--from", "a@broken.example.com")
    code, out, _ = await check(cli, place, "spf", *arguments)
    assert code == ExitCode.TEMPORARY
    assert "spf: temperror: what broken.example.com (the sender's domain) says cannot be" in out
    code, out, _ = await check(cli, place, "dmarc", "--domain", "broken.example.com")
    assert code == ExitCode.TEMPORARY
    assert out.startswith("the policy for mail from broken.example.com cannot be found out now: ")


async def test_a_changed_body_is_told(cli: Cli, place: str) -> None:
    said = await as_json(cli, place, "dkim", saved(signed() + b"and more\r\n"))
    assert (said["result"], said["reason"]) == ("fail", "the body is not the one that was signed")
    assert said["words"] == (
        "the signature of example.net (selector s1, ed25519-sha256) counts for nothing:"
        " the body is not the one that was signed"
    )
    hashes = [one for one in said["evidence"] if one["what"].startswith("body hash")]
    assert ", bh= says " in hashes[0]["found"]


async def test_of_several_signatures_the_one_that_passes_counts(cli: Cli, place: str) -> None:
    other = b"DKIM-Signature: v=1; a=rsa-sha256; d=b.example; s=x; h=from; bh=; b=\r\n"
    said = await as_json(cli, place, "dkim", saved(other + signed()))
    assert said["result"] == "pass"
    assert [one["result"] for one in said["findings"]] == ["permerror", "pass"]


async def test_signatures_are_judged_as_of_a_moment(cli: Cli, place: str) -> None:
    path = saved(signed())
    for at in ("2020-01-01", "1577836800"):
        said = await as_json(cli, place, "dkim", path, "--at", at)
        assert said["reason"] == f"it was signed in the future (t={SIGNED_AT})"
    said = await as_json(cli, place, "dkim", path, "--at", "2024-01-01T00:00:00+01:00")
    assert said["result"] == "pass"


async def test_arc_tells_what_is_wrong_with_a_chain(cli: Cli, place: str) -> None:
    said = await as_json(cli, place, "arc", saved(MESSAGE))
    assert (said["result"], said["words"]) == ("none", "no forwarder sealed it")
    said = await as_json(cli, place, "arc", saved(b"ARC-Seal: i=1; cv=none\r\n" + MESSAGE))
    assert said["result"] == "fail"
    assert said["words"].startswith("the seals of the forwarders (unreadable) are no good: ")


async def test_dmarc_of_a_message_tells_what_it_rests_on(cli: Cli, place: str) -> None:
    code, out, _ = await check(cli, place, "dmarc", saved(signed()), *STRANGER)
    assert code == ExitCode.OK
    told = [line.split(": ")[:2] for line in out.splitlines() if not line.startswith(" ")]
    assert told == [["spf", "none"], ["spf", "fail"], ["dkim", "pass"], ["dmarc", "pass"]]
    assert "dmarc: pass: the signature of example.net vouches for example.net (From)" in out


async def test_dmarc_without_an_author_is_an_error(cli: Cli, place: str) -> None:
    path = saved(MESSAGE.partition(b"\r\n")[2])
    code, _, err = await check(cli, place, "dmarc", path, *SESSION)
    assert code == ExitCode.FAILED
    assert err.splitlines()[0] == (
        "error: DMARC has no author to ask about: the message has no From field"
    )


async def test_dmarc_of_a_domain_shows_policy_and_tree_walk(cli: Cli, place: str) -> None:
    code, out, _ = await check(cli, place, "dmarc", "--domain", "a.soft.example.com")
    assert code == ExitCode.OK
    assert out.splitlines() == [
        "for mail from a.soft.example.com the record of soft.example.com applies",
        "mail from soft.example.com that nobody vouches for: put it into Junk",
        "it is being tried (t=y): each is treated one step milder",
        "SPF has to match: the very same domain",
        "DKIM has to match: the organization's domain is enough",
        "daily reports go to nobody",
        "its organizational domain, for matching, is soft.example.com",
        "    TXT _dmarc.a.soft.example.com: no such name",
        "    TXT _dmarc.soft.example.com: v=DMARC1; p=quarantine; t=y; aspf=s",
        "    TXT _dmarc.example.com: no such name",
        "    TXT _dmarc.com: no such name",
    ]
    said = await as_json(cli, place, "dmarc", "--domain", "a.soft.example.com")
    assert (said["result"], said["organizational_domain"]) == ("pass", "soft.example.com")
    assert said["policy"]["policy"] == "quarantine"


async def test_a_domain_without_a_policy_is_told(cli: Cli, place: str) -> None:
    said = await as_json(cli, place, "dmarc", "--domain", "nothing.test")
    assert (said["result"], said["policy"]) == ("none", None)
    assert (
        said["words"][0] == "nothing is asked for mail from nothing.test: no DMARC policy"
        " applies to it"
    )


async def test_signatures_that_cannot_be_read_or_were_not_checked_say_so(
    cli: Cli, place: str
) -> None:
    junk = b"".join(b"DKIM-Signature: v=%d\r\n" % number for number in range(20))
    code, out, _ = await check(cli, place, "dkim", saved(junk + signed()))
    assert code == ExitCode.OK
    told = [line for line in out.splitlines() if not line.startswith(" ")]
    assert told[0].startswith("dkim: permerror: the signature field cannot be used: ")
    assert told[-2].startswith("dkim: pass: signed by example.net")
    assert told[-1] == "dkim: neutral: 13 more signatures were not checked, 8 are at most"
