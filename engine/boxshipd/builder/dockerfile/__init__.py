"""A Dockerfile's text as typed instructions, without any I/O.

dockerfile.parser.parse(bytes) -> instructions.Dockerfile
dockerfile.words       expands variables and splits words
dockerfile.mounts      reads what RUN --mount says
dockerfile.lint        collects advice, as ``# check=`` wants it
dockerfile.ignore      patterns of ignore files
"""
