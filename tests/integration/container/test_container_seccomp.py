"""The filter is on the program whatever user it runs as and whether or not it may gain privileges."""

import pytest
from boxrun.container import defaults
from boxrun.container.seccomp import compiler
from boxrun.container.spec import Seccomp

pytestmark = pytest.mark.skipif(compiler.available() is not None, reason="no libseccomp")


@pytest.mark.parametrize("user", ["", "1000"])
@pytest.mark.parametrize("no_new_privileges", [False, True])
@pytest.mark.parametrize("options", [{}, {"init": True}])
def test_the_filter_is_loaded(box, user, no_new_privileges, options):
    program = compiler.compile_profile(Seccomp(), defaults.DEFAULT_CAPABILITIES)
    process = {"user": user, "no_new_privileges": no_new_privileges}
    lines = box.shell(
        "cat /proc/self/status; ls -l /proc/self/fd | grep -c pipe; exit 0", process=process, seccomp=program, **options
    )
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    assert fields["Seccomp"].strip() == "2"
    assert fields["NoNewPrivs"].strip() == str(int(no_new_privileges))
    assert fields["CapBnd"].strip() == "00000000a80425fb"


def test_what_the_filter_refuses(box):
    program = compiler.compile_profile(Seccomp(), defaults.DEFAULT_CAPABILITIES)
    (box.rootfs / "bin/unshare").symlink_to("busybox")
    code, output = box.run("unshare", "-m", "true", seccomp=program)
    assert code != 0
    assert "Operation not permitted" in output


def test_a_filter_that_is_no_filter_is_an_error(box):
    with pytest.raises(Exception, match="seccomp") as failure:
        box.run("true", seccomp=b"\1\0\0\0\0\0\0\0" + b"\xff" * 8)
    assert failure.value.step == "seccomp"
