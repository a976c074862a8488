"""The values of build's flags."""

from __future__ import annotations

from pathlib import Path

import pytest
from boxship.building.values import (
    Output,
    annotate,
    build_arguments,
    parse_agent,
    parse_annotations,
    parse_output,
    parse_secret,
    settings,
)
from boxship.errors import InvalidValue


def test_settings_are_csv() -> None:
    assert settings('type=local,"dest=a,b",push', "output") == {"type": "local", "dest": "a,b", "push": "true"}
    with pytest.raises(InvalidValue, match="expected key=value"):
        settings("type=local,=x", "output")


def test_secret_forms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOKEN", "abc")
    file = tmp_path / "key"
    file.write_bytes(b"\0secret\n")
    assert parse_secret(f"id=a,src={file}").read() == b"\0secret\n"
    assert parse_secret("id=b,env=TOKEN").read() == b"abc"
    assert parse_secret("id=TOKEN").read() == b"abc"
    assert parse_secret("type=env,id=c,src=TOKEN").read() == b"abc"
    with pytest.raises(InvalidValue, match="id is missing"):
        parse_secret("src=x")
    with pytest.raises(InvalidValue, match="unexpected key 'colour'"):
        parse_secret("id=x,colour=red")
    with pytest.raises(InvalidValue, match="unsupported secret type"):
        parse_secret("id=x,type=vault")
    with pytest.raises(InvalidValue, match="no such file"):
        parse_secret(f"id=x,src={tmp_path}/none").read()
    monkeypatch.delenv("TOKEN")
    with pytest.raises(InvalidValue, match="TOKEN is not set"):
        parse_secret("id=b,env=TOKEN").read()


def test_agents_are_sockets_and_no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    key = tmp_path / "id_ed25519"
    key.write_text("key")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(InvalidValue, match="SSH_AUTH_SOCK"):
        parse_agent("default")
    with pytest.raises(InvalidValue, match="ssh-add"):
        parse_agent(f"default={key}")
    with pytest.raises(InvalidValue, match="no such file"):
        parse_agent(f"default={tmp_path}/none")


def test_output_forms() -> None:
    assert parse_output("out") == Output(kind="local", attributes={}, destination="out")
    assert parse_output("-") == Output(kind="tar", attributes={}, destination="-")
    assert parse_output("type=oci,dest=x.tar,compression=zstd") == Output(
        kind="oci", attributes={"compression": "zstd"}, destination="x.tar"
    )
    assert parse_output("type=registry,name=a/b") == Output(kind="image", attributes={"name": "a/b", "push": "true"})
    with pytest.raises(InvalidValue, match="dest is required"):
        parse_output("type=local")
    with pytest.raises(InvalidValue, match="unknown type 'zip'"):
        parse_output("type=zip")
    with pytest.raises(InvalidValue, match="type is required"):
        parse_output("dest=x")


def test_build_arguments_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HAVE", "it")
    monkeypatch.delenv("HAVENT", raising=False)
    assert build_arguments(["A=1", "B=", "HAVE", "HAVENT", "C=x=y"]) == {
        "A": "1",
        "B": "",
        "HAVE": "it",
        "HAVENT": None,
        "C": "x=y",
    }


def test_annotations_are_options_of_outputs() -> None:
    given = [
        "a=1",
        "manifest:b=2=3",
        "index,manifest-descriptor[linux/arm/v7]:c=4",
        "index-descriptor:d=",
        "manifest[linux/amd64]:e=6",
    ]
    assert parse_annotations(given) == {
        "annotation.a": "1",
        "annotation-manifest.b": "2=3",
        "annotation-index.c": "4",
        "annotation-manifest-descriptor[linux/arm/v7].c": "4",
        "annotation-index-descriptor.d": "",
        "annotation-manifest[linux/amd64].e": "6",
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a", 'invalid annotation "a", expected key=value'),
        ("layer:a=b", 'unknown annotation type "layer"'),
        ("manifest[linux:a=b", "expected type and optional platform in square brackets"),
        (":a=b", "expected type and optional platform in square brackets"),
        ("manifest:=b", "the key is missing"),
    ],
)
def test_annotations_that_cannot_be_are_refused_in_buildx_s_words(text: str, words: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        parse_annotations([text])
    assert words in str(refused.value)


def test_annotations_reach_every_output_that_is_an_image() -> None:
    files = Output(kind="local", attributes={}, destination="out")
    archive = Output(kind="oci", attributes={"compression": "zstd"}, destination="x.tar")
    assert annotate([archive, files], {"annotation.a": "1"}) == (
        Output(kind="oci", attributes={"compression": "zstd", "annotation.a": "1"}, destination="x.tar"),
        files,
    )
    assert annotate([], {"annotation.a": "1"}) == (Output(kind="image", attributes={"annotation.a": "1"}),)
    assert annotate([], {}) == ()
    with pytest.raises(InvalidValue, match="output of type local has none"):
        annotate([files], {"annotation.a": "1"})
