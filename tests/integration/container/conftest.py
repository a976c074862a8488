"""Containers from a busybox root file system; see ``support.boxes``."""

from __future__ import annotations

from support.boxes import box, harness

__all__ = ["box", "harness"]
