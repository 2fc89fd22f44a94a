"""Whether a stage can run on this machine at all, before any is built.

Sizes here are less than what is needed: the weights without biases and norms,
one array where there are many. So what is refused cannot work, and what is not
may still be too large.
"""

import dataclasses
import math
import os

import jax
from ml_collections import ConfigDict

from instruct_jax import algorithms, worlds
from instruct_jax.base import errors
from instruct_jax.data.read import kinds
from instruct_jax.inference import context, rewards
from instruct_jax.models import config as model_config
from instruct_jax.models import flops, forward, heads
from instruct_jax.parallel import sharding
from instruct_jax.training import partition

FLOAT, _ROW = 4, 200  # bytes of a number; of a record, as Python holds it
# {job that samples and trains nothing: its section}
_SAMPLES = {
  "rankings": "rankings",
  "candidates": "candidates",
  "select": "selection",
  "epochs": "selection",
  "overoptimization": "overoptimization",
}
_SAMPLED = 64  # rows that are decoded at once on a CPU; elsewhere more
_FROZEN = {"float32": FLOAT, "bfloat16": 2}  # bytes of what is not trained
_MOMENTS = {"adam": 2, "adamw": 2}  # arrays beside each weight; muon: 1


def check(config: ConfigDict) -> None:
  """UserError where devices are missing, or memory for what is certain."""
  try:
    if config.job == "dataset":
      _check_rows(config)
      return
    mesh = sharding.make_mesh(**config.mesh)
    _check_divides(config, mesh)
    _check_memory(config, mesh)
  except errors.UserError as error:
    name = f"{config.experiment}.py:{config.variant}"
    raise errors.UserError(f"{name}: {error}") from None


def weights(model: model_config.DecoderConfig) -> int:
  """Numbers in the kernels and embeddings of a decoder, one layer's x N."""
  c = model
  embeddings = c.vocab_size * (1 if c.tied else 2)
  embeddings += c.context_length if c.positions == "learned" else 0
  return flops.weights(c) + c.width * embeddings


def memory_of(device: jax.Device, sharing: int) -> int:
  """Bytes of a device; of a CPU, its share of the host's among `sharing`."""
  stats = device.memory_stats() or {}
  return stats.get("bytes_limit") or host_memory() // sharing


def host_memory() -> int:
  """Bytes of this host's memory, swap included where that is said."""
  try:
    with open("/proc/meminfo") as file:
      sizes = dict(line.split(":", 1) for line in file)
    return 1024 * sum(
      int(sizes[name].split()[0]) for name in ("MemTotal", "SwapTotal")
    )
  except (OSError, LookupError, ValueError):
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _check_rows(config):
  world = worlds.of(config.data)
  for kind in kinds.KINDS:
    rows = max(world.counts(config.data, kind) or (0,))
    if rows * _ROW > host_memory():
      raise errors.UserError(
        f"config.data.sizes.{kind}: {rows:,} rows of a split take"
        f" {_gb(rows * _ROW)} at least, and this machine has"
        f" {_gb(host_memory())} of memory"
      )


def _check_divides(config, mesh):
  """The mesh divides the kernels, as `sharding.place` wants them."""
  if mesh.shape["fsdp"] * mesh.shape["tensor"] == 1:
    return
  decoders = zip(context.decoders(config), (False, True))
  for decoder, is_scalar in decoders:
    thin = dataclasses.replace(decoder, layers=1)  # all have one shape
    model = heads.ScalarModel(thin) if is_scalar else heads.LanguageModel(thin)
    shapes = jax.eval_shape(
      lambda key, model=model: forward.init_params(model, key),
      jax.random.key(0),
    )
    sharding.place(shapes, mesh, heads.RULES)


def _check_memory(config, mesh):
  devices = math.prod(mesh.shape.values())
  local = jax.local_devices()[0]
  there = memory_of(local, devices // jax.process_count() or 1)
  held, roles = _held(config)
  held //= mesh.shape["fsdp"] * mesh.shape["tensor"]
  if held > there:
    what = ", gradients and moments" if config.job == "train" else ""
    raise errors.UserError(
      f"config.model: the weights{what} of {roles} take {_gb(held)} a device"
      f" at least, and there are {_gb(there)}. Give a smaller model, or more"
      " devices (config.mesh.fsdp)"
    )
  for what, size in _of_batches(config, mesh).items():
    if held + size > there:
      raise errors.UserError(
        f"{what}: the arrays take {_gb(size)} a device at least, beside"
        f" {_gb(held)} of the models, and there are {_gb(there)}. Give fewer"
        " rows, shorter ones (config.data), or more config.microbatches"
      )


def _held(config):
  """(bytes that stay on the devices, whose they are)."""
  policy, scalar = context.decoders(config)
  if config.job != "train":
    return weights(policy) * FLOAT, "the policy"
  is_rewarded = algorithms.named(config.algorithm).is_rewarded
  total, roles = 0, []
  for role, section in config.optimizer.items():
    model = scalar if role in context.SCALAR_ROLES else policy
    arrays = 2 + _MOMENTS.get(section.name, 1) + (role in config.ema)
    if partition.is_partial(config, role):  # what else there is may be little
      arrays = 0 if is_rewarded else 1  # a frozen role has the weights
    total += weights(model) * arrays * FLOAT
    roles.append(f"{role} ({weights(model):,} numbers)")
  if is_rewarded:
    total += weights(policy) * _FROZEN[policy.dtype]
    if rewards.needs_model(config.reward):
      models = len(rewards.named(config.needs.get("reward", "")))
      total += models * weights(scalar) * _FROZEN[scalar.dtype]
  return total, " and ".join(roles)


def _of_batches(config, mesh):
  """{what: bytes a device} of what is computed for some rows at once."""
  parts = mesh.shape["data"] * mesh.shape["fsdp"]
  policy, _ = context.decoders(config)
  length = config.data.prompt_length + config.data.response_length
  sizes = {}

  def sampled(rows):
    """Tokens of all rows, keys and values of some."""
    cache = 2 * policy.layers * policy.kv_heads * policy.head_size
    cache *= FLOAT if policy.dtype == "float32" else 2
    return length * (rows * FLOAT + min(rows, _SAMPLED) * cache) // parts

  if config.job == "train":
    algorithm = algorithms.named(config.algorithm)
    rows = algorithms.rows_of(config.batch)
    rows = algorithm.minibatch_rows(config, rows)
    for kind, count in rows.items():
      is_text = kinds.KINDS[kind].is_stream
      tokens = config.data.row_length if is_text else length
      count = max(1, count // (config.microbatches * parts))
      what = f"config.batch.{kind}: {count} rows of {tokens} tokens at once"
      sizes[what] = count * bytes_of_row(policy, tokens, mesh.shape["tensor"])
    if algorithm.is_rewarded:
      sizes["config.batch"] = sampled(max(config.batch.values()))
  if config.evaluation.suite != "none":
    sizes["config.evaluation.batch"] = sampled(config.evaluation.batch)
  section = _SAMPLES.get(config.job)
  if section:
    sizes[f"config.{section}.batch"] = sampled(config[section].batch)
  return sizes


def bytes_of_row(
  model: model_config.DecoderConfig, tokens: int, tensor: int = 1
) -> int:
  """Of a row in training: each layer's input, and the scores of one layer."""
  stream = tokens * model.layers * model.width
  stream *= FLOAT if model.dtype == "float32" else 2
  return stream + tokens * tokens * model.heads * FLOAT // tensor


def _gb(size):
  return f"{size / 1e9:,.1f} GB"
