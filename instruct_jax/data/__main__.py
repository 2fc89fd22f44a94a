"""python -m instruct_jax.data FILE...  |  python -m instruct_jax.data convert

The first shows what is in a source (`inspect`), the second converts public
data sets (`convert`); each has --help.
"""

import io
import os
import sys

from instruct_jax.base import errors
from instruct_jax.data import inspect
from instruct_jax.data.public import convert

COMMANDS = {"convert": convert.main, "inspect": inspect.main}


def main(arguments: list[str]) -> None:
  """Runs a command; a UserError is printed and exits with 2."""
  try:
    if arguments and arguments[0] in COMMANDS:
      COMMANDS[arguments[0]](arguments[1:])
    else:
      inspect.main(arguments)
  except errors.UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)
  except BrokenPipeError:  # whoever read this has seen enough
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


if __name__ == "__main__":
  if isinstance(sys.stdout, io.TextIOWrapper):  # where it is not UTF-8
    sys.stdout.reconfigure(errors="backslashreplace")
  main(sys.argv[1:])
