"""Which addresses lead to the engine itself."""

from __future__ import annotations

import socket

import pytest
from boxshipd.registry.own_listeners import OwnListeners


@pytest.mark.parametrize(
    ("listener", "peer", "own"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "::ffff:127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("0.0.0.0", "127.9.9.9", True),
        ("0.0.0.0", "::ffff:127.0.0.1", True),
        ("0.0.0.0", "192.0.2.1", False),
        ("::", "127.0.0.1", True),
        ("::", "::1", True),
        ("::1", "::", True),
        ("::1", "127.0.0.1", False),
        ("fe80::1%lo", "fe80::1%2", True),
        ("192.0.2.7", "192.0.2.7", True),
        ("192.0.2.7", "127.0.0.1", False),
    ],
)
def test_addresses_of_a_listener(listener: str, peer: str, own: bool) -> None:
    listeners = OwnListeners([("127.0.0.1", 1), (listener, 2375)])
    assert listeners.include(peer, 2375) == own
    assert not listeners.include(peer, 2376)


def test_only_other_addresses_get_a_socket() -> None:
    listeners = OwnListeners([("127.0.0.1", 2375)])
    info = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
    with pytest.raises(OSError, match="this engine itself listens"):
        listeners.connector((*info, ("127.0.0.1", 2375)))
    with listeners.connector((*info, ("127.0.0.1", 2376))) as sock:
        assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_STREAM)
