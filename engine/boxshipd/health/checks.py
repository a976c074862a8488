"""The daemon's part of health checks: it has containers probed, and takes in what their probers tell.

Probing itself goes on without the daemon (``boxrun.prober``). What is in a container's state is what was told last; changes of
the status are recorded, and whoever inspects a container has it brought up to date.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress

from boxrun.prober.protocol import Health, ProbeResult
from boxrun.supervisor.contract import ContainerRef, HealthReply, HealthReports, HealthReportsRequest, ProbeRequest, Runtime
from msgspec.structs import replace

from boxshipd.containers.model import Container
from boxshipd.containers.registry import Registry
from boxshipd.containers.settings import Settings
from boxshipd.containers.spec.builder import build_spec
from boxshipd.errors import DaemonError
from boxshipd.events import Events
from boxshipd.health.settings import command, schedule
from boxshipd.runtime.link import RuntimeLink
from boxshipd.scheduler.restart import Backoff

log = logging.getLogger(__name__)

WAIT_SECONDS = 20.0
"""How long the supervisor keeps a question for news that there are none of."""

FIRST_RETRY = 0.1
LONGEST_RETRY = 10.0
"""Seconds between attempts to have a container probed whose prober died or couldn't be started: doubling up to this."""

_INSPECT_SECONDS = 2.0
_PROBE_EVENTS = ("exec_create", "exec_start", "exec_die")

Action = Callable[[Container], None]


class HealthChecks:
    """All containers' checks. ``unhealthy`` is called for each failure of an unhealthy container; set once.

    Args:
        registry: the containers.
        events: where changes are published, and who listens to them.
        runtime: what has containers probed.
        settings: the daemon's.
    """

    def __init__(self, registry: Registry, events: Events, runtime: RuntimeLink, settings: Settings) -> None:
        self._registry = registry
        self._events = events
        self._runtime = runtime
        self.settings = settings
        self.unhealthy: Action = lambda _: None
        self._follower: asyncio.Task[None] | None = None
        self._ensuring: dict[str, asyncio.Task[None]] = {}
        self._begun: dict[str, tuple[Backoff, float]] = {}
        """When a container's present prober was begun, and how long to wait before the one after it."""
        self._listeners_changed = asyncio.Event()
        events.followers_changed = self._listeners_changed.set

    def open(self) -> None:
        """Begin to listen; the runtime is connected."""
        self._follower = asyncio.create_task(self._follow(), name="health")

    async def close(self) -> None:
        """Stop listening; probes go on."""
        tasks = [*self._ensuring.values(), *([self._follower] if self._follower is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # A container's runs.

    def began(self, container: Container, new: bool) -> None:
        """A container runs: in a ``new`` run, or in one that was found."""
        if not command(container.config.config):
            container.state.health = None
            return
        before = container.state.health
        if before is None:
            container.state.health = Health()
        elif new:
            # As in Docker, the log goes on.
            container.state.health = replace(before, status="starting", streak=0)
        self._ensure(container)

    def ended(self, container: Container) -> None:
        """A container's run is over."""
        self._begun.pop(container.id, None)
        task = self._ensuring.pop(container.id, None)
        if task is not None:
            task.cancel()

    async def current(self, container: Container) -> None:
        """Bring a container's health up to date, where that can be had."""
        state = container.state
        if state.health is None or not state.running or state.restarting or state.paused:
            return
        with suppress(DaemonError):
            what = f"ask for the health of container {container.id}"
            reply = await self._runtime.call(Runtime.health, ContainerRef(id=container.id), what, timeout=_INSPECT_SECONDS)
            self._take(reply)

    def _ensure(self, container: Container, delay: float = 0.0) -> None:
        """Have the container probed, in ``delay`` seconds or later."""
        if container.id in self._ensuring:
            return
        task = self._ensuring[container.id] = asyncio.create_task(self._probe(container, delay))
        task.add_done_callback(lambda done: self._ensured(container.id, done))

    def _ensured(self, container_id: str, task: asyncio.Task[None]) -> None:
        if self._ensuring.get(container_id) is task:
            del self._ensuring[container_id]
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("probe container %s: %s", container_id, error, exc_info=error)

    def _replace(self, container: Container) -> None:
        """Have a dead prober replaced; one that keeps dying, as for want of memory, after growing delays."""
        backoff, begun = self._begun.get(container.id) or (Backoff(), 0.0)
        self._ensure(container, backoff.next(asyncio.get_running_loop().time() - begun))

    async def _probe(self, container: Container, delay: float) -> None:
        await asyncio.sleep(delay)
        delay = FIRST_RETRY
        while container.state.running and not container.state.restarting and not container.removed:
            try:
                # A failed attempt may be on account of what it joins, so that each begins with the spec.
                self._take(await self._runtime.call(Runtime.probe, self._request(container), f"probe container {container.id}"))
            except DaemonError as error:
                log.warning("%s", error)
            else:
                backoff = self._begun.get(container.id, (Backoff(), 0.0))[0]
                self._begun[container.id] = backoff, asyncio.get_running_loop().time()
                return
            await asyncio.sleep(delay)
            delay = min(2 * delay, LONGEST_RETRY)

    def _request(self, container: Container) -> ProbeRequest:
        """What the runtime is asked for.

        Raises:
            DaemonError: the container's spec can't be made.
        """
        spec = build_spec(container, self.settings, self._registry.find)
        config = container.config.config
        return ProbeRequest(
            id=container.id,
            process=replace(spec.process, args=command(config), terminal=False),
            seccomp=spec.seccomp,
            schedule=schedule(config),
            health=container.state.health or Health(),
        )

    # What is told.

    async def _follow(self) -> None:
        instance, latest, delay = "", 0, FIRST_RETRY
        while True:
            self._listeners_changed.clear()
            attentive = self._events.wanted("container", _PROBE_EVENTS)
            request = HealthReportsRequest(instance=instance, after=latest, wait=WAIT_SECONDS, attentive=attentive)
            try:
                reports = await self._news(request)
            except DaemonError as error:
                log.warning("%s", error)
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_RETRY)
                continue
            delay = FIRST_RETRY
            if reports is None:
                continue
            if reports.instance != instance:
                self._ensure_all()
            instance, latest = reports.instance, reports.latest
            for reply in reports.reports:
                self._take(reply)

    async def _news(self, request: HealthReportsRequest) -> HealthReports | None:
        """The answer; None where somebody began or ceased to listen to events meanwhile. Raises DaemonError."""
        call = self._runtime.call(Runtime.health_reports, request, "listen to health checks", timeout=2 * WAIT_SECONDS)
        asked = asyncio.ensure_future(call)
        changed = asyncio.ensure_future(self._listeners_changed.wait())
        try:
            await asyncio.wait([asked, changed], return_when=asyncio.FIRST_COMPLETED)
            return await asked if asked.done() else None
        finally:
            for task in (asked, changed):
                task.cancel()
            await asyncio.gather(asked, changed, return_exceptions=True)

    def _ensure_all(self) -> None:
        """Another supervisor may have found some of the probers dead."""
        for container in self._registry:
            if container.state.health is not None and container.state.running and not container.state.restarting:
                self._ensure(container)

    def _take(self, reply: HealthReply) -> None:
        container = self._registry.get(reply.id)
        if container is None or not container.state.running or reply.started_at != container.state.started_at:
            return
        before = container.state.health
        if before is None:
            return
        self._update(container, before, reply.health)
        if reply.lost:
            log.warning("container %s: its prober died; starting another", container.id)
            self._replace(container)

    def _update(self, container: Container, before: Health, health: Health) -> None:
        container.state.health = health
        fresh = health.log[-(health.count - before.count) :] if health.count > before.count else ()
        if fresh and self._events.wanted("container", _PROBE_EVENTS):
            for result in fresh:
                self._publish_probe(container, result)
        if health.status != before.status:
            self._events.publish("container", f"health_status: {health.status}", container.id, container.attributes())
            self._registry.save_later(container)
        if health.status == "unhealthy" and (fresh or before.status != "unhealthy"):
            self.unhealthy(container)

    def _publish_probe(self, container: Container, result: ProbeResult) -> None:
        """The events of an exec, which a probe is in Docker; for those who listen now, as they would drown all others."""
        program = " ".join(command(container.config.config))
        attributes = container.attributes({"execID": secrets.token_hex(32)})
        for action in (f"exec_create: {program}", f"exec_start: {program}"):
            self._events.publish("container", action, container.id, attributes)
        self._events.publish("container", "exec_die", container.id, attributes | {"exitCode": str(result.exit_code)})
