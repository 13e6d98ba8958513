"""The SMTP dialogs of github albertito/chasquid (commit ca2538b, Apache-2.0) that a pure machine
can play. Texts and statuses are theirs, so reply codes are compared, and where ours differ the
table below says why."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.protocol.smtp.dialogue import MachinePeer, read_reply

# What we answer instead, by file and expectation.
DEVIATIONS = {
    # RFC 4954 §4: 504 5.5.4 for a mechanism that is not supported.
    ("auth_multi_dialog", "534"): "504",
    # Bare newlines: theirs breaks off, ours refuses the message and goes on (Postfix: 550 5.5.2).
    ("bad_data_dot", "521"): "550",
    # The command is known, its argument is not: RFC 5321 §4.2.2 has 501 for that.
    ("bad_mail_from", "500"): "501",
}
SETTINGS = {
    "auth_multi_dialog": {"mode": "submission", "tls": "yes", "hello": "mechanisms=PLAIN"},
    "message_too_big": {"limits": "message_octets_max=1048576"},
}
NAMES = [
    "auth_multi_dialog",
    "bad_data_dot",
    "bad_mail_from",
    "data_dot_stuffing",
    "helo",
    "message_too_big",
    "unknown_command",
]


@pytest.mark.parametrize("name", NAMES)
def test_chasquid_dialog(vectors: Path, name: str) -> None:
    folder = vectors / "smtp" / "chasquid"
    settings = SETTINGS.get(name, {})
    peer = MachinePeer(settings)
    text = (folder / f"{name}.cmy").read_text("utf-8")
    compared = 0
    for line in text.split("\n"):
        match = re.fullmatch(r"c (->|~>|<-|<~|<\.\.\.|tls_connect|tcp_connect|close) ?(.*)", line)
        if match is None:
            continue
        kind, value = match.groups()
        if kind.endswith("_connect"):
            peer = MachinePeer(settings)
        elif kind == "->":
            peer.send(value.encode() + b"\r\n")
        elif kind == "~>":
            peer.send(eval(value).encode())
        elif kind != "close":
            code = re.match(r"\d{3}", value)
            assert code is not None
            wanted = DEVIATIONS.get((name, code[0]), code[0])
            reply = read_reply(peer)
            assert reply[:3].decode() == wanted, f"{line}: {reply!r}"
            compared += 1
    assert compared > 1
    verify = folder / f"{name}.verify"
    if verify.exists():
        assert peer.messages[-1].rstrip() == verify.read_bytes().replace(b"\n", b"\r\n").rstrip()
