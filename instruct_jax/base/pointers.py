"""Pointers that git-lfs leaves in the place of files which were not fetched."""

from typing import Any

from instruct_jax.base import errors

START = b"version https://git-lfs.github.com/spec/"


def check(path: Any, first: bytes) -> None:
  """Raises UserError where the first bytes of a file are a pointer's."""
  if first.startswith(START):
    raise errors.UserError(
      f"{path}: a git-lfs pointer, not the file itself; `git lfs pull` in its"
      " repository fetches it"
    )
