"""The daemon about itself: ``_ping``, ``version``, ``info``, ``system/df``, and its end.

Source: Docker Engine API v1.51, the System operations.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Awaitable, Callable, Collection

from aiohttp.web_response import Response, StreamResponse
from boxship.types.system import DiskUsage, Info, Version, VersionComponent, VersionPlatform
from msgspec.structs import replace

from boxshipd import __version__
from boxshipd.api.call import Call, empty_response, json_response
from boxshipd.api.version import HEADERS, NEWEST_TEXT, OLDEST_TEXT
from boxshipd.host import go_architecture

_PING_HEADERS = {
    **HEADERS,
    # 1 is the classic builder. Docker's clients take 2 for BuildKit and would speak gRPC to us.
    "Builder-Version": "1",
    "Cache-Control": "no-cache, no-store, must-revalidate",
    "Pragma": "no-cache",
    "Swarm": "inactive",
    "Content-Type": "text/plain; charset=utf-8",
}


class SystemOperations:
    """The daemon about itself."""

    def __init__(
        self,
        info: Callable[[], Awaitable[Info]],
        usage: Callable[[Collection[str]], Awaitable[DiskUsage]],
        shutdown: Callable[[], Awaitable[None]],
    ) -> None:
        """Set up.

        Args:
            info: gathers what ``info`` tells.
            usage: measures what some kinds of objects take on the disk; all kinds where none is named.
            shutdown: stops every container and the runtime, and lets the daemon end afterwards.
        """
        self._info = info
        self._usage = usage
        self._shutdown = shutdown

    async def ping(self, call: Call) -> StreamResponse:
        """SystemPing."""
        return Response(body=b"OK", headers=_PING_HEADERS)

    async def ping_head(self, call: Call) -> StreamResponse:
        """SystemPingHead."""
        return Response(headers={**_PING_HEADERS, "Content-Length": "0"})

    async def version(self, call: Call) -> StreamResponse:
        """SystemVersion."""
        return json_response(engine_version())

    async def info(self, call: Call) -> StreamResponse:
        """SystemInfo."""
        return json_response(await self._info())

    async def disk_usage(self, call: Call) -> StreamResponse:
        """SystemDataUsage. Before API 1.42 everything was measured, and the build cache told as a sum."""
        if call.version >= (1, 42):
            return json_response(await self._usage(call.query.texts("type")))
        usage = await self._usage(())
        size = sum(record.size for record in usage.build_cache or ())
        return json_response(replace(usage, builder_size=size))

    async def shutdown(self, call: Call) -> StreamResponse:
        """SystemShutdown: stop every container and the runtime. Answered when that is done; then the daemon ends too."""
        await self._shutdown()
        return empty_response()


def engine_version() -> Version:
    """What ``version`` tells."""
    kernel = platform.release()
    arch = go_architecture()
    python = f"none (Python {platform.python_version()})"
    return Version(
        platform=VersionPlatform(name="Boxship"),
        components=[
            VersionComponent(
                name="Engine",
                version=__version__,
                details={
                    "ApiVersion": NEWEST_TEXT,
                    "Arch": arch,
                    "BuildTime": "",
                    "Experimental": "false",
                    "GitCommit": "",
                    "GoVersion": python,
                    "KernelVersion": kernel,
                    "MinAPIVersion": OLDEST_TEXT,
                    "Os": "linux",
                },
            ),
            VersionComponent(name="boxrun", version=__version__, details={"GitCommit": ""}),
            VersionComponent(
                name="Python", version=platform.python_version(), details={"Implementation": sys.implementation.name}
            ),
        ],
        version=__version__,
        api_version=NEWEST_TEXT,
        min_api_version=OLDEST_TEXT,
        git_commit="",
        go_version=python,
        os="linux",
        arch=arch,
        kernel_version=kernel,
        build_time="",
    )
