"""The engine's events: a short history and any number of followers.

Source: moby daemon/events; attributes and their order of appearance are dockerd's.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

from boxship.types.events import EventActor, EventMessage
from msgspec import UNSET

from boxshipd.filters import Filters

HISTORY = 1024
"""How many past events ``since`` can reach; dockerd keeps 256."""

_BACKLOG = 65536
FILTERS = frozenset(
    {"config", "container", "daemon", "event", "image", "label", "network", "node", "plugin", "scope", "secret", "service"}
    | {"type", "volume"}
)
"""The filter names of ``GET /events``."""


class Subscription(AsyncIterator[EventMessage]):
    """One follower's events. Iterate it, and ``aclose`` it in the end (``contextlib.aclosing``)."""

    def __init__(self, followers: set[Subscription], filters: Filters, until: float | None) -> None:
        self._followers = followers
        self.filters = filters
        self._until = until
        self._queue: deque[EventMessage] = deque()
        self._wake = asyncio.Event()
        self._overrun = False
        followers.add(self)

    def offer(self, message: EventMessage) -> None:
        """Queue a message that matches; a follower hopelessly behind is cut off rather than eat the memory."""
        if not matches(self.filters, message):
            return
        if len(self._queue) >= _BACKLOG:
            self._overrun = True
        else:
            self._queue.append(message)
        self._wake.set()

    async def __anext__(self) -> EventMessage:
        while not self._queue:
            if self._overrun or self not in self._followers or not await self._woken():
                self._followers.discard(self)
                raise StopAsyncIteration
        return self._queue.popleft()

    async def _woken(self) -> bool:
        """Wait for a message; False when ``until`` has come instead."""
        self._wake.clear()
        if self._until is None:
            await self._wake.wait()
            return True
        try:
            async with asyncio.timeout(self._until - time.time()):
                await self._wake.wait()
        except TimeoutError:
            return False
        return True

    async def aclose(self) -> None:
        """Leave; an iteration that waits ends."""
        self._followers.discard(self)
        self._wake.set()


class Events:
    """Publish with ``publish``, follow with ``subscribe``. Belongs to one event loop."""

    def __init__(self) -> None:
        self._history: deque[EventMessage] = deque(maxlen=HISTORY)
        self._followers: set[Subscription] = set()
        self._last = 0
        self.followers_changed: Callable[[], None] = lambda: None
        """Called when somebody has begun to listen; set once, by who makes events only where they are ``wanted``."""

    @property
    def followers(self) -> int:
        """How many subscriptions there are."""
        return len(self._followers)

    def publish(
        self, kind: str, action: str, actor_id: str, attributes: Mapping[str, str] | None = None, *, scope: str = "local"
    ) -> EventMessage:
        """Tell everybody that ``action`` happened to the object ``actor_id`` of the type ``kind``. Never blocks."""
        moment = time.time_ns()
        # Later events never carry an earlier time, whatever the clock does, so that ``since`` misses none.
        moment = self._last = max(moment, self._last + 1)
        values = dict(attributes or {})
        old = kind in {"container", "image"}
        message = EventMessage(
            type=kind,
            action=action,
            actor=EventActor(id=actor_id, attributes=values),
            scope=scope,
            time=moment // 1_000_000_000,
            time_nano=moment,
            status=action if old else UNSET,
            id=actor_id if old else UNSET,
            from_=values.get("image", "") if kind == "container" else UNSET,
        )
        self._history.append(message)
        for follower in self._followers:
            follower.offer(message)
        return message

    def wanted(self, kind: str, actions: Sequence[str]) -> bool:
        """Whether anybody listens to one of these actions of a kind of object, whichever object it is."""
        return any(
            follower.filters.exact("type", kind) and any(_action(follower.filters, action) for action in actions)
            for follower in self._followers
        )

    def subscribe(self, filters: Filters | None = None, since: float | None = None, until: float | None = None) -> Subscription:
        """Events that match ``filters``: past ones from ``since``, then those to come, until ``until``.

        Times are seconds since the epoch. The subscription counts from this call, not from the first iteration.
        Without ``until`` it never ends; ``aclose`` it to leave.

        Raises:
            InvalidParameter: a filter name is unknown.
        """
        filters = filters or Filters()
        filters.validate(FILTERS)
        subscription = Subscription(self._followers, filters, until)
        self.followers_changed()
        if since is not None:
            start = int(since * 1e9)
            end = None if until is None else int(until * 1e9)
            for message in self._history:
                if message.time_nano >= start and (end is None or message.time_nano <= end):
                    subscription.offer(message)
        return subscription


def matches(filters: Filters, message: EventMessage) -> bool:
    """Whether an event passes the filters of ``GET /events``. Source: moby daemon/events/filter.go."""
    if not filters:
        return True
    return (
        _action(filters, message.action)
        and filters.exact("type", message.type)
        and filters.exact("scope", message.scope)
        and all(_named(filters, kind, message) for kind in ("daemon", "container", "plugin", "volume", "network", "node"))
        and all(_named(filters, kind, message) for kind in ("service", "secret", "config"))
        and _image(filters, message)
        and filters.labels("label", message.actor.attributes)
    )


def _action(filters: Filters, action: str) -> bool:
    """``event`` matches the whole action, or what stands before its colon (``exec_create: sh``)."""
    return filters.exact("event", action) or filters.exact("event", action.partition(":")[0])


def _named(filters: Filters, kind: str, message: EventMessage) -> bool:
    """A filter named after a type matches the beginning of an id or name."""
    return filters.prefix(kind, message.actor.id) or filters.prefix(kind, message.actor.attributes.get("name", ""))


def _image(filters: Filters, message: EventMessage) -> bool:
    """``image`` matches an image by id or name, with or without its tag."""
    if "image" not in filters:
        return True
    name = message.actor.attributes.get("name" if message.type == "image" else "image", "")
    return any(filters.exact("image", text) for text in (message.actor.id, name, _untagged(message.actor.id), _untagged(name)))


def _untagged(reference: str) -> str:
    """A reference without its tag or digest."""
    name = reference.partition("@")[0]
    head, _, tail = name.rpartition("/")
    return f"{head}/{tail.partition(':')[0]}" if head else tail.partition(":")[0]
