"""Runs and checkpoints that are to be measured (`measuring.running`)."""

from collections.abc import Sequence

from etils import epath

from instruct_jax.base import errors
from instruct_jax.hf import folder as hf_folder
from instruct_jax.inference import encode, likelihood
from instruct_jax.measuring import running
from instruct_jax.runs import references, speaker

TEMPLATES = ("none", "own")


def models(named: Sequence[str], *, template: str) -> list[running.Given]:
  """The models of 'PATH' or 'NAME=PATH', each with a name of its own.

  `template` says what is put around prompts: nothing, or each model's own.
  Raises UserError where a path is no finished run that speaks, or a name comes
  twice.
  """
  if not named:
    raise errors.UserError(
      "--run: name a run's folder, as runs/ppo_ptx-tiny, or hf:/path"
    )
  if template not in TEMPLATES:
    raise errors.unknown("--template", template, TEMPLATES)
  given: dict[str, running.Given] = {}
  for one in named:
    name, path = _split(one)
    if name in given:
      raise errors.UserError(
        f"--run {one}: '{name}' is there already; --run NAME=PATH names it"
      )
    given[name] = _given(name, path, template)
  return list(given.values())


def _split(reference: str) -> tuple[str, str]:
  name, equals, path = reference.partition("=")
  if equals and name and "/" not in name and ":" not in name:
    return name, path
  bare = reference.removeprefix(hf_folder.PREFIX).rstrip("/")
  return epath.Path(bare).name or bare, reference


def _given(name: str, path: str, template: str) -> running.Given:
  there = references.resolve("policy", path)

  def read() -> likelihood.Reader:
    one = speaker.open_run(path)
    own = one.ctx.config.data.template
    return likelihood.Reader(
      model=one.ctx.policy,
      params=one.params,
      tokenizer=one.ctx.tokenizer,
      mesh=one.ctx.mesh,
      template=encode.RAW_TEMPLATE if template == "none" else own,
      ctx=one.ctx,
    )

  described = {
    "run": path, "digest": there.digest, "template": template
  }  # fmt: skip
  return running.Given(name, described, read)
