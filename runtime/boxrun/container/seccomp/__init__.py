"""Seccomp: turning a container's system-call policy into a BPF program, and loading one.

``available`` and ``compile_profile`` need libseccomp and belong to the supervisor; ``boxrun.container.seccomp.load`` is what the
container's child uses. Nothing is imported here, so that importing the latter doesn't bring in the former:
import ``boxrun.container.seccomp.compiler``.
"""
