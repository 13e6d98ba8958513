"""Random histories of mailboxes agree with a model that is a few dictionaries."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from posthouse.mailbox import copy, expunge, fetch, flags, view
from posthouse.mailbox.flags import Action
from tests.mailbox.world import World, message

BOXES = ("INBOX", "Archive", "Trash")
boxes = st.sampled_from(BOXES)
masks = st.integers(0, 31)
keyword_sets = st.lists(st.sampled_from(["$Junk", "$Forwarded", "work", "WORK"]), max_size=2)
ranges = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 6)), min_size=1, max_size=3).map(
    lambda pairs: [(first, first + length) for first, length in pairs]
)


class Model:
    """What one mailbox should hold."""

    def __init__(self) -> None:
        self.entries: dict[int, tuple[int, frozenset[str], bytes]] = {}
        self.uidnext = 1

    def add(self, mask: int, keywords: frozenset[str], octets: bytes) -> None:
        self.entries[self.uidnext] = (mask, keywords, octets)
        self.uidnext += 1

    def chosen(self, uid_ranges: list[tuple[int, int]]) -> list[int]:
        return [u for u in sorted(self.entries) if any(a <= u <= b for a, b in uid_ranges)]


def folded(keywords: Any) -> frozenset[str]:
    return frozenset(word.lower() for word in keywords)


class Mailboxes(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.other = self.world.new_account("bob")
        self.world.deliver(message(b"his"), account=self.other)
        self.other_before = self.everything_of_the_other()
        self.model = {name: Model() for name in BOXES}
        self.views = {name: self.world.view(name) for name in BOXES}
        self.ids = {name: self.world.mailbox(name) for name in BOXES}
        self.modseqs = {name: self.world.select(name).modseq for name in BOXES}
        self.uids_seen: dict[str, int] = dict.fromkeys(BOXES, 0)
        self.count = 0

    def teardown(self) -> None:
        self.world.close()

    def everything_of_the_other(self) -> Any:
        return self.world.sql(
            "SELECT m.*, e.* FROM mailbox m LEFT JOIN entry e ON e.mailbox_id = m.id"
            " WHERE m.account_id = ?",
            self.other,
        )

    def octets(self) -> bytes:
        self.count += 1
        return message(b"n%d" % self.count)

    @rule(mask=masks)
    def deliver(self, mask: int) -> None:
        octets = self.octets()
        self.world.deliver(octets, flags=mask, prefix=b"X: y\r\n")
        self.model["INBOX"].add(mask, frozenset(), b"X: y\r\n" + octets)

    @rule(name=boxes, mask=masks, keywords=keyword_sets, count=st.integers(1, 3))
    def append(self, name: str, mask: int, keywords: list[str], count: int) -> None:
        octets = [self.octets() for _ in range(count)]
        done = self.world.append(*octets, mailbox=name, flags=mask, keywords=tuple(keywords))
        assert [one.uid for one in done] == [self.model[name].uidnext + i for i in range(count)]
        for one in octets:
            self.model[name].add(mask, folded(keywords), one)

    @rule(
        name=boxes, where=ranges, action=st.sampled_from(Action), mask=masks, keywords=keyword_sets
    )
    def store(self, name: str, where: Any, action: Action, mask: int, keywords: list[str]) -> None:
        model = self.model[name]
        stored = self.world.write(
            flags.store_flags, self.world.account, self.ids[name], where, action, mask, keywords
        )
        expected = {}
        for uid in model.chosen(where):
            have, words, octets = model.entries[uid]
            new = {
                Action.ADD: (have | mask, words | folded(keywords)),
                Action.REMOVE: (have & ~mask, words - folded(keywords)),
                Action.REPLACE: (mask, folded(keywords)),
            }[action]
            if new != (have, words):
                expected[uid] = new
            model.entries[uid] = (*new, octets)
        got = {uid: (bits, folded(words.split())) for uid, bits, words, _ in stored.changed}
        assert expected.items() <= got.items()
        # A keyword list in another order may count as a change, never anything else.
        assert all(model.entries[uid][:2] == value for uid, value in got.items())

    @rule(name=boxes, where=ranges, only_deleted=st.booleans())
    def expunge(self, name: str, where: Any, only_deleted: bool) -> None:
        model = self.model[name]
        gone = [
            uid
            for uid in model.chosen(where)
            if not only_deleted or model.entries[uid][0] & flags.DELETED
        ]
        done = self.world.write(
            expunge.expunge,
            self.world.account,
            self.ids[name],
            where,
            only_deleted=only_deleted,
        )
        assert done.uids == gone
        for uid in gone:
            del model.entries[uid]

    @rule(source=boxes, goal=boxes, where=ranges, is_move=st.booleans())
    def copy(self, source: str, goal: str, where: Any, is_move: bool) -> None:
        chosen = self.model[source].chosen(where)
        first = self.model[goal].uidnext
        done = self.world.write(
            copy.move if is_move else copy.copy,
            self.world.account,
            self.ids[source],
            where,
            goal,
        )
        assert (list(done.source_uids), done.first_uid) == (chosen, first)
        for entry in [self.model[source].entries[uid] for uid in chosen]:
            self.model[goal].add(*entry)
        if is_move:
            for uid in chosen:
                del self.model[source].entries[uid]

    @rule(name=boxes)
    @precondition(lambda self: self.count > 0)
    def a_session_catches_up(self, name: str) -> None:
        known = self.views[name]
        before = list(known.uids)
        changes = self.world.changes(known, self.ids[name])
        for seq in known.apply(changes):
            del before[seq - 1]  # each number is right at the moment it is sent
        assert list(known.uids) == before + [entry[0] for entry in changes.added]
        self.agrees(known, name)

    def agrees(self, known: view.View, name: str) -> None:
        entries = self.model[name].entries
        assert list(known.uids) == sorted(entries)
        for uid, bits in zip(known.uids, known.flags, strict=True):
            words = folded(known.keywords.get(uid, "").split())
            assert (bits & flags.SYSTEM_FLAGS, words) == entries[uid][:2]
            assert bool(bits & flags.HAS_KEYWORDS) == bool(words)

    @invariant()
    def the_store_agrees_with_the_model(self) -> None:
        for name in BOXES:
            self.agrees(self.world.view(name), name)
            selected = self.world.select(name)
            assert selected.uidnext == self.model[name].uidnext
            assert selected.messages == len(self.model[name].entries)

    @invariant()
    def counters_say_what_the_rows_say(self) -> None:
        assert self.world.counters_differ() == []

    @invariant()
    def uids_and_modseqs_never_go_back(self) -> None:  # P7
        for name in BOXES:
            selected = self.world.select(name)
            assert selected.modseq >= self.modseqs[name]
            assert selected.uidnext > self.uids_seen[name]
            self.modseqs[name] = selected.modseq
            self.uids_seen[name] = selected.uidnext - 1

    @invariant()
    def another_account_is_as_it_was(self) -> None:  # P12
        assert self.everything_of_the_other() == self.other_before

    @invariant()
    def octets_are_what_came_in(self) -> None:
        for name in BOXES:
            for uid, (_, _, octets) in list(self.model[name].entries.items())[:3]:
                got = self.world.read(fetch.octets, self.world.account, self.ids[name], uid)
                assert got is not None and got.whole() == octets


TestMailboxes = Mailboxes.TestCase
TestMailboxes.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
