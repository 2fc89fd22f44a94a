"""The options that some formats have: one table for flags, help and checks."""

import argparse
import dataclasses
import difflib
from collections.abc import Mapping
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.public import formats


@dataclasses.dataclass(frozen=True)
class Option:
  """An option of formats."""

  of: tuple[str, ...]  # the formats that have it
  about: str
  many: bool = False  # given several times
  is_flag: bool = False


_PAIRS, _BOTH = ("pairs",), ("pairs", "columns")
OPTIONS = {
  "prompt": Option(
    _BOTH,
    "KEY of the prompt; several are joined by a blank line; without it, of"
    " pairs, the responses are dialogues or messages that hold it",
    many=True,
  ),
  "a": Option(_PAIRS, "KEY of one response"),
  "b": Option(_PAIRS, "KEY of the other"),
  "label": Option(
    _PAIRS,
    "KEY of who won; given several times, each is a labeler's",
    many=True,
  ),
  "labels": Option(
    _PAIRS,
    "what labels mean: VALUE=a, =b, =tie or =drop with commas between; ranges"
    " of numbers (-3..-1=a), * for all others; or 'text'",
  ),
  "name_a": Option(
    _PAIRS, "KEY of the model that gave a; the label may be such a name"
  ),
  "name_b": Option(_PAIRS, "KEY of b's name (model_b, say)"),
  "labeler": Option(_PAIRS, "KEY of who said so"),
  "score_a": Option(_PAIRS, "KEY of a's score, instead of a label"),
  "score_b": Option(_PAIRS, "KEY of b's; the higher one wins"),
  "better": Option(_PAIRS, "a or b, which always holds the better one"),
  "join": Option(
    _PAIRS, "all that a labeler said of a prompt as one ranking", is_flag=True
  ),
  "separate": Option(
    _PAIRS, "a ranking for every row, nothing merged", is_flag=True
  ),
  "turns": Option(
    _PAIRS, "fields of tables hold turns, lists as JSON", is_flag=True
  ),
  "response": Option(("columns",), "KEY of the response"),
  "text": Option(
    ("columns",), "KEY of a document; it needs --kind=pretraining"
  ),
  "pairs": Option(
    ("finegrained",), "labels that are no ranking stay, as pairs", is_flag=True
  ),
  "lang": Option(("oasst",), "the one language to keep, such as en"),
}


def add_to(
  parser: argparse.ArgumentParser, form: formats.Format | None = None
) -> None:
  """Adds the options, in a group for each set of formats that has them.

  All of them, or those that one format has.
  """
  groups = {}
  for name, option in OPTIONS.items():
    if form is not None and name not in form.options:
      continue
    names = " and ".join(option.of)
    if names not in groups:
      groups[names] = parser.add_argument_group(f"of {names}")
    add = groups[names].add_argument
    value = "KEY" if option.about.startswith("KEY") else name.upper()
    if option.is_flag:
      add(f"--{name}", action="store_true", help=option.about)
    elif option.many:
      add(f"--{name}", action="append", metavar=value, help=option.about)
    else:
      add(f"--{name}", metavar=value, help=option.about)


def check_given(given: Mapping[str, Any]) -> None:
  """Raises UserError for an option that is given and empty."""
  for name in OPTIONS:
    value = given.get(name)
    values = value if isinstance(value, list) else [value]
    if any(isinstance(x, str) and not x.strip() for x in values):
      raise errors.UserError(f"--{name}: is empty; leave it out, or name a key")


def of_format(
  name: str, form: formats.Format, given: Mapping[str, Any]
) -> dict[str, Any]:
  """The options that are given, as a format takes them.

  Raises UserError for one that the format has not.
  """
  found = {key: value for key, value in given.items() if value}
  for key, value in found.items():
    if key not in form.options:
      near = difflib.get_close_matches(key, form.options, n=1)
      hint = f"; did you mean --{near[0]}?" if near else ""
      has = ", ".join(f"--{x}" for x in form.options) or "none"
      raise errors.UserError(
        f"--{key}: not an option of '{name}', which has {has}{hint}"
      )
    if isinstance(value, list):
      found[key] = tuple(value)
    elif key in OPTIONS and OPTIONS[key].many and isinstance(value, str):
      found[key] = (value,)
  return found
