"""A checkpoint's folder: config.json and *.safetensors, read tensor by tensor.

Only safetensors are opened: a pickle can run code. What the files hold is
checked against the index before anything is read.
"""

import math
import os
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import safetensors
from etils import epath

from instruct_jax.base import errors, pointers, storage
from instruct_jax.hf import families

PREFIX = "hf:"
CONFIG, INDEX = "config.json", "model.safetensors.index.json"
SINGLE = "model.safetensors"
# The names that safetensors give to what we read and write.
DTYPES = {
  "F32": np.dtype(np.float32),
  "F16": np.dtype(np.float16),
  "BF16": np.dtype(ml_dtypes.bfloat16),
}
_AT_ONCE = 256 << 20  # bytes that are read before a file's pages are let go
_MOST_JSON = 256 << 20  # bytes


def is_reference(reference: str | os.PathLike) -> bool:
  """Whether a path is one of a checkpoint: 'hf:/path'."""
  return os.fspath(reference).startswith(PREFIX)


def path_of(reference: str | os.PathLike) -> epath.Path:
  """The folder that 'hf:/path' names; UserError where it names none."""
  path = os.fspath(reference).removeprefix(PREFIX)
  if not path.strip():
    raise errors.UserError(
      f"'{os.fspath(reference)}' names no folder; right is {PREFIX}/path"
    )
  return epath.Path(path).expanduser()


class Folder:
  """The config and the tensors of a checkpoint; tensors by name."""

  def __init__(self, path: os.PathLike | str):
    """Reads config.json, the index and the headers of all files.

    Raises UserError, naming file and place, for whatever is missing, damaged
    or contradictory.
    """
    self.path = epath.Path(path)
    if not self.path.is_dir():
      raise errors.UserError(f"{self.path}: no such folder.")
    self.where = str(self.path / CONFIG)
    adapters = self.path / "adapter_config.json"
    if adapters.exists() and not (self.path / CONFIG).exists():
      raise errors.UserError(
        f"{self.path}: holds adapters of peft ({adapters.name}), not a model;"
        " merge them into theirs first (merge_and_unload, save_pretrained)"
      )
    self.config = read_config(self.path)
    self._files = dict(self._find())
    self._shapes: dict[str, tuple[tuple[int, ...], str]] = {}
    for file in sorted(set(self._files.values())):
      self._read_header(file)
    lacking = [name for name in self._files if name not in self._shapes]
    if lacking:
      raise errors.UserError(
        f"{self._files[lacking[0]]}: lacks the tensor '{lacking[0]}' that"
        f" {INDEX} says is there."
      )
    # A file, its reader, bytes read since.
    self._open: tuple[epath.Path | None, Any, int] = None, None, 0

  @property
  def names(self) -> list[str]:
    """The names of all tensors."""
    return list(self._files)

  def file_of(self, name: str) -> epath.Path:
    """The file that holds a tensor."""
    return self._files[name]

  def files(self) -> list[epath.Path]:
    """The files that hold tensors."""
    return sorted(set(self._files.values()))

  def shape(self, name: str) -> tuple[int, ...]:
    """The shape of a tensor."""
    return self._shapes[name][0]

  def dtype(self, name: str) -> np.dtype:
    """The dtype of a tensor; UserError for one that holds no weights."""
    kind = self._shapes[name][1]
    if kind not in DTYPES:
      raise errors.UserError(
        f"{self._files[name]}: '{name}' is {kind}; weights are"
        f" {', '.join(DTYPES)}."
      )
    return DTYPES[kind]

  def read(self, name: str, index: tuple[slice, ...] = ()) -> np.ndarray:
    """A tensor, or a slice of it, in the dtype of the file."""
    file, reader, count = self._open
    wanted = self._files[name]
    if wanted != file or count > _AT_ONCE:
      self.close()
      reader, count = _opened(wanted), 0
    array = reader.get_slice(name)[index or ...]
    self._open = wanted, reader, count + array.nbytes
    return array

  def close(self) -> None:
    """Lets the open file and its pages go."""
    reader = self._open[1]
    self._open = None, None, 0
    if reader is not None:
      reader.__exit__(None, None, None)

  def _find(self) -> Iterator[tuple[str, epath.Path]]:
    """(tensor, file) of the index, or of the single file."""
    if not (self.path / INDEX).exists():
      single = self.path / SINGLE
      if not single.exists():
        raise errors.UserError(_nothing_found(self.path))
      with _opened(single) as file:
        names = list(file.keys())
      yield from ((name, single) for name in names)
      return
    index = read_json(self.path / INDEX)
    weights = index.get("weight_map")
    where = self.path / INDEX
    if not isinstance(weights, dict) or not weights:
      raise errors.UserError(f'{where}: "weight_map" should name the tensors.')
    for name, file in weights.items():
      yield name, _inside(self.path, file, f"{where}: '{name}'")

  def _read_header(self, file: epath.Path) -> None:
    with _opened(file) as reader:
      for name in reader.keys():  # noqa: SIM118
        if self._files.get(name) != file:
          raise errors.UserError(
            f"{file}: holds the tensor '{name}', which {INDEX} says is in"
            f" {self._files[name].name if name in self._files else 'no file'}."
          )
        part = reader.get_slice(name)
        shape = tuple(part.get_shape())
        if not math.prod(shape):
          raise errors.UserError(f"{file}: the tensor '{name}' is empty.")
        self._shapes[name] = shape, part.get_dtype()


def read_config(folder: epath.Path) -> dict[str, Any]:
  """The config.json of a folder; of a larger model, that of its text model.

  Raises UserError where it is missing or damaged.
  """
  whole = read_json(folder / CONFIG)
  kind = whole.get("model_type")
  around = families.AROUND.get(kind) if isinstance(kind, str) else None
  if around is None:
    return whole
  if not isinstance(whole.get(around.section), dict):
    raise errors.UserError(
      f'{folder / CONFIG}: "{around.section}" should be an object: the config'
      f" of the text model of a {kind}."
    )
  return around.config(whole)


def read_json(path: epath.Path) -> dict[str, Any]:
  """The object that a JSON file of a checkpoint holds; UserError as storage."""
  return storage.read_json(path, most_bytes=_MOST_JSON)


def _opened(file: epath.Path):
  """A file of tensors, opened by safetensors; its errors name the file."""
  try:
    return safetensors.safe_open(os.fspath(file), framework="numpy")
  except FileNotFoundError:
    raise errors.UserError(f"{file}: no such file.") from None
  except (OSError, ValueError, safetensors.SafetensorError) as error:
    if file.exists() and not file.is_dir():
      with file.open("rb") as opened:
        pointers.check(file, opened.read(len(pointers.START)))
    size = file.stat().length if file.exists() else 0
    raise errors.UserError(
      f"{file}: not a whole safetensors file of {size} bytes ({error})."
    ) from None


def _inside(folder: epath.Path, name: Any, where: str) -> epath.Path:
  """The file that an index names, which must be one of this very folder."""
  plain = isinstance(name, str) and name == os.path.basename(name)
  if not plain or not name.endswith(".safetensors") or "\\" in name:
    raise errors.UserError(
      f"{where}: {str(name)[:80]!r} is not the name of a .safetensors file in"
      " this folder."
    )
  return folder / name


def _nothing_found(path: epath.Path) -> str:
  here = sorted(file.name for file in path.iterdir())
  pickles = [n for n in here if n.endswith((".bin", ".pt", ".pth", ".ckpt"))]
  if pickles:
    return (
      f"{path}: has {pickles[0]}, a pickle, which is never opened; only"
      " safetensors are. Save the model with safe_serialization=True."
    )
  return f"{path}: neither {SINGLE} nor {INDEX} is here."
