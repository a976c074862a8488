"""``boxship version``."""

from __future__ import annotations

import sys
from typing import Any

from boxship import __version__
from boxship.cli.command import Command, Context
from boxship.cli.filters import FORMAT_ONE_HELP, template_of
from boxship.cli.flags import Options, Text
from boxship.errors import BoxshipError


class VersionOptions(Options):
    """The flags of ``version``."""

    format = Text(FORMAT_ONE_HELP, short="f")


def _client(api_version: str) -> dict[str, Any]:
    import os

    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    return {
        "Platform": {"Name": "Boxship"},
        "Version": __version__,
        "ApiVersion": api_version,
        "DefaultAPIVersion": "1.51",
        "GitCommit": "",
        # Docker's field; what runs here is Python.
        "GoVersion": "",
        "PythonVersion": sys.version.partition(" ")[0],
        "Os": sys.platform,
        "Arch": machine,
        "BuildTime": "",
        "Context": "default",
    }


def _pretty(client: dict[str, Any], server: dict[str, Any] | None, downgraded: bool) -> str:
    version = client["ApiVersion"] + (f" (downgraded from {client['DefaultAPIVersion']})" if downgraded else "")
    lines = [
        "Client:",
        f" Version:           {client['Version']}",
        f" API version:       {version}",
        f" Python version:    {client['PythonVersion']}",
        f" OS/Arch:           {client['Os']}/{client['Arch']}",
    ]
    if server is None:
        return "\n".join(lines)
    platform = (server.get("Platform") or {}).get("Name", "")
    lines += ["", f"Server: {platform}".rstrip(), " Engine:"]
    lines += [
        f"  Version:          {server.get('Version', '')}",
        f"  API version:      {server.get('ApiVersion', '')} (minimum version {server.get('MinAPIVersion', '')})",
        f"  OS/Arch:          {server.get('Os', '')}/{server.get('Arch', '')}",
        f"  Kernel version:   {server.get('KernelVersion', '')}",
        f"  Experimental:     {str(bool(server.get('Experimental'))).lower()}",
    ]
    for component in server.get("Components") or ():
        if component.get("Name") == "Engine":
            continue
        lines += [f" {component['Name']}:", f"  Version:          {component.get('Version', '')}"]
        lines += [f"  {name + ':':<18}{value}" for name, value in sorted((component.get("Details") or {}).items())]
    return "\n".join(lines)


def _run(context: Context, options: VersionOptions, _arguments: list[str]) -> int:
    template = template_of(options.format)
    server: dict[str, Any] | None = None
    failure: BoxshipError | None = None
    api_version = "1.51"
    try:
        server = context.api.call("GET", "/version")
        api_version = context.api.version
    except BoxshipError as error:
        failure = error
    client = _client(api_version)
    if template is not None:
        # What isn't experimental has no word of it in JSON; a template may ask all the same.
        shown = server and {"Experimental": False, **server}
        context.print(template.execute({"Client": client, "Server": shown}))
    elif options.format == "json":
        from boxship.terminal.govalues import to_json

        context.print(to_json({"Client": client, "Server": server}))
    else:
        context.print(_pretty(client, server, api_version != client["DefaultAPIVersion"]))
    if failure is not None:
        raise failure
    return 0


VERSION: Command[VersionOptions] = Command("[OPTIONS]", "Show the Boxship version information", VersionOptions, _run, maximum=0)
