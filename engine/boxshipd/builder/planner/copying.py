"""``COPY`` and ``ADD``: files of the context, of other stages, of the network and of the Dockerfile itself.

Source: BuildKit frontend/dockerfile/dockerfile2llb/convert_copy.go, whose history texts and messages these are.
"""

from __future__ import annotations

import re
from itertools import groupby

from boxshipd.builder.dockerfile.instructions import Add, Copy, Heredoc
from boxshipd.builder.errors import DockerfileError
from boxshipd.builder.graph import Action, Files, Input, MakeFile, Merge
from boxshipd.builder.graph import Copy as CopyAction
from boxshipd.builder.planner.inputs import Inputs
from boxshipd.builder.planner.paths import clean, destination
from boxshipd.builder.planner.remote_sources import is_remote, plan_remote
from boxshipd.builder.planner.transfer import Target, Transfer
from boxshipd.builder.planner.turn import Turn

_OCTAL = re.compile(r"[0-7]+")
_SYMBOLIC = re.compile(r"[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+(?:,[ugoa]*(?:[-+=](?:[rwxXst]*|[ugo]))+)*")


def plan_copy(turn: Turn, instruction: Copy) -> None:
    """``COPY``.

    Raises:
        DockerfileError: it can't be right.
    """
    _plan(
        turn,
        Transfer(
            keyword="COPY",
            sources=tuple(turn.expand(each) for each in instruction.sources),
            documents=_documents(turn, instruction.heredocs),
            destination=turn.expand(instruction.destination),
            owner=turn.expand(instruction.chown),
            mode=turn.expand(instruction.chmod),
            link=instruction.link,
            parents=instruction.parents,
            exclude=tuple(turn.expand(each) for each in instruction.exclude),
        ),
    )


def plan_add(turn: Turn, instruction: Add) -> None:
    """``ADD``.

    Raises:
        DockerfileError: it can't be right.
    """
    transfer = Transfer(
        keyword="ADD",
        sources=tuple(turn.expand(each) for each in instruction.sources),
        documents=_documents(turn, instruction.heredocs),
        destination=turn.expand(instruction.destination),
        owner=turn.expand(instruction.chown),
        mode=turn.expand(instruction.chmod),
        link=instruction.link,
        exclude=tuple(turn.expand(each) for each in instruction.exclude),
        checksum=turn.expand(instruction.checksum),
        keep_git_dir=instruction.keep_git_dir,
        unpack=instruction.unpack,
    )
    if transfer.checksum:
        if len(transfer.sources) != 1:
            raise DockerfileError("checksum can't be specified for multiple sources")
        if not is_remote(transfer.sources[0]):
            raise DockerfileError("checksum requires HTTP(S) or Git sources")
    _plan(turn, transfer)


def _documents(turn: Turn, heredocs: tuple[Heredoc, ...]) -> tuple[tuple[str, bytes], ...]:
    """The heredocs' names and bytes; what wasn't UTF-8 in the Dockerfile is as it was."""
    texts = [turn.expand_document(each.content) if each.expand else each.content for each in heredocs]
    return tuple((each.name, text.encode("utf-8", "surrogateescape")) for each, text in zip(heredocs, texts, strict=True))


def _plan(turn: Turn, transfer: Transfer) -> None:
    _check_mode(transfer.mode)
    title = turn.shown()
    base = turn.state.settle(turn.setting.graph, turn.settling())
    # A layer that is the same whatever is below it. --chmod isn't, as BuildKit has it: symbols add to a mode that is there.
    linked = transfer.link and not transfer.mode
    inputs = Inputs(None if linked else base)
    prefix = turn.prefix()
    actions = _actions(turn, transfer, inputs, prefix + title)
    output = turn.add(Files(actions=actions, scratch=base is None or linked), inputs.all(), prefix + title)
    if linked and base is not None:
        output = turn.add(Merge(), (base, output), f"{prefix}LINK {title}")
    turn.commit(f"{transfer.created_by} # buildkit", output)


def _actions(turn: Turn, transfer: Transfer, inputs: Inputs, name: str) -> tuple[Action, ...]:
    """One action for each run of sources of one kind, in order, so that later ones lie above earlier ones."""
    path = destination(transfer.destination, turn.state.directory)
    several = len(transfer.sources) + len(transfer.documents) > 1 and not transfer.parents
    target = Target(path=path, directory=path.endswith("/"), many=several and not path.endswith("/"))
    actions: list[Action] = []
    for remote, sources in groupby(transfer.sources, is_remote):
        if remote:
            actions += [plan_remote(turn, transfer, inputs, each, target, name=name) for each in sources]
        else:
            actions.append(_local(turn, transfer, inputs, tuple(sources), target))
    for document, data in transfer.documents:
        actions.append(
            MakeFile(
                path=target.path,
                data=data,
                owner=transfer.owner,
                mode=transfer.mode,
                directory=target.directory,
                many=target.many,
                name=document,
                times=turn.setting.epoch,
            )
        )
    return tuple(actions)


def _local(turn: Turn, transfer: Transfer, inputs: Inputs, sources: tuple[str, ...], target: Target) -> CopyAction:
    """Files of the context or of another stage."""
    origin, keep_owner = _origin(turn, transfer, sources)
    return CopyAction(
        input=inputs.place(origin),
        # Where a source's directories are kept, what is before and after its ``/./`` means something.
        sources=sources if transfer.parents else tuple(clean(each).lstrip("/") or "/" for each in sources),
        destination=target.path,
        directory=target.directory,
        many=target.many,
        owner=transfer.owner,
        keep_owner=keep_owner and not transfer.owner,
        mode=transfer.mode,
        unpack=transfer.keyword == "ADD" if transfer.unpack is None else transfer.unpack,
        parents=transfer.parents,
        exclude=transfer.exclude,
        times=turn.setting.epoch,
    )


def _origin(turn: Turn, transfer: Transfer, sources: tuple[str, ...]) -> tuple[Input, bool]:
    """What files are copied from, and whether their owners mean something."""
    origins, setting = turn.command.origins, turn.setting
    if not origins or origins[0] is None:
        setting.advice.ignored_sources(transfer.keyword, sources, turn.command.instruction.span)
        return setting.load_context(), False
    stage = origins[0]
    if stage.state is None or not stage.done:
        raise DockerfileError(
            f'cannot copy from stage "{stage.label}", it needs to be defined before current stage "{turn.stage.label}"'
        )
    if stage.state.output is None:
        return turn.add(Files(actions=(), scratch=True), (), "[internal] an empty file system"), True
    return stage.state.output, stage.state.owned


def _check_mode(mode: str) -> None:
    if not mode or _SYMBOLIC.fullmatch(mode) or (_OCTAL.fullmatch(mode) and int(mode, 8) <= 0o7777):
        return
    raise DockerfileError(f"invalid chmod parameter: '{mode}'. it should be octal string and between 0 and 07777")
