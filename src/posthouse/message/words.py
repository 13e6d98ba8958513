"""Text in header fields: encoded-words both ways (RFC 2047) and the charsets we know.

What comes out of here is safe to show on one line: no control characters (H31).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator
from typing import Final

WORDS_MAX: Final = 2_000
"""Encoded-words decoded in one value; the rest stays as it is."""
WORD_OCTETS_MAX: Final = 75  # RFC 2047 §2
_ENCODED_OCTETS_MAX: Final = WORD_OCTETS_MAX - len("=?utf-8?q??=")

_WORD: Final = re.compile(
    rb"=\?([A-Za-z0-9_.:+-]{1,40})(?:\*[A-Za-z0-9-]{0,35})?\?([bBqQ])\?([^?\r\n]*+)\?="
)
_PLAIN: Final = re.compile(r"[ -~]*+")

# Charset names (IANA's and those that mail really has) to Python codecs. UTF-7 is left out on
# purpose: text in it looks harmless to everybody who does not decode it.
CHARSETS: Final[dict[str, str]] = {
    **dict.fromkeys(("us-ascii", "ascii", "ansi_x3.4-1968", "iso646-us", "646"), "cp1252"),
    **dict.fromkeys(("utf-8", "utf8", "unicode-1-1-utf-8"), "utf-8"),
    **dict.fromkeys(("utf-16", "utf16"), "utf-16"),
    "utf-16le": "utf-16-le",
    "utf-16be": "utf-16-be",
    "utf-32": "utf-32",
    # What calls itself ISO 8859-1 is Windows text more often than not; it is a superset.
    **dict.fromkeys(("iso-8859-1", "iso8859-1", "iso_8859-1", "latin1", "l1"), "cp1252"),
    **{f"iso-8859-{part}": f"iso8859-{part}" for part in (*range(2, 12), *range(13, 17))},
    **{f"iso8859-{part}": f"iso8859-{part}" for part in (*range(2, 12), *range(13, 17))},
    **dict.fromkeys(("iso-8859-8-i", "iso-8859-8-e", "hebrew"), "iso8859-8"),
    **dict.fromkeys(("iso-8859-6-i", "iso-8859-6-e", "arabic"), "iso8859-6"),
    "latin2": "iso8859-2",
    "latin5": "iso8859-9",
    "latin-9": "iso8859-15",
    "iso-8859-9": "cp1254",
    **{f"windows-{page}": f"cp{page}" for page in (874, 932, 936, 949, 950, *range(1250, 1259))},
    **{f"cp{page}": f"cp{page}" for page in (437, 850, 852, 866, 932, *range(1250, 1259))},
    **{f"cp-{page}": f"cp{page}" for page in (437, 850, 852, 866, *range(1250, 1259))},
    "ibm850": "cp850",
    "koi8-r": "koi8-r",
    "koi8-u": "koi8-u",
    **dict.fromkeys(("gb2312", "gbk", "gb18030", "x-gbk", "euc-cn", "gb_2312-80"), "gb18030"),
    "hz-gb-2312": "hz",
    **dict.fromkeys(("big5", "big5-hkscs", "x-x-big5"), "big5hkscs"),
    **dict.fromkeys(("shift_jis", "shift-jis", "sjis", "x-sjis", "ms_kanji"), "cp932"),
    **dict.fromkeys(("euc-jp", "x-euc-jp"), "euc_jp"),
    **dict.fromkeys(("iso-2022-jp", "iso-2022-jp-ms"), "iso2022_jp_ext"),
    "iso-2022-jp-1": "iso2022_jp_1",
    "iso-2022-jp-2": "iso2022_jp_2",
    "iso-2022-kr": "iso2022_kr",
    **dict.fromkeys(("euc-kr", "ks_c_5601-1987", "ks_c_5601", "ksc5601"), "cp949"),
    **dict.fromkeys(("macintosh", "mac", "x-mac-roman"), "mac_roman"),
    **dict.fromkeys(("tis-620", "iso-8859-11"), "cp874"),
}
_ASCII_BASED: Final = frozenset({"us-ascii", "utf-8", "iso-8859-1", "windows-1252"})
_ESCAPING: Final = frozenset({"hz", "iso2022_jp_ext", "iso2022_jp_1", "iso2022_jp_2", "iso2022_kr"})
_CONTROLS: Final = dict.fromkeys((*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)) | {
    0x09: " ",
    0x0A: " ",
    0x0D: " ",
}


def codec_for(charset: str) -> str | None:
    """The Python codec for a charset name as mail writes it, or None for one we do not know."""
    return CHARSETS.get(charset.strip().strip("\"'").lower())


def to_text(octets: bytes, charset: str | None = None) -> str:
    """Octets as text: the named charset, else UTF-8 where they are UTF-8, else windows-1252.

    Never raises; what no charset explains becomes U+FFFD. Control characters stay: see `shown`.
    """
    if octets.isascii() and (charset is None or charset.lower() in _ASCII_BASED):
        return octets.decode("ascii")
    codec = codec_for(charset) if charset else None
    if codec is None or codec == "cp1252":
        try:
            return octets.decode("utf-8")
        except UnicodeDecodeError:
            codec = "cp1252"
    return octets.decode(codec, "replace")


def shown(text: str) -> str:
    """The text without control characters: tabs and line ends become blanks, others vanish."""
    return text if text.isprintable() else text.translate(_CONTROLS)


def decode(value: bytes) -> str:
    """An unfolded field value as people read it: encoded-words decoded, 8-bit octets as UTF-8.

    An encoded-word that cannot be decoded stays as it is (RFC 2047 §6.3). Linear.
    """
    if b"=?" not in value:
        return shown(to_text(value))
    return shown("".join(_pieces(value)))


def _pieces(value: bytes) -> Iterator[str]:
    at = 0
    run = bytearray()  # words of one charset in a row: some cut characters in two between words
    run_codec = ""
    for count, word in enumerate(_WORD.finditer(value)):
        if count == WORDS_MAX:
            break
        codec = CHARSETS.get(word[1].decode("ascii").lower())
        if codec is None:
            continue
        between = value[at : word.start()]
        # Blanks between two encoded-words are not text (RFC 2047 §6.2).
        is_next = bool(run) and not between.strip(b" \t\r\n")
        if run and not (is_next and codec == run_codec and codec not in _ESCAPING):
            yield run.decode(run_codec, "replace")
            run.clear()
        if not is_next:
            yield to_text(between)
        run += _word_octets(word[2], word[3])
        run_codec = codec
        at = word.end()
    if run:
        yield run.decode(run_codec, "replace")
    yield to_text(value[at:])


def _word_octets(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"qQ":
        return binascii.a2b_qp(text, header=True)
    return base64_octets(text)


def base64_octets(text: bytes) -> bytes:
    """Base64 as far as it can be read: junk is skipped, missing padding supplied."""
    for padding in (b"", b"=", b"=="):
        try:
            return binascii.a2b_base64(text + padding)
        except binascii.Error:
            continue
    # One digit too many is left at the end: without it the rest is whole.
    digits = bytes(text).translate(None, _NOT_BASE64)
    return binascii.a2b_base64(digits[: len(digits) // 4 * 4])


_NOT_BASE64: Final = bytes(
    octet
    for octet in range(256)
    if octet not in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
)


# --- for building ---


def is_plain(text: str) -> bool:
    """Whether text can stand in an unstructured field as it is."""
    return _PLAIN.fullmatch(text) is not None and "=?" not in text


def encode(text: str) -> list[str]:
    """The text as encoded-words of at most 75 octets, none cutting a character (RFC 2047 §5).

    The caller joins them with blanks and folds between them. Q for text that is mostly ASCII, so
    that it can be read without a decoder, else B.
    """
    plain = sum(" " <= character <= "~" for character in text)
    if plain * 3 >= len(text) * 2:
        return [f"=?utf-8?q?{chunk}?=" for chunk in _q_chunks(text)]
    return [f"=?utf-8?b?{chunk}?=" for chunk in _b_chunks(text)]


# The letters that RFC 2047 §5 (3) lets into a phrase.
_Q_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/")
_Q: Final = [chr(octet) if octet in _Q_PLAIN else f"={octet:02X}" for octet in range(256)]
_Q[0x20] = "_"


def _q_chunks(text: str) -> Iterator[str]:
    chunk: list[str] = []
    size = 0
    for character in text:
        encoded = "".join([_Q[octet] for octet in character.encode("utf-8", "replace")])
        size += len(encoded)
        if size > _ENCODED_OCTETS_MAX:
            yield "".join(chunk)
            chunk, size = [], len(encoded)
        chunk.append(encoded)
    if chunk:
        yield "".join(chunk)


def _b_chunks(text: str) -> Iterator[str]:
    chunk = b""
    for character in text:
        octets = character.encode("utf-8", "replace")
        if len(chunk) + len(octets) > _ENCODED_OCTETS_MAX // 4 * 3:
            yield binascii.b2a_base64(chunk, newline=False).decode("ascii")
            chunk = b""
        chunk += octets
    if chunk:
        yield binascii.b2a_base64(chunk, newline=False).decode("ascii")
