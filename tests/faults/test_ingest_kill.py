"""kill -9 in the middle of a blob that comes in: the next daemon goes on with what is there."""

import os
import random
import subprocess
import sys

from boxshipd.images.content import ContentStore
from support.archives import digest

DATA = random.Random(7).randbytes(20 << 20)
WRITER = """
import sys
from boxshipd.images.content import ContentStore
store = ContentStore(sys.argv[1])
with store.ingest(sys.argv[2], int(sys.argv[3])) as ingest:
    for piece in iter(lambda: sys.stdin.buffer.read(1 << 20), b""):
        ingest.write(piece)
        print(ingest.offset, flush=True)
"""


def test_what_came_before_a_kill_is_gone_on_with(tmp_path):
    name = digest(DATA)
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path), name, str(len(DATA))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    with writer:
        for step in range(18):
            writer.stdin.write(DATA[step << 20 : (step + 1) << 20])
            writer.stdin.flush()
            writer.stdout.readline()
        writer.kill()
    store = ContentStore(str(tmp_path))
    store.sweep(())
    with store.session() as session, session.ingest(name, len(DATA)) as ingest:
        # The note of what is there is written every 8 MiB.
        assert ingest.offset == 16 << 20
        ingest.write(DATA[ingest.offset :])
        ingest.commit()
        store.sync()
    assert store.read(name) == DATA
    assert os.listdir(tmp_path / "ingest") == []
