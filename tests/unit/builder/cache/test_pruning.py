"""Which records go: filters, bounds, order, and that children go before their parents."""

from __future__ import annotations

import time

import pytest
from boxshipd.builder.cache.model import Record, record_id
from boxshipd.builder.cache.policy import BuilderSettings, GCRule, GCSettings, rules
from boxshipd.builder.cache.pruning import PruneOptions, bytes_to_keep, choose
from boxshipd.config import ConfigError, build, parse_size
from boxshipd.errors import InvalidParameter
from boxshipd.filters import Filters

NOW = time.time()
HOUR = 3600.0
GB = 1 << 30


def record(name: str, *parents: str, **fields: object) -> Record:
    values = {
        "kind": "regular",
        "description": f"step {name}",
        "created": NOW - 100 * HOUR,
        "used": NOW - HOUR,
        "size": 10,
        "uses": 1,
    }
    return Record(id=name, key=name, parents=parents, **{**values, **fields})


RECORDS = [
    record("base", used=NOW - 50 * HOUR, uses=9),
    record("left", "base", used=NOW - 30 * HOUR),
    record("right", "base", used=NOW - 2 * HOUR, uses=3),
    record("mount", kind="exec.cachemount", description="cached mount /root/.cache", used=NOW - 20 * HOUR),
    record("own", kind="internal", used=NOW - 90 * HOUR),
    record("busy", holders=1, used=NOW - 90 * HOUR),
]


def chosen(shared: str = "", free: int = 100 * GB, records: list[Record] = RECORDS, **options: object) -> list[str]:
    filters = Filters(options.pop("filters", {}))
    return [each.id for each in choose(records, PruneOptions(filters=filters, **options), lambda one: one.id == shared, free)]


def test_without_bounds_all_that_nobody_uses_goes_children_first():
    found = chosen()
    assert sorted(found) == ["base", "left", "mount", "right"]
    assert found.index("base") > max(found.index("left"), found.index("right"))


def test_what_images_share_and_what_is_the_builders_own_goes_only_with_everything():
    assert "left" not in chosen(shared="left")
    assert "base" not in chosen(shared="left")
    assert set(chosen(shared="left", everything=True)) == {"base", "left", "mount", "own", "right"}


def test_what_is_in_use_keeps_what_it_was_made_of():
    records = [*RECORDS, record("top", "right", holders=1)]
    assert chosen(records=records) == ["left", "mount"]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"id": ["lef"]}, {"left"}),
        ({"id": ["^ight"]}, set()),
        ({"parent": ["base"]}, {"left", "right"}),
        ({"type": ["exec.cachemount"]}, {"mount"}),
        ({"type": ["source.local"]}, set()),
        ({"description": ["step right"]}, {"right"}),
        ({"description": ["right"]}, set()),
        ({"inuse": ["true"]}, set()),
        ({"inuse": ["false"]}, {"base", "left", "right", "mount"}),
        ({"shared": []}, {"right"}),
        ({"shared": ["true"]}, {"right"}),
        ({"private": [""]}, {"left", "mount"}),
        ({"private": ["false"]}, {"right"}),
        ({"until": ["24h"]}, {"left"}),
        ({"until": ["10h"]}, {"left", "mount"}),
        ({"unused-for": ["10h"]}, {"left", "mount"}),
        ({"until": [f"{NOW - 25 * HOUR:.0f}"]}, {"left"}),
    ],
)
def test_filters(filters, expected):
    # Whatever is shared goes only with everything.
    everything = "shared" in filters or "private" in filters
    records = [each for each in RECORDS if each.id != "own"]
    assert (
        set(chosen(shared="right" if everything else "", everything=everything, filters=filters, records=records)) == expected
    )


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"label": ["x"]}, "invalid filter 'label'"),
        ({"id": ["a", "b"]}, "filters expect only one value"),
        ({"until": ["1h"], "unused-for": ["1h"]}, 'conflicting filters: "until" and "unused-for"'),
        ({"until": ["soon"]}, '"until" filter expects a duration'),
        ({"shared": ["perhaps"]}, "invalid filter"),
    ],
)
def test_filters_that_cannot_be(filters, message):
    with pytest.raises(InvalidParameter, match=message):
        PruneOptions(filters=Filters(filters)).check()


@pytest.mark.parametrize(
    ("options", "total", "free", "kept"),
    [
        ({"reserved_space": 5}, 100, 50, 5),
        ({"max_used_space": 30}, 100, 50, 30),
        ({"max_used_space": 30, "reserved_space": 40}, 100, 50, 40),
        ({"min_free_space": 60}, 100, 50, 90),
        ({"min_free_space": 40}, 100, 50, 100),
        ({"min_free_space": 90, "reserved_space": 80}, 100, 50, 80),
        ({"min_free_space": 60, "max_used_space": 95}, 100, 50, 90),
    ],
)
def test_how_much_is_kept(options, total, free, kept):
    assert bytes_to_keep(PruneOptions(**options), total, free) == kept


def test_with_bounds_only_as_much_goes_as_must_what_is_used_least_first():
    assert chosen(reserved_space=60) == []
    assert chosen(reserved_space=50) == ["left"]
    assert chosen(reserved_space=40) == ["left", "mount"]
    assert chosen(max_used_space=30) == ["left", "mount", "right"]
    assert chosen(reserved_space=1) == ["left", "mount", "right", "base"]


def test_what_images_share_counts_for_nothing():
    assert chosen(shared="right", max_used_space=50) == []
    assert chosen(shared="right", max_used_space=49) == ["left"]


def test_enough_is_made_free():
    assert chosen(min_free_space=115, free=100) == ["left", "mount"]


def test_ids_look_like_buildkits():
    assert len(record_id("x")) == 25
    assert record_id("x") != record_id("y")
    assert record_id("x").isalnum()


def test_the_daemons_configuration(tmp_path):
    settings = {
        "gc": {
            "enabled": True,
            "policy": [
                {"keepStorage": "10GB", "filter": ["unused-for=2200h"]},
                {"reservedSpace": "1GB", "maxUsedSpace": "50GB", "minFreeSpace": "2GB", "all": True},
            ],
        }
    }
    config = build({"builder": settings, "data-root": str(tmp_path)})
    first, second = rules(config.builder.gc, lambda text: parse_size(text, ""), str(tmp_path))
    assert (first.everything, first.reserved_space, first.filters.get("unused-for")) == (False, 10 * GB, ("2200h",))
    assert (second.everything, second.reserved_space, second.max_used_space, second.min_free_space) == (
        True,
        GB,
        50 * GB,
        2 * GB,
    )


def test_the_default_policy(tmp_path):
    def made(**fields: object) -> list[PruneOptions]:
        return rules(GCSettings(**fields), lambda text: parse_size(text, ""), str(tmp_path))

    assert made(enabled=False) == []
    *temporary, old, bounded, everything = made(default_keep_storage="20GB", default_max_used_space="30GB")
    assert [rule.filters.get("type") for rule in temporary] == [
        ("source.local",),
        ("exec.cachemount",),
        ("source.git.checkout",),
    ]
    assert {rule.filters.get("until") for rule in temporary} == {("48h",)}
    assert [rule.max_used_space for rule in temporary] == pytest.approx([20 * GB * 0.1382] * 3, rel=0.001)
    assert old.filters.get("until") == ("1440h",)
    assert (bounded.reserved_space, bounded.max_used_space, bounded.everything) == (20 * GB, 30 * GB, False)
    assert everything.everything
    assert bounded.min_free_space > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"gc": {"policy": [{"filter": ["label=x"]}]}},
        {"gc": {"policy": [{"keepStorage": "much"}]}},
        {"gc": {"defaultKeepStorage": "much"}},
        {"gc": {"keep": "1GB"}},
        {"history": {}},
    ],
)
def test_configurations_that_cannot_be(settings):
    with pytest.raises(ConfigError):
        build({"builder": settings})


def test_no_configuration_is_dockerds():
    assert build({}).builder == BuilderSettings()
    assert GCRule() == GCRule(all=False)
