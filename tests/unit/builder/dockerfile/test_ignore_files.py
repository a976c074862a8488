"""Ignore files: their lines, their patterns, and what they come to for a path."""

from __future__ import annotations

import posixpath
import re

import pytest
from boxshipd.builder.dockerfile.ignore import Matcher, ignore_files, read_patterns
from boxshipd.errors import InvalidParameter
from hypothesis import given
from hypothesis import strategies as st


def test_which_file_applies():
    assert ignore_files("docker/a.Dockerfile") == ("docker/a.Dockerfile.dockerignore", ".dockerignore")


def test_lines():
    text = b"\xef\xbb\xbf# comment\n\n  a/b  \r\n/rooted\n!/back\n ! spaced \n#x\n #y\n./c/../d//e/\n/\n!\n//f\n\xff"
    assert read_patterns(text) == ("a/b", "rooted", "!back", "!spaced", "#y", "d/e", "/", "!", "f", "\udcff")


@pytest.mark.parametrize(
    ("pattern", "matched", "others"),
    [
        ("a", ["a", "a/b", "a/b/c"], ["ab", "b/a", "A"]),
        ("a/b", ["a/b", "a/b/c"], ["a", "b", "x/a/b"]),
        ("a/", ["a", "a/b"], ["ab"]),
        ("a.b", ["a.b"], ["axb"]),
        ("*", ["a", ".a", "a/b"], []),
        ("*.py", ["a.py", ".py", "a.py/b"], ["a/b.py", "a.pyc"]),
        ("a*", ["a", "ab", "abc/d"], ["ba"]),
        ("a*c", ["ac", "abc", "abbc"], ["a/c", "abcd"]),
        ("a/*", ["a/b", "a/b/c"], ["a"]),
        ("a/*/c", ["a/b/c"], ["a/c", "a/b/b/c"]),
        ("?", ["a", "☺", "a/b"], ["ab"]),
        ("a?c", ["abc"], ["ac", "a/c"]),
        ("[a-c]x", ["ax", "cx"], ["dx", "x"]),
        ("[^a-c]x", ["dx"], ["ax", "x"]),
        ("[\\]\\-a]", ["]", "-", "a"], ["b", "\\"]),
        ("[[]", ["["], ["a"]),
        ("[a-ζ]", ["α"], ["A"]),
        ("**", ["a", "a/b", ".a"], []),
        ("**/", ["a", "a/b"], []),
        ("**/a", ["a", "b/a", "b/c/a", "b/a/c"], ["ba", "b/ca"]),
        ("**a", ["a", "ba", "b/a", "b/ca"], ["ab"]),
        ("**/a.b", ["a.b", "x/a.b"], ["axb", "xa.b"]),
        ("**/a/b", ["a/b", "x/y/a/b"], ["xa/b"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "ab"]),
        ("a**", ["a", "ab", "ab/c"], ["b"]),
        ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["ab", "a/xb", "b"]),
        ("a**b", ["ab", "a/b", "ax/b", "ax/y/b"], ["axb"]),
        ("a**/*.c", ["a/x.c", "a/y/x.c", "ab/x.c", "ax.c"], ["b/x.c"]),
        ("**/**", ["a", "a/b"], []),
        ("**/**/*.c", ["x.c", "a/x.c", "a/b/x.c"], ["x.d"]),
        ("**/a/**/*.c", ["a/x.c", "b/a/c/d/x.c"], ["x.c", "ba/x.c"]),
        ("**/a/*/b/**/c?.x", ["a/b/b/c1.x", "y/a/-/b/z/z/c1.x"], ["a/b/c1.x", "a/b/b/c.x"]),
        ("a*b*c*d*e*/f", ["axbxcxdxe/f", "axbxcxdxexxx/f"], ["axbxcxdxe/x/f", "axbxcxdxexxx/fff"]),
        ("\\*", ["*"], ["a"]),
        ("a\\b", ["ab"], ["a\\b", "a/b"]),
        ("a\\\\", ["a\\"], ["a"]),
        ("a(b)|{c}+$^.", ["a(b)|{c}+$^."], ["a(b)|{c}+$^x"]),
        ("x*(b)|{c}+$.", ["x-(b)|{c}+$."], ["x-(b)|{c}+$x"]),
        ("x/../a/./b", ["a/b"], ["x"]),
        (" a ", ["a"], []),
        ("", [], ["a"]),
    ],
)
def test_patterns(pattern, matched, others):
    matcher = Matcher([pattern])
    assert [path for path in matched if not matcher.matches(path)] == []
    assert [path for path in others if matcher.matches(path)] == []


@pytest.mark.parametrize("pattern", ["[", "a[", "[^", "[]a]", "[-]", "[x-]", "[-x]", "[a-b-c]", "[^bc", "a\\", "[a\\", "[z-a]"])
def test_patterns_that_are_none(pattern):
    with pytest.raises(InvalidParameter, match="in pattern"):
        Matcher([pattern])


def test_a_lone_exclamation_mark():
    with pytest.raises(InvalidParameter, match='illegal exclusion pattern: "!"'):
        Matcher(["a", " ! "])


@pytest.mark.parametrize(
    ("patterns", "path", "matched"),
    [
        (["docs", "!docs/README.md"], "docs/README.md", False),
        (["docs", "!docs/README.md"], "docs/other.md", True),
        (["docs/*", "!docs/a"], "docs/a/b/c", False),
        (["!a", "*"], "a", True),
        (["*", "!a", "a/b"], "a/b", True),
        (["*", "!a", "a/b"], "a/c", False),
        (["**", "!util/web"], "util/web/foo", False),
        (["a", "!a/b", "a/b/c"], "a/b/c/d", True),
        (["*", "!*.go", "!*.py", "x.go"], "x.go", True),
        (["*", "!*.go", "!*.py", "x.go"], "y.py", False),
        (["*"], ".", False),
        ([], "a", False),
    ],
)
def test_the_last_that_matches_decides(patterns, path, matched):
    assert Matcher(patterns).matches(path) is matched


def test_paths_may_be_bytes():
    matcher = Matcher(read_patterns(b"\xff*\n"))
    assert matcher.matches(b"\xff\xfe/x")
    assert not matcher.matches(b"\xfe")


def expression(pattern):
    """The regular expression that moby makes of a pattern of letters, slashes, ``*`` and ``?``."""
    out = ""
    rest = pattern
    while rest:
        if rest.startswith("**"):
            rest = rest[2:].removeprefix("/")
            out += "(.*/)?" if rest else ".*"
        else:
            out += {"*": "[^/]*", "?": "[^/]", ".": "\\."}.get(rest[0], rest[0])
            rest = rest[1:]
    # Its fast path for a pattern that begins with ** and has no other wildcard is less strict than the expression.
    if pattern.startswith("**") and not re.search(r"[*?]", pattern[2:]):
        out = ".*" + re.escape(pattern[2:]) if not pattern.startswith("**/") else f"(.*/)?{re.escape(pattern[3:])}"
    return out


GLOBS = (
    st.text(alphabet="ab/*?.", min_size=1, max_size=10).map(posixpath.normpath).filter(lambda glob: not glob.startswith("/"))
)
PATHS = st.lists(st.text(alphabet="ab.", min_size=1, max_size=3).filter(lambda name: name.strip(".")), min_size=1, max_size=4)


@given(st.lists(st.tuples(st.booleans(), GLOBS), max_size=5), st.lists(PATHS, min_size=1, max_size=4))
def test_it_comes_to_what_moby_makes_of_it(patterns, paths):
    matcher = Matcher(["!" * negated + glob for negated, glob in patterns])
    for names in paths:
        expected = False
        prefixes = ["/".join(names[:end]) for end in range(1, len(names) + 1)]
        for negated, glob in patterns:
            if negated == expected and any(re.fullmatch(expression(glob), prefix) for prefix in prefixes):
                expected = not negated
        assert matcher.matches("/".join(names)) is expected


@pytest.mark.timeout(30)
@pytest.mark.parametrize("pattern", ["**/a/" * 200 + "b", "*a" * 500, "**/*a" * 100 + "b", "?*" * 100 + "b", "a**" * 100 + "b"])
def test_hostile_patterns_take_no_longer(pattern):
    matcher = Matcher([pattern])
    assert not matcher.matches("a/" * 2000 + "c")
    assert not matcher.matches("a" * 255 + "c")
    assert [matcher.matches(f"{'a/' * 1000}{number}") for number in range(100)] == [False] * 100
