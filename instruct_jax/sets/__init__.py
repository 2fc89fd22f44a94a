"""What the paper measures on public sets, one module a set.

A module here with a `SET` (`measuring.contract`) is a set of its name; nothing
else need know of it. `all_sets` finds them.
"""

import importlib
import pkgutil

from instruct_jax.measuring import contract


def all_sets() -> dict[str, contract.Set]:
  """Every set by its module's name."""
  names = sorted(module.name for module in pkgutil.iter_modules(__path__))
  modules = {
    name: importlib.import_module(f"{__name__}.{name}") for name in names
  }
  return {name: module.SET for name, module in modules.items()}
