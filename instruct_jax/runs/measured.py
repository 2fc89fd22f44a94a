"""The models that a command names, to be measured."""

from collections.abc import Sequence

from etils import epath

from instruct_jax.base import errors
from instruct_jax.hf import folder as hf_folder
from instruct_jax.measuring import running
from instruct_jax.runs import readers, references


def models(named: Sequence[str], *, template: str) -> list[running.Given]:
  """The models of 'PATH' or 'NAME=PATH', each with a name of its own.

  Raises UserError where a path is no finished run that speaks, or a name comes
  twice.
  """
  if not named:
    raise errors.UserError(
      "--run: name a run's folder, as runs/ppo_ptx-tiny, or hf:/path"
    )
  readers.check_template("--template", template)
  given: dict[str, running.Given] = {}
  for one in named:
    name, path = _split(one)
    if name in given:
      raise errors.UserError(
        f"--run {one}: '{name}' is there already; --run NAME=PATH names it"
      )
    there = references.resolve("policy", path)
    given[name] = readers.given(name, path, there.digest, template=template)
  return list(given.values())


def _split(reference: str) -> tuple[str, str]:
  name, equals, path = reference.partition("=")
  if equals and name and "/" not in name and ":" not in name:
    return name, path
  bare = reference.removeprefix(hf_folder.PREFIX).rstrip("/")
  return epath.Path(bare).name or bare, reference
