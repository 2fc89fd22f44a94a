"""A file is whole or not there; JSON is read with errors for people."""

import os
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


def claimed(target, **options):
  """'' where the target may be written, else why not."""
  before = sorted(path.name for path in target.parent.glob("*"))
  try:
    storage.claim(target, **options)
  except errors.UserError as error:
    assert sorted(path.name for path in target.parent.glob("*")) == before
    return str(error)
  return ""


@pytest.fixture
def places(tmp_path):
  """A file and a folder that are read, and other names for them."""
  (tmp_path / "in" / "deep").mkdir(parents=True)
  for name in ("data.jsonl", "a[1].jsonl"):
    (tmp_path / name).write_text("{}\n")
  (tmp_path / "in" / "weights").write_text("1")
  os.link(tmp_path / "data.jsonl", tmp_path / "hard")
  (tmp_path / "soft").symlink_to("data.jsonl")
  (tmp_path / "folder").symlink_to("in")
  return tmp_path


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize(
  ("target", "read", "how"),
  [
    ("data.jsonl", "data.jsonl", "is"),
    ("in/../data.jsonl", "data.jsonl", "is"),
    ("hard", "data.jsonl", "is"),
    ("soft", "data.jsonl", "is"),
    ("data.jsonl", "soft", "is"),
    ("data.jsonl", "*.jsonl", "is"),
    ("a[1].jsonl", "a[1].jsonl", "is"),
    ("in", "folder/", "is"),
    ("in/new", "in", "lies in"),
    ("in/deep/new/er", "folder", "lies in"),
    ("folder/weights", "in", "lies in"),
    ("in", "in/weights", "holds"),
    ("folder", "in/deep", "holds"),
    (".", "data.jsonl", "holds"),
  ],
)
def test_nothing_is_written_onto_what_is_read(
  places, target, read, how, overwrite
):
  options = {"reads": [places / "nowhere", f"{places}/{read}"]}
  path = epath.Path(f"{places}/{target}")
  for folder in (False, True):
    said = claimed(path, **options, folder=folder, overwrite=overwrite)
    assert f": {how} {places}/" in said
    assert "which is read" in said


@pytest.mark.parametrize(
  ("target", "read"),
  [("new", "data.jsonl"), ("more/new", "in"), ("inner", "in"), ("i", "in")],
)
def test_a_new_place_may_be_written(places, target, read):
  for folder in (False, True):
    assert not claimed(places / target, reads=[places / read], folder=folder)


def test_what_was_not_written_here_needs_a_word(places):
  said = claimed(places / "data.jsonl", flag="--replace")
  assert said.startswith(f"{places / 'data.jsonl'}: is there already")
  assert "--replace" in said
  assert not claimed(places / "data.jsonl", overwrite=True)
  assert "is there already" in claimed(places / "in", folder=True)
  assert not claimed(places / "in", folder=True, overwrite=True)
  (places / "empty").mkdir()
  assert not claimed(places / "empty", folder=True)


def test_what_was_signed_may_be_written_until_somebody_changes_it(places):
  file, folder = places / "data.jsonl", places / "in"
  storage.sign(file, folder)
  assert not claimed(file)
  assert not claimed(folder, folder=True)
  (folder / "weights").unlink()
  assert not claimed(folder, folder=True)
  (folder / "deep" / "mine").write_text("")
  assert "is there already" in claimed(folder, folder=True)
  file.write_text("{ }\n")
  assert "is there already" in claimed(file)
  storage.write(file, "[]\n")
  os.utime(file, ns=(0, 0))
  assert "is there already" in claimed(file)
  storage.sign(file)
  assert not claimed(file)
  assert "is there already" in claimed(folder, folder=True)


def test_what_can_be_no_target_is_said(places):
  (places / "nothing").symlink_to("gone")
  for target, folder, said in (
    ("in", False, "in: is a folder, where a file is due"),
    ("data.jsonl", True, "data.jsonl: is a file, where a folder is due"),
    ("data.jsonl/x/y", False, "data.jsonl: is a file, where a folder is due"),
    ("nothing", True, "nothing: is a link to nothing, where a folder is due"),
    ("nothing", False, "nothing: is a link to nothing, where a file is due"),
    ("nothing/x", True, "nothing: is a link to nothing, where a folder is due"),
    ("x" * 300, False, "File name too long"),
  ):
    path = places / target
    for overwrite in (False, True):
      assert said in claimed(path, folder=folder, overwrite=overwrite)
  device = epath.Path("/dev/null")
  assert "a device or a pipe" in claimed(device, overwrite=True)
  with pytest.raises(errors.UserError, match="an empty path"):
    storage.claim("")


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
