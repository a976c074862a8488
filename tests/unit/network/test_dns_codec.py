"""The codec: what it writes it reads, and nothing that comes in does it harm."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from boxrun.network.dns import codec
from boxrun.network.dns.codec import MalformedError, Query
from hypothesis import given
from hypothesis import strategies as st


def query(name: str = "Example.org", kind: int = codec.A, *, edns: int = 0, identity: int = 7) -> tuple[bytes, Query]:
    """A query and its bytes."""
    opt = b"\0" + (41).to_bytes(2, "big") + edns.to_bytes(2, "big") + bytes(6) if edns else b""
    head = codec.HEADER.pack(identity, 0x100, 1, 0, 0, int(bool(edns)))
    data = head + codec.write_name(name) + kind.to_bytes(2, "big") + b"\0\1" + opt
    return data, codec.parse_query(data)


def test_a_query() -> None:
    _, parsed = query(edns=4096)
    assert (parsed.name, parsed.kind, parsed.size, parsed.edns, parsed.plain) == ("example.org", codec.A, 4096, True, True)


def test_an_answer_is_read_back() -> None:
    _, parsed = query()
    answer = codec.address_answer(parsed, [IPv4Address("192.0.2.1"), IPv6Address("::1")], 60, 512).to(b"\0\7")
    response = codec.parse_response(answer, parsed, 7)
    assert (response.records, response.ttl, response.good, response.positive) == (1, 60, True, True)
    assert answer.endswith(bytes([192, 0, 2, 1]))


def test_what_does_not_fit_is_cut_off_and_said_so() -> None:
    _, parsed = query(edns=1232)
    addresses = [IPv4Address(number) for number in range(200)]
    answer = codec.address_answer(parsed, addresses, 60, 512)
    for _ in range(3):
        cut = answer.to(b"\0\7")
        assert 512 - 16 < len(cut) <= 512
        assert codec.parse_response(cut, parsed, 7).truncated
    whole = codec.address_answer(parsed, addresses, 60, 65535)
    assert (answer.truncated, whole.truncated) == (True, False)
    response = codec.parse_response(whole.to(b"\0\7"), parsed, 7)
    assert (response.truncated, response.records) == (False, 200)


def test_each_record_comes_first_in_turn() -> None:
    _, parsed = query()
    answer = codec.address_answer(parsed, [IPv4Address(number) for number in range(3)], 60, 512)
    last = [answer.to(b"\0\7")[-1] for _ in range(4)]
    assert sorted(last[:3]) == [0, 1, 2]
    assert last[3] == last[0]


def test_an_owner_whose_name_no_message_can_have_is_left_out() -> None:
    _, parsed = query("2.0.0.10.in-addr.arpa", codec.PTR)
    answer = codec.name_answer(parsed, ["x" * 64, "web.front"], 60, 512).to(b"\0\7")
    assert codec.parse_response(answer, parsed, 7).records == 1


def test_an_answer_gets_older_and_has_each_clients_spelling() -> None:
    _, parsed = query()
    response = codec.parse_response(codec.address_answer(parsed, [IPv4Address("192.0.2.1")], 60, 512).to(b"\0\7"), parsed, 7)
    data, other = query("EXAMPLE.ORG", identity=9)
    given_ = codec.for_client(other, response, 20, 512)
    assert codec.parse_response(given_, other, 9).ttl == 40
    assert given_[12:25] == data[12:25]


@pytest.mark.parametrize("wrong", ["number", "name", "kind", "question"])
def test_answers_to_other_questions_are_refused(wrong: str) -> None:
    _, parsed = query()
    _, other = query("example.com" if wrong == "name" else "example.org", codec.AAAA if wrong == "kind" else codec.A)
    answer = codec.address_answer(other, [], 60, 512).to(b"\0\7")
    if wrong == "question":
        answer = answer[:4] + bytes(8) + answer[12:]
    with pytest.raises(MalformedError):
        codec.parse_response(answer, parsed, 8 if wrong == "number" else 7)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(11),
        codec.HEADER.pack(1, 0, 2, 0, 0, 0) + b"\0\0\1\0\1",
        codec.HEADER.pack(1, 0x8000, 1, 0, 0, 0) + b"\0\0\1\0\1",
        codec.HEADER.pack(1, 0, 1, 0, 0, 0) + b"\xc0\x0c\0\1\0\1",
        codec.HEADER.pack(1, 0, 1, 0, 0, 0) + b"\x3fabc",
        codec.HEADER.pack(1, 0, 1, 0, 0, 0) + b"\x3f" + b"a" * 63 + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1",
    ],
)
def test_what_is_no_query_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        codec.parse_query(data)


def test_pointers_in_a_circle_end() -> None:
    data = codec.HEADER.pack(1, 0, 1, 1, 0, 0) + b"\xc0\x0c"
    with pytest.raises(MalformedError):
        codec.read_name(data, 12)


@given(st.binary(max_size=600))
def test_anything_is_a_query_or_malformed(data: bytes) -> None:
    try:
        parsed = codec.parse_query(data)
    except MalformedError:
        codec.malformed_failure(data)
        return
    for code in (codec.SERVFAIL, codec.NXDOMAIN):
        assert codec.failure(parsed, code)[:2] == data[:2]
    assert codec.address_answer(parsed, [IPv4Address("192.0.2.1")], 60, 512).to(data[:2])[:2] == data[:2]


@given(st.data())
def test_a_mutilated_answer_is_an_answer_or_malformed(data: st.DataObject) -> None:
    _, parsed = query()
    answer = bytearray(codec.address_answer(parsed, [IPv4Address(1), IPv4Address(2)], 60, 512).to(b"\0\7"))
    for _ in range(data.draw(st.integers(0, 6))):
        answer[data.draw(st.integers(0, len(answer) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(answer[: data.draw(st.integers(0, len(answer)))])
    try:
        response = codec.parse_response(cut, parsed, 7)
    except MalformedError:
        return
    codec.for_client(parsed, response, 5, 512)


@given(st.ip_addresses())
def test_reverse_names(address: IPv4Address | IPv6Address) -> None:
    assert codec.reverse_address(address.reverse_pointer) == address


@pytest.mark.parametrize("name", ["x.in-addr.arpa", "1.2.3.in-addr.arpa", "1.ip6.arpa", "in-addr.arpa", "a\\.b.in-addr.arpa"])
def test_names_that_are_nobodys_address(name: str) -> None:
    assert codec.reverse_address(name) is None


def test_addresses_are_told_apart_by_version() -> None:
    _, parsed = query(kind=codec.AAAA)
    answer = codec.address_answer(parsed, [ip_address("192.0.2.1")], 60, 512).to(b"\0\7")
    assert codec.parse_response(answer, parsed, 7).records == 0
