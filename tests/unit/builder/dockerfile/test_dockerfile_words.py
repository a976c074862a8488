"""Words: quotes, escapes and variables in all their forms, and their bounds."""

from __future__ import annotations

import shlex

import pytest
from boxshipd.builder.dockerfile.words import HEREDOC, MAX_NESTING, MAX_RESULT, Words
from boxshipd.builder.errors import DockerfileError
from hypothesis import given
from hypothesis import strategies as st

ENV = {
    "full": "value",
    "empty": "",
    "spaced": "two  words",
    "path": "/usr/local/bin/x.tar.gz",
    "한": "국",
    "_1": "under",
    "pattern": "*l",
    "slashes": "/",
    "stars": "a*b*c",
    "lines": "one\ntwo",
}
WORDS = Words()


def expand(text, words=WORDS):
    return words.expand(text, ENV).text


def failure(text, words=WORDS):
    with pytest.raises(DockerfileError) as error:
        words.expand(text, ENV)
    return error.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text", "plain text"),
        ("$full", "value"),
        ("x$full.y", "xvalue.y"),
        ("${full}y", "valuey"),
        ("$fully", ""),
        ("$한", "국"),
        ("$_1", "under"),
        ("$1full", "full"),
        ("$", "$"),
        ("a$ b", "a$ b"),
        ("$%", "$%"),
        ("$$full", "full"),
        ("'$full'", "$full"),
        ('"$full"', "value"),
        ('"a\'b"', "a'b"),
        ("'a\"b'", 'a"b'),
        ("a'b'\"c\"d", "abcd"),
        ("\\$full", "$full"),
        ("\\\\$full", "\\value"),
        ("\\a\\ b", "a b"),
        ("a\\", "a"),
        ('"\\$full \\" \\\\ \\a"', '$full " \\ \\a'),
        ("'\\'", "\\"),
        ("", ""),
    ],
)
def test_quotes_escapes_and_names(text, expected):
    assert expand(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${full-x}", "value"),
        ("${full:-x}", "value"),
        ("${empty-x}", ""),
        ("${empty:-x}", "x"),
        ("${none-x}", "x"),
        ("${none:-x}", "x"),
        ("${none:-}", ""),
        ("${full+x}", "x"),
        ("${full:+x}", "x"),
        ("${empty+x}", "x"),
        ("${empty:+x}", ""),
        ("${none+x}", ""),
        ("${none:+x}", ""),
        ("${full?no}", "value"),
        ("${empty?no}", ""),
        ("${none:-${empty:-${full}}}", "value"),
        ("${none:-a b '}' \"}\" \\}}", "a b } } }"),
        ("${none:-$full}${full:+${empty:-y}}", "valuey"),
        ("${none:-'$full'}", "$full"),
    ],
)
def test_defaults_and_alternatives(text, expected):
    assert expand(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${path#*/}", "usr/local/bin/x.tar.gz"),
        ("${path##*/}", "x.tar.gz"),
        ("${path%/*}", "/usr/local/bin"),
        ("${path%%/*}", ""),
        ("${path%.*}", "/usr/local/bin/x.tar"),
        ("${path%%.*}", "/usr/local/bin/x"),
        ("${path#nothing}", "/usr/local/bin/x.tar.gz"),
        ("${path#}", "/usr/local/bin/x.tar.gz"),
        ("${full#va?}", "ue"),
        ("${full##*l}", "ue"),
        ("${full#$pattern}", "ue"),
        ("${stars#a\\*}", "b*c"),
        ("${stars%\\*c}", "a*b"),
        ("${stars#a\\?}", "a*b*c"),
        ("${path#$slashes}", "usr/local/bin/x.tar.gz"),
        ("${lines#*o}", "ne\ntwo"),
        ("${lines##*o}", "ne\ntwo"),
        ("${none#x}", ""),
    ],
)
def test_prefixes_and_suffixes(text, expected):
    assert expand(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${path/bin/sbin}", "/usr/local/sbin/x.tar.gz"),
        ("${path/\\//-}", "-usr/local/bin/x.tar.gz"),
        ("${path//\\//-}", "-usr-local-bin-x.tar.gz"),
        ("${path//$slashes/}", "usrlocalbinx.tar.gz"),
        ("${path/\\/*\\//_}", "_x.tar.gz"),
        ("${path//?/.}", "......................."),
        ("${full/$pattern/$empty}", "ue"),
        ("${full//[x]/y}", "value"),
        ("${full//nothing/y}", "value"),
        ("${full/$empty/x}", "xvalue"),
        ("${full//$empty/-}", "-v-a-l-u-e-"),
        ("${full//*/x}", "x"),
        ("${lines//*/x}", "x\nx"),
        ("${full///}", "value"),
        ("${none/a/b}", ""),
    ],
)
def test_replacements(text, expected):
    assert expand(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("'a", 'failed to process "\'a": unexpected end of statement while looking for matching single-quote'),
        ('"a', 'failed to process "\\"a": unexpected end of statement while looking for matching double-quote'),
        ("${", "failed to process \"${\": syntax error: missing '}'"),
        ("${full", "failed to process \"${full\": syntax error: missing '}'"),
        ("${full:-x", "failed to process \"${full:-x\": syntax error: missing '}'"),
        ("${}", 'failed to process "${}": syntax error: bad substitution'),
        ("${:-x}", 'failed to process "${:-x}": syntax error: bad substitution'),
        ("${{x}", 'failed to process "${{x}": syntax error: bad substitution'),
        ("${full=x}", 'failed to process "${full=x}": unsupported modifier (=) in substitution'),
        ("${full:x}", 'failed to process "${full:x}": unsupported modifier (:x) in substitution'),
        ("${full:#x}", 'failed to process "${full:#x}": unsupported modifier (:#) in substitution'),
        ("${full/x}", "failed to process \"${full/x}\": syntax error: missing '/' in ${}"),
        ("${full/x/y", "failed to process \"${full/x/y\": syntax error: missing '}'"),
        ("${none?}", 'failed to process "${none?}": none: is not allowed to be unset'),
        ("${none:?}", 'failed to process "${none:?}": none: is not allowed to be unset'),
        ("${empty:?}", 'failed to process "${empty:?}": empty: is not allowed to be empty'),
        ("${none?say $full}", 'failed to process "${none?say $full}": none: say value'),
        ("${full#\\x}", "failed to process \"${full#\\\\x}\": invalid pattern (\\x) in substitution: invalid escape '\\x'"),
    ],
)
def test_what_is_wrong(text, message):
    assert failure(text) == message


def test_what_is_used_and_what_is_not_defined():
    expansion = WORDS.expand("$a ${b:-$full} ${c+x} $empty '$d' \\$e", ENV)
    assert expansion.undefined == {"a", "b", "c"}
    assert expansion.used == {"full", "empty"}


def test_the_backtick_escapes_instead_of_the_backslash():
    words = Words("`")
    assert expand('C:\\$full `$full "`$full \\x ``"', words) == "C:\\value $full $full \\x `"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a  b\tc", ["a", "b", "c"]),
        ("  a ", ["a"]),
        ("$spaced", ["two", "words"]),
        ('"$spaced"', ["two  words"]),
        ("x$spaced'y z'", ["xtwo", "wordsy z"]),
        ("a\\ b", ["a b"]),
        ("$none \"\" ''", []),
        ("80 ${none:-81 82}/tcp", ["80", "81", "82/tcp"]),
        ("", []),
    ],
)
def test_split(text, expected):
    assert WORDS.split(text, ENV)[0] == expected


def test_split_tells_what_is_not_defined():
    assert WORDS.split("$a $full ${b}", ENV) == (["value"], {"a", "b"})


def test_what_is_kept():
    assert expand("'a' \"$full\"", Words(keep_quotes=True)) == "'a' \"value\""
    assert expand('\\a "\\$" \\', Words(keep_escapes=True)) == "\\a \\$ \\"
    kept = Words(keep_unset=True)
    text = "$a ${b} ${c:-x} ${d#y} ${e/f/g} $full"
    assert expand(text, kept) == "$a ${b} ${c:-x} ${d#y} ${e/f/g} value"


def test_heredocs_have_no_quotes_and_the_backslash_escapes():
    assert expand('it\'s "$full" \\$full `x`\n\\\\', HEREDOC) == 'it\'s "value" $full `x`\n\\'


def test_results_are_bounded():
    half = "x" * (MAX_RESULT // 2)
    env = {"a": half, "b": "y" * 1000}
    assert len(WORDS.expand("$a$a", env).text) == MAX_RESULT
    for text in ("$a${a}x", '"$a$a$a"', "${c:-$a$a$a}", "${b//y/$a}"):
        with pytest.raises(DockerfileError, match=f"result is longer than {MAX_RESULT} characters"):
            WORDS.expand(text, env)
    # What ARG a=$a$a any number of times comes to.
    value = "x"
    with pytest.raises(DockerfileError, match="result is longer"):  # noqa: PT012
        for _ in range(100):
            value = WORDS.expand("$a$a", {"a": value}).text


def test_nesting_is_bounded():
    def nested(depth):
        return "${a:-" * depth + "x" + "}" * depth

    assert expand(nested(MAX_NESTING)) == "x"
    assert expand('"${a:-' * MAX_NESTING + "x" + '}"' * MAX_NESTING) == "x"
    assert "more than 100 substitutions in each other" in failure(nested(MAX_NESTING + 1))
    assert "more than 100 substitutions in each other" in failure(nested(100_000))


def test_patterns_are_bounded():
    assert "pattern is longer than 1024 characters" in failure("${full#" + "*a" * 600 + "}")
    with pytest.raises(DockerfileError, match="value is longer than 131072 characters"):
        WORDS.expand("${a%x}", {"a": "x" * 200_000})


@pytest.mark.timeout(20)
@pytest.mark.parametrize("operation", ["#", "##", "%", "%%", "/", "//"])
def test_patterns_dont_go_back_and_forth(operation):
    pattern = "*a" * 500 + "b"
    text = f"${{x{operation}{pattern}{'/y' if '/' in operation else ''}}}"
    value = "a" * 100_000
    assert WORDS.expand(text, {"x": value}).text == value


@given(st.text(max_size=60))
def test_what_the_shell_quotes_is_taken_as_it_is(text):
    assert WORDS.expand(shlex.quote(text), {}).text == text


@given(st.text(alphabet="$a{}:-+?#%/'\"\\ *x", max_size=40))
def test_anything_is_expanded_or_refused(text):
    try:
        expansion = WORDS.expand(text, {"a": "a x", "x": ""})
        words, undefined = WORDS.split(text, {"a": "a x", "x": ""})
    except DockerfileError:
        return
    assert undefined == expansion.undefined
    assert all(words)
    assert "".join("".join(words).split()) == "".join(expansion.text.split())
