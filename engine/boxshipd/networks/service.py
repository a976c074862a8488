"""What the API and containers ask of networks."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Callable, Mapping

from boxship.types import networks as api
from msgspec.structs import replace

from boxshipd.errors import Conflict, DaemonError, Forbidden, InternalError, InvalidParameter, NotFound
from boxshipd.filters import Filters
from boxshipd.networks import drafting, options, store, view
from boxshipd.networks.default_bridge import default_bridge, exists, without_interfaces
from boxshipd.networks.kernel import NetworkKernel
from boxshipd.networks.leases import Leases
from boxshipd.networks.model import BRIDGE, DEFAULT_MODES, PREDEFINED, Network
from boxshipd.networks.settings import NetworkSettings
from boxshipd.scheduler.jobs import Job, Scheduler
from boxshipd.state.store import Store

log = logging.getLogger(__name__)

Publish = Callable[[str, str, str, Mapping[str, str]], object]
"""Publishes an event: its type, its action, what it happened to, and attributes."""


class Networks:
    """All networks of a daemon. ``open`` it before the first request; to be used on the event loop.

    Whatever decides about names, subnets and addresses does so without waiting, so that no two requests get the same.
    ``name_of`` is set once there are containers.
    """

    def __init__(
        self, *, store: Store, settings: NetworkSettings, kernel: NetworkKernel, scheduler: Scheduler, publish: Publish
    ) -> None:
        self._store = store
        self.settings = settings
        self._kernel = kernel
        self._scheduler = scheduler
        self._publish = publish
        self._networks: dict[str, Network] = {}
        self._names: dict[str, str] = {}
        self._coming: dict[str, Network] = {}
        self._leaving: dict[str, Network] = {}
        self._pruning = False
        self.bridge_problem = ""
        """Why there is no default bridge, where there should be one."""
        self.leases = Leases()
        self.name_of: view.NameOf = lambda _: ""

    async def open(self) -> None:
        """Load the records and bring the predefined networks to what the configuration says."""
        present = await self._store.read(store.read)
        kept = [network for network in present if network.name not in PREDEFINED]
        fixed = without_interfaces(present)
        try:
            bridge = default_bridge(self.settings, present)
        except DaemonError as error:
            # Whoever wants no bridge is not to be without containers for it.
            self.bridge_problem = f"the default bridge can't be as it is configured: {error}"
            log.error("%s", self.bridge_problem)
            bridge = None
        if bridge is not None:
            fixed.append(bridge)
        for network in fixed:
            if network not in present:
                await self._store.write(lambda db, network=network: store.insert(db, network))  # type: ignore[misc]
        for gone in present:
            if gone.name in PREDEFINED and gone.name not in {network.name for network in fixed}:
                await self._store.write(lambda db, gone=gone: store.delete(db, gone.id))  # type: ignore[misc]
        for network in (*fixed, *kept):
            self._add(network)

    @property
    def all(self) -> builtins.list[Network]:
        """Every network."""
        return builtins.list(self._networks.values())

    @property
    def all_and_coming(self) -> builtins.list[Network]:
        """Every network, and those that are being created."""
        return [*self._networks.values(), *self._coming.values()]

    def get(self, network_id: str) -> Network | None:
        """The network of a full id."""
        return self._networks.get(network_id)

    def named(self, name: str) -> Network | None:
        """The network of a name."""
        return self._networks.get(self._names.get(name, ""))

    def is_real(self, name: str) -> bool:
        """Whether containers on the network of a name have an interface of it."""
        network = self.named(name)
        return network is not None and network.real

    def find(self, ref: str) -> Network:
        """The network that ``ref`` means: a full id, a name, or the beginning of an id, in this order.

        Raises:
            NotFound: there is none.
            InvalidParameter: several ids begin so.
        """
        network = self._networks.get(ref) or self._networks.get(self._names.get(ref, ""))
        if network is not None:
            return network
        found = [network for id_, network in self._networks.items() if ref and id_.startswith(ref)]
        if len(found) > 1:
            raise InvalidParameter(f"network {ref} is ambiguous ({len(found)} matches found based on ID prefix)")
        if not found:
            raise NotFound(f"network {ref} not found")
        return found[0]

    def of_mode(self, mode: str) -> Network | None:
        """The network of a container's network mode; None where it has none: ``container:``, or no default bridge.

        Raises:
            NotFound, InvalidParameter: as ``find``.
        """
        if mode.startswith("container:"):
            return None
        if mode in DEFAULT_MODES:
            return self.named(BRIDGE)
        return self.find(mode)

    async def create(self, request: api.NetworkCreateRequest) -> api.NetworkCreateResponse:
        """Create a network, answering when it is in the kernel and on record.

        Raises:
            InvalidParameter, Forbidden, NotFound: as the request has it.
            Conflict: the name is in use.
            InternalError, Unavailable: it can't be made.
        """
        if request.name in PREDEFINED:
            raise Forbidden(f"operation is not permitted on predefined {request.name} network ")
        source = None
        if request.config_from is not None and request.config_from.network:
            source = self.find(request.config_from.network)
            if not source.config_only:
                raise InvalidParameter(f"config network {source.name!r} is not a configuration only network")
        draft, warnings = drafting.draft(request, self.settings, source)
        others = [*self._networks.values(), *self._coming.values(), *self._leaving.values()]
        if any(other.name == draft.name for other in others):
            raise Conflict(f"network with name {draft.name} already exists")
        network = drafting.with_addresses(draft, self.settings, others)
        drafting.check_bridge_name(network, others)
        if options.NAME in network.options and exists(network.options[options.NAME]):
            network = replace(network, foreign=True)
        self._coming[network.id] = network

        async def work(_: Job) -> None:
            try:
                if network.real:
                    await self._kernel.need(network)
                try:
                    await self._store.write(lambda db: store.insert(db, network))
                except InternalError:
                    await self._kernel.remove(network)
                    raise
                self._add(network)
            finally:
                self._coming.pop(network.id, None)
            self.tell("create", network)

        await self._scheduler.run("network", _key(network), work)
        return api.NetworkCreateResponse(id=network.id, warning="; ".join(warnings))

    async def remove(self, ref: str) -> None:
        """Remove a network that no running container is on.

        Raises:
            NotFound: there is none.
            Forbidden: it is predefined, or in use.
        """
        network = self.find(ref)
        if network.predefined:
            raise Forbidden(f"{network.name} is a pre-defined network and cannot be removed")
        await self._scheduler.run("network", _key(network), lambda _: self._remove(network))

    async def _remove(self, network: Network) -> None:
        if network.id not in self._networks:
            raise NotFound(f"network {network.name} not found")
        if members := self.leases.members(network):
            shown = ", ".join(f'name:"{self.name_of(c)}" id:"{lease.endpoint[:12]}"' for c, lease in members.items())
            raise Forbidden(f"error while removing network: network {network.name} has active endpoints ({shown})")
        if network.config_only and (user := next((n for n in self.all if n.config_from == network.name), None)):
            raise Forbidden(f"error while removing network: configuration network {network.name!r} is in use by {user.name!r}")
        # Nobody can lease of it from here on, nor have its name or its subnets before it is gone.
        self._forget(network)
        self._leaving[network.id] = network
        try:
            await self._store.write(lambda db: store.delete(db, network.id))
            await self._undo(network)
        except InternalError:
            self._add(network)
            raise
        finally:
            del self._leaving[network.id]
        if not network.config_only:
            self.tell("destroy", network)

    async def _undo(self, network: Network) -> None:
        if not network.real:
            return
        try:
            await self._kernel.remove(network)
        except DaemonError as error:
            # Without a record it goes at the next connection to the runtime.
            log.warning("remove network %s: %s", network.name, error)

    def list(self, filters: Filters) -> builtins.list[api.Network]:
        """The networks that the filters select.

        Raises:
            InvalidParameter: a filter is unknown or malformed.
        """
        filters.validate(view.LIST_FILTERS)
        return [
            view.describe(network)
            for network in sorted(self.all, key=lambda network: network.name)
            if view.chosen(network, filters, used=bool(self.leases.members(network)))
        ]

    def inspect(self, ref: str, scope: str = "") -> api.Network:
        """A network with the containers that are on it.

        Raises:
            NotFound: there is none, or none of this scope.
            InvalidParameter: several ids begin so.
        """
        if scope not in {"", view.SCOPE}:
            raise NotFound(f"network {ref} not found")
        network = self.find(ref)
        return view.describe(network, self.leases.members(network), self.name_of)

    async def prune(self, filters: Filters) -> api.NetworkPruneResponse:
        """Remove every network that no running container is on and that the filters select.

        Raises:
            InvalidParameter: a filter is unknown or malformed.
            Conflict: another prune is under way.
        """
        filters.validate(view.PRUNE_FILTERS)
        latest = filters.until()
        if self._pruning:
            raise Conflict("a prune operation is already running")
        self._pruning = True
        removed = []
        try:
            for network in self.all:
                selected = filters.labels("label", network.labels) and filters.not_labels("label!", network.labels)
                if network.predefined or not selected or self.leases.members(network):
                    continue
                if latest is not None and network.created > latest:
                    continue
                try:
                    await self.remove(network.id)
                except DaemonError as error:
                    log.info("prune: network %s stays: %s", network.name, error)
                    continue
                removed.append(network.name)
        finally:
            self._pruning = False
        self._publish("network", "prune", "", {"reclaimed": "0"})
        return api.NetworkPruneResponse(networks_deleted=removed or None)

    def tell(self, action: str, network: Network, container: str = "") -> None:
        """Publish an event of a network's, with Docker's attributes."""
        attributes = {"container": container} if container else {}
        self._publish("network", action, network.id, {**attributes, "name": network.name, "type": network.driver})

    def _add(self, network: Network) -> None:
        self._networks[network.id] = network
        self._names[network.name] = network.id
        self.leases.add(network)

    def _forget(self, network: Network) -> None:
        self._networks.pop(network.id, None)
        self._names.pop(network.name, None)
        self.leases.drop(network)


def _key(network: Network) -> str:
    """The key of a network's jobs."""
    return f"network {network.id}"
