"""What a supervisor makes of a prober that breaks the rules, and of one that is newer than itself."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable
from struct import pack

import msgspec
import pytest
from boxrun.prober.protocol import MAX_OUTPUT, MAX_RESULTS, MESSAGE_LIMIT, Health, ProbeResult, Report, decode_request
from boxrun.shim.wire import encode, receive, receive_inline, send_inline
from boxrun.supervisor.prober_link import BURST, PAUSE_SECONDS, ProberGoneError, ProberLink


class Peer:
    """A prober that says what it is told to, and what its supervisor took in."""

    def __init__(self) -> None:
        self.heard = asyncio.Event()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.sock = theirs
        self.told = 0
        self.ended = asyncio.Event()
        self.link = ProberLink("a", ours, self._tell, lambda _: self.ended.set())

    def _tell(self, _link: ProberLink) -> None:
        self.told += 1
        if self.told >= BURST:
            self.heard.set()

    def report(self, sequence: int = 0) -> bytes:
        return encode(Report(id="a", run=3, prober=7, health=Health(), sequence=sequence))

    def say(self, message: bytes) -> None:
        send_inline(self.sock, message)

    def send_with(self, datagram: bytes, *fds: int) -> None:
        self.sock.sendmsg([datagram], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, pack(f"{len(fds)}i", *fds))])


@pytest.fixture
async def peer():
    """A peer, whose link is closed in the end."""
    peer = Peer()
    yield peer
    peer.link.close()
    peer.sock.close()


async def test_unknown_kinds_of_messages_are_passed_over(peer):
    peer.say(msgspec.msgpack.encode({"type": "mood", "id": "a"}))
    peer.say(msgspec.msgpack.encode({"type": "report", "id": "a", "health": "new"}))
    peer.say(peer.report())
    assert (await peer.link.greeting()).run == 3
    assert not peer.ended.is_set()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda peer: peer.sock.send(b"\0\xc1"),
        lambda peer: peer.sock.send(b"\2"),
        lambda peer: peer.sock.send(b"\0" + bytes(MESSAGE_LIMIT + 1)),
        lambda peer: peer.say(encode(Report(id="b", run=3, prober=7, health=Health()))),
        lambda peer: peer.say(encode(Report(id="a", run=3, prober=7, health=Health(streak=-1)))),
        lambda peer: peer.send_with(b"\1", 0),
    ],
    ids=["no message", "unknown head", "too long", "another container", "unsound", "in a file"],
)
async def test_a_prober_that_breaks_the_rules_is_not_listened_to_any_more(peer, spoil: Callable[[Peer], None]):
    spoil(peer)
    async with asyncio.timeout(10):
        await peer.ended.wait()
    with pytest.raises(ProberGoneError):
        await peer.link.greeting()


async def test_what_a_prober_sends_along_is_never_opened_or_read(peer):
    before = len(os.listdir("/proc/self/fd"))
    endless, reader_writer = os.open("/dev/zero", os.O_RDONLY), os.pipe()
    peer.send_with(b"\0" + peer.report(), endless, *reader_writer)
    for fd in (endless, *reader_writer):
        os.close(fd)
    await peer.link.greeting()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_flood_leaves_the_loop_to_others(peer):
    peer.sock.setblocking(False)
    turns = most = 0

    def flood() -> None:
        try:
            while True:
                peer.say(peer.report())
        except BlockingIOError:
            return

    flood()
    async with asyncio.timeout(10):
        while peer.told < 4 * BURST:
            before = peer.told
            await asyncio.sleep(0)
            turns, most = turns + 1, max(most, peer.told - before)
            flood()
    assert 0 < most <= BURST
    assert turns > 4


async def test_a_link_that_is_closed_while_it_pauses_stays_closed(peer):
    loop = asyncio.get_running_loop()
    failures = []
    loop.set_exception_handler(lambda _loop, context: failures.append(context))
    for _ in range(BURST):
        peer.say(peer.report())
    async with asyncio.timeout(10):
        await peer.heard.wait()
    peer.link.close()
    later = asyncio.Event()
    loop.call_later(2 * PAUSE_SECONDS, later.set)
    await later.wait()
    assert (peer.told, failures) == (BURST, [])


async def test_the_longest_honest_report_fits(peer):
    result = ProbeResult(start=1 << 62, end=1 << 62, exit_code=-1, output=b"x" * (MAX_OUTPUT + 100))
    peer.say(encode(Report(id="a", run=1 << 62, prober=1 << 22, health=Health(log=(result,) * MAX_RESULTS))))
    assert len((await peer.link.greeting()).health.log) == MAX_RESULTS


async def test_a_supervisors_request_is_inline(peer):
    peer.say(peer.report())
    await peer.link.greeting()
    asking = asyncio.ensure_future(peer.link.ask())
    await asyncio.sleep(0)
    message = receive_inline(peer.sock, MESSAGE_LIMIT)
    assert message is not None
    peer.say(peer.report(decode_request(message).sequence))
    await asking


async def test_an_endless_file_is_no_message_of_a_shims_either():
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left, right:
        huge = os.memfd_create("huge", os.MFD_CLOEXEC)
        os.truncate(huge, 1 << 40)
        on_disk = os.open(__file__, os.O_RDONLY)
        zero = os.open("/dev/zero", os.O_RDONLY)
        before = len(os.listdir("/proc/self/fd"))
        for fd in (huge, on_disk, zero):
            for extra in ((), (zero,)):
                fds = (fd, *extra)
                left.sendmsg([b"\1"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, pack(f"{len(fds)}i", *fds))])
                with pytest.raises(ValueError, match="a message "):
                    receive(right)
        assert len(os.listdir("/proc/self/fd")) == before
        for fd in (huge, on_disk, zero):
            os.close(fd)
