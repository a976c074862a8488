"""The daemon's options about other runtimes and CDI devices."""

from __future__ import annotations

import json

import pytest
from boxshipd import config
from boxshipd.config import ConfigError


def test_runtimes_of_file_and_flags(tmp_path):
    path = tmp_path / "daemon.json"
    runtimes = {"runc": {"path": "/usr/bin/runc", "runtimeArgs": ["--debug"]}, "crun": {"path": "crun"}}
    path.write_text(json.dumps({"runtimes": runtimes, "default-runtime": "crun"}))
    loaded = config.load({}, str(path))
    assert (loaded.runtimes["runc"].path, loaded.runtimes["runc"].runtime_args) == ("/usr/bin/runc", ("--debug",))
    assert loaded.default_runtime == "crun"
    flags = config.build({"runtimes": ["a=/bin/a", "b=b"], "cdi-spec-dirs": ["/x"]})
    assert {name: runtime.path for name, runtime in flags.runtimes.items()} == {"a": "/bin/a", "b": "b"}
    assert flags.cdi_spec_dirs == ("/x",)
    assert (config.build({}).default_runtime, config.build({}).cdi_spec_dirs) == ("boxrun", ("/etc/cdi", "/var/run/cdi"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"runtimes": ["boxrun=/x"]}, "runtime name 'boxrun' is reserved"),
        ({"runtimes": ["x"]}, 'invalid argument "x" for "--add-runtime" flag: it must be key=value'),
        ({"runtimes": ["x="]}, "runtime 'x' is configured without a path"),
        ({"runtimes": {"x": {"path": "/x", "runtimeType": "io.containerd.x"}}}, "unknown field `runtimeType`"),
        ({"default-runtime": "x"}, "specified default runtime 'x' does not exist"),
    ],
)
def test_runtimes_that_cannot_be(values, message):
    with pytest.raises(ConfigError, match=message):
        config.build(values)
