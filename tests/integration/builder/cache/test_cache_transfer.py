"""A build's cache in a registry, and in a directory of the client's: what another daemon makes of it."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from boxrun.container.spec import Resources
from boxship.types.build_request import CacheOption
from boxshipd.builder.cache.options import destinations, sources
from boxshipd.builder.cache.transfer import CacheTransfer
from boxshipd.builder.executor import Surroundings
from boxshipd.builder.graph import Graph, Input
from boxshipd.errors import DaemonError, NotFound
from boxshipd.images.distribution import Distribution
from boxshipd.images.errors import DigestMismatch
from boxshipd.registry.settings import ClientSettings
from support.archives import digest, files, member, tar
from support.registry import REGISTRY, Registry
from support.solving import Builder, NoClient, builder, step

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="unpacks layers")


class Client(NoClient):
    """A client with directories, each kept as the archive that it came as."""

    def __init__(self) -> None:
        self.directories: dict[str, bytes] = {}

    async def context(self, name: str) -> AsyncIterator[bytes]:
        if name not in self.directories:
            raise NotFound(f"the client has no context {name}")

        async def chunks() -> AsyncIterator[bytes]:
            yield self.directories[name]

        return chunks()

    async def receive(self, destination: str, chunks: AsyncIterator[bytes]) -> None:
        self.directories[destination] = b"".join([chunk async for chunk in chunks])


class Place:
    """A daemon's builder with its ways to elsewhere."""

    def __init__(self, b: Builder, distribution: Distribution, client: Client) -> None:
        self.b = b
        self.around = Surroundings(client, Resources())
        self.transfer = CacheTransfer(b.images, distribution, self.around, b.told.append)

    async def build(self, graph: Graph, *wanted: Input, take: tuple = (), give: tuple = ()) -> list:
        async with (
            self.transfer.taken(sources(take)) as imported,
            self.b.solver.solve(graph, wanted, self.around, self.b.told.append, imported) as results,
        ):
            await self.transfer.give(destinations(give), results)
            for snapshot in results:
                for layer in snapshot.layers:
                    assert (self.b.root / "snapshots" / layer.chain[7:] / "fs").is_dir()
                    assert (self.b.root / "content/blobs/sha256" / layer.blob[7:]).is_file()
            return results

    def errors(self) -> list[str]:
        return [each.error for told in self.b.told for each in told.vertices if each.error]


@asynccontextmanager
async def place(root: Path, client: Client | None = None) -> AsyncIterator[Place]:
    root.mkdir(exist_ok=True)
    async with builder(root) as b:
        distribution = Distribution(b.images, b.scheduler, ClientSettings(insecure=("127.0.0.0/8",)))
        try:
            yield Place(b, distribution, client or Client())
        finally:
            await distribution.close()


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    if REGISTRY is None:
        pytest.skip("no registry")
    with Registry() as registry:
        yield registry


def stages() -> tuple[Graph, Input]:
    """Two stages, of which the second takes something from the first."""
    graph = Graph()
    first = step(graph, "b", step(graph, "a"))
    return graph, step(graph, "top", step(graph, "x"), first)


async def test_all_stages_through_a_registry_and_only_what_is_needed_comes(tmp_path, registry):
    graph, top = stages()
    option = CacheOption(type="registry", attrs={"ref": f"{registry.host}/cache:max", "mode": "max"})
    async with place(tmp_path / "one") as one:
        made = await one.build(graph, top, give=(option,))
    async with place(tmp_path / "two") as two:
        take = (CacheOption(attrs={"ref": f"{registry.host}/cache:max"}),)
        assert await two.build(graph, top, take=take) == made
        assert two.b.layers.begun == []
        assert two.errors() == []
        assert {name: cached for name, (cached, _) in two.b.settled_vertices().items() if len(name) <= 3} == {
            "a": True, "b": True, "x": True, "top": True,
        }  # fmt: skip
    # It is nobody's when the build has ended: others' word isn't kept.
    async with place(tmp_path / "two") as two:
        assert two.b.cache.usage() == []
        assert two.b.on_disk() == (set(), set())


async def test_stages_that_are_not_needed_do_not_come(tmp_path, registry):
    graph, top = stages()
    option = CacheOption(attrs={"ref": f"{registry.host}/cache:lazy", "mode": "max"})
    async with place(tmp_path / "one") as one:
        await one.build(graph, top, give=(option,))
    async with place(tmp_path / "two") as two:
        take = sources((CacheOption(attrs={"ref": f"{registry.host}/cache:lazy"}),))
        async with (
            two.transfer.taken(take) as imported,
            two.b.solver.solve(graph, [top], two.around, two.b.told.append, imported) as results,
        ):
            chains = {layer.chain[7:] for layer in results[0].layers}
            assert len(chains) == 2
            assert two.b.on_disk()[1] == chains


async def test_what_is_built_on_top_of_it_has_it_and_is_kept(tmp_path, registry):
    graph, top = stages()
    option = CacheOption(attrs={"ref": f"{registry.host}/cache:on-top", "mode": "max"})
    async with place(tmp_path / "one") as one:
        await one.build(graph, top, give=(option,))
    async with place(tmp_path / "two") as two:
        more = step(graph, "more", top)
        (made,) = await two.build(graph, more, take=(CacheOption(attrs={"ref": f"{registry.host}/cache:on-top"}),))
        assert two.b.layers.begun == ["more"]
        assert len(made.layers) == 3
        assert [each.description for each in two.b.cache.usage()] == ["more"]


async def test_the_results_only(tmp_path, registry):
    graph, top = stages()
    name = f"{registry.host}/cache:min"
    async with place(tmp_path / "one") as one:
        await one.build(graph, top, give=(CacheOption(attrs={"ref": name}),))
    async with place(tmp_path / "two") as two:
        await two.build(graph, top, take=(CacheOption(attrs={"ref": name}),))
        assert two.b.layers.begun == ["a", "b"]


async def test_cache_that_goes_through_keeps_what_was_not_needed(tmp_path, registry):
    graph, top = stages()
    first, second = (CacheOption(attrs={"ref": f"{registry.host}/cache:{tag}", "mode": "max"}) for tag in ("t1", "t2"))
    async with place(tmp_path / "one") as one:
        await one.build(graph, top, give=(first,))
    async with place(tmp_path / "two") as two:
        await two.build(graph, top, take=(CacheOption(attrs={"ref": first.attrs["ref"]}),), give=(second,))
    async with place(tmp_path / "three") as three:
        await three.build(graph, top, take=(CacheOption(attrs={"ref": second.attrs["ref"]}),))
        assert three.b.layers.begun == []


async def test_through_a_directory_of_the_clients(tmp_path):
    graph, top = stages()
    client = Client()
    async with place(tmp_path / "one", client) as one:
        await one.build(graph, top, give=(CacheOption(type="local", attrs={"dest": "there", "mode": "max"}),))
    with tarfile.open(fileobj=io.BytesIO(client.directories["cache-to:0"])) as archive:
        names = archive.getnames()
        assert {"oci-layout", "index.json"} < set(names)
        (listed,) = json.load(archive.extractfile("index.json"))["manifests"]
        assert f"blobs/sha256/{listed['digest'][7:]}" in names
        for name in names:
            if name.startswith("blobs/sha256/"):
                assert digest(archive.extractfile(name).read())[7:] == name.rpartition("/")[2]
    client.directories["cache-from:0"] = client.directories["cache-to:0"]
    async with place(tmp_path / "two", client) as two:
        await two.build(graph, top, take=(CacheOption(type="local", attrs={"src": "there"}),))
        assert two.b.layers.begun == []
    async with place(tmp_path / "two") as two:
        assert two.b.on_disk() == (set(), set())


async def test_what_is_not_there_makes_a_build_no_worse(tmp_path, registry):
    graph, top = stages()
    take = (CacheOption(attrs={"ref": f"{registry.host}/nothing:here"}), CacheOption(type="local", attrs={"src": "x"}))
    async with place(tmp_path / "one") as one:
        await one.build(graph, top, take=take)
        assert len(one.b.layers.begun) == 4
        assert len(one.errors()) == 2


async def test_where_it_cannot_go_fails_the_build_unless_that_does_not_matter(tmp_path):
    graph, top = stages()
    attrs = {"ref": "127.0.0.1:1/cache"}
    async with place(tmp_path / "one") as one:
        with pytest.raises(DaemonError):
            await one.build(graph, top, give=(CacheOption(attrs=attrs),))
        await one.build(graph, top, give=(CacheOption(attrs={**attrs, "ignore-error": "true"}),))


async def test_layers_that_are_not_what_is_said_of_them_are_refused(tmp_path):
    graph, top = stages()
    client = Client()
    async with place(tmp_path / "one", client) as one:
        await one.build(graph, top, give=(CacheOption(type="local", attrs={"dest": "there", "mode": "max"}),))
    client.directories["cache-from:0"] = forged(client.directories["cache-to:0"])
    async with place(tmp_path / "two", client) as two:
        with pytest.raises(DigestMismatch, match="build cache: layer sha256:"):
            await two.build(graph, top, take=(CacheOption(type="local", attrs={"src": "there"}),))
        assert two.b.cache.usage() == []
    async with place(tmp_path / "two") as two:
        assert two.b.on_disk() == (set(), set())


def forged(archive: bytes) -> bytes:
    """The same cache, where every layer is an attacker's."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as source:
        blobs = {name: source.extractfile(name).read() for name in source.getnames() if name.startswith("blobs/sha256/")}
        index = json.load(source.extractfile("index.json"))
    manifest = json.loads(blobs[f"blobs/sha256/{index['manifests'][0]['digest'][7:]}"])
    document = json.loads(blobs[f"blobs/sha256/{manifest['config']['digest'][7:]}"])
    evil = files(evil=b"evil")
    for layer in document["layers"]:
        layer.update(blob=digest(evil), blobSize=len(evil))
    made = {}

    def put(data: bytes) -> dict[str, object]:
        made[digest(data)] = data
        return {"digest": digest(data), "size": len(data)}

    put(evil)
    manifest["config"].update(put(json.dumps(document).encode()))
    index["manifests"][0].update(put(json.dumps(manifest).encode()))
    return tar(
        (member("index.json"), json.dumps(index).encode()),
        *((member(f"blobs/sha256/{name[7:]}"), data) for name, data in made.items()),
    )


@pytest.mark.parametrize(
    "document",
    [
        b"nothing",
        b'{"layers":[],"keys":[{"key":"k","outputs":[0]}]}',
        b'{"layers":[{"mediaType":"","blob":"x","blobSize":1,"diff":"x","size":1,"below":-1}],"keys":[]}',
        b'{"layers":[{"mediaType":"","blob":"sha256:%b","blobSize":1,"diff":"sha256:%b","size":1,"below":0}],"keys":[]}'
        % (b"0" * 64, b"0" * 64),
    ],
)
async def test_documents_that_cannot_be_are_left_out(tmp_path, document):
    client = Client()
    made = digest(document)
    manifest = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": "application/vnd.boxship.build.cache.v1+json", "digest": made, "size": len(document)},
            "layers": [],
        }
    ).encode()
    index = {
        "manifests": [
            {"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest(manifest), "size": len(manifest)}
        ]
    }
    client.directories["cache-from:0"] = tar(
        (member("index.json"), json.dumps(index).encode()),
        (member(f"blobs/sha256/{made[7:]}"), document),
        (member(f"blobs/sha256/{digest(manifest)[7:]}"), manifest),
    )
    graph, top = stages()
    async with place(tmp_path / "one", client) as one:
        await one.build(graph, top, take=(CacheOption(type="local", attrs={"src": "there"}),))
        assert len(one.b.layers.begun) == 4
        assert ["invalid" in error for error in one.errors()] == [True]


@pytest.mark.parametrize(
    ("read", "option", "message"),
    [
        (sources, CacheOption(type="gha"), "can't come from type 'gha'"),
        (sources, CacheOption(type="inline"), "can't come from type 'inline'"),
        (sources, CacheOption(attrs={}), "ref is required"),
        (sources, CacheOption(type="local"), "requires src"),
        (sources, CacheOption(attrs={"ref": "x", "mode": "max"}), "option 'mode'"),
        (destinations, CacheOption(type="s3"), "can't go to type 's3'"),
        (destinations, CacheOption(type="local"), "requires dest"),
        (destinations, CacheOption(attrs={"ref": "x", "mode": "most"}), "invalid cache mode"),
        (destinations, CacheOption(attrs={"ref": "x", "compression": "zstd"}), "option 'compression'"),
        (destinations, CacheOption(attrs={"ref": "x", "image-manifest": "false"}), "image-manifest=false"),
        (destinations, CacheOption(attrs={"ref": "x", "ignore-error": "perhaps"}), "invalid ignore-error"),
    ],
)
def test_options_that_cannot_be(read, option, message):
    with pytest.raises(DaemonError, match=message):
        read([option])
