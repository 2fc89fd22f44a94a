"""python -m instruct_jax.data FILE...  |  convert  |  build

The first shows what is in a source (`inspect`), the second converts public
data sets and yours (`convert`), the third builds an experiment's data set by a
Beam runner (`runs.dataset`); each has --help.
"""

import difflib
import sys

from instruct_jax.base import command, errors
from instruct_jax.data import inspect
from instruct_jax.data.public import convert
from instruct_jax.data.read import files, specs


def _build(arguments: list[str]) -> None:
  # All of a chain is behind it, which those who look at a file do without.
  from instruct_jax.runs import dataset

  dataset.main(arguments)


COMMANDS = {"build": _build, "convert": convert.main, "inspect": inspect.main}


def main(arguments: list[str]) -> None:
  """Runs a command; raises UserError."""
  if not arguments:
    inspect.print_help()
    raise errors.UserError(
      "required: inputs (FILE...), or convert FORMAT FILE... --out=FILE, or"
      " build --config=FILE.py:VARIANT --runner=NAME"
    )
  first = arguments[0]
  if first in COMMANDS:
    COMMANDS[first](specs.as_names(arguments[1:]))
    return
  near = difflib.get_close_matches(first, COMMANDS, n=1)
  if near and not files.exists(first):
    raise errors.UserError(f"{first}: no such file. Did you mean '{near[0]}'?")
  inspect.main(specs.as_names(arguments))


if __name__ == "__main__":
  stopped = command.AGAIN
  if sys.argv[1:2] == ["build"]:
    stopped = "the same command goes on from what is there"
  command.run(lambda: main(sys.argv[1:]), stopped=stopped)
