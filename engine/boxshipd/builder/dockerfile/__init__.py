"""A Dockerfile's text as typed instructions, without any I/O.

    text        source: lines, excerpts, errors with their place; lines: directives, continuations, comments
    statements  statement, arguments, flags, heredocs: what an instruction is made of, untyped
    instructions  readers: each keyword's rules, which make what ``instructions`` has; mounts: RUN --mount
    parser      all of it together: ``parse(bytes, linter) -> Dockerfile``
    words       expands variables and splits words, once their values are known; patterns: ``${x#pattern}``
    lint        collects advice, as ``# check=`` wants it; rules: all there are; advice: those that the text alone decides
    ignore      patterns of ignore files

What can't be right is an ``ArgumentError`` inside, and a ``DockerfileError`` with its lines to everybody else.
"""
