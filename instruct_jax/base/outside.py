"""What people write in files of their own, named by its import path."""

import importlib
from collections.abc import Callable
from types import ModuleType
from typing import Any

from instruct_jax.base import errors


def module(path: str, key: str) -> ModuleType:
  """The module that the config key `key` names, as in 'my_package.my_module'.

  Python looks for it where the command is given and in what is installed.

  Raises:
    UserError: there is no such module. What goes wrong inside of it is shown
      as it is.
  """
  try:
    return importlib.import_module(path)
  except ModuleNotFoundError as error:
    if not error.name or not f"{path}.".startswith(f"{error.name}."):
      raise  # The module is there, and imports another that is not.
    raise errors.UserError(
      f"{key}: there is no module '{path}' (nothing is called '{error.name}')."
      " Give the command in the folder that holds it, or add that folder to"
      " PYTHONPATH"
    ) from None


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
  found = getattr(there, attribute)
  if not callable(found):
    raise errors.UserError(f"{key}: '{path}' is no function but {found!r}")
  return found
