"""``boxship start``."""

from __future__ import annotations

from contextlib import ExitStack

from boxship.cli.attached import Attached, Detached, Exit, SignalProxy, WindowFollower
from boxship.cli.command import Command, Context
from boxship.cli.flags import Absent, Options, Switch, Text
from boxship.errors import APIError, CommandError
from boxship.http.target import quote
from boxship.streams import attach

_CHECKPOINTS = "it has no checkpoints"


class StartOptions(Options):
    """The flags of ``start``."""

    attach = Switch("Attach STDOUT/STDERR and forward signals", short="a")
    checkpoint = Absent("Restore from this checkpoint", _CHECKPOINTS)
    checkpoint_dir = Absent("Use a custom checkpoint storage directory", _CHECKPOINTS)
    detach_keys = Text("Override the key sequence for detaching a container")
    interactive = Switch("Attach container's STDIN", short="i")


def _run(context: Context, options: StartOptions, arguments: list[str]) -> int:
    if options.attach or options.interactive:
        if len(arguments) > 1:
            raise CommandError("you cannot start and attach multiple containers at once")
        return _start_attached(context, options, arguments[0])
    failed = []
    for name in arguments:
        try:
            context.api.call("POST", f"/containers/{quote(name)}/start")
            context.print(name)
        except APIError as error:
            failed.append(name)
            context.warn(f"Error response from daemon: {error}")
    if failed:
        raise CommandError(f"Error: failed to start containers: {', '.join(failed)}")
    return 0


def _start_attached(context: Context, options: StartOptions, name: str) -> int:
    api = context.api
    about = api.call("GET", f"/containers/{quote(name)}/json")
    container, config = about["Id"], about["Config"]
    tty = bool(config["Tty"])
    stdin = options.interactive and bool(config["OpenStdin"])
    with ExitStack() as stack:
        if not tty:
            stack.enter_context(SignalProxy(api, container))
        query = {
            "stream": True,
            "stdin": stdin or None,
            "stdout": True,
            "stderr": True,
            "detachKeys": options.detach_keys or None,
        }
        duplex, multiplexed = attach(api, container, query, tty=tty)
        attached = Attached(duplex, multiplexed=multiplexed, stdin=stdin, tty=tty, detach_keys=options.detach_keys)
        stack.enter_context(attached)
        running = bool(about["State"]["Running"])
        waiting = Exit(api, container, removal=bool(about["HostConfig"]["AutoRemove"]), running=running)
        window = enter_terminal(stack, context, container, tty=tty, stdin=stdin)
        api.call("POST", f"/containers/{quote(container)}/start")
        if window is not None:
            window.apply()
        try:
            attached.run()
        except Detached:
            return 0
        return waiting.status()


def enter_terminal(stack: ExitStack, context: Context, container: str, *, tty: bool, stdin: bool) -> WindowFollower | None:
    """Make our terminal the container's: raw where we type into it, and its size followed.

    Args:
        stack: leaves it again.
        context: the command's.
        container: id or name.
        tty: whether the container has a terminal.
        stdin: whether our input goes to it.

    Returns:
        What sets the size, None without a terminal.
    """
    import os

    if not tty:
        return None
    window = stack.enter_context(WindowFollower(context.api, container, 1))
    if stdin and os.isatty(0):
        from boxship.terminal.raw import RawMode

        stack.enter_context(RawMode(0, resumed=window.apply))
    return window


START: Command[StartOptions] = Command(
    "[OPTIONS] CONTAINER [CONTAINER...]", "Start one or more stopped containers", StartOptions, _run, minimum=1
)
