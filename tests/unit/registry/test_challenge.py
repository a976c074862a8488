"""WWW-Authenticate headers, the well-meant and the others."""

import pytest
from boxshipd.registry.challenge import Challenge, parse
from hypothesis import given
from hypothesis import strategies as st

REALM = "https://auth.docker.io/token"


@pytest.mark.parametrize(
    ("header", "wanted"),
    [
        (f'Bearer realm="{REALM}",service="registry.docker.io"', [("bearer", {"realm": REALM, "service": "registry.docker.io"})]),
        (f'bearer Realm = "{REALM}" , scope="repository:a/b:pull,push"', [("bearer", {"realm": REALM, "scope": "repository:a/b:pull,push"})]),
        ('Basic realm="a \\"quoted\\" one"', [("basic", {"realm": 'a "quoted" one'})]),
        ('Basic realm=plain, Bearer realm="x",service="y"', [("basic", {"realm": "plain"}), ("bearer", {"realm": "x", "service": "y"})]),
        ('Negotiate YII=, Basic realm="b"', [("negotiate", {}), ("basic", {"realm": "b"})]),
        ("Negotiate", [("negotiate", {})]),
        ('Bearer realm="first",realm="second"', [("bearer", {"realm": "first"})]),
        ("", []),
        ("=,=", []),
    ],
)  # fmt: skip
def test_challenges(header, wanted):
    assert [(found.scheme, dict(found.parameters)) for found in parse([header])] == wanted


def test_several_headers():
    assert parse(['Basic realm="a"', 'Bearer realm="b"']) == [
        Challenge("basic", {"realm": "a"}),
        Challenge("bearer", {"realm": "b"}),
    ]


@given(st.lists(st.text(max_size=300), max_size=5))
def test_anything_is_read_without_an_error(headers):
    assert len(parse(headers)) <= 16


@given(st.text(alphabet='Basicreaml =,"\\ \t', max_size=2000))
def test_what_looks_like_a_challenge_is_read_in_no_time(header):
    for found in parse([header]):
        assert found.scheme == found.scheme.lower()


@pytest.mark.parametrize(
    "header", ['Basic realm="' + "\\" * 50_000, "a" * 100_000, "a=" * 50_000, ", " * 50_000, 'B a="' + '"a="' * 20_000]
)
def test_long_headers_cost_nothing(header):
    assert len(parse([header])) <= 16


@given(
    st.dictionaries(
        st.text("abcdefgh", min_size=1, max_size=8),
        st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40),
        max_size=6,
    )
)
def test_what_is_written_is_read(parameters):
    def quoted(text: str) -> str:
        return text.replace("\\", "\\\\").replace('"', '\\"')

    header = "Bearer " + ",".join(f'{name}="{quoted(value)}"' for name, value in parameters.items())
    (found,) = parse([header])
    assert found.parameters == parameters
