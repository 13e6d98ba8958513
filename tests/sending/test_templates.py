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
