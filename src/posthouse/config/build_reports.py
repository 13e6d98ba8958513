"""From the checked config to the options of `posthouse.reporting`."""

from __future__ import annotations

from posthouse.config.reports import FailureReports
from posthouse.config.schema import Config
from posthouse.kernel.envelope import Address
from posthouse.message.address import AddressError, fold_local_part, parse_mailbox
from posthouse.reporting import options as reporting
from posthouse.store.reports import KEY_SUBMISSION


def report_local_parts(config: Config) -> frozenset[str]:
    """Folded, for the directory: where each of our domains takes reports."""
    reports = config.reports
    if not reports.is_enabled:
        return frozenset()
    return frozenset(
        fold_local_part(name) for name in (reports.dmarc_local_part, reports.tls_local_part)
    )


def key_local_parts(config: Config) -> frozenset[str]:
    """Folded, for the directory: where each of our domains takes the keys of its users."""
    return frozenset({KEY_SUBMISSION}) if config.mimesec.hosts_wkd else frozenset()


def reporting_options(config: Config) -> reporting.Options:
    reports, host = config.reports, config.node.hostname
    sender = _sender(reports.from_address, host)
    return reporting.Options(
        host=host,
        from_address=sender,
        contact=reports.contact or f"postmaster@{sender.domain}",
        organization=reports.organization or host,
        sends_dmarc=reports.sends_dmarc,
        sends_tls=reports.sends_tls,
        sends_failures=reports.failure is not FailureReports.OFF,
        failures_per_hour=reports.failures_per_hour,
        per_organization_max=reports.per_organization_max,
        interval_s=reports.interval_s,
        mail_octets_max=reports.mail_octets_max,
        rows_max=reports.rows_max,
        results_max=reports.results_max,
        keep_s=reports.keep_days * 86_400.0,
        stored_max=reports.stored_max,
        unproven_max=reports.unproven_max,
        limits=reporting.Limits(
            packed_octets_max=reports.packed_octets_max,
            unpacked_octets_max=reports.unpacked_octets_max,
            ratio_max=reports.ratio_max,
            records_max=reports.records_max,
        ),
    )


def _sender(text: str, host: str) -> Address:
    try:
        return parse_mailbox(text)
    except AddressError:  # not set; what is set was checked with the config
        return Address("postmaster", host)
