"""From our adapters to a folder that `peft` loads onto a base model.

`adapter_config.json` and `adapter_model.safetensors`. Where a family keeps
query, key and value in one layer (GPT-2, GPT-NeoX), their adapters become one
of the ranks together: A side by side, B in blocks, alpha so many times as
large. A scalar head goes whole, as `peft`'s modules_to_save; where the family's
last norm can hold its bias, that norm goes with it.
"""

import os
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from etils import epath

from instruct_jax import tokenizers
from instruct_jax.base import errors, storage
from instruct_jax.hf import config as hf_config
from instruct_jax.hf import export as hf_export
from instruct_jax.hf import families, family, tensors
from instruct_jax.hf import folder as hf_folder
from instruct_jax.models import config as model_config
from instruct_jax.models import decoder, lora
from instruct_jax.parallel import folders, hosts, sharding

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."  # what peft's own modules put before a name


def export(
  trained: dict[str, Any],
  settings: lora.Settings,
  model: model_config.DecoderConfig,
  role: str,
  tokenizer: tokenizers.Tokenizer,
  folder: os.PathLike | str,
  *,
  base: epath.Path,
  below: dict[str, Any] | None = None,
  dtype: str = "float32",
  drop_bias: bool = False,
  reads: Iterable[epath.PathLike] = (),
  overwrite: bool = False,
) -> list[str]:
  """Writes the adapters of a role; returns what could not be kept, in lines.

  Args:
    trained: what the run trained of the role: adapters, and a scalar head.
    settings: of the adapters.
    model: the decoder that they are of.
    role: 'policy', 'reward' or 'value'.
    tokenizer: written beside them.
    folder: new, empty, or an export that nobody has changed since.
    base: the checkpoint in Hugging Face format that they were trained on.
    below: the scalar head of the run that `base` was exported from, if any: its
      bias is in the last norm there.
    dtype: of the tensors: 'float32', 'bfloat16' or 'float16'.
    drop_bias: leave a scalar head's bias out where it has no place.
    reads: what the parameters come from, where nothing is written.
    overwrite: a folder of others is moved aside.

  Raises:
    UserError: a bias; numbers that `dtype` cannot hold; a folder that may not
      be written.
  """
  if dtype not in hf_export.NAMES:
    raise errors.unknown("dtype", dtype, hf_export.NAMES)
  there = hf_folder.Folder(base)
  name = hf_config.family_of(there.config, there.where)
  lost, head = _head(trained, drop_bias, families.FAMILIES[name].norm_bias)
  norm = {}
  if head and families.FAMILIES[name].norm_bias and not lost:
    leaves = tensors.table(name, model, role)
    norm = _norm(there, leaves, trained["head"], below)
  if model.scan:
    trunk = decoder.unstack_blocks(trained["decoder"], model)
    trained = trained | {"decoder": trunk}
  modules = _modules(trained, model, name, role)
  adapters = {
    module: _joined(parts, model.heads) for module, parts in modules.items()
  }
  weights = head | {f"{_PREFIX}{key}": x for key, x in norm.items()}
  weights |= {
    f"{_PREFIX}{module}.lora_{letter}.weight": x
    for module, (a, b) in adapters.items()
    for letter, x in (("A", a), ("B", b))
  }
  ranks = {module: len(a) for module, (a, _) in adapters.items()}
  names = _names(ranks, families.FAMILIES[name], model.layers)
  described = _described(settings, ranks, modules, names)
  described |= {
    "base_model_name_or_path": os.fspath(base.resolve()),
    "task_type": "CAUSAL_LM" if role == "policy" else "SEQ_CLS",
    "modules_to_save": _saved([*norm, "score.weight"]) if head else None,
  }
  kind = hf_folder.DTYPES[hf_export.NAMES[dtype]]
  weights = {key: _cast(key, x, kind, dtype) for key, x in weights.items()}
  reads = [*reads, base]
  with folders.making(folder, reads=reads, overwrite=overwrite) as home:
    if not hosts.is_writer():
      return []
    content = safetensors.numpy.save(weights, metadata={"format": "pt"})
    storage.write(home / WEIGHTS, content)
    storage.write_json(home / CONFIG, described)
    kept = tokenizer.export(home)
  return [line for line in (lost, kept) if line]


def _head(trained, drop_bias, norm_bias):
  """(what is lost of a scalar head, its tensors)."""
  if "head" not in trained:
    return "", {}
  kernel = _fetched(trained["head"]["kernel"])
  bias = float(_fetched(trained["head"]["bias"])[0])
  has_place = norm_bias and np.any(kernel)
  if bias and not has_place and not drop_bias:
    raise errors.UserError(
      f"the head's bias {bias:.6g} has no place in adapter files of this family"
      " (no bias in its last norm or its score). With --drop_bias it is left"
      " out (every score moves by it, no ranking does)"
    )
  lost = f"the head's bias {bias:.6g}" if bias and not has_place else ""
  return lost, {f"{_PREFIX}score.weight": kernel.T}


def _norm(there, leaves, head, below):
  """The last norm with the head's bias in it, and not that of `below`, by the
  tensors' names; none where the base's serves."""
  heads = [head, *([below] if below else [])]
  heads = [{name: _fetched(x) for name, x in one.items()} for one in heads]
  if not any(np.any(one["bias"]) for one in heads):
    return {}
  names = [leaves[f"decoder/final_norm/{x}"].tensor for x in ("scale", "bias")]
  scale, bias = (there.read(name).astype(np.float32) for name in names)
  there.close()
  bias = bias + hf_export.shift(heads[0])
  for one in heads[1:]:
    bias = bias - hf_export.shift(one)
  return dict(zip(names, (scale, bias)))


def _saved(names: Iterable[str]) -> list[str]:
  """The modules of tensors, as `modules_to_save` finds them."""
  return sorted({name.rpartition(".")[0].rpartition(".")[2] for name in names})


def _modules(trained, model, name, role):
  """{torch module: [(leaf, A, B), ...]}, query, key and value in turn."""
  found = {
    sharding.path_name(path): _fetched(x)
    for path, x in jax.tree_util.tree_flatten_with_path(trained)[0]
  }
  modules: dict[str, list] = {}
  for ours, leaf in tensors.table(name, model, role).items():
    layer = ours.removesuffix("/kernel")
    if layer == ours or f"{layer}/{lora.A}" not in found:
      continue
    entry = leaf, found[f"{layer}/{lora.A}"], found[f"{layer}/{lora.B}"]
    modules.setdefault(leaf.tensor.removesuffix(".weight"), []).append(entry)
  return modules


def _joined(
  parts: list[tuple[family.Leaf, np.ndarray, np.ndarray]], heads: int
) -> tuple[np.ndarray, np.ndarray]:
  """(A [ranks, inputs], B [outputs, ranks]) of the layers that share a tensor.

  The blocks of B lie as the kernels do; a part without an adapter has zeros.
  """
  first, rank = parts[0][0], parts[0][1].shape[1]
  a = np.concatenate([a.T for _, a, _ in parts])
  if not first.shared:
    return a, np.ascontiguousarray(parts[0][2].T)
  blocks = {}
  for i, (leaf, _, b) in enumerate(parts):
    block = np.zeros((len(a), b.shape[1]), b.dtype)
    block[i * rank : (i + 1) * rank] = b
    blocks[leaf.part] = block
  outputs = parts[0][2].shape[1]
  every = [
    blocks.get(part, np.zeros((len(a), outputs), a.dtype))
    for part in range(len(family.PARTS))
  ]
  if first.transposed:
    return a, tensors.joined(first, [x.T for x in every], heads)
  return a, np.ascontiguousarray(tensors.joined(first, every, heads).T)


def _described(settings, ranks, modules, names):
  """adapter_config.json but for the base."""
  several = {
    names.get(module, module): rank // settings.rank
    for module, rank in ranks.items()
    if rank != settings.rank
  }
  leaf = next(iter(modules.values()))[0][0]
  return {
    "peft_type": "LORA",
    "r": settings.rank,
    "lora_alpha": settings.alpha,
    "lora_dropout": settings.dropout,
    "target_modules": sorted({names.get(module, module) for module in ranks}),
    "rank_pattern": {n: k * settings.rank for n, k in several.items()},
    "alpha_pattern": {n: k * settings.alpha for n, k in several.items()},
    "fan_in_fan_out": not leaf.transposed,
    "bias": "none",
    "inference_mode": True,
    "init_lora_weights": True,
  }


def _names(ranks, of_family, layers):
  """{module: its name within a layer}, where all layers have the same ones."""
  within: dict[str, dict[str, str]] = {}
  for module in ranks:
    start = f"{of_family.trunk}.{of_family.layers}."
    number, _, name = module.removeprefix(start).partition(".")
    within.setdefault(number, {})[module] = name
  sets = [set(names.values()) for names in within.values()]
  if len(sets) < layers or any(names != sets[0] for names in sets):
    return {}
  return {m: name for names in within.values() for m, name in names.items()}


def _cast(name, x, kind, dtype):
  with np.errstate(over="ignore"):
    cast = np.ascontiguousarray(x.astype(kind))
  if not np.isfinite(cast.astype(np.float32)).all():
    raise errors.UserError(
      f"{name}: not every number is finite as {dtype}; export in float32."
    )
  return cast


def _fetched(x):
  if isinstance(x, jax.Array) and not x.is_fully_addressable:
    x = hosts.fetch(x)
  return np.asarray(x)
