"""Read a message as it was received: who wrote what, what is attached, what a report says.

  python read_mail.py FILE.eml [FOLDER]

With a folder, attachments are saved there. Their names are made safe; nothing is opened.
"""

import sys
from pathlib import Path

from posthouse.message import read


def main(file: str, folder: str = "") -> int:
    letter = read(Path(file).read_bytes())
    for author in letter.authors:
        print(f"from {author.name or author.address} <{author.address}>")
    print(f"subject {letter.subject}")
    if letter.date is not None:
        print(f"written {letter.date:%Y-%m-%d %H:%M %z}")
    print(letter.text)
    for number, each in enumerate(letter.attachments, start=1):
        print(f"attached {each.name} ({each.content_type}, {len(each.octets)} octets)")
        if folder:
            Path(folder, f"{number}-{each.name}").write_bytes(each.octets)
    if (report := letter.delivery_report) is not None:
        for one in report.recipients:
            print(f"{one.final_recipient}: {one.action.value} {one.status} {one.diagnostic or ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
