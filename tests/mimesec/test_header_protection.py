"""Header protection on writing and reading (RFC 9788), with the vectors of its Appendix C."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from posthouse.message import mime
from posthouse.message.fields import read_section
from posthouse.mimesec import legacy_display
from posthouse.mimesec.entity import is_clean, join_message, split_message
from posthouse.mimesec.header_policy import (
    Header,
    HeaderPolicy,
    hcp_baseline,
    hcp_no_confidentiality,
    hcp_shy,
    reference_hcp,
)
from posthouse.mimesec.header_protection import (
    FieldState,
    HeaderScheme,
    ProtectedHeader,
    as_header,
    field_states,
    from_mismatch,
    header_sets,
    protected_payload,
    read_protected,
    rendered_fields,
)
from posthouse.mimesec.ports import ProtectionError
from tests.mimesec import rfc9788

VECTORS = rfc9788.messages()
needs_rfc = pytest.mark.skipif(not VECTORS, reason="the RFC's text is beside POSTHOUSE_VECTORS")
ENCRYPTED = [
    (name, name.removesuffix(".2"))
    for name in VECTORS
    if name.startswith("C.3.") and name.endswith(".2") and name.count(".") == 3
]

FIELDS = (
    b"Date: Sat, 20 Feb 2021 10:09:02 -0500\r\n",
    b"From: Alice <alice@smime.example>\r\n",
    b"To: Bob <bob@smime.example>\r\n",
    b"Subject: Dinner plans\r\n",
    b"Message-ID: <1@smime.example>\r\n",
)
ENTITY = b"Content-Type: text/plain; charset=us-ascii\r\n\r\nAt eight.\r\n"
MULTIPART = (
    b'Content-Type: multipart/mixed; boundary="m"\r\n\r\n--m\r\n'
    b'Content-Type: multipart/alternative; boundary="a"\r\n\r\n--a\r\n'
    b"Content-Type: text/plain; charset=utf-8\r\n\r\nText\r\n--a\r\n"
    b"Content-Type: text/html\r\n\r\n<html><body class=x><p>Text</p></body></html>\r\n--a--\r\n"
    b"--m\r\nContent-Type: text/plain\r\n\r\nattached\r\n--m--\r\n"
)


def fields_of(octets: bytes) -> list[Header]:
    return [as_header(one) for one in split_message(octets).fields]


def read(payload: bytes, outside: bytes = b"", *, is_encrypted: bool = True) -> ProtectedHeader:
    found = read_protected(payload, read_section(outside), is_encrypted=is_encrypted)
    assert found is not None
    return found


# --- the published vectors ---


@needs_rfc
def test_all_vectors_are_read() -> None:
    assert len(ENCRYPTED) == 17
    assert len([name for name in VECTORS if name.count(".") == 2]) >= 30


@needs_rfc
@pytest.mark.parametrize(("inner", "outer"), ENCRYPTED)
def test_what_a_vector_hides_and_shows_is_what_we_read(inner: str, outer: str) -> None:
    outside = read_section(VECTORS[outer])
    found = read_protected(VECTORS[inner], outside, is_encrypted=True)
    assert found is not None
    is_old = b"rfc8551" in VECTORS[inner]
    assert found.scheme is (HeaderScheme.RFC_8551 if is_old else HeaderScheme.RFC_9788)
    assert found.is_for_encryption
    # What the composer says to have put outside stands there.
    assert {one.key for one in found.outer} == {one.key for one in fields_of(VECTORS[outer])}
    states = {one.name: one.state for one in field_states(found, is_encrypted=True, is_signed=True)}
    assert states["Subject"] is (
        FieldState.SIGNED_ONLY
        if b"no-confidentiality" in VECTORS[inner] or b"-nohcp" in VECTORS[inner]
        else FieldState.SIGNED_AND_ENCRYPTED
    )
    is_shy = b"-shy" in VECTORS[inner]
    wanted = FieldState.SIGNED_AND_ENCRYPTED if is_shy else FieldState.SIGNED_ONLY
    assert states["From"] is states["Date"] is wanted
    assert states["Message-ID"] is FieldState.SIGNED_ONLY
    assert from_mismatch(outside, found) is None


@needs_rfc
@pytest.mark.parametrize(("inner", "outer"), ENCRYPTED)
def test_composing_a_vector_again_gives_its_header_sections(inner: str, outer: str) -> None:
    whole = VECTORS[inner]
    if b"rfc8551" in whole:
        pytest.skip("a form that is read and never written")
    found = read(whole)
    hcp = hcp_shy if b"hp-shy" in whole else hcp_baseline
    made = protected_payload(
        found.fields,
        found.entity,
        is_encrypted=True,
        hcp=hcp,
        has_legacy_display=b"hp-legacy-display" in whole,
    )
    assert [as_header(one).key for one in made.outer] == [
        header.key for header in fields_of(VECTORS[outer])
    ]
    ours, theirs = header_sets(read_section(made.entity)), header_sets(read_section(whole))
    for our, their in zip(ours, theirs, strict=True):
        assert [one.key for one in our] == [one.key for one in their]
    ours_again = read(made.entity)
    assert texts(ours_again.entity) == texts(found.entity)
    if b"hp-legacy-display" in whole:
        # With the elements in, too, as a reader without header protection shows them.
        assert squeezed(texts(made.entity)) == squeezed(texts(whole))


@needs_rfc
@pytest.mark.parametrize("name", ["C.2.1.1", "C.2.3.1", "C.2.5.1"])
def test_a_vector_that_is_signed_only_hides_nothing(name: str) -> None:
    found = read(VECTORS[name], VECTORS[name.removesuffix(".1")], is_encrypted=False)
    states = field_states(found, is_encrypted=False, is_signed=True)
    assert {one.state for one in states} == {FieldState.SIGNED_ONLY}
    assert {one.state for one in field_states(found, is_encrypted=False, is_signed=False)} == {
        FieldState.UNPROTECTED
    }


@needs_rfc
@pytest.mark.parametrize("name", ["C.1.2.1", "C.1.4.2", "C.1.6.1", "C.1.8.2"])
def test_a_vector_without_header_protection_is_not_read_as_one(name: str) -> None:
    assert read_protected(VECTORS[name], read_section(b""), is_encrypted=True) is None


def texts(entity: bytes) -> list[bytes]:
    return [
        mime.content(part, octets_max=100_000)
        for part in mime.scan(entity).walk()
        if part.maintype == b"text"
    ]


def squeezed(found: list[bytes]) -> list[bytes]:
    return [b"".join(one.split()) for one in found]


# --- policies ---


def test_the_baseline_obscures_the_subject_and_removes_what_only_people_read() -> None:
    assert hcp_baseline("SUBJECT", b"x") == b"[...]"
    assert hcp_baseline("Comments", b"x") is None
    assert hcp_baseline("Keywords", b"x") is None
    assert hcp_baseline("To", b"Bob <b@c.example>") == b"Bob <b@c.example>"
    assert hcp_no_confidentiality("Subject", b"x") == b"x"
    assert HeaderPolicy.BASELINE.hcp is hcp_baseline


@pytest.mark.parametrize(
    ("name", "value", "outside"),
    [
        ("From", b"Alice <a@b.example>", b"a@b.example"),
        ("to", b'"B, B" <b@b.example>, c@c.example', b"b@b.example, c@c.example"),
        ("Cc", b"Team: b@b.example, C <c@c.example>;", b"b@b.example, c@c.example"),
        ("Cc", b"nobody:;", b"nobody:;"),
        ("To", b"<broken", b"<broken"),
        ("To", "Ö <ö@ö.example>".encode(), "ö@xn--nda.example".encode()),
        ("Date", b"Sat, 20 Feb 2021 10:09:02 -0500", b"Sat, 20 Feb 2021 15:09:02 +0000"),
        ("Date", b"yesterday", b"yesterday"),
        ("Subject", b"x", b"[...]"),
        ("Keywords", b"x", None),
        ("X-Other", b"x", b"x"),
    ],
)
def test_the_shy_policy(name: str, value: bytes, outside: bytes | None) -> None:
    assert hcp_shy(name, value) == outside


def test_what_was_hidden_in_a_message_stays_hidden_in_the_answer() -> None:
    protected = (
        Header("Message-ID", b"<secret@a>"),
        Header("Cc", b"carol@c.example"),
        Header("From", b"alice@a.example"),
        Header("Subject", b"Plan"),
    )
    outer = (
        Header("Message-ID", b"<open@a>"),
        Header("From", b"alice@a.example"),
        Header("Subject", b"[...]"),
    )
    names = {"Message-ID": "In-Reply-To", "From": "To", "Cc": "Cc", "Subject": "Subject"}

    def respond(headers: Sequence[Header]) -> list[Header]:
        return [Header(names[one.name], one.value) for one in headers]

    hcp = reference_hcp(outer, protected, respond)
    assert hcp("in-reply-to", b"<secret@a>") == b"<open@a>"
    assert hcp("Cc", b"carol@c.example") is None
    assert hcp("Subject", b"Plan") == b"[...]"
    assert hcp("To", b"alice@a.example") == b"alice@a.example"
    assert hcp("Subject", b"something of its own") == b"something of its own"
    made = protected_payload(
        (b"To: alice@a.example\r\n", b"Cc: carol@c.example\r\n"),
        ENTITY,
        is_encrypted=True,
        response_hcp=hcp,
    )
    assert made.outer == (b"To: alice@a.example\r\n",)


# --- writing ---


def test_of_a_message_that_is_only_signed_all_fields_are_inside_and_outside() -> None:
    made = protected_payload(FIELDS, ENTITY, is_encrypted=False)
    assert made.outer == FIELDS
    assert b"".join(FIELDS) in made.entity
    assert made.entity.startswith(b"Content-Type: ")  # the first thing that readers have to know
    assert b"hp=clear" in made.entity and b"HP-Outer" not in made.entity
    assert b"legacy-display" not in made.entity


def test_of_an_encrypted_message_the_subject_stays_inside() -> None:
    made = protected_payload(FIELDS, ENTITY, is_encrypted=True)
    assert b"Subject: [...]\r\n" in made.outer
    assert b"Dinner" not in b"".join(made.outer)
    found = read(made.entity)
    assert found.is_for_encryption
    assert Header("Subject", b"Dinner plans") in found.protected
    assert Header("Subject", b"[...]") in found.outer
    assert found.entity.endswith(b"At eight.\r\n")
    assert found.fields == FIELDS
    assert b"hp" not in found.entity  # whoever encrypts it again would claim what is not so


def test_programs_that_know_the_drafts_only_are_told_of_a_hidden_subject() -> None:
    sealed = protected_payload(FIELDS, ENTITY, is_encrypted=True)
    root = mime.scan(sealed.entity)
    assert (root.parameters.raw(b"hp"), root.parameters.raw(b"protected-headers")) == (
        b"cipher",
        b"v1",
    )
    signed = protected_payload(FIELDS, ENTITY, is_encrypted=False)
    assert b"protected-headers" not in signed.entity


def test_what_the_way_adds_stays_outside_and_old_hp_outer_goes() -> None:
    fields = (b"Received: x\r\n", b"DKIM-Signature: y\r\n", b"HP-Outer: Subject: z\r\n", *FIELDS)
    made = protected_payload(fields, ENTITY, is_encrypted=True)
    assert made.outer[:2] == fields[:2]
    inside = read_section(made.entity)
    assert b"received" not in inside and b"dkim-signature" not in inside
    assert b"HP-Outer: Subject: z" not in made.entity


def test_the_parameter_stands_on_the_root_once_whatever_the_message_brought() -> None:
    entity = b'Content-Type: text/plain; hp="cipher"; charset=utf-8; name="a b" (note)\r\n\r\nx\r\n'
    made = protected_payload((), entity, is_encrypted=False)
    root = mime.scan(made.entity)
    assert root.parameters.items == (
        (b"charset", b"utf-8"), (b"name", b"a b"), (b"hp", b"clear"),
    )  # fmt: skip
    made = protected_payload((), b"\r\nno type\r\n", is_encrypted=False)
    assert mime.scan(made.entity).parameters.raw(b"hp") == b"clear"
    made = protected_payload((), MULTIPART, is_encrypted=False)
    assert len(mime.scan(made.entity).children) == 2


def test_a_boundary_nobody_can_write_is_refused() -> None:
    entity = b'Content-Type: multipart/mixed; boundary="a\x01b"\r\n\r\n--a\x01b--\r\n'
    with pytest.raises(ProtectionError, match="Content-Type"):
        protected_payload((), entity, is_encrypted=False)


def test_a_long_field_has_a_copy_that_fits_its_lines() -> None:
    field = b"References: " + b"x" * 985 + b"\r\n"
    made = protected_payload((field,), ENTITY, is_encrypted=True)
    assert is_clean(made.entity)
    found = read(made.entity)
    assert found.outer == found.protected == (Header("References", b"x" * 985),)


def test_a_header_section_that_is_doubled_by_its_copies_is_read_again() -> None:
    fields = tuple(b"X-%d: %b\r\n" % (number, b"y" * 200) for number in range(890))
    made = protected_payload(fields, MULTIPART, is_encrypted=True, hcp=hcp_no_confidentiality)
    found = read(made.entity)
    assert len(found.protected) == 890 and found.outer == found.protected
    assert found.fields == fields
    assert len(mime.scan(found.entity).children) == 2


@pytest.mark.parametrize("is_encrypted", [False, True])
def test_fields_that_grow_past_what_is_read_are_refused(is_encrypted: bool) -> None:
    field = "Subject: {}\r\n".format("ü" * 45_000).encode()  # encoded-words are longer
    with pytest.raises(ProtectionError, match="field_octets_max"):
        protected_payload((field,), ENTITY, is_encrypted=is_encrypted)


def test_text_in_an_unknown_charset_is_not_called_ascii() -> None:
    entity = b"Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=DFe\r\n"
    part = mime.scan(protected_payload(FIELDS, entity, is_encrypted=True).entity)
    assert part.parameters.raw(b"charset") is None
    assert mime.content(part, octets_max=100) == b"Gr\xfc\xdfe\r\n"


def test_text_outside_ascii_is_the_same_inside_and_outside() -> None:
    made = protected_payload(
        ("Subject: Grüße\r\n".encode(), "X-Note: ä\r\n".encode()),
        ENTITY,
        is_encrypted=True,
        hcp=hcp_no_confidentiality,
    )
    found = read(made.entity)
    assert found.outer == found.protected
    assert made.outer[0] == b"Subject: =?utf-8?b?R3LDvMOfZQ==?=\r\n"


# --- legacy display ---


def test_hidden_fields_stand_above_each_main_text_and_nothing_else() -> None:
    made = protected_payload(FIELDS, MULTIPART, is_encrypted=True)
    plain, page, attached = texts(made.entity)
    assert plain == b"Subject: Dinner plans\r\n\r\nText"
    assert page == (
        b'<html><body class=x><div class="header-protection-legacy-display">\r\n<pre>\r\n'
        b"Subject: Dinner plans\r\n</pre>\r\n</div><p>Text</p></body></html>"
    )
    assert attached == b"attached"
    found = read(made.entity)
    assert texts(found.entity)[0] == b"Text"
    assert b"Dinner" not in found.entity


def test_fields_are_escaped_in_html_and_a_charset_that_is_too_small_becomes_utf_8() -> None:
    entity = b"Content-Type: text/html; charset=us-ascii\r\n\r\n<p>x</p>\r\n"
    made = legacy_display.add(entity, [Header("Subject", "<b>ü</b>".encode())])
    part = mime.scan(made)
    assert part.parameters.raw(b"charset") == b"utf-8"
    content = mime.content(part, octets_max=1000)
    assert "Subject: &lt;b&gt;ü&lt;/b&gt;".encode() in content
    removed = legacy_display.remove(made)
    assert mime.content(mime.scan(removed), octets_max=1000).strip() == b"<p>x</p>"


@pytest.mark.parametrize(
    "entity",
    [
        b"Content-Type: image/png\r\n\r\nx",
        b"Content-Type: text/plain\r\nContent-Disposition: attachment\r\n\r\nx",
        b"Content-Type: text/plain; charset=x-unknown\r\n\r\n\xff",
        b"Content-Type: text/plain; charset=us-ascii\r\n\r\nGr\xfc\xdfe",
        b"Content-Type: text/html\r\n\r\nGr\xfc\xdfe",
        b"Content-Type: text/plain\r\nContent-Transfer-Encoding: x-odd\r\n\r\nx",
        b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n--b--\r\n",
    ],
)
def test_what_is_no_main_text_or_cannot_be_read_is_left_alone(entity: bytes) -> None:
    assert legacy_display.add(entity, [Header("Subject", b"x")]) == entity


def test_only_marked_parts_lose_lines_and_only_marked_elements_go() -> None:
    marked = b"Content-Type: text/%s; hp-legacy-display=1\r\n\r\n%s"
    plain = legacy_display.remove(marked % (b"plain", b"Subject: x\r\n\r\nText\r\n\r\nMore\r\n"))
    assert plain.endswith(b"\r\n\r\nText\r\n\r\nMore\r\n") and b"Subject" not in plain
    untouched = b"Content-Type: text/plain\r\n\r\nSubject: x\r\n\r\nText\r\n"
    assert legacy_display.remove(untouched) == untouched
    html = (
        b"<div class='a header-protection-legacy-display'>x<div>y</div>z</div>"
        b"<div>kept</div><!-- <div class=header-protection-legacy-display> -->"
        b'<div title="header-protection-legacy-display">kept too</div>'
        b"<div class=header-protection-legacy-display>never closed"
    )
    content = mime.content(
        mime.scan(legacy_display.remove(marked % (b"html", html))), octets_max=999
    )
    assert b">x<" not in content
    assert content.startswith(b"<div>kept</div>")
    assert b"kept too" in content and b"never closed" in content


@pytest.mark.parametrize("charset", ["", "; charset=us-ascii", "; charset=iso-8859-1"])
def test_fields_above_utf_8_that_says_another_thing_leave_the_text_what_it_is(
    charset: str,
) -> None:
    entity = f"Content-Type: text/plain{charset}\r\n\r\nGrüße, ƒ\r\n".encode()
    made = mime.scan(legacy_display.add(entity, [Header("Subject", "ß".encode())]))
    assert made.parameters.raw(b"charset") == b"utf-8"
    assert mime.content(made, octets_max=100) == "Subject: ß\r\n\r\nGrüße, ƒ\r\n".encode()
    removed = mime.scan(legacy_display.remove(made.section.octets))
    assert mime.content(removed, octets_max=100) == "Grüße, ƒ\r\n".encode()


MARKS = ['hp-legacy-display="1"', "hp-legacy-display*=us-ascii''1", "HP-Legacy-Display*0=1"]


@pytest.mark.parametrize("mark", MARKS)
@pytest.mark.parametrize("has_display", [False, True])
def test_marks_that_were_there_before_the_encryption_take_nothing_away(
    mark: str, has_display: bool
) -> None:
    head = f'Content-Type: text/plain; boundary="a\x01"; {mark}\r\n\r\n'
    leaf = f"{head}Price: 5\r\n\r\nText\r\n".encode()
    multipart = b"Content-Type: multipart/mixed; boundary=m\r\n\r\n--m\r\n%b--m\r\n%b--m--\r\n"
    for entity in (leaf, multipart % (leaf, leaf)):
        made = protected_payload(FIELDS, entity, is_encrypted=True, has_legacy_display=has_display)
        shown = read(made.entity).entity
        assert all(b"Price: 5" in one for one in texts(shown)) and texts(shown)
        assert b"legacy-display" not in shown.lower()
    plain = leaf.replace(b' boundary="a\x01";', b"")
    signed = protected_payload(FIELDS, plain, is_encrypted=False).entity
    assert b"Price: 5" in read(signed, is_encrypted=True).entity


def test_what_is_signed_inside_is_not_changed_by_taking_elements_away() -> None:
    part = b"Content-Type: text/plain; hp-legacy-display=1\r\n\r\nSubject: x\r\n\r\nText\r\n"
    for subtype in (b"signed", b"encrypted"):
        entity = b"Content-Type: multipart/%b; boundary=m\r\n\r\n--m\r\n%b--m--\r\n"
        entity %= (subtype, part)
        assert legacy_display.remove(entity) == legacy_display.unmarked(entity) == entity


def test_marks_in_what_is_not_encrypted_change_nothing() -> None:
    payload = (
        b'Subject: a\r\nContent-Type: text/plain; hp=clear; hp-legacy-display="1"\r\n\r\n'
        b"Subject: b\r\n\r\nText\r\n"
    )
    assert read(payload, is_encrypted=False).entity.endswith(b"\r\n\r\nSubject: b\r\n\r\nText\r\n")


# --- reading ---


def test_the_parameter_counts_on_the_root_only() -> None:
    payload = (
        b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n"
        b'Content-Type: text/plain; hp="clear"\r\nSubject: x\r\n\r\ny\r\n--b--'
    )
    assert read_protected(payload, read_section(b""), is_encrypted=False) is None
    assert (
        read_protected(
            b"Content-Type: text/plain; hp=other\r\n\r\n", read_section(b""), is_encrypted=False
        )
        is None
    )


def test_encryption_that_the_composer_did_not_mean_hides_nothing() -> None:
    payload = b"Subject: x\r\nContent-Type: text/plain; hp=clear\r\n\r\ny\r\n"
    (field,) = field_states(read(payload), is_encrypted=True, is_signed=True)
    assert field.state is FieldState.SIGNED_ONLY
    claimed = payload.replace(b"clear", b"cipher")
    (field,) = field_states(read(claimed), is_encrypted=False, is_signed=False)
    assert field.state is FieldState.UNPROTECTED
    (field,) = field_states(read(claimed), is_encrypted=True, is_signed=False)
    assert field.state is FieldState.ENCRYPTED_ONLY


def test_the_drafts_form_is_read_with_its_legacy_part_left_out() -> None:
    payload = (
        b"Subject: real\r\n"
        b'Content-Type: multipart/mixed; protected-headers="v1"; boundary=b\r\n\r\n'
        b'--b\r\nContent-Type: text/plain; protected-headers="v1"\r\n\r\nSubject: real\r\n'
        b"--b\r\nContent-Type: text/plain\r\n\r\nText\r\n--b--\r\n"
    )
    outside = b"Subject: ...\r\nFrom: a@b.example\r\n\r\n"
    found = read(payload, outside)
    assert found.scheme is HeaderScheme.DRAFT
    assert found.entity == b"Content-Type: text/plain\r\n\r\nText"
    (field,) = field_states(found, is_encrypted=True, is_signed=True)
    assert field.state is FieldState.SIGNED_AND_ENCRYPTED
    assert rendered_fields(read_section(outside), found, has_outer_from=False) == (
        b"From: a@b.example\r\n",
        b"Subject: real\r\n",
    )


@pytest.mark.parametrize(
    ("outer", "inner", "is_other"),
    [
        (b"Alice <A@B.example>", b"alice <a@b.EXAMPLE>", False),
        ("a@bücher.example".encode(), b"a@xn--bcher-kva.example", False),
        (b"mallory@evil.example", b"a@b.example", True),
        (b"a@b.example, c@d.example", b"a@b.example", True),
        (b"", b"a@b.example", True),
    ],
)
def test_another_author_inside_than_outside_is_noticed(
    outer: bytes, inner: bytes, is_other: bool
) -> None:
    payload = b"From: " + inner + b"\r\nContent-Type: text/plain; hp=clear\r\n\r\nx"
    outside = read_section(b"From: " + outer + b"\r\n\r\n")
    found = from_mismatch(outside, read(payload, is_encrypted=False))
    assert (found is not None) is is_other


def test_fields_shown_are_those_inside_and_what_the_way_added() -> None:
    outside = read_section(
        b"Received: by x\r\nList-Id: <l>\r\nX-Spam: no\r\n"
        b"Subject: [...]\r\nFrom: m@evil.example\r\n"
        b"Reply-To: m@evil.example\r\nTo: victim@b.example\r\nMIME-Version: 1.0\r\n\r\n"
    )
    found = read(
        b"From: a@b.example\r\nSubject: real\r\nContent-Type: text/plain; hp=cipher\r\n\r\nx"
    )
    inner = (b"From: a@b.example\r\n", b"Subject: real\r\n")
    added = (b"Received: by x\r\n", b"List-Id: <l>\r\n", b"X-Spam: no\r\n")
    assert rendered_fields(outside, found, has_outer_from=False) == (*added, *inner)
    assert rendered_fields(outside, found, has_outer_from=True) == (
        *added,
        b"From: m@evil.example\r\n",
        b"Subject: real\r\n",
    )


# --- properties ---

NAMES = st.sampled_from(["Subject", "From", "To", "Date", "Keywords", "X-A", "References"])
VALUES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=60
).filter(lambda text: text.strip())


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=6),
    st.sampled_from(list(HeaderPolicy)),
    st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read_again(
    pairs: list[tuple[str, str]], policy: HeaderPolicy, has_display: bool
) -> None:
    fields = [f"{name}: {value.strip()}\r\n".encode() for name, value in pairs]
    made = protected_payload(
        fields, MULTIPART, is_encrypted=True, hcp=policy.hcp, has_legacy_display=has_display
    )
    found = read(made.entity, join_message(made.outer, b"\r\n"))
    assert len(found.protected) == len(pairs)
    assert [one.key for one in found.outer] == [as_header(one).key for one in made.outer]
    assert texts(found.entity)[0] == b"Text"
    hidden = [h for h in found.protected if h.name == "Subject"]
    if policy is not HeaderPolicy.NO_CONFIDENTIALITY:
        assert all(h.value == b"[...]" for h in found.outer if h.name == "Subject")
        assert sum(h.name == "Subject" for h in found.outer) == len(hidden)


@given(st.binary(max_size=300), st.booleans())
def test_reading_never_raises(octets: bytes, is_encrypted: bool) -> None:
    for head in (b"", b"Content-Type: text/html; hp=cipher; hp-legacy-display=1\r\n\r\n<div "):
        found = read_protected(head + octets, read_section(octets), is_encrypted=is_encrypted)
        if found is not None:
            field_states(found, is_encrypted=is_encrypted, is_signed=True)
            from_mismatch(read_section(octets), found)
            rendered_fields(read_section(octets), found, has_outer_from=True)
