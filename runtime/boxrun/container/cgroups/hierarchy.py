"""One mounted cgroup hierarchy: the parents of groups in it, made once and kept open."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from boxrun.container.cgroups import tree
from boxrun.container.cgroups.errors import CgroupError


class Hierarchy:
    """A mount of cgroup2, or of some v1 controllers.

    Args:
        mount: where it is mounted.
        controllers: the v1 controllers in it; empty for cgroup2 and for v1's named hierarchies.
        prepare: called with the descriptors of a directory and of the one it is in (None for the hierarchy's root), for every
            directory on the way to a parent, before groups are made in it.
    """

    def __init__(
        self, mount: str, controllers: frozenset[str], prepare: Callable[[int, int | None], None] | None = None
    ) -> None:
        self.mount = mount
        self.controllers = controllers
        self._prepare = prepare
        self._parents: dict[str, int] = {}

    def parent(self, path: str) -> int:
        """The directory of the parent ``path``, made if need be. The descriptor stays this object's.

        Raises:
            InvalidLimitError: not a path below the root.
            CgroupError: the kernel refused.
        """
        found = self._parents.get(path)
        if found is None:
            found = self._parents[path] = self._make_parent(path)
        return found

    def existing_parent(self, path: str) -> int | None:
        """As ``parent``, but None where it isn't there."""
        if path in self._parents:
            return self._parents[path]
        try:
            self._parents[path] = tree.open_directory("/".join([self.mount, *tree.components(path)]))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CgroupError(f"open cgroup {self.mount}/{path}: {error.strerror}") from error
        return self._parents[path]

    def forget(self, path: str) -> None:
        """Close the parent ``path``, which may be removed now or has been."""
        if path in self._parents:
            os.close(self._parents.pop(path))

    def close(self) -> None:
        """Close every parent."""
        for path in list(self._parents):
            self.forget(path)

    def _make_parent(self, path: str) -> int:
        above: int | None = None
        parts = tree.components(path)
        try:
            directory = tree.open_directory(self.mount)
            try:
                self._prepared(directory, None)
                for part in parts:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, 0o755, dir_fd=directory)
                    above, directory = directory, tree.open_directory(part, directory)
                    self._prepared(directory, above)
                    os.close(above)
            except BaseException:
                os.close(directory)
                raise
        except OSError as error:
            raise CgroupError(f"prepare cgroup {self.mount}/{'/'.join(parts)}: {error.strerror}") from error
        return directory

    def _prepared(self, directory: int, above: int | None) -> None:
        if self._prepare is not None:
            self._prepare(directory, above)
