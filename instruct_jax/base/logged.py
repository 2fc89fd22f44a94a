"""What a run wrote while it went, read again; whoever reads needs no jax."""

import json
import math
from typing import Any

from etils import epath

from instruct_jax.base import run_folder

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def read_metrics(folder: epath.PathLike) -> list[dict[str, Any]]:
  """The lines of a run's metrics.jsonl, numbers as they were written.

  A line that is not whole (the run was killed while it wrote) is left out; a
  file that is not there has none.
  """
  return [
    {
      name: _NON_FINITE.get(value, value) if isinstance(value, str) else value
      for name, value in line.items()
    }
    for line in _read(run_folder.files(folder).metrics)
  ]


def read_samples(folder: epath.PathLike) -> list[dict[str, Any]]:
  """The rows of a run's samples.jsonl; as `read_metrics`."""
  return _read(run_folder.files(folder).samples)


def _read(path: epath.Path) -> list[dict[str, Any]]:
  lines = path.read_bytes().split(b"\n") if path.exists() else []
  return [each for line in lines if (each := parse(line)) is not None]


def parse(line: bytes) -> dict[str, Any] | None:
  """The object on a line, or None if it is no whole line of a run's."""
  try:
    value = json.loads(line)
  except (ValueError, RecursionError):  # also UnicodeDecodeError
    return None
  if not isinstance(value, dict) or not isinstance(value.get("step"), int):
    return None
  return value
