"""Execs: further programs in running containers."""
