"""What ADD takes from the network: files by their URLs, and repositories.

Source: BuildKit frontend/dockerfile/dockerfile2llb/convert_copy.go (dispatchCopy).
"""

from __future__ import annotations

import posixpath
import re
from urllib.parse import unquote, urlsplit

from msgspec.structs import replace

from boxshipd.builder.errors import DockerfileError
from boxshipd.builder.graph import Copy, GitSource, HttpSource
from boxshipd.builder.planner.git_references import GitReference, parse_git
from boxshipd.builder.planner.inputs import Inputs
from boxshipd.builder.planner.transfer import Target, Transfer
from boxshipd.builder.planner.turn import Turn
from boxshipd.images.digest import parse_digest

_UNNAMED = "__unnamed__"
_WILDCARDS = re.compile(r"([*?\[\\])")


def is_remote(source: str) -> bool:
    """Whether a source is a URL or a repository."""
    return source.startswith(("http://", "https://")) or parse_git(source) is not None


def plan_remote(turn: Turn, transfer: Transfer, inputs: Inputs, source: str, target: Target, *, name: str) -> Copy:
    """The action that puts a file or a repository where it belongs.

    Args:
        turn: the instruction's.
        transfer: the instruction.
        inputs: gets the source as an input.
        source: a URL or a repository.
        target: where to.
        name: the step's.

    Raises:
        DockerfileError: COPY takes nothing from the network; or the checksum isn't one, or is another than the source's.
    """
    repository = parse_git(source)
    if transfer.keyword != "ADD":
        raise DockerfileError(f"source can't be a {'git ref' if repository else 'URL'} for COPY")
    op, path = (_git(transfer, repository), "/") if repository else _http(transfer, source)
    place = inputs.place(turn.add(op, (), name))
    return Copy(
        input=place,
        sources=(path,),
        destination=target.path,
        directory=target.directory,
        many=target.many,
        owner=transfer.owner,
        mode=transfer.mode,
        unpack=bool(transfer.unpack) and not repository,
        exclude=transfer.exclude,
        times=turn.setting.epoch,
    )


def _git(transfer: Transfer, repository: GitReference) -> GitSource:
    source = repository.source
    if transfer.checksum and source.checksum and transfer.checksum != source.checksum:
        raise DockerfileError(f'checksum mismatch "{transfer.checksum}" != "{source.checksum}"')
    keep = transfer.keep_git_dir if repository.keep_git_dir is None else repository.keep_git_dir
    return replace(source, checksum=transfer.checksum or source.checksum, keep_git_dir=keep)


def _http(transfer: Transfer, url: str) -> tuple[HttpSource, str]:
    """The file of a URL, and its name as a pattern that only it matches."""
    if transfer.checksum:
        parse_digest(transfer.checksum)
    name = _file_name(url)
    return HttpSource(url=url, checksum=transfer.checksum, filename=name), _WILDCARDS.sub(r"\\\1", name)


def _file_name(url: str) -> str:
    """A URL's last component, if it can be a file's name."""
    try:
        name = posixpath.basename(unquote(urlsplit(url).path).rstrip("/"))
    except ValueError:
        return _UNNAMED
    return _UNNAMED if name in ("", ".", "..") or "\0" in name else name
