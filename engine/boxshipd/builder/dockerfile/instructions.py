"""A Dockerfile's instructions. Strings are as written, quotes and variables included, unless it says otherwise.

Source: Dockerfile reference; BuildKit frontend/dockerfile/instructions/commands.go.
"""

from __future__ import annotations

from msgspec import Struct


class Span(Struct, frozen=True):
    """The lines, from 1, that something was written on."""

    first: int
    last: int


class Heredoc(Struct, frozen=True, kw_only=True):
    """``<<NAME`` with what followed.

    ``expand``: variables are expanded (the name wasn't quoted). Tabs that ``<<-`` strips are stripped.
    """

    name: str
    content: str
    expand: bool = True
    strip_tabs: bool = False
    descriptor: int = 0


class Instruction(Struct, frozen=True, kw_only=True):
    """Any instruction.

    ``keyword`` is in upper case; ``text`` is the instruction on one line, as messages and history show it.
    """

    span: Span
    keyword: str
    text: str


class Command(Struct, frozen=True, kw_only=True):
    """A program. Where ``shell`` is set, ``args`` is one line for the shell, and ``heredocs`` are those in it."""

    args: tuple[str, ...]
    shell: bool = True
    heredocs: tuple[Heredoc, ...] = ()


class From(Instruction, frozen=True, kw_only=True):
    """``FROM [--platform=] image [AS name]``."""

    image: str
    platform: str = ""
    name: str = ""


class Run(Instruction, frozen=True, kw_only=True):
    """``RUN``.

    ``mounts`` are the values of ``--mount``, as written: ``mounts.parse_mount`` reads one, once its variables are expanded.
    """

    command: Command
    mounts: tuple[str, ...] = ()
    network: str = ""
    security: str = ""


class Copy(Instruction, frozen=True, kw_only=True):
    """``COPY``. Of ``heredocs`` each is a file; ``sources`` are the others."""

    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    exclude: tuple[str, ...] = ()


class Add(Instruction, frozen=True, kw_only=True):
    """``ADD``. ``unpack``: None where the flag isn't given: local archives are unpacked, downloaded ones aren't."""

    sources: tuple[str, ...]
    destination: str
    heredocs: tuple[Heredoc, ...] = ()
    chown: str = ""
    chmod: str = ""
    checksum: str = ""
    keep_git_dir: bool = False
    link: bool = False
    unpack: bool | None = None
    exclude: tuple[str, ...] = ()


class Pair(Struct, frozen=True):
    """A name and a value. ``legacy``: it was written without ``=``."""

    name: str
    value: str
    legacy: bool = False


class Env(Instruction, frozen=True, kw_only=True):
    """``ENV``."""

    pairs: tuple[Pair, ...]


class Label(Instruction, frozen=True, kw_only=True):
    """``LABEL``."""

    pairs: tuple[Pair, ...]


class Argument(Struct, frozen=True):
    """A name, and its default if it has one."""

    name: str
    default: str | None = None


class Arg(Instruction, frozen=True, kw_only=True):
    """``ARG``."""

    arguments: tuple[Argument, ...]


class Cmd(Instruction, frozen=True, kw_only=True):
    """``CMD``."""

    command: Command


class Entrypoint(Instruction, frozen=True, kw_only=True):
    """``ENTRYPOINT``."""

    command: Command


class Expose(Instruction, frozen=True, kw_only=True):
    """``EXPOSE``."""

    ports: tuple[str, ...]


class Volume(Instruction, frozen=True, kw_only=True):
    """``VOLUME``."""

    paths: tuple[str, ...]


class User(Instruction, frozen=True, kw_only=True):
    """``USER``."""

    user: str


class Workdir(Instruction, frozen=True, kw_only=True):
    """``WORKDIR``."""

    path: str


class StopSignal(Instruction, frozen=True, kw_only=True):
    """``STOPSIGNAL``."""

    signal: str


class HealthCheck(Instruction, frozen=True, kw_only=True):
    """``HEALTHCHECK``. ``command`` is None for ``NONE``. Times are Go's durations as written, empty where they aren't given."""

    command: Command | None
    interval: str = ""
    timeout: str = ""
    start_period: str = ""
    start_interval: str = ""
    retries: str = ""


class Shell(Instruction, frozen=True, kw_only=True):
    """``SHELL``."""

    args: tuple[str, ...]


class Maintainer(Instruction, frozen=True, kw_only=True):
    """``MAINTAINER``."""

    name: str


class OnBuild(Instruction, frozen=True, kw_only=True):
    """``ONBUILD``. ``trigger`` is the instruction as it is kept in the image's configuration."""

    trigger: str


class Stage(Struct, frozen=True, kw_only=True):
    """One stage."""

    source: From
    instructions: tuple[Instruction, ...]


class Dockerfile(Struct, frozen=True, kw_only=True):
    """A whole Dockerfile.

    Attributes:
        lines: the text, for excerpts.
        escape: the character that continues lines and quotes others.
        directives: the parser directives, by lower-case name.
        arguments: the ARGs before the first FROM.
        stages: the stages, in order.
    """

    lines: tuple[str, ...]
    escape: str
    directives: dict[str, str]
    arguments: tuple[Arg, ...]
    stages: tuple[Stage, ...]
