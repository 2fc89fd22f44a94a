"""Closed, full, broken and narrow streams: an exit code and no traceback."""

import json
import os
import subprocess
import sys

import pytest

from tests import doors

PRINTS = "import sys; sys.argv = ['-m', 'x']; import instruct_jax; "
NOTES = PRINTS + (
  "from instruct_jax.base import command\n"
  "def main():\n"
  "  for n in range(9999): print('note', n, file=sys.stderr)\n"
  "  print('done')\n"
  "command.run(main)"
)
MANY = PRINTS + (
  "from instruct_jax.base import command\n"
  "command.run(lambda: [print(n) for n in range(99999)])"
)


def shell(redirected, *, program=("-m", "experiments.story_prompts"), **more):
  """(exit code of the command, stdout, stderr) of it in a shell."""
  line = f'"$@" {redirected}'
  done = subprocess.run(
    ["bash", "-o", "pipefail", "-c", line, "-", sys.executable, *program],
    capture_output=True,
    cwd=doors.ROOT,
    env=os.environ | {"PYTHONPATH": str(doors.ROOT)} | more,
    check=False,
  )
  assert b"Traceback" not in done.stderr, done.stderr
  assert b"Exception ignored" not in done.stderr, done.stderr
  return done.returncode, done.stdout, done.stderr.decode()


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
  ("redirected", "code", "words"),
  [
    ("< /dev/null", 0, ""),
    ("<&-", 0, ""),
    (">&-", 2, "error: stdout is closed"),
    ("> /dev/full", 2, "error: stdout: No space left on device"),
    ("2> /dev/full", 0, ""),
    ("2>&-", 0, ""),
    ("<&- >&- 2>&-", 2, ""),
    ("--what", 2, "error: unrecognized arguments: --what"),
    ("--what 2> /dev/full", 2, ""),
    ("--what 2>&-", 2, ""),
    ("--help > /dev/full", 2, "error: stdout: No space left on device"),
    (f"{'$'}'\\xff'", 2, "is not UTF-8"),
  ],
)
def test_what_can_be_wrong_with_a_stream(redirected, code, words, unbuffered):
  more = {"PYTHONUNBUFFERED": unbuffered} if unbuffered else {}
  got, out, err = shell(redirected, **more)
  assert got == code, err
  assert words in err
  assert bool(err) == bool(words)
  if code == 0:
    assert len(out.splitlines()) == 384


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_leaves_is_no_error(unbuffered):
  """More lines than a pipe holds, of which one is read."""
  more = {"PYTHONUNBUFFERED": unbuffered} if unbuffered else {}
  got = shell("| head -1", program=("-c", MANY), **more)
  assert got == (141, b"0\n", "")


@pytest.mark.parametrize("redirected", ["2> /dev/full", "2>&-"])
def test_notes_that_nobody_can_read_stop_nothing(redirected):
  code, out, _ = shell(redirected, program=("-c", NOTES))
  assert (code, out) == (0, b"done\n")


@pytest.mark.parametrize(
  "environment",
  [{"LC_ALL": "C"}, {"PYTHONIOENCODING": "ascii"},
   {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}],
  ids=lambda x: ",".join(x),
)  # fmt: skip
def test_any_text_can_be_said_in_any_encoding(environment):
  """What it has no character for is escaped, in JSON as JSON does it."""
  text = "café 中 😀 \ud800"
  program = PRINTS + (
    "from instruct_jax.base import command, errors, streams\n"
    "def main():\n"
    f"  print(streams.json_line({text!a})); print({text!a})\n"
    "  assert sys.stdin.readline() == sys.argv[-1]\n"
    f"  raise errors.UserError({text!a})\n"
    "sys.argv = ['x', *sys.orig_argv[3:]]\n"
    "command.run(main)"
  )
  code, out, err = shell(
    "'é中' < <(printf 'é中')", program=("-c", program), **environment
  )
  assert code == 2, err
  lines = out.decode().splitlines()
  assert json.loads(lines[0]) == text
  assert lines[1].startswith("caf")
  assert err.startswith("error: caf")
