"""Which files of a folder belong to which set.

A set says what its files may be called, the likeliest first, as they are
published: `TruthfulQA.csv`, `*wsc*/val.jsonl`. They may lie some folders deep,
compressed or not, in letters of either case.
"""

import dataclasses
import fnmatch
import functools
from collections.abc import Iterator, Mapping, Sequence

from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import files
from instruct_jax.measuring import contract

DEEP = 4  # folders
_COMPRESSED = ("", ".gz", ".bz2", ".xz", ".zst")


@dataclasses.dataclass(frozen=True)
class Found:
  """What is there of a set's files."""

  files: dict[str, str]  # by role
  missing: str = ""  # what is not there, for people; '': nothing
  others: tuple[str, ...] = ()  # files that would have done as well


def of_set(
  one: contract.Set,
  folder: str,
  named: Mapping[str, str],
  flag: str = "--data",
) -> Found:
  """The files of a set in a folder, or as they are `named` by role.

  The role '' is the first; `flag` is what names the folder, for errors.
  """
  first = next(iter(one.files), "")
  named = {role or first: spec for role, spec in named.items()}
  for role in named:
    if role not in one.files:
      raise errors.unknown("--file", role, one.files)
  chosen, missing, others = {}, [], []
  for role, patterns in one.files.items():
    if role in named:
      files.units(named[role])  # UserError where it is not there
      chosen[role] = named[role]
    elif there := _matching(folder, tuple(patterns), flag):
      chosen[role], *more = there
      others += more
    elif role not in one.optional:
      missing.append(f"{role} ({' or '.join(patterns)})")
  return Found(chosen, ", ".join(missing), tuple(others))


@functools.cache
def _matching(folder: str, patterns: Sequence[str], flag: str) -> list[str]:
  """The files that the first pattern with any fits, the shallowest first."""
  if not folder:
    return []
  root, names = epath.Path(folder), _names(folder, flag)
  for pattern in patterns:
    fits = [name for name in names if _fits(name, pattern)]
    if fits:
      return [str(root / name) for name in fits]
  return []


@functools.cache
def _names(folder: str, flag: str) -> tuple[str, ...]:
  """Relative to the folder; UserError where there is no such folder."""
  root = epath.Path(folder)
  if not root.is_dir():
    what = "a file; name its folder" if root.exists() else "no such folder"
    raise errors.UserError(f"{flag}={folder}: {what}")
  names = _below(root, "", DEEP)
  return tuple(sorted(names, key=lambda name: (name.count("/"), name)))


def _below(root: epath.Path, before: str, deep: int) -> Iterator[str]:
  for path in root.iterdir():
    if path.name.startswith("."):
      continue
    if not path.is_dir():
      yield before + path.name
    elif deep:
      yield from _below(path, f"{before}{path.name}/", deep - 1)


def _fits(name: str, pattern: str) -> bool:
  """Whether a pattern fits the last parts of a name, each by itself."""
  wanted = pattern.lower().split("/")
  parts = name.lower().split("/")[-len(wanted) :]
  return len(parts) == len(wanted) and all(
    any(fnmatch.fnmatchcase(part, one + end) for end in _COMPRESSED)
    for part, one in zip(parts, wanted)
  )
