"""Volumes on record and in their directories, through crashes, and who may have or remove them when."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from boxship.types.volumes import VolumeCreateRequest
from boxshipd.errors import Conflict, InvalidParameter, NotFound
from boxshipd.events import Events
from boxshipd.filters import Filters
from boxshipd.state.store import Store
from boxshipd.volumes.service import Volumes, delete


class Harness:
    """Volumes in a directory that can be opened again and again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.events = Events()
        self.used: dict[str, list[str]] = {}

    async def open(self) -> Volumes:
        self.store = Store.open(str(self.directory / "state.db"))
        self.volumes = Volumes(self.store, str(self.directory), self.events.publish)
        self.volumes.uses = lambda: self.used
        await self.volumes.open()
        return self.volumes

    def close(self) -> None:
        self.volumes.close()
        self.store.close()

    async def reopen(self) -> Volumes:
        self.close()
        return await self.open()


@pytest.fixture
async def harness(tmp_path):
    harness = Harness(tmp_path)
    await harness.open()
    yield harness
    harness.close()


def names(volumes: Volumes, **filters: list[str]) -> list[str]:
    return [volume.name for volume in volumes.list(Filters(filters)).volumes or ()]


async def test_create_inspect_and_remove(harness):
    volumes = harness.volumes
    made = await volumes.create(VolumeCreateRequest(name="one", labels={"a": "b"}))
    assert (made.name, made.driver, made.scope, made.labels, made.options) == ("one", "local", "local", {"a": "b"}, None)
    assert os.path.isdir(made.mountpoint)
    assert await volumes.create(VolumeCreateRequest(name="one", labels={"c": "d"})) == made
    volumes = await harness.reopen()
    assert volumes.inspect("one") == made
    await volumes.remove("one", force=False)
    assert not os.path.exists(made.mountpoint)
    for act in (lambda: volumes.inspect("one"),):
        with pytest.raises(NotFound, match="get one: no such volume"):
            act()
    with pytest.raises(NotFound, match="get one: no such volume"):
        await volumes.remove("one", force=False)
    await volumes.remove("one", force=True)
    assert names(await harness.reopen()) == []


async def test_other_drivers_and_swarms_volumes_are_refused(harness):
    with pytest.raises(NotFound, match='create v1: error looking up volume plugin nfs: plugin "nfs" not found'):
        await harness.volumes.create(VolumeCreateRequest(name="v1", driver="nfs"))
    with pytest.raises(InvalidParameter, match="cluster volumes"):
        await harness.volumes.create(VolumeCreateRequest(cluster_volume_spec={}))
    assert names(harness.volumes) == []


async def test_used_volumes_stay(harness):
    await harness.volumes.create(VolumeCreateRequest(name="used"))
    harness.used = {"used": ["c1", "c2"]}
    with pytest.raises(Conflict, match=r"^remove used: volume is in use - \[c1, c2\]$"):
        await harness.volumes.remove("used", force=True)
    harness.used = {}
    harness.volumes.hold("used", "c3")
    with pytest.raises(Conflict, match=r"volume is in use - \[c3\]"):
        await harness.volumes.remove("used", force=False)
    assert harness.volumes.set_aside(["used"], "c4") == []
    harness.volumes.let_go("used", "c3")
    await harness.volumes.remove("used", force=False)


async def test_filters(harness):
    for name, labels in (("one", {"a": "b"}), ("other", {"a": "c"}), ("third", None)):
        await harness.volumes.create(VolumeCreateRequest(name=name, labels=labels))
    harness.used = {"one": ["c"]}
    volumes = harness.volumes
    assert names(volumes) == ["one", "other", "third"]
    assert names(volumes, name=["^o"]) == ["one", "other"]
    assert names(volumes, label=["a"]) == ["one", "other"]
    assert names(volumes, label=["a=b"]) == ["one"]
    assert names(volumes, dangling=["true"]) == ["other", "third"]
    assert names(volumes, dangling=["0"]) == ["one"]
    assert names(volumes, driver=["local"]) == ["one", "other", "third"]
    assert names(volumes, driver=["loc"]) == []
    for bad in ({"dangling": ["x"]}, {"size": ["1"]}):
        with pytest.raises(InvalidParameter, match="invalid filter"):
            names(volumes, **bad)


async def test_prune(harness):
    volumes = harness.volumes
    nameless = (await volumes.create(VolumeCreateRequest())).name
    kept = (await volumes.create(VolumeCreateRequest(labels={"keep": "1"}))).name
    assert len(nameless) == 64
    await volumes.create(VolumeCreateRequest(name="named"))
    Path(volumes.inspect("named").mountpoint, "file").write_bytes(bytes(5000))
    await volumes.create(VolumeCreateRequest(name="used"))
    harness.used = {"used": ["c"]}
    assert (await volumes.prune(Filters({"label!": ["keep"]}))).volumes_deleted == [nameless]
    assert (await volumes.prune(Filters())).volumes_deleted == [kept]
    answer = await volumes.prune(Filters({"all": ["1"]}))
    assert (answer.volumes_deleted, answer.space_reclaimed) == (["named"], 5000)
    assert names(volumes) == ["used"]
    with pytest.raises(InvalidParameter, match="invalid filter 'until'"):
        await volumes.prune(Filters({"until": ["1h"]}))


async def test_one_name_is_one_volume_however_many_ask_at_once(harness):
    request = VolumeCreateRequest(name="same")
    made = await asyncio.gather(*(harness.volumes.create(request) for _ in range(20)))
    assert len({volume.created_at for volume in made}) == 1
    await asyncio.gather(
        *(harness.volumes.remove("same", force=True) for _ in range(5)), *(harness.volumes.create(request) for _ in range(5))
    )
    volumes = await harness.reopen()
    assert names(volumes) == ["same"]
    assert os.listdir(volumes.inspect("same").mountpoint) == []


async def test_a_crash_before_the_record_leaves_nothing(harness):
    Path(harness.volumes.directories.stage("half"), "file").touch()
    volumes = await harness.reopen()
    assert names(volumes) == []
    await volumes.directories.settle()
    assert os.listdir(volumes.directories.aside) == []


async def test_a_crash_after_the_record_leaves_the_whole_volume(harness):
    directories = harness.volumes.directories
    await harness.volumes.create(VolumeCreateRequest(name="whole"))
    Path(directories.path("whole"), "file").touch()
    os.rename(f"{directories.root}/whole", f"{directories.aside}/whole")
    volumes = await harness.reopen()
    assert os.listdir(volumes.inspect("whole").mountpoint) == ["file"]


async def test_a_crash_during_a_removal_leaves_all_or_nothing(harness):
    await harness.volumes.create(VolumeCreateRequest(name="back"))
    await harness.volumes.create(VolumeCreateRequest(name="gone"))
    for name in ("back", "gone"):
        Path(harness.volumes.directories.path(name), "file").touch()
        harness.volumes.directories.set_aside(name)
    gone = harness.volumes.find("gone")
    await harness.store.write(lambda db: delete(db, [gone]))
    volumes = await harness.reopen()
    assert names(volumes) == ["back"]
    assert os.listdir(volumes.inspect("back").mountpoint) == ["file"]
    await volumes.directories.settle()
    assert not [name for name in os.listdir(volumes.directories.root) if not name.startswith(".") and name != "back"]


async def test_directories_that_are_on_no_record_are_taken_up_and_not_removed(harness):
    place = Path(harness.volumes.directories.path("found"))
    place.mkdir(parents=True)
    (place / "data").write_text("precious")
    volumes = await harness.reopen()
    assert names(volumes) == ["found"]
    assert (Path(volumes.inspect("found").mountpoint) / "data").read_text() == "precious"


async def test_a_volume_whose_directory_is_gone_gets_an_empty_one(harness):
    await harness.volumes.create(VolumeCreateRequest(name="lost"))
    os.rmdir(harness.volumes.directories.path("lost"))
    os.rmdir(f"{harness.volumes.directories.root}/lost")
    volumes = await harness.reopen()
    assert os.listdir(volumes.inspect("lost").mountpoint) == []


async def test_events(harness):
    subscription = harness.events.subscribe(Filters({"type": ["volume"]}), since=0, until=0)
    await harness.volumes.create(VolumeCreateRequest(name="one"))
    await harness.volumes.remove("one", force=False)
    await harness.volumes.prune(Filters())
    await subscription.aclose()
    told = [(message.action, message.actor.id) for message in harness.events._history]
    assert told == [("create", "one"), ("destroy", "one"), ("prune", "")]
