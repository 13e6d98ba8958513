"""Received-SPF (RFC 7208 §9.1) and replies (RFC 7208 §8, RFC 7372 §3.2)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.mailauth.results import Result, SpfIdentity, SpfOutcome
from posthouse.mailauth.spf.received_spf import received_spf
from posthouse.mailauth.spf.refusal import refusal
from posthouse.message.fields import read_section


def outcome(result: Result, **fields: object) -> SpfOutcome:
    known: dict[str, object] = {
        "identity": SpfIdentity.MAIL_FROM,
        "domain": "example.com",
        "sender": "myname@example.com",
        **fields,
    }
    return SpfOutcome(result=result, **known)  # type: ignore[arg-type]


def test_a_field_tells_what_is_needed_to_check_again() -> None:
    passed = outcome(Result.PASS, mechanism="ip4:192.0.2.1")
    assert received_spf(passed, "192.0.2.1", "foo.example.com", "mx.example.org") == (
        b"Received-SPF: pass (mx.example.org: domain of myname@example.com designates\r\n"
        b"\t192.0.2.1 as permitted sender) client-ip=192.0.2.1;\r\n"
        b'\tenvelope-from="myname@example.com"; helo=foo.example.com;\r\n'
        b'\treceiver=mx.example.org; identity=mailfrom; mechanism="ip4:192.0.2.1";\r\n'
    )


def test_an_ipv6_address_is_quoted_and_a_mapped_one_is_ipv4() -> None:
    field = received_spf(outcome(Result.NEUTRAL), "2001:DB8::1", "[IPv6:2001:db8::1]", "mx.example")
    assert b'client-ip="2001:db8::1"; ' in field.replace(b"\r\n\t", b" ")
    assert b'helo="[IPv6:2001:db8::1]"; ' in field.replace(b"\r\n\t", b" ")
    assert b"mechanism=default;" in field
    field = received_spf(outcome(Result.NONE), "::ffff:192.0.2.1", "", "mx.example")
    assert b"client-ip=192.0.2.1; " in field.replace(b"\r\n\t", b" ")
    assert b'helo="";' in field
    assert b"mechanism" not in field


def test_the_helo_identity_has_no_envelope_from() -> None:
    field = received_spf(
        outcome(Result.FAIL, identity=SpfIdentity.HELO, mechanism="-all"), "192.0.2.1", "a.b", "c.d"
    )
    assert b"envelope-from" not in field
    assert b"identity=helo;" in field
    assert b"mechanism=-all;" in field


def test_an_error_tells_its_problem() -> None:
    field = received_spf(
        outcome(Result.PERMERROR, reason='a "bad" term'), "192.0.2.1", "a.b", "c.d"
    )
    assert b'problem="a \\"bad\\" term";' in field


def test_why_the_dns_failed_is_for_us() -> None:
    """Which names our own name servers."""
    reason = "TXT a.b: 10.0.0.53 port 53: no answer in time"
    field = received_spf(outcome(Result.TEMPERROR, reason=reason), "192.0.2.1", "a.b", "c.d")
    assert b'problem="the DNS did not answer";' in field and b"10.0.0.53" not in field


ANYTHING = st.text(max_size=600) | st.sampled_from(
    ['a\r\nX-Evil: b"\\', "(((", ")))\r\n.\r\n", "\x1b[31m", "a" * 5000, "a b " * 100]
)
NAMED = [each for each in Result if each is not Result.POLICY]


@given(st.sampled_from(NAMED), st.sampled_from(SpfIdentity), *[ANYTHING] * 7)
def test_nothing_that_others_say_breaks_out_of_the_field(
    result: Result,
    identity: SpfIdentity,
    ip: str,
    helo: str,
    receiver: str,
    sender: str,
    domain: str,
    mechanism: str,
    reason: str,
) -> None:  # RFC 7208 §9.1, H44
    told = outcome(
        result,
        identity=identity,
        sender=sender,
        domain=domain,
        mechanism=mechanism,
        reason=reason,
    )
    field = received_spf(told, ip, helo, receiver)
    section = read_section(field + b"\r\n")
    assert [each.name.lower() for each in section.fields] == [b"received-spf"]
    assert field.endswith(b"\r\n")
    lines = field[:-2].split(b"\r\n")
    assert all(len(line) < 998 and re.fullmatch(rb"\t?[ -~]+", line) for line in lines)
    unquoted = re.sub(rb'"(?:[^"\\]|\\.)*"', b"", field.replace(b"\r\n\t", b" "))
    assert unquoted.count(b"(") == unquoted.count(b")") == 1
    assert b'"' not in unquoted and b"\\" not in unquoted


def test_a_failure_is_refused_with_the_words_of_the_domain() -> None:  # RFC 7208 §8.4
    reply = refusal(outcome(Result.FAIL, explanation="Please see http://www.example.com/"))
    assert reply.encode() == (
        b"550-5.7.23 SPF MAIL FROM check failed:\r\n"
        b"550-5.7.23 The domain example.com explains:\r\n"
        b"550 5.7.23 Please see http://www.example.com/\r\n"
    )
    plain = refusal(outcome(Result.FAIL, identity=SpfIdentity.HELO))
    assert plain.encode() == (
        b"550 5.7.23 SPF HELO check failed: example.com does not send from this address\r\n"
    )


def test_errors_have_a_code_of_their_own() -> None:  # RFC 7372 §3.2
    later = refusal(outcome(Result.TEMPERROR, reason="TXT example.com: timeout"))
    assert (later.code, later.status) == (451, "4.7.24")
    never = refusal(outcome(Result.PERMERROR, reason="example.com has 2 SPF records"))
    assert (never.code, never.status) == (550, "5.7.24")
    assert "2 SPF records" in never.text


@pytest.mark.parametrize("result", [Result.NONE, Result.NEUTRAL, Result.PASS, Result.SOFTFAIL])
def test_other_results_refuse_nothing(result: Result) -> None:  # RFC 7208 §8.2, §8.5
    with pytest.raises(ValueError, match="refuses nothing"):
        refusal(outcome(result))
