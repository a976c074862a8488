"""Every filter of ``ps``."""

from __future__ import annotations

import pytest
from boxrun.container.spec import Log
from boxship.types.containers import ContainerConfig, MountPoint
from boxship.types.host import HostConfig
from boxship.types.networks import NetworkCreateRequest
from boxshipd.containers.listing import Listing, parse_ports
from boxshipd.containers.model import Config, Container, State
from boxshipd.containers.registry import Registry
from boxshipd.errors import InvalidParameter, NotFound
from boxshipd.filters import Filters
from boxshipd.images.image import Image
from boxshipd.networks.model import Published
from support.network_bench import NetworkBench


class DictionaryImages:
    """Images by name."""

    def __init__(self, **images: Image) -> None:
        self._images = images

    async def resolve(self, text: str) -> Image:
        if text not in self._images:
            raise NotFound(f"No such image: {text}")
        return self._images[text]


def image(name: str, *layers: str) -> Image:
    return Image(f"sha256:{name}", ContainerConfig(), layers, "linux", "amd64", "", "", 0, (), ())


IMAGES = DictionaryImages(base=image("base", "/base"), child=image("child", "/child", "/base"))


def container(number: int, name: str, state: State, **config) -> Container:
    host = {"network_mode": config.pop("network", "none")}
    mounts = tuple(
        MountPoint(type="volume" if name else "bind", source=source, destination=target, mode="", rw=True, propagation="",
                   **({"name": name} if name else {}))
        for source, target, name in config.pop("mounts", ())
    )  # fmt: skip
    made = config.pop("image", IMAGES._images["base"])
    record = Config(
        id=f"{number:x}" * 64,
        created=number,
        image_id=made.id,
        layers=made.layers,
        config=ContainerConfig(**config),
        host_config=HostConfig(**host),
        path="sh",
        args=[],
        log=Log(),
        mounts=mounts,
    )
    return Container(name, record, state, "/nowhere")


FOURTH = State(
    running=True,
    started_at=1,
    paused=True,
    published=(Published(protocol="tcp", port=8080, host_ip="0.0.0.0", host_port=80),),
)
RUNNING = State(running=True, started_at=1)
EXITED = State(started_at=1, finished_at=2, exit_code=3)


@pytest.fixture
async def listing(tmp_path):
    async with NetworkBench(tmp_path) as bench:
        await bench.networks.create(NetworkCreateRequest(name="web"))
        yield await filled(bench)


async def filled(bench: NetworkBench) -> Listing:
    registry = Registry(bench.store, "/nowhere")
    for each in (
        container(1, "first", RUNNING, labels={"a": "b"}, exposed_ports={"80/tcp": {}, "53/udp": {}}),
        container(2, "second", EXITED, labels={"a": "c"}, mounts=[("/host", "/bound", ""), ("/v/_data", "/vol", "named")]),
        container(3, "third", State(), image=IMAGES._images["child"], network="default"),
        container(4, "fourth", FOURTH, exposed_ports={"8080/tcp": {}}, network="web"),
    ):
        registry.reserve(each.name, each.id)
        await registry.add(each)
    return Listing(registry, IMAGES, bench.networks)


async def names(listing: Listing, every: bool = True, limit: int = 0, **filters: list[str]) -> list[str]:
    chosen = Filters({name.replace("_not", "!").replace("_", "-"): values for name, values in filters.items()})
    rows = await listing.rows(every=every, limit=limit, size=False, filters=chosen)
    return [row.names[0].removeprefix("/") for row in rows]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, "fourth third second first"),
        ({"name": ["^/?f"]}, "fourth first"),
        ({"name": ["second"]}, "second"),
        ({"id": ["2222"]}, "second"),
        ({"label": ["a"]}, "second first"),
        ({"label": ["a=b"]}, "first"),
        ({"label": ["a", "a=c"]}, "second"),
        ({"label_not": ["a=c"]}, "fourth third first"),
        ({"status": ["paused", "created"]}, "fourth third"),
        ({"exited": ["3"]}, "second"),
        ({"exited": ["0"]}, ""),
        ({"before": ["third"]}, "second first"),
        ({"since": ["second"]}, "fourth third"),
        ({"before": ["fourth"], "since": ["first"]}, "third second"),
        ({"ancestor": ["base"]}, "fourth third second first"),
        ({"ancestor": ["child"]}, "third"),
        ({"ancestor": ["nobodys"]}, ""),
        ({"ancestor": ["nobodys", "child"]}, "third"),
        ({"network": ["bridge"]}, "third"),
        ({"network": ["none"]}, "second first"),
        ({"network": ["web", "none"]}, "fourth second first"),
        ({"network": ["nosuch"]}, ""),
        ({"volume": ["named"]}, "second"),
        ({"volume": ["/vol"]}, "second"),
        ({"volume": ["/host"]}, "second"),
        ({"volume": ["/v/_data"]}, ""),
        ({"expose": ["80"]}, "first"),
        ({"expose": ["53"]}, ""),
        ({"expose": ["53/udp"]}, "first"),
        ({"expose": ["8000-9000"]}, "fourth"),
        ({"expose": ["80", "8080/tcp"]}, "fourth first"),
        ({"publish": ["80"]}, ""),
        ({"publish": ["8080"]}, "fourth"),
        ({"health": ["none"]}, "fourth third second first"),
        ({"health": ["healthy"]}, ""),
        ({"is_task": ["true"]}, ""),
        ({"is_task": ["false"]}, "fourth third second first"),
        ({"isolation": ["hyperv"]}, ""),
    ],
)
async def test_what_a_filter_selects(listing, filters, expected):
    assert await names(listing, **filters) == expected.split()


async def test_a_status_or_a_limit_takes_those_that_do_not_run_too(listing):
    assert await names(listing, every=False) == ["fourth", "first"]
    assert await names(listing, every=False, status=["exited"]) == ["second"]
    assert await names(listing, every=False, limit=2) == ["fourth", "third"]
    assert await names(listing, every=False, limit=1, label=["a"]) == ["second"]


@pytest.mark.parametrize(
    ("filters", "message"),
    [
        ({"colour": ["red"]}, "invalid filter 'colour'"),
        ({"exited": ["x"]}, "invalid filter 'exited=x'"),
        ({"status": ["odd"]}, "invalid filter 'status=odd'"),
        ({"is_task": ["x"]}, "invalid filter 'is-task=[x]'"),
        ({"expose": ["80:90"]}, "filter for 'expose' should not contain ':': 80:90"),
        ({"publish": ["90-80"]}, "error while looking up for publish 90-80: invalid range specified for port: 90-80"),
        ({"publish": [""]}, "error while looking up for publish : empty string specified for ports"),
        ({"expose": ["x"]}, 'error while looking up for expose x: parsing "x": invalid syntax'),
        ({"expose": ["70000"]}, 'error while looking up for expose 70000: parsing "70000": value out of range'),
        ({"expose": ["80/x"]}, "error while looking up for expose 80/x: invalid proto: x"),
    ],
)
async def test_what_a_filter_cannot_be(listing, filters, message):
    with pytest.raises(InvalidParameter) as error:
        await names(listing, **filters)
    assert str(error.value).startswith(message)


async def test_containers_that_a_filter_names_must_be_there(listing):
    with pytest.raises(NotFound, match="No such container: nobody"):
        await names(listing, before=["nobody"])


def test_ports():
    assert parse_ports(Filters({"expose": ["1-3/udp", "9"]}), "expose") == {"1/udp", "2/udp", "3/udp", "9/tcp"}
