"""From the checked config to the options of checking others' mail and signing our own."""

from __future__ import annotations

import ipaddress

from posthouse.config.schema import Config
from posthouse.mailauth import check, signer
from posthouse.mailauth.dkim import verify as dkim
from posthouse.mailauth.policy import Rules
from posthouse.message.address import domain_to_ascii
from posthouse.reception import authentication


def authentication_options(config: Config) -> authentication.Options:
    section = config.mailauth
    return authentication.Options(
        is_enabled=section.is_enabled,
        host=config.node.hostname,
        rules=Rules(
            dmarc=section.dmarc,
            spf=section.spf,
            forwarders=tuple(ipaddress.ip_network(text) for text in section.trusted_forwarders),
            sealers=frozenset(domain_to_ascii(text) for text in section.trusted_sealers),
        ),
        checks=check_options(config),
        adds_received_spf=section.adds_received_spf,
        questions_per_session_max=config.dns.per_session_max,
    )


def check_options(config: Config) -> check.Options:
    section = config.mailauth
    return check.Options(
        receiver=config.node.hostname,
        dkim=dkim.Options(
            signatures_max=section.signatures_max,
            key_octets_max=section.key_octets_max,
            rsa_bits_min=section.rsa_bits_min,
            rsa_bits_max=section.rsa_bits_max,
            accepts_partial=section.accepts_partial,
            clock_skew_s=section.clock_skew_s,
        ),
        questions_max=config.dns.per_message_max,
        deadline_s=section.deadline_s,
    )


def signing_options(config: Config) -> signer.Options:
    section = config.dkim
    return signer.Options(is_enabled=section.is_enabled, expires_s=section.expires_days * 86_400)
