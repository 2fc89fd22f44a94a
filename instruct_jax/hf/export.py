"""From our parameters to a folder that transformers and vLLM load.

Tensors are fetched from the devices one at a time and written in shards, so a
host holds no more than one shard.
"""

import dataclasses
import os
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import numpy as np
from etils import epath

from instruct_jax import tokenizers
from instruct_jax.base import errors, storage
from instruct_jax.hf import config as hf_config
from instruct_jax.hf import families as hf_families
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import shards, tensors
from instruct_jax.models import config as model_config
from instruct_jax.models import decoder
from instruct_jax.parallel import folders, hosts

SHARD_BYTES = 2 * 10**9
GENERATION = "generation_config.json"
NAMES = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


def export(
  params: dict[str, Any],
  model: model_config.DecoderConfig,
  role: str,
  tokenizer: tokenizers.Tokenizer,
  folder: os.PathLike | str,
  *,
  dtype: str = "float32",
  dtypes: dict[str, str] | None = None,
  original: dict[str, Any] | None = None,
  generation: dict[str, Any] | None = None,
  drop_bias: bool = False,
  shard_bytes: int = SHARD_BYTES,
  reads: Iterable[epath.PathLike] = (),
  overwrite: bool = False,
) -> str:
  """Writes a policy, a reward model or a value network with its tokenizer.

  Returns what of the tokenizer could not be kept, in one line, or ''.

  Args:
    params: the tree of `role`, arrays of any sharding.
    model: what the parameters fit.
    role: 'policy' (AutoModelForCausalLM), 'reward' or 'value'
      (AutoModelForSequenceClassification with one label).
    tokenizer: written beside the model.
    folder: new, empty, or an export that nobody has changed since.
    dtype: of the tensors: 'float32', 'bfloat16' or 'float16'.
    dtypes: of single tensors by name, as safetensors call them ('BF16').
    original: the config.json that the model was imported with, if it was; its
      keys are kept.
    generation: the generation_config.json that came with it.
    drop_bias: leave a reward's bias out where the family has no place for it;
      it is then in config.json as "reward_bias".
    shard_bytes: how large a file may become.
    reads: what the parameters come from, where nothing is written.
    overwrite: a folder of others is moved aside.

  Raises:
    UserError: no family has this model; a bias that has no place; a folder
      that may not be written; numbers that `dtype` cannot hold.
  """
  if dtype not in NAMES:
    raise errors.unknown("dtype", dtype, NAMES)
  family, config = _config(model, role, tokenizer, dtype, original)
  if role != "policy":
    params, bias = _folded(params, family, drop_bias)
    config |= {"reward_bias": bias} if bias else {}
  if model.scan:
    trunk = decoder.unstack_blocks(params["decoder"], model)
    params = params | {"decoder": trunk}
  kinds = _Kinds(NAMES[dtype], dtypes or {})
  named = _tensors(params, model, family, role, kinds)
  with folders.making(folder, reads=reads, overwrite=overwrite) as home:
    shards.write(named, home, shard_bytes)
    if not hosts.is_writer():
      return ""
    storage.write_json(home / hf_folder.CONFIG, config)
    if role == "policy":
      sampled = generation or _generation(tokenizer)
      storage.write_json(home / GENERATION, sampled)
    return tokenizer.export(home)


def difference(
  params: dict[str, Any],
  model: model_config.DecoderConfig,
  role: str,
  there: hf_folder.Folder,
) -> str:
  """The first tensor of a checkpoint that is not a model's; '' where all are.

  Compared as float32. A reward's bias that has no place is none of them.
  """
  family = hf_config.family_of(there.config, there.where)
  if role != "policy":
    params, _ = _folded(params, family, drop_bias=True)
  if model.scan:
    trunk = decoder.unstack_blocks(params["decoder"], model)
    params = params | {"decoder": trunk}
  for name, x in _tensors(params, model, family, role, _Kinds("F32", {})):
    if name not in there.names:
      return name
    if not np.array_equal(there.read(name).astype(np.float32), x):
      return name
  there.close()
  return ""


def _config(model, role, tokenizer, dtype, original):
  """(family, config.json without the bias)."""
  classes = {"policy": "causal"}
  if original is not None:
    where = "the config.json that the model was imported with"
    family = hf_config.family_of(original, where)
    config = dict(original)
  else:
    family, config = hf_config.to_json(model)
    config |= {
      "bos_token_id": (tokenizer.start_ids or (tokenizer.eot_id,))[0],
      "eos_token_id": tokenizer.eot_id,
    }
    if tokenizer.pad_id < model.vocab_size:
      config["pad_token_id"] = tokenizer.pad_id
  name = getattr(hf_families.FAMILIES[family], classes.get(role, "classifier"))
  config["architectures"] = [name]
  config["dtype" if "dtype" in config else "torch_dtype"] = dtype
  if role != "policy":
    config |= {"id2label": {"0": "LABEL_0"}, "label2id": {"LABEL_0": 0}}
  return family, config


def _generation(tokenizer):
  """How the policy was sampled: plainly, until one of its stop tokens."""
  stops = sorted({tokenizer.eot_id, *tokenizer.stop_ids})
  settings = {
    "do_sample": True,
    "temperature": 1.0,
    "top_p": 1.0,
    "bos_token_id": (tokenizer.start_ids or (tokenizer.eot_id,))[0],
    "eos_token_id": stops if len(stops) > 1 else stops[0],
  }
  if tokenizer.pad_id < tokenizer.vocab_size:
    settings["pad_token_id"] = tokenizer.pad_id
  return settings


def _folded(params, family, drop_bias):
  """(parameters without a head bias, the bias that is left out).

  A score is w (s x + n) + b with the last norm's bias n, which nothing else
  reads: n + b w / |w|^2 in its place gives the same score.
  """
  head, norm = params["head"], params["decoder"]["final_norm"]
  head = {name: on_host(x) for name, x in head.items()}
  bias = float(head["bias"][0])
  rest = {name: x for name, x in params.items() if name != "head"}
  rest["head"] = {"kernel": head["kernel"]}
  if not bias:
    return rest, 0.0
  has_place = hf_families.FAMILIES[family].norm_bias
  if not has_place or not np.any(head["kernel"]):
    if drop_bias:
      return rest, bias
    raise errors.UserError(
      f"the reward's bias {bias:.6g} has no place in a {family} checkpoint (no"
      " bias in its last norm or its score). With --drop_bias it is left out"
      ' (every score moves by it, no ranking does) and noted as "reward_bias"'
      " in config.json."
    )
  before = on_host(norm["bias"]) if "bias" in norm else np.float32(0)
  after = before + shift(head)
  trunk = params["decoder"] | {"final_norm": norm | {"bias": after}}
  return rest | {"decoder": trunk}, 0.0


def shift(head: dict[str, Any]) -> np.ndarray:
  """What the last norm's bias [D] gains where it holds a scalar head's."""
  bias = float(np.asarray(head["bias"])[0])
  w = np.asarray(head["kernel"], np.float64)[:, 0]
  if not bias or not w.any():  # of zeros there is no place for one
    return np.zeros(w.shape, np.float32)
  return (bias / np.square(w).sum() * w).astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _Kinds:
  """The dtype of each tensor."""

  usual: str
  by_name: dict[str, str]

  def cast(self, x: np.ndarray, name: str) -> np.ndarray:
    """The array as it is written; UserError if it cannot be."""
    kind = self.by_name.get(name, self.usual)
    with np.errstate(over="ignore"):
      array = np.ascontiguousarray(x.astype(hf_folder.DTYPES[kind]))
    if not np.isfinite(array.astype(np.float32)).all():
      raise errors.UserError(
        f"{name}: not every number is finite as {kind}; export in float32."
      )
    return array


def _tensors(
  params, model, family, role, kinds
) -> Iterator[tuple[str, np.ndarray]]:
  """(name, array) of every tensor, in the table's order."""
  flat = {
    "/".join(key.key for key in path): x
    for path, x in jax.tree_util.tree_flatten_with_path(params)[0]
  }
  is_scaled = hf_families.FAMILIES[family].scaled
  scale = 1.0 if is_scaled else model.embedding_scale
  untied = role == "policy" and model.tied and scale != 1
  groups = {}
  for ours, leaf in tensors.table(family, model, role).items():
    groups.setdefault(leaf.tensor, []).append((ours, leaf))
  for name, parts in groups.items():
    arrays = [_turned(_fetched(flat, ours, leaf), leaf) for ours, leaf in parts]
    whole = tensors.joined(parts[0][1], arrays, model.heads)
    if parts[0][0] == "decoder/token_embedding/embedding":
      if untied:
        head = hf_families.FAMILIES[family].unembedding
        yield head, kinds.cast(whole, head)
      whole = whole * np.float32(scale) if scale != 1 else whole
    yield name, kinds.cast(whole, name)


def _fetched(flat, ours, leaf):
  """A parameter on the host; zeros for a bias that the model does without."""
  x = flat.get(ours)
  if x is None:
    if not ours.endswith("/bias"):
      raise errors.UserError(f"the parameters lack {ours}.")
    return np.zeros(leaf.shape, np.float32)
  return on_host(x)


def on_host(x: jax.Array | np.ndarray) -> np.ndarray:
  """The whole of an array; every process calls it where others hold parts."""
  if isinstance(x, jax.Array) and not x.is_fully_addressable:
    x = hosts.fetch(x)
  return np.asarray(x)


def _turned(x, leaf):
  return x.T if leaf.transposed else x
