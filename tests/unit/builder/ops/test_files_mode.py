"""Modes, octal and symbolic."""

import pytest
from boxshipd.builder.ops.files_mode import parse_mode
from boxshipd.errors import InvalidParameter


@pytest.mark.parametrize(
    ("text", "mode", "directory", "expected"),
    [
        ("755", 0o600, False, 0o755),
        ("04711", 0o600, True, 0o4711),
        ("0", 0o777, False, 0),
        ("u+x", 0o644, False, 0o744),
        ("+x", 0o644, False, 0o755),
        ("a-w", 0o666, False, 0o444),
        ("go=", 0o777, False, 0o700),
        ("u=rwX,go=rX", 0o600, False, 0o644),
        ("u=rwX,go=rX", 0o600, True, 0o755),
        ("u=rwX,go=rX", 0o700, False, 0o755),
        ("g=u", 0o640, False, 0o660),
        ("o=g-w", 0o664, False, 0o664),
        ("ug+s,+t", 0o755, True, 0o7755),
        ("u-s", 0o4755, False, 0o755),
        ("u=x+r", 0o644, False, 0o544),
        ("a=rX", 0o4711, False, 0o555),
    ],
)
def test_what_becomes_of_a_mode(text, mode, directory, expected):
    assert oct(parse_mode(text)(mode, directory)) == oct(expected)


@pytest.mark.parametrize("text", ["8", "10000", "u", "u+y", "+x,", ",", "z+x", "u+rg", "0o7", "-1", "１"])
def test_what_is_no_mode(text):
    with pytest.raises(InvalidParameter, match=r"^invalid chmod parameter: "):
        parse_mode(text)
