"""Each instruction, typed, and what is wrong with it in Docker's words."""

from __future__ import annotations

import pytest
from boxshipd.builder.dockerfile.instructions import Argument, Command, Pair
from boxshipd.builder.dockerfile.parser import parse, parse_trigger
from boxshipd.builder.errors import DockerfileError


def one(text):
    (stage,) = parse(f"FROM a\n{text}\n".encode()).stages
    (instruction,) = stage.instructions
    return instruction


def shell(line):
    return Command(args=(line,))


def exact(*args):
    return Command(args=args, shell=False)


def test_stages():
    file = parse(
        b"ARG V=1 W\nARG X=\nFROM --platform=linux/$A base:${V} AS First.stage-1_x\nRUN a\nRUN b\nfrom first.stage-1_x\nCMD c"
    )
    assert [each.arguments for each in file.arguments] == [(Argument("V", "1"), Argument("W")), (Argument("X", ""),)]
    first, second = file.stages
    assert (first.source.image, first.source.platform, first.source.name) == (
        "base:${V}",
        "linux/$A",
        "first.stage-1_x",
    )
    assert [each.command.args[0] for each in first.instructions] == ["a", "b"]
    assert (second.source.image, second.source.name, second.source.keyword) == ("first.stage-1_x", "", "FROM")


@pytest.mark.parametrize("keyword", ["RUN", "CMD", "ENTRYPOINT"])
@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ('["a", "b c", "\\u00e9\\n"]', exact("a", "b c", "é\n")),
        ("[]", exact()),
        ("[ ]  ", exact()),
        ("  a  b  ", shell("a  b")),
        ("['a', 'b']", shell("['a', 'b']")),
        ('["a", "b"', shell('["a", "b"')),
        ('["a"] x', shell('["a"] x')),
        ('["a",]', shell('["a",]')),
        ("[ -f x ] || y", shell("[ -f x ] || y")),
        ("\"a b\" 'c' $x", shell("\"a b\" 'c' $x")),
        ("", shell("")),
    ],
)
def test_commands_are_json_or_for_the_shell(keyword, written, expected):
    instruction = one(f"{keyword} {written}")
    assert instruction.command == expected
    assert instruction.keyword == keyword


@pytest.mark.parametrize("items", ['["a", 1]', "[null]", '[["a"]]', '["a", {}]', "[true]"])
def test_json_has_to_be_of_strings(items):
    message = "when using JSON array syntax, arrays must be comprised of strings only"
    for keyword in ("RUN", "CMD", "ENTRYPOINT", "SHELL", "VOLUME", "COPY", "HEALTHCHECK CMD"):
        with pytest.raises(DockerfileError, match=message):
            one(f"{keyword} {items}")


def test_run_flags():
    run = one("RUN --mount=type=cache,target=/c --mount='type=tmpfs,dst=/t x' --network=none --security=insecure -- --help x")
    assert run.mounts == ("type=cache,target=/c", "type=tmpfs,dst=/t x")
    assert (run.network, run.security) == ("none", "insecure")
    assert run.command == shell("--help x")
    assert one('RUN --network=host ["a"]').command == exact("a")


def test_a_flag_must_come_first():
    assert one("RUN a --network=none").command == shell("a --network=none")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("RUN --network=hots x", 'invalid network mode "hots" (did you mean host?)'),
        ("RUN --security=none x", 'security "none" is not valid'),
        ("RUN --mounts=x y", "unknown flag: --mounts (did you mean mount?)"),
        ("RUN --device=x y", "unknown flag: --device"),
        ("RUN --network x", "missing a value on flag: network"),
        ("RUN --network=none --network=none x", "duplicate flag specified: network"),
        ("RUN --mount=from=$x,target=/y z", "'from' doesn't support variable expansion, define alias stage instead"),
        ("COPY --link=maybe a b", "expecting boolean value for flag link, not: maybe"),
        ("COPY --link= a b", "missing a value on flag: link"),
        ("CMD --x y", "unknown flag: --x"),
        ("ENV --x y=z", "unknown flag: --x"),
        ("ARG --x y", "unknown flag: --x"),
    ],
)
def test_flags_that_are_wrong(text, message):
    with pytest.raises(DockerfileError) as error:
        one(text)
    assert error.value.message == message


def test_copy():
    copy = one("COPY --from=b --chown=u:g --chmod=u+x --link --parents --exclude=*.md --exclude=x a 'b  c/' /d/")
    assert copy.sources == ("a", "'b", "c/'")
    assert copy.destination == "/d/"
    assert (copy.from_, copy.chown, copy.chmod, copy.link, copy.parents) == ("b", "u:g", "u+x", True, True)
    assert copy.exclude == ("*.md", "x")
    assert one('COPY --link=FALSE ["a b", "c", "d e/"]').sources == ("a b", "c")
    assert one('COPY --link=FALSE ["a b", "c", "d e/"]').link is False


def test_add():
    add = one("ADD --checksum=sha256:x --keep-git-dir=true --unpack=false --link --chown=1 --chmod=2 --exclude=z https://x /y")
    assert (add.sources, add.destination, add.checksum) == (("https://x",), "/y", "sha256:x")
    assert (add.keep_git_dir, add.unpack, add.link, add.chown, add.chmod) == (True, False, True, "1", "2")
    assert add.exclude == ("z",)
    assert one("ADD a b").unpack is None


@pytest.mark.parametrize("keyword", ["ENV", "LABEL"])
@pytest.mark.parametrize(
    ("written", "pairs"),
    [
        ("a=b", (Pair("a", "b"),)),
        ("a=b c= d=e=f", (Pair("a", "b"), Pair("c", ""), Pair("d", "e=f"))),
        ('a="b c" d=\'e "f\' g=h\\ i', (Pair("a", '"b c"'), Pair("d", "'e \"f'"), Pair("g", "h\\ i"))),
        ('a="b \\" c" d=e', (Pair("a", '"b \\" c"'), Pair("d", "e"))),
        ("a='b\\' c=d", (Pair("a", "'b\\'"), Pair("c", "d"))),
        ('"a b"="c d"', (Pair('"a b"', '"c d"'),)),
        ("a b c = d", (Pair("a", "b c = d", legacy=True),)),
        ("a\t  b=c", (Pair("a", "b=c", legacy=True),)),
        ('a "b c"', (Pair("a", '"b c"', legacy=True),)),
    ],
)
def test_names_with_values(keyword, written, pairs):
    assert one(f"{keyword} {written}").pairs == pairs


def test_names_with_values_escaped_by_a_backtick():
    file = parse(b'# escape=`\nFROM a\nENV a=b` c d="e`" f" g=C:\\')
    (env,) = file.stages[0].instructions
    assert env.pairs == (Pair("a", "b` c"), Pair("d", '"e`" f"'), Pair("g", "C:\\"))


def test_arg():
    assert one('ARG a b=c d="e f" g=').arguments == (
        Argument("a"),
        Argument("b", "c"),
        Argument("d", '"e f"'),
        Argument("g", ""),
    )


def test_health_check():
    check = one("HEALTHCHECK --interval=5m --timeout=3s --start-period=0 --start-interval=1h30m --retries=3 CMD a || b")
    assert check.command == shell("a || b")
    assert (check.interval, check.timeout, check.start_period) == ("5m", "3s", "0")
    assert (check.start_interval, check.retries) == ("1h30m", "3")
    assert one('HEALTHCHECK cmd ["a", "b"]').command == exact("a", "b")
    assert one("HEALTHCHECK none").command is None


def test_the_others():
    assert one("EXPOSE 80 443/tcp 1-2/udp $x").ports == ("$x", "1-2/udp", "443/tcp", "80")
    assert one('VOLUME ["/a b", " /c "]').paths == ("/a b", "/c")
    assert one("VOLUME /a  /b").paths == ("/a", "/b")
    assert one("USER a b:c").user == "a b:c"
    assert one("WORKDIR /a b/$c").path == "/a b/$c"
    assert one("STOPSIGNAL SIGKILL").signal == "SIGKILL"
    assert one("MAINTAINER A B <c@d>").name == "A B <c@d>"
    assert one('SHELL ["/bin/bash", "-c"]').args == ("/bin/bash", "-c")


def test_on_build():
    build = one("OnBuild   run  --network=none a \\\n  b")
    assert (build.trigger, build.keyword) == ("run  --network=none a   b", "ONBUILD")
    trigger = parse_trigger(build.trigger)
    assert (trigger.network, trigger.command) == ("none", shell("a   b"))
    with pytest.raises(DockerfileError, match="ONBUILD has to be one instruction, not 2"):
        parse_trigger("RUN a\nRUN b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ENV", "ENV requires at least one argument"),
        ("ENV a", "ENV must have two arguments"),
        ("LABEL a=b c", 'Syntax error - can\'t find = in "c". Must be of the form: name=value'),
        ("ENV =b", "ENV names can not be blank"),
        ("ARG", "ARG requires at least one argument"),
        ("ARG =b", "ARG names can not be blank"),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a is b", "FROM requires either one or three arguments"),
        ("FROM a AS 1b", 'invalid name for build stage: "1b", name can\'t start with a number or contain symbols'),
        ("FROM a AS $x", 'invalid name for build stage: "$x", name can\'t start with a number or contain symbols'),
        (
            "COPY a",
            "COPY requires at least two arguments, but only one was provided. Destination could not be determined",
        ),
        ("ADD", "ADD requires at least two arguments, but only one was provided. Destination could not be determined"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        ('VOLUME [" "]', "VOLUME specified can not be an empty string"),
        ("USER", "USER requires exactly one argument"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("SHELL", "SHELL requires at least one argument"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("SHELL bash -c", "SHELL requires the arguments to be in JSON form"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE x", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK CMD []", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK curl x", 'Unknown type "CURL" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK --interval=1us CMD x", 'Interval "interval" cannot be less than 1ms'),
        ("HEALTHCHECK --timeout=5 CMD x", 'time: missing unit in duration "5"'),
        ("HEALTHCHECK --retries=-1 CMD x", "--retries cannot be negative (-1)"),
        ("HEALTHCHECK --retries=x CMD y", 'invalid value "x" for --retries'),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD RUN x", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD from x", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD Maintainer x", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("ONBUILD ENV x", "ENV must have two arguments"),
        ("RNU x", "unknown instruction: RNU (did you mean RUN?)"),
        ("cpoy a b", "unknown instruction: cpoy (did you mean copy?)"),
        ("Frm x", "unknown instruction: Frm (did you mean from?)"),
        ("apt-get install x", "unknown instruction: apt-get"),
        ("\u017fHELL x", "unknown instruction: \u017fHELL (did you mean shell?)"),
    ],
)
def test_what_is_wrong(text, message):
    with pytest.raises(DockerfileError) as error:
        one(text)
    assert error.value.message == message
    assert str(error.value) == f"dockerfile parse error on line 2: {message}"
