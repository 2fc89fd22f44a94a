"""What all requests of a server share: labels, limits, templates, styles.

Templates are compiled once, and styles and scripts are read once: while it
serves, no request opens a file of the package.
"""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import jinja2
import markupsafe
from starlette import responses

from instruct_jax import paper
from instruct_jax.collecting import guard, kinds, showing, store

HERE = pathlib.Path(__file__).parent
_STATIC = {
  ".css": "text/css",
  ".js": "text/javascript",
  ".svg": "image/svg+xml",
}


@dataclasses.dataclass(frozen=True)
class Site:
  """What all requests share."""

  store: store.Store
  secret: str
  limits: guard.Limits
  visitors: guard.Buckets  # by token
  strangers: guard.Buckets  # by address: tokens that nobody has
  templates: jinja2.Environment
  static: dict[str, tuple[bytes, str]]  # {name: (content, type)}

  def page(
    self, template: str, status: int = 200, **context: Any
  ) -> responses.Response:
    """A page from its template."""
    text = self.templates.get_template(template).render(**context)
    return responses.HTMLResponse(
      text.encode("utf-8", "replace"), status_code=status
    )

  def controls(
    self, place: int, letter: str, rating: int | None, ticked: frozenset[str]
  ) -> markupsafe.Markup:
    """The scale and the flags beneath an answer at a place of the page."""
    return _controls(self.templates, place, letter, rating, ticked)


def site_of(labels: store.Store, limits: guard.Limits) -> Site:
  """What a server of these labels shares; templates are compiled once."""
  static = {
    path.name: (path.read_bytes(), _STATIC[path.suffix])
    for path in sorted((HERE / "static").iterdir())
    if path.suffix in _STATIC
  }
  clock = labels.clock
  return Site(
    store=labels,
    secret=labels.secret(),
    limits=limits,
    visitors=guard.Buckets(limits.burst, limits.per_second, clock),
    strangers=guard.Buckets(limits.wrong_burst, limits.wrong_per_second, clock),
    templates=_templates(static),
    static=static,
  )


@functools.lru_cache(1000)  # nine answers of eleven flags are most of a page
def _controls(templates, place, letter, rating, ticked):
  text = templates.get_template("controls.html").render(
    n=place,
    letter=letter,
    rating=rating,
    ticked=ticked,
    flags=paper.METADATA,
  )
  return markupsafe.Markup(text)


def _templates(static: Mapping[str, tuple[bytes, str]]) -> jinja2.Environment:
  names = {
    name: f"{guard.STATIC}{name}?{hashlib.sha256(content).hexdigest()[:12]}"
    for name, (content, _) in static.items()
  }
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(HERE / "templates"),
    autoescape=True,
    auto_reload=False,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  shared: Any = environment.globals  # of whatever type
  shared |= {
    "static": names.__getitem__,
    "fold": showing.FOLD,
    "longest": kinds.LONGEST,
  }
  environment.filters |= {
    "shown": showing.shown,
    "excerpt": showing.excerpt,
    "plain": showing.plain,
  }
  return environment
