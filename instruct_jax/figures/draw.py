"""python -m instruct_jax.figures --runs=FOLDER --out=FOLDER

Draws the paper's figures from a folder of finished runs, with an index page
that says what each shows and why the others could not be drawn.
"""

from instruct_jax.base import command, errors
from instruct_jax.figures import catalogue, gallery, read


def main(arguments: list[str]) -> None:
  """Draws the gallery; raises UserError."""
  parser = command.Parser(
    "instruct_jax.figures", __doc__, f"Figures: {', '.join(catalogue.EXHIBITS)}"
  )
  add = parser.add_argument
  add("--runs", required=True, help="a folder of results, local or gs://")
  add("--out", required=True, help="the folder for the figures")
  add("--only", default="", help="figures by name, with commas; '': all")
  add("--format", default="png", help="png, svg, or both with a comma")
  add(
    "--overwrite",
    action="store_true",
    help="replace files that no command of instruct_jax wrote",
  )
  given = parser.parse_args(arguments)
  asked = _split(given.only)
  shown = gallery.write(
    read.read(given.runs),
    given.out,
    names=asked,
    formats=_split(given.format) or ["png"],
    overwrite=given.overwrite,
  )
  lacking = {n: one.why for n, one in shown.items() if one.plot is None}
  print(f"{len(shown) - len(lacking)} figures: {given.out}/{gallery.INDEX}")
  for name, why in lacking.items():
    print(f"not drawn: {name}: {why}")
  if asked and lacking:
    raise errors.UserError(
      f"--only={given.only}: {', '.join(lacking)} not drawn"
    )


def _split(text: str) -> list[str]:
  return [part.strip() for part in text.split(",") if part.strip()]
