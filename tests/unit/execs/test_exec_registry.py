"""How long execs are kept, and what of them a container shows."""

from __future__ import annotations

import pytest
from boxrun.container.spec import Log
from boxship.types.containers import ContainerConfig
from boxship.types.host import HostConfig
from boxshipd.containers.model import Config, Container, State
from boxshipd.errors import NotFound
from boxshipd.execs import registry as module
from boxshipd.execs.model import ExecConfig
from boxshipd.execs.registry import Execs


@pytest.fixture
def containers():
    settings = Config(
        id="box",
        created=0,
        image_id="",
        layers=(),
        config=ContainerConfig(),
        host_config=HostConfig(),
        path="",
        args=[],
        log=Log(),
    )
    return {"box": Container("box", settings, State(), "/nowhere")}


@pytest.fixture
def execs(tmp_path, containers):
    execs = Execs(str(tmp_path / "journal"), containers)
    execs.load()
    yield execs
    execs.close()


def config(ident: str) -> ExecConfig:
    return ExecConfig(id=ident, container="box", command=("true",))


def test_a_container_shows_those_that_have_not_ended(execs, containers):
    first, _ = execs.create(config("a")), execs.create(config("b"))
    assert list(containers["box"].execs) == ["a", "b"]
    execs.begun(first)
    execs.ended(first, 4)
    assert list(containers["box"].execs) == ["b"]
    assert execs.find("a")[0].exit_code == 4


def test_the_oldest_idle_ones_are_forgotten(execs, containers, monkeypatch):
    monkeypatch.setattr(module, "KEPT", 3)
    running = execs.create(config("running"))
    execs.begun(running)
    for number in range(6):
        execs.create(config(f"e{number}"))
    assert execs.find("running")[0] is running
    assert [exec_.id for exec_ in execs] == ["running", "e3", "e4", "e5"]
    with pytest.raises(NotFound, match="No such exec instance: e0"):
        execs.find("e0")
    assert list(containers["box"].execs) == ["running", "e3", "e4", "e5"]


def test_age_alone_makes_them_go(execs, monkeypatch):
    old = execs.create(config("old"))
    old.finished -= module.KEPT_SECONDS + 1
    execs.create(config("new"))
    assert [exec_.id for exec_ in execs] == ["new"]


def test_without_its_container_there_is_none(execs, containers):
    execs.create(config("a"))
    del containers["box"]
    with pytest.raises(NotFound, match="No such exec instance: a"):
        execs.find("a")


def test_another_daemon_knows_the_same(execs, tmp_path, containers, monkeypatch):
    monkeypatch.setattr(module, "COMPACT_AT", 4)
    for number in range(8):
        execs.ended(execs.create(config(f"e{number}")), number)
    execs.create(config("waits"))
    containers["box"].execs.clear()
    successor = Execs(str(tmp_path / "journal"), containers)
    successor.load()
    assert {exec_.id: exec_.exit_code for exec_ in successor} == {**{f"e{n}": n for n in range(8)}, "waits": None}
    assert list(containers["box"].execs) == ["waits"]
    successor.close()
