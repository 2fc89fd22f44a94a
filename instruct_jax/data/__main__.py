"""python -m instruct_jax.data FILE...  |  python -m instruct_jax.data convert

The first shows what is in a source (`inspect`), the second converts public
data sets (`convert`); each has --help.
"""

import sys

from instruct_jax.base import command
from instruct_jax.data import inspect
from instruct_jax.data.public import convert

COMMANDS = {"convert": convert.main, "inspect": inspect.main}


def main(arguments: list[str]) -> None:
  """Runs a command; raises UserError."""
  if arguments and arguments[0] in COMMANDS:
    COMMANDS[arguments[0]](arguments[1:])
  else:
    inspect.main(arguments)


if __name__ == "__main__":
  command.run(lambda: main(sys.argv[1:]))
