import pytest
from boxshipd.errors import InvalidParameter
from boxshipd.images import reference
from hypothesis import given
from hypothesis import strategies as st

D = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("text", "full", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox:1.36"),
        ("library/busybox", "docker.io/library/busybox", "busybox"),
        ("user/app", "docker.io/user/app", "user/app"),
        ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/user/app", "docker.io/user/app", "user/app"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1", "localhost:5000/a/b/c:v1"),
        ("Example/app", "Example/app", "Example/app"),
        ("ghcr.io/a/b@" + D, "ghcr.io/a/b@" + D, "ghcr.io/a/b@" + D),
        ("a:b@" + D, "docker.io/library/a:b@" + D, "a:b@" + D),
        ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
        ("a__b/c--d/e.f", "docker.io/a__b/c--d/e.f", "a__b/c--d/e.f"),
    ],
)
def test_names_in_full_and_in_short(text, full, familiar):
    parsed = reference.parse(text)
    assert str(parsed) == full
    assert parsed.familiar == familiar
    assert reference.parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "invalid reference format"),
        ("a b", "invalid reference format"),
        ("-a", "invalid reference format"),
        ("a//b", "invalid reference format"),
        ("a:", "invalid reference format"),
        ("a:" + "t" * 129, "invalid reference format"),
        ("a@sha256:12", "invalid reference format"),
        ("../../etc/passwd", "invalid reference format"),
        ("a\n", "invalid reference format"),
        ("ä", "invalid reference format"),
        ("aBc", "invalid reference format: repository name (library/aBc) must be lowercase"),
        ("user/aBc:x", "invalid reference format: repository name (user/aBc) must be lowercase"),
        ("a" * 64, f"invalid repository name ({'a' * 64}), cannot specify 64-byte hexadecimal strings"),
        ("x/" + "b" * 255, "repository name must not be more than 255 characters"),
        ("a@md5:" + "0" * 32, "unsupported digest algorithm: 'md5'"),
    ],
)
def test_what_is_refused_and_how(text, message):
    with pytest.raises(InvalidParameter) as caught:
        reference.parse(text)
    assert str(caught.value) == message


def test_a_tag_is_latest_unless_given():
    assert reference.parse("a").tagged().familiar == "a:latest"
    assert reference.parse("a:b").tagged().familiar == "a:b"
    assert reference.parse("a@" + D).tagged().familiar == "a@" + D


def test_a_bad_tag_is_refused():
    with pytest.raises(InvalidParameter, match=r"^invalid tag format$"):
        reference.with_tag(reference.parse("a"), "no spaces")


@given(st.text(max_size=80))
def test_any_text_is_either_refused_or_reads_back(text):
    try:
        parsed = reference.parse(text)
    except InvalidParameter:
        return
    assert reference.parse(str(parsed)) == parsed
    assert reference.parse(parsed.familiar) == parsed
