"""What the program finds itself to be: user, capabilities, signals, directory, environment, limits."""

import os

import pytest
from boxrun.container.spec import Rlimit

PASSWD = "root:x:0:0:root:/root:/bin/sh\nalice:x:1000:1000::/home/alice:/bin/sh\n"
GROUP = "root:x:0:\nwheel:x:10:root,alice\nalice:x:1000:\nstaff:x:50:\n"


def write_users(box):
    (box.rootfs / "etc").mkdir()
    (box.rootfs / "etc/passwd").write_text(PASSWD)
    (box.rootfs / "etc/group").write_text(GROUP)


def status(lines, key):
    return next(line.split(":", 1)[1].strip() for line in lines if line.startswith(key + ":"))


def test_exit_code_and_output(box):
    assert box.run("sh", "-c", "echo out; echo err >&2; exit 7") == (7, "out\nerr\n")


def test_killed_by_signal(box):
    # Process 1 ignores signals of its own namespace, so a child is what the signal reaches.
    assert box.run("sh", "-c", "sh -c 'kill -9 $$'; exit $?")[0] == 137


def test_stdin_arrives_unchanged(box):
    data = os.urandom(50_000).hex()
    assert box.run("cat", stdin=data.encode()) == (0, data)


def test_root_has_exactly_the_default_capabilities(box):
    lines = box.shell("cat /proc/self/status")
    assert [status(lines, key) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [
        "0" * 16,
        "00000000a80425fb",
        "00000000a80425fb",
        "00000000a80425fb",
        "0" * 16,
    ]


def test_user_has_no_capabilities_but_the_bounding_set(box):
    lines = box.shell("cat /proc/self/status", process={"user": "1000:1000"})
    assert [status(lines, key) for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")] == [
        "0" * 16,
        "0" * 16,
        "0" * 16,
        "00000000a80425fb",
        "0" * 16,
    ]


def test_unknown_capability_is_refused(box):
    with pytest.raises(Exception, match="invalid capability: 'CAP_FLY'"):
        box.run("true", process={"capabilities": ("CAP_FLY",)})


def test_no_capabilities(box):
    assert status(box.shell("cat /proc/self/status", process={"capabilities": ()}), "CapBnd") == "0" * 16


@pytest.mark.parametrize(
    ("user", "groups", "expected"),
    [
        ("", (), "uid=0(root) gid=0(root) groups=0(root),10(wheel)"),
        ("root", (), "uid=0(root) gid=0(root) groups=0(root),10(wheel)"),
        ("alice", (), "uid=1000(alice) gid=1000(alice) groups=1000(alice),10(wheel)"),
        ("1000", (), "uid=1000(alice) gid=1000(alice) groups=1000(alice),10(wheel)"),
        ("alice:staff", (), "uid=1000(alice) gid=50(staff) groups=50(staff)"),
        ("alice:50", (), "uid=1000(alice) gid=50(staff) groups=50(staff)"),
        ("4321", (), "uid=4321 gid=0(root) groups=0(root)"),
        ("4321:8765", (), "uid=4321 gid=8765 groups=8765"),
        ("alice", ("staff", "77"), "uid=1000(alice) gid=1000(alice) groups=1000(alice),10(wheel),50(staff),77"),
    ],
)
def test_users(box, user, groups, expected):
    write_users(box)
    found = box.shell("id", process={"user": user, "groups": groups})[0]

    def parts(line):
        head, _, members = line.rpartition(" groups=")
        return head, set(members.split(","))

    assert parts(found) == parts(expected)


@pytest.mark.parametrize(
    ("user", "message"),
    [
        ("nobody", "unable to find user nobody: no matching entries in passwd file"),
        ("alice:nogroup", "unable to find group nogroup: no matching entries in group file"),
        ("2147483648", "uids and gids must be in range 0-2147483647"),
        ("4294967296", "uids and gids must be in range 0-2147483647"),
        ("-1", "uids and gids must be in range 0-2147483647"),
    ],
)
def test_bad_users(box, user, message):
    write_users(box)
    with pytest.raises(Exception, match=message) as failure:
        box.run("true", process={"user": user})
    assert failure.value.step == "user"


def test_home_comes_from_passwd_unless_set(box):
    write_users(box)
    assert box.shell("echo $HOME", process={"user": "alice"}) == ["/home/alice"]
    assert box.shell("echo $HOME", process={"user": "4321"}) == ["/"]
    assert box.shell("echo $HOME", process={"env": ("PATH=/bin", "HOME=/x")}) == ["/x"]


def test_environment_is_only_what_is_asked_for(box):
    code, output = box.run("env", process={"env": ("PATH=/bin", "A=1", "A=2", "EMPTY=", "NOVALUE")})
    assert code == 0
    assert sorted(output.splitlines()) == ["A=2", "EMPTY=", "HOME=/", "PATH=/bin"]


def test_signals_are_at_their_defaults(box):
    before = "import signal; signal.signal(1, signal.SIG_IGN); signal.pthread_sigmask(signal.SIG_BLOCK, [10])"
    lines = box.run("cat", "/proc/self/status", before=before)[1].splitlines()
    assert [status(lines, key) for key in ("SigBlk", "SigIgn", "SigCgt")] == ["0" * 16] * 3


def test_open_descriptors_seen_from_outside(box):
    pid = box.start(box.spec("sleep", "1000"), before="os.dup2(1, 77); os.set_inheritable(77, True)")
    try:
        assert sorted(os.listdir(f"/proc/{pid}/fd")) == ["0", "1", "2"]
    finally:
        os.kill(pid, 9)
    assert box.wait() == -9


def test_umask(box):
    assert box.shell("umask") == ["0022"]


def test_working_directory_is_made(box):
    assert box.shell("pwd", process={"cwd": "/new/deep"}) == ["/new/deep"]
    assert (box.directory / "upper/new/deep").stat().st_mode & 0o7777 == 0o755


def test_working_directory_of_another_user(box):
    (box.rootfs / "private").mkdir(mode=0o700)
    os.chown(box.rootfs / "private", 1000, 1000)
    assert box.shell("pwd", process={"cwd": "/private", "user": "1000", "capabilities": ()}) == ["/private"]


def test_working_directory_that_is_a_file(box):
    (box.rootfs / "file").write_text("")
    with pytest.raises(Exception, match='chdir to cwd \\("/file"\\)') as failure:
        box.run("true", process={"cwd": "/file"})
    assert failure.value.step == "cwd"


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("nosuch",), 127, 'exec: "nosuch": executable file not found in $PATH'),
        (("/nosuch",), 127, 'exec: "/nosuch": stat /nosuch: no such file or directory'),
        (("/data",), 126, 'exec: "/data": permission denied'),
        (("/bin",), 126, 'exec: "/bin": is a directory'),
        (("data",), 126, 'exec: "data": permission denied'),
        (("/broken",), 126, "exec /broken: exec format error"),
        (("/script",), 127, "exec /script: no such file or directory"),
        ((), 127, "no command specified"),
        (("/bin/busybox\0",), 126, "embedded null"),
    ],
)
def test_programs_that_cannot_run(box, args, code, message):
    (box.rootfs / "data").write_text("data")
    (box.rootfs / "bin/data").write_text("data")
    for name, content in (("broken", "\x7fELF rubbish"), ("script", "#!/no/interpreter\n")):
        (box.rootfs / name).write_text(content)
        (box.rootfs / name).chmod(0o755)
    with pytest.raises(Exception) as failure:  # noqa: PT011 - compared below
        box.run(*args)
    assert message in failure.value.message
    assert (failure.value.step, failure.value.exit_code) == ("exec", code)


def test_rlimits(box):
    limits = (Rlimit(name="nofile", soft=100, hard=200), Rlimit(name="core", soft=0, hard=0))
    assert box.shell("ulimit -n; ulimit -Hn; ulimit -c", process={"rlimits": limits}) == ["100", "200", "0"]


def test_a_hard_limit_above_the_machines_is_clamped_and_told(box):
    limits = (Rlimit(name="nofile", soft=50, hard=2**30),)
    assert box.shell("ulimit -n", process={"rlimits": limits}) == ["50"]
    with open("/proc/self/status") as file:
        effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff"))
    assert bool(box.warnings) != bool(effective >> 24 & 1)


def test_soft_above_hard_is_refused(box):
    with pytest.raises(Exception, match="soft limit must be less than or equal to hard limit"):
        box.run("true", process={"rlimits": (Rlimit(name="nofile", soft=9, hard=8),)})


def test_oom_score_adj(box):
    assert box.shell("cat /proc/self/oom_score_adj", process={"oom_score_adj": 500}) == ["500"]


def test_no_new_privileges(box):
    assert status(box.shell("cat /proc/self/status"), "NoNewPrivs") == "0"
    assert status(box.shell("cat /proc/self/status", process={"no_new_privileges": True}), "NoNewPrivs") == "1"


def test_session_leader_without_a_terminal(box):
    fields = box.shell("cat /proc/self/stat")[0].rpartition(")")[2].split()
    session, terminal = fields[3], fields[4]
    assert (session, terminal) == ("1", "0")


def test_streams_belong_to_the_user(box):
    box.run("true", process={"user": "1000:1000"})
    assert (box.output.stat().st_uid, box.output.stat().st_gid) == (1000, 1000)


def test_the_hosts_null_device_is_replaced_by_the_containers(box):
    pid = box.start(box.spec("sleep", "1000"), before="os.dup2(os.open('/dev/null', os.O_RDWR), 0)")
    try:
        with open("/dev/null", "rb") as host:
            assert os.stat(f"/proc/{pid}/root/dev/null").st_dev != os.fstat(host.fileno()).st_dev
    finally:
        os.kill(pid, 9)
        box.wait()


def test_init_reaps_forwards_and_ends_with_the_programs_status(box):
    assert box.run("sh", "-c", "exit 5", init=True)[0] == 5
    # An orphan is reaped by process 1: afterwards only init, the shell and its child are left.
    script = "(sleep 0 &) ; cat /proc/$$/stat | cut -d' ' -f4; trap 'exit 42' TERM; kill -TERM 1; while :; do sleep 0; done"
    code, output = box.run("sh", "-c", script.replace("| cut -d' ' -f4", ""), init=True)
    assert code == 42
    assert output.rpartition(")")[2].split()[1] == "1"


def test_init_reports_a_program_that_is_missing(box):
    with pytest.raises(Exception, match="executable file not found") as failure:
        box.run("nosuch", init=True)
    assert failure.value.exit_code == 127


def test_init_turns_a_signal_into_its_exit_code(box):
    assert box.run("sh", "-c", "kill -9 $$", init=True)[0] == 137
