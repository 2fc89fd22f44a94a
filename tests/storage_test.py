"""A file is whole or not there; JSON is read with errors for people."""

import hashlib
import pathlib

import pytest
from etils import epath

from instruct_jax.base import errors, storage


def test_an_error_leaves_what_was_there_and_nothing_beside(tmp_path):
  path = tmp_path / "a.txt"
  storage.write(path, "before")

  def interrupted():
    with storage.writing(path) as file:
      file.write("half")
      assert path.read_text() == "before"
      assert len(list(tmp_path.iterdir())) == 2  # the half one beside it
      raise KeyboardInterrupt

  with pytest.raises(KeyboardInterrupt):
    interrupted()
  assert path.read_text() == "before"
  assert list(tmp_path.iterdir()) == [path]


def test_text_bytes_and_lines(tmp_path):
  path = epath.Path(tmp_path / "a")
  storage.write(path, "ä\n\x85\u2028")
  assert path.read_bytes() == "ä\n\x85\u2028".encode()
  storage.write(path, b"\xff\r\n")
  assert path.read_bytes() == b"\xff\r\n"
  storage.write_lines(path, iter(["ä", "", "b"]))
  assert path.read_bytes() == "ä\n\nb\n".encode()


def test_json_comes_back(tmp_path):
  tree = {"": None, "ä\u2028": [True, 2**70, -0.5, ["\ud800"]], "a.b": {"": {}}}
  storage.write_json(tmp_path / "a", tree)
  assert storage.read_json(tmp_path / "a") == tree


def test_what_json_cannot_hold_is_written_as_its_text(tmp_path):
  storage.write_json(tmp_path / "a", {"path": pathlib.Path("x/y")})
  assert storage.read_json(tmp_path / "a") == {"path": "x/y"}


@pytest.mark.parametrize(
  ("content", "problem"),
  [
    (None, "no such file"),
    (b'{"a": 1', "not readable JSON"),
    (b"\xff", "not readable JSON"),
    (b'{"a": {"b": 1, "b": 2}}', "the key 'b' stands twice"),
    (b"[1]", "a JSON object should stand here"),
    (b"[" * 100_000, "not readable JSON"),
    (b'{"a": "' + b"x" * 100 + b'"}', "too large"),
  ],
)
def test_errors_name_the_file(tmp_path, content, problem):
  path = tmp_path / "settings.json"
  if content is not None:
    path.write_bytes(content)
  most = 50 if problem == "too large" else 1 << 20
  with pytest.raises(errors.UserError, match=problem) as error:
    storage.read_json(path, most_bytes=most)
  assert str(path) in str(error.value)


def test_two_do_not_write_a_file_at_once(tmp_path):
  path = tmp_path / "a.txt"
  with storage.writing(path) as file:
    file.write("one")
    with (
      pytest.raises(errors.UserError, match="another process is writing"),
      storage.writing(path),
    ):
      pytest.fail("two at once")
  assert path.read_text() == "one"
  # What a killed process left is no hindrance, and does not show through.
  (tmp_path / ".a.txt.partial").write_text("a longer text")
  storage.write(path, "two")
  assert path.read_text() == "two"
  assert list(tmp_path.iterdir()) == [path]


def test_a_digest_is_that_of_the_whole_file_in_blocks(tmp_path):
  content = bytes(range(256)) * 5000  # more than a block
  (tmp_path / "a").write_bytes(content)
  assert b"".join(storage.blocks(tmp_path / "a")) == content
  assert len(list(storage.blocks(tmp_path / "a"))) == 2
  assert storage.digest(tmp_path / "a") == hashlib.sha256(content).hexdigest()
