"""COPY and ADD: what is copied from where to where, and what of it is a layer by itself."""

import pytest
from boxshipd.builder.errors import DockerfileError
from boxshipd.builder.graph import ContextSource, Copy, Files, GitSource, HttpSource, ImageSource, MakeFile, Merge
from boxshipd.builder.planner.git_references import GitReference, parse_git, parse_git_context
from boxshipd.errors import InvalidParameter
from support.plans import planned


async def actions_of(lines: str, **options):
    return (await planned(f"FROM debian\n{lines}\n", **options)).actions


@pytest.mark.parametrize(
    ("line", "copy"),
    [
        ("COPY a /b", Copy(input=1, sources=("a",), destination="/b")),
        ("COPY a b/", Copy(input=1, sources=("a",), destination="/b/", directory=True)),
        ("COPY a .", Copy(input=1, sources=("a",), destination="/", directory=True)),
        ("COPY a /", Copy(input=1, sources=("a",), destination="/", directory=True)),
        ("COPY . /b/.", Copy(input=1, sources=("/",), destination="/b/", directory=True)),
        ("COPY a b*.[ch] /d", Copy(input=1, sources=("a", "b*.[ch]"), destination="/d", many=True)),
        ("COPY ../../etc/passwd ../../../x", Copy(input=1, sources=("etc/passwd",), destination="/x")),
        ('COPY ["a b", "c d"]', Copy(input=1, sources=("a b",), destination="/c d")),
        ("COPY --chown=me:us a b", Copy(input=1, sources=("a",), destination="/b", owner="me:us")),
        ("COPY --chmod=u+x,go=rX a b", Copy(input=1, sources=("a",), destination="/b", mode="u+x,go=rX")),
        ("COPY --chmod=0755 a b", Copy(input=1, sources=("a",), destination="/b", mode="0755")),
        ("COPY --parents a/./b/* /d/", Copy(input=1, sources=("a/./b/*",), destination="/d/", directory=True, parents=True)),
        ("COPY --exclude=*.o --exclude=!x.o a b", Copy(input=1, sources=("a",), destination="/b", exclude=("*.o", "!x.o"))),
        ("ADD a.tar b/", Copy(input=1, sources=("a.tar",), destination="/b/", directory=True, unpack=True)),
        ("ADD --unpack=false a.tar b", Copy(input=1, sources=("a.tar",), destination="/b")),
    ],
)
async def test_copies_of_the_context(line, copy):
    assert await actions_of(line) == [copy]


async def test_destinations_are_seen_from_the_directory_and_variables_expanded():
    lines = "WORKDIR /w\nARG A=x O=1:2 M=600\nCOPY --chown=$O --chmod=$M $A/y ${A}z"
    copy = (await actions_of(lines))[-1]
    assert copy == Copy(input=1, sources=("x/y",), destination="/w/xz", owner="1:2", mode="600")


@pytest.mark.parametrize("value", ["a b", "a$X", '"a"'])
async def test_what_variables_hold_is_one_word_that_is_not_read_again(value):
    copy = (await actions_of("ARG A\nCOPY $A /x", build_args={"A": value}))[-1]
    assert copy.sources == (value,)


async def test_documents_are_files():
    found = await actions_of("ENV A=1\nCOPY <<EOF <<'RAW' /d/\n$A 'x' \\$A\nEOF\n$A\nRAW")
    assert found == [
        MakeFile(path="/d/", data=b"1 'x' $A\n", directory=True, name="EOF"),
        MakeFile(path="/d/", data=b"$A\n", directory=True, name="RAW"),
    ]
    (single,) = await actions_of("COPY --chown=1 --chmod=755 <<-EOF /x\n\ta\n\tEOF")
    assert single == MakeFile(path="/x", data=b"a\n", owner="1", mode="755", name="EOF")


async def test_a_linked_copy_does_not_depend_on_what_is_below():
    one = await planned("FROM debian\nCOPY --link a /b\nRUN x\n")
    two = await planned("FROM busybox\nCOPY --link a /b\nRUN x\n")
    merge = one.vertex(one.vertex(one.image.output).inputs[0])
    assert isinstance(merge.op, Merge)
    base, files = (one.vertex(each) for each in merge.inputs)
    assert isinstance(base.op, ImageSource)
    assert files.op == Files(actions=(Copy(input=0, sources=("a",), destination="/b"),), scratch=True)
    assert files.digest in two.plan.graph.vertices


async def test_a_linked_copy_on_nothing_is_a_copy():
    found = await planned("FROM scratch\nCOPY --link a /b\n")
    assert found.ops(Merge) == []


async def test_with_a_mode_a_copy_is_not_linked():
    found = await planned("FROM debian\nCOPY --link --chmod=755 a /b\n")
    assert found.ops(Merge) == []
    assert not found.ops(Files)[0].scratch


async def test_the_context_is_loaded_once_without_what_is_ignored():
    found = await planned("FROM debian\nCOPY a b\nADD c d\n", ignore_file="# comment\n\n/x\n!y\n")
    assert found.ops(ContextSource) == [ContextSource(exclude=("x", "!y"))]
    assert found.names.count("[internal] load build context") == 1


@pytest.mark.parametrize("source", [GitSource(remote="https://h/x.git"), HttpSource(url="https://h/x.tar")])
async def test_contexts_from_elsewhere(source):
    found = await planned("FROM debian\nCOPY a b\n", context=source, ignore_file="a\n")
    assert found.vertex(found.vertex(found.image.output).inputs[1]).op == source
    assert found.plan.warnings == ()


async def test_a_contexts_repository_keeps_its_git_directory_if_asked_to():
    source = GitSource(remote="https://h/x.git")
    found = await planned("FROM debian\nCOPY a b\n", context=source, build_args={"BUILDKIT_CONTEXT_KEEP_GIT_DIR": "1"})
    assert found.ops(GitSource) == [GitSource(remote="https://h/x.git", keep_git_dir=True)]


@pytest.mark.parametrize(
    ("url", "name", "path"),
    [
        ("https://h/a/b.tar.gz?x=1", "b.tar.gz", "b.tar.gz"),
        ("http://h/a%20b", "a b", "a b"),
        ("http://h", "__unnamed__", "__unnamed__"),
        ("http://h/", "__unnamed__", "__unnamed__"),
        ("http://h/a/..", "__unnamed__", "__unnamed__"),
        ("http://h/a%2f..%2f%2e%2e", "__unnamed__", "__unnamed__"),
        ("http://h/[a]*", "[a]*", "\\[a]\\*"),
    ],
)
async def test_adding_files_of_the_network(url, name, path):
    found = await planned(f'FROM debian\nADD ["{url}", "/d/"]\n')
    assert found.ops(HttpSource) == [HttpSource(url=url, filename=name)]
    assert found.actions == [Copy(input=1, sources=(path,), destination="/d/", directory=True)]


async def test_adding_with_checksum_and_unpacking():
    checksum = f"sha256:{'a' * 64}"
    found = await planned(f"FROM debian\nARG C={checksum}\nADD --checksum=$C --unpack=true http://h/x.tar /d\n")
    assert found.ops(HttpSource) == [HttpSource(url="http://h/x.tar", checksum=checksum, filename="x.tar")]
    assert found.actions[0].unpack


async def test_adding_a_repository():
    found = await planned("FROM debian\nADD --keep-git-dir --checksum=abc https://h/x.git?branch=b&subdir=d /d\n")
    assert found.ops(GitSource) == [
        GitSource(remote="https://h/x.git", ref="refs/heads/b", directory="d", keep_git_dir=True, checksum="abc")
    ]
    assert found.actions == [Copy(input=1, sources=("/",), destination="/d")]


async def test_sources_of_several_kinds_keep_their_order():
    found = await actions_of("ADD a b http://h/x c <<EOF /d/\nx\nEOF")
    assert [getattr(action, "sources", None) for action in found] == [("a", "b"), ("x",), ("c",), None]
    assert all(action.directory for action in found)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("COPY http://h/x /", "source can't be a URL for COPY"),
        ("COPY git@h:x.git /", "source can't be a git ref for COPY"),
        ("COPY --chmod=9 a b", "invalid chmod parameter: '9'. it should be octal string and between 0 and 07777"),
        ("COPY --chmod=17777 a b", "invalid chmod parameter"),
        ("COPY --chmod=x+y a b", "invalid chmod parameter"),
        ("ADD --checksum=sha256:x a b", r"checksum requires HTTP\(S\) or Git sources"),
        (f"ADD --checksum=sha256:{'a' * 64} http://h/a http://h/b c/", "checksum can't be specified for multiple sources"),
        ("ADD --checksum=md5:x http://h/a c", "digest"),
        ("ADD --checksum=a https://h/x.git?checksum=b c", 'checksum mismatch "a" != "b"'),
        ("ADD https://h/x.git?submodules=no c", "invalid submodules value"),
        ("ADD https://h/x.git?nothing=1 c", 'unexpected query "nothing"'),
    ],
)
async def test_copies_that_cannot_be_right(line, message):
    with pytest.raises(DockerfileError, match=message) as caught:
        await planned(f"FROM debian\n{line}\n")
    assert caught.value.first == 2


@pytest.mark.parametrize(
    ("text", "source", "keep"),
    [
        ("https://h/x.git", GitSource(remote="https://h/x.git"), None),
        ("https://h/x.git#v1", GitSource(remote="https://h/x.git", ref="v1"), None),
        ("https://h/x.git#v1:a/b", GitSource(remote="https://h/x.git", ref="v1", directory="a/b"), None),
        ("https://h/x.git#:a", GitSource(remote="https://h/x.git", directory="a"), None),
        ("https://me:pw@h:8/x.git", GitSource(remote="https://me:pw@h:8/x.git"), None),
        ("git://h/x", GitSource(remote="git://h/x"), None),
        ("ssh://git@h/x#v", GitSource(remote="ssh://git@h/x", ref="v"), None),
        ("git@h:a/x.git#v:d", GitSource(remote="git@h:a/x.git", ref="v", directory="d"), None),
        ("git@h:a/x.git?ref=v", GitSource(remote="git@h:a/x.git", ref="v"), None),
        ("https://h/x.git?tag=v1", GitSource(remote="https://h/x.git", ref="refs/tags/v1"), None),
        ("https://h/x.git?branch=refs/heads/b", GitSource(remote="https://h/x.git", ref="refs/heads/b"), None),
        ("https://h/x.git?commit=abc", GitSource(remote="https://h/x.git", ref="abc", checksum="abc"), None),
        ("https://h/x.git?keep-git-dir", GitSource(remote="https://h/x.git"), True),
        ("https://h/x.git?submodules=false", GitSource(remote="https://h/x.git", submodules=False), None),
        ("https://h/x.git?keep-git-dir=0&submodules=1", GitSource(remote="https://h/x.git"), False),
    ],
)
def test_references_of_repositories(text, source, keep):
    assert parse_git(text) == GitReference(source, keep)


@pytest.mark.parametrize(
    "text",
    ["a", "./x.git", "https://h/x", "https://h/x.git/y", "ftp://h/x.git", "a:b", "/a@b:c", "http://[x.git", "github.com/a/b"],
)
def test_what_is_no_repository(text):
    assert parse_git(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "https://h/x.git?ref=a&ref=b",
        "https://h/x.git?ref=",
        "https://h/x.git?ref=a#b",
        "https://h/x.git?subdir=a#:b",
        "https://h/x.git?tag=a&branch=b",
        "https://h/x.git?keep-git-dir=maybe",
    ],
)
def test_repositories_that_contradict_themselves(text):
    with pytest.raises(InvalidParameter):
        parse_git(text)


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("github.com/a/b#v:d", GitSource(remote="https://github.com/a/b", ref="v", directory="d")),
        ("https://h/x.git", GitSource(remote="https://h/x.git")),
    ],
)
def test_repositories_as_contexts(text, source):
    found = parse_git_context(text)
    assert found is not None
    assert found.source == source
