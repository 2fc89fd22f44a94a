"""What a command may write, and what it knows as its own."""

import os

import pytest
from etils import epath

from instruct_jax.base import claims, errors, storage


def claimed(target, **options):
  """'' where the target may be written, else why not."""
  before = sorted(path.name for path in target.parent.glob("*"))
  try:
    claims.claim(target, **options)
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
  claims.sign(file, folder)
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
  claims.sign(file)
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
    claims.claim("")
