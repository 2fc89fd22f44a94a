"""LoRA: low-rank adapters beside the kernels of dense layers.

Hu et al. 2021, equation 3: y = x W + alpha / rank * dropout(x) A B, where A
[inputs, rank] starts as `peft` has it, uniform in +-1 / sqrt(inputs), and B
[rank, outputs] at 0, so that a model begins as the one that it is adapted from.
A and B are leaves `lora_a` and `lora_b` beside `kernel`; a tree without them is
the base model, and `decoder.Dense` reads which it is off the tree.
"""

import dataclasses
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from instruct_jax.base import errors
from instruct_jax.models import config as model_config

A, B = "lora_a", "lora_b"
LAYERS = ("query", "key", "value", "output", "up", "gate", "down")


@dataclasses.dataclass(frozen=True)
class Settings:
  """Which layers are adapted, and how."""

  rank: int
  alpha: float
  targets: str  # regular expression of the end of a layer's path; '': all
  dropout: float

  @property
  def scale(self) -> float:
    """What an adapter's output is multiplied by."""
    return self.alpha / self.rank

  @property
  def counted(self) -> model_config.Adapters:
    """What the decoder has to know of it."""
    return model_config.Adapters(scale=self.scale, dropout=self.dropout)


def settings(section: Mapping[str, Any]) -> Settings | None:
  """The adapters of a config's section `lora`; None where the rank is 0."""
  if not section["rank"]:
    return None
  return Settings(
    rank=section["rank"],
    alpha=float(section["alpha"]),
    targets=section["targets"] or "|".join(LAYERS),
    dropout=float(section["dropout"]),
  )


def is_adapter(path: str) -> bool:
  """Whether a parameter's path is one of an adapter's."""
  return path.rpartition("/")[2] in (A, B)


def attach(params: dict, settings: Settings, key: jax.Array) -> dict:
  """A tree with fresh adapters in the layers that `settings` targets.

  Stacked layers get the same numbers as single ones. Raises UserError as
  `check`.
  """
  check(params, settings)

  def adapted(layer, path):
    if not _is_target(path, settings.targets):
      return layer
    *stacked, inputs, outputs = layer["kernel"].shape
    count, shape = (stacked or [1])[0], (inputs, settings.rank)
    names = [path]
    if stacked:
      names = [path.replace("blocks", f"block_{i}", 1) for i in range(count)]
    rows = [
      jax.random.uniform(
        jax.random.fold_in(key, zlib.crc32(name.encode())),
        shape,
        minval=-(inputs**-0.5),
        maxval=inputs**-0.5,
      )
      for name in names
    ]
    a = jnp.stack(rows) if stacked else rows[0]
    b = jnp.zeros((*stacked, settings.rank, outputs))
    return layer | {A: a, B: b}

  return _map_layers(adapted, params)


def check(params: dict, settings: Settings) -> None:
  """UserError where the targets of a tree (or of its shapes) cannot be adapted.

  A regular expression that is none, that fits no layer, or one that has no
  adapters here; a rank that a layer does not have.
  """
  try:
    re.compile(settings.targets)
  except re.error as error:
    raise errors.UserError(
      f"config.lora.targets={settings.targets!r}: no regular expression:"
      f" {error}"
    ) from None
  found = [
    (path, layer)
    for path, layer in _layers(params)
    if _is_target(path, settings.targets)
  ]
  there = [path for path, layer in _layers(params) if _is_dense(path)]
  if not found:
    names = ", ".join(dict.fromkeys(p.rpartition("/")[2] for p in there))
    raise errors.UserError(
      f"config.lora.targets={settings.targets!r} fits no layer; it should fit"
      f" the end of a layer's path, as {there[0]}; there are {names}"
    )
  for path, layer in found:
    if not _is_dense(path):
      raise errors.UserError(
        f"config.lora.targets={settings.targets!r} fits {path}, which has no"
        f" adapters here: only {', '.join(LAYERS)} do (a scalar head is trained"
        " whole)"
      )
    inputs, outputs = layer["kernel"].shape[-2:]
    if settings.rank > min(inputs, outputs):
      raise errors.UserError(
        f"config.lora.rank={settings.rank} is more than {path} can have, which"
        f" is {inputs} x {outputs}: give at most {min(inputs, outputs)}"
      )


def merged(params: dict, scale: float) -> dict:
  """The tree without adapters that computes the same: W + scale A B."""

  def one(layer, path):
    del path
    if A not in layer:
      return layer
    update = jnp.matmul(layer[A], layer[B], precision=jax.lax.Precision.HIGHEST)
    rest = {name: x for name, x in layer.items() if name not in (A, B)}
    return rest | {"kernel": layer["kernel"] + scale * update}

  return _map_layers(one, params)


def _is_target(path: str, targets: str) -> bool:
  return re.search(f"(^|/)({targets})$", path) is not None


def _is_dense(path: str) -> bool:
  parts = path.split("/")
  return parts[-1] in LAYERS and any(p.startswith("block") for p in parts)


def _layers(tree: dict, path: str = "") -> Iterator[tuple[str, dict]]:
  """(path, its parameters) of every layer."""
  for name, below in tree.items():
    here = f"{path}/{name}" if path else name
    if not isinstance(below, dict):
      continue
    if any(not isinstance(x, dict) for x in below.values()):
      yield here, below
    else:
      yield from _layers(below, here)


def _map_layers(
  function: Callable[[dict, str], dict], tree: dict, path: str = ""
) -> Any:
  """The tree with `function` (layer, path) in the place of every layer."""
  changed = {}
  for name, below in tree.items():
    here = f"{path}/{name}" if path else name
    if not isinstance(below, dict):
      changed[name] = below
    elif any(not isinstance(x, dict) for x in below.values()):
      changed[name] = function(below, here)
    else:
      changed[name] = _map_layers(function, below, here)
  return changed
