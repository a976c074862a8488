"""What an image was built of, and how: SLSA provenance, as BuildKit writes it.

Of what only ``max`` has, ``min`` leaves out: the values of arguments and labels, the operations, the Dockerfile's text.

Source: BuildKit solver/llbsolver/provenance (predicate.go, types), docs/attestations/slsa-provenance.md, slsa-definitions.md.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import quote

import msgspec
from boxship.types.build_request import BuildRequest
from msgspec import Struct

from boxshipd.builder.graph import ContextSource, Exec, GitSource, Graph, HttpSource, ImageSource, Mount, Vertex
from boxshipd.errors import InvalidParameter, NotImplementedHere
from boxshipd.images import platform
from boxshipd.images.attestations import statement_of
from boxshipd.images.catalogue import Catalogue
from boxshipd.images.record import Record
from boxshipd.images.reference import Reference, parse

BUILD_TYPE = "https://github.com/moby/buildkit/blob/master/docs/attestations/slsa-definitions.md"
_BUILD_TYPE_02 = "https://mobyproject.org/buildkit@v1"
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_TRUE, _FALSE = frozenset({"", "true", "1"}), frozenset({"false", "0"})

Mode = Literal["min", "max"]


class ProvenanceOptions(Struct, frozen=True, kw_only=True):
    """What is wanted. ``builder_id`` is what the builder is called in it."""

    mode: Mode = "min"
    version: Literal["v0.2", "v1"] = "v1"
    builder_id: str = ""

    @property
    def predicate_type(self) -> str:
        """SLSA's name for what is said."""
        return f"https://slsa.dev/provenance/{self.version}"


def read_options(attrs: Mapping[str, str] | None) -> ProvenanceOptions | None:
    """Read ``--provenance``; None where none is wanted.

    Raises:
        InvalidParameter: a value can't be.
        NotImplementedHere: there is no such option here.
    """
    if attrs is None or attrs.get("disabled", "false") not in _FALSE:
        return None
    for key in attrs:
        if key not in ("mode", "version", "builder-id", "disabled", "inline-only", "reproducible"):
            raise NotImplementedHere(f"provenance option {key!r} is not supported")
    if attrs.get("inline-only", "false") not in _FALSE or attrs.get("reproducible", "false") not in _FALSE:
        raise NotImplementedHere("provenance options inline-only and reproducible are not supported")
    mode, version = attrs.get("mode", "min"), attrs.get("version", "v1")
    if mode not in ("min", "max"):
        raise InvalidParameter(f"invalid provenance mode {mode!r}: it can be min or max")
    if version not in ("v0.2", "v1"):
        raise InvalidParameter(f"invalid provenance version {version!r}: it can be v0.2 or v1")
    return ProvenanceOptions(
        mode="max" if mode == "max" else "min",
        version="v1" if version == "v1" else "v0.2",
        builder_id=attrs.get("builder-id", ""),
    )


@dataclass(frozen=True, slots=True)
class Invocation:
    """One build, as its provenance tells of it.

    Attributes:
        id: a name for it that no other has.
        request: what was asked for.
        graph: what was done.
        dockerfile: the Dockerfile's text.
        context: where the files came from.
        started: when it began, in seconds since the epoch.
        finished: when its steps had ended.
    """

    id: str
    request: BuildRequest
    graph: Graph
    dockerfile: bytes
    context: ContextSource | GitSource | HttpSource
    started: float
    finished: float


class Provenance:
    """Writes statements about the images of one build.

    Args:
        invocation: the build.
        options: what is wanted.
        catalogue: knows what images are called.
    """

    def __init__(self, invocation: Invocation, options: ProvenanceOptions, catalogue: Catalogue) -> None:
        self._invocation = invocation
        self._catalogue = catalogue
        self.options = options

    def statement(self, image: Record, names: tuple[Reference, ...]) -> bytes:
        """The statement about an image."""
        algorithm, _, hexadecimal = image.manifest.digest.partition(":")
        shown = platform.describe(image.platform)
        subjects: list[dict[str, object]] = [
            {"name": uri, "digest": {algorithm: hexadecimal}} for uri in (_package(name, shown) for name in names)
        ]
        subjects = subjects or [{"name": "_", "digest": {algorithm: hexadecimal}}]
        return statement_of(subjects, self.options.predicate_type, self.predicate())

    def predicate(self) -> dict[str, object]:
        """What is said of all images alike."""
        return self._version_1() if self.options.version == "v1" else self._version_02()

    def _version_1(self) -> dict[str, object]:
        internal: dict[str, object] = {"builderPlatform": platform.describe(platform.host())}
        if self.options.mode == "max":
            internal["buildConfig"] = self._definition()
        return {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"configSource": self._source(), "request": self._parameters()},
                "internalParameters": internal,
                "resolvedDependencies": list(self._materials()),
            },
            "runDetails": {
                "builder": {"id": self.options.builder_id},
                "metadata": {
                    "invocationId": self._invocation.id,
                    **self._times("startedOn", "finishedOn"),
                    "buildkit_hermetic": self._hermetic,
                    "buildkit_completeness": self._completeness("request", "resolvedDependencies"),
                    **self._metadata(),
                },
            },
        }

    def _version_02(self) -> dict[str, object]:
        predicate: dict[str, object] = {
            "builder": {"id": self.options.builder_id},
            "buildType": _BUILD_TYPE_02,
            "materials": list(self._materials()),
            "invocation": {
                "configSource": self._source(),
                "parameters": self._parameters(),
                "environment": {"platform": platform.describe(platform.host())},
            },
            "metadata": {
                "buildInvocationID": self._invocation.id,
                **self._times("buildStartedOn", "buildFinishedOn"),
                "completeness": {"environment": True, **self._completeness("parameters", "materials")},
                "reproducible": False,
                "https://mobyproject.org/buildkit@v1#hermetic": self._hermetic,
                "https://mobyproject.org/buildkit@v1#metadata": self._metadata().get("buildkit_metadata", {}),
            },
        }
        if self.options.mode == "max":
            predicate["buildConfig"] = self._definition()
        return predicate

    def _source(self) -> dict[str, object]:
        """Where the Dockerfile came from."""
        found: dict[str, object] = {"entryPoint" if self.options.version == "v0.2" else "path": self._entry}
        context = self._invocation.context
        if isinstance(context, GitSource):
            found["uri"] = _repository(context)
            if digest := _commit(context):
                found["digest"] = digest
        elif self._invocation.request.remote:
            found["uri"] = self._invocation.request.remote
        return found

    @property
    def _entry(self) -> str:
        return self._invocation.request.dockerfile or "Dockerfile"

    def _parameters(self) -> dict[str, object]:
        """What the client asked for."""
        request, everything = self._invocation.request, self.options.mode == "max"
        args: dict[str, str] = {}
        if request.target:
            args["target"] = request.target
        if request.no_cache or request.no_cache_filter:
            args["no-cache"] = ",".join(request.no_cache_filter)
        if everything:
            args |= {f"build-arg:{name}": value for name, value in request.build_args.items() if value is not None}
            args |= {f"label:{name}": value for name, value in request.labels.items()}
        found: dict[str, object] = {"frontend": "dockerfile.v0", "args": args}
        if isinstance(self._invocation.context, ContextSource) and not request.remote:
            found["locals"] = [{"name": "context"}, {"name": "dockerfile"}]
        if everything:
            mounts = [(mount.kind, mount.id, mount.required) for vertex in self._commands() for mount in _mounts(vertex)]
            for kind, key in (("secret", "secrets"), ("ssh", "ssh")):
                if wanted := sorted({(name, required) for each, name, required in mounts if each == kind}):
                    found[key] = [{"id": name, **({} if required else {"optional": True})} for name, required in wanted]
        return found

    def _materials(self) -> Iterator[dict[str, object]]:
        """What went into it that came from elsewhere, each thing once."""
        seen: set[str] = set()
        for vertex in self._invocation.graph.vertices.values():
            found = self._material(vertex)
            if found is not None and found["uri"] not in seen:
                seen.add(str(found["uri"]))
                yield found

    def _material(self, vertex: Vertex) -> dict[str, object] | None:
        match vertex.op:
            case ImageSource():
                return self._image(vertex.op, vertex.image)
            case HttpSource(url=url, checksum=checksum):
                algorithm, _, hexadecimal = checksum.partition(":")
                return {"uri": url, **({"digest": {algorithm: hexadecimal}} if checksum else {})}
            case GitSource():
                digest = _commit(vertex.op)
                return {"uri": _repository(vertex.op), **({"digest": digest} if digest else {})}
            case _:
                return None

    def _image(self, source: ImageSource, asked: str) -> dict[str, object]:
        shown = platform.describe(source.platform)
        if "@" in source.reference:
            name = parse(source.reference)
            algorithm, _, hexadecimal = name.digest.partition(":")
            return {"uri": _package(name, shown), "digest": {algorithm: hexadecimal}}
        record = self._catalogue.known(source.reference)
        names = [name for name in self._catalogue.names_of(source.reference) if name.tag] if record is not None else []
        # An image that is here may have many names: the Dockerfile's own comes first.
        names.sort(key=lambda name: str(name) != asked)
        digest = record.manifest.digest if record is not None else source.reference
        algorithm, _, hexadecimal = digest.partition(":")
        uri = _package(names[0], shown) if names else f"pkg:docker/{hexadecimal}?platform={quote(shown, safe='')}"
        return {"uri": uri, "digest": {algorithm: hexadecimal}}

    def _definition(self) -> dict[str, object]:
        """The operations, as the graph has them."""
        steps = [
            {"id": f"step{number}", "op": msgspec.to_builtins(vertex.op), "inputs": [one.vertex for one in vertex.inputs]}
            for number, vertex in enumerate(self._invocation.graph.vertices.values())
        ]
        mapping = {digest: f"step{number}" for number, digest in enumerate(self._invocation.graph.vertices)}
        return {"llbDefinition": steps, "digestMapping": mapping}

    def _metadata(self) -> dict[str, object]:
        if self.options.mode == "min":
            return {}
        text = base64.b64encode(self._invocation.dockerfile).decode()
        return {
            "buildkit_metadata": {
                "source": {"infos": [{"filename": self._entry, "language": "Dockerfile", "data": text}]},
            }
        }

    @property
    def _hermetic(self) -> bool:
        """Whether no command had a network."""
        return all(vertex.op.network == "none" for vertex in self._commands() if isinstance(vertex.op, Exec))

    def _commands(self) -> Iterator[Vertex]:
        return (vertex for vertex in self._invocation.graph.vertices.values() if isinstance(vertex.op, Exec))

    def _completeness(self, parameters: str, materials: str) -> dict[str, bool]:
        """What is told whole: not parameters of which some are left out, nor materials where files came from the client."""
        request = self._invocation.request
        whole = self.options.mode == "max" or not (request.build_args or request.labels)
        local = any(isinstance(vertex.op, ContextSource) for vertex in self._invocation.graph.vertices.values())
        return {parameters: whole, materials: not local}

    def _times(self, started: str, finished: str) -> dict[str, str]:
        return {started: _moment(self._invocation.started), finished: _moment(self._invocation.finished)}


def _mounts(vertex: Vertex) -> tuple[Mount, ...]:
    return vertex.op.mounts if isinstance(vertex.op, Exec) else ()


def _package(name: Reference, shown: str) -> str:
    """An image as a package URL. Source: package-url/purl-spec, types/docker-definition."""
    tag = f"@{name.tag or 'latest'}" if name.tag or not name.digest else ""
    digest = f"digest={name.digest}&" if name.digest else ""
    return f"pkg:docker/{name.familiar_name}{tag}?{digest}platform={quote(shown, safe='')}"


def _repository(source: GitSource) -> str:
    return f"{source.remote}#{source.ref}" if source.ref else source.remote


def _commit(source: GitSource) -> dict[str, str]:
    """The commit as a digest, where it is known without asking."""
    for text in (source.checksum, source.ref):
        if _COMMIT.fullmatch(text):
            return {"sha1" if len(text) == 40 else "sha256": text}
    return {}


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
