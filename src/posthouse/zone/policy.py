"""What a node's records depend on beside its config: its keys, its certificate, its policy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cryptography import x509

from posthouse.accounts.domain_keys import DomainKey
from posthouse.config.schema import Config, Service
from posthouse.kernel.ports import TlsaRecord
from posthouse.tls.self_signed import CHAIN_NAME
from posthouse.tls.tlsa import published_set
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
        tlsa=own_tlsa(config),
        policy_id=own_policy_id(config, domain),
        addresses=tuple(addresses),
        dmarc=dmarc,
    )


def own_policy(config: Config, domain: str) -> Policy | None:
    """The policy served for a domain of ours; None when none is."""
    section = config.mta_sts
    is_open = any(each.service is Service.HTTPS for each in config.listeners())
    if not section.is_published or not is_open:
        return None
    if section.domains and domain not in section.domains:
        return None
    return Policy(
        mode=section.mode.value,
        mx=section.mx or (config.node.hostname,),
        max_age_days=section.max_age_days,
    )


def own_policy_id(config: Config, domain: str) -> str:
    """What `_mta-sts` announces; "" where no policy is served."""
    policy = own_policy(config, domain)
    return "" if policy is None else policy_id(policy_text(policy))


def own_chain(config: Config) -> Path:
    """The certificate file that port 25 shows for our host name."""
    if config.tls.certificate:
        return Path(config.tls.certificate)
    return Path(config.node.data_folder, "tls", CHAIN_NAME)


def own_tlsa(config: Config) -> tuple[TlsaRecord, ...]:
    """Of the certificate in use; empty while there is none, or none that can be read. A self-signed
    one serves for DANE as well as any (RFC 7672 §3.1.1)."""
    try:
        certificate = x509.load_pem_x509_certificate(own_chain(config).read_bytes())
    except (OSError, ValueError):
        return ()
    return published_set(certificate)
