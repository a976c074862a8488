"""Dockerfiles with their contexts, for which a classic builder's outcome is known or can be had."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

STAMP = 1_600_000_000
"""The modification time of every file of a context, in seconds since the epoch."""


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    target: str


@dataclass(frozen=True)
class Mode:
    """A file with permissions of its own."""

    data: bytes
    mode: int


Content = str | bytes | Link | Mode | None
"""What a path of a context is; None is an empty directory."""


@dataclass(frozen=True)
class Case:
    """One build.

    Attributes:
        name: what it shows.
        dockerfile: the Dockerfile.
        files: the context, by path.
        flags: of ``docker build``.
        own: the classic builder of an old dockerd can't do it.
    """

    name: str
    dockerfile: str
    files: dict[str, Content] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    own: bool = False

    def write(self, directory: Path) -> Path:
        """Write the context with its Dockerfile; its directory."""
        directory.mkdir(parents=True)
        (directory / "Dockerfile").write_text(self.dockerfile)
        for name, content in self.files.items():
            path = directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if content is None:
                path.mkdir(exist_ok=True)
            elif isinstance(content, Link):
                path.symlink_to(content.target)
            elif isinstance(content, Mode):
                path.write_bytes(content.data)
                path.chmod(content.mode)
            else:
                path.write_bytes(content.encode() if isinstance(content, str) else content)
        for top, directories, files in os.walk(directory, topdown=False):
            for name in (*directories, *files):
                os.utime(os.path.join(top, name), (STAMP, STAMP), follow_symlinks=False)
        return directory


def packed(**files: str) -> bytes:
    """A tar archive of files, owned by 7:8."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size, info.mtime, info.uid, info.gid, info.mode = len(text), STAMP, 7, 8, 0o640
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


TREE: dict[str, Content] = {
    "a.txt": "a",
    "b.txt": "bb",
    "c.md": "ccc",
    "dir/one": "1",
    "dir/sub/two": Mode(b"2", 0o755),
    "dir/sub/deep/three": "3",
    "dir/link": Link("one"),
    "empty": None,
    "run.sh": Mode(b"#!/bin/sh\necho ran\n", 0o755),
}

CONFIGURATION = (
    Case("cmd_exec_form", 'FROM busybox\nCMD ["echo", "hi there"]\n'),
    Case("cmd_shell_form", "FROM busybox\nCMD echo hi && echo there\n"),
    Case("entrypoint_resets_cmd_of_the_base", 'FROM busybox\nENTRYPOINT ["echo"]\n'),
    Case("entrypoint_keeps_own_cmd", 'FROM busybox\nCMD ["x"]\nENTRYPOINT ["echo"]\n'),
    Case("entrypoint_shell_form", "FROM busybox\nENTRYPOINT exec top -b\n"),
    Case("env_forms", 'FROM busybox\nENV A=1 B="two words" C=three\\ words\nENV D four words\nENV A=5\nENV E=$A-${B}\n'),
    Case("env_modifiers", "FROM busybox\nENV A=x\nENV B=${A:-y} C=${Z:-y} D=${A:+y} E=${Z:+y}\nENV F=\\$A G='$A' H=\"$A\"\n"),
    Case("env_same_line_sees_the_old_value", "FROM busybox\nENV A=1\nENV A=2 B=$A\n"),
    Case("label_forms", 'FROM busybox\nLABEL a=1 "b c"="d e" f="g\\\nh"\nLABEL a=2\n'),
    Case("labels_of_the_command_line", "FROM busybox\nLABEL a=1 b=2\n", flags=("--label", "b=3", "--label", "c=")),
    Case("expose_forms", "FROM busybox\nEXPOSE 80 443/tcp 53/udp 7000-7003\nENV P=99\nEXPOSE $P\n"),
    Case("volume_forms", 'FROM busybox\nVOLUME /a /b\nVOLUME ["/c d", "/e"]\n'),
    Case("user_forms", "FROM busybox\nUSER box:extra\n"),
    Case("user_from_variable", "FROM busybox\nARG who=box\nUSER ${who}\n"),
    Case("workdir_relative", "FROM busybox\nWORKDIR /a\nWORKDIR b\nWORKDIR ../c/./d\n"),
    Case("workdir_variable", "FROM busybox\nENV D=/x/y\nWORKDIR $D/z\nRUN pwd > where\n"),
    Case("workdir_is_owned_by_root", "FROM busybox\nUSER box\nWORKDIR /home/box/new/place\n"),
    Case("stopsignal", "FROM busybox\nARG s=SIGQUIT\nSTOPSIGNAL $s\n"),
    Case(
        "healthcheck",
        "FROM busybox\nHEALTHCHECK --interval=5m --timeout=3s --start-period=1s --retries=4 CMD test -e /x || exit 1\n",
    ),
    Case("healthcheck_exec", 'FROM busybox\nHEALTHCHECK CMD ["test", "-e", "/x"]\n'),
    Case("healthcheck_none", "FROM busybox\nHEALTHCHECK NONE\n"),
    Case("shell", 'FROM busybox\nSHELL ["/bin/ash", "-e", "-c"]\nRUN echo "$0" > /shell\nCMD echo hi\n'),
    Case("onbuild_is_kept", "FROM busybox\nONBUILD RUN echo triggered > /t\nONBUILD COPY . /src\n"),
    Case("maintainer", "FROM busybox\nMAINTAINER Somebody <some@body.example>\n"),
    Case("case_and_comments", "# a comment\nfrom busybox\n# another\nEnv A=1 \\\n# in between\n  B=2\n\ncmd true\n"),
    Case("escape_directive", "# escape=`\nFROM busybox\nENV A=C:\\dir B=x`\n  C=y\n"),
)
RUNNING = (
    Case("run_shell_form", "FROM busybox\nRUN echo one > /one && mkdir -p /d/e && echo two > /d/e/two\n"),
    Case("run_exec_form", 'FROM busybox\nRUN ["/bin/sh", "-c", "echo \\"$0 $1\\" > /out", "a", "b c"]\n'),
    Case("run_continued", "FROM busybox\nRUN echo a \\\n  b \\\n\n  c > /out\n"),
    Case("run_sees_env_and_args", "FROM busybox\nENV E=env\nARG A=arg\nARG B\nRUN echo $E $A $B > /out\n", flags=("--build-arg", "B=given")),
    Case("run_as_user", "FROM busybox\nUSER box\nWORKDIR /tmp\nRUN id -u > who; id -g >> who; umask >> who; echo $HOME >> who\n"),
    Case("run_in_workdir", "FROM busybox\nWORKDIR /deep/down\nRUN pwd > here\n"),
    Case("run_removes", "FROM busybox\nRUN mkdir /x && echo 1 > /x/1 && echo 2 > /x/2\nRUN rm /x/1\nRUN rm -r /x\nRUN mkdir /x && echo 3 > /x/3\n"),
    Case("run_modes_and_owners", "FROM busybox\nRUN touch /f && chmod 4751 /f && chown 12:34 /f && mkdir -m 1777 /s && mkfifo /p\n"),
    Case("run_links", "FROM busybox\nRUN echo x > /a && ln /a /b && ln -s a /c && ln -s /nowhere /dangling\n"),
    Case("run_nothing", "FROM busybox\nRUN true\nRUN true\n"),
    Case("run_network_none", "FROM busybox\nRUN ls /sys/class/net > /nets\n", flags=("--network", "none")),
    Case("run_hosts", "FROM busybox\nRUN grep example.test /etc/hosts > /found\n", flags=("--add-host", "example.test:10.1.2.3")),
    Case("run_shm_and_ulimits", "FROM busybox\nRUN ulimit -n > /n; df -k /dev/shm | tail -1 | awk '{print $2}' > /s\n",
         flags=("--ulimit", "nofile=77:88", "--shm-size", "8m")),
    Case("build_args_in_order", "ARG TAG=latest\nFROM busybox:${TAG}\nARG TAG\nARG X=1\nARG X=2\nRUN echo $TAG $X > /out\n"),
    Case("proxy_args_are_known", "FROM busybox\nRUN echo $HTTP_PROXY > /out\n", flags=("--build-arg", "HTTP_PROXY=http://p.example:1")),
    Case("arg_after_env", "FROM busybox\nENV A=env\nARG A=arg\nRUN echo $A > /out\n", flags=("--build-arg", "A=given")),
)  # fmt: skip
FILES = (
    Case("copy_a_file", "FROM busybox\nCOPY a.txt /x/y.txt\n", TREE),
    Case("copy_into_a_directory", "FROM busybox\nCOPY a.txt b.txt /x/\n", TREE),
    Case("copy_onto_a_directory", "FROM busybox\nRUN mkdir /x\nCOPY a.txt /x\n", TREE),
    Case("copy_a_directory", "FROM busybox\nCOPY dir /x\n", TREE),
    Case("copy_directories", "FROM busybox\nCOPY dir empty /x/\n", TREE),
    Case("copy_everything", "FROM busybox\nCOPY . /all\n", TREE),
    Case("copy_to_workdir", "FROM busybox\nWORKDIR /w\nCOPY a.txt .\nCOPY dir ./d\nCOPY b.txt ../up.txt\n", TREE),
    Case("copy_wildcards", "FROM busybox\nCOPY *.txt /x/\nCOPY [ab].* /y/\nCOPY d?r/s* /z/\n", TREE),
    Case("copy_over_a_file", "FROM busybox\nRUN echo old > /x && chmod 600 /x && chown 5:5 /x\nCOPY a.txt /x\n", TREE),
    Case("copy_into_existing_keeps_it", "FROM busybox\nRUN mkdir -m 700 /x && chown 5:5 /x && echo o > /x/old\nCOPY dir /x\n", TREE),
    Case("copy_through_a_link", "FROM busybox\nRUN mkdir /real && ln -s /real /via\nCOPY a.txt /via/\nCOPY b.txt /via/b2\n", TREE),
    Case("copy_a_link", "FROM busybox\nCOPY dir/link /x\n", TREE),
    Case("copy_chown", "FROM busybox\nCOPY --chown=box:extra dir /x\nCOPY --chown=12:34 a.txt /y\nCOPY --chown=box b.txt /z\n", TREE),
    Case("copy_json_form", 'FROM busybox\nCOPY ["a b", "/c d/"]\n', {"a b": "space"}),
    Case("copy_names_with_variables", "FROM busybox\nARG f=a\nCOPY ${f}.txt /${f}/\n", TREE),
    Case("copy_from_stage", "FROM busybox AS one\nRUN mkdir /o && echo x > /o/x && ln -s x /o/l && chown -R 3:4 /o\nFROM busybox\nCOPY --from=one /o /p\nCOPY --from=0 /o/x /q\n"),
    Case("copy_from_image", "FROM scratch\nCOPY --from=busybox /etc/passwd /p\nCMD [\"x\"]\n"),
    Case("copy_link_target_inside", "FROM busybox AS one\nRUN mkdir /a && echo 1 > /a/f && ln -s /a /l\nFROM busybox\nCOPY --from=one /l/f /f\n"),
    Case("scratch", "FROM scratch\nCOPY dir /dir\nCMD [\"/dir/one\"]\n", TREE),
    Case("add_a_file", "FROM busybox\nADD a.txt /x/\nADD dir /y\n", TREE),
    Case("add_unpacks", "FROM busybox\nADD t.tar /x\n", {"t.tar": packed(one="1", d__two="2")}),
    Case("add_unpacks_onto_what_is_there", "FROM busybox\nRUN mkdir -p /x/d && echo old > /x/d/old && echo old > /x/one\nADD t.tar /x/\n",
         {"t.tar": packed(one="1", d__two="2")}),
    Case("ignore_file", "FROM busybox\nCOPY . /all\n",
         {**TREE, ".dockerignore": "# comment\n*.md\ndir/sub\n!dir/sub/two\n**/one\nDockerfile\n.dockerignore\n"}),
    Case("ignore_all_but", "FROM busybox\nCOPY . /all\n", {**TREE, ".dockerignore": "*\n!dir/sub/**\n!a.txt\n"}),
    Case("modes_of_sources", "FROM busybox\nCOPY . /m\n", {"s": Mode(b"x", 0o4755), "r": Mode(b"y", 0o400), "w": Mode(b"z", 0o666)}),
    Case("big_and_many", "FROM busybox\nCOPY . /m\n", {f"d{n % 7}/f{n}": bytes([n % 251]) * (n * 97 % 5000) for n in range(300)}),
)  # fmt: skip
STAGES = (
    Case("target", "FROM busybox AS one\nRUN echo 1 > /one\nFROM busybox AS two\nRUN echo 2 > /two\nFROM two\nRUN echo 3 > /three\n",
         flags=("--target", "two")),
    Case("stage_from_stage", "FROM busybox AS one\nENV A=1\nWORKDIR /w\nFROM one AS two\nRUN echo $A > a\nFROM two\nUSER box\n"),
    Case("config_is_not_inherited_over_copy", "FROM busybox AS one\nENV A=1\nRUN echo x > /x\nFROM busybox\nCOPY --from=one /x /x\nRUN echo [$A] > /y\n"),
    Case("args_end_with_the_stage", "ARG G=global\nFROM busybox AS one\nARG G\nRUN echo $G > /g\nFROM busybox\nRUN echo [$G] > /g\n"),
)  # fmt: skip
FAILURES = (
    Case("no_such_instruction", "FROM busybox\nRUNN echo\n"),
    Case("no_from", "RUN echo\n"),
    Case("empty", "\n\n# nothing\n"),
    Case("command_fails", "FROM busybox\nRUN exit 7\n"),
    Case("command_not_found", "FROM busybox\nRUN not-a-command\n"),
    Case("copy_nothing", "FROM busybox\nCOPY nope /x\n"),
    Case("copy_above", "FROM busybox\nCOPY ../../etc/passwd /x\n"),
    Case("copy_many_onto_a_file", "FROM busybox\nCOPY a.txt b.txt /x\n", TREE),
    Case("copy_from_nowhere", "FROM busybox\nCOPY --from=nobody /x /y\n"),
    Case("no_such_target", "FROM busybox AS one\n", flags=("--target", "two")),
    Case("env_without_value", "FROM busybox\nENV A\n"),
    Case("workdir_without_path", "FROM busybox\nWORKDIR\n"),
    Case("bad_stopsignal", "FROM busybox\nSTOPSIGNAL SIGNOTHING\n"),
    Case("bad_port", "FROM busybox\nEXPOSE 99999999\n"),
    Case("onbuild_from", "FROM busybox\nONBUILD FROM busybox\n"),
    Case("unknown_flag", "FROM busybox\nCOPY --colour=red a.txt /\n", TREE),
    Case("user_unknown", "FROM busybox\nUSER nobody-here\nRUN true\n"),
    Case("chown_unknown", "FROM busybox\nCOPY --chown=nobody-here a.txt /\n", TREE),
    Case("bad_healthcheck", "FROM busybox\nHEALTHCHECK --interval=soon CMD true\n"),
    Case("two_words_for_from", "FROM busybox as\n"),
    Case("ignored_file", "FROM busybox\nCOPY a.txt /\n", {**TREE, ".dockerignore": "a.txt\n"}),
)

NEWER: dict[str, dict[str, list[object]]] = {
    # A working directory that is made is the user's.
    "workdir_is_owned_by_root": {
        name: ["5", "0o755", 1000, 1000, "", False] for name in ("home/box", "home/box/new", "home/box/new/place")
    },
    # An argument is the nearest word about a variable, whatever ENV said before it.
    "arg_after_env": {"out": ["0", "0o644", 0, 0, hashlib.sha256(b"given\n").hexdigest(), False]},
    # A file keeps all of its mode.
    "modes_of_sources": {"m/s": ["0", "0o4755", 0, 0, hashlib.sha256(b"x").hexdigest(), True]},
}
"""Files of results where BuildKit, and we, differ from the classic builder."""
