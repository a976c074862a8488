"""``boxship stop``, ``restart``, ``kill``, ``rm``, ``wait`` and ``rename``."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from boxship.cli.command import Command, Context
from boxship.cli.flags import Integer, Options, Switch, Text
from boxship.errors import APIError, CommandError
from boxship.http.target import quote

# Enough to keep a daemon busy, few enough that each one's start costs little.
_AT_ONCE = 32


def for_each(context: Context, names: Sequence[str], act: Callable[[str], str]) -> int:
    """Do something to several containers, up to 32 at once, and print what it gives in their order.

    Args:
        context: where to print.
        names: the containers.
        act: does it to one; gives the line to print.

    Returns:
        0, or 1 where one of them failed.
    """
    results: list[str | APIError]
    if len(names) == 1:
        results = [_attempt(act, names[0])]
    else:
        from concurrent.futures import ThreadPoolExecutor

        # Made here, so that the threads share it.
        assert context.api is not None
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            results = list(pool.map(lambda name: _attempt(act, name), names))
    failed = False
    for result in results:
        if isinstance(result, APIError):
            failed = True
            context.warn(f"Error response from daemon: {result}")
        else:
            context.print(result)
    return int(failed)


def _attempt(act: Callable[[str], str], name: str) -> str | APIError:
    try:
        return act(name)
    except APIError as error:
        return error


class StopOptions(Options):
    """The flags of ``stop`` and ``restart``."""

    signal = Text("Signal to send to the container", short="s")
    timeout = Integer("Seconds to wait before killing the container", short="t")
    time = Integer("Seconds to wait before killing the container (old name of --timeout)")

    def query(self) -> dict[str, object]:
        """The operation's parameters."""
        seconds = self.timeout if self.given("timeout") else self.time if self.given("time") else None
        return {"signal": self.signal or None, "t": seconds}


def _stop(verb: str) -> Callable[[Context, StopOptions, list[str]], int]:
    def run(context: Context, options: StopOptions, arguments: list[str]) -> int:
        query = options.query()

        def act(name: str) -> str:
            context.api.call("POST", f"/containers/{quote(name)}/{verb}", query)
            return name

        return for_each(context, arguments, act)

    return run


class KillOptions(Options):
    """The flags of ``kill``."""

    signal = Text("Signal to send to the container", short="s")


def _kill(context: Context, options: KillOptions, arguments: list[str]) -> int:
    def act(name: str) -> str:
        context.api.call("POST", f"/containers/{quote(name)}/kill", {"signal": options.signal or "SIGKILL"})
        return name

    return for_each(context, arguments, act)


class RmOptions(Options):
    """The flags of ``rm``."""

    force = Switch("Force the removal of a running container (uses SIGKILL)", short="f")
    link = Switch("Remove the specified link", short="l")
    volumes = Switch("Remove anonymous volumes associated with the container", short="v")


def _rm(context: Context, options: RmOptions, arguments: list[str]) -> int:
    query = {"force": options.force or None, "link": options.link or None, "v": options.volumes or None}

    def act(name: str) -> str:
        if not name.strip("/"):
            raise CommandError("Container name cannot be empty")
        try:
            context.api.call("DELETE", f"/containers/{quote(name.strip('/'))}", query)
        except APIError as error:
            # What is gone already needs no force.
            if not (options.force and error.status == 404):
                raise
            context.warn(f"Error response from daemon: {error}")
            return ""
        return name

    if not options.force:
        return for_each(context, arguments, act)
    status = 0
    for name in arguments:
        try:
            if line := act(name):
                context.print(line)
        except APIError as error:
            status = 1
            context.warn(f"Error response from daemon: {error}")
    return status


class WaitOptions(Options):
    """``wait`` has no flags."""


def _wait(context: Context, _options: WaitOptions, arguments: list[str]) -> int:
    def act(name: str) -> str:
        answer = context.api.call("POST", f"/containers/{quote(name)}/wait")
        failure = (answer.get("Error") or {}).get("Message")
        if failure:
            raise APIError(500, failure)
        return str(answer["StatusCode"])

    return for_each(context, arguments, act)


class RenameOptions(Options):
    """``rename`` has no flags."""


def _rename(context: Context, _options: RenameOptions, arguments: list[str]) -> int:
    old, new = (name.strip() for name in arguments)
    if not old or not new:
        raise CommandError("Error: Neither old nor new names may be empty")
    try:
        context.api.call("POST", f"/containers/{quote(old)}/rename", {"name": new})
    except APIError as error:
        context.warn(f"Error response from daemon: {error}")
        raise CommandError(f"Error: failed to rename container named {old}") from error
    return 0


_MANY = "[OPTIONS] CONTAINER [CONTAINER...]"
STOP: Command[StopOptions] = Command(_MANY, "Stop one or more running containers", StopOptions, _stop("stop"), minimum=1)
RESTART: Command[StopOptions] = Command(_MANY, "Restart one or more containers", StopOptions, _stop("restart"), minimum=1)
KILL: Command[KillOptions] = Command(_MANY, "Kill one or more running containers", KillOptions, _kill, minimum=1)
RM: Command[RmOptions] = Command(_MANY, "Remove one or more containers", RmOptions, _rm, minimum=1)
WAIT: Command[WaitOptions] = Command(
    "CONTAINER [CONTAINER...]",
    "Block until one or more containers stop, then print their exit codes",
    WaitOptions,
    _wait,
    minimum=1,
)
RENAME: Command[RenameOptions] = Command(
    "CONTAINER NEW_NAME", "Rename a container", RenameOptions, _rename, minimum=2, maximum=2
)
