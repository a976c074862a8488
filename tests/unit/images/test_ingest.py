"""Blobs that come in pieces, out of order, and after interruptions."""

import hashlib
import json
import os
import random
import threading
import time

import pytest
from boxshipd.errors import InvalidParameter
from boxshipd.images.blob import Blob
from boxshipd.images.content import ContentStore
from boxshipd.images.errors import DigestMismatch
from support.archives import digest

DATA = random.Random(1).randbytes(100_000)
NAME = digest(DATA)


@pytest.fixture
def store(tmp_path) -> ContentStore:
    return ContentStore(str(tmp_path))


def partial(store: ContentStore) -> list[str]:
    return sorted(os.listdir(os.path.join(store.root, "ingest")))


def test_what_is_written_becomes_a_pinned_blob(store):
    with store.session() as session:
        with session.ingest(NAME, len(DATA)) as ingest:
            for position in range(0, len(DATA), 7000):
                assert ingest.offset == position
                ingest.write(DATA[position : position + 7000])
            assert ingest.commit() == Blob(NAME, len(DATA))
        assert store.read(NAME) == DATA
        assert partial(store) == []
        assert store.discard(NAME) == 0
    assert store.discard(NAME) == len(DATA)


def test_an_interrupted_ingest_goes_on_where_it_stopped_even_in_another_daemon(store):
    with store.ingest(NAME, len(DATA)) as ingest:
        ingest.write(DATA[:60_000])
    later = ContentStore(store.root)
    later.sweep(())
    with later.session() as session, session.ingest(NAME, len(DATA)) as ingest:
        assert (ingest.offset, ingest.missing()) == (60_000, [(60_000, 40_000)])
        ingest.write(DATA[60_000:])
        ingest.commit()
    assert later.read(NAME) == DATA


def test_ranges_come_in_any_order_from_any_thread_and_gaps_are_known(store):
    with store.session() as session:
        with session.ingest(NAME, len(DATA)) as ingest:
            ingest.write_at(50_000, DATA[50_000:60_000])
            ingest.write_at(10_000, DATA[10_000:20_000])
            assert ingest.offset == 0
            assert ingest.missing() == [(0, 10_000), (20_000, 30_000), (60_000, 40_000)]
        with session.ingest(NAME, len(DATA)) as ingest:
            gaps = ingest.missing()
            assert gaps == [(0, 10_000), (20_000, 30_000), (60_000, 40_000)]
            threads = [
                threading.Thread(target=ingest.write_at, args=(start, DATA[start : start + length])) for start, length in gaps
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert ingest.commit().digest == NAME
    assert store.read(NAME) == DATA


BIG = random.Random(2).randbytes((9 << 20) + 777)


@pytest.mark.parametrize("direct", [True, False], ids=["around-the-cache", "as-always"])
def test_a_big_blob_in_parallel_ranges_and_in_two_attempts(store, monkeypatch, direct):
    if not direct:
        monkeypatch.setattr("boxshipd.images.ingest.open_direct", lambda path: None)
    name, part = digest(BIG), 2 << 20

    def bring(ingest, start: int, end: int, step: int) -> None:
        for position in range(start, end, step):
            ingest.write_at(position, BIG[position : min(position + step, end)])

    with store.session() as session:
        with session.ingest(name, len(BIG)) as ingest:
            steps = (100_003, 1 << 20, 65_536, 300_001)
            threads = [
                threading.Thread(target=bring, args=(ingest, part * n, part * n + 1_500_001, steps[n])) for n in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            gaps = ingest.missing()
            assert len(gaps) == 4
        with session.ingest(name, len(BIG)) as ingest:
            assert ingest.missing() == gaps
            for start, length in reversed(gaps):
                bring(ingest, start, start + length, 333_333)
            ingest.commit()
    assert store.read(name) == BIG


def test_what_is_only_in_a_buffer_is_not_noted_as_there(store):
    name = digest(BIG)
    with store.ingest(name, len(BIG)) as ingest:
        for position in range(0, 8 << 20, 700_000):
            ingest.write(BIG[position : position + 700_000])
        # What a kill would leave now.
        (note,) = [entry for entry in partial(store) if entry.endswith(".ranges")]
        with open(os.path.join(store.root, "ingest", note)) as file:
            ((start, end),) = json.load(file)
        with open(os.path.join(store.root, "ingest", note.removesuffix(".ranges")), "rb") as file:
            assert file.read(end) == BIG[:end]
        assert (start, ingest.offset > end) == (0, True)


def test_bytes_written_twice_are_counted_once(store):
    with store.session() as session, session.ingest(NAME, len(DATA)) as ingest:
        ingest.write(DATA[:50_000])
        ingest.write_at(30_000, DATA[30_000:70_000])
        assert ingest.missing() == [(70_000, 30_000)]
        ingest.write(DATA[70_000:])
        assert ingest.commit() == Blob(NAME, len(DATA))


def test_too_little_too_much_and_wrong_content_are_refused_and_wrong_content_isn_t_kept(store):
    with store.session() as session:
        with session.ingest(NAME, len(DATA)) as ingest:
            ingest.write(DATA[:10])
            with pytest.raises(DigestMismatch, match="has 10 of 100000 bytes"):
                ingest.commit()
            with pytest.raises(DigestMismatch, match="more than the 100000 bytes"):
                ingest.write(DATA)
            ingest.write(b"x" * (len(DATA) - 10))
            with pytest.raises(DigestMismatch, match="not sha256:"):
                ingest.commit()
            assert ingest.offset == 0
        assert partial(store) == []
        for wrong in ("sha256:../../x", "md5:" + "0" * 32):
            with pytest.raises(InvalidParameter):
                session.ingest(wrong, 1)
        with pytest.raises(InvalidParameter):
            session.ingest(NAME, -1)


def test_a_second_ingest_of_the_same_blob_has_a_file_of_its_own(store):
    with store.session() as session, session.ingest(NAME, len(DATA)) as first:
        first.write(DATA[:50_000])
        with session.ingest(NAME, len(DATA)) as second:
            assert second.offset == 0
            second.write(DATA)
            second.commit()
        first.write(DATA[50_000:])
        first.commit()
    assert partial(store) == []
    assert store.read(NAME) == DATA


@pytest.mark.parametrize("note", [b"", b"nonsense", b"[[5,1]]", b"[[0,900000]]", b"[[-4,7]]"])
def test_a_note_that_can_t_be_true_means_a_new_beginning(store, note):
    with store.ingest(NAME, len(DATA)) as ingest:
        ingest.write(DATA[:50_000])
    (path,) = [name for name in partial(store) if name.endswith(".ranges")]
    with open(os.path.join(store.root, "ingest", path), "wb") as file:
        file.write(note)
    with store.session() as session, session.ingest(NAME, len(DATA)) as ingest:
        assert ingest.offset == 0
        ingest.write(DATA)
        ingest.commit()


def test_abandoned_files_go_with_time_or_at_a_prune_but_never_from_under_an_ingest(store):
    with store.ingest(NAME, len(DATA)) as ingest:
        ingest.write(DATA[:50_000])
        assert store.discard_partial() == 0
    kept = partial(store)
    assert len(kept) == 2
    store.sweep(())
    assert partial(store) == kept
    for name in kept:
        os.utime(os.path.join(store.root, "ingest", name), (time.time() - 90_000,) * 2)
    store.sweep(())
    assert partial(store) == []
    with store.ingest(NAME, len(DATA)) as ingest:
        ingest.write(DATA[:50_000])
    assert store.discard_partial() >= 50_000
    assert partial(store) == []


def test_sha512_is_taken_too(store):
    name = f"sha512:{hashlib.sha512(DATA).hexdigest()}"
    with store.session() as session, session.ingest(name, len(DATA)) as ingest:
        ingest.write_at(50_000, DATA[50_000:])
        ingest.write_at(0, DATA[:50_000])
        ingest.commit()
    assert store.read(name) == DATA
