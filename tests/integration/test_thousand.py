"""A thousand idle containers at once: started, listed, removed, and nothing left of them."""

from __future__ import annotations

import threading
import time

import pytest

COUNT = 1000


def in_threads(work, items) -> None:
    left, lock, failures = list(items), threading.Lock(), []

    def worker() -> None:
        while True:
            with lock:
                if not left or failures:
                    return
                item = left.pop()
            try:
                work(item)
            except Exception as error:  # noqa: BLE001 - shown by the assertion below
                failures.append(error)

    threads = [threading.Thread(target=worker) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]


@pytest.mark.alone
@pytest.mark.timeout(300)
def test_a_thousand_idle_containers(own_daemon):
    ids: list[str] = []

    def start(_: int) -> None:
        body = {"Image": "busybox", "Cmd": ["sleep", "100000"], "HostConfig": {"NetworkMode": "none"}}
        status, created = own_daemon.request("POST", "/containers/create", body)
        assert status == 201, created
        status, answer = own_daemon.request("POST", f"/containers/{created['Id']}/start")
        assert status == 204, answer
        ids.append(created["Id"])

    begin = time.monotonic()
    in_threads(start, range(COUNT))
    assert time.monotonic() - begin < 30
    took = []
    for _ in range(3):
        begin = time.monotonic()
        listed = own_daemon.get("/containers/json")
        took.append(time.monotonic() - begin)
    assert min(took) < 0.2
    assert {container["Id"] for container in listed if container["State"] == "running"} == set(ids)

    def remove(ident: str) -> None:
        status, answer = own_daemon.request("POST", f"/containers/{ident}/stop?t=0")
        assert status == 204, answer
        status, answer = own_daemon.request("DELETE", f"/containers/{ident}")
        assert status == 204, answer

    in_threads(remove, ids)
    assert own_daemon.get("/containers/json?all=1") == []
