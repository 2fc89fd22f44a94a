"""An experiment is a Python file: finding it, and its errors for people."""

import difflib
import importlib.machinery
import importlib.util
import inspect
import os
import stat
import sys
import traceback
from types import ModuleType
from typing import Any

from etils import epath
from ml_collections import ConfigDict

import instruct_jax
from instruct_jax.base import errors

PACKAGE = "experiments"
_LONGEST = 200  # characters of what an error of somebody's file says
# What `experiments.common` gives every config.
_SECTIONS = ("experiment", "variant", "job", "needs", "pretrained", "data",
             "model", "reward_model", "reward", "mesh",
             "evaluation")  # fmt: skip


def ours() -> epath.Path:
  """The folder of the experiments that come with the package."""
  return epath.Path(instruct_jax.__file__).parent.parent / PACKAGE


def find(name: str, beside: epath.Path) -> epath.Path:
  """The file called `name` in a folder, else among ours; UserError if neither.

  So an experiment in a folder of one's own needs only what differs there.
  """
  if not name:
    raise errors.UserError(
      "--config= names no file: name an experiment, as experiments/ppo_ptx.py"
    )
  for path in (beside / name, ours() / epath.Path(name).name):
    if path.exists():
      return path
  raise missing(name, beside)


def missing(name: str, beside: epath.Path) -> errors.UserError:
  """An error for a file that is not there, with the nearest one suggested."""
  return errors.UserError(
    f"there is no experiment '{name}' in '{beside}'{_near(beside, name)}"
  )


def load(path: epath.Path, variant: str) -> ConfigDict:
  """The config that the file gives for a variant; '' is its default.

  Raises UserError where it is no Python file, has no `get_config`, is not for
  this variant, or fails: then with the file, the line and what stands there.
  """
  if path.is_dir():
    raise errors.UserError(
      f"{path}: is a folder; name a file in it, as {path}/ppo_ptx.py"
    )
  if path.suffix != ".py":
    raise errors.UserError(f"{path}: an experiment is a Python file, NAME.py")
  if not os.path.isfile(path):  # To read a pipe, one waits for ever.
    kind = "a pipe" if stat.S_ISFIFO(os.stat(path).st_mode) else "a device"
    raise errors.UserError(f"{path}: is {kind}, where a file is due")
  module = _module(path)
  maker = getattr(module, "get_config", None)
  if not callable(maker):
    raise errors.UserError(
      f"{path}: has no function get_config(variant), which gives the config of"
      " an experiment"
    )
  arguments = (variant,) if variant else ()
  try:
    inspect.signature(maker).bind(*arguments)
  except TypeError:
    raise errors.UserError(
      f"{path}: get_config takes no variant; name the file without ':{variant}'"
      if variant
      else f"{path}: get_config has no default variant; name one: {path}:NAME"
    ) from None
  config = _called(maker, *arguments, path=path)
  if not isinstance(config, ConfigDict):
    raise errors.UserError(
      f"{path}: get_config gives {_kind(config)}, where a ConfigDict of"
      " experiments.common is right"
    )
  missing = [name for name in _SECTIONS if name not in config]
  if missing:
    raise errors.UserError(
      f"{path}: the config has no '{missing[0]}', which every experiment has;"
      " start from experiments.common.training, as experiments/sft.py does"
    )
  return config


def _module(path: epath.Path) -> ModuleType:
  _make_importable(path.parent)
  loader = _Reading(path.stem, os.fspath(path))
  spec = importlib.util.spec_from_file_location(path.stem, loader=loader)
  if spec is None or spec.loader is None:
    raise errors.UserError(f"{path}: an experiment is a Python file, NAME.py")
  module = importlib.util.module_from_spec(spec)
  _called(spec.loader.exec_module, module, path=path)
  return module


class _Reading(importlib.machinery.SourceFileLoader):
  """Reads a file, and writes no compiled one beside it: a folder of people's
  own stays as it is."""

  def set_data(self, path: str, data: Any, **_: Any) -> None:
    """Where a compiled file would be written."""


def _make_importable(beside: epath.Path) -> None:
  """`from experiments import common` works wherever the command is given.

  Modules beside the file come first, where its folder is called so, then those
  that Python finds, then ours.
  """
  spec = importlib.util.find_spec(PACKAGE)
  if spec is None:
    sys.path.append(str(ours().parent))
  elif not spec.submodule_search_locations:  # somebody's experiments.py
    _import_ours()
  package = importlib.import_module(PACKAGE)
  beside = beside.resolve()
  first = [str(beside)] if beside.name == PACKAGE else []
  folders = [*first, *package.__path__, str(ours())]
  package.__path__ = list(dict.fromkeys(folders))


def _import_ours() -> None:
  spec = importlib.util.spec_from_file_location(
    PACKAGE, ours() / "__init__.py", submodule_search_locations=[str(ours())]
  )
  assert spec is not None
  assert spec.loader is not None
  sys.modules[PACKAGE] = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(sys.modules[PACKAGE])


def _called(function: Any, *arguments: Any, path: epath.Path) -> Any:
  """What a function of the file returns; UserError with its line if it fails.

  A UserError, as for a variant that is not there, is passed on.
  """
  try:
    return function(*arguments)
  except errors.UserError:
    raise
  except (Exception, SystemExit) as error:
    raise errors.UserError(_described(error, path)) from error


def _described(error: BaseException, path: epath.Path) -> str:
  """'file:line: kind: message', and the line itself below."""
  kind = type(error).__name__
  if isinstance(error, SyntaxError):
    where = f"{error.filename or path}:{error.lineno or 1}"
    line = (error.text or "").strip()
    return f"{where}: {kind}: {error.msg}" + (f"\n    {line}" if line else "")
  frames = traceback.extract_tb(error.__traceback__)
  own = os.path.abspath(path)
  inside = [f for f in frames if os.path.abspath(f.filename) == own]
  message = " ".join(str(error).split())
  if len(message) > _LONGEST:
    message = f"{message[:_LONGEST]} …"
  if not inside:
    return f"{path}: {kind}: {message}"
  frame, last = inside[-1], frames[-1]
  text = f"{path}:{frame.lineno}: {kind}: {message}\n    {frame.line}"
  if os.path.abspath(last.filename) != own and not last.filename.startswith(
    "<frozen"
  ):
    text += f"\n    (from {last.filename}:{last.lineno}: {last.line})"
  return text


def _kind(value: Any) -> str:
  return "nothing" if value is None else f"a {type(value).__name__}"


def _near(folder: epath.Path, name: str) -> str:
  there = [
    path
    for each in (folder, ours())
    for path in (each.glob("*.py") if each.is_dir() else ())
  ]
  names = [path.name for path in there]
  near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
  return f". Did you mean '{there[names.index(near[0])]}'?" if near else ""
