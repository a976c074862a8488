"""``boxship build``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

from boxship.building.context import BuildContext, open_context, pack_directory, patterns_of
from boxship.building.layouts import SCHEME, Layout
from boxship.building.values import (
    Agent,
    Output,
    Secret,
    annotate,
    build_arguments,
    parse_agent,
    parse_annotations,
    parse_output,
    parse_secret,
    settings,
)
from boxship.cli.command import Command, Context
from boxship.cli.container_flags import check_ulimit
from boxship.cli.flags import Absent, Integer, Items, Only, Options, Size, Switch, Text
from boxship.errors import CommandError, InvalidValue
from boxship.references import parse
from boxship.types.build_request import BuildLimits, BuildOutput, BuildRequest, BuildUlimit, CacheOption

Chunks = Callable[[], Iterator[bytes]]
"""Makes a tar stream of a context."""

_NO_BUILDERS = "it has one builder, the daemon's"
_NO_TRUST = "it has no content trust"


class BuildOptions(Options):
    """The flags of ``build``."""

    add_host = Items('Add a custom host-to-IP mapping (format: "host:ip")', kind="strings")
    allow = Items('Allow extra privileged entitlement (e.g., "network.host", "security.insecure")', kind="stringArray")
    annotation = Items("Add annotation to the image", kind="stringArray")
    attest = Items('Attestation parameters (format: "type=provenance,mode=max")', kind="stringArray")
    build_arg = Items("Set build-time variables", kind="stringArray")
    build_context = Items("Additional build contexts (e.g., name=path)", kind="stringArray")
    builder = Absent("Override the configured builder instance", _NO_BUILDERS)
    cache_from = Items('External cache sources (e.g., "user/app:cache", "type=local,src=path/to/dir")', kind="stringArray")
    cache_to = Items('Cache export destinations (e.g., "user/app:cache", "type=local,dest=path/to/dir")', kind="stringArray")
    call = Text('Set method for evaluating build ("check", "build")', default="build", shown='"build"')
    cgroup_parent = Text('Set the parent cgroup for the "RUN" instructions during build')
    check = Switch('Shorthand for "--call=check"')
    compress = Switch("Compress the build context using gzip", hidden=True)
    cpu_period = Integer("Limit the CPU CFS (Completely Fair Scheduler) period", minimum=0)
    cpu_quota = Integer("Limit the CPU CFS (Completely Fair Scheduler) quota")
    cpu_shares = Integer("CPU shares (relative weight)", short="c", minimum=0)
    cpuset_cpus = Text("CPUs in which to allow execution (0-3, 0,1)")
    cpuset_mems = Text("MEMs in which to allow execution (0-3, 0,1)")
    disable_content_trust = Only("Skip image verification", True, _NO_TRUST)
    file = Text('Name of the Dockerfile (default: "PATH/Dockerfile")', short="f")
    force_rm = Switch("Always remove intermediate containers: there never are any", hidden=True)
    iidfile = Text("Write the image ID to a file")
    isolation = Absent("Container isolation technology", "that is a choice on Windows only")
    label = Items("Set metadata for an image", kind="stringArray")
    load = Switch('Shorthand for "--output=type=docker", which is where results go anyway')
    memory = Size("Memory limit", short="m")
    memory_swap = Size('Swap limit equal to memory plus swap: "-1" to enable unlimited swap', unlimited=True)
    metadata_file = Text("Write build result metadata to a file")
    network = Text('Set the networking mode for the "RUN" instructions during build', default="default", shown='"default"')
    no_cache = Switch("Do not use cache when building the image")
    no_cache_filter = Items("Do not cache specified stages", kind="stringArray")
    output = Items('Output destination (format: "type=local,dest=path")', short="o", kind="stringArray")
    platform = Items("Set target platform for build", kind="stringArray")
    progress = Text('Set type of progress output ("auto", "plain", "quiet", "rawjson", "tty")', default="auto", shown='"auto"')
    provenance = Text('Shorthand for "--attest=type=provenance"')
    pull = Switch("Always attempt to pull all referenced images")
    push = Switch('Shorthand for "--output=type=registry"')
    quiet = Switch("Suppress the build output and print image ID on success", short="q")
    rm = Switch("Remove intermediate containers after a successful build: there never are any", default=True, hidden=True)
    sbom = Absent('Shorthand for "--attest=type=sbom"', "it makes no bill of materials")
    secret = Items('Secret to expose to the build (format: "id=mysecret[,src=/local/secret]")', kind="stringArray")
    security_opt = Absent("Security options", "commands run under the default profile", kind="strings")
    shm_size = Size('Shared memory size for build containers (format: "<number><unit>")')
    squash = Switch("Squash newly built layers into a single new layer")
    ssh = Items('SSH agent socket to expose to the build (format: "default|<id>[=<socket>]")', kind="stringArray")
    tag = Items('Name and optionally a tag (format: "name:tag")', short="t", kind="stringArray")
    target = Text("Set the target build stage to build")
    ulimit = Items("Ulimit options", check=check_ulimit, kind="ulimit")


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def _cache(text: str, place: str) -> CacheOption:
    """One ``--cache-from`` or ``--cache-to``; a name alone is an image's."""
    if "=" not in text:
        return CacheOption(type="registry", attrs={"ref": text})
    given = settings(text, "cache option")
    kind = given.pop("type", "")
    if kind not in ("registry", "local", "inline"):
        raise InvalidValue(f"{place}: cache of type {kind!r} is not available in Boxship 0.1: registry, local and inline are")
    return CacheOption(type=kind, attrs=given)


def _directories(options: tuple[CacheOption, ...], name: str, key: str) -> list[tuple[str, str]]:
    """The directories of ours among the caches, with what the daemon calls them."""
    return [
        (f"{name}:{number}", option.attrs[key])
        for number, option in enumerate(options)
        if option.type == "local" and option.attrs.get(key)
    ]


def _provenance(options: BuildOptions) -> dict[str, str] | None:
    """What is asked of the provenance attestation, None for none."""
    asked: dict[str, str] | None = None
    if options.provenance:
        text = options.provenance
        asked = (
            None if text.lower() in ("false", "0") else {} if text.lower() in ("true", "1") else settings(text, "provenance")
        )
    for text in options.attest:
        given = settings(text, "attestation")
        kind = given.pop("type", "")
        if kind != "provenance":
            raise InvalidValue(f"attestation of type {kind!r} is not available in Boxship 0.1: provenance is")
        asked = None if given.pop("disabled", "") == "true" else given
    return asked


def _outputs(options: BuildOptions) -> tuple[Output, ...]:
    found = [parse_output(text) for text in options.output]
    if options.push:
        if any(output.kind not in ("image", "docker") for output in found):
            raise InvalidValue("push and other outputs currently not supported together")
        found = found or [Output(kind="image", attributes={})]
        found = [Output(kind="image", attributes={**output.attributes, "push": "true"}) for output in found]
    # The daemon's image store is where docker's archives would be loaded.
    outputs = tuple(
        Output(kind="image", attributes=output.attributes) if output.kind == "docker" and not output.destination else output
        for output in found
    )
    return annotate(outputs, parse_annotations(options.annotation))


def _contexts(options: BuildOptions) -> tuple[dict[str, str], dict[str, Chunks]]:
    """The further contexts: by name, what the daemon is told of each, and those that it gets from here."""
    told: dict[str, str] = {}
    sent: dict[str, Chunks] = {}
    for text in options.build_context:
        name, equals, where = text.partition("=")
        if not equals or not name or not where:
            raise InvalidValue(f"invalid context value: {text}, expected key=value")
        if where.startswith(SCHEME):
            told[name], sent[f"layout:{name}"] = f"oci-layout://layout:{name}", Layout(where).chunks
        elif where.startswith(("docker-image://", "target:", "http://", "https://", "git://", "git@", "ssh://")):
            told[name] = where
        elif os.path.isdir(where):
            told[name], sent[name] = f"input:{name}", _packer(where)
        else:
            raise InvalidValue(f"failed to get build context path {where}: no such directory")
    return told, sent


def _packer(directory: str) -> Chunks:
    return lambda: pack_directory(directory, patterns_of(directory))


def _request(options: BuildOptions, context: BuildContext, outputs: tuple[Output, ...], told: dict[str, str]) -> BuildRequest:
    """What the daemon is asked to do."""
    for tag in options.tag:
        parse(tag)
    ulimits = []
    for text in options.ulimit:
        name, _, limits = text.partition("=")
        soft, _, hard = limits.partition(":")
        ulimits.append(BuildUlimit(name=name, soft=int(soft), hard=int(hard)))
    for host in options.add_host:
        if not host.replace("=", ":", 1).partition(":")[2]:
            raise InvalidValue(f'bad format for add-host: "{host}"')
    return BuildRequest(
        dockerfile=context.dockerfile,
        text=context.text,
        ignore=context.ignore,
        remote=context.remote,
        tags=options.tag,
        target=options.target,
        build_args=build_arguments(options.build_arg),
        labels=_pairs(options.label),
        platforms=tuple(each.strip() for text in options.platform for each in text.split(",")) or _default_platforms(),
        contexts=told,
        no_cache=options.no_cache,
        no_cache_filter=tuple(each for text in options.no_cache_filter for each in text.split(",")),
        pull=options.pull,
        cache_from=tuple(_cache(text, "--cache-from") for text in options.cache_from),
        cache_to=tuple(_cache(text, "--cache-to") for text in options.cache_to),
        outputs=tuple(BuildOutput(type=output.kind, attrs=output.attributes) for output in outputs),
        network=options.network,
        extra_hosts=tuple(host.replace("=", ":", 1) for host in options.add_host),
        shm_size=options.shm_size,
        ulimits=tuple(ulimits),
        limits=BuildLimits(
            memory=options.memory,
            memory_swap=options.memory_swap,
            cpu_shares=options.cpu_shares,
            cpu_period=options.cpu_period,
            cpu_quota=options.cpu_quota,
            cpuset_cpus=options.cpuset_cpus,
            cpuset_mems=options.cpuset_mems,
        ),
        cgroup_parent=options.cgroup_parent,
        allow=options.allow,
        check=_checks(options),
        provenance=_provenance(options),
        squash=options.squash,
    )


def _default_platforms() -> tuple[str, ...]:
    given = os.environ.get("DOCKER_DEFAULT_PLATFORM", "")
    return (given,) if given else ()


def _checks(options: BuildOptions) -> bool:
    if options.call not in ("build", "check"):
        raise InvalidValue(f"--call={options.call} is not available in Boxship 0.1: build and check are")
    return options.check or options.call == "check"


def _build(context: Context, options: BuildOptions, arguments: list[str]) -> int:
    from boxship.building.state import BuildState
    from boxship.cli.build_run import run_build

    if options.progress not in ("auto", "plain", "quiet", "rawjson", "tty"):
        raise InvalidValue(f"invalid progress mode {options.progress}")
    secrets: list[Secret] = [parse_secret(text) for text in options.secret]
    agents: list[Agent] = [parse_agent(text) for text in options.ssh]
    outputs = _outputs(options)
    told, sent = _contexts(options)
    source = open_context(arguments[0], options.file)
    request = _request(options, source, outputs, told)
    contexts: dict[str, Any] = {**sent, **({} if source.chunks is None else {"context": source.chunks})}
    for name, directory in _directories(request.cache_from, "cache-from", "src"):
        # One that isn't there makes the build slower, and the daemon tells of it.
        if os.path.isdir(directory):
            contexts[name] = lambda directory=directory: pack_directory(directory, ())
    progress = "quiet" if options.quiet else options.progress
    state = BuildState()
    result = run_build(
        context,
        request,
        contexts=contexts,
        secrets=secrets,
        agents=agents,
        outputs=outputs,
        caches=dict(_directories(request.cache_to, "cache-to", "dest")),
        progress=progress,
        state=state,
    )
    if request.check:
        return _conclude(context, len(state.warnings))
    if options.iidfile and result.id:
        _write(options.iidfile, result.id.encode())
    if options.metadata_file:
        import json

        _write(options.metadata_file, json.dumps(result.metadata, indent=2).encode())
    if progress == "quiet" and result.id:
        context.print(result.id)
    return 0


def _conclude(context: Context, warnings: int) -> int:
    """The last line of a check, and its exit status: advice is what it looks for, and so its failure."""
    found = f"{warnings} warning{'s have' if warnings > 1 else ' has'} been found!" if warnings else "no warnings found."
    context.print(f"Check complete, {found}")
    return 1 if warnings else 0


def _write(path: str, data: bytes) -> None:
    try:
        with open(path, "wb") as file:
            file.write(data)
    except OSError as error:
        raise CommandError(f"write {path}: {(error.strerror or str(error)).lower()}") from error


BUILD: Command[BuildOptions] = Command(
    "[OPTIONS] PATH | URL | -", "Build an image from a Dockerfile", BuildOptions, _build, minimum=1, maximum=1
)
