"""Whether files are still what they were: told by their sizes and times."""

import datetime
import os
from collections.abc import Iterable, Mapping

from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import answers

State = tuple[int, int]  # bytes, time of the last change in ns


def states(
  paths: Iterable[epath.Path],
) -> dict[epath.Path, State | None]:
  """The sizes and times of files; None where nobody tells."""
  return {path: _state(path) for path in paths}


def check(before: Mapping[epath.Path, State | None]) -> None:
  """Raises UserError for a file that has changed since `states` saw it."""
  for path, state in before.items():
    now = _state(path)
    if now == state or state is None:
      continue
    if now is None:
      raise errors.UserError(
        f"{path}: gone while it was read; nothing was made of what had been"
        " read. Put it back and run again"
      )
    raise errors.UserError(
      f"{path}: changed while it was read ({_shown(state)} before,"
      f" {_shown(now)} now); nothing was made of what had been read. Run again"
      " when nobody writes it any more"
    )


def _state(path: epath.Path) -> State | None:
  if answers.is_one(path):  # What is read is of one moment, who writes or not.
    return None
  try:
    if "://" not in os.fspath(path):
      stat = os.stat(path)
      return stat.st_size, stat.st_mtime_ns
    stat = path.stat()
    return stat.length, int(stat.mtime * 1e9)
  except Exception:  # remote stores have kinds of their own; reading says why
    return None


def _shown(state: State) -> str:
  size, time = state
  at = datetime.datetime.fromtimestamp(time / 1e9).isoformat(sep=" ")
  return f"{size:,} bytes of {at}"
