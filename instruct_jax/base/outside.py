"""What people write in files of their own, named by its import path."""

import contextlib
import hashlib
import importlib
import pathlib
import traceback
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from instruct_jax.base import errors


def module(path: str, key: str) -> ModuleType:
  """The module that the config key `key` names, as in 'my_package.my_module'.

  Python looks for it where the command is given and in what is installed.

  Raises:
    UserError: there is no such module, or it fails as it is imported: then
      with file and line.
  """
  try:
    return importlib.import_module(path)
  except Exception as error:  # Somebody's own file may raise anything.
    name = error.name if isinstance(error, ModuleNotFoundError) else None
    if name and f"{path}.".startswith(f"{name}."):
      raise errors.UserError(
        f"{key}: there is no module '{path}' (nothing is called '{name}')."
        " Give the command in the folder that holds it, or add that folder to"
        " PYTHONPATH"
      ) from None
    raise errors.UserError(
      f"{key}: the module '{path}' cannot be imported: {described(error)}"
    ) from error


def function(path: str, key: str) -> Callable[..., Any]:
  """The function that `key` names, as in 'my_package.my_module:my_function'.

  Raises:
    UserError: the path has no colon, or there is no such module or function.
  """
  name, _, attribute = path.partition(":")
  if not name or not attribute.isidentifier():
    raise errors.UserError(
      f"{key}='{path}': name a function as my_package.my_module:my_function"
    )
  there = module(name, key)
  if not hasattr(there, attribute):
    known = [n for n, value in vars(there).items() if callable(value)]
    raise errors.unknown(f"function in {key}={name}:", attribute, known)
  named = getattr(there, attribute)
  if not callable(named):
    raise errors.UserError(f"{key}: '{path}' is no function but {named!r}")
  return named


def described(error: Exception) -> str:
  """An error of somebody's own code in a line: kind, message, file and line."""
  *_, last = traceback.extract_tb(error.__traceback__)
  where = (last.filename, last.lineno)
  if isinstance(error, SyntaxError):
    where = (error.filename, error.lineno)
  return f"{type(error).__name__}: {error} ({where[0]}:{where[1]})"


@contextlib.contextmanager
def calling(what: str, then: str = "") -> Iterator[None]:
  """For a block that calls somebody's own code, which may raise anything.

  Raises UserError: `what`, what it raised and where, and `then`; but a
  UserError of its own as it is.
  """
  try:
    yield
  except errors.UserError:
    raise
  except Exception as error:
    raise errors.UserError(f"{what}: {described(error)}{then}") from error


def digest(path: str, key: str) -> str:
  """A hash of the file of the module in 'my_package.my_module[:function]'.

  '' where it has no file of its own. Raises as `module`.
  """
  file = getattr(module(path.partition(":")[0], key), "__file__", None)
  if not file:
    return ""
  return hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()[:16]
