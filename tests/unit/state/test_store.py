"""The store: durable, grouped, isolated writes, and migrations."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading

import pytest
from boxshipd.errors import InternalError
from boxshipd.state.migrations import MIGRATIONS, migrate
from boxshipd.state.store import Store


def _put(name: str):
    return lambda db: db.execute("INSERT INTO containers VALUES (?, ?, '', '')", (name, name))


def _names(db: sqlite3.Connection) -> list[str]:
    return [name for (name,) in db.execute("SELECT name FROM containers ORDER BY name")]


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state.db")


async def test_what_was_written_is_read_and_is_there_after_reopening(path):
    with Store.open(path) as store:
        await store.write(_put("a"))
        assert await store.read(_names) == ["a"]
    with Store.open(path) as store:
        assert await store.read(_names) == ["a"]


async def test_a_write_returns_what_its_function_returns(path):
    with Store.open(path) as store:
        assert await store.write(lambda db: db.execute("SELECT 41 + 1").fetchone()[0]) == 42


async def test_writes_that_wait_share_a_commit(path):
    with Store.open(path) as store:
        entered, go_on = threading.Event(), threading.Event()

        def slow(db: sqlite3.Connection) -> None:
            entered.set()
            go_on.wait(10)

        first = store.submit(slow)
        await asyncio.to_thread(entered.wait, 10)
        writes = [store.submit(_put(f"{number:02}")) for number in range(20)]
        before = store.commits
        go_on.set()
        await asyncio.gather(first, *writes)
        assert store.commits - before == 2
        assert len(await store.read(_names)) == 20


async def test_one_failing_write_undoes_itself_alone(path):
    with Store.open(path) as store:
        entered, go_on = threading.Event(), threading.Event()

        def slow(db: sqlite3.Connection) -> None:
            entered.set()
            go_on.wait(10)

        def half(db: sqlite3.Connection) -> None:
            _put("half")(db)
            raise KeyError("on purpose")

        first = store.submit(slow)
        await asyncio.to_thread(entered.wait, 10)
        outcomes = asyncio.gather(store.submit(_put("a")), store.submit(half), store.submit(_put("b")), return_exceptions=True)
        go_on.set()
        await first
        _, failure, _ = await outcomes
        assert isinstance(failure, KeyError)
        assert await store.read(_names) == ["a", "b"]


async def test_a_write_that_fails_alone_leaves_nothing(path):
    with Store.open(path) as store:

        def half(db: sqlite3.Connection) -> None:
            _put("half")(db)
            raise KeyError("on purpose")

        with pytest.raises(KeyError):
            await store.write(half)
        assert await store.read(_names) == []
        await store.write(_put("after"))
        assert await store.read(_names) == ["after"]


async def test_a_violated_constraint_reaches_its_writer(path):
    with Store.open(path) as store:
        await store.write(_put("a"))
        with pytest.raises(sqlite3.IntegrityError):
            await store.write(_put("a"))


async def test_writes_run_in_the_order_of_their_submission(path):
    with Store.open(path) as store:
        order: list[int] = []
        await asyncio.gather(*(store.submit(lambda db, n=n: order.append(n)) for n in range(50)))
        assert order == list(range(50))


async def test_a_cancelled_waiter_does_not_cancel_the_write(path):
    with Store.open(path) as store:
        write = asyncio.create_task(store.write(_put("a")))
        await asyncio.sleep(0)
        write.cancel()
        await asyncio.gather(write, return_exceptions=True)
        await store.write(_put("b"))
        assert await store.read(_names) == ["a", "b"]


async def test_reads_cannot_write(path):
    with Store.open(path) as store, pytest.raises(InternalError, match="readonly"):
        await store.read(_put("a"))


async def test_closing_writes_what_is_queued(path):
    store = Store.open(path)
    writes = [store.submit(_put(str(number))) for number in range(5)]
    store.close()
    await asyncio.gather(*writes)
    with pytest.raises(InternalError, match="is closed"):
        store.submit(_put("late"))
    with Store.open(path) as again:
        assert len(await again.read(_names)) == 5


async def test_the_log_is_checkpointed_and_does_not_grow_for_ever(path, tmp_path):
    with Store.open(path) as store:
        for number in range(300):
            await store.write(_put(str(number)))
        size = (tmp_path / "state.db-wal").stat().st_size
        assert size < 300 * 2 * 4096


def test_migrations_are_applied_once_and_in_order():
    db = sqlite3.connect(":memory:", isolation_level=None)
    scripts = ("CREATE TABLE one (x);", "ALTER TABLE one ADD COLUMN y;")
    migrate(db, scripts[:1])
    migrate(db, scripts)
    migrate(db, scripts)
    assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.execute("INSERT INTO one (x, y) VALUES (1, 2)")
    db.close()


def test_a_database_of_a_newer_version_is_refused(path):
    with Store.open(path):
        pass
    db = sqlite3.connect(path)
    db.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    db.close()
    with pytest.raises(InternalError, match="newer than the"):
        Store.open(path)


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "state.db").write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(InternalError, match="open state database"):
        Store.open(str(tmp_path / "state.db"))
    still_open = [name for name in os.listdir("/proc/self/fd") if _target(name).startswith(str(tmp_path))]
    assert still_open == []


def _target(descriptor: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    except FileNotFoundError:
        return ""
