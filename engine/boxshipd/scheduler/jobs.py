"""Jobs: every mutation of the engine's objects is one.

Jobs of one key (a container, an image) run in the order they were asked for; different keys run side by side, as far as the
limit of their kind allows. A job that waits for something slow gives both its key and its place back meanwhile.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Literal, TypeVar

from msgspec import Struct

from boxshipd.errors import Conflict, Unavailable

T = TypeVar("T")
JobState = Literal["queued", "running", "waiting", "done", "failed", "cancelled"]

_CPUS = os.cpu_count() or 1
LIMITS: Mapping[str, int] = {
    "create": 32,
    "start": max(8, 4 * _CPUS),
    "stop": 64,
    "kill": 64,
    "remove": 32,
    "pull": 16,
    "push": 16,
    "unpack": max(2, _CPUS),
    "build": 32,
    "build-step": max(4, 2 * _CPUS),
    "build-source": 64,
    "load": 2,
}
"""How many jobs of a kind run at once; kinds that aren't named have no limit."""

_REMEMBERED = 128


class JobInfo(Struct, frozen=True, kw_only=True):
    """A job as the listing shows it; times in seconds since the epoch, 0 for not yet, deadline 0 for none."""

    id: int
    kind: str
    key: str
    state: JobState
    created: float
    started: float
    finished: float
    deadline: float
    error: str


class _Lane:
    """The order of one key's jobs."""

    __slots__ = ("lock", "users")

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.users = 0


class Job:
    """A unit of work under way. Work gets its job, to give up its place while it waits (``released``)."""

    __slots__ = (
        "created",
        "deadline",
        "error",
        "finished",
        "held",
        "id",
        "key",
        "kind",
        "scheduler",
        "started",
        "state",
        "task",
    )

    def __init__(self, scheduler: Scheduler, job_id: int, kind: str, key: str, deadline: float | None) -> None:
        self.scheduler = scheduler
        self.task: asyncio.Task[object] | None = None
        self.held = False
        self.id = job_id
        self.kind = kind
        self.key = key
        self.deadline = deadline
        self.created = time.time()
        self.started = 0.0
        self.finished = 0.0
        self.state: JobState = "queued"
        self.error = ""

    @asynccontextmanager
    async def released(self) -> AsyncIterator[None]:
        """Let other jobs of this key and kind go on inside the block; take the place again, in turn, after it."""
        self.scheduler.leave(self)
        self.state = "waiting"
        try:
            yield
        finally:
            await self.scheduler.enter(self)
            self.state = "running"

    def info(self) -> JobInfo:
        """This job for the listing."""
        return JobInfo(
            id=self.id,
            kind=self.kind,
            key=self.key,
            state=self.state,
            created=self.created,
            started=self.started,
            finished=self.finished,
            deadline=self.created + self.deadline if self.deadline is not None else 0.0,
            error=self.error,
        )


class Scheduler:
    """Runs jobs. One per daemon, on its event loop."""

    def __init__(self, limits: Mapping[str, int] = LIMITS) -> None:
        self._lanes: dict[str, _Lane] = {}
        self._places = {kind: asyncio.Semaphore(limit) for kind, limit in limits.items()}
        self._jobs: dict[int, Job] = {}
        self._finished: deque[JobInfo] = deque(maxlen=_REMEMBERED)
        self._ids = itertools.count(1)
        self._closed = False

    async def run(
        self,
        kind: str,
        key: str,
        work: Callable[[Job], Awaitable[T]],
        *,
        deadline: float | None = None,
        cancellable: bool = False,
    ) -> T:
        """Queue a job, wait for it and return its result.

        A caller that is cancelled leaves the job running, for what has begun is to be finished, unless it is ``cancellable``.

        Args:
            kind: the class of work, which sets its limit.
            key: the object worked on; empty for no order.
            work: what to do.
            deadline: seconds the job may take in all, waiting in the queue included.
            cancellable: whether the caller's end is the job's end.

        Raises:
            Unavailable: the deadline has passed, or the scheduler is closed.
        """
        task = self.spawn(kind, key, work, deadline=deadline)
        if cancellable:
            return await task
        return await asyncio.shield(task)

    def spawn(
        self, kind: str, key: str, work: Callable[[Job], Awaitable[T]], *, deadline: float | None = None
    ) -> asyncio.Task[T]:
        """Queue a job and return its task. It takes its place in the key's order in this call.

        Raises:
            Unavailable: the scheduler is closed.
        """
        if self._closed:
            raise Unavailable(f"{kind} {key}: the daemon is shutting down")
        job = Job(self, next(self._ids), kind, key, deadline)
        self._jobs[job.id] = job
        task = asyncio.create_task(self._run(job, work))
        task.add_done_callback(_retrieve)
        task.add_done_callback(lambda _: self._never_begun(job))
        job.task = task
        return task

    def jobs(self) -> list[JobInfo]:
        """Every job that is queued or under way, then the last ones that ended, oldest first."""
        return [*(job.info() for job in self._jobs.values()), *self._finished]

    def cancel(self, job_id: int) -> None:
        """Cancel a job.

        Raises:
            Conflict: no such job is queued or under way.
        """
        job = self._jobs.get(job_id)
        if job is None or job.task is None:
            raise Conflict(f"job {job_id} is not under way")
        job.task.cancel()

    async def close(self, timeout: float) -> None:
        """Take no more jobs, give those under way ``timeout`` seconds, cancel the rest."""
        self._closed = True
        tasks = [job.task for job in self._jobs.values() if job.task is not None]
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=timeout)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late)

    async def _run(self, job: Job, work: Callable[[Job], Awaitable[T]]) -> T:
        try:
            if job.deadline is None:
                result = await self._work(job, work)
            else:
                timeout = asyncio.timeout(job.deadline)
                try:
                    async with timeout:
                        result = await self._work(job, work)
                except TimeoutError as error:
                    if not timeout.expired():
                        raise
                    raise Unavailable(f"{job.kind} {job.key}: not done within {job.deadline:g} s") from error
            job.state = "done"
            return result
        except asyncio.CancelledError:
            job.state = "cancelled"
            raise
        except Exception as error:
            job.state = "failed"
            job.error = str(error)
            raise
        finally:
            self._end(job)

    def _never_begun(self, job: Job) -> None:
        """A task that is cancelled before its first step runs none of its code, not even what would tell of its end."""
        if job.id in self._jobs:
            job.state = "cancelled"
            self._end(job)

    def _end(self, job: Job) -> None:
        job.finished = time.time()
        del self._jobs[job.id]
        self._finished.append(job.info())

    async def _work(self, job: Job, work: Callable[[Job], Awaitable[T]]) -> T:
        await self.enter(job)
        job.started = time.time()
        job.state = "running"
        try:
            return await work(job)
        finally:
            self.leave(job)

    async def enter(self, job: Job) -> None:
        """Take a job's place: first the key, then the kind's, so that a job waiting for its key holds up nobody else."""
        lane = None
        if job.key:
            lane = self._lanes.get(job.key)
            if lane is None:
                lane = self._lanes[job.key] = _Lane()
            lane.users += 1
            try:
                await lane.lock.acquire()
            except BaseException:
                self._forget(job.key, lane)
                raise
        places = self._places.get(job.kind)
        if places is not None:
            try:
                await places.acquire()
            except BaseException:
                if lane is not None:
                    lane.lock.release()
                    self._forget(job.key, lane)
                raise
        job.held = True

    def leave(self, job: Job) -> None:
        """Give a job's place to the next; nothing happens where it has none."""
        if not job.held:
            return
        job.held = False
        places = self._places.get(job.kind)
        if places is not None:
            places.release()
        if job.key:
            lane = self._lanes[job.key]
            lane.lock.release()
            self._forget(job.key, lane)

    def _forget(self, key: str, lane: _Lane) -> None:
        """A lane that nobody uses goes."""
        lane.users -= 1
        if not lane.users:
            del self._lanes[key]


def _retrieve(task: asyncio.Task[T]) -> None:
    """Look at the outcome, so that a failed job whose caller has left isn't reported as never looked at."""
    if not task.cancelled():
        task.exception()
