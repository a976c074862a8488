"""Answers that are kept ready: the same as those that aren't, and gone when what they say is no longer so."""

from __future__ import annotations

import pytest
from boxrun.network.contract import NamesChange, Record, Resolver
from boxrun.network.dns import codec
from boxrun.network.dns.answers import Answers, Client
from boxrun.network.dns.cache import Cache
from boxrun.network.dns.names import Directory
from boxrun.network.dns.prepared import MOST, Prepared
from support.dns import parsed, question


class Server:
    """A directory with the names of one network, the answers from it, and a container of that network."""

    def __init__(self) -> None:
        self.directory = Directory()
        self.prepared = Prepared()
        self.answers = Answers(self.directory, Cache(), self.prepared)
        self.client = self.container("n")

    def container(self, *networks: str) -> Client:
        """A container on these networks."""
        client = Client("c")
        client.settle(networks, Resolver())
        return client

    def names(self, *addresses: str) -> None:
        """Call these addresses "web" from now on."""
        records = tuple(
            Record(endpoint=address, name="one", names=("one", "web"), addresses=(address,)) for address in addresses
        )
        self.directory.change(NamesChange(network="n", records=records, whole=True))
        self.prepared.clear()

    def ask(self, data: bytes, client: Client | None = None) -> tuple[int, list[str]]:
        """Ask in a datagram."""
        answer = self.answers.datagram(client or self.client, data)
        assert isinstance(answer, bytes)
        assert answer[:2] == data[:2]
        query = codec.parse_query(data)
        assert answer[12 : 12 + len(query.question)] == query.question
        return parsed(answer, query)


@pytest.fixture
def server() -> Server:
    """A server."""
    return Server()


def test_a_repeated_query_is_not_parsed_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    server.names("10.0.0.2")
    first = server.ask(question("web", identity=1))
    count = 0
    parse = codec.parse_query

    def counting(data: bytes) -> codec.Query:
        nonlocal count
        count += 1
        return parse(data)

    monkeypatch.setattr(codec, "parse_query", counting)
    answer = server.answers.datagram(server.client, question("web", identity=2))
    assert count == 0
    assert isinstance(answer, bytes)
    assert (answer[:2], parsed(answer, parse(question("web", identity=2)))) == (b"\0\2", first)
    server.ask(question("WEB", identity=2))
    assert count > 0


def test_every_address_comes_first_in_turn(server: Server) -> None:
    addresses = ["10.0.0.2", "10.0.0.3", "10.0.0.4"]
    server.names(*addresses)
    answers = []
    for number in range(6):  # as programs ask: for addresses of both kinds
        answers.append(server.ask(question("web", identity=number))[1])
        assert server.ask(question("web", codec.AAAA, identity=number)) == (codec.NOERROR, [])
    assert all(sorted(found) == addresses for found in answers)
    assert sorted(found[0] for found in answers) == sorted(addresses * 2)


def test_other_names_are_answered_at_once(server: Server) -> None:
    server.names("10.0.0.2")
    assert server.ask(question("web")) == (codec.NOERROR, ["10.0.0.2"])
    server.names("10.0.0.3")
    assert server.ask(question("web")) == (codec.NOERROR, ["10.0.0.3"])
    server.names()
    assert server.ask(question("web"))[0] == codec.SERVFAIL


def test_an_answer_is_its_containers_own(server: Server) -> None:
    server.names("10.0.0.2")
    assert server.ask(question("web")) == (codec.NOERROR, ["10.0.0.2"])
    assert server.ask(question("web"), server.container("another"))[0] == codec.SERVFAIL


def test_the_same_name_in_another_form_has_its_own_answer(server: Server) -> None:
    server.names("10.0.0.2")
    plain = question("web")
    extended = plain[:11] + b"\1" + plain[12:] + b"\0" + codec.OPT.to_bytes(2, "big") + (1232).to_bytes(2, "big") + bytes(6)
    for data, records in ((plain, 0), (extended, 1), (plain, 0)):
        answer = server.answers.datagram(server.client, data)
        assert isinstance(answer, bytes)
        assert int.from_bytes(answer[10:12], "big") == records


def test_many_different_queries_take_no_more_room(server: Server) -> None:
    server.names("10.0.0.2")
    for number in range(5000):
        data = question("web", identity=number) + number.to_bytes(4, "big")  # what is behind the question is nobody's
        assert server.ask(data) == (codec.NOERROR, ["10.0.0.2"])
        assert 0 < len(server.prepared) <= MOST


def test_what_nobody_needs_again_is_not_kept(server: Server) -> None:
    server.names(*(f"10.0.1.{number}" for number in range(200)))
    assert len(server.ask(question("web"))[1]) < 200
    assert server.ask(question("nobody"))[0] == codec.SERVFAIL
    server.ask(question("one") + bytes(4000))
    assert len(server.prepared) == 0
