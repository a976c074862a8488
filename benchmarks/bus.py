"""The bus against grpcio's asyncio client and server, over unix sockets, in one run.

Each side of each pair is a process of its own; both use the same msgspec messages and the same handlers. Rounds alternate
between the two, and medians are compared. Run: ``python benchmarks/bus.py [--rounds N] [--seconds S] [--loop uvloop|asyncio]``.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, cast

import grpc.aio
import msgspec
import uvloop
from boxrun.bus import Context, Service, connect_unix, serve_unix, server_stream, unary

CONCURRENCY = 64
CHUNK = 64 * 1024
TARGETS = {"unary": 3.0, "stream": 2.0}


class Ask(msgspec.Struct, frozen=True):
    """A small request."""

    id: str
    number: int


class Answer(msgspec.Struct, frozen=True):
    """A small reply."""

    id: str
    number: int
    tags: tuple[str, ...] = ()


class Download(msgspec.Struct, frozen=True):
    """Ask for ``count`` chunks of ``size`` bytes."""

    count: int
    size: int


class Chunk(msgspec.Struct, frozen=True):
    """A piece of a stream."""

    offset: int
    data: bytes


class Bench(Service):
    """The service both servers offer."""

    @unary
    async def ask(self, request: Ask, context: Context) -> Answer:
        """Answer at once."""
        raise NotImplementedError

    @server_stream
    def download(self, request: Download, context: Context) -> AsyncIterator[Chunk]:
        """Stream chunks."""
        raise NotImplementedError


class BenchService(Bench):
    """Its implementation, for both."""

    async def ask(self, request: Ask, context: Context) -> Answer:
        return Answer(request.id, request.number + 1, ("a", "b"))

    async def download(self, request: Download, context: Context) -> AsyncIterator[Chunk]:
        data = bytes(request.size)
        for index in range(request.count):
            yield Chunk(index * request.size, data)


async def serve_bus(path: str) -> None:
    """Run the bus's server until killed."""
    async with serve_unix(path, [BenchService()]):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def serve_grpc(path: str) -> None:
    """Run grpcio's server until killed."""
    bench, encode = BenchService(), msgspec.msgpack.Encoder().encode
    handlers = {
        "ask": grpc.unary_unary_rpc_method_handler(
            cast(Any, bench.ask), request_deserializer=msgspec.msgpack.Decoder(Ask).decode, response_serializer=encode
        ),
        "download": grpc.unary_stream_rpc_method_handler(
            cast(Any, bench.download), request_deserializer=msgspec.msgpack.Decoder(Download).decode, response_serializer=encode
        ),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Bench", handlers),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


async def calls_per_second(call: Callable[[int], Awaitable[Answer]], seconds: float) -> float:
    """Unary calls a second with CONCURRENCY callers."""
    done = 0
    start = time.perf_counter()
    end = start + seconds

    async def caller(number: int) -> None:
        nonlocal done
        while time.perf_counter() < end:
            answer = await call(number)
            if answer.number != number + 1:
                raise RuntimeError(f"wrong answer: {answer}")
            done += 1

    async with asyncio.TaskGroup() as group:
        for number in range(CONCURRENCY):
            group.create_task(caller(number))
    return done / (time.perf_counter() - start)


async def stream_rate(chunks: AsyncIterator[Chunk], count: int) -> float:
    """MB a second of a stream of ``count`` chunks."""
    start = time.perf_counter()
    received = 0
    async for chunk in chunks:
        received += len(chunk.data)
    if received != count * CHUNK:
        raise RuntimeError(f"stream cut short: {received} bytes")
    return received / (time.perf_counter() - start) / 1e6


async def measure_bus(path: str, seconds: float, chunks: int) -> dict[str, float]:
    """One round of the bus."""
    async with await connect_unix(path) as channel:
        rate = await calls_per_second(lambda number: channel.unary(Bench.ask, Ask("container", number)), seconds)
        async with channel.server_stream(Bench.download, Download(chunks, CHUNK)) as replies:
            return {"unary": rate, "stream": await stream_rate(replies, chunks)}


async def measure_grpc(path: str, seconds: float, chunks: int) -> dict[str, float]:
    """One round of grpcio."""
    encode = msgspec.msgpack.Encoder().encode
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        ask = channel.unary_unary("/Bench/ask", encode, msgspec.msgpack.Decoder(Answer).decode)
        download = channel.unary_stream("/Bench/download", encode, msgspec.msgpack.Decoder(Chunk).decode)
        rate = await calls_per_second(lambda number: cast(Awaitable[Answer], ask(Ask("container", number))), seconds)
        return {"unary": rate, "stream": await stream_rate(download(Download(chunks, CHUNK)).__aiter__(), chunks)}


ROLES: dict[str, Callable[..., Any]] = {
    "serve-bus": serve_bus,
    "serve-grpc": serve_grpc,
    "measure-bus": measure_bus,
    "measure-grpc": measure_grpc,
}


def run_role(role: str, loop: str, arguments: list[Any]) -> None:
    """Be one of the four processes."""
    # grpcio's asyncio API is made for asyncio's own loop, so only the bus gets another one.
    run = uvloop.run if loop == "uvloop" and role.endswith("bus") else asyncio.run
    result = run(ROLES[role](*arguments))
    if result is not None:
        print(msgspec.json.encode(result).decode())


def start(role: str, loop: str, *arguments: object) -> subprocess.Popen[str]:
    """Start one of the four processes."""
    command = [sys.executable, __file__, "--role", role, "--loop", loop, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def round_of(name: str, loop: str, path: str, seconds: float, chunks: int) -> dict[str, float]:
    """Measure once, in a client process of its own."""
    with start(f"measure-{name}", loop, path, seconds, chunks) as client:
        output, _ = client.communicate()
    if client.returncode:
        raise SystemExit(f"the {name} client failed")
    return msgspec.json.decode(output.strip().splitlines()[-1], type=dict[str, float])


def main() -> None:
    """Run the comparison, print it, and fail where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each unary measurement")
    parser.add_argument("--chunks", type=int, default=20000, help=f"chunks of {CHUNK} bytes in each stream")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop", help="the bus's event loop")
    parser.add_argument("--role", choices=tuple(ROLES), help=argparse.SUPPRESS)
    parser.add_argument("arguments", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.role:
        path, *numbers = options.arguments
        run_role(options.role, options.loop, [path, *(msgspec.json.decode(number) for number in numbers)])
        return
    results: dict[str, list[dict[str, float]]] = {"bus": [], "grpc": []}
    with tempfile.TemporaryDirectory() as directory:
        servers = {name: start(f"serve-{name}", options.loop, Path(directory) / name) for name in results}
        try:
            for server in servers.values():
                if server.stdout is None or server.stdout.readline().strip() != "ready":
                    raise SystemExit("a server failed to start")
            for _ in range(options.rounds):
                for name, rounds in results.items():
                    rounds.append(round_of(name, options.loop, str(Path(directory) / name), options.seconds, options.chunks))
        finally:
            for server in servers.values():
                server.kill()
                server.communicate()
    if not report(results, options.loop):
        raise SystemExit(1)


def report(results: dict[str, list[dict[str, float]]], loop: str) -> bool:
    """Print the medians and their ratios; whether every target is met."""
    met = True
    print(f"python {sys.version.split()[0]}, bus on {loop}, {len(results['bus'])} rounds, medians (lowest to highest)")
    for figure, unit in (
        ("unary", f"calls/s at concurrency {CONCURRENCY}"),
        ("stream", f"MB/s in chunks of {CHUNK // 1024} KiB"),
    ):
        medians = {}
        for name, rounds in results.items():
            values = sorted(each[figure] for each in rounds)
            medians[name] = statistics.median(values)
            print(f"  {figure:7}{name:5}{medians[name]:10,.0f} {unit} ({values[0]:,.0f} to {values[-1]:,.0f})")
        ratio = medians["bus"] / medians["grpc"]
        met = met and ratio >= TARGETS[figure]
        print(f"  {figure:7}ratio{ratio:10.2f} (target {TARGETS[figure]:g})")
    return met


if __name__ == "__main__":
    main()
