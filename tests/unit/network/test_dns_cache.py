"""The cache of answers, and the names of containers."""

from __future__ import annotations

from ipaddress import ip_address

from boxrun.network.contract import NamesChange, Record
from boxrun.network.dns.cache import Cache
from boxrun.network.dns.codec import Response
from boxrun.network.dns.names import Directory


def response(ttl: int, size: int = 100) -> Response:
    """An answer."""
    return Response(bytes(size), 0, 1, False, ttl, ())


def test_answers_age_and_end() -> None:
    now = [0.0]
    cache = Cache(clock=lambda: now[0])
    cache.put("a", response(10))
    now[0] = 9.9
    assert cache.get("a") == (response(10), 9)
    now[0] = 10.0
    assert cache.get("a") is None
    assert len(cache) == 0


def test_what_may_not_be_kept_is_not() -> None:
    cache = Cache()
    cache.put("a", response(10))
    cache.put("a", response(0))
    assert cache.get("a") is None


def test_who_was_not_asked_for_longest_goes_first() -> None:
    cache = Cache(largest=1000)
    cache.put("a", response(10))
    cache.put("b", response(10))
    assert cache.get("a") is not None
    cache.put("c", response(10))
    assert cache.get("b") is None
    assert cache.get("a") is not None
    cache.put("d", response(10, 2000))
    assert cache.get("d") is None
    assert len(cache) == 2


def record(endpoint: str, name: str, *addresses: str, aliases: tuple[str, ...] = ()) -> Record:
    """A container's names."""
    return Record(endpoint=endpoint, name=name, names=(name, *aliases), addresses=addresses)


def test_names_change() -> None:
    directory = Directory()
    directory.call("n", "Front")
    change = NamesChange(
        network="n",
        records=(record("1", "one", "10.0.0.2", aliases=("Web",)), record("2", "two", "10.0.0.3", aliases=("web",))),
    )
    directory.change(change)
    assert directory.find("web", ["n"]) == [ip_address("10.0.0.2"), ip_address("10.0.0.3")]
    assert directory.find("one.front", ["n"]) == [ip_address("10.0.0.2")]
    assert directory.find("one", ["m"]) is None
    assert directory.owners(ip_address("10.0.0.3"), ["m", "n"]) == ["two.front"]
    directory.change(NamesChange(network="n", records=(record("2", "two", "10.0.0.2"),), gone=("1",)))
    assert directory.find("web", ["n"]) is None
    assert directory.owners(ip_address("10.0.0.2"), ["n"]) == ["two.front"]
    directory.change(NamesChange(network="n", whole=True))
    assert directory.find("two", ["n"]) is None
    assert directory.owners(ip_address("10.0.0.2"), ["n"]) == []
