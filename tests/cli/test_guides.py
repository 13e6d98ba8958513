"""Every command of the guides about the DNS is one that works as it is written."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from posthouse.cli.output import ExitCode
from posthouse.config.settings import load_file
from posthouse.sim.dns import Zones
from posthouse.sim.dns_server import LabDns

from .conftest import Cli

DOCS = Path(__file__).parents[2] / "docs" / "guides"
GUIDES = ("spf", "dkim", "dmarc", "mta-sts", "dane", "certificates")
HEAD = "$TTL 60\n@ IN SOA ns hostmaster 1 3600 600 604800 60\n@ IN NS ns\nns IN A 192.0.2.53\n"
COMMAND = re.compile(r"^ {4,8}(posthouse .*)$|`(posthouse [^`]+)`", re.MULTILINE)
WORKED = {
    "posthouse certificate obtain": ExitCode.CONFIG,  # no authority is set up
    "posthouse domain rotate --lost-node-key": ExitCode.FAILED,  # nothing is lost
    "posthouse report dmarc example.org": ExitCode.OK,
}
"""What a command ends with where it is neither 0 nor, for `dns check`, 1."""
MESSAGE = b"From: you@example.org\r\nSubject: hello\r\n\r\nHello.\r\n"


def commands(guide: str) -> list[str]:
    text = (DOCS / f"{guide}.md").read_text()
    found = [" ".join((one or other).split()) for one, other in COMMAND.findall(text)]
    return [each for each in dict.fromkeys(found) if len(each.split()) > 3 or "list" in each]


@pytest_asyncio.fixture
async def house_with_dns(house: Cli) -> AsyncIterator[Cli]:
    zones = Zones()
    zones.load("example.org", HEAD)
    server = LabDns(zones)
    await server.serve_loopback()
    with Path("posthouse.toml").open("a") as file:
        file.write(f'\n[dns]\nservers = ["{server.address[0]}:{server.address[1]}"]\n')
    Path("message.eml").write_bytes(MESSAGE)
    yield house
    server.close()


@pytest.mark.parametrize("guide", GUIDES)
async def test_every_command_works_as_it_is_written(guide: str, house_with_dns: Cli) -> None:
    found = commands(guide)
    assert found, "a guide has commands"
    for command in found:
        words = shlex.split(command)[1:]
        code, out, err = await asyncio.to_thread(house_with_dns, *words)
        said = f"{command}\n{out}{err}"
        if words[:2] == ["dns", "check"]:
            assert code == ExitCode.FAILED, said  # the zone is empty
            assert "MISSING" in out, said
        elif words[0] == "resolve":
            assert code in (ExitCode.OK, ExitCode.NOT_FOUND), said
        else:
            assert code == WORKED.get(command, ExitCode.OK), said
        assert "Traceback" not in said and "bug" not in err, said


@pytest.mark.parametrize("guide", GUIDES)
def test_every_setting_exists(guide: str, house: Cli) -> None:
    text = (DOCS / f"{guide}.md").read_text()
    for section, key in re.findall(r"`\[([a-z_.]+)\] ([a-z_]+)`", text):
        assert house("config", "show", f"{section}.{key}")[0] == ExitCode.OK, (section, key)
    for section in re.findall(r"`\[([a-z_.]+)\]`", text):
        assert house("config", "show", section)[0] == ExitCode.OK, section


def test_the_config_of_the_guide_on_certificates_is_one(tmp_path: Path) -> None:
    text = (DOCS / "certificates.md").read_text()
    first = re.search(r"(?:^    .*\n|^\n)*^    \[acme\]\n(?:^    .*\n)+", text, re.MULTILINE)
    assert first is not None
    file = tmp_path / "posthouse.toml"
    file.write_text("".join(line.strip() + "\n" for line in first[0].splitlines()))
    assert load_file(file).config.acme.is_enabled


@pytest.mark.parametrize("guide", GUIDES)
def test_every_link_leads_to_a_page(guide: str) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", (DOCS / f"{guide}.md").read_text()):
        assert (DOCS / link).exists(), link


@pytest.mark.parametrize("guide", GUIDES)
def test_every_guide_is_found(guide: str) -> None:
    root = DOCS.parents[1]
    assert f'"guides/{guide}.md"' in (root / "zensical.toml").read_text()
    assert f"docs/guides/{guide}.md" in (root / "README.md").read_text()
    assert f"({guide}.md)" in (DOCS / "first-mail.md").read_text()
