"""Every exec there is: found by id, kept for a while after its end, and known to the daemon after this one."""

from __future__ import annotations

import time
from collections.abc import Iterator

from boxshipd.containers.model import Container
from boxshipd.containers.registry import Registry as Containers
from boxshipd.errors import InternalError, NotFound
from boxshipd.execs.journal import COMPACT_AT, Entry, Journal
from boxshipd.execs.model import Exec, ExecConfig

KEPT_SECONDS = 600.0
"""How long an exec that has ended, or was never begun, can be inspected; dockerd forgets them after five to ten minutes."""

KEPT = 2048
"""How many such execs are kept at most, whatever their age."""


class Execs:
    """The execs of one daemon."""

    def __init__(self, path: str, containers: Containers) -> None:
        self._journal = Journal(path)
        self._containers = containers
        self._execs: dict[str, Exec] = {}
        self._idle: dict[str, Exec] = {}

    def load(self) -> None:
        """Take in what an earlier daemon knew.

        Raises:
            OSError: its journal can't be read or written.
        """
        for config, code in self._journal.open().values():
            exec_ = Exec(config)
            if code is not None:
                exec_.phase, exec_.exit_code = "exited", code
                exec_.settled.set()
            self._add(exec_)

    def __iter__(self) -> Iterator[Exec]:
        return iter(list(self._execs.values()))

    def get(self, exec_id: str) -> Exec | None:
        """The exec of this id, where there is one."""
        return self._execs.get(exec_id)

    def find(self, exec_id: str) -> tuple[Exec, Container]:
        """The exec of this id and its container.

        Raises:
            NotFound: there is none, or its container has been removed.
        """
        exec_ = self._execs.get(exec_id)
        container = self._containers.get(exec_.config.container) if exec_ is not None else None
        if exec_ is None or container is None:
            raise NotFound(f"No such exec instance: {exec_id}")
        return exec_, container

    def create(self, config: ExecConfig) -> Exec:
        """Add an exec.

        Raises:
            InternalError: it can't be put on record.
        """
        exec_ = Exec(config)
        self._write(Entry(id=config.id, created=config))
        self._add(exec_)
        return exec_

    def begun(self, exec_: Exec) -> None:
        """It is being started: it stays until it has ended."""
        self._idle.pop(exec_.id, None)

    def give_back(self, exec_: Exec) -> None:
        """It isn't being started after all."""
        exec_.phase = "created"
        self._idle[exec_.id] = exec_

    def ended(self, exec_: Exec, exit_code: int) -> None:
        """It has ended.

        Raises:
            InternalError: that can't be put on record.
        """
        exec_.phase, exec_.exit_code, exec_.finished = "exited", exit_code, time.monotonic()
        exec_.settled.set()
        self._idle[exec_.id] = exec_
        container = self._containers.get(exec_.config.container)
        if container is not None:
            container.execs.pop(exec_.id, None)
        self._write(Entry(id=exec_.id, exit_code=exit_code))

    def remove(self) -> None:
        """Forget everything: no container is left that an exec could be in."""
        self._execs.clear()
        self._idle.clear()
        self._journal.remove()

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def _add(self, exec_: Exec) -> None:
        exec_.finished = time.monotonic()
        self._execs[exec_.id] = exec_
        self._idle[exec_.id] = exec_
        if exec_.phase != "exited" and (container := self._containers.get(exec_.config.container)) is not None:
            container.execs[exec_.id] = None
        self._sweep()

    def _sweep(self) -> None:
        """Forget the oldest of those that do nothing."""
        bound = time.monotonic() - KEPT_SECONDS
        while self._idle:
            oldest = next(iter(self._idle.values()))
            if len(self._idle) <= KEPT and oldest.finished > bound:
                return
            del self._idle[oldest.id], self._execs[oldest.id]
            container = self._containers.get(oldest.config.container)
            if container is not None:
                container.execs.pop(oldest.id, None)
            self._write(Entry(id=oldest.id, forgotten=True))

    def _write(self, entry: Entry) -> None:
        try:
            self._journal.append(entry)
            if self._journal.lines >= max(COMPACT_AT, 2 * len(self._execs)):
                self._journal.rewrite(
                    Entry(id=exec_.id, created=exec_.config, exit_code=exec_.exit_code) for exec_ in self._execs.values()
                )
        except OSError as error:
            raise InternalError(f"record exec {entry.id}: {error.strerror}") from error
