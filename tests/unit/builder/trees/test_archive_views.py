"""One archive as several trees: all of it, and what ignore files leave of it, each closed when it likes."""

import io
import tarfile

from boxshipd.builder.dockerfile.ignore import Matcher
from boxshipd.builder.trees.archive import ArchiveTree
from boxshipd.builder.trees.paths import walk


def archive(*names: str) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = len(name)
            tar.addfile(info, io.BytesIO(name.encode()))
    out.seek(0)
    return out


def paths(tree: ArchiveTree) -> list[bytes]:
    return [entry.path for entry in walk(tree, b"")]


def test_what_is_left_of_an_archive_outlives_it(tmp_path):
    whole = ArchiveTree.read(archive("a", "d/kept", "d/left", "only/left"), str(tmp_path))
    part = whole.without(Matcher(["**/left"]))
    assert paths(whole) == [b"a", b"d", b"d/kept", b"d/left", b"only", b"only/left"]
    assert paths(part) == [b"a", b"d", b"d/kept", b"only"]
    read = ArchiveTree.read(archive("a", "d/kept", "d/left", "only/left"), str(tmp_path), exclude=Matcher(["**/left"]))
    assert part.digest == read.digest != whole.digest
    whole.close()
    assert (whole.is_open, part.is_open) == (False, True)
    entry = part.entry(b"d/kept")
    assert entry is not None
    with part.open(entry) as file:
        assert file.read() == b"d/kept"
    part.close()
    read.close()
