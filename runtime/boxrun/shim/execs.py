"""An exec's caretaker: runs a further program in a container, and lets go of the container when that has ended."""

from __future__ import annotations

from collections.abc import Sequence
from time import time_ns

from boxrun.container.cgroups.errors import CgroupError
from boxrun.container.joining import Target, join
from boxrun.errors import StartFault
from boxrun.shim import exits
from boxrun.shim.builder import Built
from boxrun.shim.caretaker import Caretaker
from boxrun.shim.complaints import complain
from boxrun.shim.protocol import ExitRecord, Failed, Joined, Start, decode_exec_payload


class ExecCaretaker(Caretaker):
    """One exec. The container's cgroup is another shim's business, and so is what else goes on in it."""

    def _repeatable(self, start: Start) -> bool:
        # What follows is in the same container. One that must reap its orphans goes on doing so until it ends.
        return start.own_pid_namespace

    def _spoils(self, failed: Failed) -> bool:
        return failed.step == "join"

    def _build(self, payload: bytes, joins: Sequence[int], stdio: tuple[int, int, int] | None) -> Built:
        order = decode_exec_payload(payload)
        try:
            with self._cgroups.open(self._start.cgroup) as group:
                group.open_joins()
                target = Target(self._start.exec_of, joins[0], group, order.user_namespace, order.secluded)
                joined = join(target, order.process, order.seccomp, stdio, registered=self._register)
        except CgroupError as error:
            raise StartFault("cgroup", 0, f"container {self._start.exec_of} is not running: {error}") from error
        except OSError as error:
            raise StartFault("join", error.errno or 0, f"join container {self._start.exec_of}: {error}") from error
        return Built(joined.pid, joined.pidfd, joined.console, -1, 0, joined.started_at, joined.warnings)

    def _register(self, pid: int, pidfd: int) -> None:
        """Have the supervisor know the process before it does anything: whatever becomes of us, it can end that."""
        self._links.report(Joined(pid=pid), (pidfd,))

    def _fail(self, failed: Failed) -> None:
        """The supervisor that was to be told may have died: its successor finds the record."""
        record = ExitRecord(
            id=self._start.id,
            run=self._start.run,
            pid=0,
            started_at=0,
            finished_at=time_ns(),
            exit_code=failed.exit_code,
            error=failed.message,
        )
        try:
            self._save(record)
        except OSError as error:
            complain(f"boxrun-exec {self._start.id}", f"exit record in {self._start.state_dir}: {error}")
        # What went wrong is told to the clients by the daemon, which has their sockets as well.
        self._relay.let_go()
        super()._fail(failed)

    def _kill_rest(self) -> None:
        """What the program has left running is the container's."""

    def _save(self, record: ExitRecord) -> None:
        exits.note(f"{self._start.state_dir}/{self._start.id}.exit", record)

    def _tidy_up(self) -> None:
        """Nothing of this exec's is left but what its program has started."""
