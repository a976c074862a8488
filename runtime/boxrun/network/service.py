"""The service: ``contract.Networks`` on the sandboxes of one run directory.

Acts go to one thread, one after the other, and are done to their ends whether their callers still wait or not.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import ParamSpec, TypeVar

import msgspec

from boxrun.bus import BusError, Code, Context
from boxrun.network import conntrack
from boxrun.network.boxes import Box
from boxrun.network.contract import (
    ConnectRequest,
    DisconnectRequest,
    Names,
    NetworkFailure,
    NetworkFeatures,
    NetworkList,
    NetworkRef,
    Networks,
    NetworkSpec,
    Nothing,
    Plugged,
    PlugReply,
    PlugRequest,
    Policy,
    Port,
    PublishRequest,
    SandboxRef,
)
from boxrun.network.dns.link import NameServer
from boxrun.network.errors import NetworkError
from boxrun.network.features import detect
from boxrun.network.firewall import Monitor
from boxrun.network.graveyard import Graveyard
from boxrun.network.namespaces import NetThread
from boxrun.network.pool import Pool
from boxrun.network.relay.link import Relays
from boxrun.network.state import NetworkState
from boxrun.network.switchboard import Switchboard

log = logging.getLogger(__name__)
P = ParamSpec("P")
T = TypeVar("T")


class NetworksService(Networks):
    """Serves one run directory."""

    def __init__(self, run: str) -> None:
        """``run`` is the run directory's path."""
        self._state = NetworkState(run)
        self._table = f"boxship-{hashlib.blake2b(run.encode(), digest_size=4).hexdigest()}"
        self._thread = NetThread("boxrun-net")
        self._board: Switchboard | None = None
        self._why_not = ""
        self._pool = Pool()
        self._server = NameServer(self._state.path)
        self._relays = Relays(self._state.path)
        self._bridged: frozenset[int] = frozenset()
        self._monitor: Monitor | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._graveyard = Graveyard()

    async def recover(self, running: Mapping[str, int]) -> None:
        """Find what an earlier supervisor has plugged into the containers that run, given with their processes."""
        try:
            self._board = await self._thread.run(Switchboard, self._state, self._table)
        except OSError as error:
            self._why_not = f"this kernel has no nf_tables: {error.strerror}"
            log.warning("no networks: %s", self._why_not)
            return
        try:
            await self._thread.run(self._board.recover, running, await self._relays.find())
        except (NetworkError, OSError) as error:
            log.error("networks: %s", error)
        self._bridged = self._board.bridged
        await self._relays.recover(self._board.boxes)
        for network in self._board.networks.values():
            self._server.network(network)
            self._pool.want(network)
        await self._server.recover(self._board.boxes, self._serve_again)
        self._listen()

    async def _serve_again(self, box: Box) -> None:
        await self._thread.run(self._ready_board.serve, box)

    def _listen(self) -> None:
        try:
            self._monitor = Monitor(self._table)
        except OSError as error:
            log.warning("nobody tells when the firewall is flushed: %s", error)
            return
        asyncio.get_running_loop().add_reader(self._monitor.socket, self._heard)

    def _heard(self) -> None:
        board, monitor = self._ready_board, self._monitor
        if monitor is not None and monitor.tampered((board.firewall.port,)):
            log.warning("somebody has flushed the firewall's rules: they are made anew")
            self._spawn(self._rebuild())

    async def _rebuild(self) -> None:
        try:
            await self._thread.run(self._ready_board.firewall.rebuild)
            await self._thread.run(conntrack.forget_unanswered)
        except (NetworkError, OSError) as error:
            log.error("the firewall can't be made anew: %s", error)

    def _spawn(self, work: asyncio._CoroutineLike[None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @property
    def _ready_board(self) -> Switchboard:
        if self._board is None:
            reason = self._why_not or "networks aren't ready yet"
            raise BusError(Code.FAILED_PRECONDITION, reason, detail=NetworkFailure(kind="unsupported", message=reason))
        return self._board

    async def _relay(self, board: Switchboard, box: Box) -> None:
        """Have the relay carry what it is to carry of a sandbox."""
        await self._relays.have(box)
        await self._follow_bridges(board)

    async def _follow_bridges(self, board: Switchboard) -> None:
        """What bridges make impossible is relayed of every sandbox, or of none."""
        if board.bridged != self._bridged:
            self._bridged = board.bridged
            await self._relays.recover(board.boxes)

    async def _do(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        with _told():
            return await self._thread.run(work, *args, **kwargs)

    async def features(self, request: Nothing, context: Context) -> NetworkFeatures:
        """What this machine can do."""
        return await self._do(detect, self._why_not)

    async def policy(self, request: Policy, context: Context) -> Nothing:
        """Have this policy from now on."""
        board = self._ready_board
        await self._do(board.set_policy, request)
        await self._follow_bridges(board)
        return Nothing()

    async def ensure(self, request: NetworkSpec, context: Context) -> Nothing:
        """Have a network be as it is described."""
        await self._do(self._ready_board.ensure, request)
        self._pool.want(request)
        self._server.network(request)
        return Nothing()

    async def remove(self, request: NetworkRef, context: Context) -> Nothing:
        """Remove a network with all that is plugged into it."""
        self._pool.forget(request.id)
        await self._do(self._ready_board.remove, request.id)
        self._server.network_gone(request.id)
        return Nothing()

    async def plug(self, request: PlugRequest, context: Context) -> PlugReply:
        """Have a sandbox ready for a container's start."""
        return await self.plug_in(request, self.take(request))

    def take(self, request: PlugRequest) -> Box | None:
        """A sandbox made ahead of time for a container, which is to be plugged in next; None where none is ready.

        Raises:
            BusError: there are no networks on this machine.
        """
        network = self._first_bridge(request)
        servers = request.resolver is not None and request.resolver.embedded
        return self._pool.take(network, servers=servers) if network is not None else None

    def _first_bridge(self, request: PlugRequest) -> str | None:
        networks = self._ready_board.networks
        bridges = (e.network for e in request.endpoints if e.network in networks and networks[e.network].driver == "bridge")
        return next(bridges, None)

    async def plug_in(self, request: PlugRequest, ready: Box | None = None, namespace: int = -1) -> PlugReply:
        """Plug a container in.

        Args:
            request: what it is to have.
            ready: what ``take`` gave for it; no longer the caller's.
            namespace: its own network namespace, where it has made one; the descriptor stays the caller's.

        Raises:
            BusError: and nothing of it is left.
        """
        board = self._ready_board
        try:
            try:
                await self.unplugged(request.container)
            except BaseException:
                if ready is not None:
                    ready.close()
                raise
            box = await self._do(board.plug, request, ready, namespace)
            await self._server.serve(box)
            await self._relay(board, box)
        except asyncio.CancelledError:
            self._spawn(self.unplugged(request.container))
            raise
        finally:
            if (network := self._first_bridge(request)) is not None:
                self._pool.refill(network)
        return PlugReply(endpoints=box.plugged, ports=box.ports)

    def namespace_of(self, container: str) -> int:
        """The descriptor of a container's sandbox, -1 where it has none."""
        box = self._board.boxes.get(container) if self._board is not None else None
        return box.namespace if box is not None else -1

    async def connect(self, request: ConnectRequest, context: Context) -> PlugReply:
        """Plug a further endpoint in."""
        board = self._ready_board
        box, ports = await self._do(board.connect, request.container, request.endpoint, request.ports, request.resolver)
        try:
            await self._resettle(box)
        except OSError as error:
            await self._do(board.disconnect, request.container, request.endpoint.id)
            raise failed("kernel", f"the name server can't be started: {error}", None) from error
        await self._relay(board, box)
        return PlugReply(endpoints=_of(box.plugged, request.endpoint.id), ports=ports)

    async def disconnect(self, request: DisconnectRequest, context: Context) -> Nothing:
        """Take an endpoint away."""
        board = self._ready_board
        box = await self._do(board.disconnect, request.container, request.endpoint, request.resolver)
        if box is not None:
            await self._resettle(box)
            await self._relay(board, box)
        return Nothing()

    async def _resettle(self, box: Box) -> None:
        """Tell the name server where a container is by now; it may be the first that it hears of it."""
        if box.servers is not None:
            await self._server.serve(box)
        else:
            self._server.moved(box)

    async def publish(self, request: PublishRequest, context: Context) -> PlugReply:
        """Change a container's published ports."""
        board = self._ready_board
        box = await self._do(board.publish, request.container, request.ports)
        await self._relay(board, box)
        return PlugReply(endpoints=box.plugged, ports=box.ports)

    async def unplug(self, request: SandboxRef, context: Context) -> Nothing:
        """Let go of a container's sandbox."""
        await self.unplugged(request.container)
        return Nothing()

    async def unplugged(self, container: str) -> None:
        """The same; where nothing was plugged, nothing is done. Who asks while another does waits for that."""
        while (leaving := self._leaving.get(container)) is not None:
            await asyncio.shield(leaving)
        if self._board is None or container not in self._board.boxes:
            return
        task = self._leaving[container] = asyncio.get_running_loop().create_task(self._unplug(self._board, container))
        await asyncio.shield(task)

    async def _unplug(self, board: Switchboard, container: str) -> None:
        try:
            box = await self._thread.run(board.unplug, container)
            if box is not None:
                self._server.drop(container)
                await self._relays.drop(container)
                self._graveyard.add(box)
        finally:
            del self._leaving[container]

    async def list(self, request: Nothing, context: Context) -> NetworkList:
        """Every network and every sandbox."""
        board = self._ready_board
        return await self._do(
            lambda: NetworkList(
                networks=tuple(board.networks.values()), sandboxes=tuple(box.record for box in board.boxes.values())
            )
        )

    async def names(self, request: Names, context: Context) -> Nothing:
        """Names have changed."""
        self._server.names(request)
        return Nothing()

    async def close(self, *, clear: bool) -> None:
        """Let go of everything; where ``clear``, leave nothing of it."""
        if self._monitor is not None:
            asyncio.get_running_loop().remove_reader(self._monitor.socket)
            self._monitor.close()
        await self._pool.close()
        if self._board is not None and clear:
            await self._clear(self._board)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._graveyard.clear()
        await self._server.close(end=clear)
        await self._relays.close(end=clear)
        if self._board is not None:
            await self._thread.run(self._board.close)
        await asyncio.to_thread(self._thread.close)
        if clear:
            self._state.clear()

    async def _clear(self, board: Switchboard) -> None:
        for container in list(board.boxes):
            await self.unplugged(container)
        with suppress(NetworkError, OSError):
            await self._thread.run(board.clear)


def _of(plugged: tuple[Plugged, ...], endpoint: str) -> tuple[Plugged, ...]:
    return tuple(one for one in plugged if one.endpoint == endpoint)


@contextmanager
def _told() -> Iterator[None]:
    """Turn what acts raise into the bus's errors."""
    try:
        yield
    except NetworkError as error:
        raise failed(error.kind, error.message, error.port) from error
    except FileExistsError as error:
        raise BusError(Code.ALREADY_EXISTS, str(error)) from error
    except LookupError as error:
        raise BusError(Code.NOT_FOUND, str(error)) from error
    except (OSError, ValueError) as error:
        raise failed("kernel", str(error), None) from error


def failed(kind: str, message: str, port: Port | None) -> BusError:
    """The error that a caller is told."""
    detail = msgspec.convert({"kind": kind, "message": message, "port": port}, NetworkFailure, from_attributes=True)
    return BusError(Code.FAILED_PRECONDITION, message, detail=detail)
