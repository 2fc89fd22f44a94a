"""A figure with its words, for a notebook; and all of them in a folder."""

import base64
import dataclasses
import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from etils import epath
from matplotlib import figure as mpl_figure

from instruct_jax.base import claims, errors, storage
from instruct_jax.figures import catalogue, drawing, groups, plots, words

_log = logging.getLogger(__name__)

FORMATS = {"png": drawing.png, "svg": drawing.svg}
INDEX = "index.md"


@dataclasses.dataclass(frozen=True)
class Text:
  """Markdown that a notebook shows as such."""

  text: str

  def _repr_markdown_(self) -> str:
    return self.text


@dataclasses.dataclass(frozen=True)
class Shown:
  """A figure of one's results, or why there is none.

  A notebook draws it; `found` says in words what it shows.
  """

  name: str
  paper: str
  plot: plots.Plot | None = None
  draw: Callable[[], mpl_figure.Figure] | None = None
  pairs: Sequence[words.Pair] = ()
  why: str = ""  # it could not be drawn

  @functools.cached_property
  def figure(self) -> mpl_figure.Figure | None:
    """It, drawn when it is first asked for; None where it cannot be."""
    return None if self.draw is None else self.draw()

  @property
  def found(self) -> Text:
    """What these runs found."""
    if self.plot is None:
      return Text(f"**These runs** cannot say it: {self.why}")
    return Text(f"**These runs.** {words.found(self.plot, self.pairs)}")

  def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
    if self.figure is None:
      return {"text/markdown": f"*Not drawn:* {self.why}"}
    png = base64.b64encode(drawing.png(self.figure)).decode()
    return {"image/png": png, "text/plain": self.name}


def show(name: str, runs: groups.Runs) -> Shown:
  """A figure by its name; what its folder lacks is said, not raised.

  Raises UserError for a name that there is no figure of.
  """
  if name not in catalogue.EXHIBITS:
    raise errors.unknown("figure", name, catalogue.EXHIBITS)
  exhibit = catalogue.EXHIBITS[name]
  try:
    rows = exhibit.rows(runs)
  except groups.Missing as error:
    return Shown(name, exhibit.paper, why=str(error))
  plot = exhibit.plot(rows)
  drawn = functools.partial(exhibit.draw, rows)
  return Shown(name, exhibit.paper, plot, drawn, exhibit.pairs)


def write(
  runs: groups.Runs,
  out: epath.PathLike,
  *,
  names: Sequence[str] = (),
  formats: Sequence[str] = ("png",),
  overwrite: bool = False,
) -> dict[str, Shown]:
  """Draws figures (all by default) into a folder, with an index page.

  Returns all of them, also those that could not be drawn. Raises UserError
  where none can be, or where something stands there that no command of ours
  wrote; nothing is written then.
  """
  folder = epath.Path(out)
  chosen = list(names) or [*catalogue.EXHIBITS]
  for name in chosen:
    if name not in catalogue.EXHIBITS:
      raise errors.unknown("--only", name, catalogue.EXHIBITS)
  for kind in formats:
    if kind not in FORMATS:
      raise errors.unknown("--format", kind, FORMATS)
  claims.check_place(folder)
  files = [f"{name}.{kind}" for name in chosen for kind in formats]
  for file in (*files, INDEX):
    claims.claim(folder / file, reads=[runs.folder], overwrite=overwrite)
  shown = {name: show(name, runs) for name in chosen}
  drawn = {n: one for n, one in shown.items() if one.plot is not None}
  if not drawn:
    why = next(iter(shown.values())).why
    raise errors.UserError(f"nothing could be drawn, the first: {why}")
  folder.mkdir(parents=True, exist_ok=True)
  written = []
  for name, one in drawn.items():
    for kind in formats:
      path = folder / f"{name}.{kind}"
      if one.figure is not None:
        storage.write(path, FORMATS[kind](one.figure))
      written.append(path)
      _log.info("%s", path)
  storage.write(folder / INDEX, index(shown, formats[0], runs))
  claims.sign(*written, folder / INDEX)
  return shown


def index(shown: Mapping[str, Shown], kind: str, runs: groups.Runs) -> str:
  """The page of a gallery, Markdown."""
  lines = [
    "# Figures",
    "",
    "Made by `python -m instruct_jax.figures`; black diamonds are the paper's"
    " own numbers, where it states some.",
    "",
  ]
  for name, one in shown.items():
    if one.plot is None:
      continue
    lines += [
      f"## {one.plot.title}",
      "",
      f"![{one.plot.title}]({name}.{kind})",
      "",
      f"**The paper.** {one.paper}",
      "",
      one.found.text,
      "",
    ]
  lacking = {n: one.why for n, one in shown.items() if one.plot is None}
  if lacking:
    lines += ["## Not drawn", ""]
    lines += [f"- {name}: {why}" for name, why in lacking.items()]
    lines.append("")
  odd = {
    name: why
    for name, why in runs.left_out.items()
    if not why.startswith(groups.OTHER)
  }
  if odd:
    lines += ["Files that were left out:", ""]
    lines += [f"- {name}: {why}" for name, why in odd.items()]
    lines.append("")
  return "\n".join(lines)
