"""From a request's method and path to its operation.

Docker matches names greedily, for an image's name has slashes in it: ``/images/registry:5000/a/b/json`` inspects
``registry:5000/a/b``. So what stands before and after the name decides, and the last part of the path finds the candidates.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

from aiohttp.web_response import StreamResponse

from boxshipd.api.call import Call
from boxshipd.api.coverage import Operation
from boxshipd.errors import NotFound, NotImplementedHere

Handler = Callable[[Call], Awaitable[StreamResponse]]


class Route:
    """An operation and its handler; ``suffix`` is what follows the name in its path."""

    __slots__ = ("handler", "operation", "suffix")

    def __init__(self, operation: Operation, handler: Handler, suffix: str = "") -> None:
        self.operation = operation
        self.handler = handler
        self.suffix = suffix


class Router:
    """Every operation's route."""

    def __init__(self, operations: Iterable[Operation], handlers: Mapping[str, Handler]) -> None:
        """Make the routes.

        Args:
            operations: all of them; those that lack something are answered 501.
            handlers: of those that lack nothing, by the operation's name.
        """
        self._fixed: dict[tuple[str, str], Route] = {}
        self._named: dict[tuple[str, str, str], list[Route]] = {}
        for operation in operations:
            handler = _refusing(operation) if operation.lacks else handlers[operation.name]
            before, brace, after = operation.path.partition("{")
            if not brace:
                self._fixed[operation.method, operation.path] = Route(operation, handler)
                continue
            suffix = after.partition("}")[2]
            key = operation.method, before, suffix.rpartition("/")[2]
            self._named.setdefault(key, []).append(Route(operation, handler, suffix))

    def find(self, method: str, path: str) -> tuple[Route, str]:
        """The route of a request and the name in its path (empty where it has none).

        Args:
            method: of HTTP, in upper case.
            path: decoded, without its version.

        Raises:
            NotFound: there is no such operation.
        """
        route = self._fixed.get((method, path))
        if route is not None:
            return route, ""
        collection, slash, rest = path[1:].partition("/")
        if slash:
            before = f"/{collection}/"
            for last in (rest.rpartition("/")[2], ""):
                for candidate in self._named.get((method, before, last), ()):
                    suffix = candidate.suffix
                    if len(rest) > len(suffix) and rest.endswith(suffix):
                        return candidate, rest[: len(rest) - len(suffix)]
        raise NotFound("page not found")


def _refusing(operation: Operation) -> Handler:
    async def refuse(call: Call) -> StreamResponse:
        raise NotImplementedHere(operation.refusal)

    return refuse
