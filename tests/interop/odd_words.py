"""What random messages are made of: words, names and addresses that have gone wrong somewhere."""

from __future__ import annotations

WORDS = (
    *("tea", "at", "five", "Grüße", "日本語", "Привет", "a,b", '"quoted"', "semi;colon", "=?x?="),
    *("=?utf-8?q?no?=", "<b>", "100%", "back\\slash", "😀", "e\u0301", "(c)", "(", "@home", "it's"),
    *(
        "x" * 90,
        "ö" * 60,
        ".",
        "From",
        "--",
        "=3D",
        "\u00a0",
        "\u202e",
        "a:b",
        "[x]",
        "ﬀ",
        "Ω",
        "*",
    ),
    *("שלום", "مرحبا", "हिन्दी", "👩‍👩‍👧", "\ufeff", "=", "_", "a_b", "?=", "“so”", "z" * 400),
)
LINES = (
    *(
        "",
        ".",
        "..",
        "From here",
        "-- ",
        "trailing \t ",
        " leading",
        "\ttab",
        "=",
        "--=_",
        "~" * 76,
    ),
    *(
        "long " * 400,
        "x" * 3_000,
        "ö" * 700,
        "a" * 997,
        "a" * 998,
        "é" * 75 + "=",
        "\x0c",
        "\u2028",
    ),
)
SUFFIXES = {
    ".txt": "text/plain",
    ".html": "text/html",
    ".csv": "text/csv",
    ".png": "image/png",
    ".pdf": "application/pdf",
    ".tar.gz": "application/gzip",
    ".ICS": "text/calendar",
    ".unknown": "application/octet-stream",
    "": "application/octet-stream",
}
ODD_NAMES = (
    *(
        "../../etc/passwd",
        "C:\\x\\y.txt",
        ".hidden",
        "a" * 250,
        "ö" * 120,
        "per%20cent",
        "it''s*0*",
    ),
    *(
        'say "hi"',
        "semi;colon=1",
        "=?utf-8?b?eA==?=",
        "two  blanks",
        "tab-less",
        "😀.png",
        "a\u0301",
    ),
    *("utf-8''x", "comma, dot.", "(c)", "日本語の長い名前" * 8, "back\\", "CON", "x'y'z", "100%"),
)
LOCAL_PARTS = (
    *("ada", "ada.lovelace", "a+tag", "o'neill", '"two words"', '"a@b"', '"quo\\"te"', "jürgen"),
    *("用户", "x" * 64, "!#$%&'*+/=?^_`{|}~-", '".dot."'),
)
DOMAINS = (
    *("example.org", "x.example", "[192.0.2.7]", "[IPv6:2001:db8::1]", "a-b.c-d.example"),
    *("bücher.example", "例え.example", f"{'l' * 60}.{'m' * 60}.example"),
)
ASCII_DOMAINS = {"bücher.example": "xn--bcher-kva.example", "例え.example": "xn--r8jz45g.example"}
GROUP = 'Tea friends: c@x.example, "D, E" <d@x.example>;'
ENCODINGS = (None, None, "base64", "quoted-printable")
