"""The soak, in its short form: followers of rotating logs while the daemon is killed; see ``benchmarks/soak.py``."""

from __future__ import annotations

import asyncio

from conftest import needs_root

from benchmarks import image, remains
from benchmarks.engine import boxship
from benchmarks.soak import Outcome, Plan, Soak

pytestmark = needs_root

SHORT = Plan(
    containers=6, followers=12, seconds=9.0, period=3.0, visit=(1.0, 4.0), stall=1.0, rotation=1.0, kept_files=60
)  # fmt: skip


def run(plan: Plan) -> Outcome:
    with boxship() as engine:
        asyncio.run(image.load(engine))
        outcome = asyncio.run(Soak(engine, plan, seed=1).run())
    assert remains.settled(lambda: remains.of_engine(engine.home.name), 10) == []
    return outcome


def test_followers_that_come_stall_and_go_see_every_line_once_while_the_daemon_is_killed() -> None:
    outcome = run(SHORT)
    assert outcome.faults == []
    assert outcome.kills == 2
    assert outcome.visits > SHORT.followers
    assert outcome.connections > outcome.visits
    assert outcome.lines > 1000
