"""Contracts: a service is a class whose methods are marked with their kind of call.

A contract class declares the methods with their types; a server's subclass overrides them with plain ``async def`` methods
(async generators where replies stream). The wire name of a method is ``<contract class>.<method>``::

    class Clock(Service):
        @unary
        async def now(self, request: NowRequest, context: Context) -> NowReply: ...

        @server_stream
        def ticks(self, request: TicksRequest, context: Context) -> AsyncIterator[Tick]: ...

        @client_stream
        async def sum(self, requests: AsyncIterator[Number], context: Context) -> Number: ...

        @bidi
        def echo(self, requests: AsyncIterator[Text], context: Context) -> AsyncIterator[Text]: ...

Messages are of any type that msgspec can decode, but mustn't contain ``memoryview`` or ``msgspec.Raw``, which would point into
the connection's buffer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Final, NamedTuple, TypeVar, get_args, get_type_hints

from msgspec.msgpack import Decoder

from boxrun.bus.frames import encode_opening

_F = TypeVar("_F", bound=Callable[..., Any])
_MARK: Final = "__bus_method__"


class Method:
    """A method of a contract: its wire name, its kind and its codecs.

    The types are read on first use, since a contract's annotations may name classes defined after it.
    """

    def __init__(self, function: Callable[..., Any], *, request_streams: bool = False, reply_streams: bool = False) -> None:
        self.function = function
        self.name = ".".join(function.__qualname__.split(".")[-2:])
        self.request_streams = request_streams
        self.reply_streams = reply_streams
        self.opening = encode_opening(self.name.encode())

    @cached_property
    def request_decoder(self) -> Decoder[Any]:
        """Decodes a request. Raises TypeError where the contract's annotations don't say the type."""
        parameters = self.function.__code__.co_varnames[: self.function.__code__.co_argcount]
        if len(parameters) != 3:
            raise TypeError(f"{self.name} must take self, its request and a Context")
        return Decoder(self._message(parameters[1], streams=self.request_streams))

    @cached_property
    def reply_decoder(self) -> Decoder[Any]:
        """Decodes a reply. Raises TypeError where the contract's annotations don't say the type."""
        return Decoder(self._message("return", streams=self.reply_streams))

    @cached_property
    def _hints(self) -> dict[str, Any]:
        return get_type_hints(self.function)

    def _message(self, parameter: str, *, streams: bool) -> Any:
        hint = self._hints.get(parameter)
        if hint is None:
            raise TypeError(f"{self.name} doesn't annotate {parameter!r}")
        if not streams:
            return hint
        arguments = get_args(hint)
        if not arguments:
            raise TypeError(f"{self.name} streams {parameter!r}: annotate it AsyncIterator[...]")
        return arguments[0]


class Service:
    """The base of contracts and, below them, of what implements them."""


class Handler(NamedTuple):
    """A method and what implements it."""

    method: Method
    function: Callable[..., Any]


def unary(function: _F) -> _F:
    """Mark a method with one request and one reply."""
    return _mark(function, Method(function))


def server_stream(function: _F) -> _F:
    """Mark a method with one request and a stream of replies."""
    return _mark(function, Method(function, reply_streams=True))


def client_stream(function: _F) -> _F:
    """Mark a method with a stream of requests and one reply."""
    return _mark(function, Method(function, request_streams=True))


def bidi(function: _F) -> _F:
    """Mark a method with a stream of requests and a stream of replies, independent of each other."""
    return _mark(function, Method(function, request_streams=True, reply_streams=True))


def method_of(function: Callable[..., Any], *, request_streams: bool, reply_streams: bool) -> Method:
    """The method that a contract's function stands for.

    Raises TypeError if it is of no contract, or isn't of the wanted kind.
    """
    method = getattr(function, _MARK, None)
    if not isinstance(method, Method):
        raise TypeError(f"{function!r} isn't a method of a contract: name it through the class that marks it")
    if method.request_streams is not request_streams or method.reply_streams is not reply_streams:
        raise TypeError(f"{method.name} is a method of another kind")
    return method


def handlers_of(services: Iterable[Service]) -> dict[bytes, Handler]:
    """What implements each method of ``services``, by wire name; methods that aren't overridden are left out.

    Raises ValueError if two services share a method's name, TypeError if a method's types can't be read or if
    a service is a contract that nothing was implemented of.
    """
    handlers: dict[bytes, Handler] = {}
    for service in services:
        declared = [
            (method, name)
            for cls in type(service).__mro__
            for name, function in vars(cls).items()
            if isinstance(method := getattr(function, _MARK, None), Method)
        ]
        # What bears a mark itself is the contract's own body.
        implemented = [(method, name) for method, name in declared if not hasattr(getattr(service, name), _MARK)]
        if declared and not implemented:
            raise TypeError(f"{type(service).__name__} overrides no method of its contract")
        for method, name in implemented:
            key = method.name.encode()
            if key in handlers:
                raise ValueError(f"two services implement {method.name}")
            handlers[key] = Handler(method, getattr(service, name))
            _ = method.request_decoder, method.reply_decoder
    return handlers


def _mark(function: _F, method: Method) -> _F:
    setattr(function, _MARK, method)
    return function
