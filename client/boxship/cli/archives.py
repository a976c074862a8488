"""``boxship load``, ``save`` and ``import``."""

from __future__ import annotations

import os
from collections.abc import Iterator

from boxship.archive.whole import write_file
from boxship.cli.attached import write_all
from boxship.cli.command import Command, Context
from boxship.cli.flags import Items, Options, Switch, Text
from boxship.cli.references import repository_tag
from boxship.errors import CommandError
from boxship.terminal.progress import show

_CHUNK = 1 << 20
_TAR = [("Content-Type", "application/x-tar")]


def _open(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise CommandError(f"open {path}: {(error.strerror or '').lower()}") from error


def _read(fd: int, path: str) -> Iterator[bytes]:
    """A file's bytes; on a terminal, how much of it has been sent."""
    total = os.fstat(fd).st_size
    shown = os.isatty(2) and total > _CHUNK
    sent = 0
    if shown:
        from boxship.terminal.progress import bar
    while chunk := os.read(fd, _CHUNK):
        yield chunk
        sent += len(chunk)
        if shown:
            write_all(2, f"\r\x1b[2K{os.path.basename(path)}: {bar(sent, total)}".encode())
    if shown:
        write_all(2, b"\r\x1b[2K")


def _platform_query(context: Context, text: str) -> str | None:
    if not text:
        return None
    from boxship.cli.platforms import encode

    return encode(context.api, text, "1.48")


class LoadOptions(Options):
    """The flags of ``load``."""

    input = Text("Read from tar archive file, instead of STDIN", short="i")
    platform = Text('Load only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")')
    quiet = Switch("Suppress the load output", short="q")


def _load(context: Context, options: LoadOptions, _arguments: list[str]) -> int:
    if options.input:
        fd = _open(options.input)
    elif os.isatty(0):
        raise CommandError("requested load from stdin, but stdin is empty")
    else:
        fd = 0
    quiet = options.quiet or not os.isatty(1)
    context.api.negotiate()
    query = {"quiet": quiet, "platform": _platform_query(context, options.platform)}
    with context.api.open("POST", "/images/load", query, _read(fd, options.input), _TAR) as response:
        show(response.lines())
    return 0


class SaveOptions(Options):
    """The flags of ``save``."""

    output = Text("Write to a file, instead of STDOUT", short="o")
    platform = Text('Save only the given platform variant. Formatted as "os[/arch[/variant]]" (e.g., "linux/amd64")')


def _save(context: Context, options: SaveOptions, arguments: list[str]) -> int:
    if not options.output and os.isatty(1):
        raise CommandError("cowardly refusing to save to a terminal. Use the -o flag or redirect")
    query = {"names": arguments, "platform": _platform_query(context, options.platform)}
    with context.api.open("GET", "/images/get", query) as response:
        if not options.output:
            for chunk in response.chunks():
                write_all(1, chunk)
            return 0
        write_file(options.output, response.chunks(), "failed to save image")
    return 0


class ImportOptions(Options):
    """The flags of ``import``."""

    change = Items("Apply Dockerfile instruction to the created image", short="c")
    message = Text("Set commit message for imported image", short="m")
    platform = Text("Set platform if server is multi-platform capable")


def _import(context: Context, options: ImportOptions, arguments: list[str]) -> int:
    source = arguments[0]
    remote = source.startswith(("http://", "https://"))
    body: Iterator[bytes] | None = None
    if not remote:
        body = _read(0 if source == "-" else _open(source), source)
        context.api.negotiate()
    name, tag = repository_tag(arguments[1]) if len(arguments) > 1 else ("", "")
    query = {
        "fromSrc": source if remote else "-",
        "repo": name or None,
        "tag": tag or None,
        "message": options.message or None,
        "changes": list(options.change),
        "platform": options.platform or None,
    }
    with context.api.open("POST", "/images/create", query, body, _TAR) as response:
        show(response.lines())
    return 0


LOAD: Command[LoadOptions] = Command("[OPTIONS]", "Load an image from a tar archive or STDIN", LoadOptions, _load, maximum=0)
SAVE: Command[SaveOptions] = Command(
    "[OPTIONS] IMAGE [IMAGE...]",
    "Save one or more images to a tar archive (streamed to STDOUT by default)",
    SaveOptions,
    _save,
    minimum=1,
)
IMPORT: Command[ImportOptions] = Command(
    "[OPTIONS] file|URL|- [REPOSITORY[:TAG]]",
    "Import the contents from a tarball to create a filesystem image",
    ImportOptions,
    _import,
    minimum=1,
    maximum=2,
)
