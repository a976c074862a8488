"""aiodocker's own suite passes, but for what needs features of later milestones or isn't about a daemon at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.aiodocker_suite import fetch, provide_images, run
from support.daemon import Daemon

REGISTRIES = "pulls an image that the tests' daemon can't reach, or uses one that such a case has removed"
ROOT = "expects not to be root, who may read everything"
SSH = "is about asyncssh, which isn't installed, and no daemon"

FAILING = {
    "tests/test_containers.py::test_run_container_with_missing_image": REGISTRIES,
    "tests/test_containers.py::test_run_existing_container": REGISTRIES,
    "tests/test_containers.py::test_run_failing_start_container": REGISTRIES,
    "tests/test_context.py::TestLoadContextTLS::test_raises_error_on_unreadable_ca_file": ROOT,
    "tests/test_context.py::TestLoadContextTLS::test_raises_error_on_unreadable_cert_file": ROOT,
    "tests/test_context.py::TestLoadContextTLS::test_raises_error_on_unreadable_key_file": ROOT,
    "tests/test_images.py::test_build_from_remote_file": REGISTRIES,
    "tests/test_images.py::test_build_from_remote_tar": REGISTRIES,
    "tests/test_images.py::test_delete_image": REGISTRIES,
    "tests/test_images.py::test_prune_images": REGISTRIES,
    "tests/test_images.py::test_pull_image_stream": REGISTRIES,
    "tests/test_images.py::test_pups_image_auth": REGISTRIES,
    "tests/test_images.py::test_push_image": REGISTRIES,
    "tests/test_images.py::test_push_image_stream": REGISTRIES,
    "tests/test_networks.py::test_networks": REGISTRIES,
    "tests/test_ssh.py::test_ssh_connector_invalid_port": SSH,
    "tests/test_ssh.py::test_ssh_connector_invalid_url_scheme": SSH,
    "tests/test_ssh.py::test_ssh_connector_missing_hostname": SSH,
}


AGAIN = 2
"""How often a case is run again: many of the suite's have deadlines of their own, of 0.2 s even, that a busy machine misses."""


@pytest.mark.timeout(600)
def test_the_suite(own_bridged: Daemon, tmp_path: Path) -> None:
    suite, environment = fetch(tmp_path), own_bridged.env()
    provide_images(environment)
    outcomes = run(suite, environment)
    for _ in range(AGAIN):
        unexpected = _failed(outcomes) - set(FAILING)
        if unexpected:
            outcomes |= run(suite, environment, *sorted(unexpected))
    # What passes meanwhile goes out of the list, so that it has to go on passing.
    failed = _failed(outcomes)
    assert failed == set(FAILING), {name: outcomes[name] for name in failed ^ set(FAILING)}
    assert sum(outcome == "passed" for outcome in outcomes.values()) >= 103


def _failed(outcomes: dict[str, str]) -> set[str]:
    return {name for name, outcome in outcomes.items() if outcome.startswith("failed")}
