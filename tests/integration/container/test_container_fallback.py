"""Where clone3 can't be had: an outer container's filter hides it, and the first process is made in steps."""

import base64
import json
import os

import pytest
from boxrun.container.seccomp.compiler import compile_profile
from boxrun.container.spec import Seccomp
from boxrun.errors import SetupError

_NEWNS = 0x20000
_LOAD = """
import base64
from boxrun.container.seccomp.load import load_program
from boxrun.linux import process
load_program(base64.b64decode({program!r}), False)
"""


def behind(*rules) -> str:
    """Code that puts the process behind a filter with these rules beside one that hides clone3."""
    hidden = {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}
    profile = json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [hidden, *rules]})
    program = compile_profile(Seccomp(mode="custom", profile=profile), ())
    return _LOAD.format(program=base64.b64encode(program).decode())


def test_without_clone3_a_container_runs_all_the_same(box):
    lines = box.shell("echo $$; readlink /proc/self/ns/mnt; readlink /proc/self/ns/net", before=behind())
    assert lines[0] == "1"
    assert os.readlink("/proc/self/ns/mnt") not in lines
    assert os.readlink("/proc/self/ns/net") not in lines


def test_a_step_that_fails_in_the_child_is_reported_and_ends_it(box):
    """Were the error to escape, there would be two processes that both take themselves for the container's caretaker."""
    refused = {
        "names": ["unshare"],
        "action": "SCMP_ACT_ERRNO",
        "errnoRet": 1,
        "args": [{"index": 0, "value": _NEWNS, "valueTwo": _NEWNS, "op": "SCMP_CMP_MASKED_EQ"}],
    }
    with pytest.raises(Exception, match="unshare the container's namespaces") as failure:
        box.run("true", before=behind(refused))
    assert failure.value.step == "clone"
    assert failure.value.kind == SetupError.__name__
    # The harness, and so its only other process, would otherwise say a second thing.
    assert box.run("sh", "-c", "exit 3")[0] == 3
