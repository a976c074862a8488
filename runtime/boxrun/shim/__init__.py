"""The shim: one process per container, which owns its pipes or pty, its log, its attached clients and its exit status."""
