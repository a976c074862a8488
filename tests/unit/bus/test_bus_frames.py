"""The frame codec: whatever is sent arrives, however the bytes are cut; whatever else arrives is refused in bounded memory."""

from __future__ import annotations

import msgspec
import pytest
from boxrun.bus import BusError, Code, frames
from boxrun.bus.frames import FrameReader, Hello
from boxrun.bus.status import ProtocolError, decode_error, encode_error
from hypothesis import given
from hypothesis import strategies as st

MAX_PAYLOAD = 300_000

frame = st.tuples(
    st.integers(0, 255),
    st.integers(0, 255),
    st.integers(0, 65535),
    st.integers(0, 2**64 - 1),
    st.one_of(
        st.binary(max_size=200),
        st.builds(lambda size, byte: bytes([byte]) * size, st.integers(0, MAX_PAYLOAD), st.integers(0, 255)),
    ),
)


def encoded(kind: int, flags: int, fds: int, call: int, payload: bytes) -> bytes:
    return frames.encode_frame(kind, flags, call, payload, fds)


def read(reader: FrameReader, data: bytes, pieces: list[int]) -> list[tuple[int, int, int, int, bytes]]:
    """Feed ``data`` in pieces of at most the given sizes, cycling through them, as a socket would."""
    received: list[tuple[int, int, int, int, bytes]] = []
    position = turn = 0
    while position < len(data):
        room = reader.room()
        count = min(len(room), pieces[turn % len(pieces)], len(data) - position)
        assert count > 0
        room[:count] = data[position : position + count]
        reader.advance(count, lambda kind, flags, fds, call, payload: received.append((kind, flags, fds, call, bytes(payload))))
        position += count
        turn += 1
    return received


@given(st.lists(frame, max_size=8), st.lists(st.integers(1, 100_000), min_size=1, max_size=6))
def test_frames_arrive_however_they_are_cut(sent, pieces):
    reader = FrameReader(MAX_PAYLOAD)
    data = b"".join(encoded(*each) for each in sent)
    # Tiny pieces of large frames would only take long.
    least = max(1, len(data) // 500)
    assert read(reader, data, [max(piece, least) for piece in pieces]) == sent
    assert reader.partial == 0
    assert len(reader.room()) == FrameReader.ROOM


@given(st.lists(frame, min_size=1, max_size=3), st.data())
def test_half_a_frame_is_held_back(sent, data):
    stream = b"".join(encoded(*each) for each in sent)
    last = len(encoded(*sent[-1]))
    missing = data.draw(st.integers(1, last))
    reader = FrameReader(MAX_PAYLOAD)
    assert read(reader, stream[: len(stream) - missing], [1 << 20]) == sent[:-1]
    assert reader.partial == last - missing


@given(st.integers(MAX_PAYLOAD + 1, 2**32 - 1), frame)
def test_an_oversized_frame_is_refused_by_its_header(length, before):
    reader = FrameReader(MAX_PAYLOAD)
    data = encoded(*before) + frames.HEADER.pack(length, 1, 0, 0, 0)
    with pytest.raises(ProtocolError, match=f"frame of {length} bytes"):
        read(reader, data, [1 << 20])
    assert len(reader.room()) <= FrameReader.ROOM + MAX_PAYLOAD


@given(st.binary(max_size=2000), st.integers(1, 500))
def test_garbage_is_frames_or_refused(data, piece):
    reader = FrameReader(1000)
    try:
        received = read(reader, data, [piece])
    except ProtocolError:
        return
    assert b"".join(encoded(*each) for each in received) == data[: len(data) - reader.partial]


@given(
    st.binary(max_size=255),
    st.integers(0, 2**32 - 1),
    st.dictionaries(st.text(max_size=20), st.text(max_size=50), max_size=10),
    st.binary(max_size=100),
)
def test_openings_travel(method, deadline, metadata, request):
    payload = frames.encode_opening(method, deadline, metadata) + request
    opening = frames.decode_opening(memoryview(payload))
    assert (opening.method, opening.deadline, opening.metadata or {}) == (method, deadline, metadata)
    assert payload[opening.offset :] == request


@given(st.binary(max_size=300))
def test_malformed_openings_are_refused(payload):
    try:
        opening = frames.decode_opening(memoryview(payload))
    except ProtocolError:
        return
    assert opening.offset <= len(payload)


def test_openings_have_limits():
    with pytest.raises(ValueError, match="method name too long"):
        frames.encode_opening(b"x" * 256)
    with pytest.raises(ValueError, match="metadata too long"):
        frames.encode_opening(b"x", 0, {"key": "x" * 65536})


@given(st.integers(1, 2**32 - 1), st.integers(1, 2**32 - 1), st.binary(max_size=20))
def test_hellos_travel_and_may_grow(window, max_payload, more):
    hello = Hello(window, max_payload)
    assert frames.decode_hello(memoryview(frames.encode_hello(hello) + more)) == hello


@given(st.binary(max_size=40))
def test_malformed_hellos_are_refused(payload):
    with pytest.raises(ProtocolError):
        frames.decode_hello(memoryview(payload))


@pytest.mark.parametrize("hello", [Hello(0, 1), Hello(1, 0)])
def test_hellos_without_room_are_refused(hello):
    with pytest.raises(ProtocolError, match="no room"):
        frames.decode_hello(memoryview(frames.encode_hello(hello)))


@given(st.integers(0, 2**32 - 1), st.binary(max_size=5))
def test_credit(amount, more):
    assert frames.decode_credit(memoryview(frames.CREDIT_PAYLOAD.pack(amount) + more)) == amount
    with pytest.raises(ProtocolError):
        frames.decode_credit(memoryview(more[:3]))


class Detail(msgspec.Struct, frozen=True):
    number: int


@given(st.sampled_from([code for code in Code if code is not Code.OK]), st.text(), st.one_of(st.none(), st.integers(0, 2**60)))
def test_statuses_travel(code, message, number):
    sent = BusError(code, message, detail=None if number is None else Detail(number))
    received = decode_error(memoryview(encode_error(sent, 1 << 20)))
    assert (received.code, received.message) == (code, message)
    assert received.detail(Detail) == (None if number is None else Detail(number))


@given(st.text(), st.integers(64, 500))
def test_statuses_fit(message, limit):
    sent = BusError(Code.ABORTED, message * 20, detail=Detail(2**60))
    payload = encode_error(sent, limit)
    assert len(payload) <= limit
    assert sent.message.startswith(decode_error(memoryview(payload)).message)


@given(st.binary(max_size=60))
def test_malformed_statuses_are_refused(payload):
    try:
        assert decode_error(memoryview(payload)).code is not Code.OK
    except ProtocolError:
        pass


@pytest.mark.parametrize("code", [0, 17, -1, 10**12])
def test_a_status_of_another_version_is_unknown(code):
    assert decode_error(memoryview(msgspec.msgpack.encode((code, "m", "", b"")))).code is Code.UNKNOWN


def test_a_detail_of_another_shape_is_no_detail():
    error = BusError(Code.ABORTED, "m", detail=Detail("text"))
    assert error.detail(Detail) is None


def test_ok_is_no_error():
    with pytest.raises(ValueError, match="can't have the code OK"):
        BusError(Code.OK, "fine")
