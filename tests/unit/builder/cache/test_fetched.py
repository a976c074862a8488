"""What was fetched, as records of the cache: what is known of it, what is in use, and what goes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from boxshipd.builder.cache.fetched import Fetched
from boxshipd.builder.cache.pruning import PruneOptions
from boxshipd.filters import Filters
from support.solving import builder


def keep(fetched: Fetched, key: str, content: bytes = b"x", *, replaces: bool = False) -> str:
    new = fetched.new()
    Path(new, "data").write_bytes(content)
    return fetched.keep(new, key, f"about {key}", replaces=replaces)


def test_what_is_known_of_it_is_still_known_by_the_next_daemon(tmp_path: Path) -> None:
    fetched = Fetched(str(tmp_path), "source.git.checkout")
    keep(fetched, "a", bytes(10_000))
    assert fetched.find("a") == str(tmp_path / "a")
    (first,) = fetched.records()
    assert (first.kind, first.description, first.uses, first.holders) == ("source.git.checkout", "about a", 2, 2)
    assert first.size >= 10_000
    (again,) = Fetched(str(tmp_path), "source.git.checkout").records()
    assert (again.id, again.description, again.size, again.created) == (first.id, "about a", first.size, first.created)
    assert (again.uses, again.used, again.holders) == (2, first.used, 0)


def test_of_what_is_not_on_record_nothing_is_left(tmp_path: Path) -> None:
    keep(Fetched(str(tmp_path), "regular"), "whole")
    for name in ("new-1", "unknown", "torn"):
        (tmp_path / name).mkdir()
    (tmp_path / "torn" / "entry.json").write_bytes(b'{"description":')
    fetched = Fetched(str(tmp_path), "regular")
    assert os.listdir(tmp_path) == ["whole"]
    assert fetched.find("torn") is None


def test_what_is_in_use_is_not_dropped(tmp_path: Path) -> None:
    fetched = Fetched(str(tmp_path), "regular")
    keep(fetched, "a")
    (record,) = fetched.records()
    assert not fetched.drop(record)
    fetched.give_back("a")
    assert fetched.drop(record)
    assert not fetched.drop(record)
    assert (os.listdir(tmp_path), fetched.records(), fetched.find("a")) == ([], [], None)


def test_what_somebody_removed_by_hand_is_fetched_again(tmp_path: Path) -> None:
    fetched = Fetched(str(tmp_path), "regular")
    keep(fetched, "a")
    fetched.give_back("a")
    shutil.rmtree(tmp_path / "a")
    assert fetched.find("a") is None
    assert Path(keep(fetched, "a", b"new"), "data").read_bytes() == b"new"


def test_only_what_is_newer_takes_the_place_of_what_is_there(tmp_path: Path) -> None:
    fetched = Fetched(str(tmp_path), "regular")
    keep(fetched, "a", b"first")
    assert Path(keep(fetched, "a", b"same"), "data").read_bytes() == b"first"
    assert Path(keep(fetched, "a", b"newer", replaces=True), "data").read_bytes() == b"newer"
    assert os.listdir(tmp_path) == ["a"]


@pytest.mark.skipif(os.geteuid() != 0, reason="unpacks layers")
async def test_the_cache_lists_it_and_removes_it_by_its_type(tmp_path: Path) -> None:
    async with builder(tmp_path) as b:
        keep(b.cache.repositories, "a")
        keep(b.cache.downloads, "b")
        assert {(each.type, each.description, each.in_use) for each in b.cache.usage()} == {
            ("source.git.checkout", "about a", True),
            ("regular", "about b", True),
        }
        assert (await b.cache.prune(PruneOptions())).caches_deleted is None
        b.cache.repositories.give_back("a")
        b.cache.downloads.give_back("b")
        ids = {each.type: each.id for each in b.cache.usage()}
        sizes = {each.type: each.size for each in b.cache.usage()}
        for kind in ("exec.cachemount", "source.git.checkout", "regular"):
            answer = await b.cache.prune(PruneOptions(filters=Filters({"type": [kind]})))
            expected = [ids[kind]] if kind in ids else None
            assert (answer.caches_deleted, answer.space_reclaimed) == (expected, sizes.get(kind, 0))
        assert b.cache.usage() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="unpacks layers")
async def test_the_cache_s_own_rules_count_for_it(tmp_path: Path) -> None:
    async with builder(tmp_path, [PruneOptions(filters=Filters({"type": ["source.git.checkout"]}), max_used_space=1)]) as b:
        for fetched in (b.cache.repositories, b.cache.downloads):
            keep(fetched, "a")
            fetched.give_back("a")
        b.cache.build_ended()
    assert [each.kind for each in b.cache.repositories.records() + b.cache.downloads.records()] == ["regular"]
