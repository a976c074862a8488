"""Dockerfiles, contexts and stages that are made to reach the host's files: nothing of them is read, nothing is changed."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from conftest import needs_root
from support.archives import member, tar
from support.build_api import Answer, build, build_ours, context, dockerfile, logs
from support.daemon import Daemon
from support.hostile import HARMLESS, REFUSED, layer, state_of

pytestmark = [needs_root, pytest.mark.timeout(300)]

SECRET = b"only the host knows"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A directory of the host's, with what nobody may read or change."""
    directory = tmp_path / "host"
    directory.mkdir()
    (directory / "sentinel").write_bytes(SECRET)
    return directory


def shown(answer: Answer) -> str:
    """All that the client is told."""
    return str(answer.documents) + logs(answer).decode(errors="replace")


async def ours(daemon: Daemon, text: str, archive: bytes = b"", **request: object) -> Answer:
    """One build with our own request, whose context is an archive."""
    return await build_ours(daemon, {"text": text, **request}, {"context context": archive or context({"a": "A"})})


DESTINATIONS = {
    "link to the root": "RUN ln -s / /d\nCOPY a /d{host}/sentinel\nADD a /d{host}/new/",
    "link to a directory": "RUN ln -s {host} /d\nCOPY a /d/sentinel\nCOPY a /d/new/",
    "link upwards": "RUN mkdir /x && ln -s ../../../../../../..{host} /x/d\nCOPY a /x/d/sentinel\nADD a /x/d/",
    "link to a file": "RUN ln -s {host}/sentinel /d\nCOPY a /d",
    "link through proc": "RUN ln -s /proc/self/root{host} /d\nCOPY a /d/sentinel",
    "dots": "WORKDIR /w\nCOPY a ../../../../../..{host}/sentinel\nADD a /../../..{host}/",
    "linked layer": "RUN ln -s {host} /d\nCOPY --link a /d/sentinel",
    "working directory": "RUN ln -s {host} /d\nWORKDIR /d/made/../../made\nCOPY a sentinel",
    "chown": "RUN ln -s {host} /d\nCOPY --chown=5:5 --chmod=777 a /d/sentinel",
}


@pytest.mark.parametrize("kind", DESTINATIONS)
async def test_destinations_stay_inside(daemon, host, kind):
    before = state_of(str(host))
    answer = await ours(daemon, f"FROM busybox\n{DESTINATIONS[kind].format(host=host)}\nRUN echo survived", no_cache=True)
    assert b"survived" in logs(answer) or "sentinel" in answer.error["message"] or "/d" in answer.error["message"]
    assert state_of(str(host)) == before
    assert SECRET.decode() not in shown(answer)


SOURCES = {
    "dots": "COPY ../../../../../../..{host}/sentinel /s",
    "absolute": "COPY {host}/sentinel /s",
    "wildcards": "COPY ../../../../../*{host}/sent* /s\nRUN cat /s",
    "parents": "COPY --parents ../../../../..{host}/./sentinel /p/",
    "of a stage": "COPY --from=evil /abs/sentinel /s",
    "of a stage by a relative link": "COPY --from=evil /x/rel/sentinel /s",
    "of a stage by a link itself": "COPY --from=evil /file /s",
    "of a stage by proc": "COPY --from=evil /proc-root{host}/sentinel /s",
    "of a stage with wildcards": "COPY --from=evil /ab*/sent* /s\nRUN cat /s",
    "of a stage whose all is taken": "COPY --from=evil / /all\nRUN cat /all/abs/sentinel /all/file",
    "a bind mount": "RUN --mount=type=bind,source=../../../../../..{host},target=/m cat /m/sentinel",
    "a bind mount of a link": "RUN --mount=type=bind,from=evil,source=/abs,target=/m cat /m/sentinel",
    "a bind mount of a file's link": "RUN --mount=type=bind,from=evil,source=/file,target=/m cat /m",
    "a bind mount of the context's link": "RUN --mount=type=bind,source=out,target=/m cat /m/sentinel",
    "a cache mount": "RUN --mount=type=cache,source=../../../..{host},target=/m cat /m/sentinel",
    "a cache mount from a stage": "RUN --mount=type=cache,id=h,from=evil,source=/abs,target=/m cat /m/sentinel",
    "a cache's name": "RUN --mount=type=cache,id=../../../../../..{host},target=/m cat /m/sentinel",
    "a context's link": "COPY out/sentinel /s\nRUN cat /s",
    "a context's link that is a file": "COPY file /s\nRUN cat /s",
    "a context's directory with links": "COPY . /c\nRUN cat /c/out/sentinel /c/file",
    "an added link": "ADD file /s\nRUN cat /s",
    "a stage's name that is a path": "COPY --from={host} sentinel /s",
    "a mount's stage that is a path": "RUN --mount=type=bind,from={host},target=/m cat /m/sentinel",
    "an address of a file": "ADD file://{host}/sentinel /s",
}


@pytest.mark.parametrize("kind", SOURCES)
async def test_sources_stay_inside(daemon, host, kind):
    links = {
        "abs": str(host),
        "x/rel": f"../../../../../../..{host}",
        "file": f"{host}/sentinel",
        "proc-root": "/proc/self/root",
    }
    evil = "FROM busybox AS evil\nRUN mkdir /x " + " ".join(f"&& ln -s {target} /{name}" for name, target in links.items())
    archive = tar(
        (member("a"), b"A"),
        (member("out", tarfile.SYMTYPE, linkname=str(host)), b""),
        (member("file", tarfile.SYMTYPE, linkname=f"../../../../../../..{host}/sentinel"), b""),
    )
    answer = await ours(daemon, f"{evil}\nFROM busybox\n{SOURCES[kind].format(host=host)}\n", archive, no_cache=True)
    assert answer.error["message"]
    assert SECRET.decode() not in shown(answer)


TARGETS = {
    "dots": "type=tmpfs,target=../../../..{host}/new",
    "a link": "type=cache,target=/d/new",
    "a link, for a file": "type=secret,id=s,target=/d/new",
    "the root": "type=tmpfs,target=/",
    "the root by dots": "type=tmpfs,target=/x/..",
    "proc": "type=tmpfs,target=/proc",
    "the process": "type=bind,target=/proc/self/cwd",
    "nothing": "type=tmpfs",
}


@pytest.mark.parametrize("kind", TARGETS)
async def test_targets_stay_inside(daemon, host, kind):
    before = state_of(str(host))
    mount = TARGETS[kind].format(host=host)
    text = f"FROM busybox\nRUN ln -s {host} /d\nRUN --mount={mount} echo written > {host}/new; ls {host}; true\n"
    supplies = {"context context": context({"a": "A"}), "secret s": b"swordfish"}
    answer = await build_ours(daemon, {"text": text, "no_cache": True}, supplies)
    assert answer.status in (200, 400)
    assert state_of(str(host)) == before
    assert b"sentinel" not in logs(answer)


@pytest.mark.parametrize("entries", REFUSED.values(), ids=REFUSED)
async def test_contexts_that_lead_out(daemon, host, entries):
    before = state_of(str(host))
    answer = await ours(daemon, "FROM scratch\nCOPY . /\n", layer(entries, str(host)), outputs=[{"type": "tar"}])
    assert answer.error["message"]
    assert state_of(str(host)) == before
    assert SECRET.decode() not in shown(answer)


async def test_contexts_that_only_look_like_it(daemon, host):
    before = state_of(str(host))
    for entries in HARMLESS.values():
        answer = await ours(daemon, "FROM busybox\nCOPY . /c\n", layer(entries, str(host)))
        # No layer can have what would be taken for a whiteout.
        assert answer.documents[-1].get("aux") or ".wh." in answer.error["message"]
        assert state_of(str(host)) == before


# What has a member of an unknown type isn't an archive at all, and is added as it is.
@pytest.mark.parametrize("name", [name for name in REFUSED if name != "unknown-type"])
async def test_added_archives_that_lead_out(daemon, host, name):
    entries = REFUSED[name]
    before = state_of(str(host))
    answer = await ours(daemon, "FROM busybox\nADD x.tar /\n", context({"x.tar": layer(entries, str(host))}))
    assert answer.error["message"]
    assert state_of(str(host)) == before


async def test_odd_files_of_a_context(daemon):
    archive = tar(
        (member("new\nline"), b"1"),
        (member("b\udcff\udcfe"), b"2"),
        (member("-rf"), b"3"),
        (member("$HOME `id`"), b"4"),
        (member("pipe", tarfile.FIFOTYPE), b""),
        (member("disk", tarfile.BLKTYPE, devmajor=8, devminor=0, mode=0o666), b""),
        (member("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666), b""),
    )
    answer = await ours(daemon, "FROM busybox\nCOPY . /c/\nRUN cat /c/new* /c/b* /c/-rf '/c/$HOME `id`' && ls -l /c\n", archive)
    assert answer.image
    assert logs(answer).startswith(b"1234")
    # A device that it brings can't be used by a command.
    answer = await ours(daemon, "FROM busybox\nCOPY . /c/\nRUN cat /c/disk\n", archive)
    assert answer.error["code"] == 1


async def test_a_bomb_as_a_context(daemon):
    import gzip

    head = tarfile.TarInfo("zeroes")
    head.size = 1 << 42
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb") as file:
        file.write(dockerfile("FROM scratch\nCOPY zeroes /\n")[:1024] + head.tobuf(tarfile.GNU_FORMAT))
        for _ in range(64):
            file.write(bytes(1 << 20))
    answer = await build(daemon, out.getvalue())
    assert "archive" in answer.error["message"]


async def test_a_hundred_thousand_entries(daemon):
    names = [f"{number // 1000}/{number}" for number in range(100_000)]
    body = b"".join(tarfile.TarInfo(name).tobuf(tarfile.USTAR_FORMAT) for name in names)
    answer = await build(daemon, io.BytesIO(body + dockerfile("FROM scratch\nCOPY 7/7007 99/*9 /\n")))
    assert answer.image


PASSWD = {
    "a link to the host's": "RUN rm /etc/passwd && ln -s {host}/sentinel /etc/passwd",
    "a pipe": "RUN rm /etc/passwd && mkfifo /etc/passwd",
    "a directory": "RUN rm /etc/passwd && mkdir /etc/passwd",
    "huge": "RUN truncate -s 100G /etc/passwd",
    "a link to itself": "RUN ln -sf passwd /etc/passwd",
    "garbage": "RUN head -c 100000 /dev/urandom > /etc/passwd",
    "a user whose number is too large": "RUN echo box:x:4294967296:0:::/ > /etc/passwd",
}


@pytest.mark.parametrize("kind", PASSWD)
async def test_user_files_of_a_stage(daemon, host, kind):
    spoilt = PASSWD[kind].format(host=host)
    for used in ("COPY --chown=box a /b", "USER box\nRUN id", "WORKDIR /w\nUSER box\nWORKDIR /v"):
        answer = await ours(daemon, f"FROM busybox\n{spoilt}\n{used}\n")
        assert SECRET.decode() not in shown(answer)
        if not used.startswith("WORKDIR"):
            assert "box" in answer.error["message"] or "passwd" in answer.error["message"]


@pytest.mark.parametrize(
    "text",
    [
        "VOLUME /../../etc\nRUN ls -d /etc",
        "VOLUME ['']",
        'VOLUME ["/a\\u0000b"]',
        "WORKDIR ../../../..{host}\nRUN pwd",
        "WORKDIR /proc/self/fd/3\nRUN pwd; ls",
        "WORKDIR /etc/passwd\nRUN pwd",
        "USER 99999999999\nRUN id",
        "USER -1\nRUN id",
        "USER 0:../../x\nRUN id",
        "USER root\\nx\nRUN id",
        "WORKDIR " + "a/" * 3000,
        "WORKDIR " + "a" * 300,
        "STOPSIGNAL 999",
        "SHELL []\nRUN x",
        "ENTRYPOINT " + "x" * 100_000,
        'RUN ["/no/such"]',
        "RUN [\"/bin/sh\", \"-c\", \"a\\u0000b\"]",
        "COPY a " + "b/" * 3000,
        "COPY a " + "b" * 300,
        "ENV PATH=\nRUN ls",
        "ENV LD_PRELOAD=/x.so\nRUN echo survived",
    ],
)  # fmt: skip
async def test_oddities_are_done_or_refused_in_words(daemon, host, text):
    before = state_of(str(host))
    answer = await ours(daemon, f"FROM busybox\n{text.format(host=host) if '{host}' in text else text}\n")
    assert answer.status in (200, 400)
    if "errorDetail" in answer.documents[-1] or "message" in answer.documents[-1]:
        message = answer.error["message"]
        assert message
        assert len(message) < 5000
        assert "Traceback" not in message
        assert "internal" not in message.lower()
    assert state_of(str(host)) == before
