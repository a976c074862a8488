"""The list of what refers to a manifest, from registries that have one, and signatures found by it."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from boxshipd.errors import DaemonError
from boxshipd.images import reference
from boxshipd.images.remote import Remote
from boxshipd.images.signatures import RemoteSignatures
from boxshipd.registry import referrers
from boxshipd.registry.client import RegistryClient
from boxshipd.registry.credentials import ANONYMOUS
from boxshipd.registry.documents import LIMIT
from boxshipd.registry.errors import Absent, BadAnswer, RegistryBusy
from boxshipd.registry.settings import ClientSettings
from boxshipd.registry.timing import Timing
from boxshipd.trust.errors import Untrusted
from boxshipd.trust.verifier import open_trust
from support.archives import digest
from support.cosign import COSIGN_ARTIFACT as SIG
from support.cosign import INDEX, MANIFEST, Signer, payload, referrer_manifest, referrers_index, signed_layer
from support.trust import IMAGE, signed_by

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    """A registry on loopback that answers by ``answer``; its host."""
    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def remote_of(host: str, mirrors: tuple[str, ...] = ()) -> AsyncIterator[Remote]:
    """A repository at a host, whose mirrors are asked first."""
    from boxshipd.registry.hosts import RegistrySettings

    registries = {host: RegistrySettings(mirrors=tuple(f"http://{mirror}" for mirror in mirrors))}
    client = RegistryClient(ClientSettings(registries=registries, timing=Timing(attempts=1)))
    try:
        name = reference.parse(f"{host}/team/app:1")
        yield Remote(name, await client.repositories(name, ANONYMOUS, "pull"))
    finally:
        await client.close()


async def pages(remote: Remote) -> list[tuple[bytes, str]]:
    return [page async for page in referrers.pages(remote.places[-1], digest(IMAGE))]


async def test_all_pages_of_a_list(tmp_path):
    async def answer(request: web.Request) -> web.Response:
        assert request.path == f"/v2/team/app/referrers/{digest(IMAGE)}"
        page = int(request.query.get("page", 0))
        headers = {"Link": f'<{request.path}?page={page + 1}>; rel="next"'} if page < 2 else {}
        return web.Response(body=b"%d" % page, content_type=INDEX, headers=headers)

    async with serving(answer) as host, remote_of(host) as remote:
        assert await pages(remote) == [(b"0", INDEX), (b"1", INDEX), (b"2", INDEX)]


@pytest.mark.parametrize("status", [400, 404, 405, 406])
async def test_registries_without_the_list(status):
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async with serving(answer) as host, remote_of(host) as remote:
        with pytest.raises(Absent):
            await pages(remote)
        assert [page async for page in RemoteSignatures(remote).referrers(digest(IMAGE))] == []


@pytest.mark.parametrize(
    ("status", "error"), [(500, RegistryBusy), (429, RegistryBusy), (403, DaemonError), (401, DaemonError)]
)
async def test_a_failure_is_no_absence(status, error):
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async with serving(answer) as host, remote_of(host) as remote:
        with pytest.raises(error):
            await anext(RemoteSignatures(remote).referrers(digest(IMAGE)))
        with pytest.raises(error):
            await RemoteSignatures(remote).manifest("1")
        with pytest.raises(error):
            await RemoteSignatures(remote).blob(digest(IMAGE), len(IMAGE))


async def test_a_page_has_its_bound():
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=b" " * (LIMIT + 1), content_type=INDEX)

    async with serving(answer) as host, remote_of(host) as remote:
        with pytest.raises(BadAnswer, match=r"more than the \d+ allowed"):
            await pages(remote)


class Signed:
    """A registry with a signed image, as far as ``has`` says: "referrers", "manifests", "blobs"."""

    def __init__(self, name: str, *has: str) -> None:
        layer = signed_layer(Signer(), payload(name, digest(IMAGE)))
        manifest = referrer_manifest([layer], IMAGE, SIG, SIG)
        documents = {f"referrers/{digest(IMAGE)}": (referrers_index([manifest], SIG), INDEX)}
        documents[f"manifests/{digest(manifest)}"] = manifest, MANIFEST
        documents[f"blobs/{digest(layer.data)}"] = layer.data, "application/octet-stream"
        self.documents = {path: found for path, found in documents.items() if path.partition("/")[0] in has}
        self.empty = json.loads(referrers_index([]))

    async def __call__(self, request: web.Request) -> web.Response:
        path = request.path.removeprefix("/v2/team/app/")
        if path in self.documents:
            data, media_type = self.documents[path]
            return web.Response(body=data, content_type=media_type)
        if path.startswith("referrers/"):
            return web.Response(body=json.dumps(self.empty).encode(), content_type=INDEX)
        return web.Response(status=404)


async def judge(tmp_path, remote: Remote, host: str) -> None:
    requirement = signed_by(tmp_path, Signer())
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"default": [{"type": "reject"}], "transports": {"docker": {host: [requirement]}}}))
    await open_trust(str(path)).verify(remote.name, digest(IMAGE), IMAGE, RemoteSignatures(remote))


async def test_a_signature_that_the_registry_lists(tmp_path):
    async def late(request: web.Request) -> web.StreamResponse:
        return await registry(request)

    async with serving(late) as host, remote_of(host) as remote:
        registry = Signed(f"{host}/team/app", "referrers", "manifests", "blobs")
        await judge(tmp_path, remote, host)
        registry = Signed(f"{host}/team/app", "manifests", "blobs")
        with pytest.raises(Untrusted, match="found: no signature"):
            await judge(tmp_path, remote, host)


async def test_a_mirror_needs_not_have_the_signatures_of_what_it_has(tmp_path):
    async def late(request: web.Request) -> web.StreamResponse:
        return await registry(request)

    async def mirrored(request: web.Request) -> web.StreamResponse:
        return await mirror(request)

    async with serving(late) as host, serving(mirrored) as copy, remote_of(host, (copy,)) as remote:
        mirror = Signed(f"{host}/team/app")
        registry = Signed(f"{host}/team/app", "referrers", "manifests", "blobs")
        assert len(remote.places) == 2
        await judge(tmp_path, remote, host)
        mirror = registry
        registry = Signed(f"{host}/team/app")
        await judge(tmp_path, remote, host)
