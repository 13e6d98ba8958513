"""A config file is right, or every mistake in it is told at once with line, key and a way out."""

from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.config.host import FixedHost
from posthouse.config.schema import BareNewline, Config, Service
from posthouse.config.settings import FILE_OCTETS_MAX, ConfigError, load, load_file, read

HOST = FixedHost(host_name="mail.example.org", core_count=4, file_count=1_000)


def refused(text: str, path: str = "p.toml") -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load(text, path, HOST)
    return caught.value


def test_an_empty_file_is_the_defaults_with_what_the_machine_says() -> None:
    config = load("", "", HOST)
    assert config.node.hostname == "mail.example.org"
    assert config.workers.hash_max == 4
    assert config.net.connections_max == 800  # 80 % of the open files allowed
    replaced = msgspec.structs.replace(
        config, node=Config().node, workers=Config().workers, net=Config().net
    )
    assert replaced == Config()


def test_numbers_and_texts_with_units_mean_the_same() -> None:
    plain = load("smtp.idle_s = 600\nsmtp.message_octets_max = 1048576\nstore.decisions_days = 14")
    words = load(
        '[smtp]\nidle_s = "10m"\nmessage_octets_max = "1MiB"\n[store]\ndecisions_days = "2w"'
    )
    assert plain.smtp == words.smtp
    assert plain.store.decisions_days == words.store.decisions_days == 14
    assert isinstance(plain.smtp.idle_s, float)


def test_a_list_of_one_needs_no_brackets() -> None:
    assert load('dns.servers = "127.0.0.1:5353"').dns.servers == ("127.0.0.1:5353",)


def test_relative_paths_start_at_the_files_folder_and_absolute_ones_stay() -> None:
    config = load('node.data_folder = "data"\nlog.file = "/var/log/p"', "/etc/ph/posthouse.toml")
    assert config.node.data_folder == "/etc/ph/data"
    assert config.log.file == "/var/log/p"
    assert config.tls.certificate == ""


def test_names_and_addresses_are_kept_in_one_spelling() -> None:
    config = load(
        'node.hostname = "Mail.Bücher.example."\n'
        'net.exempt_networks = ["2001:DB8:0::/32"]\n'
        'dns.servers = ["[2001:DB8::1]:5353", "2001:db8::2"]\n'
        '[[relay.route]]\ndomain = "*.Example.ORG"\nhosts = ["[192.0.2.1]:2525", "MX.example"]\n'
    )
    assert config.node.hostname == "mail.xn--bcher-kva.example"
    assert config.net.exempt_networks == ("2001:db8::/32",)
    assert config.dns.servers == ("[2001:db8::1]:5353", "[2001:db8::2]")
    assert config.relay.route[0].domain == "*.example.org"
    assert config.relay.route[0].hosts == ("192.0.2.1:2525", "mx.example")


def cases() -> list[tuple[str, str]]:
    """The cases of mistakes.txt: a file, and the first line of what is said about it."""
    text = Path(__file__).with_name("mistakes.txt").read_text(encoding="utf-8")
    _, *blocks = text.split("----\n")
    found = []
    for block in blocks:
        file, _, said = block.partition("=> ")
        found.append((file, said.rstrip("\n")))
    return found


@pytest.mark.parametrize(("text", "said"), cases())
def test_a_mistake_is_told_with_line_key_and_what_is_allowed(text: str, said: str) -> None:
    first_line = str(refused(text)).splitlines()[0]
    assert first_line == said


@pytest.mark.parametrize("text", ["a = " + "[" * 100_000, "a = " + "9" * 5_000])
def test_a_file_that_no_reader_gets_through_is_told_in_words_too(text: str) -> None:
    said = str(refused(text))
    assert said == "p.toml:1: this is not TOML: Brackets too deep or a number too long"


# P12
@pytest.mark.parametrize(
    "network", ["0.0.0.0/0", "0.0.0.0/1", "128.0.0.0/1", "::/0", "2000::/3", "64.0.0.0/7"]
)
def test_no_config_makes_an_open_relay(network: str) -> None:
    said = str(refused(f'smtp.relay_networks = ["{network}"]'))
    assert said == (
        f"p.toml:1: smtp.relay_networks: {network} would make this an open relay: anybody could"
        " send to anybody; name only networks whose every host is yours, or let users log in"
    )


def test_nobody_trusts_the_whole_internet_with_proxy_headers() -> None:
    said = str(refused('[[listener]]\nservice = "mx"\nproxy_networks = "0.0.0.0/0"'))
    assert said.startswith("p.toml:3: listener[1].proxy_networks: 0.0.0.0/0 would let anybody")


# P12
@pytest.mark.parametrize("tls", ["off", "opportunistic"])
def test_a_password_never_goes_to_a_smart_host_in_plaintext(tls: str) -> None:
    text = f'[relay.smart_host]\nhost = "h"\nusername = "u"\npassword_file = "f"\ntls = "{tls}"'
    assert str(refused(text)).startswith(
        f'p.toml:5: relay.smart_host.tls: "{tls}" could send the password in plaintext'
    )


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file() -> None:
    error = refused(
        '[smtp]\nidel_s = 1\nerrors_max = 0\n[[listener]]\nport = "x"\n'
        '[relay.retry]\nfirst_s = "x"\n'
    )
    assert [(problem.line, problem.key) for problem in error.problems] == [
        (2, "smtp.idel_s"),
        (3, "smtp.errors_max"),
        (4, "listener[1]"),
        (5, "listener[1].port"),
        (7, "relay.retry.first_s"),
    ]
    assert len(str(error).splitlines()) == 5


def test_every_wrong_element_of_a_list_is_told_and_the_right_ones_are_not() -> None:
    error = refused('[mta_sts]\nmx = ["*.*.x", "mail.example.org", "a b", 1]\n')
    assert [(p.line, p.key, p.text) for p in error.problems] == [
        (2, "mta_sts.mx", '"*.*.x" is not allowed: the domain is malformed'),
        (2, "mta_sts.mx", '"a b" is not allowed: the domain is malformed'),
        (2, "mta_sts.mx", "1 is not allowed: each is a text in quotes"),
    ]


def test_a_wrong_value_does_not_also_cause_a_contradiction() -> None:
    error = refused('[relay.smart_host]\nhost = "h"\nusername = "u"\npassword_file = 1')
    assert [problem.key for problem in error.problems] == ["relay.smart_host.password_file"]


def test_very_many_mistakes_are_cut_short_but_counted() -> None:
    error = refused("\n".join(f"unknown{at} = 1" for at in range(50)))
    assert len(error.problems) == 50
    assert str(error).splitlines()[-1] == "p.toml: and 30 more"


# F36
def test_a_file_with_a_mistake_gives_no_config_at_all() -> None:
    good = load("smtp.idle_s = 400")
    with pytest.raises(ConfigError):
        load("smtp.idle_s = 500\nsmtp.errors_max = -1")
    assert good.smtp.idle_s == 400  # values are frozen: the old config cannot be half changed
    with pytest.raises(AttributeError):
        good.smtp.idle_s = 500  # type: ignore[misc]


def test_where_each_value_comes_from_is_known() -> None:
    text = '[smtp]\nidle_s = 1\n\n[relay.retry]\nfirst_s = 2\n[[listener]]\nservice = "mx"\n'
    loaded = read(text, "p.toml", HOST)
    assert loaded.origins["smtp.idle_s"] == "p.toml:2"
    assert loaded.origins["relay.retry.first_s"] == "p.toml:5"
    assert loaded.origins["listener[1].service"] == "p.toml:7"
    assert loaded.origins["node.hostname"] == "this machine"
    assert "smtp.errors_max" not in loaded.origins


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    loaded = read("\ufeffsmtp.idle_s = 1", "p.toml", HOST)
    assert loaded.origins["smtp.idle_s"] == "p.toml:1"


@pytest.mark.parametrize("name", ["", "bad name", "host\x00", "x" * 300])
def test_a_host_without_a_usable_name_is_localhost(name: str) -> None:
    assert load("", "", FixedHost(host_name=name)).node.hostname == "localhost"


def test_free_disk_covers_two_of_the_largest_messages() -> None:
    assert load('smtp.message_octets_max = "1GiB"').store.free_octets_min == 2**31
    assert load('store.free_octets_min = "1MiB"').store.free_octets_min == 2**20


def test_a_file_that_cannot_be_read_is_told_in_words(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    with pytest.raises(
        ConfigError, match=f"^{missing}: cannot be read: No such file or directory$"
    ):
        load_file(missing)
    latin = tmp_path / "latin.toml"
    latin.write_bytes(b"# caf\xc3\xa9\n# caf\xe9\n")
    with pytest.raises(ConfigError, match=f"^{latin}:2: is not UTF-8$"):
        load_file(latin)
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (FILE_OCTETS_MAX + 1))
    with pytest.raises(ConfigError, match="is larger than 4 MiB"):
        load_file(large)


def test_a_file_is_read_from_its_own_folder(tmp_path: Path) -> None:
    path = tmp_path / "posthouse.toml"
    path.write_text('node.data_folder = "data"\nsmtp.bare_newline = "allow"')
    config = load_file(path, HOST).config
    assert config.node.data_folder == str(tmp_path / "data")
    assert config.smtp.bare_newline is BareNewline.ALLOW


# Listeners


def test_without_listeners_every_mail_service_but_lmtp_has_its_port_on_all_addresses() -> None:
    opened = {one.service: (one.addresses, one.port) for one in Config().listeners()}
    everywhere = ("0.0.0.0", "::")
    assert opened == {
        Service.MX: (everywhere, 25),
        Service.SUBMISSION: (everywhere, 587),
        Service.SUBMISSIONS: (everywhere, 465),
        Service.IMAP: (everywhere, 143),
        Service.IMAPS: (everywhere, 993),
        Service.POP3: (everywhere, 110),
        Service.POP3S: (everywhere, 995),
        Service.METRICS: (("127.0.0.1",), 9925),
    }


def test_a_port_base_shifts_every_port() -> None:
    config = load("net.port_base = 20000")
    ports = {one.service.value: one.port for one in config.listeners()}
    assert ports == {
        "mx": 20025,
        "submission": 20587,
        "submissions": 20465,
        "imap": 20143,
        "imaps": 20993,
        "pop3": 20110,
        "pop3s": 20995,
        "metrics": 20080,
    }
    assert all(port is not None and port <= 65_535 for port in ports.values())


def test_listeners_of_the_file_replace_the_standard_ones() -> None:
    config = load(
        'metrics.is_enabled = false\n[[listener]]\nservice = "lmtp"\n'
        '[[listener]]\nservice = "mx"\naddresses = ["192.0.2.1"]\nport = 2525\n'
    )
    assert [(one.service, one.addresses, one.port) for one in config.listeners()] == [
        (Service.LMTP, ("127.0.0.1", "::1"), 24),
        (Service.MX, ("192.0.2.1",), 2525),
    ]


@given(st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8) | st.booleans()))
def test_no_mistake_in_a_file_raises_anything_else(values: dict[str, object]) -> None:
    lines = []
    for key, value in values.items():
        shown = msgspec.json.encode(value).decode() if _is_plain(value) else '""'
        lines.append(f"{msgspec.json.encode(key).decode()} = {shown}")
    text = "\n".join(lines)
    try:
        load(text, "p.toml", HOST)
    except ConfigError as error:
        assert str(error).startswith("p.toml")
        assert str(error).isprintable() or "\n" in str(error)


def _is_plain(value: object) -> bool:
    return not isinstance(value, int) or abs(value) < 2**62


@given(st.text())
def test_any_text_is_a_config_or_an_error_in_words(text: str) -> None:
    try:
        load(text, "p.toml", HOST)
    except ConfigError as error:
        assert error.problems
    else:
        tomllib.loads(text.removeprefix("\ufeff"))
