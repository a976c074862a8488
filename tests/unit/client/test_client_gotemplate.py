"""Go templates: what --format can say, and what it prints."""

from __future__ import annotations

import pytest
from boxship.errors import TemplateError
from boxship.terminal.gotemplate import Template

DATA = {
    "Name": "web",
    "State": {"Status": "running", "Running": True, "Pid": 12},
    "Config": {"Labels": {"a": "b"}, "Env": ["X=1", "Y=2"], "Cmd": None, "Volumes": None},
    "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}], "70/tcp": None},
    "Number": 5,
    "Label": lambda name: f"<{name}>",
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "plain"),
        ("{{.Name}}", "web"),
        ("{{ .State.Status }}", "running"),
        ("{{.State}}", "{running true 12}"),
        ("{{.Config.Labels}} {{.Config.Env}}", "map[a:b] [X=1 Y=2]"),
        ("{{.Config.Cmd}} {{.Config.Volumes}}", "[] map[]"),
        ("{{json .Config}}", '{"Labels":{"a":"b"},"Env":["X=1","Y=2"],"Cmd":null,"Volumes":null}'),
        ("{{json .Name}} {{.Name | json}}", '"web" "web"'),
        ("{{.Config.Labels.missing}}", "<no value>"),
        ('{{index .Config.Labels "a"}}', "b"),
        ("{{index .Config.Env 1}}", "Y=2"),
        ('{{(index .Ports "80/tcp" 0).HostPort}}', "8080"),
        ('{{(index (index .Ports "80/tcp") 0).HostPort}}', "8080"),
        ("{{range $k, $v := .Ports}}{{$k}}={{$v}} {{end}}", "70/tcp=<nil> 80/tcp=[{0.0.0.0 8080}] "),
        ("{{range .Config.Env}}[{{.}}]{{end}}", "[X=1][Y=2]"),
        ("{{range $i, $e := .Config.Env}}{{if $i}},{{end}}{{$e}}{{end}}", "X=1,Y=2"),
        ("{{range .Config.Cmd}}x{{else}}none{{end}}", "none"),
        ('{{range .Config.Env}}{{if eq . "Y=2"}}{{break}}{{end}}{{.}}{{end}}', "X=1"),
        ('{{range .Config.Env}}{{if eq . "X=1"}}{{continue}}{{end}}{{.}}{{end}}', "Y=2"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "up"),
        ("{{if .Config.Cmd}}a{{else if eq .Number 5}}b{{else}}c{{end}}", "b"),
        ("{{with .State}}{{.Pid}}{{end}}{{with .Config.Cmd}}x{{else}}y{{end}}", "12y"),
        ("{{$x := 1}}{{range .Config.Env}}{{$x = .}}{{end}}{{$x}}", "Y=2"),
        ("{{range .Config.Env}}{{$.Name}}{{end}}", "webweb"),
        ('{{join .Config.Env ", " | upper}}', "X=1, Y=2"),
        ('{{split "a,b" ","}}', "[a b]"),
        ('{{printf "%-5s|%05d|%q|%v|%t|%%|%x" "a" 42 "x" .Number true 255}}', 'a    |00042|"x"|5|true|%|ff'),
        ('{{println "a" "b"}}{{print 1 2 "c" 3}}', "a b\n1 2c3"),
        ("{{len .Config.Env}} {{len .Name}}", "2 3"),
        (
            "{{eq .Number 5}} {{eq .Number 1 5}} {{ne .Number 5}} {{lt .Number 6}} {{ge .Number 6}}",
            "true true false true false",
        ),
        ("{{and .State.Running .Name}} {{or .Config.Cmd .Name}} {{not .Name}}", "web web false"),
        ('{{if and .State.Running (eq .Number 5) (or false (eq .Name "web"))}}ok{{end}}', "ok"),
        ('{{.Label "x"}}', "<x>"),
        ('{{"quoted \\"text\\""}} {{`raw {{}}`}}', 'quoted "text" raw {{}}'),
        ("a {{- .Name -}} b", "awebb"),
        ("{{/* nothing */}}x", "x"),
        ('{{title "ab cd"}} {{lower "AB"}} {{truncate "abcdef" 3}} {{pad "a" 1 2}}|', "Ab Cd ab abc  a  |"),
        ("{{.NAME}} {{.State.PID}}", "web 12"),
        ("{{slice .Name 1}} {{slice .Name 0 2}}", "eb we"),
    ],
)
def test_output(template, text):
    assert Template(template).execute(DATA) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Nope}}", "can't evaluate field Nope"),
        ("{{.Name.First}}", "can't evaluate field First"),
        ("{{.State", "unclosed action"),
        ("{{if .Name}}", "no {{end}}"),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{nope .Name}}", 'function "nope" not defined'),
        ("{{$x}}", 'undefined variable "$x"'),
        ("{{(.Name}}", "unclosed left paren"),
        ("{{.Name)}}", "unexpected right paren"),
        ("{{}}", "missing value for command"),
        ("{{.Name | }}", "missing value for command"),
        ("{{index .Config.Env 9}}", "index out of range"),
        ("{{range .Name}}x{{end}}", "can't iterate"),
        ('{{define "x"}}{{end}}', "not available"),
        ("{{.Number 5}}", "has arguments"),
    ],
)
def test_mistakes(template, message):
    with pytest.raises(TemplateError) as caught:
        Template(template).execute(DATA)
    assert message in str(caught.value)


def test_fields_that_docker_leaves_out_are_false_but_not_an_error():
    assert Template("{{if .State.Health}}{{.State.Health.Status}}{{else}}none{{end}}").execute(DATA) == "none"
