"""Resolving Docker's user[:group] against hostile and ordinary files, without a container."""

import os

import pytest
from boxrun.container import users
from boxrun.errors import StartError
from hypothesis import given
from hypothesis import strategies as st


@pytest.fixture
def root(tmp_path):
    (tmp_path / "etc").mkdir()
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield tmp_path, fd
    os.close(fd)


@pytest.mark.parametrize("text", ["0", "1", "007", "2147483647"])
def test_numbers(text):
    assert users.parse_id(text) == int(text)


@pytest.mark.parametrize("text", ["", "name", "1x", "0x1", "1 ", " 1", "1_000", "٠", "-", "+", "1e3"])
def test_what_is_no_number(text):
    assert users.parse_id(text) is None


@pytest.mark.parametrize("text", ["-1", "+1", "2147483648", "4294967296", "9" * 5000, "-0"])
def test_numbers_out_of_range(text):
    with pytest.raises(StartError, match="uids and gids must be in range 0-2147483647"):
        users.parse_id(text)


@given(st.text(max_size=20))
def test_an_id_is_in_range_or_nothing(text):
    try:
        found = users.parse_id(text)
    except StartError:
        return
    assert found is None or (0 <= found <= users.MAX_ID and text.isascii() and text.isdigit())


def test_without_files_only_numbers_work(root):
    _, fd = root
    assert users.resolve(fd, "") == users.Identity(0, 0, (0,), "/")
    assert users.resolve(fd, "5:6", ("7",)) == users.Identity(5, 6, (6, 7), "/")
    with pytest.raises(StartError, match="unable to find user name: no matching entries in passwd file"):
        users.resolve(fd, "name")


def test_a_trailing_colon_is_no_group(root):
    path, fd = root
    (path / "etc/passwd").write_text("bob:x:3:4::/b:\n")
    assert users.resolve(fd, "bob:") == users.Identity(3, 4, (4,), "/b")
    with pytest.raises(StartError, match="invalid user specification"):
        users.resolve(fd, ":")


def test_a_name_that_looks_like_a_number_is_the_first_that_matches(root):
    path, fd = root
    (path / "etc/passwd").write_text("1000:x:5:5::/five:\nreal:x:1000:1000::/real:\n")
    assert users.resolve(fd, "1000").uid == 5


def test_an_explicit_group_drops_memberships(root):
    path, fd = root
    (path / "etc/passwd").write_text("bob:x:3:4::/b:\n")
    (path / "etc/group").write_text("one:x:11:bob\ntwo:x:12:alice,bob\nthree:x:13:bobby\nbad:x:y:bob\n")
    assert users.resolve(fd, "bob").groups == (4, 11, 12)
    assert users.resolve(fd, "bob:two").groups == (12,)
    assert users.resolve(fd, "bob", ("three",)).groups == (4, 11, 12, 13)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_files_give_an_identity_or_a_start_error(passwd, group):
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        os.mkdir(f"{directory}/etc")
        for name, content in (("passwd", passwd), ("group", group)):
            with open(f"{directory}/etc/{name}", "wb") as file:
                file.write(content)
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
        try:
            identity = users.resolve(fd, "bob:staff", ("extra",))
        except StartError:
            return
        finally:
            os.close(fd)
        assert all(0 <= number <= users.MAX_ID for number in (identity.uid, identity.gid, *identity.groups))
