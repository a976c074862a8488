"""The ``boxrun`` command: starts a supervisor, and lets an operator look at what one runs and end it."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Annotated, Literal

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)

RunDir = Annotated[str, typer.Option(help="Directory of the bus socket and the shims' sockets.")]
LogLevel = Annotated[Literal["debug", "info", "warning", "error"], typer.Option(help="The least severe messages to log.")]


@app.callback()
def boxrun() -> None:
    """The runtime below boxshipd: supervisor, zygote and shims."""


@app.command()
def supervisor(
    run_dir: RunDir = "/var/run/boxship",
    log_level: LogLevel = "info",
    log_file: Annotated[str, typer.Option(help="Log here instead of to standard error.")] = "",
) -> None:
    """Run the supervisor of a run directory."""
    import msgspec

    settings = {"run_dir": run_dir, "log_level": log_level, "log_file": log_file}
    # A process of its own image: the command line parser would otherwise stay in the supervisor's memory for good.
    arguments = [sys.executable, "-P", "-m", "boxrun.supervisor", msgspec.json.encode(settings).decode()]
    package_parent = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = [package_parent, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    os.execve(sys.executable, arguments, os.environ | {"PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))})


@app.command(name="list")
def list_containers(run_dir: RunDir = "/var/run/boxship") -> None:
    """List the containers of a supervisor: id, phase, pid, exit code."""
    asyncio.run(_list(run_dir))


async def _list(run_dir: str) -> None:
    from boxrun.bus import connect_unix
    from boxrun.supervisor.contract import Empty, Runtime

    async with await connect_unix(f"{run_dir}/boxrun.sock") as channel:
        for status in (await channel.unary(Runtime.list, Empty(), timeout=10)).containers:
            typer.echo(f"{status.id} {status.phase} {status.pid} {status.exit_code}")


@app.command()
def shutdown(
    run_dir: RunDir = "/var/run/boxship",
    kill: Annotated[bool, typer.Option(help="Kill the containers that run.")] = False,
) -> None:
    """End a supervisor and its zygote; refused while containers run unless they are to be killed."""
    asyncio.run(_shutdown(run_dir, kill))


async def _shutdown(run_dir: str, kill: bool) -> None:
    from boxrun.bus import BusError, connect_unix
    from boxrun.supervisor.contract import Runtime, ShutdownRequest

    try:
        async with await connect_unix(f"{run_dir}/boxrun.sock") as channel:
            await channel.unary(Runtime.shutdown, ShutdownRequest(kill=kill), timeout=10)
            await channel.wait_closed()
    except BusError as error:
        typer.echo(f"boxrun: {error.message}", err=True)
        raise typer.Exit(1) from error


def main() -> None:
    """Entry point of the ``boxrun`` program."""
    app()


if __name__ == "__main__":
    main()
