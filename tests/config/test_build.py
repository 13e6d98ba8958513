"""Each package's Options hold what the config says."""

from __future__ import annotations

import msgspec
import pytest

from posthouse.config import build
from posthouse.config.schema import Config, Service
from posthouse.config.settings import ConfigError, load
from posthouse.relay.plan import Tls

DEFAULTS = Config()


def test_a_stranger_and_a_user_have_their_own_recipient_limit() -> None:
    config = load("smtp.recipients_max = 900\nsubmission.recipients_max = 400")
    assert build.smtp_limits(config, Service.MX).recipients_max == 900
    assert build.smtp_limits(config, Service.SUBMISSIONS).recipients_max == 400


def test_stress_tightens_what_the_table_says() -> None:
    options = build.reception_options(DEFAULTS, Service.MX)
    assert options.stressed_limits is not None
    assert (options.limits.errors_max, options.stressed_limits.errors_max) == (15, 1)
    assert (options.limits.junk_commands_max, options.stressed_limits.junk_commands_max) == (50, 1)
    assert (options.idle_s, options.stressed_idle_s) == (300.0, 10.0)


# P12
def test_logins_are_offered_for_submission_only_and_never_without_tls() -> None:
    assert build.reception_options(DEFAULTS, Service.MX).hello.mechanisms == ()
    assert build.reception_options(DEFAULTS, Service.LMTP).hello.mechanisms == ()
    hello = build.reception_options(DEFAULTS, Service.SUBMISSION).hello
    assert hello.mechanisms == ("PLAIN", "LOGIN")
    assert not hello.is_auth_without_tls
    assert not build.imap_options(DEFAULTS).is_plaintext_login_allowed


@pytest.mark.parametrize("word", ["refuse", "normalize", "allow"])
def test_every_word_for_bare_newlines_is_known_to_the_machine(word: str) -> None:
    config = load(f'smtp.bare_newline = "{word}"')
    assert build.reception_options(config, Service.MX).hello.bare_newlines.value == word


def test_reading_has_its_own_connection_limits() -> None:
    assert build.access_connections(DEFAULTS).per_address_max == 50
    assert build.smtp_connections(DEFAULTS).per_address_max == 20


def test_a_certificate_of_our_own_is_for_loopback_where_that_is_served() -> None:
    here = ["localhost", "127.0.0.1", "::1"]

    def names(address: str) -> list[str]:
        head = 'node.hostname = "mx.example.org"\n[metrics]\nis_enabled = false\n'
        listener = f'[[listener]]\nservice = "imaps"\naddresses = ["{address}"]\n'
        return build.self_signed_names(load(head + listener))

    assert names("192.0.2.1") == ["mx.example.org"]
    assert names("0.0.0.0") == names("::") == names("127.0.0.1") == ["mx.example.org", *here]
    assert names("127.0.0.2") == ["mx.example.org", *here, "127.0.0.2"]


def test_name_servers_come_from_the_file_or_the_system() -> None:
    system = "nameserver 192.0.2.53\n"
    assert build.dns_options(DEFAULTS, resolv_conf=lambda: system).servers == (("192.0.2.53", 53),)
    config = load('dns.servers = ["127.0.0.1:5353", "[::1]:5354", "192.0.2.1"]')
    assert build.dns_options(config, resolv_conf=lambda: system).servers == (
        ("127.0.0.1", 5353),
        ("::1", 5354),
        ("192.0.2.1", 53),
    )


def test_the_defaults_of_packages_and_schema_agree() -> None:
    """What a test of a package runs with is what a server runs with."""
    for built in (
        build.imap_options(DEFAULTS),
        build.auth_failure_options(DEFAULTS),
        build.schedule_options(DEFAULTS),
        build.smtp_limits(DEFAULTS, Service.MX),
        build.smtp_connections(DEFAULTS),
        build.log_options(DEFAULTS),
        build.dns_options(DEFAULTS, resolv_conf=str),
        build.pop3_options(DEFAULTS),
        build.tls_options(DEFAULTS),
        build.mta_sts_options(DEFAULTS),
    ):
        assert built == type(built)()
    store = build.store_options(DEFAULTS)
    assert store == type(store)(folder="/var/lib/posthouse")
    runner = build.runner_options(DEFAULTS)
    assert runner == type(runner)(owner=runner.owner)
    dsn = build.dsn_options(DEFAULTS)
    assert dsn == type(dsn)(host="localhost")
    directory = build.directory_options(DEFAULTS, own_addresses=frozenset())
    assert directory == type(directory)(host="localhost")


@pytest.mark.parametrize("text", ["[::1", "[::1]53", "[::1]:", "[::1]:x", "ns:0", "ns:70000"])
def test_a_host_with_a_broken_port_is_no_host(text: str) -> None:
    with pytest.raises(ValueError, match=r"bracket|port"):
        build.host_port(text, 53)


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ("imap.keywords_max = 7", lambda config: build.imap_options(config).keywords_max),
        (
            "store.free_inodes_min = 7",
            lambda config: build.reception_options(config, Service.MX).free_inodes_min,
        ),
        ("queue.lifetime_s = 7", lambda config: build.schedule_options(config).lifetime_s),
        ("queue.dsn_lifetime_s = 7", lambda config: build.schedule_options(config).dsn_lifetime_s),
        ("queue.lease_s = 7", lambda config: build.runner_options(config).lease_s),
    ],
)
def test_a_setting_reaches_the_part_that_obeys_it(line: str, read) -> None:
    name, _, value = line.partition(" = ")
    section, _, key = name.partition(".")
    config = msgspec.structs.replace(
        DEFAULTS,
        **{section: msgspec.structs.replace(getattr(DEFAULTS, section), **{key: int(value)})},
    )
    assert read(config) == 7


@pytest.mark.parametrize("word", ["1.2", "1.3"])
def test_every_tls_version_that_can_be_set_is_known(word: str) -> None:
    version = build.minimum_tls_version(load(f'tls.minimum_version = "{word}"'))
    assert version.name == f"TLSv{word.replace('.', '_')}"


def test_policies_of_tls_keep_their_order_and_their_names() -> None:
    config = load(
        """
        [relay]
        tls = "required"
        is_mta_sts = false
        [[relay.tls_policy]]
        domain = "*.example.org"
        tls = "verified"
        names = ["mx.example.net", "*.example.com"]
        [[relay.tls_policy]]
        domain = "broken.example"
        tls = "opportunistic"
        uses_published = false
        """
    )
    options = build.tls_options(config)
    assert (options.tls, options.is_dane, options.is_mta_sts) == (Tls.REQUIRED, True, False)
    first, second = options.policies
    assert first.names == ("mx.example.net", "*.example.com") and first.uses_published
    assert first.matches("a.example.org") and not first.matches("example.org")
    assert second.matches("broken.example") and not second.uses_published


def test_names_that_nobody_would_look_at_are_a_mistake() -> None:
    with pytest.raises(ConfigError, match="nobody looks at the names"):
        load('[[relay.tls_policy]]\ndomain = "a.example"\ntls = "required"\nnames = ["b.example"]')
