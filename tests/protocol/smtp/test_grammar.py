"""Paths, parameters, xtext and replies of RFC 5321, 3461 and 6533."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.kernel.envelope import Address, BodyType, Notify, Ret
from posthouse.kernel.errors import Refusal
from posthouse.kernel.reply import Reply
from posthouse.protocol.smtp import grammar
from posthouse.protocol.smtp.events import RecipientOffered, SenderOffered
from posthouse.protocol.smtp.extensions import parse_extensions
from posthouse.protocol.smtp.outgoing import format_notify
from posthouse.protocol.smtp.reply_reader import Nonsense, ReplyReader


def sender(argument: bytes) -> SenderOffered:
    return grammar.parse_sender(argument, is_smtputf8=True, is_binary=False, is_dsn=True)


def recipient(argument: bytes, *, is_smtputf8: bool = False) -> RecipientOffered:
    return grammar.parse_recipient(argument, is_smtputf8=is_smtputf8, is_dsn=True)


@pytest.mark.parametrize(
    ("argument", "event"),
    [
        (b"FROM:<>", SenderOffered(reverse_path=None)),
        (b"from:<A.b@C.Example>", SenderOffered(reverse_path=Address("A.b", "c.example"))),
        (
            b"FROM:<a@b.example> BODY=8BITMIME SIZE=7",
            SenderOffered(
                reverse_path=Address("a", "b.example"), size_octets=7, body=BodyType.EIGHT_BIT
            ),
        ),
        (
            b"FROM: <a@[192.0.2.1]> RET=HDRS ENVID=a+2Bb+20c",
            SenderOffered(
                reverse_path=Address("a", "[192.0.2.1]"), ret=Ret.HDRS, envelope_id="a+b c"
            ),
        ),
        (
            b"FROM:<@x.example,@y.example:a@b.example>",
            SenderOffered(reverse_path=Address("a", "b.example")),
        ),
        (
            "FROM:<ü@bücher.example> SMTPUTF8".encode(),
            SenderOffered(reverse_path=Address("ü", "xn--bcher-kva.example"), is_smtputf8=True),
        ),
    ],
)
def test_what_follows_mail(argument: bytes, event: SenderOffered) -> None:
    assert sender(argument) == event


# H17: a source route is passed over, everything else is data of the local-part
@pytest.mark.parametrize(
    ("path", "address"),
    [
        (b"<@ours.example:user@remote.example>", Address("user", "remote.example")),
        (b"<@[IPv6:2001:db8::1],@b:user@remote.example>", Address("user", "remote.example")),
        (b"<user%remote@ours.example>", Address("user%remote", "ours.example")),
        (b"<remote!user@ours.example>", Address("remote!user", "ours.example")),
        (b'<"user@remote"@ours.example>', Address("user@remote", "ours.example")),
        (b'<"a\\"b>c"@ours.example>', Address('a"b>c', "ours.example")),
        (b"<postmaster>", Address("postmaster", "")),
        (b"user@ours.example", Address("user", "ours.example")),
    ],
)
def test_forward_paths(path: bytes, address: Address) -> None:
    assert recipient(b"TO:" + path).address == address


# H17
@pytest.mark.parametrize(
    "path",
    [b'<"user@remote">', b"<user@remote@ours.example>", b"<user>", b"<a b@c>", b"<a@b>x", b"<a@b"],
)
def test_what_is_no_forward_path(path: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        recipient(b"TO:" + path)
    assert refused.value.reply.code == 501


def test_dsn_parameters_of_rcpt() -> None:
    event = recipient(b"TO:<a@b.example> NOTIFY=success,FAILURE ORCPT=rfc822;x+2By@z.example")
    assert event.notify == Notify.SUCCESS | Notify.FAILURE
    assert event.original_recipient == "rfc822;x+y@z.example"
    assert recipient(b"TO:<a@b.example> NOTIFY=NEVER").notify == Notify.NEVER
    with pytest.raises(Refusal) as refused:
        grammar.parse_recipient(b"TO:<a@b> NOTIFY=NEVER", is_smtputf8=False, is_dsn=False)
    assert refused.value.reply.code == 555


# H39: as long as a command line may be, and every step of it looked at a bounded number of times
@pytest.mark.parametrize(
    "octets",
    [
        b"<" + b'"' * 2000,
        b"<" + b'""' * 1000,
        b"<" + b"@a," * 600,
        b"<@" + b"a:" * 900,
        b"<\\" * 900,
    ],
)
def test_hostile_paths_are_refused_quickly(octets: bytes) -> None:
    with pytest.raises(Refusal):
        recipient(b"TO:" + octets)


# H20
@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=30))
def test_xtext_comes_back_as_it_went(text: str) -> None:
    encoded = grammar.encode_xtext(text).encode()
    assert grammar.decode_xtext(encoded) == text.encode()
    assert b"=" not in encoded and b" " not in encoded


# H20
@pytest.mark.parametrize("octets", [b"+0D", b"a+0A", b"+00", b"+7F", b"+", b"+0", b"+ZZ", b"a b"])
def test_xtext_with_control_octets_or_bad_digits_is_refused(octets: bytes) -> None:
    with pytest.raises(Refusal):
        grammar.decode_xtext(octets)


def test_an_original_recipient_in_utf8_is_taken_under_the_name_that_postfix_gives_it() -> None:
    value = b"rfc822;" + "пётр@example.com".encode()
    read = grammar.parse_original_recipient(value, is_smtputf8=True)
    assert read == "utf-8;пётр@example.com"
    with pytest.raises(Refusal):
        grammar.parse_original_recipient(b"rfc822;+D0+BF@example.com", is_smtputf8=False)


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn", "Zl", "Zp"]), min_size=1))
def test_utf8_original_recipients_come_back_as_they_went(address: str) -> None:
    written = grammar.format_original_recipient(f"utf-8;{address}")
    assert written.isascii() and " " not in written
    if len(written) <= grammar.ORIGINAL_RECIPIENT_OCTETS_MAX:
        read = grammar.parse_original_recipient(written.encode(), is_smtputf8=False)
        assert read == f"utf-8;{address}"


# H20
@pytest.mark.parametrize("point", ["0D", "A", "0", "D800", "110000", "FFFE"])
def test_embedded_characters_cannot_be_controls(point: str) -> None:
    with pytest.raises(Refusal):
        grammar.parse_original_recipient(f"utf-8;a\\x{{{point}}}".encode(), is_smtputf8=True)


@pytest.mark.parametrize(
    ("notify", "text"),
    [
        (Notify.NEVER, "NEVER"),
        (Notify.DELAY, "DELAY"),
        (Notify.SUCCESS | Notify.FAILURE | Notify.DELAY, "SUCCESS,FAILURE,DELAY"),
    ],
)
def test_notify_is_written_as_rfc_3461_has_it(notify: Notify, text: str) -> None:
    assert format_notify(notify) == text


@given(st.binary(max_size=60))
def test_nothing_but_refusals_comes_out_of_mail_and_rcpt(octets: bytes) -> None:
    for prefix, parse in ((b"FROM:<", sender), (b"TO:<", recipient), (b"", sender)):
        try:
            parse(prefix + octets)
        except Refusal as refusal:
            assert refusal.reply.code >= 500


# --- replies ---


def replies_of(octets: bytes, size: int = 1) -> list[Reply | Nonsense]:
    reader = ReplyReader()
    found: list[Reply | Nonsense] = []
    for at in range(0, len(octets), size):
        reader.receive(octets[at : at + size])
        while (reply := reader.next_reply()) is not None:
            found.append(reply)
    return found


# F29
@pytest.mark.parametrize(
    ("octets", "reply"),
    [
        (b"250 2.1.0 Fine\r\n", Reply(250, "2.1.0", "Fine")),
        (b"250\r\n", Reply(250, "", "")),
        (b"250 \r\n", Reply(250, "", "")),
        (b"250 bare LF\n", Reply(250, "", "bare LF")),
        (b"550 2.1.0 odd status\r\n", Reply(550, "", "2.1.0 odd status")),
        (b"450 4.2.0\r\n", Reply(450, "4.2.0", "")),
        (b"250-one\r\n250 two\r\n", Reply(250, "", "one\ntwo")),
        (b"550-5.7.1 a\r\n550 5.7.1 b\r\n", Reply(550, "5.7.1", "a\nb")),
        (b"250-one\r\n550 two\r\n", Reply(550, "", "one\ntwo")),
        (b"550 \xfc\x1b[31m\0\r\n", Reply(550, "", "??[31m?")),
    ],
)
def test_replies_are_read(octets: bytes, reply: Reply) -> None:
    assert replies_of(octets, len(octets)) == replies_of(octets) == [reply]


# F27 F29
@pytest.mark.parametrize(
    "octets",
    [
        b"999 no\r\n",
        b"25\r\n",
        b"250no space\r\n",
        b"hello\r\n",
        b"\r\n",
        b"100 what\r\n",
        b"250 " + b"x" * 2048,
        b"250-x\r\n" * 100,
    ],
)
def test_nonsense_is_one_value_and_the_last(octets: bytes) -> None:
    found = replies_of(octets + b"\r\n250 fine\r\n", 500)
    assert len(found) == 1
    assert isinstance(found[0], Nonsense)


# F27
def test_what_is_kept_of_a_reply_is_bounded() -> None:
    (reply,) = replies_of(b"250-" + b"x" * 2000 + b"\r\n" + b"250-y\r\n" * 98 + b"250 z\r\n", 999)
    assert isinstance(reply, Reply)
    (long,) = replies_of((b"250-" + b"x" * 2000 + b"\r\n") * 99 + b"250 z\r\n", 999)
    assert isinstance(long, Reply)
    assert len(long.text) <= 4096


@given(st.binary(max_size=300))
def test_replies_never_raise_whatever_the_cut(octets: bytes) -> None:
    assert replies_of(octets) == replies_of(octets, 7) == replies_of(octets, 1000)


def test_extensions_are_read() -> None:
    text = (
        "mx.example hello\nsize 1000\nPIPELINING\nAUTH plain LOGIN\nLIMITS RCPTMAX=5 X=1\nX-ODD y"
    )
    extensions = parse_extensions(Reply(250, "", text))
    assert extensions.host == "mx.example"
    assert extensions.size_octets_max == 1000
    assert extensions.is_pipelining
    assert not extensions.is_chunking
    assert extensions.mechanisms == ("PLAIN", "LOGIN")
    assert (extensions.recipients_max, extensions.transactions_max) == (5, None)
    assert parse_extensions(
        Reply(250, "", "x\nAUTH=LOGIN\nSIZE 0\nLIMITS RCPTMAX=0")
    ).mechanisms == ("LOGIN",)
    assert parse_extensions(Reply(250, "", "x\nSIZE 0")).size_octets_max is None
    assert parse_extensions(Reply(250, "", "x\nLIMITS RCPTMAX=0")).recipients_max is None
    assert parse_extensions(Reply(250, "", "")).is_extended
    assert parse_extensions(Reply(250, "", "x\n\n \nDSN")).is_dsn  # F29
