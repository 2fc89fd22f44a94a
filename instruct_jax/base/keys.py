"""The keys of a config, dotted: 'rl.kl_coef' is `config.rl.kl_coef`."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict


def flatten(tree: Mapping | ConfigDict, prefix: str = "") -> dict[str, Any]:
  """{'a.b': value} of nested config sections; an empty section has no key."""
  if isinstance(tree, ConfigDict):
    tree = tree.to_dict()
  flat = {}
  for key, value in tree.items():
    if isinstance(value, dict):
      flat |= flatten(value, f"{prefix}{key}.")
    else:
      flat[f"{prefix}{key}"] = value
  return flat
