"""boxrun: the runtime. Everything that touches the kernel on behalf of a container, behind an internal bus."""

__version__ = "0.1.0"
