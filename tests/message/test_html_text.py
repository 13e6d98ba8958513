"""Plain text made of HTML: readable, and linear in what it is given."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.message.html_text import to_text


@pytest.mark.parametrize(
    ("markup", "wanted"),
    [
        ("", ""),
        ("  \n ", ""),
        ("a  b\n c", "a b c\n"),
        ("<p>One</p><p>Two</p>", "One\n\nTwo\n"),
        ("One<br>Two<br/>Three", "One\nTwo\nThree\n"),
        ("a<br><br>b", "a\n\nb\n"),
        ("<div>One</div><div>Two</div>", "One\nTwo\n"),
        ("<h1>Title</h1>text", "Title\n\ntext\n"),
        ("<b>bo</b><i>ld</i> &amp; &lt;x&gt; &eacute;", "bold & <x> é\n"),
        ("5&nbsp;&nbsp;kg", "5  kg\n"),
        ("3 < 4 > 2", "3 < 4 > 2\n"),
        ('<a href="https://x.example/?a=1&amp;b=2">see</a>.', "see (https://x.example/?a=1&b=2).\n"),
        ('<a href="https://x.example/">https://x.example/</a>', "https://x.example/\n"),
        ('<a href="https://x.example/">https://x.example</a>', "https://x.example\n"),
        ('<a href="mailto:a@x.example">a@x.example</a>', "a@x.example\n"),
        ('<a href="mailto:a@x.example">Ada</a>', "Ada (a@x.example)\n"),
        ('<a href="#top">up</a> <a href="javascript:x()">js</a> <a>none</a>', "up js none\n"),
        ("<a href='https://x.example/'><img src=x></a>", "https://x.example/\n"),
        ("<a href=https://x.example><img alt=Logo src=x></a>", "Logo (https://x.example)\n"),
        ("<a href='https://x.example/'>a<a href='https://y.example/'>b</a>",
         "a (https://x.example/) b (https://y.example/)\n"),
        ("<ul><li>a<li>b</ul>c", "- a\n- b\n\nc\n"),
        ("<ol><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ol>",
         "1. a\n2. b\n  - c\n3. d\n"),
        ("<ul><li><p>a</p><p>b</p></li></ul>", "- a\n\n  b\n"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><th>c</th></tr></table>", "a b\nc\n"),
        ("x<blockquote>q<p>r</blockquote>y", "x\n\n> q\n>\n> r\n\ny\n"),
        ("<pre>a  b\n c</pre>d", "a  b\n c\n\nd\n"),
        ("a<hr>b", f"a\n\n{'-' * 40}\n\nb\n"),
        ("<script>x</script><style>y</style><head><title>t</title></head>z", "z\n"),
        ("a<!-- <p>x</p> -->b", "ab\n"),
        ("a<!--", "a\n"),
        ("<svg><text>x</text></svg>a<svg />b", "ab\n"),
        ("<div style='display:none'>pre<div>x</div>view</div>a", "a\n"),
        ('<p title="a > b">c</p>', "c\n"),
        ("<P>a</P><BR>b", "a\n\n\nb\n"),
        ("a" + "<br>" * 9 + "b", "a\n\n\nb\n"),
        ("a\u200bb\u00adc", "abc\n"),
        ("<!DOCTYPE html><html><body>a</body></html>", "a\n"),
        ("<?xml version='1.0'?>a", "a\n"),
        ("</p></ul></blockquote></pre></a>a", "a\n"),
    ],
)  # fmt: skip
def test_html_is_read_as_a_person_would(markup: str, wanted: str) -> None:
    assert to_text(markup) == wanted


@pytest.mark.timed
@pytest.mark.parametrize(
    "piece",
    [
        *('<a "', "<!--", "<script>", "<blockquote>", "<a href='x'>", "<li>", "<", "&#", "<ul>x"),
        *(
            "<div style='display:none'>",
            "<a '\"",
            "<td> ",
            "<b 1>x",
            "<pre>\n",
            "<svg",
            "<p",
            "</a",
        ),
        "<img alt=x>",
    ],
)
def test_hostile_html_takes_linear_time(piece: str) -> None:  # H37, H38
    began = time.perf_counter()
    to_text(piece * (500_000 // len(piece)))
    assert time.perf_counter() - began < 10


@given(st.text(max_size=300))
def test_any_text_is_read_without_error(markup: str) -> None:
    text = to_text(markup)
    assert text == "" or text.endswith("\n")
    assert "\n\n\n\n" not in text
