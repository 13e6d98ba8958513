"""The dialogues of tests/dialogues/smtp against the machine, whole and cut anywhere."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.protocol.smtp.dialogue import Dialogue, MachinePeer, all_dialogues, run_dialogue

DIALOGUES = all_dialogues()
CUTTABLE = [dialogue for dialogue in DIALOGUES if dialogue.may_be_cut]


# H1 H2 H4 H5 H6 H7 H8 H9 H10 H11 H12 H13 H14 H16 H18 H20 H21 H22 H25 H59: each file names its row
@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda dialogue: dialogue.name)
def test_the_dialogue_goes_as_written(dialogue: Dialogue) -> None:
    run_dialogue(dialogue, MachinePeer(dialogue.settings))


# H3
@pytest.mark.parametrize("dialogue", CUTTABLE, ids=lambda dialogue: dialogue.name)
def test_an_octet_at_a_time_gives_the_same_dialogue(dialogue: Dialogue) -> None:
    octets = [MachinePeer(dialogue.settings), MachinePeer(dialogue.settings, cut=single_octets)]
    for peer in octets:
        run_dialogue(dialogue, peer)
    assert octets[0].events == octets[1].events
    assert octets[0].written == octets[1].written


def single_octets(octets: bytes) -> list[bytes]:
    if len(octets) > 3000:
        return [octets[:1], octets[1:-1], octets[-1:]]
    return [octets[i : i + 1] for i in range(len(octets))]


# H3
@given(
    dialogue=st.sampled_from(CUTTABLE),
    shares=st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
def test_where_the_network_cuts_the_octets_changes_nothing(
    dialogue: Dialogue, shares: list[float]
) -> None:
    def cut(octets: bytes) -> list[bytes]:
        marks = [0, *sorted(int(share * len(octets)) for share in shares), len(octets)]
        return [octets[a:b] for a, b in itertools.pairwise(marks)]

    whole, parts = MachinePeer(dialogue.settings), MachinePeer(dialogue.settings, cut=cut)
    run_dialogue(dialogue, whole)
    run_dialogue(dialogue, parts)
    assert whole.events == parts.events
    assert whole.written == parts.written
