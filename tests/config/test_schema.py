"""What holds for every setting there is."""

from __future__ import annotations

import math
import re
from pathlib import Path

import msgspec
import pytest

from posthouse.config import reference
from posthouse.config.catalogue import Setting, choices, root, settings
from posthouse.config.consistency import conflicts
from posthouse.config.limits import FIXED, limit_names, limits
from posthouse.config.schema import Config
from posthouse.config.setting import Unit
from posthouse.config.settings import load

PROJECT = Path(__file__).parents[2]
NUMBERS = [setting for setting in settings().values() if setting.type in (int, float)]
MAY_BE_ZERO = {
    "listener.port",  # any free port
    "metrics.port",
    "blob.inline_octets_max",  # everything into segment files
    "dns.ttl_min_s",  # answers may say 0
    "dns.failure_ttl_s",
    "dns_update.settle_s",  # the hook may wait itself
    "relay.retry.jitter",
}


def keys(found: list[Setting]) -> list[str]:
    return [setting.key for setting in found]


@pytest.mark.parametrize("setting", NUMBERS, ids=keys(NUMBERS))
def test_no_limit_can_be_none_or_without_end(setting: Setting) -> None:
    assert setting.low is not None
    assert setting.high is not None
    assert math.isfinite(setting.high)
    assert setting.low > 0 or setting.key in MAY_BE_ZERO
    if setting.default is not None:
        assert setting.low <= setting.default <= setting.high


@pytest.mark.parametrize("setting", settings().values(), ids=list(settings()))
def test_every_setting_says_what_it_means_and_counts(setting: Setting) -> None:
    assert setting.about.meaning.endswith((".", ")"))
    unit = setting.about.unit
    if setting.name.endswith("_s"):
        assert unit is Unit.SECONDS
    if "octets" in setting.name:
        assert unit is Unit.OCTETS
    if setting.name.endswith("_days"):
        assert unit is Unit.DAYS


def test_every_section_says_what_it_is_about() -> None:
    assert [section.key for section in root().walk() if not section.meaning] == []


def test_the_defaults_contradict_nothing() -> None:
    assert list(conflicts(Config())) == []


def test_writing_every_default_into_a_file_changes_nothing() -> None:
    lines = []
    for setting in settings().values():
        default = setting.default
        is_written = not setting.key.startswith(("listener.", "relay.route.", "relay.tls_policy."))
        if not is_written or default in (None, "", ()):
            continue
        value = default.value if choices(setting) else default
        lines.append(f"{setting.key} = {msgspec.json.encode(value).decode()}")
    assert len(lines) > 130
    assert load("\n".join(lines), "/posthouse.toml") == Config()


# The names of RELIABILITY's limits table, as far as they meet what exists.
TABLE = """
smtp.message_octets_max smtp.command_octets_max smtp.auth_octets_max smtp.recipients_max
smtp.unknown_recipients_max smtp.errors_max smtp.junk_commands_max smtp.transactions_max
smtp.idle_s smtp.command_s smtp.data_idle_s smtp.data_rate_min tls.handshake_s smtp.login_s
imap.login_s smtp.session_s net.connections_max net.per_address_max net.per_network_max
imap.sessions_max net.rate_per_minute smtp.messages_per_minute submission.per_hour
submission.per_day auth.failures.per_minute auth.failures.per_day auth.attempts_max
workers.hash_max message.header_octets_max message.field_octets_max message.fields_max
message.addresses_max mime.depth_max mime.parts_max mime.parameters_max mime.boundary_octets_max
smtp.text_line_octets_max smtp.hops_max route.alias_depth_max route.members_max queue.lifetime_s
queue.dsn_lifetime_s queue.delay_notice_s relay.connect_s relay.helo_s relay.mail_s relay.rcpt_s
relay.data_s relay.block_s relay.dot_s relay.addresses_max relay.hosts_max relay.concurrency.max
relay.reply_lines_max relay.line_octets_max dsn.return_octets_max queue.recipients_max
store.free_octets_min store.free_inodes_min store.waiting_max imap.line_octets_max
imap.literal_octets_max imap.depth_max imap.search_keys_max imap.set_items_max
imap.fetch_items_max imap.pipeline_max imap.output_octets_max imap.idle_s imap.mailboxes_max
imap.name_octets_max imap.hierarchy_max imap.keywords_max imap.subscriptions_max
pop3.line_octets_max pop3.idle_s dns.timeout_s dns.answer_octets_max dns.cname_max
dns.cache_entries_max log.field_octets_max guard.rows_max address.local_part_octets_max
address.domain_octets_max address.path_octets_max
"""


# P9
def test_every_limit_of_the_table_is_there_with_what_reaching_it_does() -> None:
    found = {limit.name: limit for limit in limits(Config())}
    assert sorted(set(TABLE.split()) - set(found)) == []
    assert [limit.name for limit in found.values() if not limit.reached] == []
    assert limit_names() == frozenset(found)


# P9
def test_every_limit_that_the_code_reports_by_name_is_known() -> None:
    sections = {section.key.partition(".")[0] for section in root().walk() if section.key}
    written = re.compile(rf'"((?:{"|".join(sections)})\.[a-z_]+_(?:max|min|s|per_minute))"')
    used = {
        name
        for path in (PROJECT / "src").rglob("*.py")
        for name in written.findall(path.read_text(encoding="utf-8"))
    }
    assert "net.per_address_max" in used
    assert used - limit_names() - set(settings()) == set()


def test_limits_show_the_values_of_the_config() -> None:
    found = {limit.name: limit for limit in limits(load("smtp.hops_max = 30"))}
    assert found["smtp.hops_max"].value == 30
    assert found["smtp.message_octets_max"].shown == "50MiB"
    assert all(found[limit.name].is_fixed for limit in FIXED)


def test_the_reference_page_is_fresh() -> None:
    written = (PROJECT / reference.PAGE).read_text(encoding="utf-8")
    assert written == reference.page(), "run `python -m posthouse.config.reference`"


def test_the_reference_page_names_every_setting_once() -> None:
    headings = re.findall(r"^### `(.+)`$", reference.page(), re.MULTILINE)
    assert headings == list(settings())
