"""Containers with a terminal."""

import os

from boxrun.container import defaults
from boxrun.container.spec import Mount


def run(box, script, stdin=b"", expect="", **process):
    code, output = box.run("sh", "-c", script, stdin=stdin, expect=expect, process={"terminal": True, **process})
    return code, output.replace("\r\n", "\n")


def test_streams_are_the_terminal(box):
    code, output = run(box, "tty; [ -t 0 ] && [ -t 1 ] && [ -t 2 ] && echo all; cat /proc/self/stat")
    assert code == 0
    name, streams, stat = output.splitlines()
    assert (name, streams) == ("/dev/pts/0", "all")
    # The controlling terminal is the pty, and the session's foreground group is the shell's.
    _, _, _, _, terminal, foreground = stat.rpartition(")")[2].split()[:6]
    assert os.major(int(terminal)) == 136
    assert foreground == "1"


def test_size(box):
    assert run(box, "stty size", console_height=33, console_width=101) == (0, "33 101\n")


def test_console_is_the_same_terminal(box):
    code, output = run(box, "stat -c '%t:%T' /dev/console; grep ' /dev/console ' /proc/self/mounts")
    assert code == 0
    numbers, mount = output.splitlines()
    assert numbers == "88:0"
    assert mount.split()[1:3] == ["/dev/console", "devpts"]


def test_input_and_interrupt(box):
    assert run(box, "read line; echo got $line", stdin=b"hello\n") == (0, "hello\ngot hello\n")
    code, output = run(
        box, "trap 'echo caught; exit 3' INT; echo ready; while :; do sleep 0; done", stdin=b"\x03", expect="ready"
    )
    assert code == 3
    assert "caught" in output


def test_the_terminal_belongs_to_the_user(box):
    code, output = run(box, "stat -c %u:%g /dev/pts/0; echo x > /dev/tty", user="1000:1000")
    assert (code, output) == (0, "1000:5\nx\n")


def test_init_puts_the_program_in_the_foreground(box):
    code, output = box.run("sh", "-c", "cat /proc/$$/stat; exit 4", init=True, process={"terminal": True})
    fields = output.rpartition(")")[2].split()
    group, foreground = fields[2], fields[5]
    assert code == 4
    assert group == foreground != "1"


def test_the_master_stays_out_of_the_container(box):
    pid = box.start(box.spec("sleep", "1000", process={"terminal": True}))
    try:
        assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
        assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)} == {"/dev/pts/0"}
    finally:
        os.kill(pid, 9)
        box.wait()


def test_a_bound_dev_gets_the_console_too(box):
    kept = [mount for mount in defaults.default_mounts(privileged=True) if not mount.target.startswith("/dev")]
    (box.rootfs / "dev").mkdir()
    (box.rootfs / "dev/console").write_text("")
    devpts = Mount(kind="devpts", target="/dev/pts", options=("ptmxmode=0666", "mode=0620", "gid=5"))
    code, output = box.run("sh", "-c", "tty; stat -c '%t:%T' /dev/console", mounts=(*kept, devpts), process={"terminal": True})
    assert (code, output.split()) == (0, ["/dev/pts/0", "88:0"])
