"""Messages signed by DKIM, and the DNS records to verify them by.

  signed_corpus.py keys DIR [--count 500] [--only rsa]   DIR/4K/*.eml, DIR/100K/*.eml, records.conf and keys.txt

keys.txt is for OpenDKIM (peers/opendkim.sh). records.conf is for unbound (peers/rspamd.sh, RS_ZONE=): SPF that passes for 198.51.100.7, an RSA and an
Ed25519 key, a DMARC policy of reject. The author is x@signed.test. Needs Posthouse's library.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import benchlib as B

from posthouse.mailauth.dkim.keys import key_record
from posthouse.mailauth.dkim.sign import SigningKey, generate, load_private, sign
from posthouse.message.fields import read_section

DOMAIN = "signed.test"
NOW = 1_790_000_000
ALGORITHMS = {"rsa": "rsa-sha256", "ed": "ed25519-sha256"}


def message(number: int, octets: int, chance: random.Random) -> bytes:
    words = [chance.choice(("tea", "at", "five", "in", "the", "garden", "behind", "house")) for _ in range(octets // 5)]
    text, line = [], b""
    for word in words:
        line += word.encode() + b" "
        if len(line) > 70:
            text.append(line.rstrip())
            line = b""
    head = (
        f"From: Ada <x@{DOMAIN}>\r\nTo: u@bench.test\r\nSubject: message {number}\r\n"
        f"Date: Mon, 21 Sep 2026 10:00:00 +0000\r\nMessage-ID: <{number}.{octets}@{DOMAIN}>\r\n"
        "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=us-ascii\r\n\r\n"
    ).encode()
    return (head + b"\r\n".join(text))[: octets - 2].rstrip(b"\r\n") + b"\r\n"


def records(keys: dict[str, tuple[str, bytes]]) -> list[str]:
    lines = [
        f'local-zone: "{DOMAIN}." static',
        f"local-data: '{DOMAIN}. 86400 IN TXT \"v=spf1 ip4:198.51.100.7 -all\"'",
        f"local-data: '{DOMAIN}. 86400 IN A 198.51.100.7'",
        f"local-data: '_dmarc.{DOMAIN}. 86400 IN TXT \"v=DMARC1; p=reject\"'",
    ]
    for selector, (algorithm, public) in keys.items():
        record = key_record(algorithm, public)
        strings = " ".join(f'"{record[at : at + 250]}"' for at in range(0, len(record), 250))
        lines.append(f"local-data: '{selector}._domainkey.{DOMAIN}. 86400 IN TXT {strings}'")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("keys",))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", choices=sorted(ALGORITHMS), help="one signature instead of both")
    parser.add_argument("--count", type=int, default=500)
    a = parser.parse_args()
    signing, public = [], {}
    for selector, algorithm in ALGORITHMS.items():
        if a.only not in (None, selector):
            continue
        new = generate(algorithm, rsa_bits=2048)
        signing.append(SigningKey(domain=DOMAIN, selector=selector, algorithm=algorithm, private=load_private(new.private)))
        public[selector] = (algorithm, new.public)
    chance = random.Random(1)
    for name, octets in (("4K", 4096), ("100K", 102_400)):
        folder = a.folder / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(a.count if octets < 10_000 else max(1, a.count // 10)):
            made = message(number, octets, chance)
            fields = sign(read_section(made), signing, now_unix_s=NOW, expires_s=None)
            (folder / f"{number}.eml").write_bytes(fields + made)
    (a.folder / "records.conf").write_text("\n".join(records(public)) + "\n", encoding="ascii")
    keys = [f"{s}._domainkey.{DOMAIN} {key_record(*known)}" for s, known in public.items()]
    (a.folder / "keys.txt").write_text("\n".join(keys) + "\n", encoding="ascii")
    B.emit({"bench": "signed_corpus", "folder": str(a.folder)}, None)


if __name__ == "__main__":
    main()
