"""What networks, disks and attackers do to pulls and pushes, in one process with the client, whose patience is short."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from boxshipd.errors import InvalidParameter
from boxshipd.images import reference
from boxshipd.images.content import ContentStore
from boxshipd.images.errors import DigestMismatch
from boxshipd.images.remote import Remote
from boxshipd.registry import blobs, documents, manifests, tags, uploads
from boxshipd.registry.blobs import Download
from boxshipd.registry.client import RegistryClient
from boxshipd.registry.credentials import ANONYMOUS, Credentials
from boxshipd.registry.errors import AccessDenied, BadAnswer, BadDocument, RegistryBusy, RegistryError, Unreachable
from boxshipd.registry.repository import Repository
from boxshipd.registry.settings import ClientSettings
from boxshipd.registry.timing import Timing
from support.faulty import Fault, FaultyProxy
from support.oci_uploads import UploadServer
from support.registry import Authority, Registry, TokenServer
from support.remote_images import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, RemoteImage, index, layer, noise, sha256

QUICK = Timing(connect=5, stall=0.5, first_delay=0.01, longest_delay=0.05, patience=5, attempts=4)
MIB = 1 << 20
BLOB = noise(5 * MIB + 123, 7)
DIGEST = sha256(BLOB)
ANNA = Credentials("anna", "secret")


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        registry.put_blob("r", BLOB)
        yield registry


@pytest.fixture
def proxy(registry: Registry) -> Iterator[FaultyProxy]:
    with FaultyProxy(registry.host) as proxy:
        yield proxy


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[RegistryClient]:
    client = RegistryClient(ClientSettings(certificates=(str(tmp_path),), timing=QUICK))
    yield client
    await client.close()


@pytest.fixture
def content(tmp_path: Path) -> ContentStore:
    return ContentStore(str(tmp_path / "content"))


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blob has six parts, and a part a few pieces."""
    monkeypatch.setattr(blobs, "PART", MIB)
    monkeypatch.setattr(blobs, "_PIECE", 64 << 10)
    monkeypatch.setattr(uploads, "CHUNK", 2 * MIB)


async def place(client: RegistryClient, host: str, credentials: Credentials = ANONYMOUS, path: str = "r") -> Repository:
    return (await client.repositories(reference.parse(f"{host}/{path}"), credentials, "pull"))[-1]


async def download(
    client: RegistryClient, host: str, content: ContentStore, digest: str = DIGEST, size: int = len(BLOB)
) -> int:
    """Download the blob; how many bytes came over the net."""
    came = 0

    def arrived(count: int) -> None:
        nonlocal came
        came += count

    with ThreadPoolExecutor(2) as threads, content.ingest(digest, size) as ingest:
        await Download(await place(client, host), digest, ingest, threads, arrived=arrived).run()
        ingest.commit()
    assert Path(content.path(digest)).read_bytes() == BLOB
    return came


async def test_parts_come_side_by_side(client: RegistryClient, proxy: FaultyProxy, content: ContentStore):
    assert await download(client, proxy.host, content) == len(BLOB)
    ranges = {seen.headers["Range"] for seen in proxy.requests("GET", "blobs")}
    assert len(ranges) == 6
    assert "bytes=0-1048575" in ranges


async def test_cuts_cost_only_what_had_not_come(client: RegistryClient, proxy: FaultyProxy, content: ContentStore):
    proxy.faults = [Fault(path="blobs", cut_after=300_000) for _ in range(8)]
    came = await download(client, proxy.host, content)
    assert came == len(BLOB)
    starts = sorted(
        int(seen.headers["Range"].removeprefix("bytes=").partition("-")[0]) for seen in proxy.requests("GET", "blobs")
    )
    # How much of the last piece gets through before a cut is the network's affair; that none of it comes twice is ours.
    assert len(starts) == len(set(starts))
    assert len(starts) >= 6 + 4


async def test_without_ranges_all_of_it_comes_again(client: RegistryClient, proxy: FaultyProxy, content: ContentStore):
    proxy.faults = [
        Fault(path="blobs", without_ranges=True, cut_after=2 * MIB),
        Fault(path="blobs", times=-1, without_ranges=True),
    ]
    assert await download(client, proxy.host, content) == len(BLOB)
    assert len(proxy.requests("GET", "blobs")) == 2


async def test_a_stalled_transfer_goes_on(client: RegistryClient, proxy: FaultyProxy, content: ContentStore):
    stalled = Fault(path="blobs", hold_after=200_000)
    proxy.faults = [stalled]
    assert await download(client, proxy.host, content) == len(BLOB)
    assert stalled.held.is_set()


async def test_what_came_is_kept_for_the_next_attempt(client: RegistryClient, proxy: FaultyProxy, content: ContentStore):
    dead = Fault(path="blobs", times=-1, status=503)
    proxy.faults = [Fault(path="blobs", times=2), Fault(path="blobs", cut_after=500_000), dead]
    with pytest.raises(RegistryBusy):
        await download(client, proxy.host, content)
    proxy.faults = []
    assert MIB <= await download(client, proxy.host, ContentStore(content.root)) < len(BLOB) - MIB


async def test_a_server_that_only_cuts_is_given_up(client: RegistryClient, proxy: FaultyProxy, content: ContentStore):
    proxy.faults = [Fault(path="blobs", times=-1, cut_after=0)]
    with pytest.raises(Unreachable, match="EOF"):
        await download(client, proxy.host, content)
    assert len(proxy.requests("GET", "blobs")) <= 3 * QUICK.attempts


async def test_wrong_lengths(client: RegistryClient, proxy: FaultyProxy, content: ContentStore):
    proxy.faults = [Fault(path="blobs", times=-1, without_ranges=True, announce=len(BLOB) + 1)]
    with pytest.raises(DigestMismatch, match="bytes, not"):
        await download(client, proxy.host, content)
    # A registry that has less than its manifest says.
    proxy.faults = []
    with pytest.raises(DigestMismatch, match="not 6000000 as announced"):
        await download(client, proxy.host, content, size=6_000_000)
    proxy.faults = [Fault(path="blobs", times=-1, headers={"Content-Range": "bytes 5-1048580/*"})]
    with pytest.raises(BadAnswer, match="sends others"):
        await download(client, proxy.host, content)


async def test_wrong_content(client: RegistryClient, proxy: FaultyProxy, content: ContentStore):
    proxy.faults = [Fault(path="blobs", change=lambda data: b"x" + data[1:])]
    with pytest.raises(DigestMismatch, match="has digest"):
        await download(client, proxy.host, content)
    assert not Path(content.path(DIGEST)).exists()
    # Nothing of it is taken for good later.
    assert await download(client, proxy.host, content) == len(BLOB)


async def test_content_encodings_are_refused(client: RegistryClient, proxy: FaultyProxy, content: ContentStore):
    proxy.faults = [Fault(path="blobs", times=-1, headers={"Content-Encoding": "gzip"})]
    with pytest.raises(BadAnswer, match="encoding"):
        await download(client, proxy.host, content)


async def test_registries_are_waited_for_as_they_ask(client: RegistryClient, proxy: FaultyProxy, registry: Registry):
    image = RemoteImage([layer({"busy": b"1"})])
    image.put(registry, "r", "busy")
    loop = asyncio.get_running_loop()
    proxy.faults = [Fault(path="manifests", status=429, headers={"Retry-After": "1"}), Fault(path="manifests", status=502)]
    began = loop.time()
    assert (await manifests.get(await place(client, proxy.host), "busy")).digest == image.digest
    assert loop.time() - began >= 1
    body = b'{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your pull rate limit"}]}'
    proxy.faults = [Fault(path="manifests", times=-1, status=429, headers={"Retry-After": "3600"}, body=body)]
    with pytest.raises(RegistryBusy, match="toomanyrequests: You have reached your pull rate limit"):
        await manifests.get(await place(client, proxy.host), "busy")
    assert len(proxy.requests("GET", "manifests/busy")) == 4


async def test_manifests_that_lie(client: RegistryClient, proxy: FaultyProxy, registry: Registry):
    image = RemoteImage([layer({"lies": b"1"})])
    image.put(registry, "r", "lies")
    target = await place(client, proxy.host)
    proxy.faults = [Fault(path="manifests", change=lambda data: data + b" ", headers={"Docker-Content-Digest": None})]
    with pytest.raises(DigestMismatch, match="manifest verification failed"):
        await manifests.get(target, image.digest)
    proxy.faults = [Fault(path="manifests", headers={"Docker-Content-Digest": sha256(b"another")})]
    with pytest.raises(DigestMismatch):
        await manifests.get(target, "lies")
    proxy.faults = [Fault(path="manifests", headers={"Content-Type": OCI_INDEX})]
    with pytest.raises(BadDocument, match="served as"):
        await manifests.get(target, "lies")
    proxy.faults = [Fault(path="manifests", change=lambda _: b" " * (documents.LIMIT + 1))]
    with pytest.raises(BadAnswer, match="allowed"):
        await manifests.get(target, "lies")
    proxy.faults = [Fault(path="manifests", times=-1, headers={"X-Large": "x" * 20_000})]
    with pytest.raises(BadAnswer):
        await manifests.get(target, "lies")


AMBIGUOUS = [
    {"schemaVersion": 2, "manifests": [], "layers": [], "config": {}},
    {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "manifests": []},
    {"schemaVersion": 2, "Manifests": [], "config": {}, "layers": []},
    {"schemaVersion": 2, "fsLayers": [], "config": {}, "layers": []},
    {"schemaVersion": 1, "name": "r", "fsLayers": []},
    {"schemaVersion": 3, "manifests": []},
    {"schemaVersion": 2, "mediaType": "application/vnd.example", "manifests": []},
    [],
]


@pytest.mark.parametrize("served_as", [OCI_INDEX, OCI_MANIFEST, DOCKER_MANIFEST, "application/json", ""])
@pytest.mark.parametrize("document", AMBIGUOUS, ids=range(len(AMBIGUOUS)))
def test_documents_of_two_kinds_are_refused(document: object, served_as: str):
    with pytest.raises(BadDocument):
        documents.read(json.dumps(document).encode(), served_as)


def test_fields_given_twice_are_refused():
    with pytest.raises(BadDocument, match="twice"):
        documents.read(b'{"schemaVersion":2,"manifests":[],"manifests":[]}', OCI_INDEX)


# Who gets to know the credentials


def basic_challenge(proxy: FaultyProxy) -> Fault:
    return Fault(path="manifests", status=401, headers={"WWW-Authenticate": 'Basic realm="r"'})


def told(proxy: FaultyProxy) -> list[str]:
    return [seen.headers["Authorization"] for seen in proxy.seen if "Authorization" in seen.headers]


async def test_redirects_leave_credentials_behind(client: RegistryClient, proxy: FaultyProxy, registry: Registry):
    image = RemoteImage([layer({"redirected": b"1"})])
    image.put(registry, "r", "redirected")
    with FaultyProxy(registry.host) as other:
        away = Fault(path="manifests", status=307, headers={"Location": f"http://{other.host}/v2/r/manifests/redirected"})
        proxy.faults = [basic_challenge(proxy), away]
        document = await manifests.get(await place(client, proxy.host, ANNA), "redirected")
        assert document.digest == image.digest
        assert told(proxy) == ["Basic " + base64.b64encode(b"anna:secret").decode()]
        assert other.seen
        assert not told(other)


async def test_whom_one_is_redirected_to_asks_for_nothing(client: RegistryClient, proxy: FaultyProxy, registry: Registry):
    with FaultyProxy(registry.host) as other:
        away = Fault(path="manifests", times=-1, status=307, headers={"Location": f"http://{other.host}/v2/r/manifests/x"})
        proxy.faults = [basic_challenge(proxy), away]
        other.faults = [
            Fault(path=".", times=-1, status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{other.host}/token"'})
        ]
        with pytest.raises(AccessDenied):
            await manifests.get(await place(client, proxy.host, ANNA), "x")
        assert not told(other)
        assert not other.requests("GET", "/token")


async def test_a_token_server_elsewhere_gets_them_for_the_token_only(
    client: RegistryClient, proxy: FaultyProxy, registry: Registry
):
    """A realm may be anywhere, as the specification has it; where that redirects to, nothing is told."""
    with FaultyProxy(registry.host) as server, FaultyProxy(registry.host) as third:
        realm = f'Bearer realm="http://{server.host}/token",service="s"'
        proxy.faults = [Fault(path="manifests", times=-1, status=401, headers={"WWW-Authenticate": realm})]
        server.faults = [Fault(path="/token", times=-1, status=302, headers={"Location": f"http://{third.host}/token"})]
        third.faults = [Fault(path="/token", times=-1, status=200, body=b'{"token":"stolen"}')]
        with pytest.raises(BadAnswer, match="redirect"):
            await manifests.get(await place(client, proxy.host, ANNA), "x")
        assert told(server)
        assert not told(third)
        assert not told(proxy)


async def test_a_realm_without_tls_is_not_asked_for_a_registry_with_tls(
    client: RegistryClient, registry: Registry, authority: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr("boxshipd.registry.hosts._LOOPBACK", ())
    client.hosts.configure((), (), {})
    with FaultyProxy(registry.host, authority.issue("proxy")) as secure, FaultyProxy(registry.host) as server:
        trusted = tmp_path / secure.host
        trusted.mkdir()
        (trusted / "ca.crt").write_bytes(authority.ca.read_bytes())
        realm = f'Bearer realm="http://{server.host}/token"'
        secure.faults = [Fault(path="manifests", times=-1, status=401, headers={"WWW-Authenticate": realm})]
        with pytest.raises(BadAnswer, match="without TLS"):
            await manifests.get(await place(client, secure.host, ANNA), "x")
        # What the registry asked for is forgotten with that, so that it can be put right.
        away = {"Location": f"http://{server.host}/v2/r/manifests/x"}
        secure.faults = [Fault(path="manifests", times=-1, status=307, headers=away)]
        with pytest.raises(BadAnswer, match="plain HTTP"):
            await manifests.get(await place(client, secure.host, ANNA), "x")
        assert not server.seen


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


async def test_addresses_in_manifests_are_never_asked(
    client: RegistryClient, proxy: FaultyProxy, registry: Registry, tmp_path: Path
):
    """Foreign layers come from the registry or not at all, as with Docker on Linux."""
    with FaultyProxy(registry.host) as foreign:
        image = RemoteImage([layer({"foreign": b"1"})])
        document = json.loads(image.manifest)
        document["layers"][0]["urls"] = [f"http://{foreign.host}/v2/r/blobs/{sha256(image.blobs[0])}"]
        parsed = documents.read(json.dumps(document).encode(), OCI_MANIFEST)
        remote = Remote(reference.parse(f"{proxy.host}/r"), [await place(client, proxy.host, ANNA)])
        described = parsed.content.layers[0]
        with pytest.raises(RegistryError):
            await remote.blob(described.digest, described.size)
        assert not foreign.seen


async def test_upload_locations_elsewhere_get_no_credentials(
    client: RegistryClient, proxy: FaultyProxy, registry: Registry, tmp_path: Path
):
    with FaultyProxy(registry.host) as other:
        (tmp_path / "blob").write_bytes(b"blob")
        proxy.faults = [
            Fault("POST", "uploads", status=401, headers={"WWW-Authenticate": 'Basic realm="r"'}),
            Fault("POST", "uploads", status=202, headers={"Location": f"http://{other.host}/v2/r/blobs/uploads/x"}),
        ]
        with ThreadPoolExecutor(1) as threads:
            target = await place(client, proxy.host, ANNA)
            await uploads.Upload(target, sha256(b"blob"), str(tmp_path / "blob"), 4, threads, sent=lambda _: None).run()
        # Nobody knows the upload there, so it begins anew where it belongs.
        assert other.requests("PATCH", "uploads")
        assert told(proxy)
        assert not told(other)


async def test_tags_that_do_not_end(client: RegistryClient, proxy: FaultyProxy, registry: Registry):
    target = await place(client, proxy.host)
    RemoteImage([layer({"tags": b"1"})]).put(registry, "r", "tags")
    assert "tags" in await tags.listed(target)
    again = {"Link": '</v2/r/tags/list?n=1&last=a>; rel="next"'}
    proxy.faults = [Fault(path="tags/list", times=-1, headers=again)]
    with pytest.raises(BadAnswer, match="end"):
        await tags.listed(target)
    proxy.faults = [Fault(path="tags/list", headers={"Link": '<http://elsewhere.example/>; rel="next"'})]
    with pytest.raises(BadAnswer, match="another host"):
        await tags.listed(target)


async def test_what_a_descriptor_names_must_have_its_size(client: RegistryClient, registry: Registry):
    image = RemoteImage([layer({"inner": b"1"})])
    image.put(registry, "r", "inner")
    inner = index(image)
    outer = {"mediaType": OCI_INDEX, "digest": sha256(inner), "size": len(inner) + 1}
    registry.put_manifest("r", sha256(inner), inner, OCI_INDEX)
    remote = Remote(reference.parse(f"{registry.host}/r"), [await place(client, registry.host)])
    document = documents.read(json.dumps({"schemaVersion": 2, "manifests": [outer]}).encode(), OCI_INDEX)
    with pytest.raises(BadDocument, match="listed as"):
        await remote.document(document.content.manifests[0])


# Pushes


async def upload(client: RegistryClient, host: str, data: bytes, tmp_path: Path) -> list[int]:
    """Upload a blob; how far it was, time after time."""
    (tmp_path / "blob").write_bytes(data)
    sent: list[int] = []
    with ThreadPoolExecutor(2) as threads:
        target = (await client.repositories(reference.parse(f"{host}/up"), ANONYMOUS, "push"))[-1]
        await uploads.Upload(target, sha256(data), str(tmp_path / "blob"), len(data), threads, sent=sent.append).run()
    return sent


async def test_uploads_in_chunks(client: RegistryClient, proxy: FaultyProxy, registry: Registry, tmp_path: Path):
    data = noise(5 * MIB, 11)
    sent = await upload(client, proxy.host, data, tmp_path)
    assert sent[-1] == len(data)
    assert sent == sorted(sent)
    ranges = [seen.headers["Content-Range"] for seen in proxy.requests("PATCH", "uploads")]
    assert ranges == ["0-2097151", "2097152-4194303", "4194304-5242879"]
    assert registry.blob_path(sha256(data)).read_bytes() == data


async def test_uploads_go_on_where_they_were_cut(client: RegistryClient, tmp_path: Path):
    data = noise(5 * MIB, 12)
    with UploadServer() as server:
        server.cuts = [MIB, 0, MIB // 2]
        await upload(client, server.host, data, tmp_path)
        assert server.blobs[sha256(data)] == data
        assert server.begun == 1
        starts = [int(text.partition("-")[0]) for text in server.ranges]
    # Each begins where the last one ended, whole or not.
    assert starts == [0, MIB, MIB, MIB * 3 // 2, MIB * 7 // 2]


async def test_an_upload_goes_on_after_a_refused_chunk(
    client: RegistryClient, proxy: FaultyProxy, registry: Registry, tmp_path: Path
):
    data = noise(5 * MIB, 16)
    passes = Fault("PATCH", "uploads")
    proxy.faults = [passes, Fault("PATCH", "uploads", status=502)]
    await upload(client, proxy.host, data, tmp_path)
    assert registry.blob_path(sha256(data)).read_bytes() == data
    ranges = [seen.headers["Content-Range"] for seen in proxy.requests("PATCH", "uploads")]
    assert ranges == ["0-2097151", "2097152-4194303", "2097152-4194303", "4194304-5242879"]
    assert len(proxy.requests("POST", "uploads")) == 1


async def test_an_upload_that_was_cut_begins_anew_where_it_must(
    client: RegistryClient, proxy: FaultyProxy, registry: Registry, tmp_path: Path
):
    """docker-registry gives an upload up whose client doesn't know how far it has come."""
    data = noise(5 * MIB, 17)
    proxy.faults = [Fault("PATCH", "uploads"), Fault("PATCH", "uploads", cut_upload_after=MIB)]
    await upload(client, proxy.host, data, tmp_path)
    assert registry.blob_path(sha256(data)).read_bytes() == data


async def test_an_upload_the_registry_has_lost_begins_anew(
    client: RegistryClient, proxy: FaultyProxy, registry: Registry, tmp_path: Path
):
    data = noise(3 * MIB, 13)
    proxy.faults = [Fault("PATCH", "uploads", status=404), Fault("GET", "uploads", status=404)]
    await upload(client, proxy.host, data, tmp_path)
    assert registry.blob_path(sha256(data)).read_bytes() == data
    assert len(proxy.requests("POST", "uploads")) == 2


async def test_a_busy_registry_is_pushed_to_later(
    client: RegistryClient, proxy: FaultyProxy, registry: Registry, tmp_path: Path
):
    data = noise(MIB, 14)
    proxy.faults = [
        Fault("POST", "uploads", status=503),
        Fault("PATCH", "uploads", status=500),
        Fault("PUT", "uploads", status=502),
    ]
    await upload(client, proxy.host, data, tmp_path)
    assert registry.blob_path(sha256(data)).read_bytes() == data


async def test_tokens_are_got_again_in_the_midst_of_an_upload(client: RegistryClient, authority: Authority, tmp_path: Path):
    with TokenServer(authority) as server, Registry(token=server) as registry, FaultyProxy(registry.host) as proxy:
        data = noise(3 * MIB, 15)
        realm = f'Bearer realm="{server.realm}",service="{server.service}",error="invalid_token"'
        proxy.faults = [Fault("PATCH", "uploads", times=1, status=401, headers={"WWW-Authenticate": realm})]
        (tmp_path / "blob").write_bytes(data)
        known = Credentials("anna", "pass:w0rd")
        target = (await client.repositories(reference.parse(f"{proxy.host}/up"), known, "push"))[-1]
        with ThreadPoolExecutor(2) as threads:
            await uploads.Upload(target, sha256(data), str(tmp_path / "blob"), len(data), threads, sent=lambda _: None).run()
        assert len(server.asked) == 2
        assert hashlib.sha256(registry.blob_path(sha256(data)).read_bytes()).hexdigest() == sha256(data)[7:]


def test_sizes_in_descriptors_are_bounded():
    image = RemoteImage([layer({"size": b"1"})])
    document = json.loads(image.manifest)
    document["layers"][0]["size"] = -1
    with pytest.raises(BadDocument):
        documents.read(json.dumps(document).encode(), OCI_MANIFEST)
    document["layers"] = [dict(document["layers"][0], size=1)] * 2000
    with pytest.raises(BadDocument, match="allowed"):
        documents.read(json.dumps(document).encode(), OCI_MANIFEST)
    document["layers"] = [dict(document["layers"][0], digest="sha256:../../etc/passwd")]
    with pytest.raises(InvalidParameter):
        documents.read(json.dumps(document).encode(), OCI_MANIFEST)
