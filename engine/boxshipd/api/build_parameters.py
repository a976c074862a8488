"""The classic parameters of ``POST /build`` as a request of ours.

Source: Docker Engine API v1.51, ImageBuild; moby daemon/server/router/build/build_routes.go (newImageBuildOptions), whose
messages these are.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from boxship.types.build_request import BuildLimits, BuildOutput, BuildRequest, BuildUlimit, CacheOption

from boxshipd.api.query import Query
from boxshipd.errors import InvalidParameter, NotImplementedHere

T = TypeVar("T")

_NUMBER = re.compile(r"[+-]?[0-9]{1,19}", re.ASCII)


class _Output(msgspec.Struct, frozen=True):
    """BuildKit's output entry; clients write the names in either case."""

    kind: str = msgspec.field(name="Type", default="")
    attrs: dict[str, str] | None = msgspec.field(name="Attrs", default=None)


def classic_request(query: Query) -> BuildRequest:
    """Read the parameters.

    ``rm`` and ``forcerm`` need nothing done for them: there are no intermediate containers.

    Raises:
        InvalidParameter: one can't be.
        NotImplementedHere: something is asked for that there is on Windows only.
    """
    _refuse_foreign(query)
    return BuildRequest(
        dockerfile=query.text("dockerfile"),
        remote=query.text("remote"),
        tags=tuple(query.texts("t")),
        target=query.text("target"),
        build_args=_json(query, "buildargs", dict[str, str | None], "error reading build args"),
        labels=_json(query, "labels", dict[str, str], "error reading labels"),
        platforms=(query.text("platform"),) if query.text("platform") else (),
        no_cache=query.boolean("nocache"),
        pull=query.boolean("pull"),
        cache_from=tuple(
            CacheOption(attrs={"ref": name}) for name in _json(query, "cachefrom", list[str], "error reading cache sources")
        ),
        outputs=tuple(_output(each) for each in _json(query, "outputs", list[_Output], "error reading outputs")),
        network=query.text("networkmode"),
        extra_hosts=tuple(query.texts("extrahosts")),
        shm_size=_size(query, "shmsize"),
        ulimits=tuple(_json(query, "ulimits", list[BuildUlimit], "error reading ulimit settings")),
        limits=BuildLimits(
            memory=_integer(query, "memory"),
            memory_swap=_integer(query, "memswap"),
            cpu_shares=_integer(query, "cpushares"),
            cpu_period=_integer(query, "cpuperiod"),
            cpu_quota=_integer(query, "cpuquota"),
            cpuset_cpus=query.text("cpusetcpus"),
            cpuset_mems=query.text("cpusetmems"),
        ),
        cgroup_parent=query.text("cgroupparent"),
        squash=query.boolean("squash"),
        quiet=query.boolean("q"),
        build_id=query.text("buildid"),
    )


def _refuse_foreign(query: Query) -> None:
    if query.text("isolation") not in ("", "default"):
        raise InvalidParameter(f'Unsupported isolation: "{query.text("isolation")}"')
    if _json(query, "securityopt", list[str], "error reading security options"):
        raise InvalidParameter("The daemon on this platform does not support setting security options on build")


def _output(output: _Output) -> BuildOutput:
    if output.kind not in ("moby", "image"):
        raise NotImplementedHere(f"output type {output.kind!r}: a classic client can only be given images (moby)")
    return BuildOutput(type="image", attrs=output.attrs or {})


def _json(query: Query, name: str, kind: type[T], failure: str) -> T:
    """A parameter in JSON; nothing, or null, is an empty one."""
    text = query.text(name)
    if not text or text == "null":
        return kind()
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise InvalidParameter(f"{failure}: {error}") from None


def _integer(query: Query, name: str) -> int:
    """A number; what isn't one counts as 0, as with Docker."""
    text = query.text(name)
    return int(text) if _NUMBER.fullmatch(text) else 0


def _size(query: Query, name: str) -> int:
    size = _integer(query, name)
    if size < 0:
        raise InvalidParameter("SHM size can not be less than 0")
    return size
