"""A shim whose short container has ended makes the next one, where nobody can look into what it remembers."""

from __future__ import annotations

import os
import signal
import socket
from collections import defaultdict
from pathlib import Path

import pytest
from boxrun.bus import BusError
from boxrun.container.spec import Log, Namespace, Spec
from support.runtime import SupervisorProcess, children, eventually

ROUNDS = 40
"""How often it is tried: on a busy machine a shim may have waited too long and be gone."""


async def settled(directory: str) -> int:
    """How many entries a directory has once that doesn't change any more: who has reported a start still closes a few."""
    seen: list[int] = []

    def still() -> bool:
        seen.append(len(os.listdir(directory)))
        return len(seen) >= 5 and len(set(seen[-5:])) == 1

    await eventually(still, "the descriptors stay the same")
    return seen[-1]


async def serve(supervisor: SupervisorProcess, spec: Spec) -> tuple[int, int]:
    """Run a container to its end; the process that made it, and how many descriptors that had meanwhile."""
    reply = await supervisor.launch(spec)
    status = Path(f"/proc/{reply.pid}/status").read_text()
    maker = int(status.partition("PPid:")[2].split()[0])
    descriptors = await settled(f"/proc/{maker}/fd")
    os.kill(reply.pid, signal.SIGKILL)
    assert (await supervisor.exited(spec.id)).exit_code == 137
    await supervisor.release(spec.id)
    return maker, descriptors


async def test_the_same_process_makes_one_container_after_the_other_and_keeps_nothing(supervisor: SupervisorProcess) -> None:
    seen: dict[int, list[int]] = defaultdict(list)
    for _ in range(ROUNDS):
        maker, descriptors = await serve(supervisor, supervisor.spec("sleep", "1000"))
        seen[maker].append(descriptors)
        if len(seen[maker]) == 5:
            break
    longest = max(seen.values(), key=len)
    assert len(longest) == 5, seen
    # The first order has come by a descriptor that the second doesn't have; from then on nothing is added.
    assert len(set(longest[1:])) == 1, seen


async def test_who_shares_namespaces_is_made_by_a_process_of_its_own(supervisor: SupervisorProcess) -> None:
    other = supervisor.spec("sleep", "1000")
    await supervisor.launch(other)
    others = {(await serve(supervisor, supervisor.spec("sleep", "1000")))[0] for _ in range(3)}
    shared = (
        supervisor.spec("sleep", "1000", namespaces=(Namespace(kind="net", container=other.id),)),
        supervisor.spec("sleep", "1000", namespaces=(Namespace(kind="pid", container=other.id),)),
        supervisor.spec("sleep", "1000", without=("pid",)),
    )
    for spec in shared:
        maker, _ = await serve(supervisor, spec)
        assert maker not in others
        others.add(maker)
        # Nor does that one make another.
        assert (await serve(supervisor, supervisor.spec("sleep", "1000")))[0] != maker


async def test_a_failed_start_ends_the_process(supervisor: SupervisorProcess) -> None:
    maker = 0
    for _ in range(3):
        before, (maker, _) = maker, await serve(supervisor, supervisor.spec("sleep", "1000"))
        assert maker != before
        with pytest.raises(BusError, match="executable file not found"):
            await supervisor.launch(supervisor.spec("missing"))


async def test_who_waits_for_an_order_ends_with_the_supervisor(supervisor: SupervisorProcess) -> None:
    maker, _ = await serve(supervisor, supervisor.spec("sleep", "1000"))
    await supervisor.kill()
    await eventually(lambda: not Path(f"/proc/{maker}").exists(), "nobody waits for a dead supervisor")
    await supervisor.start()
    await serve(supervisor, supervisor.spec("sleep", "1000"))


async def test_a_maker_of_many_has_no_dead_children(supervisor: SupervisorProcess) -> None:
    """What sends a container's log is its maker's child as well."""
    with socket.create_server(("127.0.0.1", 0)) as receiver:
        options = {"syslog-address": f"tcp://127.0.0.1:{receiver.getsockname()[1]}"}
        for number in range(8):
            log = Log(driver="syslog", path=str(supervisor.base / f"cache-{number}"), options=options)
            spec = supervisor.spec("sleep", "1000", log=log)
            reply = await supervisor.launch(spec)
            maker = int(Path(f"/proc/{reply.pid}/status").read_text().partition("PPid:")[2].split()[0])
            # The kernel's list of children may leave one out while others come and go.
            listed = {*children(maker), reply.pid}
            states = {pid: Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] for pid in listed}
            assert states.pop(reply.pid) != "Z"
            assert len(states) <= 1
            assert "Z" not in states.values()
            os.kill(reply.pid, signal.SIGKILL)
            await supervisor.exited(spec.id)
            await supervisor.release(spec.id)
