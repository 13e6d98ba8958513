"""HTML with a picture inside, a file beside it, and an invitation.

python attachments.py URL SENDER TO PICTURE FILE
"""

import sys
from pathlib import Path

from posthouse.sending import Attachment, CalendarEvent, Message, SendingError, Transport

EVENT = """\
BEGIN:VCALENDAR
VERSION:2.0
PRODID:-//Posthouse//Example//EN
METHOD:REQUEST
BEGIN:VEVENT
UID:tea-1@example.org
DTSTAMP:20261126T100000Z
DTSTART:20261127T170000Z
DTEND:20261127T180000Z
SUMMARY:Tea
END:VEVENT
END:VCALENDAR
"""


def main(url: str, sender: str, to: str, picture: str, file: str) -> int:
    letter = Message(
        sender=sender,
        to=to,
        subject="Tea, with a picture",
        html='<p>At five? <img src="cid:picture" alt="the garden"></p>',
        attachments=[
            Attachment(path=picture, cid="picture"),
            Path(file),  # a path alone is an attachment, too
            Attachment(filename="notes.txt", content="bring cake\n"),
        ],
        calendar=CalendarEvent(content=EVENT, method="REQUEST"),
    )
    try:
        with Transport(url) as transport:
            print(transport.send(letter).response)
    except SendingError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
