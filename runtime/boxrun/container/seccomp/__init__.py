"""Seccomp: turning a container's system-call policy into a BPF program, and loading one.

``boxrun.container.seccomp.compiler`` has ``available`` and ``compile_profile``; it needs libseccomp and is the supervisor's.
``boxrun.container.seccomp.load`` has ``load_program`` for the container's child. Nothing is imported here, so that importing
the second doesn't bring in the first.
"""
