import bz2
import gzip
import io
import lzma

import pytest
import zstandard
from boxshipd.images.errors import InvalidArchive, LimitExceeded
from boxshipd.images.unpack.compression import decompressed
from boxshipd.images.unpack.limits import Limits

DATA = bytes(range(256)) * 3000
FORMS = {"": bytes, "gzip": gzip.compress, "zstd": zstandard.compress, "xz": lzma.compress, "bzip2": bz2.compress}


def read_all(data: bytes, limits: Limits = Limits(), size: int = 1000) -> tuple[str, bytes]:  # noqa: B008
    kind, source = decompressed(io.BytesIO(data), limits)
    out = []
    while piece := source.read(size):
        assert len(piece) <= size
        out.append(piece)
    return kind, b"".join(out)


@pytest.mark.parametrize("kind", FORMS)
def test_told_by_content_and_read_in_bounded_pieces(kind):
    assert read_all(FORMS[kind](DATA)) == (kind, DATA)


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_members_one_after_the_other_are_one_stream(kind):
    assert read_all(FORMS[kind](DATA) + FORMS[kind](b"more")) == (kind, DATA + b"more")


def test_thousands_of_members_take_no_stack():
    assert read_all(gzip.compress(b"x") * 5000)[1] == b"x" * 5000


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_zeros_after_the_stream_are_padding(kind):
    assert read_all(FORMS[kind](DATA) + bytes(700_000))[1] == DATA


@pytest.mark.parametrize("kind", ["gzip", "xz", "bzip2"])
def test_a_stream_cut_short_is_refused(kind):
    with pytest.raises(InvalidArchive, match="unexpected EOF"):
        read_all(FORMS[kind](DATA)[:-9])


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_a_damaged_stream_is_refused(kind):
    damaged = bytearray(FORMS[kind](DATA))
    damaged[len(damaged) // 2 :] = b"\xff" * (len(damaged) - len(damaged) // 2)
    with pytest.raises(InvalidArchive, match=kind):
        read_all(bytes(damaged))


def test_a_frame_that_asks_for_too_much_memory_is_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=29)
    compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(InvalidArchive, match="zstd"):
        read_all(compressor.compress(DATA) + compressor.flush())


@pytest.mark.parametrize("kind", ["gzip", "zstd", "xz", "bzip2"])
def test_a_bomb_is_stopped_by_its_ratio(kind):
    with pytest.raises(LimitExceeded, match="expands more than 50 times"):
        read_all(FORMS[kind](bytes(8 << 20)), Limits(ratio=50, ratio_from=1 << 20), 100_000)


def test_a_long_stream_is_stopped_by_its_length():
    with pytest.raises(LimitExceeded, match="longer than 1000 bytes"):
        read_all(DATA, Limits(stream_bytes=1000))
