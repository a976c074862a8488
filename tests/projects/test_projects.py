"""Builds of projects as people have them: packages of Debian, PyPI and npm, a compiler, several stages; then the results run.

They need a network and minutes, so they have a command of their own: ``make test-projects``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.daemon import Daemon, wait_until

PROJECTS = Path(__file__).parent
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"

pytestmark = [
    pytest.mark.skipif(not os.environ.get("BOXSHIP_TEST_PROJECTS"), reason="run by make test-projects"),
    pytest.mark.xdist_group("projects"),
]


@pytest.fixture(scope="module")
def debian(bridged: Daemon, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """A daemon that has an image ``debian``, made out of Debian's packages."""
    program = shutil.which("mmdebstrap")
    assert program, "mmdebstrap is missing: .ci/packages projects"
    archive = tmp_path_factory.mktemp("debian") / "root.tar"
    suite = subprocess.check_output(["sh", "-c", '. /etc/os-release; echo "$VERSION_CODENAME"'], text=True).strip()
    subprocess.run([program, "--variant=minbase", "--quiet", suite, str(archive)], check=True)
    boxship(bridged, "import", str(archive), "debian:latest")
    yield bridged
    boxship(bridged, "rmi", "-f", "debian:latest")


def boxship(daemon: Daemon, *words: str) -> str:
    """What the command prints; it has to succeed."""
    return daemon.cli("boxship", *words, timeout=600).stdout.decode()


def build(daemon: Daemon, project: str, *flags: str) -> None:
    secret = ("--secret", f"id=authorities,src={AUTHORITIES}")
    boxship(daemon, "build", "--progress=plain", "-t", project, *secret, *flags, str(PROJECTS / project))


def test_a_python_web_application(debian: Daemon) -> None:
    build(debian, "python-web", "--build-arg", "VERSION=1.2")
    name = boxship(debian, "run", "-d", "python-web").strip()
    try:
        healthy = "{{.State.Health.Status}}"
        wait_until(
            lambda: boxship(debian, "inspect", "-f", healthy, name).strip() == "healthy", "the application is healthy", 60
        )
        fetch = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8000/').read().decode(), end='')"
        assert boxship(debian, "exec", name, "python3", "-c", fetch) == "hello from python\n"
        assert boxship(debian, "exec", name, "id", "-un").strip() == "web"
        assert boxship(debian, "exec", name, "sh", "-c", "ls -a /run /root/.cache 2>&1 | grep -c pem || true").strip() == "0"
    finally:
        boxship(debian, "rm", "-f", name)


def test_a_node_application(debian: Daemon) -> None:
    build(debian, "node-app")
    assert boxship(debian, "run", "--rm", "node-app") == "hello from node, a day has 86400000 ms\n"


def test_a_program_in_c_that_is_shipped_alone(debian: Daemon, tmp_path: Path) -> None:
    build(debian, "c-program")
    assert boxship(debian, "run", "--rm", "c-program") == "hello world from c\n"
    boxship(debian, "build", "-q", "-o", str(tmp_path / "out"), str(PROJECTS / "c-program"))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["hello"]
    assert subprocess.check_output([str(tmp_path / "out/hello"), "host"], text=True) == "hello host from c\n"


def test_a_service_of_debian(debian: Daemon) -> None:
    build(debian, "debian-service")
    name = boxship(debian, "run", "-d", "debian-service").strip()
    try:
        fetch = "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3"
        page = wait_until(
            lambda: debian.cli("boxship", "exec", name, "bash", "-c", fetch, code=None).stdout, "the service answers", 30
        )
        assert b"<p>hello from debian" in page
        boxship(debian, "stop", name)
        assert boxship(debian, "inspect", "-f", "{{.State.ExitCode}}", name).strip() == "0"
    finally:
        boxship(debian, "rm", "-f", name)
