"""What `config.data.KIND` may say: files with commas between, with weights."""

import dataclasses
import math
import os
import re

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
  taken as it is.

  Raises UserError for no path, and for weights that only some parts have or
  that are not above 0.
  """
  if not isinstance(spec, str):
    return [Part(spec, None)]
  named = [_part(text) for text in map(str.strip, spec.split(",")) if text]
  if not named:
    raise errors.UserError("an empty path where a data file should be named")
  weights = [part.weight for part in named if part.weight is not None]
  if weights and len(weights) < len(named):
    raise errors.UserError(f"{spec}: give every part a weight (=0.5), or none")
  if not all(0 < weight < math.inf for weight in weights):
    raise errors.UserError(f"{spec}: weights must be above 0")
  return named


def paths(spec: os.PathLike | str) -> list[epath.Path]:
  """The files that a spec names."""
  return [path for part in parts(spec) for path in files.paths(part.pattern)]


def _part(text: str) -> Part:
  pattern, _, weight = text.rpartition("=")
  if pattern and _is_number(weight):
    return Part(pattern.strip(), float(weight))
  return Part(text, None)


def _is_number(text: str) -> bool:
  return re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)", text.strip()) is not None
