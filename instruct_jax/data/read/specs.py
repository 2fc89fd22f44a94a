"""What `config.data.KIND` may say: files with commas between, with weights."""

import dataclasses
import math
import os
import re
from collections.abc import Sequence

from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import files


@dataclasses.dataclass(frozen=True)
class Part:
  """One of the sources that a spec names, and its share of a mixture."""

  pattern: os.PathLike | str
  weight: float | None  # None where the spec gives no weights


def parts(spec: os.PathLike | str) -> list[Part]:
  """What a spec names: specs of `files` with commas between.

  With weights, `a.jsonl=0.7,b.jsonl=0.3`, every part has one. A path object is
  taken as it is, and so is a name with commas or `=` in it that a file has.

  Raises UserError for no path, and for weights that only some parts have or
  that are not above 0.
  """
  if not isinstance(spec, str):
    return [Part(spec, None)]
  named = [_part(text) for text in _names(spec)]
  if not named:
    raise errors.UserError("an empty path where a data file should be named")
  weights = [part.weight for part in named if part.weight is not None]
  if weights and len(weights) < len(named):
    raise errors.UserError(f"{spec}: give every part a weight (=0.5), or none")
  if not all(0 < weight < math.inf for weight in weights):
    raise errors.UserError(f"{spec}: weights must be above 0")
  return named


def as_names(arguments: Sequence[str]) -> list[str]:
  """A command's arguments, files that are called like options as `./-x`."""
  return [
    f"./{text}" if text.startswith("-") and files.exists(text) else text
    for text in arguments
  ]


def paths(spec: os.PathLike | str) -> list[epath.Path]:
  """The files that a spec names."""
  return [path for part in parts(spec) for path in files.paths(part.pattern)]


def _names(spec: str) -> list[str]:
  """What stands between the commas, but for those of a file's own name."""
  texts, names = spec.split(","), []
  while texts:
    count = len(texts)
    while count > 1 and not _is_file(",".join(texts[:count])):
      count -= 1
    name = ",".join(texts[:count])
    names.append(name if _is_there(name) else name.strip())
    texts = texts[count:]
  return [name for name in names if name]


def _is_file(text: str) -> bool:
  """Whether a file is called so, or so without its weight."""
  return _is_there(text) or _is_there(text.strip())


def _is_there(text: str) -> bool:
  return files.exists(text) or files.exists(_weighed(text)[0])


def _part(text: str) -> Part:
  pattern, weight = _weighed(text)
  if weight is None or files.exists(text):
    return Part(text, None)
  return Part(pattern if files.exists(pattern) else pattern.strip(), weight)


def _weighed(text: str) -> tuple[str, float | None]:
  """A pattern and its weight, None where no number stands behind a `=`."""
  pattern, _, weight = text.rpartition("=")
  has_weight = pattern and _is_number(weight)
  return (pattern, float(weight)) if has_weight else (text, None)


def _is_number(text: str) -> bool:
  return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)", text.strip()) is not None
