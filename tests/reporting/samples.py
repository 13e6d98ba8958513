"""Facts that reports are made of, for the tests beside this."""

from __future__ import annotations

from posthouse.kernel.envelope import Address
from posthouse.mailauth.results import (
    Disposition,
    DkimOutcome,
    DmarcOutcome,
    DmarcPolicy,
    Result,
    SpfIdentity,
    SpfOutcome,
)
from posthouse.reporting.options import Options
from posthouse.reporting.rows import DmarcRow, Override, dmarc_row

DAY_S = 86_400
OPTIONS = Options(
    host="mx.here.example",
    from_address=Address("noreply-dmarc", "here.example"),
    contact="postmaster@here.example",
    organization="Here & There",
)
POLICY = DmarcPolicy(
    domain="author.example",
    policy=Disposition.REJECT,
    aggregate_uris=("mailto:rua@author.example",),
    failure_uris=("mailto:ruf@author.example",),
)
SPF_PASS = SpfOutcome(
    result=Result.PASS,
    identity=SpfIdentity.MAIL_FROM,
    domain="author.example",
    sender="a@author.example",
)
SPF_FAIL = SpfOutcome(
    result=Result.FAIL,
    identity=SpfIdentity.MAIL_FROM,
    domain="author.example",
    sender="a@author.example",
    reason="192.0.2.9 is not <listed> & never was",
)
DKIM_PASS = DkimOutcome(result=Result.PASS, domain="author.example", selector="s1")
DKIM_FAIL = DkimOutcome(
    result=Result.FAIL, domain="author.example", selector="s2", reason="body hash"
)


def outcome(*, spf: bool = False, dkim: bool = False, policy: DmarcPolicy = POLICY) -> DmarcOutcome:
    return DmarcOutcome(
        result=Result.PASS if spf or dkim else Result.FAIL,
        from_domain="author.example",
        organizational_domain="author.example",
        policy=policy,
        requested=policy.policy,
        is_spf_aligned=spf,
        is_dkim_aligned=dkim,
    )


def row(
    *,
    passes: bool = True,
    source_ip: str = "192.0.2.1",
    policy: DmarcPolicy = POLICY,
    overrides: tuple[Override, ...] = (),
    disposition: Disposition | None = None,
) -> DmarcRow:
    found = dmarc_row(
        outcome(spf=passes, dkim=passes, policy=policy),
        source_ip=source_ip,
        envelope_from="author.example",
        envelope_to="here.example",
        spf=SPF_PASS if passes else SPF_FAIL,
        dkim=[DKIM_PASS] if passes else [DKIM_FAIL],
        disposition=disposition or (Disposition.NONE if passes else policy.policy),
        overrides=overrides,
    )
    assert found is not None
    return found
