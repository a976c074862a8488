"""``boxship manifest``: create, annotate, inspect, push and rm."""

from __future__ import annotations

import json
import os
from typing import Any

from boxship.cli.accounts import registry_header
from boxship.cli.command import Command, Context
from boxship.cli.flags import Items, Options, Switch, Text
from boxship.cli.insecure import check_insecure
from boxship.credentials.config_file import directory
from boxship.errors import CommandError, InvalidReference
from boxship.manifests.local import LocalLists
from boxship.manifests.model import Manifest, build_list
from boxship.references import Reference, parse

_PAIRS = {
    "darwin": ("386", "amd64", "arm", "arm64"),
    "dragonfly": ("amd64",),
    "freebsd": ("386", "amd64", "arm"),
    "linux": ("386", "amd64", "arm", "arm64", "loong64", "mips64", "mips64le", "ppc64le", "riscv64", "s390x"),
    "netbsd": ("386", "amd64", "arm"),
    "openbsd": ("386", "amd64", "arm"),
    "plan9": ("386", "amd64"),
    "solaris": ("amd64",),
    "windows": ("386", "amd64", "arm64"),
}
"""The systems and processors that Go knows, which is what registries expect."""


def _lists(context: Context) -> LocalLists:
    return LocalLists(os.path.join(context.options.config or directory(), "manifests"))


def _name(text: str) -> Reference:
    return parse(text).tagged()


class CreateListOptions(Options):
    """The flags of ``manifest create``."""

    amend = Switch("Amend an existing manifest list", short="a")
    insecure = Switch("Allow communication with an insecure registry")


def _create(context: Context, options: CreateListOptions, arguments: list[str]) -> int:
    from boxship.manifests.remote import fetch

    try:
        target = _name(arguments[0])
    except InvalidReference as error:
        raise CommandError(f"error parsing name for manifest list {arguments[0]}: {error}") from error
    lists = _lists(context)
    if lists.manifests(target) is not None and not options.amend:
        raise CommandError("refusing to amend an existing manifest list with no --amend flag")
    found: list[tuple[Reference, Manifest]] = []
    for text in arguments[1:]:
        name = _name(text)
        manifest = lists.get(target, name)
        if manifest is None:
            if options.insecure:
                check_insecure(context.api, name.domain)
            manifest = fetch(context.api, name, [registry_header(context, name.domain)])
        if manifest is None:
            raise CommandError(f"no such manifest: {name}")
        if manifest.is_list:
            raise CommandError(f"{name} is a manifest list")
        found.append((name, manifest))
    for name, manifest in found:
        lists.save(target, name, manifest)
    context.print(f"Created manifest list {target}")
    return 0


class AnnotateOptions(Options):
    """The flags of ``manifest annotate``."""

    arch = Text("Set architecture")
    os = Text("Set operating system")
    os_features = Items("Set operating system feature", kind="strings")
    os_version = Text("Set operating system version")
    variant = Text("Set architecture variant")


def _annotate(context: Context, options: AnnotateOptions, arguments: list[str]) -> int:
    target, name = _name(arguments[0]), _name(arguments[1])
    lists = _lists(context)
    manifest = lists.get(target, name)
    if manifest is None:
        raise CommandError(f"manifest for image {arguments[1]} does not exist in {arguments[0]}")
    features = [feature for text in options.os_features for feature in text.split(",")]
    known = manifest.platform.get("os.features") or []
    values: dict[str, Any] = {
        "architecture": options.arch,
        "os": options.os,
        "os.version": options.os_version,
        "os.features": list(dict.fromkeys((*known, *features))),
        "variant": options.variant,
    }
    annotated = manifest.annotated({key: value for key, value in values.items() if value})
    if annotated.platform.get("architecture") not in _PAIRS.get(str(annotated.platform.get("os")), ()):
        raise CommandError(f"manifest entry for image has unsupported os/arch combination: {options.os}/{options.arch}")
    lists.save(target, name, annotated)
    return 0


class InspectManifestOptions(Options):
    """The flags of ``manifest inspect``."""

    insecure = Switch("Allow communication with an insecure registry")
    verbose = Switch("Output additional info including layers and platform", short="v")


def _inspect(context: Context, options: InspectManifestOptions, arguments: list[str]) -> int:
    from boxship.manifests.remote import fetch, fetch_members

    name = _name(arguments[-1])
    lists = _lists(context)
    if len(arguments) == 2:
        known = lists.get(_name(arguments[0]), name)
        if known is None:
            raise CommandError(f"No such manifest: {name}")
        _show_one(context, known, verbose=options.verbose)
        return 0
    members = lists.manifests(name)
    if members is None:
        if options.insecure:
            check_insecure(context.api, name.domain)
        headers = [registry_header(context, name.domain)]
        manifest = fetch(context.api, name, headers)
        if manifest is None:
            raise CommandError(f"no such manifest: {name}")
        if not manifest.is_list:
            _show_one(context, manifest, verbose=options.verbose)
            return 0
        members = fetch_members(context.api, manifest, headers)
    if options.verbose:
        context.print(_indented([member.document() for member in members]))
    else:
        context.print(build_list(members, name)[1].decode())
    return 0


def _show_one(context: Context, manifest: Manifest, *, verbose: bool) -> None:
    context.print(_indented(manifest.document() if verbose else json.loads(manifest.raw)))


def _indented(document: object) -> str:
    return json.dumps(document, indent="\t", ensure_ascii=False)


class PushListOptions(Options):
    """The flags of ``manifest push``."""

    insecure = Switch("Allow push to an insecure registry")
    purge = Switch("Remove the local manifest list after push", short="p")


def _push(context: Context, options: PushListOptions, arguments: list[str]) -> int:
    from boxship.manifests.remote import put_list

    target = _name(arguments[0])
    lists = _lists(context)
    members = lists.manifests(target)
    if members is None:
        raise CommandError(f"No such manifest: {target}")
    if not members:
        raise CommandError(f"{target} not found")
    for member in members:
        if not (member.platform.get("architecture") and member.platform.get("os")):
            raise CommandError(f"manifest {member.reference} must have an OS and Architecture to be pushed to a registry")
    if options.insecure:
        check_insecure(context.api, target.domain)
    headers = [registry_header(context, target.domain)]
    digest = put_list(context.api, members, target, headers)
    for member in members:
        if member.reference.name != target.name:
            context.print(f"Pushed ref {target._replace(tag='', digest=member.digest)} with digest: {member.digest}")
    context.print(digest)
    if options.purge:
        lists.remove(target)
    return 0


class RemoveListOptions(Options):
    """``manifest rm`` has no flags."""


def _remove(context: Context, _options: RemoveListOptions, arguments: list[str]) -> int:
    lists = _lists(context)
    failures = []
    for text in arguments:
        try:
            name = _name(text)
            if lists.manifests(name) is None:
                raise CommandError(f"No such manifest: {name}")
            lists.remove(name)
        except (CommandError, InvalidReference) as error:
            failures.append(str(error))
    if failures:
        raise CommandError("\n".join(failures))
    return 0


CREATE: Command[CreateListOptions] = Command(
    "[OPTIONS] MANIFEST_LIST MANIFEST [MANIFEST...]",
    "Create a local manifest list for annotating and pushing to a registry",
    CreateListOptions,
    _create,
    minimum=2,
)
ANNOTATE: Command[AnnotateOptions] = Command(
    "[OPTIONS] MANIFEST_LIST MANIFEST",
    "Add additional information to a local image manifest",
    AnnotateOptions,
    _annotate,
    minimum=2,
    maximum=2,
)
INSPECT: Command[InspectManifestOptions] = Command(
    "[OPTIONS] [MANIFEST_LIST] MANIFEST",
    "Display an image manifest, or manifest list",
    InspectManifestOptions,
    _inspect,
    minimum=1,
    maximum=2,
)
PUSH: Command[PushListOptions] = Command(
    "[OPTIONS] MANIFEST_LIST", "Push a manifest list to a repository", PushListOptions, _push, minimum=1, maximum=1
)
REMOVE: Command[RemoveListOptions] = Command(
    "MANIFEST_LIST [MANIFEST_LIST...]",
    "Delete one or more manifest lists from local storage",
    RemoveListOptions,
    _remove,
    minimum=1,
)
