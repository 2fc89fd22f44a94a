"""Candidates for the prefix of *prompted GPT* that a person has in a file.

JSON lines, CSV, ...: {"name", "template", "shot", "stop"} as `interface.Prefix`
has them, the last two as far as they are needed.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from instruct_jax.base import errors
from instruct_jax.data import fingerprint
from instruct_jax.data.read import files
from instruct_jax.worlds import interface

Prefix = interface.Prefix
SHOTS, PROMPT, RESPONSE = "{shots}", "{prompt}", "{response}"
_KEYS = {"name", "template", "shot", "stop"}


def check(config: ConfigDict) -> None:
  """UserError for a file of candidates that is not there, or wrong."""
  if config.evaluation.prefix.candidates:
    read(config.evaluation.prefix.candidates)


def digests(config: ConfigDict) -> dict[str, str]:
  """{key: a hash of the content} of a file of candidates."""
  path = config.evaluation.prefix.candidates
  if not path:
    return {}
  content = fingerprint.together(files.paths(path))
  return {"evaluation.prefix.candidates": content}


def read(path: str) -> tuple[Prefix, ...]:
  """The candidates of a file: JSON lines, CSV, ... with `Prefix`'s fields.

  Raises UserError that names file, line and key.
  """
  found: dict[str, Prefix] = {}
  for where, row in _rows(path):
    prefix = _parsed(where, row)
    if prefix.name in found:
      raise errors.UserError(
        f'{where}: the name "{prefix.name}" stands there a second time; give'
        " each candidate a name of its own"
      )
    found[prefix.name] = prefix
  if not found:
    raise errors.UserError(
      f"config.evaluation.prefix.candidates={path}: empty; at least one line"
      ' such as {"name": "mine", "template": "Q: {prompt}\\nA:"} is needed'
    )
  return tuple(found.values())


def _rows(path: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
  for unit in files.units(path):
    yield from files.unit_rows(unit)


def _parsed(where: str, row: Mapping[str, Any]) -> Prefix:
  """A line as a candidate; UserError where it is none."""
  if reason := wrong(row):
    raise errors.UserError(f"{where}: {reason}")
  return Prefix(**{key: row[key] for key in sorted(_KEYS & set(row))})


def wrong(row: Mapping[str, Any]) -> str:
  """What is wrong with a line, or ''."""
  if not isinstance(row, Mapping):
    return f"a candidate is an object with {', '.join(sorted(_KEYS))}"
  if unknown := sorted(set(row) - _KEYS):
    return str(errors.unknown("key of a candidate", unknown[0], _KEYS))
  for key in ("name", "template"):
    if not isinstance(row.get(key), str) or not row[key].strip():
      return f'"{key}" should be text that is not empty'
  for key in ("shot", "stop"):
    if not isinstance(row.get(key, ""), str):
      return f'"{key}" should be text'
  if row["template"].count(PROMPT) != 1:
    return f'"template" should have {PROMPT} once, where the prompt belongs'
  shot, has_shots = row.get("shot", ""), SHOTS in row["template"]
  if has_shots != bool(shot):
    return (
      f'{SHOTS} in "template" and a "shot" belong together: a "shot" says how a'
      f" demonstration is written, with {PROMPT} and {RESPONSE}"
    )
  if shot and not (PROMPT in shot and RESPONSE in shot):
    return f'"shot" should have {PROMPT} and {RESPONSE} in it'
  return ""
