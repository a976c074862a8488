"""COPY, ADD and WORKDIR, each as one layer."""

import os
import stat
import tarfile

import pytest
from boxshipd.builder.errors import SourceMissing
from boxshipd.builder.graph import Copy, MakeDirectory, MakeFile
from boxshipd.builder.results import Snapshot
from boxshipd.errors import InvalidParameter
from support.archives import member
from support.build_files import directory, hard_link, link, sparse_archive


@pytest.fixture
def context(bench):
    return bench.context(
        (member("one.txt", mtime=1_000), b"one"),
        (member("two.txt", mode=0o755, uid=1000, gid=1000), b"two"),
        directory("dir", mode=0o700),
        (member("dir/inner"), b"inner"),
        directory("dir/sub", mode=0o750),
        (member("dir/sub/deep"), b"deep"),
        link("to-dir", "dir"),
        link("to-one", "/one.txt"),
        link("dangling", "nowhere"),
        link("outside", "../../../etc"),
    )


@pytest.fixture
def base(bench):
    return bench.base(
        directory("etc", uid=3, gid=4, mode=0o711, mtime=77),
        (member("etc/passwd"), b"root:x:0:0::/:\nwww:x:33:34::/:\n"),
        (member("etc/group"), b"root:x:0:\nstaff:x:50:\n"),
        (member("file"), b"old"),
        directory("srv", mode=0o700, uid=9, gid=9),
        directory("srv/sub", mode=0o711, uid=9, gid=9),
        link("link", "srv"),
        link("root", "/"),
        link("up", "../../../../srv"),
        link("to-file", "/file"),
    )


async def test_a_file_goes_to_a_name_and_its_directories_are_made(bench, context, base):
    made = await bench.copy(context, "one.txt", "/a/b/c", onto=base)
    entries = bench.entries(made)
    assert bench.read(made, "a/b/c") == b"one"
    assert [(entries[path].mode, entries[path].uid, entries[path].gid) for path in ("a", "a/b", "a/b/c")] == [
        (0o755, 0, 0),
        (0o755, 0, 0),
        (0o644, 0, 0),
    ]
    assert entries["a/b/c"].mtime == 1_000 * 10**9
    assert bench.layer(made) == ["a", "a/b", "a/b/c"]
    assert made.layers[:-1] == base.layers


@pytest.mark.parametrize(
    ("destination", "more", "place"),
    [
        ("/srv", {}, "srv/one.txt"),
        ("/srv/", {}, "srv/one.txt"),
        ("/link", {}, "srv/one.txt"),
        ("/link/", {}, "srv/one.txt"),
        ("/link/new", {}, "srv/new"),
        ("/root/root/up/new", {}, "srv/new"),
        ("/new/", {}, "new/one.txt"),
        ("/new", {"directory": True}, "new/one.txt"),
        ("/new/.", {}, "new/one.txt"),
        ("/", {}, "one.txt"),
        ("/../../x", {}, "x"),
        ("/file", {}, "file"),
        ("/to-file", {}, "file"),
    ],
)
async def test_where_a_file_goes(bench, context, base, destination, more, place):
    made = await bench.copy(context, "one.txt", destination, onto=base, **more)
    assert bench.read(made, place) == b"one"
    known = bench.entries(base)
    entries = bench.entries(made)
    assert {path for path in entries if path not in known} <= {"new", place}
    assert {path: entry for path, entry in entries.items() if path in known and path != place} == {
        path: entry for path, entry in known.items() if path != place
    }


async def test_directories_above_stay_as_they_are(bench, context, base):
    made = await bench.copy(context, "one.txt", "/etc/new", onto=base)
    entry = bench.entries(made)["etc"]
    assert (entry.mode, entry.uid, entry.gid, entry.mtime) == (0o711, 3, 4, 77 * 10**9)


@pytest.mark.parametrize("source", ["dir", "/dir", "dir/", "to-dir", "./x/../dir"])
async def test_a_directory_is_copied_by_its_content(bench, context, base, source):
    made = await bench.copy(context, source, "/new/place", onto=base)
    entries = bench.entries(made)
    assert {path: entries[path].mode for path in entries if path.startswith("new")} == {
        "new": 0o755,
        "new/place": 0o755,
        "new/place/inner": 0o644,
        "new/place/sub": 0o750,
        "new/place/sub/deep": 0o644,
    }


async def test_a_directory_is_merged_with_the_one_that_is_there(bench, context, base):
    made = await bench.copy(context, "dir", "/srv", onto=base)
    entries = bench.entries(made)
    assert (entries["srv"].mode, entries["srv"].uid) == (0o700, 9)
    assert (entries["srv/sub"].mode, entries["srv/sub"].uid) == (0o750, 0)
    assert bench.read(made, "srv/sub/deep") == b"deep"


async def test_a_link_as_a_source_is_followed_inside_the_context_only(bench, context, base):
    made = await bench.copy(context, "to-one", "/srv/", onto=base)
    assert bench.read(made, "srv/to-one") == b"one"
    for source in ("dangling", "outside", "../../etc/passwd", "outside/passwd", "one.txt/x", "nothing"):
        with pytest.raises(
            SourceMissing, match=r"^COPY failed: file not found in build context or excluded by .dockerignore: stat"
        ):
            await bench.copy(context, source, "/srv/", onto=base)
        with pytest.raises(SourceMissing):
            await bench.key(Copy(input=1, sources=(source,), destination="/"), inputs=[base, context])


async def test_links_inside_a_directory_are_copied_as_links(bench, context, base):
    made = await bench.copy(context, "/", "/new", onto=base)
    entries = bench.entries(made)
    assert entries["new/outside"].link == b"../../../etc"
    assert entries["new/to-dir"].kind == "symlink"
    assert entries["new/two.txt"].mode == 0o755


@pytest.mark.parametrize(
    ("source", "destination", "message"),
    [
        ("dir", "/file", "cannot copy to non-directory: /file"),
        ("one.txt", "/file/x", "mkdir /file: not a directory"),
        ("one.txt", "/file/", "mkdir /file: not a directory"),
    ],
)
async def test_directories_and_files_dont_take_each_others_place(bench, context, base, source, destination, message):
    with pytest.raises(InvalidParameter, match=f"^{message}$"):
        await bench.copy(context, source, destination, onto=base)


async def test_a_directory_doesnt_take_the_place_of_a_link_within(bench, base):
    context = bench.context(directory("link"), (member("link/x"), b"x"))
    with pytest.raises(InvalidParameter, match="cannot copy to non-directory: /link"):
        await bench.copy(context, "/", "/", onto=base)


async def test_a_file_doesnt_take_the_place_of_a_directory_within(bench, base):
    context = bench.context((member("srv"), b"x"))
    with pytest.raises(InvalidParameter, match="cannot replace to directory /srv with file"):
        await bench.copy(context, "/", "/", onto=base)


@pytest.mark.parametrize(
    ("owner", "expected"),
    [
        ("", (0, 0)),
        ("www", (33, 34)),
        ("www:staff", (33, 50)),
        ("33", (33, 33)),
        ("33:staff", (33, 50)),
        ("www:7", (33, 7)),
        (":staff", (0, 50)),
    ],
)
async def test_owners(bench, context, base, owner, expected):
    made = await bench.copy(context, "dir", "/new", onto=base, owner=owner)
    entries = bench.entries(made)
    assert {(entries[path].uid, entries[path].gid) for path in ("new", "new/inner", "new/sub/deep")} == {expected}


@pytest.mark.parametrize("owner", ["nobody", "www:nothing", ":", "a:b:c", "99999999999"])
async def test_owners_that_are_nobody(bench, context, base, owner):
    with pytest.raises(InvalidParameter):
        await bench.copy(context, "dir", "/new", onto=base, owner=owner)


async def test_another_stages_owners_are_kept(bench, base):
    other = bench.base((member("x", uid=5, gid=6, mode=0o4755), b"x"))
    made = await bench.copy(other, "x", "/y", onto=base, keep_owner=True)
    entry = bench.entries(made)["y"]
    assert (entry.uid, entry.gid, entry.mode) == (5, 6, 0o4755)
    with pytest.raises(SourceMissing, match=r"^COPY failed: stat z: file does not exist$"):
        await bench.copy(other, "z", "/y", onto=base)


@pytest.mark.parametrize(
    ("mode", "file", "inner"),
    [("0400", 0o400, 0o400), ("u=rwX,go=", 0o600, 0o700), ("+x", 0o755, 0o751), ("g+s,o-r", 0o2640, 0o2750)],
)
async def test_modes(bench, context, base, mode, file, inner):
    made = await bench.copy(context, "/", "/new", onto=base, mode=mode)
    entries = bench.entries(made)
    assert (entries["new/one.txt"].mode, entries["new/dir/sub"].mode) == (file, inner)
    assert entries["new"].mode == 0o755


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("*.txt", {"one.txt", "two.txt"}),
        ("t?o.txt", {"two.txt"}),
        ("[no]ne.txt", {"one.txt"}),
        ("[^t]*.txt", {"one.txt"}),
        ("d*/inn*", {"inner"}),
        ("*/sub", {"deep"}),
        ("to-dir/*", {"inner", "deep"}),
        ("nothing*", set()),
        ("[", set()),
        ("*" * 60 + "x", set()),
    ],
)
async def test_wildcards(bench, context, base, source, names):
    made = await bench.copy(context, source, "/new/", onto=base)
    assert {path.rpartition("/")[2] for path in bench.entries(made) if path.startswith("new/")} == names


async def test_one_layer_for_several_sources_and_later_ones_win(bench, context, base):
    other = bench.context((member("one.txt"), b"other"))
    actions = (
        Copy(input=1, sources=("one.txt", "dir"), destination="/new/", directory=True),
        Copy(input=2, sources=("one.txt",), destination="/new"),
        MakeFile(path="/new", name="EOF", data=b"text"),
    )
    made = await bench.run(*actions, inputs=[base, context, other])
    assert len(made.layers) == len(base.layers) + 1
    assert (bench.read(made, "new/one.txt"), bench.read(made, "new/EOF")) == (b"other", b"text")
    assert bench.entries(made)["new/EOF"].mode == 0o644


async def test_files_and_directories_of_the_dockerfiles_own(bench, base):
    made = await bench.run(
        MakeDirectory(path="/link/work/dir", mode=0o750, owner="www", times=5),
        MakeFile(path="/srv/work/dir/x", data=b"x" * 1000, mode="0755", owner="33:0", times=6),
        inputs=[base],
    )
    entries = bench.entries(made)
    assert (entries["srv/work"].mode, entries["srv/work/dir"].uid, entries["srv/work"].mtime) == (0o750, 33, 5 * 10**9)
    entry = entries["srv/work/dir/x"]
    assert (entry.mode, entry.uid, entry.gid, entry.mtime, entry.size) == (0o755, 33, 0, 6 * 10**9, 1000)


async def test_what_is_there_needs_no_layer(bench, base):
    assert await bench.run(MakeDirectory(path="/up/sub"), inputs=[base]) == base
    with pytest.raises(InvalidParameter, match="mkdir /file: not a directory"):
        await bench.run(MakeDirectory(path="/file/x"), inputs=[base])


async def test_a_file_system_of_its_own(bench, context):
    made = await bench.run(Copy(input=0, sources=("one.txt",), destination="/a/b"), inputs=[context], scratch=True)
    assert list(bench.entries(made)) == ["a", "a/b"]
    assert len(made.layers) == 1
    assert await bench.run(inputs=[], scratch=True) == Snapshot()


async def test_hard_links_are_kept_within_one_source(bench, base):
    context = bench.context((member("a"), b"a"), hard_link("b", "a"), directory("d"), hard_link("d/c", "b"))
    made = await bench.copy(context, "/", "/new", onto=base)
    entries = bench.entries(made)
    assert entries["new/a"].inode == entries["new/b"].inode == entries["new/d/c"].inode != 0
    made = await bench.copy(context, ["a", "b"], "/new/", onto=base)
    entries = bench.entries(made)
    assert (entries["new/a"].inode, entries["new/b"].inode) == (0, 0)


async def test_attributes_holes_and_odd_names(bench, base):
    odd = "new\nline \udcff"
    context = bench.context(
        (member(odd), b"odd"),
        (member("capable", mode=0o755, pax_headers={"SCHILY.xattr.user.mark": "here"}), b"x"),
        member("pipe", tarfile.FIFOTYPE, mode=0o600),
    )
    made = await bench.copy(context, "/", "/new", onto=base)
    assert bench.read(made, "new/capable") == b"x"
    entries = bench.entries(made)
    assert entries[f"new/{odd}"].size == 3
    assert entries["new/capable"].xattrs == {"user.mark": b"here"}
    assert entries["new/pipe"].kind == "fifo"


async def test_a_file_with_holes_stays_one(bench, base, tmp_path):
    length = 64 << 20
    tree = bench.read_context(sparse_archive(tmp_path, length))
    made = await bench.copy(tree, "sparse", "/a", onto=base)
    again = await bench.copy(made, "a", "/b", onto=base)
    for snapshot, name in ((made, "a"), (again, "b")):
        status = os.stat(f"{bench.layers.directories(snapshot)[0]}/{name}")
        assert status.st_size == length
        assert status.st_blocks * 512 < length // 2
        with bench.tree(snapshot).open(bench.entries(snapshot)[name]) as file:
            file.seek(length // 2 - 1)
            assert file.read(8) == b"\0middle\0"


async def test_names_that_would_be_whiteouts_are_refused(bench, base):
    context = bench.context((member(".wh.file"), b""))
    with pytest.raises(InvalidParameter, match=r"/.wh.file: no layer can have"):
        await bench.copy(context, "/", "/", onto=base)
    assert bench.read(base, "file") == b"old"


@pytest.mark.parametrize("destination", ["/a\0b", f"/{'x' * 300}", "/x" * 3000])
async def test_destinations_that_cant_be(bench, context, base, destination):
    with pytest.raises(InvalidParameter):
        await bench.copy(context, "one.txt", destination, onto=base)


async def test_times_of_the_epoch(bench, context, base):
    made = await bench.copy(context, "/", "/new", onto=base, times=12)
    entries = bench.entries(made)
    assert {entry.mtime for path, entry in entries.items() if path.startswith("new")} == {12 * 10**9}
    again = await bench.copy(context, "/", "/new", onto=base, times=12)
    assert again == made


async def test_what_is_written_is_what_the_blob_says(bench, context, base):
    """The directory and the blob are made at the same time, of the same bytes."""
    made = await bench.copy(context, "/", "/new", onto=base)
    again = bench.layers.restack(Snapshot(base.layers[:0]), made.layers[-1])
    top, alone = bench.layers.directories(made)[0], bench.layers.directories(again)[0]
    for where, _, names in os.walk(f"{top}/new"):
        for name in names:
            one = os.lstat(f"{where}/{name}")
            two = os.lstat(f"{alone}{where.removeprefix(top)}/{name}")
            assert (one.st_mode, one.st_size, one.st_mtime_ns) == (two.st_mode, two.st_size, two.st_mtime_ns)
    assert made.layers[-1].size == sum(
        os.lstat(f"{where}/{name}").st_size
        for where, _, names in os.walk(top)
        for name in names
        if stat.S_ISREG(os.lstat(f"{where}/{name}").st_mode)
    )
