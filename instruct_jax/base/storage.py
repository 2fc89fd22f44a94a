"""Files that are whole or not there, and JSON read with errors for people.

A file is written beside its place, as `.NAME.partial`, and renamed when it is
complete. Paths go through epath, so `gs://` works wherever a rename is whole.
"""

import contextlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, Any

from etils import epath

from instruct_jax.base import errors

_PARTIAL = ".{}.partial"


@contextlib.contextmanager
def writing(path: epath.PathLike, mode: str = "w") -> Iterator[IO]:
  """A file to write that gets its name when the block ends without an error.

  Text is UTF-8. After an error nothing is left behind and what stood under
  the name before still stands there.
  """
  path = epath.Path(path)
  partial = path.parent / _PARTIAL.format(path.name)
  encoding = {} if "b" in mode else {"encoding": "utf-8"}
  try:
    with partial.open(mode, **encoding) as file:
      yield file
    partial.replace(path)
  except BaseException:
    with contextlib.suppress(OSError):
      partial.unlink(missing_ok=True)
    raise


def write(path: epath.PathLike, content: str | bytes) -> None:
  """Writes a file, text as UTF-8: whole or not at all."""
  with writing(path, "w" if isinstance(content, str) else "wb") as file:
    file.write(content)


def write_lines(path: epath.PathLike, lines: Iterable[str]) -> None:
  """Writes lines, to each of which a newline is added."""
  with writing(path) as file:
    file.writelines(line + "\n" for line in lines)


def write_json(path: epath.PathLike, tree: Any) -> None:
  """Writes indented JSON; what JSON cannot hold is written as its text."""
  write(path, json.dumps(tree, indent=2, default=str) + "\n")


def read_json(
  path: epath.PathLike, *, most_bytes: int = 1 << 30
) -> dict[str, Any]:
  """The object that a JSON file holds.

  Raises UserError, naming the file, where it is missing, too large, no JSON,
  no object, or has a key twice.
  """
  path = epath.Path(path)
  try:
    if path.stat().length > most_bytes:
      raise errors.UserError(f"{path}: too large for a JSON file of its kind.")
    text = path.read_bytes().decode("utf-8-sig")
    tree = json.loads(text, object_pairs_hook=keys_once)
  except FileNotFoundError:
    raise errors.UserError(f"{path}: no such file.") from None
  except (OSError, ValueError, RecursionError) as error:
    raise errors.UserError(f"{path}: not readable JSON ({error}).") from None
  if not isinstance(tree, dict):
    raise errors.UserError(f"{path}: a JSON object should stand here.")
  return tree


def keys_once(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
  """A dict of pairs; ValueError where a key stands twice."""
  tree = dict(pairs)
  if len(tree) < len(pairs):
    seen = set()
    for key, _ in pairs:
      if key in seen:
        raise ValueError(f"the key {key[:60]!r} stands twice")
      seen.add(key)
  return tree
