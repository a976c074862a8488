"""Which requests turn their connection into a stream."""

from __future__ import annotations

import pytest
from boxshipd.api.connection import hijacks


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("POST", "/exec/abc/start", True),
        ("POST", "/v1.51/exec/abc/start?x=1", True),
        ("GET", "/v1.51/exec/abc/start/ws?h=1", True),
        ("GET", "/exec/abc/start", False),
        ("POST", "/exec/abc/start/ws", False),
        ("POST", "/exec/abc/resize?h=/exec/abc/start", False),
        ("POST", "/containers/exec/start", False),
        ("POST", "/containers/abc/attach", True),
    ],
)
def test_requests(method, path, expected):
    assert hijacks(method, path) is expected
