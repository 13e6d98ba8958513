"""Inputs to begin from out of the published vectors, which are read where they are."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import yaml

from posthouse.message.fields import read_section
from tests.fuzz.target import Target

OCTETS_MAX = 16 * 1024
COUNT_MAX = 150
"""For one target; more would leave a short run no time for changes."""
STRUCTURED = (b"from", b"to", b"cc", b"date", b"subject", b"content-type", b"content-disposition")


def with_published(targets: Iterable[Target], folder: Path) -> list[Target]:
    """The targets with the vectors added to what they begin from."""
    found = published(folder)
    return [
        msgspec.structs.replace(target, seeds=target.seeds + found.get(target.name, ()))
        for target in targets
    ]


def published(folder: Path) -> dict[str, tuple[bytes, ...]]:
    """By target."""
    messages = _messages(folder)
    notices = _spread(path.read_bytes() for path in sorted(folder.glob("bounce/*/*.eml")))
    return {
        "smtp-server": _dialogs(folder),
        "imap-server": _imap(folder),
        "mime": messages,
        "header": messages,
        "notice": notices,
        "field-values": _field_values((*messages, *notices)),
        "address": _addresses(folder),
        "report": _reports(folder),
        "author": messages,
        **_authentication(folder),
    }


def _authentication(folder: Path) -> dict[str, tuple[bytes, ...]]:
    records = _texts(folder)
    spf = [text for text in records if text.lower().startswith(b"v=spf1")]
    signed = _spread(
        path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        for path in sorted((*folder.glob("dkim/*/*.m*s*g*"), *folder.glob("dkim/*.msg")))
    )
    chains, sections = _chains(folder), []
    for octets in (*signed, *chains):
        sections.append(read_section(octets))
    return {
        "spf-record": _spread(spf),
        "spf-macros": _spread(
            word.partition(b":")[2] if b":" in word else word
            for text in records
            for word in ([text] if not text.startswith(b"v=spf1") else text.split())
            if b"%" in word
        ),
        "spf-check": _spread(
            b"ada@mx.example.net\n" + b"\n".join(spf[at : at + 6]) for at in range(0, len(spf), 6)
        ),
        "dkim-message": signed,
        "dkim-body": _spread(octets[read_section(octets).body :] for octets in signed),
        "dkim-signature": _spread(
            value
            for section in sections
            for name in (b"dkim-signature", b"arc-message-signature", b"arc-seal")
            for value in section.every(name)
        ),
        "dkim-key": _spread(_keys(folder)),
        "arc-sets": chains,
        "authentication-results": _spread(
            value
            for section in sections
            for name in (b"authentication-results", b"arc-authentication-results")
            for value in section.every(name)
        ),
    }


def _texts(folder: Path) -> list[bytes]:
    """The TXT and SPF records of the openspf suite."""
    found: list[bytes] = []
    for path in sorted(folder.glob("spf/*.yml")):
        for suite in yaml.safe_load_all(path.read_text("utf-8")):
            for records in suite["zonedata"].values():
                for record in records:
                    if isinstance(record, dict):
                        for text in (record.get("SPF"), record.get("TXT")):
                            joined = "".join(text) if isinstance(text, list) else str(text or "")
                            found.append(joined.encode("latin-1", "replace"))
    return list(dict.fromkeys(filter(None, found)))


def _chains(folder: Path) -> tuple[bytes, ...]:
    """Messages of the ARC suites, with the records of a suite behind some of them."""
    found: list[bytes] = []
    for path in sorted(folder.glob("arc/arc-validation*.yml")):
        for suite in yaml.safe_load_all(path.read_text("utf-8")):
            keys = "\n".join(map(str, (suite.get("txt-records") or {}).values()))
            for test in (suite["tests"] or {}).values():
                message = str(test.get("message") or "").replace("\n", "\r\n")
                found.append(f"{message}{keys}\n".encode())
    return _spread(found)


def _keys(folder: Path) -> list[bytes]:
    paths = [*folder.glob("dkim/dkimpy/*.txt"), *folder.glob("dkim/**/*.dns")]
    found = []
    for path in sorted(paths):
        for line in path.read_bytes().splitlines():
            if b"p=" in line:
                found.append(line[line.index(b"v=") if b"v=" in line else 0 :])
    return found


def _reports(folder: Path) -> tuple[bytes, ...]:
    kinds = ("dmarc-reports", "tlsrpt", "arf")
    paths = [path for kind in kinds for path in folder.glob(f"{kind}/**/*") if path.is_file()]
    return _spread(path.read_bytes() for path in sorted(paths) if "LICENSE" not in path.name)


def _spread(found: Iterable[bytes]) -> tuple[bytes, ...]:
    """Some of all, from everywhere in them."""
    short = [octets for octets in found if 0 < len(octets) <= OCTETS_MAX]
    step = max(1, -(-len(short) // COUNT_MAX))
    return tuple(short[::step])


def _messages(folder: Path) -> tuple[bytes, ...]:
    paths = [*folder.glob("mime/*/**/*.eml"), *folder.glob("mime/cpython/*.txt")]
    paths += [path for path in folder.glob("spam/*/*/*") if path.is_file()]
    return _spread(path.read_bytes() for path in sorted(paths))


def _dialogs(folder: Path) -> tuple[bytes, ...]:
    """What the client says in chasquid's dialogs."""
    sent = []
    for path in sorted(folder.glob("smtp/chasquid/*.cmy")):
        lines = re.findall(r"^c -> (.*)$", path.read_text("utf-8"), re.MULTILINE)
        sent.append("".join(f"{line}\r\n" for line in lines).encode())
    return _spread(sent)


def _imap(folder: Path) -> tuple[bytes, ...]:
    """The commands of imaptest's scripts, with a tag of ours."""
    sent = []
    for path in sorted(folder.glob("imap/imaptest/*")):
        if path.suffix != ".mbox":
            text = path.read_text("utf-8", "replace")
            lines = re.findall(r"^(?:ok|no|bad|\"\") (.*)$", text, re.MULTILINE)
            sent.append("".join(f"a {line}\r\n" for line in lines).encode())
    return _spread(sent)


def _field_values(messages: Iterable[bytes]) -> tuple[bytes, ...]:
    values = []
    for octets in messages:
        section = read_section(octets)
        for name in STRUCTURED:
            value = section.first(name)
            if value is not None:
                values.append(bytes(value))
    return _spread(dict.fromkeys(values))


def _addresses(folder: Path) -> tuple[bytes, ...]:
    """isemail's addresses, its pictures of control characters made those characters."""
    found = []
    for path in sorted(folder.glob("address/isemail-tests*.xml")):
        for match in re.findall(r"<address>(.*?)</address>", path.read_text("utf-8"), re.DOTALL):
            text = "".join(ElementTree.fromstring(f"<a>{match}</a>").itertext())
            found.append(re.sub("[␀-␠]", lambda one: chr(ord(one[0]) - 0x2400), text).encode())
    return _spread(found)
