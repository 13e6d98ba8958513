"""Media types by the end of a file's name, and back.

A table of our own: the standard library's reads the machine's files, so that the same message would
differ from host to host, and knows no office documents before Python 3.13.
"""

from __future__ import annotations

from typing import Final

__all__ = ["UNKNOWN", "guess", "suffix_of"]

UNKNOWN: Final = "application/octet-stream"

_OFFICE: Final = "application/vnd.openxmlformats-officedocument"
_OPEN: Final = "application/vnd.oasis.opendocument"
# The first suffix of a type is the one its files get.
_TYPES: Final = {
    # documents
    "pdf": "application/pdf",
    "doc": "application/msword",
    "docx": f"{_OFFICE}.wordprocessingml.document",
    "dotx": f"{_OFFICE}.wordprocessingml.template",
    "xls": "application/vnd.ms-excel",
    "xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    "ppt": "application/vnd.ms-powerpoint",
    "pptx": f"{_OFFICE}.presentationml.presentation",
    "odt": f"{_OPEN}.text",
    "ods": f"{_OPEN}.spreadsheet",
    "odp": f"{_OPEN}.presentation",
    "odg": f"{_OPEN}.graphics",
    "rtf": "application/rtf",
    "epub": "application/epub+zip",
    "ps": "application/postscript",
    "eps": "application/postscript",
    "tex": "application/x-tex",
    # text
    "txt": "text/plain",
    "log": "text/plain",
    "text": "text/plain",
    "conf": "text/plain",
    "ini": "text/plain",
    "html": "text/html",
    "htm": "text/html",
    "css": "text/css",
    "csv": "text/csv",
    "tsv": "text/tab-separated-values",
    "md": "text/markdown",
    "markdown": "text/markdown",
    "ics": "text/calendar",
    "ifb": "text/calendar",
    "vcf": "text/vcard",
    "vcard": "text/vcard",
    "js": "text/javascript",
    "mjs": "text/javascript",
    "py": "text/x-python",
    "diff": "text/x-diff",
    "patch": "text/x-diff",
    "yaml": "application/yaml",
    "yml": "application/yaml",
    "toml": "application/toml",
    "json": "application/json",
    "jsonl": "application/jsonl",
    "geojson": "application/geo+json",
    "ipynb": "application/x-ipynb+json",
    "xml": "application/xml",
    "xsl": "application/xml",
    "xhtml": "application/xhtml+xml",
    "atom": "application/atom+xml",
    "rss": "application/rss+xml",
    "sql": "application/sql",
    "sh": "application/x-sh",
    # mail
    "eml": "message/rfc822",
    "mht": "message/rfc822",
    "mbox": "application/mbox",
    "msg": "application/vnd.ms-outlook",
    # pictures
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "jpe": "image/jpeg",
    "gif": "image/gif",
    "svg": "image/svg+xml",
    "webp": "image/webp",
    "avif": "image/avif",
    "heic": "image/heic",
    "heif": "image/heif",
    "bmp": "image/bmp",
    "ico": "image/vnd.microsoft.icon",
    "tiff": "image/tiff",
    "tif": "image/tiff",
    "jxl": "image/jxl",
    # sound and film
    "mp3": "audio/mpeg",
    "m4a": "audio/mp4",
    "aac": "audio/aac",
    "ogg": "audio/ogg",
    "oga": "audio/ogg",
    "opus": "audio/ogg",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "mid": "audio/midi",
    "midi": "audio/midi",
    "weba": "audio/webm",
    "mp4": "video/mp4",
    "m4v": "video/mp4",
    "mpeg": "video/mpeg",
    "mpg": "video/mpeg",
    "webm": "video/webm",
    "ogv": "video/ogg",
    "mov": "video/quicktime",
    "avi": "video/x-msvideo",
    "mkv": "video/matroska",
    "3gp": "video/3gpp",
    # archives and programs
    "zip": "application/zip",
    "gz": "application/gzip",
    "tgz": "application/gzip",
    "bz2": "application/x-bzip2",
    "xz": "application/x-xz",
    "zst": "application/zstd",
    "7z": "application/x-7z-compressed",
    "rar": "application/vnd.rar",
    "tar": "application/x-tar",
    "jar": "application/java-archive",
    "apk": "application/vnd.android.package-archive",
    "wasm": "application/wasm",
    "sqlite": "application/vnd.sqlite3",
    "parquet": "application/vnd.apache.parquet",
    # fonts
    "ttf": "font/ttf",
    "otf": "font/otf",
    "woff": "font/woff",
    "woff2": "font/woff2",
    # keys and signatures
    "asc": "application/pgp-keys",
    "sig": "application/pgp-signature",
    "pem": "application/x-pem-file",
    "p7m": "application/pkcs7-mime",
    "p7s": "application/pkcs7-signature",
    "p7b": "application/x-pkcs7-certificates",
    "cer": "application/pkix-cert",
    "crt": "application/x-x509-ca-cert",
    "p12": "application/x-pkcs12",
    "pfx": "application/x-pkcs12",
    "pkpass": "application/vnd.apple.pkpass",
}
_SUFFIXES: Final = {media_type: suffix for suffix, media_type in reversed(_TYPES.items())}


def guess(file_name: str) -> str:
    """The media type by the name, or `UNKNOWN`."""
    _, dot, suffix = file_name.rpartition(".")
    return _TYPES.get(suffix.lower(), UNKNOWN) if dot else UNKNOWN


def suffix_of(media_type: str) -> str:
    """How files of a type (lower case, no parameters) end, without the dot: "bin" for others."""
    return _SUFFIXES.get(media_type, "bin")
