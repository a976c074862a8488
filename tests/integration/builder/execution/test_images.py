"""Images of registries and of this machine, as bases."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from boxrun.container.spec import Resources
from boxshipd.builder.executor import Surroundings
from boxshipd.builder.graph import ImageSource
from boxshipd.builder.ops.image import ImageExecutor
from boxshipd.builder.resolver import BuildResolver
from boxshipd.builder.results import Snapshot
from boxshipd.errors import DaemonError, NotFound
from boxshipd.images.distribution import Distribution
from boxshipd.images.model import Platform
from boxshipd.registry.settings import ClientSettings
from boxshipd.trust.errors import Untrusted
from boxshipd.trust.verifier import open_trust
from support.building import Building
from support.engine import IMAGE
from support.plain_registry import DOCKER_REGISTRY
from support.registry import Registry

if DOCKER_REGISTRY is None:
    pytest.skip("no registry to pull from", allow_module_level=True)

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture
async def distribution(building: Building) -> AsyncIterator[Distribution]:
    distribution = Distribution(building.engine.images, building.engine.scheduler, ClientSettings())
    yield distribution
    await distribution.close()


def _layer(name: str, text: str) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text.encode()))
    return data.getvalue()


def _put(registry: Registry, repository: str, architecture: str, text: str) -> dict:
    """An image of one file; its descriptor as an index has it."""
    layer = _layer("file", text)
    packed = gzip.compress(layer, mtime=0)
    config = json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Env": [f"ARCH={architecture}"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer).hexdigest()]},
        }
    ).encode()
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": _MANIFEST,
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": registry.put_blob(repository, config),
                "size": len(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                    "digest": registry.put_blob(repository, packed),
                    "size": len(packed),
                }
            ],
        }
    ).encode()
    digest = registry.put_manifest(repository, "sha256:" + hashlib.sha256(manifest).hexdigest(), manifest, _MANIFEST)
    platform = {"architecture": architecture, "os": "linux"}
    return {"mediaType": _MANIFEST, "digest": digest, "size": len(manifest), "platform": platform}


def _publish(registry: Registry, repository: str, tag: str, text: str) -> str:
    """An image for two platforms under a tag; its name."""
    entries = [_put(registry, repository, architecture, f"{text} {architecture}\n") for architecture in ("amd64", "arm64")]
    registry.put_manifest(repository, tag, {"schemaVersion": 2, "mediaType": _INDEX, "manifests": entries}, _INDEX)
    return f"{registry.host}/{repository}:{tag}"


def _resolver(building: Building, distribution: Distribution, *, pull: bool = False) -> BuildResolver:
    return BuildResolver(
        images=building.engine.images,
        distribution=distribution,
        executors={},
        workers=building.engine.images.workers,
        around=Surroundings(building.client, Resources()),
        pull=pull,
    )


async def _source(building: Building, distribution: Distribution, reference: str, platform: Platform) -> Snapshot:
    executor = ImageExecutor(building.engine.images, distribution, building.layers)
    op = ImageSource(reference=reference, platform=platform)
    (result,) = await executor.run(op, building.work(op, ()))
    assert isinstance(result, Snapshot)
    return result


async def test_planning_fetches_an_images_documents_and_building_its_layers(
    building: Building, distribution: Distribution, registry: Registry
) -> None:
    name = _publish(registry, "two", "v1", "first")
    images = building.engine.images
    async with _resolver(building, distribution) as resolver:
        base = await resolver.image(name, Platform("arm64", "linux"))
    assert base.config.config is not None
    assert base.config.config.env == ["ARCH=arm64"]
    assert base.platform.architecture == "arm64"
    assert base.reference.startswith(f"{name}@sha256:")
    with pytest.raises(NotFound):
        await images.inspect(name)
    snapshot = await _source(building, distribution, base.reference, base.platform)
    assert building.file(snapshot, "file") == b"first arm64\n"
    assert (await images.inspect(name)).architecture == "arm64"
    # A layer is told of as it comes, and as done.
    assert {status.completed > 0 for status in building.statuses.values()} == {True}
    other = await _source(building, distribution, base.reference, Platform("amd64", "linux"))
    assert building.file(other, "file") == b"first amd64\n"


async def test_an_image_that_is_here_is_taken_unless_it_is_to_be_pulled(
    building: Building, distribution: Distribution, registry: Registry
) -> None:
    name = _publish(registry, "moving", "latest", "old")
    async with _resolver(building, distribution) as resolver:
        old = await resolver.image(name, None)
    await _source(building, distribution, old.reference, old.platform)
    _publish(registry, "moving", "latest", "new")
    async with _resolver(building, distribution) as resolver:
        here = await resolver.image(name, None)
        assert here.reference.startswith("sha256:")
    async with _resolver(building, distribution, pull=True) as resolver:
        new = await resolver.image(name, None)
    assert new.reference != old.reference
    snapshot = await _source(building, distribution, new.reference, new.platform)
    assert building.file(snapshot, "file").startswith(b"new ")
    async with _resolver(building, distribution) as resolver:
        # The tag means what was pulled by it last; the old image is still there by its id.
        assert (await resolver.image(name, None)).reference not in (here.reference, old.reference)
        assert (await resolver.image(here.reference, None)).reference == here.reference


async def test_the_embedded_base_is_never_asked_a_registry_for(building: Building, distribution: Distribution) -> None:
    async with _resolver(building, distribution, pull=True) as resolver:
        base = await resolver.image(IMAGE, None)
    snapshot = await _source(building, distribution, base.reference, base.platform)
    assert snapshot == await building.base()


async def test_an_answer_does_not_change_while_a_build_is_planned(
    building: Building, distribution: Distribution, registry: Registry
) -> None:
    name = _publish(registry, "changing", "x", "one")
    async with _resolver(building, distribution) as resolver:
        first, second = await asyncio.gather(resolver.image(name, None), resolver.image(name, None))
        _publish(registry, "changing", "x", "two")
        assert first is second is await resolver.image(name, None)


async def test_several_builds_that_pull_the_same_share_it(
    building: Building, distribution: Distribution, registry: Registry
) -> None:
    name = _publish(registry, "shared", "x", "shared")
    async with _resolver(building, distribution) as resolver:
        base = await resolver.image(name, None)
    found = await asyncio.gather(*(_source(building, distribution, base.reference, base.platform) for _ in range(4)))
    assert len({snapshot.chain for snapshot in found}) == 1
    pulls = [job for job in building.engine.scheduler.jobs() if job.kind == "pull"]
    assert len(pulls) == 1


async def test_what_is_not_there_is_not_found(building: Building, distribution: Distribution, registry: Registry) -> None:
    async with _resolver(building, distribution) as resolver:
        with pytest.raises(NotFound, match="not found"):
            await resolver.image(f"{registry.host}/none:x", None)
        with pytest.raises(NotFound, match="No such image"):
            await resolver.image("sha256:" + "0" * 64, None)
        with pytest.raises(DaemonError):
            await resolver.image("No Name", None)


async def test_the_key_of_an_image_is_its_digest_whatever_its_name(building: Building, distribution: Distribution) -> None:
    executor = ImageExecutor(building.engine.images, distribution, building.layers)

    async def key(reference: str, architecture: str = "amd64") -> str:
        op = ImageSource(reference=reference, platform=Platform(architecture, "linux"))
        return await executor.key(op, building.work(op, ()))

    digest = "sha256:" + "1" * 64
    assert await key(f"a:b@{digest}") == await key(f"c/d@{digest}")
    assert await key(f"a@{digest}") != await key(f"a@{digest}", "arm64")
    assert await key(f"a@{digest}") != await key("a@sha256:" + "2" * 64)


async def test_the_signature_policy_is_asked_while_planning(
    building: Building, distribution: Distribution, registry: Registry, tmp_path: Path
) -> None:
    name = _publish(registry, "untrusted", "x", "text")
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"default": [{"type": "reject"}]}))
    building.engine.images.trust = open_trust(str(policy))
    async with _resolver(building, distribution) as resolver:
        with pytest.raises(Untrusted):
            await resolver.image(name, None)
