"""Thin bindings for the Linux system calls that Python lacks, and nothing else.

Every function raises :class:`OSError` whose ``filename`` names the operation and its object. Only ``ctypes`` and ``os`` are
imported, since these modules live in the fork server.
"""
