"""Well-formed reports, transport policies and answers that fuzzing begins from."""

from __future__ import annotations

import base64
import gzip
import io
import zipfile
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from posthouse.tls.tlsa import tlsa_3_1_1

DMARC = b"""<?xml version="1.0" encoding="UTF-8"?>
<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0">
 <version>1.0</version>
 <report_metadata><org_name>A</org_name><email>a@example.org</email><report_id>1</report_id>
  <date_range><begin>1700000000</begin><end>1700086399</end></date_range><error>x</error>
 </report_metadata>
 <policy_published><domain>example.org</domain><p>reject</p><sp>none</sp><adkim>r</adkim>
 </policy_published>
 <record><row><source_ip>192.0.2.1</source_ip><count>2</count><policy_evaluated>
   <disposition>none</disposition><dkim>pass</dkim><spf>fail</spf>
   <reason><type>forwarded</type><comment>c</comment></reason></policy_evaluated></row>
  <identifiers><header_from>example.org</header_from><envelope_from/></identifiers>
  <auth_results><dkim><domain>example.org</domain><selector>s</selector><result>pass</result></dkim>
   <spf><domain>example.org</domain><scope>mfrom</scope><result>fail</result></spf>
  </auth_results><x:extension xmlns:x="urn:x">&lt;&#65;</x:extension></record>
</feedback>
"""
TLS = b"""{"organization-name": "A", "date-range": {"start-datetime": "2026-01-01T00:00:00Z",
 "end-datetime": "2026-01-01T23:59:59Z"}, "contact-info": "a@example.org", "report-id": "1",
 "policies": [{"policy": {"policy-type": "sts", "policy-string": ["version: STSv1"],
 "policy-domain": "example.org", "mx-host": "*.example.org"},
 "summary": {"total-successful-session-count": 5, "total-failure-session-count": "2"},
 "failure-details": [{"result-type": "certificate-expired", "sending-mta-ip": "192.0.2.1",
 "receiving-mx-hostname": "mx.example.org", "failed-session-count": 2.0}]}]}
"""
ARF = b"""From: a@example.org
Content-Type: multipart/report; report-type=feedback-report; boundary=b

--b
Content-Type: message/feedback-report

Feedback-Type: auth-failure
User-Agent: x/1
Version: 1
Auth-Failure: dmarc (c)
Source-IP: 192.0.2.1
Arrival-Date: Thu, 1 Jan 2026 00:00:00 +0000
Reported-Domain: example.org
Incidents: 3

--b
Content-Type: text/rfc822-headers

From: x@example.org

--b--
"""


def zipped(octets: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("report.xml", octets)
    return file.getvalue()


def mailed(octets: bytes, media_type: bytes) -> bytes:
    return (
        b"From: a@example.org\r\nContent-Type: " + media_type + b"\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\n" + base64.encodebytes(octets)
    )


REPORTS = (
    DMARC,
    TLS,
    ARF,
    gzip.compress(DMARC, mtime=0),
    zipped(DMARC),
    gzip.compress(TLS, mtime=0) + gzip.compress(b" ", mtime=0),
    mailed(zipped(DMARC), b"application/zip"),
    mailed(gzip.compress(TLS, mtime=0), b"application/tlsrpt+gzip"),
    DMARC.replace(b'encoding="UTF-8"', b'encoding="utf-16"').decode().encode("utf-16"),
    b"<!DOCTYPE a [<!ENTITY b 'c'>]>" + DMARC,
)
TLSRPT_RECORDS = (
    b"v=TLSRPTv1; rua=mailto:a@example.org,https://example.org/v1?x=%2C;ext=1",
    b"v=TLSRPTv1;rua=mailto:a%40b@example.org!10m , ftp://x",
)
STS_RECORDS = (
    b"v=STSv1; id=20260102T000000;",
    b"v=spf1 -all\nv=STSv1;id=1; x.y=z",
    b"v=STSv1; id=1\nv=STSv1; id=2",
)
STS_POLICIES = (
    (
        b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.org\r\nmx: *.example.net\r\n"
        b"max_age: 604800\r\n"
    ),
    b"version: STSv1\nmode: none\nmax_age: 1\nextension:  a:b\n",
)
UPDATE_ANSWERS = (
    b"\0\7\xa8\0\0\0\0\0\0\0\0\0",
    b"\0\7\xa8\5\0\1\0\0\0\0\0\0\7example\3org\0\0\6\0\1",
    b"\0\7\xa8\0\0\0\0\0\0\0\0\1\1k\0\0\xfa\0\xff\0\0\0\0\0\x3d\x0bhmac-sha256\0"
    b"\0\0\x69\x57\x00\x00\x01\x2c\0\x20" + bytes(32) + b"\0\7\0\0\0\0",
)


def certificate() -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail.example.org")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2025, 1, 1, tzinfo=UTC))
        .not_valid_after(datetime(2035, 1, 1, tzinfo=UTC))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("mail.example.org")]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, None)
    )
    return made.public_bytes(Encoding.DER)


def pieces(*all_octets: bytes) -> bytes:
    return b"".join(len(octets).to_bytes(2) + octets for octets in all_octets)


def tlsa() -> tuple[bytes, ...]:
    der = certificate()
    digest = tlsa_3_1_1(x509.load_der_x509_certificate(der))
    return (
        pieces(b"\3\1\1" + digest, b"\3\1\2" + bytes(64), der),
        pieces(b"\2\0\0" + der, b"\2\1\1" + digest, der, der),
        pieces(b"\0\0\1" + digest, b"\1\1\0", b"\2\0\1" + bytes(32), der),
        pieces(*(b"\3\1\1" + bytes(31) + bytes((n,)) for n in range(60)), der),
    )
