"""``boxship info``."""

from __future__ import annotations

from typing import Any

from boxship import __version__
from boxship.cli.command import Command, Context
from boxship.cli.filters import FORMAT_ONE_HELP, template_of
from boxship.cli.flags import Options, Text
from boxship.errors import BoxshipError
from boxship.units import binary_size


class InfoOptions(Options):
    """The flags of ``info``."""

    format = Text(FORMAT_ONE_HELP, short="f")


def _yes(value: object) -> str:
    return "true" if value else "false"


def pretty(info: dict[str, Any]) -> str:
    """The daemon's part, in Docker's layout."""
    get = info.get
    lines = [
        f" Containers: {get('Containers', 0)}",
        f"  Running: {get('ContainersRunning', 0)}",
        f"  Paused: {get('ContainersPaused', 0)}",
        f"  Stopped: {get('ContainersStopped', 0)}",
        f" Images: {get('Images', 0)}",
        f" Server Version: {get('ServerVersion', '')}",
        f" Storage Driver: {get('Driver', '')}",
        *(f"  {pair[0]}: {pair[1]}" for pair in get("DriverStatus") or ()),
        f" Logging Driver: {get('LoggingDriver', '')}",
        f" Cgroup Driver: {get('CgroupDriver', '')}",
        f" Cgroup Version: {get('CgroupVersion', '')}",
        " Plugins:",
    ]
    plugins = get("Plugins") or {}
    lines += [f"  {kind}: {' '.join(plugins.get(kind) or [])}" for kind in ("Volume", "Network", "Log")]
    lines.append(f" Swarm: {(get('Swarm') or {}).get('LocalNodeState', 'inactive')}")
    if runtimes := get("Runtimes"):
        lines += [f" Runtimes: {' '.join(sorted(runtimes))}", f" Default Runtime: {get('DefaultRuntime', '')}"]
    if get("InitBinary"):
        lines.append(f" Init Binary: {get('InitBinary')}")
    if security := get("SecurityOptions"):
        lines.append(" Security Options:")
        for option in security:
            name, *rest = (part.partition("=")[::2] for part in option.split(","))
            lines.append(f"  {name[1] or name[0]}")
            lines += [f"   {key.capitalize()}: {value}" for key, value in rest]
    lines += [
        f" Kernel Version: {get('KernelVersion', '')}",
        f" Operating System: {get('OperatingSystem', '')}",
        f" OSType: {get('OSType', '')}",
        f" Architecture: {get('Architecture', '')}",
        f" CPUs: {get('NCPU', 0)}",
        f" Total Memory: {binary_size(get('MemTotal', 0))}",
        f" Name: {get('Name', '')}",
        f" ID: {get('ID', '')}",
        f" Docker Root Dir: {get('DockerRootDir', '')}",
        f" Debug Mode: {_yes(get('Debug'))}",
        *([" Labels:"] if get("Labels") else []),
        *(f"  {label}" for label in get("Labels") or ()),
        f" Experimental: {_yes(get('ExperimentalBuild'))}",
    ]
    registry = get("RegistryConfig") or {}
    if insecure := registry.get("InsecureRegistryCIDRs"):
        lines += [" Insecure Registries:", *(f"  {network}" for network in insecure)]
    if mirrors := registry.get("Mirrors"):
        lines += [" Registry Mirrors:", *(f"  {mirror}" for mirror in mirrors)]
    lines.append(f" Live Restore Enabled: {_yes(get('LiveRestoreEnabled'))}")
    return "\n".join(lines)


def _run(context: Context, options: InfoOptions, _arguments: list[str]) -> int:
    template = template_of(options.format)
    client = {"Debug": context.options.debug, "Version": __version__, "Context": "default", "Plugins": [], "Warnings": None}
    info: dict[str, Any] = {}
    failure: BoxshipError | None = None
    try:
        info = context.api.call("GET", "/info")
    except BoxshipError as error:
        failure = error
    if options.format:
        everything = {**info, "ClientInfo": client}
        if template is not None:
            context.print(template.execute(everything))
        else:
            from boxship.terminal.govalues import to_json

            context.print(to_json(everything))
    else:
        context.print(
            f"Client:\n Version:    {__version__}\n Context:    default\n Debug Mode: {_yes(client['Debug'])}\n\nServer:"
        )
        if failure is None:
            context.print(pretty(info) + "\n")
            for warning in info.get("Warnings") or ():
                context.warn(warning)
    if failure is not None:
        raise failure
    return 0


INFO: Command[InfoOptions] = Command("[OPTIONS]", "Display system-wide information", InfoOptions, _run, maximum=0)
