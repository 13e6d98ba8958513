"""`posthouse send --recipients`: a table of people, templates, a dry run, and going on later."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from posthouse.cli.output import ExitCode
from posthouse.cli.send_journal import Journal
from posthouse.cli.send_summary import Tally, end_of, tell
from posthouse.cli.send_table import Row
from posthouse.message import read
from posthouse.mimesec.smime.make import make_identity
from posthouse.sending import Receipt, Rejected, Sent
from posthouse.testing import MailServer
from tests.sending.bad_server import DROP, SILENCE, BadServer

from .conftest import Cli


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "people.csv").write_text(
        "name,Email,city\nBob,bob@example.test,Rome\nEve,eve@example.test,Bath\n", encoding="utf-8"
    )
    (tmp_path / "hello.subject.txt").write_text("Hello {{ name }}\n")
    (tmp_path / "hello.txt").write_text("How is {{ city }}? It is {{ season }}.\n")
    (tmp_path / "hello.html").write_text("<p>How is <b>{{ city }}</b>?</p>\n")
    return tmp_path


def arguments(folder: Path, server: MailServer | None = None, *more: str) -> tuple[str, ...]:
    where: tuple[str, ...] = ()
    if server is not None:
        where = ("--server", f"127.0.0.1:{server.address('mx')[1]}", "--tls", "none")
    return (
        *("send", "--from", "shop@example.test", "--recipients", str(folder / "people.csv")),
        *where,
        *more,
    )


def templates(folder: Path) -> tuple[str, ...]:
    return (
        *("--template", "hello", "--template-folder", str(folder)),
        *("--data", "season=spring"),
    )


def test_each_row_gets_a_letter_of_its_own(folder: Path, mail_server: MailServer, cli: Cli) -> None:
    code, out, err = cli(*arguments(folder, mail_server, *templates(folder)))
    assert (code, out) == (ExitCode.OK, "2 accepted, 0 failed\n"), err
    (letter,) = mail_server.inbox("bob@example.test")
    assert letter.message.subject == "Hello Bob"
    assert letter.message.text == "How is Rome? It is spring.\n"
    assert "<b>Rome</b>" in letter.message.html
    assert [named.address for named in letter.message.to] == ["bob@example.test"]
    assert len(mail_server.inbox("eve@example.test")) == 1


def test_a_dry_run_writes_files_and_sends_nothing(folder: Path, cli: Cli) -> None:
    out_folder = folder / "out"
    command = (*arguments(folder, None, *templates(folder)), "--dry-run", str(out_folder))
    code, out, err = cli(*command)
    assert (code, out, err) == (ExitCode.OK, f"2 written to {out_folder}, 0 failed\n", "")
    subjects = [read(path.read_bytes()).subject for path in sorted(out_folder.glob("*.eml"))]
    assert sorted(subjects) == ["Hello Bob", "Hello Eve"]
    told = json.loads(cli(*command, "--json")[1])
    assert (told["accepted"], told["written"], told["folder"]) == (0, 2, str(out_folder))


def test_a_subject_of_ones_own_goes_before_the_templates(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    rest = (*templates(folder), "--subject", "Tea for {{ name }}")
    code, _, err = cli(*arguments(folder, mail_server, *rest))
    assert code == ExitCode.OK
    assert "hint: --subject has {{ name }}, which goes out as it stands" in err
    assert mail_server.inbox("bob@example.test")[0].message.subject == "Tea for {{ name }}"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (None, "hint: the letters have no subject: there is no --subject and no hello.subject.txt"),
        ("{% if city == 'Rome' %}Tea{% endif %}", "hint: letters without a subject: line 3"),
    ],
)
def test_letters_without_a_subject_are_noticed(
    folder: Path, mail_server: MailServer, cli: Cli, template: str | None, words: str
) -> None:
    if template is None:
        (folder / "hello.subject.txt").unlink()
    else:
        (folder / "hello.subject.txt").write_text(template)
    code, out, err = cli(*arguments(folder, mail_server, *templates(folder)))
    assert (code, out) == (ExitCode.OK, "2 accepted, 0 failed\n")
    assert err.splitlines() == [words]


def test_a_line_break_that_a_cell_brings_into_the_subject_is_found_before_anything_is_sent(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    with (folder / "people.csv").open("a") as table:
        table.write('"Joe\nBloggs",joe@example.test,"Ulm"\nAda,ada@example.test,Ulm\n')
    code, _, err = cli(*arguments(folder, mail_server, *templates(folder)))
    assert code == ExitCode.FAILED and mail_server.inbox("bob@example.test") == []
    assert err.splitlines() == [
        "error: nothing was sent:",
        (
            "error: line 4: template hello.subject.txt: a line break cannot stand in a field, and"
            " there is one in the column 'name'"
        ),
        "hint: mend the table, or leave that out of the subject",
    ]
    assert cli(*arguments(folder, mail_server, *templates(folder), "--subject", "Tea"))[0] == 0


def test_columns_without_a_name_are_passed_over(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    """Spreadsheets write such at the end."""
    (folder / "people.csv").write_text("name,email,city,,\nBob,bob@example.test,Rome,,\n")
    code, out, err = cli(*arguments(folder, mail_server, *templates(folder)))
    assert (code, out) == (ExitCode.OK, "1 accepted, 0 failed\n"), err


def test_a_dry_run_keeps_no_journal_as_the_real_run_would_then_send_to_nobody(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    rest = (*templates(folder), "--resume", str(folder / "journal"))
    code, out, err = cli(*arguments(folder, None, *rest, "--dry-run", str(folder / "out")))
    assert (code, out) == (ExitCode.USAGE, "")
    assert "--dry-run sends nothing, so that nothing is to be kept by --resume" in err
    assert not (folder / "journal").exists() and not (folder / "out").exists()
    code, out, err = cli(*arguments(folder, mail_server, *rest))
    assert (code, out) == (ExitCode.OK, "2 accepted, 0 failed\n"), err


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ("email\nbob@example.test\nnobody\nx y@z\n", "line 3: 'nobody' has no @ and so is no"),
        ("email,a\nbob@example.test,x\n ,x\n", "line 3: there is no address"),
        ('email\n"a@b.test, c@d.test"\n', "line 2: 'a@b.test, c@d.test' is more than one address"),
        ("email\na@b.test; E <c@d.test>\n", "line 2: 'a@b.test; E <c@d.test>' is more than one"),
        ('email\n"Us: a@b.test, c@d.test;"\n', "is more than one address"),
        ('email\n"Bob\nBcc: x@y.test <a@b.test>"\n', "line 2: a line break cannot stand in a"),
        ("email,city\nbob@example.test\n", "line 2: more or fewer cells"),
        ("email\na@b.test,too,many\n", "line 2: more or fewer cells"),
        ("name\nBob\n", "no column for the addresses"),
        ("email\n", "no rows"),
        ("", "no column"),
        ('email,x\n\na@b.test,"1\n2"\nc@d.test,"\n', 'line 5: a quotation mark (") opens a cell'),
        ('email,x\na@b.test,"1"2\n', 'line 2: something stands behind the quotation mark (")'),
        ('email,x\n\na@b.test,"1\n2\n3"\nnobody,y\n', "line 6: 'nobody' has no @"),
        ("email,city, city\na@b.test,x,y\n", "has more than one column 'city'"),
        ("Email,name,email\na@b.test,x,c@d.test\n", "has more than one column 'email'"),
    ],
)
def test_a_table_that_is_wrong_is_told_by_its_lines_before_anything_is_sent(
    folder: Path, mail_server: MailServer, cli: Cli, table: str, words: str
) -> None:
    (folder / "people.csv").write_text(table)
    code, _, err = cli(*arguments(folder, mail_server, "--body", "x"))
    assert code == ExitCode.FAILED and words in err
    assert mail_server.inbox("bob@example.test") == []


def test_a_cell_may_have_a_name_with_the_address_that_the_journal_does_not_know(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    rows = ("email", "eve@Example.TEST", "joe@example.test")
    (folder / "people.csv").write_text("\n".join(rows))
    rest = ("--body", "y", "--resume", str(folder / "journal"))
    assert cli(*arguments(folder, mail_server, *rest))[0] == ExitCode.OK
    rows = ("email", "Eve X <eve@Example.TEST>", '"""Müller, Bob"" <bob@example.test>"')
    (folder / "people.csv").write_text("\n".join(rows), encoding="utf-8")
    code, out, err = cli(*arguments(folder, mail_server, *rest))
    assert (code, out) == (ExitCode.OK, "1 accepted, 0 failed, 1 were accepted before\n"), err
    (letter,) = mail_server.inbox("bob@example.test")
    (named,) = letter.message.to
    assert (named.name, named.address) == ("Müller, Bob", "bob@example.test")
    lines = (folder / "journal").read_text().splitlines()
    keys = [json.loads(line)["letter"] for line in lines[1:]]
    assert set(keys) == {"eve@Example.TEST", "joe@example.test", "bob@example.test"}


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_semicolons_and_tabs_stand_between_cells_too(
    folder: Path, mail_server: MailServer, cli: Cli, delimiter: str
) -> None:
    rows = (("city", "e-mail", "name"), ('"Rome, Italy"', "bob@example.test", "Bob"))
    (folder / "people.csv").write_text("\n".join(delimiter.join(row) for row in rows))
    code, out, err = cli(*arguments(folder, mail_server, *templates(folder)))
    assert (code, out) == (ExitCode.OK, "1 accepted, 0 failed\n"), err
    (letter,) = mail_server.inbox("bob@example.test")
    assert letter.message.subject == "Hello Bob"
    assert letter.message.text == "How is Rome, Italy? It is spring.\n"


def test_a_table_may_come_through_a_pipe(folder: Path, mail_server: MailServer, cli: Cli) -> None:
    (folder / "people.csv").unlink()
    os.mkfifo(folder / "people.csv")
    writer = threading.Thread(
        target=(folder / "people.csv").write_text, args=("name;email\nBob;bob@example.test\n",)
    )
    writer.start()
    code, out, err = cli(*arguments(folder, mail_server, "--body", "x"))
    writer.join()
    assert (code, out) == (ExitCode.OK, "1 accepted, 0 failed\n"), err


@pytest.mark.parametrize(
    ("octets", "words", "encoding"),
    [
        (b"email,name\n\na@b.test,M\xfcller\n", "line 3: the file is not UTF-8", "WINDOWS-1252"),
        (b"email,name\ra@b.test,M\xfcller\r", "line 2: the file is not UTF-8", "WINDOWS-1252"),
        ("email\na@b.test\n".encode("utf-16"), "line 1: the file is not UTF-8", "UTF-16"),
        ("email\na@b.test\n".encode("utf-16-le"), "line 1: the file is not UTF-8", "UTF-16"),
    ],
)
def test_a_table_in_another_encoding_is_told_with_the_way_to_convert_it(
    folder: Path, mail_server: MailServer, cli: Cli, octets: bytes, words: str, encoding: str
) -> None:
    (folder / "people.csv").write_bytes(octets)
    code, _, err = cli(*arguments(folder, mail_server, "--body", "x"))
    assert code == ExitCode.FAILED and words in err and "codec" not in err
    assert err.splitlines()[-1] == (
        f"hint: or convert it: iconv -f {encoding} -t UTF-8 {folder}/people.csv > utf-8.csv"
    )


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_lines_end_as_each_system_has_it(
    folder: Path, mail_server: MailServer, cli: Cli, end: str
) -> None:
    rows = ("\ufeffname,email,city", "Bob,bob@example.test,Rome", "Eve,eve@example.test,Bath", "")
    (folder / "people.csv").write_bytes(end.join(rows).encode())
    code, out, err = cli(*arguments(folder, mail_server, *templates(folder)))
    assert (code, out) == (ExitCode.OK, "2 accepted, 0 failed\n"), err


def test_a_template_that_fails_for_one_row_stops_all(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    (folder / "hello.txt").write_text("{% if city == 'Bath' %}{{ nothing }}{% endif %}x\n")
    code, _, err = cli(*arguments(folder, mail_server, *templates(folder)))
    assert code == ExitCode.FAILED
    assert "nothing was sent" in err and "line 3: template hello.txt" in err
    assert mail_server.inbox("bob@example.test") == []


def test_a_value_that_an_expression_cannot_take_is_told_with_its_row_and_no_bug(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    (folder / "people.csv").write_text("email,count\nbob@example.test,3\neve@example.test,0\n")
    (folder / "share.txt").write_text("Each gets:\n{{ 12 // count|int }}\n")
    rest = ("--template", "share", "--template-folder", str(folder))
    code, _, err = cli(*arguments(folder, mail_server, *rest))
    assert code == ExitCode.FAILED
    assert "line 3: template share.txt: line 2: ZeroDivisionError: " in err
    assert "hint: mend this expression, or the values it gets" in err and "bug" not in err
    (folder / "share.txt").write_bytes("Müller\n".encode("latin-1"))
    code, _, err = cli(*arguments(folder, mail_server, *rest))
    assert code == ExitCode.FAILED
    assert "error: template share.txt: line 1: this is not UTF-8 text\n" in err
    assert "hint: save it as UTF-8" in err
    assert mail_server.inbox("bob@example.test") == []


def test_what_is_wrong_with_the_template_itself_is_told_once(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    people = [f"p{number}@example.test" for number in range(30)]
    (folder / "people.csv").write_text("\n".join(["email", *people]))
    code, _, err = cli(*arguments(folder, mail_server, "--template", "gone"))
    assert code == ExitCode.FAILED
    assert err.count("there is no template gone.txt or gone.html in .") == 1
    assert "line" not in err and "hint: put one of them there, or name their folder with" in err
    assert "--template-folder" in err
    code, _, err = cli(*arguments(folder, mail_server, *templates(folder)))
    assert err.count("'name' is undefined") == 1 and "with --data, or as a column" in err


def test_the_same_mistake_in_several_rows_is_told_once_with_their_lines(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    (folder / "hello.txt").write_text("{% if city == 'Bath' %}{{ nothing }}{% endif %}x\n")
    with (folder / "people.csv").open("a") as table:
        table.write("Joe,joe@example.test,Bath\n")
    code, _, err = cli(*arguments(folder, mail_server, *templates(folder)))
    assert code == ExitCode.FAILED and "lines 3, 4: template hello.txt" in err


def test_a_second_run_goes_on_where_the_first_ended(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    journal = folder / "journal"
    rest = ("--subject", "x", "--body", "y", "--resume", str(journal))
    code, out, _ = cli(*arguments(folder, mail_server, *rest))
    assert out == "2 accepted, 0 failed\n"
    with (folder / "people.csv").open("a") as table:
        table.write("Joe,joe@example.test,Oslo\nBob,bob@example.test,Rome\n")
    code, out, _ = cli(*arguments(folder, mail_server, *rest))
    assert code == ExitCode.OK
    assert out == "2 accepted, 0 failed, 2 were accepted before\n"
    assert len(mail_server.inbox("joe@example.test")) == 1
    assert len(mail_server.inbox("bob@example.test")) == 2  # who stands twice gets two
    assert len(mail_server.inbox("eve@example.test")) == 1


def test_what_may_have_been_sent_is_left_out_and_named(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    journal = folder / "journal"
    journal.write_text('{"letter": "bob@example.test", "state": "begun"}\n{"letter": "eve@ex')
    rest = ("--body", "y", "--resume", str(journal))
    code, out, err = cli(*arguments(folder, mail_server, *rest))
    assert code == ExitCode.FAILED and "1 may have been sent or not" in err
    assert "line 2: bob@example.test may have got it" in err
    assert mail_server.inbox("bob@example.test") == []
    code, out, err = cli(*arguments(folder, mail_server, *rest, "--repeat-unknown"))
    assert (code, out) == (ExitCode.OK, "1 accepted, 0 failed, 1 were accepted before\n")
    assert len(mail_server.inbox("bob@example.test")) == 1


def test_ctrl_c_leaves_a_run_that_goes_on_without_a_doubt(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    people = [f"p{number}@example.test" for number in range(30)]
    (folder / "people.csv").write_text("\n".join(["email", *people]))
    journal = folder / "journal"
    rest = ("--body", "y", "--resume", str(journal))
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "posthouse"),
            *arguments(folder, mail_server, *rest, "--rate", "4"),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        mail_server.wait_for(people[3])
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED, err
    words = re.fullmatch(r"(\d+) accepted, 0 failed, (\d+) not begun\n", out)
    assert words is not None, out + err
    assert int(words[1]) + int(words[2]) == 30 and 4 <= int(words[1]) <= 12
    assert "stopping" in err and "--resume goes on" in err and "may have been sent" not in err
    code, out, _ = cli(*arguments(folder, mail_server, *rest))
    assert code == ExitCode.OK
    assert out == f"{words[2]} accepted, 0 failed, {words[1]} were accepted before\n"
    assert all(len(mail_server.inbox(one)) == 1 for one in people)


def test_a_run_that_is_killed_doubts_only_what_was_under_way(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    people = [f"p{number}@example.test" for number in range(30)]
    (folder / "people.csv").write_text("\n".join(["email", *people]))
    journal = folder / "journal"
    rest = ("--body", "y", "--resume", str(journal))
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "posthouse"),
            *arguments(folder, mail_server, *rest, "--rate", "4", "--connections", "2"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        mail_server.wait_for(people[3])
        process.kill()
    _, _, err = cli(*arguments(folder, mail_server, *rest))
    unsure = [one for one in people if f"{one} may have got it" in err]
    assert len(unsure) <= 4, err  # two in flight in each session
    cli(*arguments(folder, mail_server, *rest, "--repeat-unknown"))
    counts = {one: len(mail_server.inbox(one)) for one in people}
    assert min(counts.values()) == 1
    assert all(count == 1 or one in unsure for one, count in counts.items())


def test_a_journal_on_a_full_disk_stops_the_run(
    folder: Path, mail_server: MailServer, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(number: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("posthouse.cli.send_journal.os.fsync", full)
    (folder / "journal").touch()
    rest = ("--body", "y", "--resume", str(folder / "journal"))
    code, _, err = cli(*arguments(folder, mail_server, *rest))
    assert code == ExitCode.FAILED and "cannot be written: No space left" in err
    assert mail_server.inbox("bob@example.test") == []


@contextlib.contextmanager
def scripted_server(
    replies: Mapping[str, str | Sequence[str]], *, is_lmtp: bool = False
) -> Iterator[BadServer]:
    """On a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    server = BadServer(replies=replies, is_lmtp=is_lmtp)
    try:
        asyncio.run_coroutine_threadsafe(server.__aenter__(), loop).result()
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(server.__aexit__(None, None, None), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def rejected(recipient: str, *, may_have_been_sent: bool = False) -> Rejected:
    return Rejected(
        recipient=recipient,
        code=0,
        status="4.4.2",
        text="the line broke",
        is_transient=True,
        may_have_been_sent=may_have_been_sent,
    )


@pytest.mark.parametrize("is_unsure", [False, True])
def test_a_row_whose_reply_was_lost_is_in_doubt_though_others_have_the_letter(
    tmp_path: Path, is_unsure: bool
) -> None:
    people = ("bob@example.test", "archive@example.test", "zoe@example.test")
    lost = rejected(people[0], may_have_been_sent=is_unsure)
    receipt = Receipt(
        message_id="<1@example.test>",
        sender="shop@example.test",
        recipients=people,
        accepted=people[1:2],
        rejected=(lost, rejected(people[2])),
        server="mail.test:24",
    )
    end = end_of(Sent(index=0, receipt=receipt))
    with Journal(tmp_path / "journal") as journal:
        journal.end(people[0], end.state, message_id=end.message_id, error=end.error)
        assert journal.is_unknown(people[0]) is False  # of this run, which has written it only
    with Journal(tmp_path / "journal") as journal:
        assert journal.is_unknown(people[0]) is is_unsure
        assert not journal.is_accepted(people[0])
    tally = Tally([], skipped=0, login_hint="")
    tally.add(Row(line=2, address=people[0], values={}, key=people[0]), end)
    summary = tally.summary()
    assert (summary.accepted, summary.failed) == (0, 0 if is_unsure else 1)
    assert summary.unknown == (people[:1] if is_unsure else ())
    (failure,) = summary.failures
    assert ("look before you send it again" in failure["hint"]) is is_unsure
    assert [one["recipient"] for one in summary.missed] == [people[2]]
    code = tell(summary, has_journal=True, as_json=False)
    assert code == ExitCode.FAILED


def test_a_copy_for_others_that_was_not_taken_is_told_and_the_row_is_done(
    folder: Path, cli: Cli
) -> None:
    (folder / "people.csv").write_text("email\nbob@example.test\n")
    rest = ("--body", "y", "--bcc", "archive@example.test", "--resume", str(folder / "journal"))
    with scripted_server({"DOT": ["250 2.0.0 ok", DROP]}, is_lmtp=True) as server:
        code, out, err = cli(*arguments(folder), *rest, "--url", f"lmtp://127.0.0.1:{server.port}")
    assert code == ExitCode.FAILED
    told = out.splitlines()
    assert told[0].startswith("line 2: archive@example.test: the line to 127.0.0.1:")
    assert told[1] == "1 accepted, 0 failed, 1 missed of --cc and --bcc"
    assert "hint: it may have been taken or not: look before you send it again" in err
    code, out, _ = cli(*arguments(folder, server_gone()), *rest)
    assert out == "0 accepted, 0 failed, 1 were accepted before\n"


@pytest.mark.parametrize("has_journal", [True, False])
def test_a_second_ctrl_c_waits_for_nothing_and_names_what_was_under_way(
    folder: Path, has_journal: bool
) -> None:
    people = [f"p{number}@example.test" for number in range(9)]
    (folder / "people.csv").write_text("\n".join(["email", *people]))
    journal = folder / "journal"
    rest = ("--subject", "x", "--body", "y", "--connections", "1", "--json")
    with (
        scripted_server({"DOT": SILENCE}) as server,  # takes whole letters, and never says so
        subprocess.Popen(
            [
                *(sys.executable, "-m", "posthouse", *arguments(folder), *rest, "--tls", "none"),
                *("--server", f"127.0.0.1:{server.port}", "--data-timeout", "600"),
                *(("--resume", str(journal)) if has_journal else ()),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        ) as process,
    ):
        assert process.stderr is not None
        while "DATA" not in server.commands:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        assert "stopping" in process.stderr.readline()
        time.sleep(0.5)  # two at one moment are one
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == ExitCode.INTERRUPTED, err
    told = json.loads(out)
    assert (told["accepted"], told["failed"], told["not_begun"]) == (0, 0, 8)
    assert told["unknown"] == people[:1]
    assert [one["line"] for one in told["failures"]] == ["2"]
    assert "1 may have been sent or not" in err
    assert ("--repeat-unknown with the same --resume" in err) is has_journal
    assert ("this run kept no journal" in err) is not has_journal


def test_two_runs_do_not_share_a_journal(folder: Path, mail_server: MailServer, cli: Cli) -> None:
    rest = ("--body", "y", "--resume", str(folder / "journal"))
    with Journal(folder / "journal"):
        code, _, err = cli(*arguments(folder, mail_server, *rest))
    assert code == ExitCode.FAILED and "in use by another run" in err
    assert mail_server.inbox("bob@example.test") == []
    code, _, err = cli(*arguments(folder, mail_server, *rest))
    assert code == ExitCode.OK, err


def mended(folder: Path) -> None:
    (folder / "hello.txt").write_text("How was {{ city }}?\n")


def with_another_base(folder: Path) -> None:
    (folder / "base.html").write_text("<b>{% block body %}{% endblock %}</b>")


def with_another_menu(folder: Path) -> None:
    (folder / "menu.txt").write_text("coffee")


@pytest.mark.parametrize(
    ("change", "more", "words"),
    [
        (None, ("--subject", "Other"), "--subject"),
        (None, ("--data", "season=autumn"), "--data"),
        (None, ("--reply-to", "joe@example.test"), "--reply-to"),
        (None, ("--from", "other@example.test"), "--from"),
        (None, ("--header", "X-A: b", "--priority", "high"), "--header, --priority"),
        (None, ("--return-path", "other@example.test"), "--return-path"),
        (mended, (), "hello.txt"),
        (with_another_base, (), "base.html"),
        (with_another_menu, (), "--attach"),
    ],
)
def test_a_journal_of_another_letter_is_refused_and_nothing_sent(
    folder: Path,
    mail_server: MailServer,
    cli: Cli,
    change: Callable[[Path], None] | None,
    more: tuple[str, ...],
    words: str,
) -> None:
    (folder / "hello.html").write_text("{% extends 'base.html' %}")
    (folder / "base.html").write_text("<p>{% block body %}{% endblock %}</p>")
    (folder / "menu.txt").write_text("tea")
    journal = folder / "journal"
    rest = (*templates(folder), "--attach", str(folder / "menu.txt"), "--resume", str(journal))
    code, _, err = cli(*arguments(folder, mail_server, *rest))
    assert code == ExitCode.OK, err
    kept = journal.read_bytes()
    if change is not None:
        change(folder)
    code, out, err = cli(*arguments(folder, mail_server, *rest, *more))
    assert (code, out) == (ExitCode.FAILED, "")
    assert f"{journal} was kept for another letter: not as before: {words}\n" in err
    assert "hint: name another file with --resume, or remove that one" in err
    assert journal.read_bytes() == kept and len(mail_server.inbox("bob@example.test")) == 1


def test_the_same_letter_goes_on_whatever_server_table_or_way_of_saying_it(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    (folder / "body").write_text("Tea?")
    journal = folder / "journal"
    rest = ("--resume", str(journal))
    gone = arguments(folder, server_gone(), "--body", "Tea?", *rest)
    assert cli(*gone)[0] == ExitCode.TEMPORARY
    code, out, err = cli(*arguments(folder, mail_server, "--body-file", "body", *rest))
    assert (code, out) == (ExitCode.OK, "2 accepted, 0 failed\n"), err
    first, *others = map(json.loads, journal.read_text().splitlines())
    assert set(first["digests"]) == {"--from", "--body"}
    assert all(set(one) >= {"letter", "state"} for one in others)


def test_a_journal_that_nobody_has_a_letter_by_takes_the_mended_one(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    rest = ("--resume", str(folder / "journal"), "--body")
    assert cli(*arguments(folder, server_gone(), *rest, "x"))[0] == ExitCode.TEMPORARY
    code, out, err = cli(*arguments(folder, mail_server, *rest, "y"))
    assert (code, out) == (ExitCode.OK, "2 accepted, 0 failed\n"), err
    code, _, err = cli(*arguments(folder, mail_server, *rest, "x"))
    assert code == ExitCode.FAILED and "not as before: --body" in err


def test_a_letter_that_could_not_be_made_leaves_no_mark_in_the_journal(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    rest = (*templates(folder)[:4], "--resume", str(folder / "journal"))
    code, _, err = cli(*arguments(folder, mail_server, *rest))
    assert code == ExitCode.FAILED and "'season' is undefined" in err
    code, out, err = cli(*arguments(folder, mail_server, *rest, "--data", "season=spring"))
    assert (code, out) == (ExitCode.OK, "2 accepted, 0 failed\n"), err


def test_a_journal_without_digests_is_read_as_it_was(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    journal = folder / "journal"
    journal.write_text('{"letter": "bob@example.test", "state": "accepted", "message_id": "<1>"}\n')
    for body, said in (
        ("y", "1 accepted, 0 failed, 1 were"),
        ("z", "0 accepted, 0 failed, 2 were"),
    ):
        code, out, err = cli(
            *arguments(folder, mail_server, "--body", body, "--resume", str(journal))
        )
        assert (code, out) == (ExitCode.OK, f"{said} accepted before\n"), err
    assert "digests" not in journal.read_text()


@pytest.mark.parametrize("journal", ["/dev/full", "/"])
def test_only_a_file_can_be_a_journal(
    folder: Path, mail_server: MailServer, cli: Cli, journal: str
) -> None:
    code, _, err = cli(*arguments(folder, mail_server, "--body", "y", "--resume", journal))
    assert code in (ExitCode.FAILED, ExitCode.USAGE) and ("no file" in err or "directory" in err)


def test_another_file_is_no_journal(folder: Path, mail_server: MailServer, cli: Cli) -> None:
    code, _, err = cli(
        *arguments(folder, mail_server, "--body", "y", "--resume", str(folder / "people.csv"))
    )
    assert code == ExitCode.FAILED and "line 1: this is no journal" in err


def test_failures_are_told_by_line_and_as_json(folder: Path, cli: Cli) -> None:
    accounts = {"bob@example.test": "sesame-street-7"}
    with MailServer.ephemeral(accounts, takes_anything=False) as server:
        code, out, _ = cli(*arguments(folder, server, "--body", "x", "--json"))
    assert code == ExitCode.FAILED
    told = json.loads(out)
    assert (told["accepted"], told["failed"]) == (1, 1)
    (failure,) = told["failures"]
    assert failure["line"] == "3" and failure["recipient"] == "eve@example.test"
    code, out, _ = cli(*arguments(folder, server_gone(), "--body", "x"))
    assert code == ExitCode.TEMPORARY and "0 accepted, 2 failed" in out


def server_gone() -> MailServer:
    """A server that nobody reaches any more."""

    class Gone(MailServer):
        def address(self, service: str) -> tuple[str, int]:
            return "127.0.0.1", 1

    return Gone({}, takes_anything=True)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ((), "say what to send"),
        (("--template", "hello", "--body", "x"), "leave out --body"),
        (("--body", "x", "--data", "nonsense"), "--data takes NAME=VALUE"),
        (("--body", "x", "--header", "To: y@b.test"), "--header To and Cc are for a single"),
        (("--body", "x", "--eml", "-"), "--eml is for a single message"),
        (("--body", "x", "--wait", "1"), "--wait is for a single message"),
        (("--body", "x", "--to", "a@b.test"), "--to, once or more often, or --recipients"),
        (("--body", "x", "--dkim", "key"), "--dkim takes DOMAIN:SELECTOR:FILE"),
        (("--template", "gone"), "there is no template"),
    ],
)
def test_options_that_do_not_go_together_are_told(
    folder: Path, mail_server: MailServer, cli: Cli, more: tuple[str, ...], words: str
) -> None:
    code, _, err = cli(*arguments(folder, mail_server, *more))
    assert code in (ExitCode.USAGE, ExitCode.FAILED) and words in err


def test_options_for_many_need_a_table(cli: Cli) -> None:
    code, _, err = cli(
        *("send", "--from", "a@b.test", "--to", "c@d.test", "--server", "127.0.0.1:1"),
        *("--resume", "journal"),
    )
    assert code == ExitCode.USAGE and "needs --recipients FILE" in err
    code, _, err = cli("send", "--from", "a@b.test", "--server", "127.0.0.1:1")
    assert code == ExitCode.USAGE and "--recipients" in err


def test_what_a_single_message_may_have_each_letter_may(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    (folder / "menu.txt").write_text("tea")
    code, _, err = cli(
        *arguments(folder, mail_server, "--html-body", "<p>x</p>", "--header", "X-Try: 1"),
        *("--bcc", "archive@example.test", "--attach", str(folder / "menu.txt"), "--quiet"),
        *("--return-path", "bounces@example.test"),
    )
    assert code == ExitCode.OK, err
    for address in ("bob@example.test", "eve@example.test"):
        (letter,) = mail_server.inbox(address)
        assert letter.sender == "bounces@example.test"
        assert letter.message.header("X-Try") == "1" and letter.message.header("To") == address
        assert [one.name for one in letter.message.attachments] == ["menu.txt"]
    assert len(mail_server.inbox("archive@example.test")) == 2


def test_a_wrong_password_is_explained_once(folder: Path, cli: Cli) -> None:
    with MailServer.ephemeral({"ada@example.test": "open-sesame-7"}) as server:
        code, out, err = cli(
            *("send", "--from", "ada@example.test", "--recipients", str(folder / "people.csv")),
            *("--server", f"localhost:{server.address('submission')[1]}", "--ca", server.ca),
            *("--user", "ada@example.test", "--password-stdin", "--body", "x"),
            stdin="wrong-sesame-7\n",
        )
    assert code == ExitCode.FAILED and "0 accepted, 2 failed" in out
    assert err.count("hint: try name and password where you read your mail; with a second") == 1
    assert "wrong-sesame" not in out + err


def test_the_table_is_looked_at_before_a_password_is_asked_for(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    (folder / "people.csv").write_text("email\nnobody\n")
    code, _, err = cli(*arguments(folder, mail_server, "--body", "x", "--user", "ada"))
    assert code == ExitCode.FAILED and "'nobody' has no @ and so is no address" in err
    assert err.splitlines()[-1].startswith("hint: write `Name <local@domain>`")


def test_nobody_in_the_table_gets_what_they_cannot_read(
    folder: Path, mail_server: MailServer, cli: Cli
) -> None:
    identity = make_identity(["bob@example.test"], at=datetime.now(UTC) - timedelta(days=1))
    (folder / "bob.crt").write_bytes(identity.certificates_pem())
    code, _, err = cli(
        *arguments(folder, mail_server, "--body", "x", "--encrypt-to", str(folder / "bob.crt"))
    )
    assert code == ExitCode.FAILED
    assert "line 3: no key is for eve@example.test" in err
    assert mail_server.inbox("bob@example.test") == []


def test_a_progress_bar_shows_on_a_terminal(folder: Path, mail_server: MailServer) -> None:
    """In a process whose stderr is a terminal; elsewhere nothing is drawn."""
    leader, follower = os.openpty()
    with subprocess.Popen(
        [*(sys.executable, "-m", "posthouse"), *arguments(folder, mail_server, "--body", "x")],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=follower,
        env={**os.environ, "TERM": "xterm"},
    ) as process:
        os.close(follower)
        shown = b""
        with contextlib.suppress(OSError):  # the other end is closed
            while octets := os.read(leader, 65_536):
                shown += octets
        os.close(leader)
        assert process.stdout is not None
        out = process.stdout.read()
    assert (process.returncode, out) == (ExitCode.OK, b"2 accepted, 0 failed\n"), shown
    assert b"sending" in shown and b"-> MAIL" not in shown


def test_whom_to_repeat_is_known_by_a_journal_only(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "to.csv").write_text("email\nbob@example.net\n")
    code, _, err = cli(
        *("send", "--recipients", "to.csv", "--body", "x", "--from", "ada@example.net"),
        *("--server", "127.0.0.1:1", "--repeat-unknown"),
    )
    assert code == ExitCode.USAGE and "--repeat-unknown needs --resume" in err


def test_a_journal_is_read_by_nobody_else(tmp_path: Path) -> None:
    """It names everybody who gets mail."""
    before = os.umask(0o022)
    try:
        with Journal(tmp_path / "journal") as journal:
            journal.begin("bob@example.test")
    finally:
        os.umask(before)
    assert (tmp_path / "journal").stat().st_mode & 0o777 == 0o600
