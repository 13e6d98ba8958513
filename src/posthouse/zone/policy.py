"""What a domain's records depend on beside the config: its keys, our certificate, our policy."""

from __future__ import annotations

from collections.abc import Sequence

from posthouse.accounts.domain_keys import DomainKey
from posthouse.config import build_acme
from posthouse.config.schema import Config
from posthouse.web.mta_sts import Policy, policy_id, policy_text
from posthouse.zone.records import Wishes


def wishes_for(
    config: Config,
    domain: str,
    keys: Sequence[DomainKey],
    *,
    addresses: Sequence[str] = (),
    dmarc: str = "none",
) -> Wishes:
    """Everything that the records of a domain of ours are made of."""
    return Wishes(
        keys=tuple(keys),
        tlsa=build_acme.own_tlsa(config),
        policy_id=own_policy_id(config, domain),
        addresses=tuple(addresses),
        dmarc=dmarc,
    )


def own_policy(config: Config, domain: str) -> Policy | None:
    """The MTA-STS policy served for a domain of ours; None when none is."""
    if not build_acme.published_domains(config, (domain,)):
        return None
    return build_acme.policy(config)


def own_policy_id(config: Config, domain: str) -> str:
    """What `_mta-sts` announces; "" where no policy is served."""
    policy = own_policy(config, domain)
    return "" if policy is None else policy_id(policy_text(policy))
