"""Messages of templates: all parts at once, nothing missing in silence."""

from __future__ import annotations

import sys
from pathlib import Path

import jinja2
import pytest

from posthouse.sending.errors import MessageError
from posthouse.sending.templates import Rendered, Templates
from tests.sending.making import field, leaves, letter_of, simple


@pytest.fixture
def templates(tmp_path: Path) -> Templates:
    for name, text in {
        "welcome.subject.txt": "Hello {{ name }}\n",
        "welcome.txt": "Dear {{ name }},\n{% for thing in things %}\n- {{ thing }}\n{% endfor %}\n",
        "welcome.html": "{% extends 'base.html' %}{% block body %}<p>{{ name }}</p>{% endblock %}",
        "base.html": "<html>{% block body %}{% endblock %}</html>",
        "plain.txt": "only text",
        "broken.txt": "{% if %}",
        "lost.html": "{% include 'nothing.html' %}",
        "sly.txt": "{{ name.__class__.__mro__ }}",
        "inner.txt": "{{ user.nickname }}",
        "subject.subject.txt": "alone",
    }.items():
        (tmp_path / name).write_text(text, "utf-8")
    return Templates(tmp_path)


def test_subject_text_and_html_are_made_together(templates: Templates) -> None:
    made = templates.render("welcome", name="Ada & <Co>", things=["tea", "cake"])
    assert made == Rendered(
        subject="Hello Ada & <Co>",
        text="Dear Ada & <Co>,\n- tea\n- cake\n",
        html="<html><p>Ada &amp; &lt;Co&gt;</p></html>",
    )
    letter = letter_of(made.into(simple(text=None)))
    assert field(letter, "subject") == "Hello Ada & <Co>"
    assert [one.media_type for one in leaves(letter)] == ["text/plain", "text/html"]


def test_parts_without_a_template_stay_as_they_are(templates: Templates) -> None:
    made = templates.render("plain")
    assert made == Rendered(text="only text")
    assert made.into(simple(subject="kept")).subject == "kept"


def test_a_value_with_line_ends_adds_no_field(templates: Templates) -> None:  # H66
    made = templates.render("welcome", name="x\r\nBcc: evil@evil.example", things=[])
    with pytest.raises(MessageError) as caught:
        letter_of(made.into(simple()))
    assert caught.value.field == "subject"


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        ("welcome", "welcome.subject.txt", "'name' is undefined"),
        ("broken", "broken.txt", "line 1"),
        ("lost", "lost.html", "nothing.html"),
        ("sly", "sly.txt", "unsafe"),
        ("missing", "missing", "no template missing.txt or missing.html"),
        ("subject", "subject", "no template"),
        ("../welcome", "../welcome", "no template"),
    ],
)
def test_what_is_wrong_with_a_template_is_named(
    templates: Templates, name: str, file: str, words: str
) -> None:
    values = {"name": "x"} if name == "sly" else {}
    with pytest.raises(MessageError, match=words) as caught:
        templates.render(name, **values)
    assert caught.value.field == file and file in caught.value.text


def test_a_missing_attribute_is_named_too(templates: Templates) -> None:
    with pytest.raises(MessageError, match="nickname"):
        templates.render("inner", user={"name": "x"})


class Sour:
    """A value of somebody's that cannot be shown."""

    def __str__(self) -> str:
        raise OSError("the database is gone")


@pytest.mark.parametrize(
    ("name", "file", "words"),
    [
        ("sum", "sum.txt", "sum.txt: line 3: TypeError: unsupported operand"),
        ("share", "share.txt", "share.txt: line 1: ZeroDivisionError: "),
        ("sour", "sour.txt", "sour.txt: line 1: OSError: the database is gone"),
        ("around", "parts/sum.txt", "parts/sum.txt: line 2: TypeError"),
        ("child", "child.html", "child.html: line 2: TypeError"),
        ("deep", "deep.txt", "deep.txt: line 1: RecursionError"),
    ],
)
def test_what_an_expression_raises_is_told_with_its_file_and_line(
    tmp_path: Path, name: str, file: str, words: str
) -> None:
    (tmp_path / "parts").mkdir()
    for path, text in {
        "sum.txt": "Dear\n\n{{ 1 + name }}\n",
        "share.txt": "{{ 1 // (name|length - 3) }}",
        "sour.txt": "{{ sour }}",
        "around.txt": "\n\n\n{% include 'parts/sum.txt' %}",
        "parts/sum.txt": "\n{{ 1 + name }}",
        "child.html": "{% extends 'base.html' %}\n{% block body %}{{ 1 + name }}{% endblock %}",
        "base.html": "\n\n\n{% block body %}{% endblock %}",
        "deep.txt": "{% macro down() %}{{ down() }}{% endmacro %}{{ down() }}",
    }.items():
        (tmp_path / path).write_text(text)
    with pytest.raises(MessageError) as caught:
        Templates(tmp_path).render(name, name="Ada", sour=Sour())
    assert f"template {words}" in caught.value.text and caught.value.field == file
    assert "mend this expression" in caught.value.hint
    assert caught.value.__cause__ is not None  # with its own traceback, for whoever programs it


def test_lines_are_told_where_a_loader_has_no_files_too() -> None:
    loader = jinja2.DictLoader({"a.txt": "\n{{ 1 + x }}", "b.txt": "{% include 'a.txt' %}"})
    with pytest.raises(MessageError, match=r"template a\.txt: line 2: TypeError"):
        Templates(loader).render("a", x="y")
    with pytest.raises(MessageError, match=r"template b\.txt: TypeError"):
        Templates(loader).render("b", x="y")


@pytest.mark.parametrize("is_loader", [False, True])
def test_a_file_that_is_no_utf8_is_named_with_its_line(tmp_path: Path, is_loader: bool) -> None:
    (tmp_path / "hello.txt").write_text("{% include 'name.txt' %}")
    (tmp_path / "name.txt").write_bytes("a\nMüller\n".encode("latin-1"))
    (tmp_path / "wide.txt").write_bytes("Müller\n".encode("utf-16"))
    templates = Templates(jinja2.FileSystemLoader(tmp_path) if is_loader else tmp_path)
    for name, place in (("name", "name.txt: line 2"), ("hello", "name.txt: line 2"), ("wide", "")):
        with pytest.raises(MessageError) as caught:
            templates.render(name)
        assert f"{place}: " in caught.value.text and "is not UTF-8 text" in caught.value.text
        assert caught.value.hint == "save it as UTF-8"


def test_the_files_of_a_name_are_all_that_its_text_comes_from(
    templates: Templates, tmp_path: Path
) -> None:
    (tmp_path / "loop.txt").write_text(
        "{% include ['gone.txt', 'plain.txt'] %}{% include 'loop.txt' %}"
        "{% import 'inner.txt' as x %}{% include 'a' ~ x %}"
    )
    assert list(templates.files("loop")) == ["loop.txt", "inner.txt", "plain.txt"]
    assert set(templates.files("welcome")) == {
        "welcome.subject.txt", "welcome.txt", "welcome.html", "base.html"
    }  # fmt: skip
    assert templates.files("missing") == {}
    (tmp_path / "base.html").write_bytes(b"\n\xff")
    with pytest.raises(MessageError, match=r"base\.html: line 2: this is not UTF-8 text"):
        templates.files("welcome")
    with pytest.raises(MessageError, match=r"broken\.txt: line 1"):
        templates.files("broken")


def test_a_file_that_may_not_be_read_is_named(
    templates: Templates, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("jinja2.FileSystemLoader.get_source", refuse)
    with pytest.raises(MessageError, match=r"plain\.subject\.txt: it cannot be read: Permission"):
        templates.render("plain")


def test_the_mark_some_editors_put_in_front_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "hello.txt").write_text("Hello", "utf-8-sig")
    assert Templates(tmp_path).render("hello") == Rendered(text="Hello")


def test_loaders_of_jinja2_are_taken(tmp_path: Path) -> None:
    loader = jinja2.DictLoader({"a.html": "<b>{{ x }}</b>"})
    assert Templates(loader).render("a", x="<") == Rendered(html="<b>&lt;</b>")
    with pytest.raises(MessageError, match="no folder"):
        Templates(tmp_path / "nowhere")


def test_without_jinja2_the_error_says_what_to_install(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    with pytest.raises(MessageError) as caught:
        Templates(tmp_path)
    assert "pip install posthouse[templates]" in str(caught.value)
