"""What ps says, what may be asked of it, and the stand-in for it."""

from __future__ import annotations

import os

import pytest
from boxshipd.containers import process_table
from boxshipd.containers.top import parse, validate
from boxshipd.errors import InternalError, InvalidParameter


@pytest.mark.parametrize("arguments", ["-ef", "aux", "-o pid,comm", "-o pid=PID", "-o pid,ppid=PARENT", "-o comm=NAME,pid"])
def test_arguments_that_are_fine(arguments):
    validate(arguments)


@pytest.mark.parametrize("arguments", ["-o comm=PID", "-o pid -o ppid=PID", "-o  user=PIDX", "-o comm=\tPID"])
def test_arguments_that_would_make_another_column_the_process_id(arguments):
    with pytest.raises(InvalidParameter, match="is not allowed"):
        validate(arguments)


def test_rows_are_chosen_by_the_process_id():
    text = "UID   PID CMD\nroot    1 init\nroot   12 sh -c  a b\nbox   112 sleep 1\n"
    answer = parse(text, {12, 112})
    assert answer.titles == ["UID", "PID", "CMD"]
    assert answer.processes == [["root", "12", "sh -c a b"], ["box", "112", "sleep 1"]]


def test_threads_follow_their_process():
    text = "PID TTY CMD\n5 ? a\n- - -\n6 ? b\n- - -\n- - -\n"
    assert parse(text, {6}).processes == [["6", "?", "b"], ["-", "-", "-"], ["-", "-", "-"]]


def test_blanks_that_are_not_ascii_are_part_of_a_word():
    assert parse("PID CMD\n5 a\u00a0b\u2003c\n", {5}).processes == [["5", "a\u00a0b\u2003c"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [("CMD\nx\n", "Couldn't find PID field in ps output"), ("PID\nx\n", "Unexpected pid 'x'"), ("", "PID field")],
)
def test_output_that_cannot_be_understood(text, said):
    with pytest.raises(InternalError, match=said):
        parse(text, {1})


def test_a_process_by_hand():
    answer = process_table.table("-o pid,ppid,uid,state,args", [os.getpid()])
    assert answer.titles == ["PID", "PPID", "UID", "S", "COMMAND"]
    (row,) = answer.processes
    assert row[:4] == [str(os.getpid()), str(os.getppid()), str(os.geteuid()), "R"]
    assert process_table.table("-ef", [2**22 + 5]).processes == []


@pytest.mark.parametrize("arguments", ["-Z", "-o pid,label", "-efH", "aux --forest", "-o", "-o comm"])
def test_the_stand_in_refuses_what_it_does_not_know(arguments):
    with pytest.raises(InvalidParameter):
        process_table.chosen(arguments)
