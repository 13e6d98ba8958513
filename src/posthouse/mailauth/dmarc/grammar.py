"""Policy records, read as leniently as RFC 9989 §4.7, §4.8 ask (H45).

Unknown tags and those of RFC 7489 that are gone (pct, rf, ri) are ignored, a value that is no value
of its tag is its default, and a tag that comes twice counts the first time (H32).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from posthouse.mailauth.results import Alignment, Disposition, DmarcPolicy

RECORD_OCTETS_MAX: Final = 65_535
"""What a TXT record can hold; no more is read."""
TAGS_MAX: Final = 100
URIS_MAX: Final = 10
"""Of rua= and ruf= each; the rest are not kept."""
URI_OCTETS_MAX: Final = 1_000
TEXT_MAX: Final = 1_024
"""Characters of the record that are kept to be shown."""
CACHED_OCTETS_MAX: Final = 2_048
"""Longer records are read anew each time, so that the cache stays small."""

NO_POLICY: Final = "the record has no valid p= and no address for reports, so it asks for nothing"

# RFC 9989 §4.7: v= comes first and its value is case-sensitive.
_VERSION: Final = re.compile(rb"[ \t\r\n]*+[vV][ \t\r\n]*+=[ \t\r\n]*+DMARC1[ \t\r\n]*+(?:;|\Z)")
_BLANKS: Final = " \t\r\n"
# A scheme and what follows, without "," and "!", which RFC 9989 §4.8 wants encoded.
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*+:[\"-+\--~]++")
_SIZE: Final = re.compile(r"![0-9]{1,20}[kmgtKMGT]?\Z")
_DISPOSITIONS: Final = {each.value: each for each in Disposition}
_ALIGNMENTS: Final = {each.value: each for each in Alignment}
_FAILURE_OPTIONS: Final = frozenset("01ds")


def is_policy(record: bytes) -> bool:
    """Whether a TXT record is a policy record at all (RFC 9989 §4.10, step 2)."""
    return _VERSION.match(record) is not None


def parse(record: bytes, domain: str) -> DmarcPolicy | None:
    """The policy a TXT record publishes, or None when it is no policy record.

    Where `fault` is set the record counts in a tree walk, but DMARC is not applied with it.

    Args:
        record: its strings joined (RFC 9989 §4.5).
        domain: where it was found, without `_dmarc.`.
    """
    if not is_policy(record):
        return None
    if len(record) > CACHED_OCTETS_MAX:
        return _read(record, domain)
    return _read_once(record, domain)


def _read(record: bytes, domain: str) -> DmarcPolicy:
    text = record[:RECORD_OCTETS_MAX].decode("ascii", "replace")
    tags = _tags(text)
    policy = _DISPOSITIONS.get(tags.get("p", ""))
    subdomain_policy = _DISPOSITIONS.get(tags.get("sp", ""))
    missing_policy = _DISPOSITIONS.get(tags.get("np", ""))
    aggregate_uris = _uris(tags.get("rua", ""))
    failure_uris = _uris(tags.get("ruf", ""))
    fault = ""
    if (
        policy is None
        or (subdomain_policy is None and "sp" in tags)
        or (missing_policy is None and "np" in tags)
    ):
        # RFC 9989 §4.10.1: as if the record said "p=none", where somebody wants reports of it.
        policy, subdomain_policy, missing_policy = Disposition.NONE, None, None
        fault = "" if aggregate_uris else NO_POLICY
    public_suffix = tags.get("psd", "u")
    return DmarcPolicy(
        domain=domain,
        policy=policy,
        subdomain_policy=subdomain_policy,
        missing_policy=missing_policy,
        dkim_alignment=_ALIGNMENTS.get(tags.get("adkim", ""), Alignment.RELAXED),
        spf_alignment=_ALIGNMENTS.get(tags.get("aspf", ""), Alignment.RELAXED),
        is_testing=tags.get("t") == "y",
        public_suffix=public_suffix if public_suffix in ("y", "n") else "u",
        failure_options=_failure_options(tags["fo"]) if failure_uris and "fo" in tags else ("0",),
        aggregate_uris=aggregate_uris,
        failure_uris=failure_uris,
        text=_printable(text),
        fault=fault,
    )


def read_tags(record: bytes) -> dict[str, str]:
    """What a record says, whether its values are any or not: for telling its owner of slips."""
    return _tags(record[:RECORD_OCTETS_MAX].decode("ascii", "replace"))


_read_once = lru_cache(maxsize=4_096)(_read)


def _tags(text: str) -> dict[str, str]:
    """Names in lower case; values too, but for addresses."""
    tags: dict[str, str] = {}
    for piece in text.split(";", TAGS_MAX)[:TAGS_MAX]:
        name, equals, value = piece.partition("=")
        name = name.strip(_BLANKS).lower()
        if equals and name not in tags:
            value = value.strip(_BLANKS)
            tags[name] = value if name in ("rua", "ruf") else value.lower()
    return tags


def _uris(value: str) -> tuple[str, ...]:
    """In order, without repeats; what is no URI is left out."""
    kept: dict[str, None] = {}
    for piece in value.split(","):
        if len(piece) > URI_OCTETS_MAX:
            continue
        # RFC 9989 §4.8: the size limit of old records is to be ignored.
        uri = _SIZE.sub("", piece.strip(_BLANKS))
        if _URI.fullmatch(uri) is not None:
            kept[uri] = None
            if len(kept) == URIS_MAX:
                break
    return tuple(kept)


def _failure_options(value: str) -> tuple[str, ...]:
    options = dict.fromkeys(option.strip(_BLANKS) for option in value.split(":", 8))
    if not _FAILURE_OPTIONS.issuperset(options) or {"0", "1"} <= options.keys():
        return ("0",)
    return tuple(options)


def _printable(text: str) -> str:
    shown = text[:TEXT_MAX]
    return shown if shown.isprintable() else "".join(c if c.isprintable() else "?" for c in shown)
