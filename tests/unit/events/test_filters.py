"""Docker's filters: parsing, validation, matching."""

from __future__ import annotations

import pytest
from boxshipd.errors import InvalidParameter
from boxshipd.filters import Filters


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ('{"label":["a","b=c"]}', ("a", "b=c")),
        ('{"label":{"a":true,"b=c":true,"off":false}}', ("a", "b=c")),
        ("", ()),
        (None, ()),
    ],
)
def test_both_forms_are_parsed(text, values):
    assert Filters.parse(text).get("label") == values


@pytest.mark.parametrize("text", ["[]", "{", '{"label":"a"}', '{"label":[1]}', "nonsense"])
def test_anything_else_is_refused(text):
    with pytest.raises(InvalidParameter, match="invalid filters"):
        Filters.parse(text)


def test_unknown_names_are_refused():
    with pytest.raises(InvalidParameter, match="invalid filter 'colour'"):
        Filters({"colour": ["red"]}).validate({"label"})


def test_an_absent_name_matches_everything():
    filters = Filters()
    assert filters.exact("x", "y")
    assert filters.prefix("x", "y")
    assert filters.pattern("x", "y")
    assert filters.labels("x", None)
    assert filters.not_labels("x", {"a": "b"})
    assert not filters


def test_exact_prefix_and_pattern():
    filters = Filters({"name": ["ab", "^c.d$"]})
    assert filters.exact("name", "ab")
    assert not filters.exact("name", "abc")
    assert filters.prefix("name", "abc")
    assert filters.pattern("name", "xaby")
    assert filters.pattern("name", "cxd")
    assert not filters.pattern("name", "ccxd")


def test_a_pattern_that_is_none_still_matches_itself():
    assert Filters({"name": ["a(b"]}).pattern("name", "a(b")
    assert not Filters({"name": ["a(b"]}).pattern("name", "ab")


def test_all_labels_must_be_there():
    labels = {"a": "1", "b": "2"}
    assert Filters({"label": ["a", "b=2"]}).labels("label", labels)
    assert not Filters({"label": ["a", "b=3"]}).labels("label", labels)
    assert not Filters({"label": ["c"]}).labels("label", labels)
    assert not Filters({"label": ["a"]}).labels("label", None)
    assert not Filters({"label!": ["a", "z"]}).not_labels("label!", labels)
    assert Filters({"label!": ["a=9", "z"]}).not_labels("label!", labels)


def test_booleans():
    assert Filters({"dangling": ["1"]}).boolean("dangling", False) is True
    assert Filters({"dangling": ["false"]}).boolean("dangling", True) is False
    assert Filters().boolean("dangling", True) is True
    with pytest.raises(InvalidParameter, match="invalid filter 'dangling="):
        Filters({"dangling": ["maybe"]}).boolean("dangling", True)
