"""python -m instruct_jax.figures --runs=FOLDER --out=FOLDER
python -m instruct_jax.figures notebooks --out=FOLDER
python -m instruct_jax.figures claims
python -m instruct_jax.figures expected

The first draws the paper's figures from a folder of finished runs, with an
index page that says what each shows and why the others could not be drawn;
the second writes the notebooks that draw the same. The third says which of the
paper's claims finished runs show, the last what the default run is expected to
find, and whether a run found it. Each has --help.
"""

import sys

from instruct_jax.base import command, errors
from instruct_jax.figures import claim_table, expected


def draw(arguments: list[str]) -> None:
  """Draws the gallery; raises UserError."""
  from instruct_jax.figures import draw  # and matplotlib, which takes a second

  draw.main(arguments)


def notebooks(arguments: list[str]) -> None:
  """Writes the notebooks; raises UserError."""
  from instruct_jax.figures import notebooks

  notebooks.main(arguments)


COMMANDS = {
  "claims": claim_table.main,
  "expected": expected.main,
  "notebooks": notebooks,
}


def main(arguments: list[str]) -> None:
  """Runs a command; raises UserError."""
  if not arguments:
    raise errors.UserError(
      f"missing: --runs=FOLDER --out=FOLDER, or one of {', '.join(COMMANDS)}"
    )
  if arguments[0] in ("-h", "--help"):
    print(str(__doc__).strip())
    return
  if arguments[0].startswith("-"):
    draw(arguments)
    return
  if arguments[0] not in COMMANDS:
    raise errors.unknown("command", arguments[0], COMMANDS)
  COMMANDS[arguments[0]](arguments[1:])


if __name__ == "__main__":
  command.run(lambda: main(sys.argv[1:]))
