"""Well-formed inputs that fuzzing begins from."""

from __future__ import annotations

from posthouse.kernel.ports import RecordType
from posthouse.protocol.dns.grammar import encode_question


def wire(text: str) -> bytes:
    """Text as it goes over the line, without its first line break."""
    return text.removeprefix("\n").replace("\n", "\r\n").encode()


MESSAGES = (
    wire("""
From: Ada <ada@example.org>
To: bob@example.org, A: c@x, d@y;
Subject: =?utf-8?q?h=C3=A9?= there
Date: Tue, 1 Jul 2003 10:52:37 +0200
Message-ID: <1@example.org>

hi
"""),
    wire("""
From: a@x
Content-Type: multipart/mixed; boundary=b

--b
Content-Type: text/plain; charset=utf-8; name*0*=utf-8''a%20; name*1=b

one
--b
Content-Type: text/html
Content-Transfer-Encoding: base64

PGI+aGk8L2I+
--b--
"""),
    wire("""
Content-Type: message/rfc822
Content-Disposition: attachment; filename="a b"

From: b@y
Content-Type: text/plain
Content-Transfer-Encoding: quoted-printable

=41=
"""),
    wire("""
Content-Type: multipart/report; report-type=delivery-status; boundary=r

--r

text
--r
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example

Final-Recipient: rfc822; a@x
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 no

--r
Content-Type: text/rfc822-headers

Subject: x

--r--
"""),
)
REPLIES = (
    wire("""
220 mx ESMTP
250-mx
250-PIPELINING
250-SIZE 1000
250 LIMITS RCPTMAX=2
250 2.1.0 ok
250 ok
550-5.1.1 no
550 5.1.1 such
354 go
250 2.0.0 queued
221 bye
"""),
    wire("""
220 mx
250-mx
250 CHUNKING
250 ok
250 ok
250 ok
421 4.3.2 closing
"""),
    b"554 no\n",
)
POP3 = (
    wire("""
AUTH PLAIN
*
CAPA
STLS
USER ann
PASS pass word
TOP 1 1
UIDL 2
QUIT
"""),
)
FIELD_VALUES = (
    b'"Ada L." <ada@example.org>, group: a@x, "b"@y;, (c (d)) e@[127.0.0.1]',
    b"Tue, 1 Jul 2003 10:52:37 +0200 (CEST)",
    b"text/plain; charset=\"utf-8\"; name*0*=utf-8''a%20b; name*1=c",
    b"=?utf-8?q?a=C3=A9?= =?iso-8859-1?b?6Q==?= plain",
    b"<p>hi &amp; <b>there</b><style>x{}</style><!-- c -->",
)
ADDRESSES = (
    b"a.b+c@example.org",
    b'"a b\\""@x',
    "ü@münchen.example".encode(),
    b"a@[IPv6:::1]",
)
MAILBOX_NAMES = (b"INBOX/a", b"&AOk-&-x", b"Entw&APw-rfe")
DNS_ANSWERS = (
    encode_question("example.org", RecordType.MX, message_id=7)[:2]
    + b"\x81\x80\0\1\0\2\0\0\0\0\7example\3org\0\0\x0f\0\1"
    + b"\xc0\x0c\0\x0f\0\1\0\0\1\0\0\7\0\x0a\2mx\xc0\x0c"
    + b"\xc0\x0c\0\5\0\1\0\0\1\0\0\2\xc0\x0c",
)
PROXY_HEADERS = (
    b"PROXY TCP4 192.0.2.1 192.0.2.2 1 25\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\0\1\0\x19",
)
SASL = (b"AGFubgBwYXNz", b"YQBiAGM=", b"=", b"*", b"\nYW5u\ncGFzcw==")
CONFIGS = (
    b"""\
# a comment
[node]
hostname = "mx.example.org"
[smtp]
message_octets_max = "50 MiB"
idle_s = "5 min"
relay_networks = ["10.0.0.0/8", "2001:db8::/32"]
[[listener]]
service = "mx"
address = "0.0.0.0"
port = 25
[[relay.route]]
domain = "example.net"
hosts = ["[192.0.2.1]:25"]
[relay.retry]
growth = 1.5
""",
    b"smtp.idle_s = 300\n[imap]\nidle_s = true\n[smpt]\nx = { y = [1, 'z', 1979-05-27] }\n",
)
