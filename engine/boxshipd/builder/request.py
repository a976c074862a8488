"""A build's request, checked and in the builder's own terms, before anything is done for it.

Source: moby daemon/server/router/build, builder/dockerfile/builder.go; the messages are Docker's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from boxrun.container.spec import Resources
from boxship.types.build_request import BuildOutput, BuildRequest, CacheOption
from boxship.types.host import HostConfig, Ulimit
from msgspec.structs import replace

from boxshipd.builder.cache.options import CachePlace, destinations, sources
from boxshipd.builder.exporters import options
from boxshipd.builder.exporters.options import OutputOptions
from boxshipd.builder.provenance import ProvenanceOptions, read_options
from boxshipd.containers.spec.resources import build_resources
from boxshipd.containers.spec.validation import validate_resources, validate_ulimit
from boxshipd.errors import InvalidParameter, NotImplementedHere
from boxshipd.images import platform
from boxshipd.images.model import Platform

NETWORK_HOST, INSECURE = "network.host", "security.insecure"
_ENTITLEMENTS = frozenset({NETWORK_HOST, INSECURE})
_EPOCH = "SOURCE_DATE_EPOCH"
_INLINE = "BUILDKIT_INLINE_CACHE"
_HOST = re.compile(r"[^:=\s]+[:=]\S+")


@dataclass(frozen=True, slots=True)
class Checked:
    """What a request comes to.

    Attributes:
        request: the request.
        outputs: what becomes of the result.
        platforms: those to build for; none for the daemon's own.
        resources: limits of commands.
        ulimits: the same in ``graph.Exec``'s words.
        entitlements: what commands may be allowed.
        epoch: SOURCE_DATE_EPOCH, None where it isn't given.
        provenance: what is to be attested; None for nothing.
        cache_from: where cache comes from.
        cache_to: where it goes to.
    """

    request: BuildRequest
    outputs: tuple[OutputOptions, ...]
    platforms: tuple[Platform, ...]
    resources: Resources
    ulimits: tuple[str, ...]
    entitlements: frozenset[str]
    epoch: int | None
    provenance: ProvenanceOptions | None
    cache_from: tuple[CachePlace, ...] = ()
    cache_to: tuple[CachePlace, ...] = ()


def check(request: BuildRequest) -> Checked:
    """Check a request.

    Raises:
        InvalidParameter: something in it can't be.
        NotImplementedHere: it asks for what there isn't here.
    """
    if request.sbom:
        raise NotImplementedHere("attestation of type sbom is not supported: nothing here scans what is built")
    for text in request.extra_hosts:
        if not _HOST.fullmatch(text):
            raise InvalidParameter(f'bad format for add-host: "{text}"')
    for entitlement in request.allow:
        if entitlement not in _ENTITLEMENTS:
            raise NotImplementedHere(f"entitlement {entitlement!r} is not supported: {' and '.join(sorted(_ENTITLEMENTS))} are")
    # As with Docker, who asks for the host's network for all commands allows it by that.
    allowed = {*request.allow, *([NETWORK_HOST] if request.network == "host" else [])}
    if request.shm_size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    outputs = tuple(
        replace(options.parse(output, request.tags), squash=request.squash) for output in request.outputs or (BuildOutput(),)
    )
    return Checked(
        request=request,
        outputs=outputs,
        platforms=tuple(dict.fromkeys(platform.parse(each) for text in request.platforms for each in text.split(","))),
        resources=_resources(request),
        ulimits=_ulimits(request),
        entitlements=frozenset(allowed),
        epoch=_epoch(request),
        provenance=_provenance(request, outputs),
        cache_from=sources(request.cache_from),
        cache_to=destinations([*request.cache_to, *_inline(request)]),
    )


def _inline(request: BuildRequest) -> list[CacheOption]:
    """What a build argument of BuildKit's asks for, which all clients can give."""
    return [CacheOption(type="inline")] if (request.build_args.get(_INLINE) or "").lower() in ("1", "t", "true") else []


def _provenance(request: BuildRequest, outputs: Sequence[OutputOptions]) -> ProvenanceOptions | None:
    wanted = read_options(request.provenance)
    for output in outputs:
        if wanted is not None and output.kind in ("local", "tar"):
            raise NotImplementedHere(f"provenance is not supported for outputs of type {output.kind}")
    return wanted


def _resources(request: BuildRequest) -> Resources:
    limits = request.limits
    host = HostConfig(
        memory=limits.memory,
        memory_swap=limits.memory_swap,
        cpu_shares=limits.cpu_shares,
        cpu_period=limits.cpu_period,
        cpu_quota=limits.cpu_quota,
        cpuset_cpus=limits.cpuset_cpus,
        cpuset_mems=limits.cpuset_mems,
    )
    validate_resources(host)
    return build_resources(host, ())


def _ulimits(request: BuildRequest) -> tuple[str, ...]:
    for limit in request.ulimits:
        validate_ulimit(Ulimit(name=limit.name, soft=limit.soft, hard=limit.hard))
    return tuple(f"{limit.name}={limit.soft}:{limit.hard}" for limit in request.ulimits)


def _epoch(request: BuildRequest) -> int | None:
    """The request's own word counts before the build argument's."""
    text = request.build_args.get(_EPOCH)
    if request.epoch is not None or not text:
        return request.epoch
    if not re.fullmatch(r"[0-9]{1,12}", text, re.ASCII):
        raise InvalidParameter(f"invalid {_EPOCH}: {text!r} isn't a number of seconds since the epoch")
    return int(text)
