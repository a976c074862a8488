"""The application: every request goes through ``Application.handle``, and every error comes out as Docker's JSON."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, cast
from urllib.parse import unquote

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import StreamResponse
from boxship.types.system import Info

from boxshipd.api.attach import AttachOperations
from boxshipd.api.build import BuildOperations
from boxshipd.api.call import Call
from boxshipd.api.connection import ClientGoneError, Connection, ConnectionServer, TakenOver
from boxshipd.api.containers import ContainerOperations
from boxshipd.api.coverage import OPERATIONS
from boxshipd.api.distribution import DistributionOperations
from boxshipd.api.errors import response_to
from boxshipd.api.events import EventOperations
from boxshipd.api.execs import ExecOperations
from boxshipd.api.files import FileOperations
from boxshipd.api.images import ImageOperations
from boxshipd.api.logs import LogOperations
from boxshipd.api.networks import NetworkOperations
from boxshipd.api.router import Handler, Router
from boxshipd.api.security import BrowserGuard
from boxshipd.api.stats import StatsOperations
from boxshipd.api.system import SystemOperations
from boxshipd.api.version import split_version
from boxshipd.api.volumes import VolumeOperations
from boxshipd.builder.service import Builder
from boxshipd.builder.sessions import SessionRegistry
from boxshipd.containers.service import Containers
from boxshipd.disk_usage import disk_usage
from boxshipd.events import Events

if TYPE_CHECKING:
    from boxshipd.images.distribution import Distribution
    from boxshipd.images.service import Images
    from boxshipd.networks.service import Networks
    from boxshipd.volumes.service import Volumes

logger = logging.getLogger(__name__)


class Application:
    """The API on top of the engine's services; it keeps no state of its own."""

    def __init__(
        self,
        *,
        containers: Containers,
        images: Images,
        distribution: Distribution,
        volumes: Volumes,
        networks: Networks,
        events: Events,
        info: Callable[[], Awaitable[Info]],
        shutdown: Callable[[], Awaitable[None]],
        builder: Builder,
        sessions: SessionRegistry,
    ) -> None:
        system = SystemOperations(info, partial(disk_usage, containers, images, volumes, builder.cache), shutdown)
        self._router = Router(
            OPERATIONS,
            _handlers(containers, images, distribution, volumes, networks, events, system, BuildOperations(builder, sessions)),
        )

    def server(self, guard: BrowserGuard | None = None) -> ConnectionServer:
        """The protocol factory for one listener; ``guard`` where a browser could reach it."""
        return ConnectionServer(self.handle, guard)

    async def handle(self, request: BaseRequest) -> StreamResponse:
        """Answer a request."""
        operation, call = request.method, None
        connection = cast(Connection, request.protocol)
        try:
            if connection.guard is not None:
                connection.guard.check(request)
            path = request.raw_path.partition("?")[0]
            if not path.startswith("/"):
                path = request.path
            elif "%" in path:
                path = unquote(path)
            version, path = split_version(path)
            route, name = self._router.find(request.method, path)
            operation = route.operation.name
            if "Expect" in request.headers:
                await _allow_body(request)
            call = Call(request, name, version)
            return await route.handler(call)
        except asyncio.CancelledError:
            # The client went away and the handler was ended for that, or the daemon ends: nobody reads an answer.
            raise
        except ClientGoneError as error:
            logger.debug("%s: %s", operation, error)
            connection.release()
            return TakenOver()
        except ConnectionError as error:
            if connection.transport is None or connection.transport.is_closing():
                return TakenOver()
            return _failed(connection, call, error, operation)
        except Exception as error:  # noqa: BLE001 - the outermost border: whatever it is becomes an answer
            return _failed(connection, call, error, operation)


def _failed(connection: Connection, call: Call | None, error: Exception, operation: str) -> StreamResponse:
    response = response_to(error, operation)
    connection.refuse_takeover(response)
    if call is not None and call.started:
        # All that can still be told is that the body isn't complete.
        connection.release()
        return TakenOver()
    return response


def _handlers(  # noqa: PLR0917 - a service each
    containers: Containers,
    images: Images,
    distribution: Distribution,
    volumes: Volumes,
    networks: Networks,
    events: Events,
    system: SystemOperations,
    builds: BuildOperations,
) -> dict[str, Handler]:
    of_containers, of_volumes = ContainerOperations(containers), VolumeOperations(volumes)
    of_images, registries = ImageOperations(images, distribution), DistributionOperations(distribution)
    of_networks = NetworkOperations(networks, containers)
    attaching, logs = AttachOperations(containers), LogOperations(containers)
    execs = ExecOperations(containers)
    statistics = StatsOperations(containers)
    files = FileOperations(containers)
    return {
        "BuildCancel": builds.cancel,
        "BuildPrune": builds.prune,
        "BuildSession": builds.session,
        "ContainerArchive": files.archive,
        "ContainerArchiveInfo": files.describe,
        "ContainerAttach": attaching.attach,
        "ContainerAttachWebsocket": attaching.attach_websocket,
        "ContainerChanges": files.changes,
        "ContainerCreate": of_containers.create,
        "ContainerDelete": of_containers.remove,
        "ContainerExec": execs.create,
        "ContainerExport": files.export,
        "ContainerInspect": of_containers.inspect,
        "ContainerKill": of_containers.kill,
        "ContainerList": of_containers.list,
        "ContainerLogs": logs.stream,
        "ContainerLogsWebsocket": logs.websocket,
        "ContainerPause": of_containers.pause,
        "ContainerPrune": of_containers.prune,
        "ContainerRename": of_containers.rename,
        "ContainerResize": of_containers.resize,
        "ContainerRestart": of_containers.restart,
        "ContainerStart": of_containers.start,
        "ContainerStats": statistics.stats,
        "ContainerStatsWebsocket": statistics.websocket,
        "ContainerStop": of_containers.stop,
        "ContainerTop": of_containers.top,
        "ContainerUnpause": of_containers.unpause,
        "ContainerUpdate": of_containers.update,
        "ContainerWait": of_containers.wait,
        "DistributionInspect": registries.inspect,
        "DistributionManifest": registries.manifest,
        "DistributionManifestPut": registries.put_manifest,
        "ExecInspect": execs.inspect,
        "ExecResize": execs.resize,
        "ExecStart": execs.start,
        "ExecStartWebsocket": execs.start_websocket,
        "ImageBuild": builds.build,
        "ImageCommit": files.commit,
        "ImageCreate": of_images.create,
        "ImageDelete": of_images.remove,
        "ImageGet": of_images.get,
        "ImageGetAll": of_images.get,
        "ImageHistory": of_images.history,
        "ImageInspect": of_images.inspect,
        "ImageList": of_images.list,
        "ImageLoad": of_images.load,
        "ImagePrune": of_images.prune,
        "ImagePush": of_images.push,
        "ImageSearch": of_images.search,
        "ImageTag": of_images.tag,
        "NetworkConnect": of_networks.connect,
        "NetworkCreate": of_networks.create,
        "NetworkDelete": of_networks.remove,
        "NetworkDisconnect": of_networks.disconnect,
        "NetworkInspect": of_networks.inspect,
        "NetworkList": of_networks.list,
        "NetworkPrune": of_networks.prune,
        "PutContainerArchive": files.extract,
        "SystemAuth": registries.login,
        "SystemDataUsage": system.disk_usage,
        "SystemEvents": EventOperations(events).stream,
        "SystemEventsWebsocket": EventOperations(events).websocket,
        "SystemInfo": system.info,
        "SystemPing": system.ping,
        "SystemPingHead": system.ping_head,
        "SystemShutdown": system.shutdown,
        "SystemVersion": system.version,
        "VolumeCreate": of_volumes.create,
        "VolumeDelete": of_volumes.remove,
        "VolumeInspect": of_volumes.inspect,
        "VolumeList": of_volumes.list,
        "VolumePrune": of_volumes.prune,
        "VolumeUpdate": of_volumes.update,
    }


async def _allow_body(request: BaseRequest) -> None:
    """Tell a client that waits for permission to send its body that it may."""
    if request.headers["Expect"].lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
