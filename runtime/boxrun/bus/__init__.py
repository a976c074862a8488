"""The internal bus: gRPC's model on msgspec, over a unix socket or within a process, with file descriptors.

Declare a contract (:mod:`boxrun.bus.service`), implement it in a subclass, serve it with :func:`serve_unix`, and call it
through the :class:`Channel` that :func:`connect_unix` returns; :func:`in_process` gives the same without a socket.
Failures are :class:`BusError` on both sides. The wire is described in :mod:`boxrun.bus.frames`.
"""

from boxrun.bus.calls import BidiCall, ClientStreamCall, ServerStreamCall
from boxrun.bus.client import Channel
from boxrun.bus.connection import Limits
from boxrun.bus.context import Context, Peer
from boxrun.bus.inprocess import connect_in_process, in_process
from boxrun.bus.server import Server
from boxrun.bus.service import Service, bidi, client_stream, server_stream, unary
from boxrun.bus.status import BusError, Code
from boxrun.bus.unix import connect_unix, serve_unix

__all__ = [
    "BidiCall",
    "BusError",
    "Channel",
    "ClientStreamCall",
    "Code",
    "Context",
    "Limits",
    "Peer",
    "Server",
    "ServerStreamCall",
    "Service",
    "bidi",
    "client_stream",
    "connect_in_process",
    "connect_unix",
    "in_process",
    "serve_unix",
    "server_stream",
    "unary",
]
