"""Runs and checkpoints as policies that are measured (`measuring.running`)."""

import jax
from etils import epath

from instruct_jax.base import errors
from instruct_jax.inference import encode, likelihood
from instruct_jax.measuring import running
from instruct_jax.runs import reading, records

TEMPLATES = ("none", "own")
MEMORY = 16e9  # bytes of a device that does not say how many it has


def check_template(flag: str, template: str) -> None:
  """UserError for what is no choice of what is put around prompts."""
  if template not in TEMPLATES:
    raise errors.unknown(flag, template, TEMPLATES)


def given(
  name: str, folder: epath.PathLike, digest: str, *, template: str
) -> running.Given:
  """The policy of a finished run, or of 'hf:/path', under a name.

  `template` says what is put around prompts: nothing, or what the run has.
  """
  described = {"run": str(folder), "digest": digest, "template": template}

  def read() -> likelihood.Reader:
    return reader(folder, template=template)

  return running.Given(name, described, read)


def reader(folder: epath.PathLike, *, template: str) -> likelihood.Reader:
  """The policy, on all devices that are here.

  They share the rows; and the parameters, where these would take more than a
  quarter of a device's memory.
  """
  folder = epath.Path(folder)
  ctx = reading.open_context(folder, axis="data")
  memory = ctx.mesh.local_devices[0].memory_stats() or {}
  abstract = reading.abstract_parameters(ctx, "policy")
  size = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(abstract))
  if size > memory.get("bytes_limit", MEMORY) / 4:
    ctx = reading.open_context(folder, axis="fsdp")
  own = ctx.config.data.template
  return likelihood.Reader(
    model=ctx.policy,
    params=reading.load_parameters(folder, ctx, "policy"),
    tokenizer=ctx.tokenizer,
    mesh=ctx.mesh,
    template=encode.RAW_TEMPLATE if template == "none" else own,
    ctx=ctx,
  )


def digest_of(folder: epath.PathLike) -> str:
  """Of the parameters that a finished run hands on."""
  results = records.read_results(folder)
  return results.get("parameters_digest") or results["config_digest"]
