"""Well-formed inputs that fuzzing of mail authentication begins from."""

from __future__ import annotations

DNS_RECORDS = (
    b"\0\x0a\0\5\0\x19\4mail\7example\3org\0",  # SRV
    b"\x80\5issueletsencrypt.org; accounturi=https://ca.example/1",  # CAA
    b"\2ns\xc0\x0c\x0ahostmaster\xc0\x0c" + bytes(20),  # SOA
    b"\3\1\1" + bytes(range(32)),  # TLSA
    b"\0\x0a\2mx\xc0\x0c",
    b"\x0fv=spf1 mx ip4:1\x05 -all",
    bytes((192, 0, 2, 1)),
    bytes(16),
    b"\xc0\x0c",
)
SPF_RECORDS = (
    b"v=spf1 -all",
    b"v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 a mx/24//64 a:mail.example.org/28 -all",
    b"v=spf1 include:_spf.example.net ?ptr:example.org ~exists:%{ir}.%{v}._spf.%{d2} +mx:x.example",
    b"v=spf1 redirect=_spf.%{d} exp=why.%{l1r-}.%{o} unknown=%{S}%%%_%-x",
    b"v=spf1  A //128 MX//64 ip4:1.2.3.4 ALL ",
)
SPF_MACROS = (
    b"%{ir}.%{v}._spf.%{d2}",
    b"%{l1r+-.,/_=}.%{o}.%{p}.example.org",
    b"See http://%{d}/why.html?s=%{S}&i=%{I}%_%%%-",
    b"%{c} is not one of %{d}'s, says %{r} at %{t} of %{h}",
    b"%{L255R.}%{s0010}",
)
SPF_CHECKS = (
    (
        b"ada@mx.example.net\nv=spf1 include:a.example exp=why.example -all\nv=spf1 mx -all\n"
        b"because %{i} is %{h}\nm.example n.example\nxxx\n"
    ),
    (
        b"ada@mx.example.net\nv=spf1 a ptr exists:%{l}.x.example -all\nv=spf1 redirect=b.example\n"
        b"p.example.org q.example\nv=spf1 ip4:192.0.2.1 -all\n!\n"
    ),
    b"ada@x\nv=spf1 include:a.example\nv=spf1 a||v=spf1 mx\n",
    b"@[192.0.2.1]\nv=spf1 +all\n",
)
_B64 = b"YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="
_RSA = (
    b"MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQDwIRP/UC3SBsEmGqZ9ZJW3/DkMoGeLnQg1fWn7/zYtIxN2SnFC"
    b"jxOCKG9v3b4jYfcTNh5ijSsq631uBItLa7od+v/RtdC2UzJ1lWT947qR+Rcac2gbto/NMqJ0fzfVjH4OuKhitdY9"
    b"tf6mcwGjaNBcWToIMmPSPDdQPNUYckcQ2QIDAQAB"
)
DKIM_SIGNATURES = (
    b" v=1; a=rsa-sha256; c=relaxed/relaxed; d=example.org; s=s1;\r\n"
    b"\tt=1700000000; x=1800000000; h=from:to:subject:from; l=10; q=dns/txt;\r\n"
    b"\ti=a=3Db@mail.example.org; z=From:a@b|Subject:=20x; bh=" + _B64 + b";\r\n\tb=" + _B64,
    b"a=ed25519-sha256;v=1;d=xn--mnchen-3ya.example;s=m\xc3\xbcnchen;h=From : To;bh="
    + _B64
    + b"; b = Y W\r\n Jj",
    b"i=1; a=rsa-sha256; t=1; c=simple/relaxed; d=example.org; s=arc; h=from; bh="
    + _B64
    + b";b="
    + _B64
    + b";",
)
DKIM_KEYS = (
    b"v=DKIM1; k=rsa; t=y:s; h=sha256; s=email; n=notes; p=" + _RSA,
    b"v=DKIM1; k=ed25519; p=11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
    b"p=" + _RSA[:40] + b" " + _RSA[40:],
    b"v=DKIM1; p=",
)
BODIES = (
    b" C \r\nD \t E\r\n\r\n\r\n",
    b"",
    b"\r\n\r\n",
    b"a\tb  c \r\n \r\n\t\r\nd\re\nf \r",
    b"no line end \t",
)
_SIGNED = (
    b"From: Ada <ada@example.org>\r\nTo: b@example.net\r\nSubject: a\r\n b\r\n\r\nhi  there\r\n\r\n"
)
SIGNED_MESSAGES = (
    b"DKIM-Signature: " + DKIM_SIGNATURES[0] + b"\r\n" + _SIGNED,
    b"DKIM-Signature: v=1; a=ed25519-sha256; d=example.org; s=x; h=from:subject; bh="
    + _B64
    + b"; b=aGk\r\n"
    + b"DKIM-Signature:v=2\r\n" * 9
    + _SIGNED
    + DKIM_KEYS[0]
    + b"\n",
    _SIGNED,
)


def arc_set(instance: int) -> bytes:
    status = b"none" if instance == 1 else b"pass"
    number = b"%d" % instance
    return (
        b"ARC-Seal: i=" + number + b"; a=rsa-sha256; d=example.org; s=arc; t=1; cv=" + status
        + b"; b=" + _B64 + b"\r\n"
        b"ARC-Message-Signature: i=" + number + b"; a=rsa-sha256; c=relaxed/relaxed;\r\n"
        b" d=example.org; s=arc; h=from:to:subject; bh=" + _B64 + b"; b=" + _B64 + b"\r\n"
        b"ARC-Authentication-Results: i=" + number + b"; mx.example.org; dmarc=pass\r\n"
    )  # fmt: skip


ARC_MESSAGES = (
    arc_set(1) + _SIGNED + DKIM_KEYS[0] + b"\n",
    arc_set(2) + arc_set(1) + _SIGNED + DKIM_KEYS[0] + b"\n",
    b"".join(map(arc_set, range(1, 52))) + _SIGNED,
)
AUTHENTICATION_RESULTS = (
    (
        b" mx.example.org 1; spf=pass (it (is) \\) so) smtp.mailfrom=example.net;\r\n"
        b'\tdkim=fail reason="bad \\" body" header.d=example.net header.s=s header.b=aGVsbG8=;'
        b" dmarc=none header.from=example.net"
    ),
    b'"mx.example.org" (c) 1; iprev=pass policy.iprev=192.0.2.1',
    "MÜNCHEN.example.; auth=pass smtp.auth=ü@münchen.example".encode(),
    b"=?utf-8?q?mx=2Eexample=2Eorg?=; dmarc/1 = pass",
    b"mx.example.net; none",
    b"mx.(a)example.org 2; dkim=pass",
)
AUTHORS = (
    b'From: "x@bank.example" <ada@example.org>, g: b@example.net;\r\n\r\n',
    "From: =?utf-8?q?a=40b.example?= <a@раypal.example>\r\n\r\n".encode(),
    b"From: a@xn--80ak6aa92e.com, b@[192.0.2.1], <@r:c@d.e>\r\nfrom : x@y.example\r\n\r\n",
    b"From: (a@good.example)b@bad.example (c\r\n d)\r\n\r\n",
)
REVERSE_NAMES = (
    b"a.example b.example\n...\nxx",
    b"!\n",
    b"a.example\n!\n",
)
DMARC_RECORDS = (
    (
        b"v=DMARC1; p=reject; sp=quarantine; np=none; adkim=s; aspf=r; fo=1:d:s; t=y; psd=n;"
        b" rua=mailto:a@example.org!10m,mailto:b@example.net; ruf=mailto:c@example.org"
    ),
    b"v=DMARC1;p=none;pct=50;rf=afrf;ri=86400",
    b"v = DMARC1 ; rua = mailto:x@example.org",
    b"v=DMARC1; psd=y; fo=0:1",
)
