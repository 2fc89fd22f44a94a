"""What leaves by the door: which code, which words, for which error."""

import errno
import os
import subprocess
import sys

import pytest

from instruct_jax.base import errors
from tests import doors


def raised(*chain):
  """The last error of a chain, each raised from the one before it."""
  before = None
  for error in chain:
    error.__cause__, before = before, error
  return before


class XlaRuntimeError(RuntimeError):
  """By this name the device's errors are known."""


@pytest.mark.parametrize(
  ("error", "words"),
  [
    (OSError(errno.ENOSPC, "full", "/x/y"), "/x/y: No space left; make room"),
    (OSError(errno.EACCES, "no", "/x"), "/x: Permission denied; right"),
    (OSError(errno.EROFS, "no", "/x"), "/x: Read-only; another place"),
    (OSError(errno.EDQUOT, "no", "/x"), "/x: quota"),
    (OSError(errno.ENOTDIR, "no", "/x"), "/x: Not a directory; file stands"),
    (OSError(errno.EXDEV, "no", "/a", None, "/b"), ""),
    (OSError(errno.EIO, "no", "/a", None, "/b"), "/a -> /b: damaged"),
    (IsADirectoryError("Cannot overwrite: x is a directory"), "x folder file"),
    (MemoryError(), "out of memory smaller"),
    (MemoryError("27 TiB"), "27 TiB"),
    (XlaRuntimeError("RESOURCE_EXHAUSTED: 9 bytes"), "device 9 bytes smaller"),
    (RuntimeError("RESOURCE_EXHAUSTED: 9 bytes"), ""),
    (ValueError("writing x: No space left on device [28]\nmore"), "make room"),
    (raised(OSError(errno.ENOENT, "no", "/x"), RuntimeError("y")), "/x: moved"),
    (ValueError("x"), ""),
    (OSError("x"), ""),
  ],
)
def test_what_the_system_refuses(error, words):
  said = errors.of_system(error)
  assert bool(said) == bool(words)
  for word in words.split():
    assert word.rstrip(";:") in said


@pytest.mark.parametrize(
  ("number", "counts"), [(errno.ENOSPC, True), (errno.ENOENT, False)]
)
def test_what_an_error_met_on_its_way_counts_if_only_disks_give_it(
  number, counts
):
  """A KeyError while a missing file is dealt with is a bug of ours."""

  def stumble():
    try:
      raise OSError(number, "x", "/x")
    except OSError:
      return {}["y"]

  with pytest.raises(KeyError) as met:
    stumble()
  assert bool(errors.of_system(met.value)) == counts


def door(body, **more):
  """(exit code, stderr) of a command whose `main` is `body`."""
  program = (
    "from instruct_jax.base import command, errors, interrupt\n"
    f"def main():\n  {body}\n"
    f"command.run(main, **{more})"
  )
  done = subprocess.run(
    [sys.executable, "-c", program],
    capture_output=True,
    text=True,
    env=os.environ | {"PYTHONPATH": str(doors.ROOT)},
    check=False,
  )
  assert "Exception ignored" not in done.stderr
  return done.returncode, done.stderr


@pytest.mark.parametrize(
  ("body", "code", "said"),
  [
    ("pass", 0, ""),
    ("raise errors.UserError('why')", 2, "error: why\n"),
    ("raise errors.Diverged('why')", 3, "error: why\n"),
    ("raise SystemExit", 0, ""),
    ("raise SystemExit(7)", 7, ""),
    ("raise interrupt.Left", 130, ""),
    ("open('/dev/null/x')", 2, "error: /dev/null/x: Not a directory; a file "
     "stands where a folder should: name another place; then give the "
     "same command again\n"),
  ],
)  # fmt: skip
def test_a_message_and_a_code(body, code, said):
  assert door(body, resumes="it goes on") == (code, said)


def test_what_nobody_foresaw_is_a_bug_and_says_so():
  code, said = door("{}['x']")
  assert code == 1
  assert said.startswith("Traceback")
  assert "KeyError: 'x'" in said
  assert said.endswith("please report it with these lines and the command.\n")
