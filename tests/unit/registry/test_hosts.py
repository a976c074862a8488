"""Which places are asked for a repository, and which of them needn't prove who they are."""

import pytest
from boxshipd.images import reference
from boxshipd.registry.errors import RegistryError
from boxshipd.registry.hosts import Hosts, RegistrySettings, check_insecure, check_mirror


async def places(hosts: Hosts, name: str, purpose: str = "pull") -> list[str]:
    found = await hosts.endpoints(reference.parse(name), purpose)
    return [f"{place.root}/{place.repository}" for place in found]


async def test_docker_hub(tmp_path):
    hosts = Hosts(mirrors=("https://mirror.example", "http://127.0.0.1:5000/hub/"), directories=[str(tmp_path)])
    own = "https://registry-1.docker.io/v2/library/busybox"
    assert await places(hosts, "busybox") == [
        "https://mirror.example/v2/library/busybox",
        "http://127.0.0.1:5000/hub/v2/library/busybox",
        own,
    ]
    assert await places(hosts, "busybox", "push") == [own]
    assert await places(hosts, "other.example/a") == ["https://other.example/v2/a"]


async def test_the_longest_prefix_counts(tmp_path):
    registries = {
        "r.example": RegistrySettings(mirrors=("https://m1.example",)),
        "r.example/a": RegistrySettings(mirrors=("https://m2.example/copy",)),
    }
    hosts = Hosts(registries=registries, directories=[str(tmp_path)])
    assert (await places(hosts, "r.example/a/b"))[0] == "https://m2.example/v2/copy/b"
    assert (await places(hosts, "r.example/ab/c"))[0] == "https://m1.example/v2/ab/c"


@pytest.mark.parametrize(
    ("host", "insecure"),
    [
        ("127.0.0.1:5000", True), ("localhost:5000", True), ("[::1]:5000", True), ("10.1.2.3", True), ("10.2.0.1:443", False),
        ("plain.example:5000", True), ("plain.example", False), ("any.example:1", True), ("any.example", True), ("192.0.2.1", False),
    ],
)  # fmt: skip
async def test_who_may_be_insecure(host, insecure, tmp_path):
    hosts = Hosts(insecure=("10.1.0.0/16", "plain.example:5000", "any.example"), directories=[str(tmp_path)])
    assert await hosts.insecure(host) is insecure
    (place,) = await hosts.endpoints(
        reference.parse(f"{host}/x") if not host.startswith("[") else reference.parse("[::1]:5000/x"), "pull"
    )
    assert (place.plain, place.verify) == (insecure, not insecure)
    assert place.root.scheme == "https"


@pytest.mark.parametrize(
    "text", ["ftp://x", "mirror.example", "https://m.example/?q=1", "https://u:p@m.example", "https://", "https://x:99999"]
)
def test_what_is_no_mirror(text):
    with pytest.raises(RegistryError, match="invalid mirror") as refused:
        check_mirror(text)
    assert "u:p" not in str(refused.value)


@pytest.mark.parametrize("text", ["http://x", "10.0.0.0/99", "x:port", ""])
def test_what_is_no_insecure_registry(text):
    with pytest.raises(RegistryError, match="insecure registry"):
        check_insecure(text)
