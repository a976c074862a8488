"""Followers of a log learn of changes by the kernel's notification, and in time without it too."""

from __future__ import annotations

import asyncio
import errno
import subprocess
import sys
from pathlib import Path

import pytest
from boxshipd.logs.watch import LogWatcher, PollingWatcher, _watchers, changes
from conftest import needs_root

WITHOUT = """
import asyncio, sys
from pathlib import Path
from boxshipd.logs.watch import changes

async def main(path):
    with changes(path) as event, changes(path) as other:
        await asyncio.wait_for(asyncio.gather(event.wait(), other.wait()), 10)

Path("/proc/sys/user/max_inotify_instances").write_text("0")
asyncio.run(main(sys.argv[1]), debug=True)
"""


async def test_a_change_wakes_every_follower_and_the_last_ends_the_watcher(tmp_path):
    path = str(tmp_path / "log")
    with changes(path) as first, changes(path) as second:
        assert {kind for _, kind in _watchers} == {LogWatcher}
        Path(path).write_text("line")
        await asyncio.wait_for(asyncio.gather(first.wait(), second.wait()), 10)
    assert not _watchers


async def test_a_directory_that_is_gone(tmp_path):
    with pytest.raises(FileNotFoundError), changes(str(tmp_path / "gone/log")):
        pass
    assert not _watchers


async def test_looking_now_and_then(tmp_path):
    watcher = PollingWatcher()
    with pytest.raises(OSError, match="gone") as raised:
        watcher.add(str(tmp_path / "gone"), asyncio.Event())
    assert raised.value.errno == errno.ENOENT
    event = asyncio.Event()
    watcher.add(str(tmp_path), event)
    await asyncio.wait_for(event.wait(), 10)
    watcher.remove(str(tmp_path), event)
    assert watcher.idle
    watcher.close()


@needs_root
def test_where_others_have_used_up_the_notifications(tmp_path):
    command = ["unshare", "--map-root-user", sys.executable, "-W", "error", "-c", WITHOUT, str(tmp_path / "log")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "looking ten times a second instead" in ran.stderr
