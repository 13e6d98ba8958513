"""From the checked config to what certificates, ports 80 and 443 and DNS updates need to know."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509

from posthouse.config import build, build_clients
from posthouse.config.acme import AcmeChallenge
from posthouse.config.schema import Config, Service
from posthouse.dns import options as dns
from posthouse.kernel.errors import UserError
from posthouse.kernel.ports import Chance, DnsUpdater, Network, Resolver, TlsaRecord
from posthouse.kernel.secret import Secret
from posthouse.mimesec.pgp import wkd
from posthouse.net.limits import WEB_NAMES, ConnectionLimits
from posthouse.protocol import submission_api
from posthouse.tls.acme.folder import AcmeFolder
from posthouse.tls.acme.keys import public_key
from posthouse.tls.acme.options import KeyKind, Kind, Options, Wanted
from posthouse.tls.self_signed import CHAIN_NAME
from posthouse.tls.served import Served, of_running
from posthouse.tls.tlsa import published_set
from posthouse.web import door
from posthouse.web.autoconfig import autoconfig_host
from posthouse.web.mta_sts import Policy, policy_host, policy_text
from posthouse.web.wellknown import HTTPS_PORT, Sites

FILE_OCTETS_MAX: Final = 65_536
_NO_KEYS: Final[Mapping[str, Mapping[str, bytes]]] = {}


def acme_options(config: Config) -> Options:
    """Raises UserError when the EAB key's file cannot be read."""
    section = config.acme
    kind = None if section.challenge is AcmeChallenge.AUTO else Kind(section.challenge.value)
    return Options(
        directory=section.directory,
        accepts_terms=section.accepts_terms,
        contact=section.contact,
        challenge=kind,
        key_kind=KeyKind(section.key_type.value),
        rotates_key_days=section.rotates_key_days,
        warns_days=section.warns_days,
        order_s=section.order_s,
        ca_file=Path(section.ca_file) if section.ca_file else None,
        eab_key_id=section.eab_key_id,
        eab_key=_eab_key(section.eab_key_file) if section.eab_key_file else None,
    )


def _eab_key(path: str) -> Secret:
    try:
        with Path(path).open(encoding="ascii") as file:
            return Secret(file.read(FILE_OCTETS_MAX).strip())
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"acme.eab_key_file: {path} cannot be read: {error}") from None


def check_files(config: Config) -> None:
    """Raises UserError when a key that [acme] or [dns_update] names cannot be read."""
    acme_options(config)
    if config.dns_update.server:
        from posthouse.dns.update import read_key

        read_key(Path(config.dns_update.key_file))


def acme_folder(config: Config) -> AcmeFolder:
    return AcmeFolder(Path(config.node.data_folder, "tls", "acme"))


def running(config: Config) -> tuple[Served, ...] | None:
    """What the running server serves; None where none runs."""
    return of_running(Path(config.node.data_folder))


def configured_leaf(config: Config) -> x509.Certificate | None:
    """The certificate that [tls] names, as the running server has it; None without one or when it
    cannot be read."""
    if not config.tls.certificate:
        return None
    for each in running(config) or ():
        if each.chain == config.tls.certificate:
            return each.leaf
    try:
        return x509.load_pem_x509_certificate(Path(config.tls.certificate).read_bytes())
    except (OSError, ValueError):
        return None


def wanted(
    config: Config,
    domains: Sequence[str],
    own: x509.Certificate | None = None,
    *,
    shown: Collection[str] = (),
) -> tuple[Wanted, ...]:
    """The names that ACME has to care for, the host's first.

    Args:
        domains: those that mail is taken for.
        own: the certificate that [tls] names, where it is at hand: its file may be damaged by now.
        shown: domains that have a published OpenPGP key.
    """
    if not config.acme.is_enabled:
        return ()
    names = dict.fromkeys([config.node.hostname.lower(), *config.acme.names], False)
    for domain in published_domains(config, domains):
        names.setdefault(policy_host(domain), True)
    for domain in autoconfig_domains(config, domains):
        names.setdefault(autoconfig_host(domain), True)
    for domain in key_domains(config, shown):
        names.setdefault(f"{wkd.HOST}{domain}", True)
    if (leaf := own or configured_leaf(config)) is not None:
        names = {name: optional for name, optional in names.items() if not is_for(leaf, name)}
    return tuple(Wanted(name=name, is_optional=optional) for name, optional in names.items())


def is_for(leaf: x509.Certificate, name: str) -> bool:
    """Whether it names the host."""
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (x509.ExtensionNotFound, ValueError):
        return False
    names = {each.lower() for each in extension.value.get_values_for_type(x509.DNSName)}
    return name in names or "*." + name.partition(".")[2] in names


# --- web ---


def published_domains(config: Config, domains: Sequence[str]) -> tuple[str, ...]:
    """Domains of ours that have an MTA-STS policy."""
    section = config.mta_sts
    if not section.is_published or not has_https(config):
        return ()
    chosen = {domain.lower() for domain in section.domains}
    return tuple(domain for domain in domains if not chosen or domain in chosen)


def autoconfig_domains(config: Config, domains: Sequence[str]) -> tuple[str, ...]:
    """Domains of ours whose mail clients are told how to set themselves up."""
    is_served = config.web.serves_autoconfig and has_https(config)
    return tuple(domains) if is_served and build_clients.mail_servers(config) else ()


def has_https(config: Config) -> bool:
    return any(each.service is Service.HTTPS for each in config.listeners())


def policy(config: Config) -> Policy:
    section = config.mta_sts
    return Policy(
        mode=section.mode.value,
        mx=section.mx or (config.node.hostname.lower(),),
        max_age_days=section.max_age_days,
    )


def key_domains(config: Config, shown: Collection[str]) -> tuple[str, ...]:
    """Domains of ours whose OpenPGP keys are shown.

    Args:
        shown: those that have a published key.
    """
    return tuple(sorted(shown)) if config.mimesec.hosts_wkd and has_https(config) else ()


def sites(
    config: Config, domains: Sequence[str], keys: Mapping[str, Mapping[str, bytes]] = _NO_KEYS
) -> Sites:
    text = policy_text(policy(config))
    published = published_domains(config, domains)
    return Sites(
        hosts=frozenset({config.node.hostname.lower(), *config.acme.names}),
        policies={policy_host(domain): text for domain in published},
        clients=build_clients.clients(config, autoconfig_domains(config, domains)),
        keys={domain: keys.get(domain, {}) for domain in key_domains(config, domains)},
    )


def has_web(config: Config) -> bool:
    return any(each.service in (Service.HTTP, Service.HTTPS) for each in config.listeners())


def https_port(config: Config) -> int:
    """Where plain requests are sent on to."""
    ports = [each.port for each in config.listeners() if each.service is Service.HTTPS]
    return ports[0] or HTTPS_PORT if ports else HTTPS_PORT


def web_options(config: Config) -> door.Options:
    return door.Options(
        request_s=config.web.request_s,
        header_octets_max=config.web.header_octets_max,
        body_path=f"POST {submission_api.PATH}".encode() if config.web.serves_api else b"",
        body_octets_max=config.smtp.message_octets_max,
    )


def web_connections(config: Config) -> ConnectionLimits:
    web = config.web
    return ConnectionLimits(
        per_address_max=web.per_address_max,
        per_network_max=web.per_network_max,
        rate_per_minute=web.rate_per_minute,
        rows_max=config.guard.rows_max,
        exempt_networks=tuple(config.net.exempt_networks),
        names=WEB_NAMES,
    )


# --- DNS ---


def has_dns_update(config: Config) -> bool:
    return bool(config.dns_update.server or config.dns_update.hook)


def proves_by_dns(config: Config) -> bool:
    """Whether the first way of proving a name needs no port of ours."""
    kind = config.acme.challenge
    return kind is AcmeChallenge.DNS_01 or (kind is AcmeChallenge.AUTO and has_dns_update(config))


def dns_updater(
    config: Config, *, network: Network, resolver: Resolver, chance: Chance
) -> DnsUpdater | None:
    """Who may change the DNS; None where a person does it by hand.

    Raises:
        UserError: the TSIG key cannot be read.
    """
    section = config.dns_update
    if not has_dns_update(config):
        return None
    from posthouse.dns import update  # dnspython takes its time, and few need it

    if section.hook:
        return update.HookUpdater(section.hook, timeout_s=section.hook_s)
    options = update.UpdateOptions(
        server=build.host_port(section.server, dns.PORT),
        key_name=section.key_name,
        key=update.read_key(Path(section.key_file)),
        algorithm=section.algorithm.value,
        zone=section.zone,
    )
    return update.Rfc2136Updater(options, network=network, resolver=resolver, chance=chance)


def own_chain(config: Config) -> Path:
    """The certificate file that port 25 shows for our host name, or will after the next start."""
    if config.tls.certificate:
        return Path(config.tls.certificate)
    if config.acme.is_enabled:
        files = acme_folder(config).files(config.node.hostname.lower())
        if files is not None:
            return files.chain
    return Path(config.node.data_folder, "tls", CHAIN_NAME)


def own_tlsa(config: Config) -> tuple[TlsaRecord, ...]:
    """The records for our host name: of the key in use, and of the one made in advance; empty while
    there is no certificate. A self-signed one serves for DANE as well as any (RFC 7672 §3.1.1)."""
    served = running(config)
    try:
        if served is not None:
            leaf = served[0].leaf
        else:
            leaf = x509.load_pem_x509_certificate(own_chain(config).read_bytes())
        upcoming = None
        if config.acme.rotates_key_days is not None and not config.tls.certificate:
            pem = acme_folder(config).next_key(config.node.hostname.lower())
            upcoming = public_key(pem, "the next key") if pem is not None else None
        return published_set(leaf, upcoming)
    except (OSError, ValueError, UserError):
        return ()
