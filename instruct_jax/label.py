"""People's demonstrations and rankings, from a policy to data of the chain.

  python -m instruct_jax.label --dir=LABELS [--run=RUN ...] [--prompts=FILE]
    [--samples=FILE ...] [--host=HOST] [--port=PORT]
  python -m instruct_jax.label invite --dir=LABELS NAME [--group=held_out]
  python -m instruct_jax.label export --dir=LABELS --out=FOLDER
  python -m instruct_jax.label import --format=label_studio FILE --out=FILE
  python -m instruct_jax.label backup --dir=LABELS --out=FILE
  python -m instruct_jax.label simulate --dir=LABELS --url=URL --labelers=4

The first begins a project, or goes on with one: it makes tasks of prompts, of
lists of answers, or of what runs say to prompts, and serves the pages where
invited labelers write, rate, rank and compare, and the admin's. LABELS holds
settings.toml, instructions.md and screening.jsonl, which are yours to edit, and
labels.sqlite. What is answered there is data of the chain:
--config.data.rankings=LABELS. Each command has --help. Needs `pip install
'instruct_jax[label]'`. Exit codes: 0 done, 2 bad input, 75 SIGTERM, 130 Ctrl-C.
"""

import difflib
import sys
from collections.abc import Callable

from instruct_jax.base import command, errors

_EXTRA = {  # what the extra brings, by what is imported
  *("sqlalchemy", "starlette", "uvicorn", "httpx", "markdown_it"),
  *("multipart", "python_multipart"),
}
_COMMANDS = ("serve", "invite", "export", "import", "backup", "simulate")


def main(arguments: list[str]) -> None:
  """Runs a command; raises UserError."""
  name, rest = "serve", arguments
  if arguments and not arguments[0].startswith("-"):
    name, rest = arguments[0], arguments[1:]
  if name not in _COMMANDS:
    near = difflib.get_close_matches(name, _COMMANDS, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise errors.UserError(
      f"unknown command '{name}'.{hint} Known: {', '.join(_COMMANDS)}."
    )
  if name == "serve" and (not rest or {"-h", "--help"} & set(rest)):
    print(__doc__)
  if name == "serve" and not rest:
    raise errors.UserError("--dir=LABELS is missing: a folder, new or not")
  _command(name)(rest)


def _command(name: str) -> Callable[[list[str]], None]:
  """The function of a command; UserError where the extra is not there."""
  try:
    if name == "export":
      from instruct_jax.collecting import exporting

      return exporting.main
    if name == "import":
      from instruct_jax.collecting import importing

      return importing.main
    from instruct_jax.collecting import commands
  except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in _EXTRA:
      raise
    raise errors.UserError(
      f"{error.name} is missing: pip install 'instruct_jax[label]'"
    ) from None
  return {
    "serve": commands.serve,
    "invite": commands.invite,
    "backup": commands.backup,
    "simulate": commands.simulate,
  }[name]


if __name__ == "__main__":
  command.run(
    lambda: main(sys.argv[1:]),
    stopped="what was saved is kept; the same command goes on",
  )
