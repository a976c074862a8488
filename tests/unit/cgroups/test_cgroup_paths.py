"""Finding the hierarchies, and refusing paths that lead elsewhere."""

from __future__ import annotations

import pytest
from boxrun.container.cgroups import CgroupUnavailableError, InvalidLimitError, detect, tree
from boxrun.container.cgroups.detection import mounts

HYBRID = r"""
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:5 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:32 / /run/my\040memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,release_agent=/lib/x,name=systemd
41 31 0:38 / /a\040b\134c rw,relatime - cgroup2 cgroup2 rw,nsdelegate
42 31 0:38 / /again rw,relatime - cgroup2 cgroup2 rw
""".strip().splitlines(keepends=True)


def test_mounts_of_a_hybrid_machine():
    assert mounts(HYBRID) == (
        "/a b\\c",
        [
            ("/sys/fs/cgroup/cpu,cpuacct", frozenset({"cpu", "cpuacct"})),
            ("/sys/fs/cgroup/memory", frozenset({"memory"})),
            ("/sys/fs/cgroup/systemd", frozenset()),
        ],
    )


def test_without_cgroup2_the_reason_is_named(tmp_path):
    (tmp_path / "mountinfo").write_text("".join(HYBRID[:4]))
    with pytest.raises(CgroupUnavailableError, match="cgroup2 is not mounted"):
        detect(str(tmp_path / "mountinfo"))


@pytest.mark.parametrize("path", ["", "/", "//", "/a/../b", "..", "a/.", "a\0b", "x" * 256])
def test_paths_that_lead_elsewhere_are_refused(path):
    with pytest.raises(InvalidLimitError):
        tree.components(path)


@pytest.mark.parametrize("name", ["", "a/b", "..", "/a"])
def test_a_name_is_one_component(name):
    with pytest.raises(InvalidLimitError):
        tree.component(name)


def test_components():
    assert tree.components("/boxship//x/") == ["boxship", "x"]
