"""Writes the notebooks: thin, without outputs, a few figures each.

Whoever changes a figure's words or adds one writes them again:
`python -m instruct_jax.figures notebooks --out=notebooks`.
"""

import json
from typing import Any

from etils import epath

from instruct_jax.base import claims, command, errors, storage
from instruct_jax.figures import catalogue

FIRST = """\
import os

from instruct_jax.figures import gallery, read

# Finished runs, local or gs://, or what instruct_jax.evaluate wrote.
FOLDER = os.environ.get("INSTRUCT_JAX_RUNS", "../benchmarks/results")
runs = read.read(FOLDER)"""


def source(name: str) -> str:
  """A notebook of the catalogue as JSON, as its file holds it."""
  known = catalogue.notebooks()
  if name not in known:
    raise errors.unknown("notebook", name, known)
  title = name.replace("_", " ")
  cells = [
    _text(
      f"# {title[0].upper()}{title[1:]}\n\nDraws from the results in `FOLDER`,"
      " whatever runs they are of. Black diamonds are the paper's numbers,"
      " where it states some; error bars are 95 % intervals, and the small"
      " print says over what."
    ),
    _code(FIRST),
  ]
  for figure in known[name]:
    cells += [
      _code(f'shown = gallery.show("{figure}", runs)\nshown'),
      _text(f"**The paper.** {catalogue.EXHIBITS[figure].paper}"),
      _code("shown.found"),
    ]
  for number, cell in enumerate(cells):
    cell["id"] = f"cell-{number}"
  notebook = {
    "cells": cells,
    "metadata": {
      "kernelspec": {
        "display_name": "Python 3",
        "language": "python",
        "name": "python3",
      },
      "language_info": {"name": "python"},
    },
    "nbformat": 4,
    "nbformat_minor": 5,
  }
  return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> None:
  """Writes all notebooks; raises UserError."""
  parser = command.Parser(
    "instruct_jax.figures notebooks", "Writes the notebooks, without outputs."
  )
  parser.add_argument("--out", required=True, help="the folder for them")
  parser.add_argument("--overwrite", action="store_true", help="replace others")
  given = parser.parse_args(arguments)
  folder = epath.Path(given.out)
  claims.check_place(folder)
  paths = {name: folder / f"{name}.ipynb" for name in catalogue.notebooks()}
  for path in paths.values():
    claims.claim(path, overwrite=given.overwrite)
  folder.mkdir(parents=True, exist_ok=True)
  for name, path in paths.items():
    storage.write(path, source(name))
  claims.sign(*paths.values())
  print(f"{len(paths)} notebooks: {folder}")


def _text(text: str) -> dict[str, Any]:
  return {
    "cell_type": "markdown",
    "id": "",
    "metadata": {},
    "source": text.splitlines(keepends=True),
  }


def _code(text: str) -> dict[str, Any]:
  return {
    "cell_type": "code",
    "execution_count": None,
    "id": "",
    "metadata": {},
    "outputs": [],
    "source": text.splitlines(keepends=True),
  }
