"""The caretaker of a container that another OCI runtime makes: only its beginning and its end are different."""

from __future__ import annotations

from collections.abc import Sequence
from time import time_ns

from boxrun.container.cgroups.errors import CgroupError
from boxrun.container.spec import ForeignRuntime
from boxrun.errors import StartFault
from boxrun.oci.container import clear, make
from boxrun.shim.builder import Built, removed_on_failure
from boxrun.shim.caretaker import Caretaker
from boxrun.shim.protocol import ExitRecord, decode_payload


class ForeignCaretaker(Caretaker):
    """One container of another runtime's making."""

    def _build(self, payload: bytes, joins: Sequence[int], stdio: tuple[int, int, int] | None) -> Built:
        runtime = self._start.runtime
        if runtime is None:
            raise StartFault("runtime", 0, "no runtime is named")
        # The runtime's program ends before its container does, which then is the keeper's child: the nearest subreaper's.
        # Where the pid namespace is shared that is this process.
        self._maker = not self._start.own_pid_namespace
        return self._made(runtime, payload, joins, stdio)

    def _made(self, runtime: ForeignRuntime, payload: bytes, joins: Sequence[int], stdio: tuple[int, int, int] | None) -> Built:
        order = decode_payload(payload)
        spec = order.spec
        try:
            group = self._cgroups.create(spec.cgroup, spec.resources)
        except CgroupError as error:
            raise StartFault("cgroup", 0, str(error)) from error
        named = dict(zip(order.joins, joins, strict=True))
        with removed_on_failure(group):
            made = make(runtime, spec, named, group, seccomp=order.seccomp, stdio=stdio, hybrid=self._hybrid)
            started_at = time_ns()
            watch = group.oom_watch()
        group.close()
        oom_fd, oom_events = watch if watch is not None else (-1, 0)
        warnings = (*group.warnings, *made.warnings)
        return Built(made.pid, made.pidfd, made.console, oom_fd, oom_events, started_at, warnings)

    def _save(self, record: ExitRecord) -> None:
        """Make the record durable, then clear up, before anybody is told and may take the directory away."""
        super()._save(record)
        if self._start.runtime is not None:
            clear(self._start.runtime, self._start.state_dir, self._start.id, hybrid=self._hybrid)

    @property
    def _hybrid(self) -> bool:
        return self._cgroups.version == "1"
