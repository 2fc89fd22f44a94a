"""python -m instruct_jax.data convert FORMAT INPUT... --out FILE.jsonl"""

import sys

from instruct_jax import errors
from instruct_jax.data import convert

COMMANDS = {"convert": convert.main}


def main(arguments: list[str]) -> None:
  """Runs a command; a UserError is printed and exits with 2."""
  try:
    command = arguments[0] if arguments else ""
    if command not in COMMANDS:
      raise errors.unknown("command of instruct_jax.data", command, COMMANDS)
    COMMANDS[command](arguments[1:])
  except errors.UserError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
  main(sys.argv[1:])
