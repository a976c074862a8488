"""What the clients of the load do with containers, each answer checked for what it says and not only for its status.

A scenario makes its own containers and leaves none; only `visit` goes to containers that all clients share.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks import image
from benchmarks.api import Api, Stream, Wrong, demultiplexed

_OPEN = {"AttachStdin": True, "OpenStdin": True, "StdinOnce": True, "AttachStdout": True, "AttachStderr": True}
_STREAMS = {"stream": 1, "stdout": 1, "stderr": 1}
_SHELL_END = 7
_EOF_END = 5
_KILLED = 137

# Says each line back, to its log and whoever is attached. It ends with its input, and at SIGTERM.
_ECHO = f'trap "exit {_SHELL_END}" TERM; echo ready; while read line; do echo "got $line"; done; exit {_EOF_END}'


class Client:
    """One of the clients.

    Args:
        api: its connections.
        number: tells it from the others.
        shared: containers that run all the time, for `visit`.
        label: what all containers of the load are marked with.
    """

    def __init__(self, api: Api, number: int, shared: list[str], label: str) -> None:
        self.api = api
        self.rng = random.Random(number)
        self.number = number
        self.shared = shared
        self._label = label
        self._made = 0
        self._mine: set[str] = set()

    def token(self) -> str:
        """A word that nobody else uses."""
        self._made += 1
        return f"c{self.number}n{self._made}"

    async def create(self, *command: str, auto_remove: bool = False, **config: object) -> str:
        """Create a container; its id."""
        host = {"NetworkMode": "none", "AutoRemove": auto_remove}
        body = {"Image": image.NAME, "Cmd": command, "Labels": {self._label: "1"}, "HostConfig": host, **config}
        created = await self.api.json("create", "POST", "/containers/create", body, expect=201)
        self._mine.add(created["Id"])
        return str(created["Id"])

    async def start(self, ident: str) -> None:
        """Start it."""
        await self.api.call("start", "POST", f"/containers/{ident}/start", expect=204)

    async def ended(self, ident: str, code: int, *, condition: str = "not-running") -> None:
        """Wait for its end, which is to be ``code``."""
        answer = await self.api.json("wait", "POST", f"/containers/{ident}/wait", condition=condition)
        if answer.get("StatusCode") != code or answer.get("Error"):
            raise Wrong("wait", f"{answer} instead of {code}")

    async def inspect(self, ident: str, **state: object) -> dict[str, Any]:
        """Inspect it; its state is to have these values."""
        found: dict[str, Any] = await self.api.json("inspect", "GET", f"/containers/{ident}/json")
        wrong = {name: found["State"].get(name) for name, value in state.items() if found["State"].get(name) != value}
        if found["Id"] != ident or wrong:
            raise Wrong("inspect", f"{wrong} instead of {state} in {found['State']}")
        return found

    async def remove(self, ident: str, **query: Any) -> None:
        """Remove it; then it isn't there any more."""
        await self.api.call("remove", "DELETE", f"/containers/{ident}", expect=204, **query)
        await self.gone(ident)

    async def gone(self, ident: str) -> None:
        """It is to be unknown."""
        await self.api.call("inspect", "GET", f"/containers/{ident}/json", expect=404)
        self._mine.discard(ident)

    async def logs(self, ident: str, **query: Any) -> dict[int, bytes]:
        """Its log so far, by stream."""
        data = await self.api.call("logs", "GET", f"/containers/{ident}/logs", stdout=1, stderr=1, **query)
        return demultiplexed("logs", data)

    async def execute(self, ident: str, script: str, stdin: bytes = b"") -> tuple[dict[int, bytes], int]:
        """Run a script in a running container to its end: what it wrote, and its exit code."""
        body = {"Cmd": ["sh", "-c", script], "AttachStdin": bool(stdin), "AttachStdout": True, "AttachStderr": True}
        exec_id = (await self.api.json("exec create", "POST", f"/containers/{ident}/exec", body, expect=201))["Id"]
        begin = time.perf_counter()
        detach = {"Detach": False, "Tty": False}
        async with self.api.stream("exec start", "POST", f"/exec/{exec_id}/start", detach, upgrade=True) as stream:
            if stdin:
                stream.write(stdin)
                stream.write_eof()
            outputs = await stream.outputs()
        self.api.tally.note("exec start to end", begin)
        found = await self.api.json("exec inspect", "GET", f"/exec/{exec_id}/json")
        if found["Running"] or found["ExitCode"] is None or found["ContainerID"] != ident:
            raise Wrong("exec inspect", f"after the end of its streams: {found}")
        return outputs, found["ExitCode"]

    async def clean_up(self) -> None:
        """Remove what a scenario that went wrong has left."""
        for ident in list(self._mine):
            self._mine.discard(ident)
            try:
                await self.api.call("clean up", "DELETE", f"/containers/{ident}", expect=204, force=1)
            except Wrong as error:
                if ": 404 " not in str(error):
                    raise


def check(operation: str, got: object, wanted: object) -> None:
    """An answer is to be this.

    Raises:
        Wrong: it isn't.
    """
    if got != wanted:
        raise Wrong(operation, f"{_short(got)} instead of {_short(wanted)}")


async def brief(client: Client) -> None:
    """A container that ends at once, with the exit code that was asked for."""
    code = client.rng.choice((0, 0, 3, 42))
    ident = await client.create("sh", "-c", f"exit {code}")
    await client.start(ident)
    await client.ended(ident, code)
    await client.inspect(ident, Status="exited", ExitCode=code, Running=False, Pid=0)
    await client.remove(ident)


async def foreground(client: Client) -> None:
    """What ``docker run`` does, with and without ``--rm``: attach and wait before the start, read to the end."""
    token, count, code = client.token(), client.rng.randrange(1, 60), client.rng.choice((0, 1, 9))
    script = f'i=0; while [ $i -lt {count} ]; do echo "{token} $i"; i=$((i+1)); done; echo "{token} bad" >&2; exit {code}'
    wanted = {1: b"".join(b"%s %d\n" % (token.encode(), at) for at in range(count)), 2: f"{token} bad\n".encode()}
    auto_remove = client.rng.random() < 0.3
    ident = await client.create("sh", "-c", script, auto_remove=auto_remove)
    async with client.api.stream("attach", "POST", f"/containers/{ident}/attach", upgrade=True, **_STREAMS) as attached:
        condition = "removed" if auto_remove else "next-exit"
        # The head of the answer says that waiting has begun.
        async with client.api.stream(
            "wait, before the start", "POST", f"/containers/{ident}/wait", condition=condition
        ) as wait:
            await client.start(ident)
            check("attach", await attached.outputs(), wanted)
            check("wait", (await wait.document() or {}).get("StatusCode"), code)
    if auto_remove:
        await client.gone(ident)
        return
    await client.inspect(ident, Status="exited", ExitCode=code)
    check("logs", await client.logs(ident), wanted)
    check("logs", (await client.logs(ident, tail=1))[2], wanted[2])
    await client.remove(ident)


async def flood(client: Client) -> None:
    """A container that writes as fast as it can, followed while it does."""
    token, count = client.token(), client.rng.randrange(2000, 20000)
    wanted = {1: f"{token}\n".encode() * count, 2: b""}
    ident = await client.create("sh", "-c", f"yes {token} | head -n {count}")
    await client.start(ident)
    async with client.api.stream(
        "logs, followed", "GET", f"/containers/{ident}/logs", stdout=1, stderr=1, follow=1
    ) as followed:
        check("logs, followed", await followed.outputs(), wanted)
    await client.ended(ident, 0)
    check("logs", await client.logs(ident), wanted)
    await client.remove(ident)


async def session(client: Client) -> None:
    """A container that is talked to, watched and looked into while it runs, and then ended in one of three ways."""
    began = time.time()
    ident = await client.create("sh", "-c", _ECHO, **_OPEN)
    named: dict[str, Any] = {"filters": {"container": [ident]}}
    async with client.api.stream("events, followed", "GET", "/events", **named) as events:
        async with client.api.stream(
            "attach", "POST", f"/containers/{ident}/attach", upgrade=True, stdin=1, **_STREAMS
        ) as attached:
            await client.start(ident)
            check("attach", await attached.frame(), (1, b"ready\n"))
            said = await _talk(client, ident, attached)
            exec_code = await _look_into(client, ident)
            code = await _end(client, ident, attached)
            check("attach", await attached.outputs(), {1: b"", 2: b""})
        await client.ended(ident, code)
        await client.inspect(ident, Status="exited", ExitCode=code, Running=False)
        check("logs", await client.logs(ident), {1: said, 2: b""})
        await _window(client, ident, began, code)
        await client.remove(ident)
        await _followed_events(events, ident, code, exec_code)


async def visit(client: Client) -> None:
    """Execs, statistics and the list, in containers that everybody else visits at the same time."""
    ident = client.rng.choice(client.shared)
    for _ in range(client.rng.randrange(1, 4)):
        token, code = client.token(), client.rng.choice((0, 0, 5))
        outputs, ended = await client.execute(ident, f"echo {token}; echo {token} >&2; exit {code}")
        check("exec start", outputs, {1: f"{token}\n".encode(), 2: f"{token}\n".encode()})
        check("exec inspect", ended, code)
    token = client.token()
    outputs, ended = await client.execute(ident, "cat", stdin=token.encode() * 2000)
    check("exec start", (outputs, ended), ({1: token.encode() * 2000, 2: b""}, 0))
    await _statistics(client, ident)
    await client.inspect(ident, Status="running", Running=True, Restarting=False)
    listed = await client.api.json("list", "GET", "/containers/json", all=1)
    missing = set(client.shared) - {container["Id"] for container in listed if container["State"] == "running"}
    check("list", missing, set())


async def _talk(client: Client, ident: str, attached: Stream) -> bytes:
    """Send lines, and read them from the container and from its log; everything that it wrote."""
    said = b"ready\n"
    async with client.api.stream(
        "logs, followed", "GET", f"/containers/{ident}/logs", stdout=1, stderr=1, follow=1
    ) as followed:
        check("logs, followed", await followed.frame(), (1, b"ready\n"))
        for _ in range(client.rng.randrange(2, 8)):
            token = client.token()
            answer = f"got {token}\n".encode()
            begin = time.perf_counter()
            attached.write(f"{token}\n".encode())
            check("attach", await attached.frame(), (1, answer))
            client.api.tally.note("line sent to line attached", begin)
            check("logs, followed", await followed.frame(), (1, answer))
            client.api.tally.note("line sent to line followed", begin)
            said += answer
    return said


async def _look_into(client: Client, ident: str) -> int:
    """Inspect, list, exec and statistics of a container that runs; the exec's exit code."""
    await client.inspect(ident, Status="running", Running=True, ExitCode=0)
    listed = await client.api.json("list", "GET", "/containers/json", filters={"id": [ident]})
    check("list", [(container["Id"], container["State"]) for container in listed], [(ident, "running")])
    token, code = client.token(), client.rng.choice((0, 4))
    outputs, ended = await client.execute(ident, f"echo {token} >/tmp/note; cat /tmp/note; exit {code}")
    check("exec start", (outputs, ended), ({1: f"{token}\n".encode(), 2: b""}, code))
    await _statistics(client, ident)
    if client.rng.random() < 0.3:
        async with client.api.stream("stats, streamed", "GET", f"/containers/{ident}/stats") as stats:
            first, second = await stats.document(), await stats.document()
        check("stats, streamed", (first["id"], second["id"]), (ident, ident))
        reads = [_comparable(sample["read"]) for sample in (first, second)]
        if reads[1] <= reads[0]:
            raise Wrong("stats, streamed", f"read at {first['read']}, then at {second['read']}")
        check("stats, streamed", second["precpu_stats"]["cpu_usage"], first["cpu_stats"]["cpu_usage"])
    return code


def _comparable(moment: str) -> tuple[str, str]:
    """A time of the API's as what can be compared: it is in UTC, and ends without the zeros that end it."""
    seconds, _, fraction = moment.removesuffix("Z").partition(".")
    return seconds, fraction.ljust(9, "0")


async def _statistics(client: Client, ident: str) -> None:
    found = await client.api.json("stats", "GET", f"/containers/{ident}/stats", **{"stream": 0, "one-shot": 1})
    check("stats", (found["id"], found["pids_stats"].get("current", 0) >= 1), (ident, True))
    check("stats", found["memory_stats"].get("usage", 0) > 0 and found["cpu_stats"]["cpu_usage"]["total_usage"] > 0, True)


async def _end(client: Client, ident: str, attached: Stream) -> int:
    """End it by stopping, killing, or the end of its input; the exit code that it is to have."""
    way = client.rng.choice(("stop", "kill", "end of input"))
    if way == "stop":
        await client.api.call("stop", "POST", f"/containers/{ident}/stop", expect=204, t=100)
        return _SHELL_END
    if way == "kill":
        await client.api.call("kill", "POST", f"/containers/{ident}/kill", expect=204, signal="KILL")
        return _KILLED
    attached.write_eof()
    return _EOF_END


async def _window(client: Client, ident: str, began: float, code: int) -> None:
    """The events since the container's beginning, as far back as the engine remembers."""
    until = f"{time.time():.9f}"
    query: dict[str, Any] = {"since": f"{began:.9f}", "until": until, "filters": {"container": [ident]}}
    events = [json.loads(line) for line in (await client.api.call("events", "GET", "/events", **query)).splitlines()]
    check("events", {event["Actor"]["ID"] for event in events} <= {ident}, True)
    times = [event["timeNano"] for event in events]
    check("events", times, sorted(times))
    died = [event["Actor"]["Attributes"]["exitCode"] for event in events if event["Action"] == "die"]
    if died == [str(code)]:
        return
    everything = await client.api.call("events", "GET", "/events", since=0, until=until)
    oldest = json.loads(everything.split(b"\n", 1)[0])["timeNano"]
    if died or oldest < began * 1e9:
        raise Wrong("events", f"die of {ident} with {code} isn't among {_short(events)}")


async def _followed_events(events: Stream, ident: str, code: int, exec_code: int) -> None:
    """What a follower is to have been told, up to the container's removal."""
    seen: list[tuple[str, str | None]] = []
    while True:
        event = await events.document()
        if event is None:
            raise Wrong("events, followed", f"they ended after {_short(seen)}")
        check("events, followed", event["Actor"]["ID"], ident)
        attributes = event["Actor"]["Attributes"]
        seen.append((event["Action"].partition(":")[0], attributes.get("exitCode")))
        if event["Action"] == "destroy":
            break
    wanted = ["attach", "start", "exec_create", "exec_start", "exec_die", "die", "destroy"]
    check("events, followed", [action for action, _ in seen if action not in ("kill", "stop")], wanted)
    codes = {action: exit_code for action, exit_code in seen if exit_code is not None}
    check("events, followed", codes, {"exec_die": str(exec_code), "die": str(code)})


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 800 else f"{text[:400]} ... {text[-400:]} ({len(text)} characters)"


Scenario = Callable[[Client], Awaitable[None]]
MIX: dict[Scenario, int] = {brief: 3, foreground: 4, flood: 1, session: 5, visit: 4}
"""What is done how often."""


async def act(client: Client) -> None:
    """One scenario, whichever comes; what goes wrong in it is noted, and what it has left is removed."""
    (scenario,) = client.rng.choices(list(MIX), list(MIX.values()))
    try:
        await scenario(client)
        client.api.tally.counts[getattr(scenario, "__name__", "")] += 1
    except asyncio.CancelledError:
        raise
    except Exception as error:  # noqa: BLE001 - an answer without what belongs there is as wrong as any
        client.api.tally.wrong.append(f"{scenario.__name__}: {error if isinstance(error, Wrong) else repr(error)}")
    try:
        await client.clean_up()
    except Wrong as error:
        client.api.tally.wrong.append(str(error))
