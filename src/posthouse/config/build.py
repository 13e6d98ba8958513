"""From the checked config to each package's own frozen `Options`; nothing below sees the config."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from posthouse.access.imap import options as imap
from posthouse.access.pop3 import options as pop3
from posthouse.accounts import directory
from posthouse.config.build_reports import key_local_parts, report_local_parts
from posthouse.config.consistency import value_at
from posthouse.config.kinds import split_host_port
from posthouse.config.machine import TlsVersion
from posthouse.config.schema import Config, Service
from posthouse.dns import options as dns
from posthouse.guard.admission import AdmissionOptions
from posthouse.guard.auth_failures import AuthFailureOptions
from posthouse.kernel.errors import UserError
from posthouse.mailbox import names
from posthouse.net.limits import ACCESS_NAMES, ConnectionLimits
from posthouse.net.smtp_client import Timeouts
from posthouse.observe.options import LogOptions
from posthouse.protocol.imap import limits as imap_limits
from posthouse.protocol.pop3 import server as pop3_server
from posthouse.protocol.smtp.limits import BareNewlines, Limits, Mode, ServerHello
from posthouse.queue import dsn, runner, schedule
from posthouse.reception import options as reception
from posthouse.relay import mta_sts, plan
from posthouse.relay import options as relay
from posthouse.store import options as store

TLS_VERSIONS: Final = {
    TlsVersion.TLS_1_2: ssl.TLSVersion.TLSv1_2,
    TlsVersion.TLS_1_3: ssl.TLSVersion.TLSv1_3,
}
LOOPBACK_NAMES: Final = ("localhost", "127.0.0.1", "::1")
SUBMISSION = frozenset({Service.SUBMISSION, Service.SUBMISSIONS})


def store_options(config: Config) -> store.Options:
    return store.Options(
        folder=config.node.data_folder,
        inline_octets_max=config.blob.inline_octets_max,
        segment_octets_max=config.blob.segment_octets_max,
        waiting_units_max=config.store.waiting_max,
        waiting_octets_max=config.store.waiting_octets_max,
        busy_s=config.store.busy_s,
        wal_octets_max=config.store.wal_octets_max,
        sweep_grace_s=config.blob.sweep_grace_s,
    )


def directory_options(config: Config, *, own_addresses: frozenset[str]) -> directory.Options:
    """Args:
    own_addresses: IP addresses we listen on, for address literals.
    """
    literals = {f"[{a}]" if ":" not in a else f"[ipv6:{a}]" for a in own_addresses}
    return directory.Options(
        subaddress_separator=config.route.subaddress_separator,
        alias_depth_max=config.route.alias_depth_max,
        members_max=config.route.members_max,
        own_literals=frozenset(literals),
        host=config.node.hostname.lower(),
        report_local_parts=report_local_parts(config) | key_local_parts(config),
    )


def mode_of(service: Service) -> Mode:
    if service is Service.LMTP:
        return Mode.LMTP
    return Mode.SUBMISSION if service in SUBMISSION else Mode.MX


def smtp_limits(config: Config, service: Service, *, is_stressed: bool = False) -> Limits:
    smtp = config.smtp
    is_submission = service in SUBMISSION
    most = config.submission.recipients_max if is_submission else smtp.recipients_max
    return Limits(
        message_octets_max=smtp.message_octets_max,
        command_octets_max=smtp.command_octets_max,
        auth_octets_max=smtp.auth_octets_max,
        recipients_max=most,
        unknown_recipients_soft=smtp.unknown_recipients_max,
        unknown_recipients_max=smtp.unknown_recipients_close,
        errors_soft=min(smtp.errors_soft_max, smtp.errors_max),
        errors_max=smtp.errors_stress_max if is_stressed else smtp.errors_max,
        soft_delay_s=smtp.errors_delay_s,
        junk_commands_max=(
            smtp.junk_commands_stress_max if is_stressed else smtp.junk_commands_max
        ),
        transactions_max=smtp.transactions_max,
        auth_attempts_max=config.auth.attempts_max,
        text_line_octets_max=smtp.text_line_octets_max,
    )


def reception_options(config: Config, service: Service) -> reception.Options:
    smtp = config.smtp
    mode = mode_of(service)
    return reception.Options(
        service=service.value,
        host=config.node.hostname,
        mode=mode,
        hello=ServerHello(
            host=config.node.hostname,
            mechanisms=("PLAIN", "LOGIN") if mode is Mode.SUBMISSION else (),
            is_starttls=service is not Service.SUBMISSIONS,
            bare_newlines=BareNewlines(smtp.bare_newline.value),
        ),
        limits=smtp_limits(config, service),
        stressed_limits=smtp_limits(config, service, is_stressed=True),
        idle_s=smtp.idle_s,
        stressed_idle_s=smtp.idle_stress_s,
        command_s=smtp.command_s,
        data_idle_s=smtp.data_idle_s,
        data_rate_min=smtp.data_rate_min,
        login_s=smtp.login_s,
        session_s=smtp.session_s,
        output_octets_max=smtp.output_octets_max,
        write_s=config.net.write_s,
        handshake_s=config.tls.handshake_s,
        hops_max=smtp.hops_max,
        header_octets_max=config.message.header_octets_max,
        field_octets_max=config.message.field_octets_max,
        fields_max=config.message.fields_max,
        subaddress_separator=config.route.subaddress_separator,
        relay_networks=tuple(smtp.relay_networks),
        free_octets_min=config.store.free_octets_min,
        free_inodes_min=config.store.free_inodes_min,
        queue_recipients_max=config.queue.recipients_max,
        lifetime_s=config.queue.lifetime_s,
    )


def smtp_connections(config: Config) -> ConnectionLimits:
    net = config.net
    return ConnectionLimits(
        per_address_max=net.per_address_max,
        per_network_max=net.per_network_max,
        rate_per_minute=net.rate_per_minute,
        rows_max=config.guard.rows_max,
        exempt_networks=tuple(net.exempt_networks),
    )


def access_connections(config: Config) -> ConnectionLimits:
    """Of IMAP and POP3."""
    net = config.net
    return ConnectionLimits(
        per_address_max=net.per_address_imap_max,
        per_network_max=net.per_network_imap_max,
        rate_per_minute=net.rate_imap_per_minute,
        rows_max=config.guard.rows_max,
        exempt_networks=tuple(net.exempt_networks),
        names=ACCESS_NAMES,
    )


def auth_failure_options(config: Config) -> AuthFailureOptions:
    failures = config.auth.failures
    return AuthFailureOptions(
        per_minute_max=failures.per_minute,
        per_day_max=failures.per_day,
        per_network_day_max=failures.per_network_day,
        ban_minute_s=failures.ban_minute_s,
        ban_day_s=failures.ban_day_s,
        delay_first_s=failures.delay_s,
        delay_max_s=failures.delay_max_s,
        rows_max=config.guard.rows_max,
    )


def admission_options(config: Config) -> AdmissionOptions:
    return AdmissionOptions(
        messages_per_minute=config.smtp.messages_per_minute,
        octets_per_minute=config.smtp.octets_per_minute,
        recipients_per_hour=config.submission.per_hour,
        recipients_per_day=config.submission.per_day,
        rows_max=config.guard.rows_max,
    )


def self_signed_names(config: Config) -> list[str]:
    """What a certificate of our own making is for: the host name, and this machine's own names and
    addresses where a service listens on those, as who tries a server out connects to them."""
    here = [
        address
        for listener in config.listeners()
        for each in listener.addresses
        if (address := ipaddress.ip_address(each)).is_loopback or address.is_unspecified
    ]
    if not here:
        return [config.node.hostname]
    own = (str(address) for address in here if address.is_loopback)
    return list(dict.fromkeys((config.node.hostname, *LOOPBACK_NAMES, *own)))


def minimum_tls_version(config: Config) -> ssl.TLSVersion:
    return TLS_VERSIONS[config.tls.minimum_version]


def imap_options(config: Config) -> imap.Options:
    section = config.imap
    return imap.Options(
        limits=imap_limits.Limits(
            line_octets_max=section.line_octets_max,
            line_before_login_octets_max=section.line_before_login_octets_max,
            literal_octets_max=section.literal_octets_max,
            literal_before_login_octets_max=section.literal_before_login_octets_max,
            append_octets_max=config.smtp.message_octets_max,
            literal_discard_octets_max=section.literal_discard_octets_max,
            errors_before_login_max=section.errors_before_login_max,
            errors_max=section.errors_max,
            pipeline_max=section.pipeline_max,
            depth_max=section.depth_max,
            set_items_max=section.set_items_max,
            search_keys_max=section.search_keys_max,
            fetch_items_max=section.fetch_items_max,
        ),
        names=names.Limits(
            mailboxes_max=section.mailboxes_max,
            name_octets_max=section.name_octets_max,
            depth_max=section.hierarchy_max,
            subscriptions_max=section.subscriptions_max,
        ),
        keywords_max=section.keywords_max,
        sessions_max=section.sessions_max,
        login_s=section.login_s,
        idle_s=section.idle_s,
        handshake_s=config.tls.handshake_s,
        attempts_max=config.auth.attempts_max,
        output_octets_max=section.output_octets_max,
        output_s=config.net.write_s,
        plaintext_networks=tuple(config.auth.plaintext_networks),
    )


def pop3_options(config: Config) -> pop3.Options:
    section = config.pop3
    return pop3.Options(
        limits=pop3_server.Limits(
            line_octets_max=section.line_octets_max, errors_max=section.errors_max
        ),
        login_s=section.login_s,
        idle_s=section.idle_s,
        handshake_s=config.tls.handshake_s,
        attempts_max=config.auth.attempts_max,
        output_octets_max=config.imap.output_octets_max,
        output_s=config.net.write_s,
        plaintext_networks=tuple(config.auth.plaintext_networks),
    )


def dns_options(config: Config, *, resolv_conf: Callable[[], str]) -> dns.Options:
    """Args:
    resolv_conf: the text of /etc/resolv.conf, asked for when no server is configured.
    """
    section = config.dns
    servers = tuple(host_port(text, dns.PORT) for text in section.servers)
    return dns.Options(
        servers=servers or dns.servers_of(resolv_conf()),
        is_trusted=section.is_trusted,
        timeout_s=section.timeout_s,
        tries=section.tries,
        answer_octets_max=section.answer_octets_max,
        chain_max=section.cname_max,
        cache_entries_max=section.cache_entries_max,
        ttl_s_min=section.ttl_min_s,
        ttl_s_max=section.ttl_max_s,
        error_ttl_s=section.failure_ttl_s,
    )


def host_port(text: str, port: int) -> tuple[str, int]:
    """ "host", "host:port", "[::1]:port" or a bare IPv6 address as host and port.

    Raises:
        ValueError: a bracket is missing, or the port is none; a checked config has neither.
    """
    host, own_port = split_host_port(text)
    return host, port if own_port is None else own_port


def schedule_options(config: Config) -> schedule.Options:
    retry = config.relay.retry
    return schedule.Options(
        lifetime_s=config.queue.lifetime_s,
        dsn_lifetime_s=config.queue.dsn_lifetime_s,
        delay_notice_s=config.queue.delay_notice_s,
        first_s=retry.first_s,
        growth=retry.growth,
        max_s=retry.max_s,
        jitter=retry.jitter,
    )


def runner_options(config: Config) -> runner.Options:
    return runner.Options(
        owner=config.node.hostname,
        lease_s=config.queue.lease_s,
        retention_s=config.store.decisions_days * 86_400.0,
        schedule=schedule_options(config),
    )


def relay_options(config: Config) -> relay.Options:
    """Raises UserError when the smart host's password file cannot be read."""
    section = config.relay
    smart_host = section.smart_host
    return relay.Options(
        host=config.node.hostname,
        timeouts=Timeouts(
            connect_s=section.connect_s,
            helo_s=section.helo_s,
            tls_s=config.tls.handshake_s,
            mail_s=section.mail_s,
            rcpt_s=section.rcpt_s,
            data_s=section.data_s,
            block_s=section.block_s,
            dot_s=section.dot_s,
            idle_s=section.idle_s,
            attempt_s=section.attempt_s,
            data_rate_min=section.data_rate_min,
        ),
        routes=plan.RouteOptions(
            routes=tuple(
                plan.Route(
                    domain=route.domain, hosts=tuple(route.hosts), tls=plan.Tls(route.tls.value)
                )
                for route in section.route
            ),
            smart_host=_smart_host(config) if smart_host.host else None,
            own_names=frozenset({config.node.hostname.lower()}),
            own_addresses=own_addresses(config),
            allow_private_addresses=section.allow_private_addresses,
            hosts_max=section.hosts_max,
            addresses_max=section.addresses_max,
            tls=tls_options(config),
        ),
        concurrency_first=section.concurrency.initial,
        concurrency_max=section.concurrency.max,
        sessions_max=section.sessions_max,
        messages_max=section.messages_max,
        reply_lines_max=section.reply_lines_max,
        line_octets_max=section.line_octets_max,
        reply_octets_max=section.reply_octets_max,
    )


def tls_options(config: Config) -> plan.TlsOptions:
    section = config.relay
    return plan.TlsOptions(
        tls=plan.Tls(section.tls.value),
        policies=tuple(
            plan.TlsPolicy(
                domain=policy.domain,
                tls=plan.Tls(policy.tls.value),
                names=tuple(policy.names),
                uses_published=policy.uses_published,
            )
            for policy in section.tls_policy
        ),
        is_dane=section.is_dane,
        is_mta_sts=section.is_mta_sts,
    )


def mta_sts_options(config: Config) -> mta_sts.Options:
    return mta_sts.Options(
        wait_s=config.fetch.mail_waits_s,
        fetch_s=config.fetch.timeout_s,
        octets_max=config.fetch.octets_max,
    )


def _smart_host(config: Config) -> plan.SmartHost:
    section = config.relay.smart_host
    login = None
    if section.username:
        try:
            lines = Path(section.password_file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(
                f"relay.smart_host.password_file: {section.password_file} cannot be read: {error}"
            ) from None
        login = plan.Login(section.username, lines[0] if lines else "")
    return plan.SmartHost(
        host=section.host, port=section.port, tls=plan.Tls(section.tls.value), login=login
    )


def own_addresses(config: Config) -> frozenset[str]:
    """Addresses that port 25 listens at, but not "all addresses"."""
    return frozenset(
        address
        for listener in config.listeners()
        if listener.service is Service.MX
        for address in listener.addresses
        if address not in ("0.0.0.0", "::")  # noqa: S104
    )


def dsn_options(config: Config) -> dsn.Options:
    return dsn.Options(host=config.node.hostname, return_octets_max=config.dsn.return_octets_max)


def log_options(config: Config) -> LogOptions:
    log = config.log
    return LogOptions(
        format=log.format,
        level=log.level,
        file=str(Path(config.node.data_folder, log.file)) if log.file else "",
        field_octets_max=log.field_octets_max,
        lines_waiting_max=log.lines_waiting_max,
    )


def limit_value(config: Config, name: str) -> float:
    """The value of a setting by its name, for log lines about it."""
    try:
        return float(value_at(config, name))
    except (AttributeError, TypeError, ValueError):
        return 0.0
