"""Lists in Docker's layout."""

from __future__ import annotations

import pytest
from boxship.cli import history, images, ps
from boxship.cli.events import line
from boxship.cli.ports import displayable
from boxship.cli.references import familiar, split
from boxship.terminal.table import align, ellipsis, render

NOW = 1_000_000_000
CONTAINER = {
    "Id": "ea726b17507bf80b12045b104cbd0f139b13954aec0f839889b967195b46f8ef",
    "Names": ["/ex"],
    "Image": "busybox:test",
    "ImageID": "sha256:0d6828f8cc744679f041ad830c4079a87029c12c9660681af358fb4fe47abd0d",
    "Command": "sh -c 'echo err >&2; exit 3'",
    "Created": NOW - 60,
    "Ports": [
        {"PrivatePort": 70, "Type": "tcp"},
        {"PrivatePort": 71, "Type": "tcp"},
        {"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp", "IP": "0.0.0.0"},
    ],
    "Labels": {"a": "b"},
    "State": "exited",
    "Status": "Exited (3) 5 seconds ago",
    "SizeRw": 0,
    "SizeRootFs": 1982000,
    "NetworkSettings": {"Networks": {"none": {}}},
    "Mounts": [{"Type": "bind", "Source": "/a/rather/long/path", "Destination": "/b"}],
}
COLUMNS = "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.RunningFor}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}"


@pytest.fixture
def row():
    return ps.row(CONTAINER, truncate=True, now=NOW)


def test_the_default_table(row):
    assert render("", [row], ps.TITLES, COLUMNS) == (
        "CONTAINER ID   IMAGE          COMMAND                  CREATED              STATUS                     "
        "PORTS                               NAMES\n"
        'ea726b17507b   busybox:test   "sh -c \'echo err >&2…"   About a minute ago   Exited (3) 5 seconds ago   '
        "70-71/tcp, 0.0.0.0:8080->80/tcp     ex\n"
    ).replace("70-71/tcp, 0.0.0.0:8080->80/tcp     ", "70-71/tcp, 0.0.0.0:8080->80/tcp   ").replace(
        "PORTS                               ", "PORTS                             "
    )


def test_a_table_of_ones_own(row):
    assert render('table {{.ID}}\\t{{.Label "a"}}\\t{{json .Names}}', [row], ps.TITLES, COLUMNS) == (
        'CONTAINER ID   a         NAMES\nea726b17507b   b         "ex"\n'
    )


def test_json_is_sorted_and_safe_in_html(row):
    text = render("json", [row], ps.TITLES, COLUMNS)
    assert text.startswith('{"Command":"\\"sh -c \'echo err \\u003e\\u00262…\\"","CreatedAt":')
    assert '"Mounts":"/a/rather/long…"' in text
    assert '"Size":"0B (virtual 1.98MB)"' in text
    assert 'Label"' not in text


def test_a_template_without_table(row):
    assert render("{{.Names}}:{{.State}}", [row, row], ps.TITLES, COLUMNS) == "ex:exited\nex:exited\n"


def test_nothing_to_list_is_a_header():
    assert render("", [], ps.TITLES, "{{.ID}}\t{{.Names}}") == "CONTAINER ID   NAMES\n"


def test_columns_are_at_least_ten_wide():
    assert align(["A\tB", "x\ty"]) == "A         B\nx         y\n"


@pytest.mark.parametrize(
    ("ports", "text"),
    [
        ([], ""),
        ([{"PrivatePort": 80, "Type": "tcp"}], "80/tcp"),
        ([{"PrivatePort": p, "Type": "tcp"} for p in (82, 80, 81, 90)], "80-82/tcp, 90/tcp"),
        ([{"PrivatePort": 9000, "PublicPort": 9000, "Type": "udp", "IP": "0.0.0.0"}], "0.0.0.0:9000->9000/udp"),
        ([{"PrivatePort": 80, "PublicPort": 8080, "Type": "tcp", "IP": "::"}], "[::]:8080->80/tcp"),
    ],
)
def test_ports(ports, text):
    assert displayable(ports) == text


IMAGE = {
    "Id": "sha256:0d6828f8cc744679",
    "RepoTags": ["a:1", "r:5000/b:2"],
    "RepoDigests": [],
    "Created": NOW - 5,
    "Size": 1982000,
}


def test_an_image_has_a_line_for_each_name():
    rows = images.rows_of(IMAGE, truncate=True, digests=False, now=NOW)
    assert [(r["Repository"], r["Tag"], r["ID"], r["Size"]) for r in rows] == [
        ("a", "1", "0d6828f8cc74", "1.98MB"),
        ("r:5000/b", "2", "0d6828f8cc74", "1.98MB"),
    ]


def test_an_image_without_a_name():
    nameless = {**IMAGE, "RepoTags": None, "RepoDigests": None}
    assert images.names_of(nameless, digests=True) == [("<none>", "<none>", "<none>")]


def test_digests_have_lines_of_their_own():
    image = {**IMAGE, "RepoTags": ["a:1"], "RepoDigests": ["a@sha256:x", "c@sha256:y"]}
    assert images.names_of(image, digests=True) == [("a", "1", "sha256:x"), ("c", "<none>", "sha256:y")]
    assert images.names_of(image, digests=False) == [("a", "1", "<none>"), ("c", "<none>", "<none>")]


def test_history_row():
    item = {"Id": "<missing>", "Created": 0, "CreatedBy": "x" * 60, "Size": 1500, "Comment": "c"}
    row = history.row(item, truncate=True, human=True, now=NOW)
    assert (row["ID"], row["CreatedSince"], row["Size"], len(row["CreatedBy"])) == ("<missing>", "N/A", "1.5kB", 45)


def test_event_line(monkeypatch):
    event = {
        "Type": "container",
        "Action": "die",
        "Actor": {"ID": "abc", "Attributes": {"name": "n", "exitCode": "3"}},
        "timeNano": 1795472474564221070,
    }
    assert line(event).endswith(".564221070Z container die abc (exitCode=3, name=n)")


@pytest.mark.parametrize(
    ("reference", "parts"),
    [("a", ("a", "")), ("a:1", ("a", "1")), ("r:5000/a", ("r:5000/a", "")), ("a@sha256:x", ("a", "sha256:x"))],
)
def test_references_are_split(reference, parts):
    assert split(reference) == parts


def test_familiar_names():
    assert familiar("docker.io/library/a") == "a:latest"
    assert familiar("r:5000/a:1") == "r:5000/a:1"


def test_ellipsis():
    assert (ellipsis("abc", 3), ellipsis("abcd", 3)) == ("abc", "ab…")
