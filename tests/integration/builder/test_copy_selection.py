"""COPY --exclude and --parents, and what counts for the cache."""

import pytest
from boxshipd.builder.errors import SourceMissing
from boxshipd.builder.graph import Copy, MakeFile
from boxshipd.builder.results import Snapshot
from support.archives import member
from support.build_files import directory, hard_link, link

NOTHING = Snapshot()


@pytest.fixture
def context(bench):
    return bench.context(
        directory("src", mode=0o700, mtime=5),
        (member("src/main.c"), b"c"),
        (member("src/main.h"), b"h"),
        directory("src/test", mode=0o711),
        (member("src/test/test.c"), b"tc"),
        directory("src/test/data"),
        (member("src/test/data/x.txt"), b"x"),
        directory("docs"),
        (member("docs/a.md"), b"a"),
        (member("home.txt"), b"home"),
        (member("home.md"), b"home"),
        link("latest", "src"),
    )


def names(entries: dict) -> set[str]:
    return {path.removeprefix("new/") for path, entry in entries.items() if entry.kind != "directory"}


@pytest.mark.parametrize(
    ("source", "exclude", "left"),
    [
        ("src", ["*.h"], {"main.c", "test/test.c", "test/data/x.txt"}),
        ("src", ["**/*.c"], {"main.h", "test/data/x.txt"}),
        ("src", ["test"], {"main.c", "main.h"}),
        ("src", ["*", "!test/data"], {"test/data/x.txt"}),
        ("home*", ["*.md"], {"home.txt"}),
        ("home.md", ["*.md"], set()),
        (".", ["src", "docs/*.md", "home.*"], {"latest"}),
    ],
)
async def test_exclude(bench, context, source, exclude, left):
    made = await bench.copy(context, source, "/new/", onto=NOTHING, exclude=tuple(exclude))
    assert names(bench.entries(made)) == left
    assert not any(path.endswith(("docs", "src")) for path in bench.entries(made) if "src" in exclude and "src" in path)


@pytest.mark.parametrize(
    ("source", "left"),
    [
        ("src/main.c", {"src/main.c"}),
        ("src/test", {"src/test/test.c", "src/test/data/x.txt"}),
        ("src/./test/test.c", {"test/test.c"}),
        ("src/*/test.c", {"src/test/test.c"}),
        ("./src/./main.*", {"main.c", "main.h"}),
        ("s*/./main.*", {"main.c", "main.h"}),
        ("**/*.txt", {"src/test/data/x.txt", "home.txt"}),
        ("latest/./main.c", {"main.c"}),
        ("nothing/*", set()),
    ],
)
async def test_parents(bench, context, source, left):
    made = await bench.copy(context, source, "/new/", onto=NOTHING, parents=True)
    entries = bench.entries(made)
    assert names(entries) == left
    if "new/src" in entries:
        assert (entries["new/src"].mode, entries["new/src"].mtime) == (0o700, 5 * 10**9)
    assert "new/docs" not in entries


async def test_parents_of_what_isnt_there(bench, context):
    for source in ("src/nothing", "src/./nothing", "nothing/./main.c"):
        with pytest.raises(SourceMissing, match=f"stat {source}"):
            await bench.copy(context, source, "/new/", onto=NOTHING, parents=True)


async def key(bench, source, **more) -> str:
    action = Copy(**{"input": 1, "sources": ("src",), "destination": "/x", **more})
    return await bench.key(action, inputs=[NOTHING, source])


BASE = [directory("src", mode=0o755), (member("src/a", mtime=3), b"a"), (member("src/b"), b"b"), (member("other"), b"o")]


async def test_the_key_is_of_what_counts(bench):
    first = await key(bench, bench.context(*BASE))
    same = [
        [*BASE[:3], (member("other", mode=0o600), b"else")],
        [*BASE[:1], (member("src/a", mtime=99, uid=7), b"a"), *BASE[2:]],
        [BASE[2], BASE[1], directory("src", mode=0o700)],
    ]
    for members in same:
        assert await key(bench, bench.context(*members)) == first
    different = [
        [*BASE[:1], (member("src/a"), b"A"), *BASE[2:]],
        [*BASE[:1], (member("src/a", mode=0o755), b"a"), *BASE[2:]],
        [*BASE[:1], (member("src/c"), b"a"), *BASE[2:]],
        [*BASE, (member("src/d"), b"")],
        [*BASE[:2], hard_link("src/b", "src/a")],
        [*BASE[:2], link("src/b", "a")],
        [*BASE[:1], (member("src/a", pax_headers={"SCHILY.xattr.user.x": "1"}), b"a"), *BASE[2:]],
    ]
    keys = {await key(bench, bench.context(*members)) for members in different}
    assert len(keys) == len(different)
    assert first not in keys


async def test_the_key_is_of_the_operation_and_of_what_is_below(bench):
    context = bench.context(*BASE)
    first = await key(bench, context)
    others = {
        await key(bench, context, destination="/y"),
        await key(bench, context, owner="1"),
        await key(bench, context, times=1),
        await key(bench, context, exclude=("a",)),
        await bench.key(Copy(input=0, sources=("src",), destination="/x"), inputs=[context], scratch=True),
        await bench.key(Copy(input=1, sources=("src",), destination="/x"), inputs=[bench.base((member("z"), b"")), context]),
        await bench.key(MakeFile(path="/x", data=b""), inputs=[NOTHING]),
        await bench.key(MakeFile(path="/x", data=b"1"), inputs=[NOTHING]),
    }
    assert len(others - {first}) == 8


async def test_owners_and_modes_count_where_they_are_copied(bench):
    plain, changed = bench.context(*BASE), bench.context(*BASE[:1], (member("src/a", uid=7, mode=0o600), b"a"), *BASE[2:])
    assert await key(bench, plain, mode="644") == await key(bench, changed, mode="644")
    assert await key(bench, plain, mode="a+x") != await key(bench, changed, mode="a+x")
    one, two = bench.base((member("src", uid=1), b"")), bench.base((member("src", uid=2), b""))
    assert await key(bench, one) == await key(bench, two)
    assert await key(bench, one, keep_owner=True) != await key(bench, two, keep_owner=True)


async def test_a_file_system_and_a_context_of_the_same_files_have_the_same_key(bench):
    context, stage = bench.context(*BASE), bench.base(*BASE)
    assert await key(bench, context) == await key(bench, stage)
    # The second time it is remembered.
    assert await key(bench, stage) == await key(bench, context)
