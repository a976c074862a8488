"""Image references and platforms: what they mean, and what is refused with Docker's words."""

from __future__ import annotations

import pytest
from boxship.cli.platforms import parse as parse_platform
from boxship.errors import CommandError, InvalidReference
from boxship.references import Reference, parse

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "whole", "familiar"),
    [
        ("alpine", "docker.io/library/alpine", "alpine"),
        ("alpine:3", "docker.io/library/alpine:3", "alpine:3"),
        ("library/alpine", "docker.io/library/alpine", "alpine"),
        ("docker.io/alpine", "docker.io/library/alpine", "alpine"),
        ("index.docker.io/alpine", "docker.io/library/alpine", "alpine"),
        ("me/app", "docker.io/me/app", "me/app"),
        ("docker.io/me/app:x", "docker.io/me/app:x", "me/app:x"),
        ("library/me/app", "docker.io/library/me/app", "library/me/app"),
        ("localhost/x", "localhost/x", "localhost/x"),
        ("localhost:5000/x", "localhost:5000/x", "localhost:5000/x"),
        ("r.example/a/b/c:t", "r.example/a/b/c:t", "r.example/a/b/c:t"),
        ("[::1]:5000/x", "[::1]:5000/x", "[::1]:5000/x"),
        ("Registry/x", "Registry/x", "Registry/x"),
        (f"alpine@{DIGEST}", f"docker.io/library/alpine@{DIGEST}", f"alpine@{DIGEST}"),
        (f"alpine:3@{DIGEST}", f"docker.io/library/alpine:3@{DIGEST}", f"alpine:3@{DIGEST}"),
        ("a-b_cd__e/f--g.h", "docker.io/a-b_cd__e/f--g.h", "a-b_cd__e/f--g.h"),
    ],
)
def test_what_names_mean(text, whole, familiar):
    reference = parse(text)
    assert str(reference) == whole
    assert reference.familiar == familiar
    assert parse(whole) == reference
    assert parse(familiar) == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "a:",
        "a:b:c",
        "a b",
        "-a",
        "a//b",
        "/a",
        "a/",
        "a@",
        "a@sha256:1",
        f"a@{DIGEST}0",
        "r.example:x/a",
        "a:" + "t" * 129,
        "a/.b",
        "a..b",
    ],
)
def test_what_is_no_reference(text):
    with pytest.raises(InvalidReference, match=r"^invalid reference format"):
        parse(text)


def test_tags_that_go_without_saying():
    assert parse("a").tagged().tag == "latest"
    assert parse("a:b").tagged().tag == "b"
    assert parse(f"a@{DIGEST}").tagged() == Reference("docker.io", "library/a", "", DIGEST)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("linux/amd64", ("linux", "amd64", "")),
        ("LINUX/x86_64", ("linux", "amd64", "")),
        ("linux/arm64/v8", ("linux", "arm64", "")),
        ("arm64", ("linux", "arm64", "")),
        ("aarch64", ("linux", "arm64", "")),
        ("linux/arm", ("linux", "arm", "v7")),
        ("linux/arm/6", ("linux", "arm", "v6")),
        ("linux/armhf", ("linux", "arm", "v7")),
        ("linux/armel", ("linux", "arm", "v6")),
        ("linux/amd64/v2", ("linux", "amd64", "v2")),
        ("windows/amd64", ("windows", "amd64", "")),
        ("riscv64", ("linux", "riscv64", "")),
    ],
)
def test_platforms(text, parts):
    platform = parse_platform(text)
    assert (platform["os"], platform["architecture"], platform.get("variant", "")) == parts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a/b/c/d", '"a/b/c/d": cannot parse platform specifier'),
        ("a b", '"a b" is an invalid component'),
        ("linux/", '"" is an invalid'),
    ],
)
def test_what_is_no_platform(text, message):
    with pytest.raises(CommandError) as caught:
        parse_platform(text)
    assert str(caught.value).startswith(message)
