"""Where the HTML names pictures, and which files those are."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from posthouse.sending.errors import MessageError
from posthouse.sending.inline import Reference, local_file, references, replace
from posthouse.sending.message import Message
from posthouse.sending.options import Options
from posthouse.sending.sources import gather
from tests.sending.making import leaves, letter_of, simple, tree

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.png", "b c.png", "d.gif"):
        (tmp_path / name).write_bytes(PNG + name.encode())
    return tmp_path


def urls(markup: str) -> list[str]:
    return [one.url for one in references(markup)]


async def html_of(markup: str, folder: Path) -> str:
    """The HTML as it goes out, its Content-IDs as names of files."""
    message = await gather(simple(html=markup, inline_files=folder), options=Options())
    html = message.html
    assert isinstance(html, str)
    for one in message.attachments:
        html = html.replace(one.cid, one.filename)
    return html


async def refused(message: Message) -> MessageError:
    with pytest.raises(MessageError) as caught:
        await gather(message, options=Options())
    return caught.value


@pytest.mark.parametrize(
    ("markup", "found"),
    [
        ('<img srcset="a.png, b.png 2x,c.png">', ["a.png", "b.png", "c.png"]),
        ("<img srcset='a.png 100w , ,b.png 2x,'>", ["a.png", "b.png"]),
        ('<img srcset=a.png src="b.png">', ["a.png", "b.png"]),
        ('<img srcset="data:image/png;base64,AA== 2x, a,b.png">', None),
        ("<picture><source srcset='a.png 2x' src=x></picture>", ["a.png"]),
        ("<audio><source src=a.mp3></audio>", []),
        ("<video poster=a.png src=film.mp4></video>", ["a.png"]),
        ("<video data-poster=a.png></video>", []),
        ("<tbody background=a.png><p background=b.png>", ["a.png"]),
        ('<p style="background:url(a.png)">', ["a.png"]),
        ("""<p style='background: URL( "a.png" ) red'>""", ["a.png"]),
        ('<p style="a:url(&quot;a.png&quot;),url(&#39;b&amp;c.png&#39;)">', ["a.png", "b&c.png"]),
        ("<p style=background:url('a.png')>", ["a.png"]),
        ("<p style=background:url(a.png)>", ["a.png"]),
        (r"<p style='background:url(a\20 b\)c.png)'>", ["a b)c.png"]),
        (r"<p style='background:url(\110000.png)'>", ["\ufffd.png"]),
        ("<p title='url(a.png)' data-style='b:url(a.png)'>url(a.png)", []),
        ("<style>p{a:url(a.png)}q{a:url('b c.png')}</style>", ["a.png", "b c.png"]),
        ("<style>/* url(a.png) */ p::after{content:'url(b.png)'} x{a:url( c.png )", ["c.png"]),
        ("<style>p{a:url('a.png}\nq{b:url(b.png)}</style><img src=c.png>", ["b.png", "c.png"]),
        ("<style>@font-face{src:url(f.woff2)} @import url(a.css);</style>", []),
        ("<style>@font-face{src:url(file:///f.woff2)}</style>", ["file:///f.woff2"]),
        ("<style>p{a:my-url(a.png)}</style>", []),
        ("<script>x='url(a.png)'</script><!-- <p style='a:url(a.png)'> -->", []),
    ],
)
def test_pictures_are_found_where_readers_show_them(markup: str, found: list[str] | None) -> None:
    if found is None:
        found = ["data:image/png;base64,AA==", "a,b.png"]
    assert urls(markup) == found
    new = dict.fromkeys(references(markup), "cid:x@inline")
    assert urls(replace(markup, new)) == ["cid:x@inline"] * len(found)


async def test_pictures_of_styles_and_sizes_go_into_the_message(folder: Path) -> None:
    markup = (
        '<body style="background:url(&quot;b%20c.png&quot;)"><img srcset="a.png 2x" src="a.png">'
        "<style>p{background:url( 'd.gif' )}</style><video poster=a.png></video>"
        "<p style='background:url(https://x.example/a.png)'>"
    )
    assert await html_of(markup, folder) == (
        '<body style="background:url(&quot;cid:b c.png&quot;)">'
        '<img srcset="cid:a.png 2x" src="cid:a.png">'
        "<style>p{background:url( 'cid:d.gif' )}</style><video poster=cid:a.png></video>"
        "<p style='background:url(https://x.example/a.png)'>"
    )


@pytest.mark.parametrize("form", ["file://{}", "FILE://localhost{}", "file:{}", "{}"])
@pytest.mark.parametrize(
    "markup", ["<img src='{}'>", "<img srcset='{} 2x'>", "<p style='background:url({})'>"]
)
async def test_file_urls_are_paths(folder: Path, markup: str, form: str) -> None:
    url = form.format(folder / "b%20c.png")
    message = await gather(simple(html=markup.format(url), inline_files=folder), options=Options())
    letter = letter_of(message)
    assert tree(letter) == "alternative(text/plain related(text/html image/png))"
    _, html, picture = leaves(letter)
    assert picture.content == PNG + b"b c.png" and picture.file_name == "b c.png"
    assert str(folder).encode() not in html.content


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/logo.png", "leads out"),
        ("file:../a.png", "leads out"),
        ("file:///etc/passwd", "no picture"),
        ("file://fileserver/share/a.png", "another host"),
        ("file:////fileserver/share/a.png", "another host"),
        ("%5C%5Cfileserver/a.png", "another host"),
        ("file:missing.png", "no file"),
        ("file:", "no picture"),
        ("file:a%00.png", "no path"),
        (r"C:\Users\ada\a.png", "no file"),
    ],
)
async def test_no_local_path_is_shown_to_strangers(folder: Path, url: str, words: str) -> None:
    for markup in (f"<img src='{url}'>", f"<video poster='{url}'></video>"):
        error = await refused(simple(html=markup, inline_files=folder))
        assert words in error.text and error.field == "inline_files"
    if url.startswith("file:"):
        error = await refused(
            simple(html=f"<style>p{{a:url('{url}')}}</style>", inline_files=folder)
        )
        assert words in error.text and error.field == "inline_files"


async def test_file_urls_are_not_read_where_files_are_not(folder: Path) -> None:
    message = simple(html=f"<img src='file://{folder}/a.png'>", inline_files=folder)
    with pytest.raises(MessageError, match="files are not read here"):
        await gather(message, options=Options(may_read_files=False))


async def test_urls_of_elsewhere_and_fonts_stay(folder: Path) -> None:
    markup = (
        "<img src='https://x.example/a.png' srcset='//x.example/a.png 2x, cid:z 3x'>"
        "<p style='fill:url(#gradient)'><style>@font-face{src:url(f.woff2)}</style>"
    )
    message = simple(html=markup, inline_files=folder)
    assert await gather(message, options=Options()) == message


def test_a_path_is_no_url() -> None:
    assert Reference(0, 0, "C:/a.png").is_local and Reference(0, 0, "file:a.png").is_local
    for url in ("", "#a", "//x", r"\\x", "cid:x", "data:,x", "https://x"):
        assert not Reference(0, 0, url).is_local


def test_the_folder_may_be_reached_by_a_link(folder: Path, tmp_path_factory) -> None:
    link = tmp_path_factory.mktemp("links") / "link"
    link.symlink_to(folder)
    assert local_file(link, f"file://{link}/a.png") == (folder / "a.png").resolve()


@given(st.text(alphabet=st.sampled_from("<>/*\\\"'()=, \n&;#39quot-srcetylimgu"), max_size=200))
def test_a_reference_is_where_it_says_in_any_markup(noise: str) -> None:
    markup = f"<img srcset='{noise}' style='{noise}'><style>{noise}</style>{noise}"
    at = 0
    for one in references(markup):
        assert at <= one.start < one.end <= len(markup)
        at = one.end


@pytest.mark.timed
@pytest.mark.parametrize(
    "piece",
    [
        "url(",
        "url('",
        'url("',
        "url('url(\"",
        "url(&quot;",
        "url(&quot;url(&apos;url(&#39;url(&#34;",
        "url(   ",
        "url(a\\",
        "/*",
        "/* url('*",
        "'",
        '\\"',
        "<style>",
        "<style>url(",
        "<p style='url(",
        '<p style="',
        "<img srcset='a, ",
        "<img srcset=' ,",
        "<img srcset=",
    ],
)
def test_the_time_of_any_markup_grows_with_its_size_and_no_faster(piece: str) -> None:
    for head in ("", "<style>", "<p style='", '<p style="', "<img srcset='"):
        for tail in ("", "</style>", "'>", '">'):
            markup = f"{head}{piece * (200_000 // len(piece))}{tail}"
            began = time.perf_counter()
            for _ in references(markup):
                pass
            assert time.perf_counter() - began < 1.5, (head, tail)


def test_what_changes_is_the_urls_alone() -> None:
    markup = "<img srcset='a.png 2x, b.png' src=a.png><p style='x:url( \"a.png\" )'>"
    new = dict.fromkeys(references(markup), "cid:0")
    assert replace(markup, new) == re.sub(r"[ab]\.png", "cid:0", markup)
