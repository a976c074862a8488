"""Containers in the SDK."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from boxship.api import API
from boxship.errors import APIError
from boxship.http.duplex import Duplex
from boxship.http.target import quote
from boxship.resources.filters import encode_filters
from boxship.streams import STDERR, STDOUT, attach, exchange, logs, start_exec
from boxship.types.containers import (
    Change,
    ContainerInspect,
    ContainerSummary,
    CreateRequest,
    CreateResponse,
    PruneResponse,
    TopResponse,
    UpdateResponse,
    WaitResponse,
)
from boxship.types.execs import ExecCreateRequest, ExecCreateResponse, ExecInspect
from boxship.types.stats import StatsResponse
from boxship.types.update import UpdateRequest

Condition = Literal["not-running", "next-exit", "removed"]


class Containers:
    """A daemon's containers; each is named by its id, a unique beginning of it, or its name.

    Args:
        api: the daemon.
    """

    def __init__(self, api: API) -> None:
        self._api = api

    def create(self, request: CreateRequest, *, name: str = "", platform: str = "") -> CreateResponse:
        """Create a container.

        Args:
            request: what it is to be.
            name: its name, empty for one of the daemon's choice.
            platform: ``os/arch`` of the image, empty for the daemon's own.
        """
        query = {"name": name or None, "platform": platform or None}
        body = msgspec.json.encode(request)
        return msgspec.json.decode(self._api.raw("POST", "/containers/create", query, body), type=CreateResponse)

    def start(self, container: str) -> None:
        """Start a container; one that runs already is left alone."""
        self._api.call("POST", f"/containers/{quote(container)}/start")

    def stop(self, container: str, *, signal: str = "", timeout: int | None = None) -> None:
        """Stop a container.

        Args:
            container: which one.
            signal: sent first, empty for the container's own stop signal.
            timeout: seconds until it is killed, None for the container's own, -1 for never.
        """
        self._api.call("POST", f"/containers/{quote(container)}/stop", {"signal": signal or None, "t": timeout})

    def restart(self, container: str, *, signal: str = "", timeout: int | None = None) -> None:
        """Stop and start a container; see ``stop``."""
        self._api.call("POST", f"/containers/{quote(container)}/restart", {"signal": signal or None, "t": timeout})

    def kill(self, container: str, signal: str = "SIGKILL") -> None:
        """Send a signal to a container's first process."""
        self._api.call("POST", f"/containers/{quote(container)}/kill", {"signal": signal})

    def wait(self, container: str, condition: Condition = "not-running") -> WaitResponse:
        """Wait until a container has ended, and give its exit status."""
        answer = self._api.raw("POST", f"/containers/{quote(container)}/wait", {"condition": condition})
        return msgspec.json.decode(answer, type=WaitResponse)

    def inspect(self, container: str, *, size: bool = False) -> ContainerInspect:
        """Everything about a container; its files' size only where asked for, as that takes time."""
        answer = self._api.raw("GET", f"/containers/{quote(container)}/json", {"size": size or None})
        return msgspec.json.decode(answer, type=ContainerInspect)

    def list(
        self,
        *,
        all: bool = False,  # noqa: A002 - the API's word
        limit: int | None = None,
        size: bool = False,
        filters: Mapping[str, Sequence[str]] | None = None,
    ) -> list[ContainerSummary]:
        """The containers, newest first.

        Args:
            all: whether to list those that don't run as well.
            limit: the last created so many, whatever their state.
            size: whether to measure their files.
            filters: names to values, any of which may match.
        """
        query = {"all": all or None, "limit": limit, "size": size or None, "filters": encode_filters(filters)}
        return msgspec.json.decode(self._api.raw("GET", "/containers/json", query), type=list[ContainerSummary])

    def remove(self, container: str, *, force: bool = False, volumes: bool = False) -> None:
        """Remove a container.

        Args:
            container: which one.
            force: whether to kill it if it runs.
            volumes: whether its anonymous volumes go too.
        """
        self._api.call("DELETE", f"/containers/{quote(container)}", {"force": force or None, "v": volumes or None})

    def rename(self, container: str, name: str) -> None:
        """Give a container another name."""
        self._api.call("POST", f"/containers/{quote(container)}/rename", {"name": name})

    def pause(self, container: str) -> None:
        """Stop all processes of a container."""
        self._api.call("POST", f"/containers/{quote(container)}/pause")

    def unpause(self, container: str) -> None:
        """Let a paused container's processes run again."""
        self._api.call("POST", f"/containers/{quote(container)}/unpause")

    def update(self, container: str, changes: UpdateRequest) -> UpdateResponse:
        """Give a container other limits or another restart policy, running or not; what is left open stays."""
        body = msgspec.json.encode(changes)
        answer = self._api.raw("POST", f"/containers/{quote(container)}/update", None, body)
        return msgspec.json.decode(answer, type=UpdateResponse)

    def stats(self, container: str) -> Iterator[StatsResponse]:
        """A container's resource usage, a sample a second until it is removed."""
        with self._api.open("GET", f"/containers/{quote(container)}/stats", {"stream": True}) as response:
            for line in response.lines():
                if line.strip():
                    yield msgspec.json.decode(line, type=StatsResponse)

    def stats_once(self, container: str, *, one_shot: bool = False) -> StatsResponse:
        """One sample with the processor time of the one before, which takes a second; or without, at once (``one_shot``)."""
        query = {"stream": False, "one-shot": one_shot or None}
        answer = self._api.raw("GET", f"/containers/{quote(container)}/stats", query)
        return msgspec.json.decode(answer, type=StatsResponse)

    def top(self, container: str, ps_args: str = "") -> TopResponse:
        """A container's processes as the daemon's ps(1) shows them, empty ``ps_args`` standing for ``-ef``."""
        answer = self._api.raw("GET", f"/containers/{quote(container)}/top", {"ps_args": ps_args or None})
        return msgspec.json.decode(answer, type=TopResponse)

    def resize(self, container: str, height: int, width: int) -> None:
        """Set the size of a container's terminal, in characters."""
        self._api.call("POST", f"/containers/{quote(container)}/resize", {"h": height, "w": width})

    def prune(self, filters: Mapping[str, Sequence[str]] | None = None) -> PruneResponse:
        """Remove every container that doesn't run."""
        answer = self._api.raw("POST", "/containers/prune", {"filters": encode_filters(filters)})
        return msgspec.json.decode(answer, type=PruneResponse)

    def path_stat(self, container: str, path: str) -> dict[str, object]:
        """What is at a path in a container: name, size, mode (Go's numbers), mtime and linkTarget."""
        with self._api.open("HEAD", f"/containers/{quote(container)}/archive", {"path": path}) as response:
            response.read()
            header = response.headers["x-docker-container-path-stat"]
        found: dict[str, object] = msgspec.json.decode(base64.b64decode(header))
        return found

    def get_archive(self, container: str, path: str) -> Iterator[bytes]:
        """A file or directory of a container as a tar archive, in pieces."""
        with self._api.open("GET", f"/containers/{quote(container)}/archive", {"path": path}) as response:
            yield from response.chunks()

    def put_archive(
        self, container: str, path: str, archive: bytes | Iterable[bytes], *, strict: bool = False, own: bool = False
    ) -> None:
        """Extract a tar archive, compressed or not, into a directory of a container.

        Args:
            container: which one.
            path: the directory.
            archive: the archive.
            strict: whether to refuse to put a file in a directory's place, or the other way round.
            own: whether everything becomes the user's that the container runs as.
        """
        query = {"path": path, "noOverwriteDirNonDir": strict or None, "copyUIDGID": own or None}
        self._api.negotiate()
        headers = [("Content-Type", "application/x-tar")]
        with self._api.open("PUT", f"/containers/{quote(container)}/archive", query, archive, headers) as response:
            response.read()

    def export(self, container: str) -> Iterator[bytes]:
        """A container's file system without its mounts as a tar archive, in pieces."""
        with self._api.open("GET", f"/containers/{quote(container)}/export") as response:
            yield from response.chunks()

    def changes(self, container: str) -> Sequence[Change]:
        """What a container has changed of its image's files."""
        answer = self._api.raw("GET", f"/containers/{quote(container)}/changes")
        return msgspec.json.decode(answer, type=tuple[Change, ...] | None) or ()

    def commit(
        self,
        container: str,
        *,
        repo: str = "",
        tag: str = "",
        comment: str = "",
        author: str = "",
        changes: Sequence[str] = (),
        pause: bool = True,
    ) -> str:
        """Make an image of a container, and give its id.

        Args:
            container: which one.
            repo: the image's name, empty for none.
            tag: its tag.
            comment: what is said of it.
            author: who made it.
            changes: Dockerfile instructions that change its configuration.
            pause: whether the container stands still meanwhile.
        """
        query = {
            "container": container,
            "repo": repo or None,
            "tag": tag or None,
            "comment": comment or None,
            "author": author or None,
            "changes": list(changes),
            "pause": pause,
        }
        identifier: str = self._api.call("POST", "/commit", query)["Id"]
        return identifier

    def logs(
        self,
        container: str,
        *,
        follow: bool = False,
        stdout: bool = True,
        stderr: bool = True,
        timestamps: bool = False,
        since: float | None = None,
        until: float | None = None,
        tail: int | None = None,
        details: bool = False,
    ) -> Iterator[tuple[int, bytes]]:
        """A container's log in pieces of (stream, bytes), the stream being 1 for stdout and 2 for stderr.

        Args:
            container: which one.
            follow: whether to wait for more while it runs.
            stdout: whether to read its standard output.
            stderr: whether to read its standard error.
            timestamps: whether each line begins with its time.
            since: from this time on, in seconds since the epoch.
            until: up to this time.
            tail: the last so many lines only.
            details: whether each line begins with the labels and variables that are logged with it.
        """
        query = {
            "follow": follow or None,
            "stdout": stdout or None,
            "stderr": stderr or None,
            "timestamps": timestamps or None,
            "since": since,
            "until": until,
            "tail": tail,
            "details": details or None,
        }
        about = self.inspect(container)
        return logs(self._api, about.id, query, tty=about.config.tty)

    def attach(
        self, container: str, *, stdin: bool = False, stdout: bool = True, stderr: bool = True, logs: bool = False
    ) -> tuple[Duplex, bool]:
        """A container's streams, and whether they are multiplexed (see ``boxship.streams.Demultiplexer``).

        Args:
            container: which one.
            stdin: whether to write to its standard input.
            stdout: whether to read its standard output.
            stderr: whether to read its standard error.
            logs: whether to begin with what it has written so far.
        """
        query = {
            "stream": True,
            "stdin": stdin or None,
            "stdout": stdout or None,
            "stderr": stderr or None,
            "logs": logs or None,
        }
        about = self.inspect(container)
        return attach(self._api, about.id, query, tty=about.config.tty)

    def exec_create(self, container: str, request: ExecCreateRequest) -> str:
        """Make a further program in a running container ready to be started; its id."""
        body = msgspec.json.encode(request)
        answer = self._api.raw("POST", f"/containers/{quote(container)}/exec", None, body)
        return msgspec.json.decode(answer, type=ExecCreateResponse).id

    def exec_start(self, exec_id: str, *, tty: bool = False) -> tuple[Duplex, bool]:
        """Start an exec and have its streams, and whether they are multiplexed (see ``boxship.streams.Demultiplexer``).

        Args:
            exec_id: which one.
            tty: whether it was created with a terminal, whose output is one stream.
        """
        return start_exec(self._api, exec_id, tty=tty)

    def exec_start_detached(self, exec_id: str) -> None:
        """Start an exec with nobody listening; done when its program has been executed."""
        self._api.call("POST", f"/exec/{quote(exec_id)}/start", None, {"Detach": True})

    def exec_inspect(self, exec_id: str) -> ExecInspect:
        """Everything about an exec."""
        return msgspec.json.decode(self._api.raw("GET", f"/exec/{quote(exec_id)}/json"), type=ExecInspect)

    def exec_resize(self, exec_id: str, *, height: int, width: int) -> None:
        """Set an exec's terminal's size in characters."""
        self._api.call("POST", f"/exec/{quote(exec_id)}/resize", {"h": height, "w": width})

    def exec_run(
        self, container: str, command: Sequence[str], *, user: str = "", stdin: bytes = b""
    ) -> tuple[int, bytes, bytes]:
        """Run a program in a running container to its end: exit code, standard output, standard error.

        Args:
            container: which one.
            command: the program.
            user: who it runs as, empty for the container's own.
            stdin: its whole input.
        """
        request = ExecCreateRequest(
            cmd=list(command), user=user, attach_stdin=bool(stdin), attach_stdout=True, attach_stderr=True
        )
        exec_id = self.exec_create(container, request)
        duplex, _ = self.exec_start(exec_id)
        output = {STDOUT: bytearray(), STDERR: bytearray()}
        try:
            exchange(duplex, stdin, output)
        finally:
            duplex.close()
        return self.exec_inspect(exec_id).exit_code or 0, bytes(output[STDOUT]), bytes(output[STDERR])

    def run(self, image: str, command: Sequence[str] = (), *, name: str = "") -> bytes:
        """Run a program to its end and give its standard output.

        Args:
            image: the image's reference.
            command: the program, empty for the image's own.
            name: the container's name.

        Raises:
            APIError: the daemon refused, or the program ended with another status than 0 (its standard error is the message).
        """
        request = CreateRequest(image=image, cmd=list(command) or None, attach_stdout=True, attach_stderr=True)
        container = self.create(request, name=name).id
        try:
            self.start(container)
            status = self.wait(container).status_code
            output = {1: b"", 2: b""}
            for stream, data in self.logs(container):
                output[stream] += data
        finally:
            self.remove(container, force=True)
        if status:
            raise APIError(status, output[2].decode("utf-8", "replace") or f"the program ended with status {status}")
        return output[1]
