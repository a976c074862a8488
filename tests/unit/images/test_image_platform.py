import pytest
from boxshipd.errors import InvalidParameter
from boxshipd.images import platform
from boxshipd.images.model import Platform


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("linux/amd64", Platform("amd64", "linux")),
        ("linux/x86_64", Platform("amd64", "linux")),
        ("arm64", Platform("arm64", "linux")),
        ("linux/arm/v7", Platform("arm", "linux", "v7")),
        ("Windows/amd64", Platform("amd64", "windows")),
    ],
)
def test_parse(text, parsed):
    assert platform.parse(text) == parsed


@pytest.mark.parametrize("text", ["", "a/b/c/d", "linux/", "/", "linux/am d64"])
def test_nonsense_is_refused(text):
    with pytest.raises(InvalidParameter):
        platform.parse(text)


def test_matching():
    assert platform.matches(Platform("arm64", "linux"), Platform("arm64", "linux", "v8"))
    assert platform.matches(Platform("amd64", "linux"), Platform())
    assert not platform.matches(Platform("amd64", "linux"), Platform("arm64", "linux"))
    assert not platform.matches(Platform("arm", "linux", "v6"), Platform("arm", "linux", "v7"))
