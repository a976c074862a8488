"""The values of build's flags that are lists of settings: ``type=local,dest=out``, ``id=token,src=token.txt``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from boxship.errors import InvalidValue


def settings(text: str, what: str) -> dict[str, str]:
    """Settings separated by commas, in Go's csv notation; a name without ``=`` stands for ``true``.

    Raises:
        InvalidValue: it isn't that; ``what`` says what it should have been.
    """
    import csv

    try:
        (fields,) = csv.reader([text], strict=True)
    except (csv.Error, ValueError):
        raise InvalidValue(f"invalid {what} {text!r}: not a list of settings") from None
    found: dict[str, str] = {}
    for field in fields:
        name, equals, value = field.partition("=")
        if not name.strip():
            raise InvalidValue(f"invalid value {field!r} in {what} {text!r}: expected key=value")
        found[name.strip().lower()] = value if equals else "true"
    return found


class Secret(Struct, frozen=True, kw_only=True):
    """Something that commands may see and no layer keeps: a file's bytes, or a variable's."""

    id: str
    file: str = ""
    variable: str = ""

    def read(self) -> bytes:
        """Its bytes.

        Raises:
            InvalidValue: the file can't be read, or the variable isn't set.
        """
        if self.variable:
            if self.variable not in os.environ:
                raise InvalidValue(f"secret {self.id}: environment variable {self.variable} is not set")
            return os.fsencode(os.environ[self.variable])
        try:
            with open(self.file, "rb") as file:
                return file.read()
        except OSError as error:
            raise InvalidValue(f"secret {self.id}: open {self.file}: {(error.strerror or str(error)).lower()}") from error


def parse_secret(text: str) -> Secret:
    """``id=token[,src=path][,env=NAME][,type=file|env]``: with neither, a variable of that name, or else a file of it.

    Source: buildx util/buildflags/secrets.go.

    Raises:
        InvalidValue: it is something else.
    """
    given = settings(text, "secret")
    kind = given.pop("type", "")
    if kind not in ("", "file", "env"):
        raise InvalidValue(f"unsupported secret type {kind!r}")
    name = given.pop("id", "")
    file = given.pop("source", given.pop("src", ""))
    variable = given.pop("env", "")
    if given:
        raise InvalidValue(f"unexpected key {next(iter(given))!r} in secret {text!r}")
    if not name:
        raise InvalidValue(f"invalid secret {text!r}: id is missing")
    if kind == "env" and file and not variable:
        file, variable = "", file
    if not file and not variable:
        file, variable = ("", name) if kind != "file" and name in os.environ else (name, "")
    return Secret(id=name, file=file, variable=variable)


class Agent(Struct, frozen=True, kw_only=True):
    """An SSH agent that commands may use: its socket."""

    id: str
    path: str


def parse_agent(text: str) -> Agent:
    """``default``, or ``id[=socket]``; without a socket, that of SSH_AUTH_SOCK.

    Raises:
        InvalidValue: there is no such socket, or it is a key.
    """
    name, _, path = text.partition("=")
    path = path or os.environ.get("SSH_AUTH_SOCK", "")
    if not path:
        raise InvalidValue(f"invalid empty ssh agent socket: make sure SSH_AUTH_SOCK is set, or use --ssh {name}=PATH")
    if os.path.isfile(path):
        raise InvalidValue(f"{path} is a file: keys are not read here, add it to an agent (ssh-add {path}) and name its socket")
    if not os.path.exists(path):
        raise InvalidValue(f"ssh agent {name}: {path}: no such file or directory")
    return Agent(id=name or "default", path=path)


class Output(Struct, frozen=True, kw_only=True):
    """What is made of the result.

    ``destination`` is where this side puts it: a path, ``-`` for standard output, or empty for nowhere.
    """

    kind: str
    attributes: dict[str, str]
    destination: str = ""


_NEEDS_DESTINATION = frozenset(("local", "tar", "oci"))
_KINDS = frozenset(("image", "registry", "docker", "local", "tar", "oci", "cacheonly"))


def parse_output(text: str) -> Output:
    """``type=...,name=value``, or a path alone: a directory, or ``-`` for a tar archive on standard output.

    Source: buildx util/buildflags/output.go.

    Raises:
        InvalidValue: it is something else.
    """
    if "=" not in text:
        if text == "-":
            return Output(kind="tar", attributes={}, destination="-")
        return Output(kind="local", attributes={}, destination=text)
    given = settings(text, "output")
    kind = given.pop("type", "")
    if kind not in _KINDS:
        raise InvalidValue(f"invalid output {text!r}: " + (f"unknown type {kind!r}" if kind else "type is required for output"))
    destination = given.pop("dest", "")
    if kind == "registry":
        kind, given["push"] = "image", "true"
    if kind in _NEEDS_DESTINATION and not destination:
        if kind == "local":
            raise InvalidValue("dest is required for local output")
        if os.isatty(1):
            raise InvalidValue(f"dest file is required for {kind} output. refusing to write to console")
        destination = "-"
    if kind == "image" and destination:
        raise InvalidValue("dest is of no use for image output")
    return Output(kind=kind, attributes=given, destination=destination)


_ANNOTATED = re.compile(r"([a-z-]+)(\[[A-Za-z0-9_/-]+\])?")
_ANNOTATION_TYPES = frozenset(("manifest", "manifest-descriptor", "index", "index-descriptor"))
_ANNOTATABLE = frozenset(("image", "docker", "oci"))


def parse_annotations(texts: Iterable[str]) -> dict[str, str]:
    """Annotations as options of outputs; each is ``[type[[platform]][,type...]:]key=value``.

    Source: buildx util/buildflags/export.go (ParseAnnotations), whose messages these are.

    Raises:
        InvalidValue: one is something else.
    """
    found: dict[str, str] = {}
    for text in filter(None, texts):
        name, equals, value = text.partition("=")
        if not equals:
            raise InvalidValue(f'invalid annotation "{text}", expected key=value')
        types, colon, key = name.partition(":")
        if not colon:
            types, key = "", name
        if not key:
            raise InvalidValue(f'invalid annotation "{text}": the key is missing')
        for each in types.split(","):
            found[f"annotation{_annotated(each) if colon else ''}.{key}"] = value
    return found


def _annotated(text: str) -> str:
    """What an annotation is of, as an option of an output says it."""
    match = _ANNOTATED.fullmatch(text)
    if match is None:
        raise InvalidValue(f'invalid annotation type "{text}", expected type and optional platform in square brackets')
    kind, platform = match[1], match[2] or ""
    if kind not in _ANNOTATION_TYPES:
        raise InvalidValue(f'unknown annotation type "{kind}"')
    # There is one index, whatever platform is named with it.
    return f"-{kind}{platform if kind.startswith('manifest') else ''}"


def annotate(outputs: Sequence[Output], annotations: Mapping[str, str]) -> tuple[Output, ...]:
    """Outputs with annotations, as far as they are images; without any output, that of the daemon's own images.

    Raises:
        InvalidValue: there is nothing that could have annotations.
    """
    if not annotations:
        return tuple(outputs)
    if outputs and not any(output.kind in _ANNOTATABLE for output in outputs):
        raise InvalidValue(f"annotations are for images: output of type {outputs[0].kind} has none")
    return tuple(
        Output(kind=output.kind, attributes={**output.attributes, **annotations}, destination=output.destination)
        if output.kind in _ANNOTATABLE
        else output
        for output in outputs or (Output(kind="image", attributes={}),)
    )


def build_arguments(texts: Iterable[str]) -> dict[str, str | None]:
    """Build arguments: ``NAME=value``, or ``NAME`` for what the environment has, None where it has nothing."""
    found: dict[str, str | None] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        found[name] = value if equals else os.environ.get(name)
    return found
