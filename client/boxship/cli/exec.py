"""``boxship exec``."""

from __future__ import annotations

import os
import time
from contextlib import ExitStack

from boxship.cli.command import Command, Context
from boxship.cli.environment import variable, variables
from boxship.cli.flags import Items, Options, Switch, Text
from boxship.errors import APIError, BoxshipError, CommandError, UsageError
from boxship.http.target import quote

_PATIENCE_SECONDS = 30.0


class ExecOptions(Options):
    """The flags of ``exec``."""

    detach = Switch("Detached mode: run command in the background", short="d")
    detach_keys = Text("Override the key sequence for detaching a container")
    env = Items("Set environment variables", short="e", check=variable)
    env_file = Items("Read in a file of environment variables")
    interactive = Switch("Keep STDIN open even if not attached", short="i")
    privileged = Switch("Give extended privileges to the command")
    tty = Switch("Allocate a pseudo-TTY", short="t")
    user = Text('Username or UID (format: "<name|uid>[:<group|gid>]")', short="u")
    workdir = Text("Working directory inside the container", short="w")


def _run(context: Context, options: ExecOptions, arguments: list[str]) -> int:
    attached = not options.detach
    stdin = options.interactive and attached
    if options.tty and stdin and not os.isatty(0):
        raise UsageError("the input device is not a TTY")
    if options.detach_keys:
        from boxship.terminal.detach import parse_keys

        parse_keys(options.detach_keys)
    body = {
        "Cmd": arguments[1:],
        "Tty": options.tty,
        "AttachStdin": stdin,
        "AttachStdout": attached,
        "AttachStderr": attached,
        "Privileged": options.privileged,
        "User": options.user,
        "WorkingDir": options.workdir,
        "DetachKeys": options.detach_keys,
        "Env": [*variables(options.env_file), *options.env] or None,
    }
    if options.tty:
        from boxship.terminal.raw import window_size

        size = window_size(1)
        if all(size):
            body["ConsoleSize"] = list(size)
    path = f"/containers/{quote(arguments[0])}/exec"
    exec_id = str(context.api.call_meanwhile("POST", path, None, body, meanwhile=_import if attached else _nothing)["Id"])
    if options.detach:
        context.api.call("POST", f"/exec/{exec_id}/start", None, {"Detach": True, "Tty": options.tty})
        return 0
    return _attach(context, options, exec_id, stdin=stdin)


def _nothing() -> None:
    """A detached exec needs none of the modules for attaching."""


def _import() -> None:
    """Import what attaching needs while the daemon works."""
    import boxship.cli.attached
    import boxship.websocket  # noqa: F401


def _attach(context: Context, options: ExecOptions, exec_id: str, *, stdin: bool) -> int:
    from boxship.cli.attached import DETACHED, Attached, Detached, WindowFollower
    from boxship.streams import start_exec

    with ExitStack() as stack:
        if options.tty:
            window = stack.enter_context(WindowFollower(context.api, exec_id, 1, collection="exec"))
            if stdin:
                from boxship.terminal.raw import RawMode

                stack.enter_context(RawMode(0, resumed=window.apply))
        duplex, multiplexed = start_exec(context.api, exec_id, tty=options.tty)
        attached = Attached(duplex, multiplexed=multiplexed, stdin=stdin, tty=options.tty, detach_keys=options.detach_keys)
        stack.enter_context(attached)
        try:
            attached.run()
        except Detached:
            raise CommandError(DETACHED) from None
    return _exit_code(context, exec_id)


def _exit_code(context: Context, exec_id: str) -> int:
    """The program's exit code; a daemon that is being restarted is waited for."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return int(context.api.call("GET", f"/exec/{exec_id}/json")["ExitCode"] or 0)
        except APIError:
            raise
        except BoxshipError as error:
            if time.monotonic() > deadline:
                raise CommandError(f"the exit code of exec {exec_id} can't be learnt: {error}") from error
            # A daemon that restarts can't tell us when it is back.
            time.sleep(0.1)


EXEC: Command[ExecOptions] = Command(
    "[OPTIONS] CONTAINER COMMAND [ARG...]",
    "Execute a command in a running container",
    ExecOptions,
    _run,
    minimum=2,
    interspersed=False,
)
