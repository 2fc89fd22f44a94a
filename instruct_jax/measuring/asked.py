"""What a model has answered already: a file that a killed command goes on from.

Its first line says what the answers are of; each line more is a batch of them:

  {"of": {...}}
  {"call": "1f3a...", "said": {"17": ..., "18": ...}}

The first process writes; all read it, before anything is written, so that they
agree on what is known.
"""

import json
from collections.abc import Mapping
from typing import Any

from etils import epath

from instruct_jax.base import storage
from instruct_jax.parallel import hosts


class Answers:
  """Answers by call and place; the file is made anew if it is of another."""

  def __init__(self, path: epath.PathLike, of: Mapping[str, Any]):
    """`of` is what the answers depend on, beside what was asked."""
    self._path = epath.Path(path)
    self._known: dict[str, dict[int, Any]] = {}
    content = self._path.read_bytes() if self._path.exists() else b""
    head, *lines = content.split(b"\n")
    if _read(head) == {"of": dict(of)}:
      self._take(lines)
    hosts.barrier(f"answers {self._path.name}")
    if not self._known and hosts.is_writer():
      self._path.parent.mkdir(parents=True, exist_ok=True)
      storage.write(self._path, json.dumps({"of": dict(of)}) + "\n")
    elif hosts.is_writer() and lines[-1]:  # a line that was broken off
      whole = content[: len(content) - len(lines[-1])]
      storage.write(self._path, whole)

  def _take(self, lines):
    for line in lines:
      row = _read(line)
      if "call" in row:
        known = self._known.setdefault(row["call"], {})
        known |= {int(place): said for place, said in row["said"].items()}

  def known(self, call: str) -> dict[int, Any]:
    """{place: what was answered} of a call."""
    return dict(self._known.get(call, {}))

  def add(self, call: str, said: Mapping[int, Any]) -> None:
    """Remembers more of a call's answers, which JSON can hold."""
    self._known.setdefault(call, {}).update(said)
    if hosts.is_writer():
      line = json.dumps(
        {"call": call, "said": {str(k): v for k, v in said.items()}}
      )
      storage.append(self._path, line.encode() + b"\n")


def _read(line: bytes) -> dict[str, Any]:
  """A line's object; {} of what is no whole one."""
  try:
    row = json.loads(line)
  except ValueError:
    return {}
  return row if isinstance(row, dict) else {}
