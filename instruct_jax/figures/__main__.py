"""python -m instruct_jax.figures claims
python -m instruct_jax.figures expected

The first says which of the paper's claims finished runs show, the second what
the default run is expected to find, and whether a run found it. Each has
--help.
"""

import sys

from instruct_jax.base import command, errors
from instruct_jax.figures import claim_table, expected

COMMANDS = {"claims": claim_table.main, "expected": expected.main}


def main(arguments: list[str]) -> None:
  """Runs a command; raises UserError."""
  if not arguments:
    raise errors.UserError(f"missing: one of {', '.join(COMMANDS)}")
  if arguments[0] in ("-h", "--help"):
    print(str(__doc__).strip())
    return
  if arguments[0] not in COMMANDS:
    raise errors.unknown("command", arguments[0], COMMANDS)
  COMMANDS[arguments[0]](arguments[1:])


if __name__ == "__main__":
  command.run(lambda: main(sys.argv[1:]))
