"""Content of messages accepted a moment ago, so that relaying them need not read it back."""

from __future__ import annotations

from posthouse.kernel.ids import MessageId


class Hot:
    """Bounded by octets; the oldest go first. `contents` may be read from other threads."""

    __slots__ = ("_octets", "_octets_max", "contents")

    def __init__(self, octets_max: int) -> None:
        self._octets_max = octets_max
        self._octets = 0
        self.contents: dict[MessageId, bytes] = {}

    def put(self, message: MessageId, content: bytes) -> None:
        if message in self.contents or len(content) > self._octets_max:
            return
        self.contents[message] = content
        self._octets += len(content)
        while self._octets > self._octets_max:
            self.drop(next(iter(self.contents)))

    def drop(self, message: MessageId) -> None:
        content = self.contents.pop(message, None)
        if content is not None:
            self._octets -= len(content)
