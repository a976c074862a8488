"""Containers in the SDK."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from boxship.api import API
from boxship.errors import APIError
from boxship.http.duplex import Duplex
from boxship.http.target import quote
from boxship.resources.filters import encode_filters
from boxship.streams import attach, logs
from boxship.types.containers import (
    ContainerInspect,
    ContainerSummary,
    CreateRequest,
    CreateResponse,
    PruneResponse,
    WaitResponse,
)

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

    def resize(self, container: str, height: int, width: int) -> None:
        """Set the size of a container's terminal, in characters."""
        self._api.call("POST", f"/containers/{quote(container)}/resize", {"h": height, "w": width})

    def prune(self, filters: Mapping[str, Sequence[str]] | None = None) -> PruneResponse:
        """Remove every container that doesn't run."""
        answer = self._api.raw("POST", "/containers/prune", {"filters": encode_filters(filters)})
        return msgspec.json.decode(answer, type=PruneResponse)

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
        """
        query = {
            "follow": follow or None,
            "stdout": stdout or None,
            "stderr": stderr or None,
            "timestamps": timestamps or None,
            "since": since,
            "until": until,
            "tail": tail,
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
