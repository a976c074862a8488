"""Layers put upon others than those they were made on, and what makes one file system another."""

import os

import pytest
from boxshipd.builder.graph import Copy, Diff, Merge
from boxshipd.builder.ops.diff import DiffExecutor
from boxshipd.builder.ops.merge import MergeExecutor
from boxshipd.builder.results import Snapshot
from boxshipd.errors import InvalidParameter
from support.archives import member
from support.build_files import directory, hard_link, link, work


@pytest.fixture
def base(bench):
    return bench.base(
        directory("etc", mode=0o711, uid=4),
        (member("etc/conf"), b"conf"),
        directory("var"),
        (member("var/x"), b"x"),
        (member("gone"), b""),
    )


async def merge(bench, *inputs) -> Snapshot:
    (made,) = await MergeExecutor(bench.layers, bench.workers).run(Merge(), work(Merge(), inputs))
    return made


async def diff(bench, lower, upper) -> Snapshot:
    (made,) = await DiffExecutor(bench.layers, bench.workers).run(Diff(), work(Diff(), [lower, upper]))
    return made


async def test_a_linked_layer_lies_on_what_is_below(bench, base):
    context = bench.context((member("new"), b"new"))
    own = await bench.run(Copy(input=0, sources=("new",), destination="/opt/new"), inputs=[context], scratch=True)
    made = await merge(bench, base, own)
    assert bench.read(made, "opt/new") == b"new"
    assert bench.read(made, "etc/conf") == b"conf"
    assert [layer.diff for layer in made.layers] == [base.layers[0].diff, own.layers[0].diff]
    assert made.layers[1].blob == own.layers[0].blob
    assert made.layers[1].chain != own.layers[0].chain
    assert os.path.isdir(bench.layers.directories(made)[0])
    assert await merge(bench, base, own) == made


async def test_a_lowest_layers_whiteouts_hide_where_it_isnt_lowest(bench, base):
    own = bench.base((member(".wh.gone"), b""), (member("etc/.wh..wh..opq"), b""), (member("etc/own"), b""))
    made = await merge(bench, base, own)
    assert set(bench.entries(made)) == {"etc", "etc/own", "var", "var/x"}
    assert bench.entries(made)["etc"].mode == 0o711


async def test_the_key_of_a_merge(bench, base):
    executor = MergeExecutor(bench.layers, bench.workers)
    own = bench.base((member("x"), b"1"))
    other = bench.base((member("x"), b"2"))
    keys = [await executor.key(Merge(), work(Merge(), each)) for each in ([base, own], [base, other], [own, base], [base, own])]
    assert len(set(keys)) == 3
    assert keys[0] == keys[3]
    with pytest.raises(InvalidParameter):
        await merge(bench, base, bench.context())


async def test_layers_on_top_are_taken_as_they_are(bench, base):
    upper = bench.base((member("etc/more"), b"m"), (member("var/.wh.x"), b""), below=base)
    made = await diff(bench, base, upper)
    assert [layer.blob for layer in made.layers] == [upper.layers[1].blob]
    other = bench.base((member("var/x"), b"x"), (member("var/y"), b"y"))
    assert set(bench.entries(await merge(bench, other, made))) == {"etc", "etc/more", "var", "var/y"}
    assert await diff(bench, base, base) == Snapshot()


async def test_file_systems_that_have_nothing_in_common_are_compared(bench, base):
    upper = bench.base(
        directory("etc", mode=0o711, uid=4),
        (member("etc/conf"), b"CONF"),
        (member("var"), b"a file now"),
        (member("a"), b"a"),
        hard_link("b", "a"),
        link("c", "a"),
        directory("same"),
        (member("same/x"), b"x"),
    )
    lower = bench.base(directory("same"), (member("same/x"), b"x"), below=base)
    made = await diff(bench, lower, upper)
    assert set(bench.entries(made)) == {"etc", "etc/conf", "var", "a", "b", "c"}
    back = await merge(bench, lower, made)
    assert bench.entries(back).keys() == bench.entries(upper).keys()
    assert bench.read(back, "etc/conf") == b"CONF"
    assert bench.entries(back)["a"].inode == bench.entries(back)["b"].inode != 0
