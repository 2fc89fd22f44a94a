"""Run folders as others read them: their config, needs and results.

A run is a folder with `config.json`; when it has finished also `results.json`,
whose "product" says where the parameters are that the run hands on:

  {"run": ".", "step": 200, "item": "ema.policy"}

"run" is relative to the folder: a `select` stage names a checkpoint of the run
that it selected from. Wherever a run's folder may be named, 'hf:/path' names a
checkpoint in Hugging Face format, which is read as a finished run.
"""

import dataclasses
import difflib
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from instruct_jax.base import errors, run_folder, storage
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import imported
from instruct_jax.hf import load as hf_load
from instruct_jax.inference import rewards
from instruct_jax.parallel import checkpoint


@dataclasses.dataclass(frozen=True)
class Product:
  """The parameters that a run hands on."""

  run: epath.Path  # the folder whose checkpoints hold them
  step: int
  item: str  # of the checkpoint, such as 'ema.policy'
  finished: bool = True

  @property
  def role(self) -> str:
    """'policy' or 'reward'."""
    return self.item.rpartition(".")[2]


def read_record(folder: epath.PathLike) -> dict[str, Any]:
  """What config.json holds: "config", "digest", "needs" and more.

  Raises UserError where `folder` is not a run, with what might be meant.
  """
  folder = epath.Path(folder)
  if hf_folder.is_reference(folder):
    path = hf_folder.path_of(folder)
    config = imported.config(hf_folder.Folder(path))
    return {"config": config.to_dict(), "needs": {"data": str(path.resolve())}}
  files = run_folder.files(folder)
  if not files.config.exists():
    raise errors.UserError(
      f"{folder}: not a run, there is no {files.config.name} in it."
      f"{_hint(folder)}"
    )
  written = storage.read_json(run_folder.files(folder).config)
  if "model_type" in written:
    raise errors.UserError(
      f"{folder}: not a run but a checkpoint in Hugging Face format; name it"
      f" {hf_folder.PREFIX}{folder}"
    )
  if not isinstance(written.get("config"), dict):
    raise errors.UserError(
      f'{run_folder.files(folder).config}: has no "config" in it.'
    )
  return written


def read_config(folder: epath.PathLike) -> ConfigDict:
  """The resolved config of a run; raises as `read_record` does."""
  return ConfigDict(read_record(folder)["config"]).lock()


def read_needs(folder: epath.PathLike) -> dict[str, epath.Path]:
  """The folders of what a run was built on, by name; raises as above.

  What was moved aside since is read where it is now.
  """
  folder = epath.Path(folder)
  record = read_record(folder)
  digests = record.get("needs_digests", {})
  return {
    name: epath.Path(path)
    if hf_folder.is_reference(path)
    else _where_now(folder / path, digests.get(name, ""))
    for name, path in record.get("needs", {}).items()
  }


def _where_now(folder: epath.Path, digest: str) -> epath.Path:
  """The run of this digest, here or moved aside; `folder` where it is gone."""
  for here in (folder, *run_folder.all_earlier(folder)) if digest else ():
    config = run_folder.files(here).config
    if config.exists() and storage.read_json(config).get("digest") == digest:
      return here
  return folder


def read_results(folder: epath.PathLike) -> dict[str, Any]:
  """What results.json holds; UserError where the run has not finished."""
  folder = epath.Path(folder)
  if hf_folder.is_reference(folder):
    path = hf_folder.path_of(folder)
    role = hf_load.role_of(hf_folder.Folder(path))
    product = {"run": ".", "step": 0, "item": f"params.{role}"}
    return {"product": product, "config_digest": hf_load.digest(path)}
  read_record(folder)
  files = run_folder.files(folder)
  if not files.results.exists():
    raise errors.UserError(
      f"{folder}: this run has not finished (no {files.results.name}). Give the"
      " command that started it again: it continues."
    )
  try:
    return storage.read_json(files.results)
  except errors.UserError as error:
    raise errors.UserError(
      f"{error} Delete it and give the command that made this run again: it"
      " goes on from what else is there."
    ) from None


def product(folder: epath.PathLike, *, unfinished: bool = False) -> Product:
  """Where the parameters are that a run hands on.

  With `unfinished` a run without results answers with its newest checkpoint.

  Raises:
    UserError: not a run, not finished, or one without parameters (a data set,
      rankings).
  """
  folder = epath.Path(folder)
  config = read_config(folder)
  is_run = not hf_folder.is_reference(folder)
  if unfinished and is_run and not run_folder.files(folder).results.exists():
    if not config.get("product"):
      raise _without_parameters(folder, config)
    role = config.product
    kept = "ema" if role in config.ema else "params"
    newest = checkpoint.steps(folder)[-1]
    return Product(folder, newest, f"{kept}.{role}", finished=False)
  written = read_results(folder).get("product")
  if not written:
    raise _without_parameters(folder, config)
  try:
    # What is selected from is needed as the policy.
    digest = read_record(folder).get("needs_digests", {}).get("policy", "")
    run = folder / written["run"]
    run = run if written["run"] == "." else _where_now(run, digest)
    return Product(run, int(written["step"]), written["item"])
  except (KeyError, TypeError, ValueError) as error:
    raise errors.UserError(
      f'{run_folder.files(folder).results}: "product" should hold "run",'
      f' "step" and "item": {error!r}.'
    ) from None


def reward_run(folder: epath.PathLike) -> epath.Path | None:
  """The nearest finished reward model among what a run was built on."""
  return next(iter(reward_runs(folder)), None)


def reward_runs(folder: epath.PathLike) -> tuple[epath.Path, ...]:
  """The same with those that it judged together with, in their order."""
  folder = epath.Path(folder)
  queue: list[tuple[epath.Path, tuple[epath.Path, ...]]] = [(folder, (folder,))]
  seen: set[str] = set()
  while queue:
    here, together = queue.pop(0)
    if hf_folder.is_reference(here):
      if hf_load.role_of(hf_folder.Folder(hf_folder.path_of(here))) == "reward":
        return together
      continue
    if (
      str(here.resolve()) in seen or not run_folder.files(here).config.exists()
    ):
      continue
    seen.add(str(here.resolve()))
    if run_folder.files(here).results.exists():
      results = storage.read_json(run_folder.files(here).results)
      handed_on = results.get("product") or {}
      if str(handed_on.get("item", "")).endswith(".reward"):
        return together
    needs = read_needs(here)
    names = rewards.needs(sum(map(rewards.is_one, needs)))
    judges = tuple(needs[name] for name in names if name in needs)
    for name, path in needs.items():
      queue.append((path, judges if name in names else (path,)))
  return ()


def _without_parameters(
  folder: epath.Path, config: ConfigDict
) -> errors.UserError:
  return errors.UserError(
    f"{folder}: this run hands on no parameters (config.job ="
    f" '{config.get('job', 'unknown')}'). Name a run that trained a model."
  )


def _hint(folder: epath.Path) -> str:
  """What else could have been meant: runs inside, or names like it beside."""
  inside = _runs_in(folder)
  if inside:
    return f" It holds the runs {', '.join(inside)}: name one of them."
  beside = _runs_in(folder.parent)
  near = difflib.get_close_matches(folder.name, beside, n=1, cutoff=0.5)
  if near:
    return f" Did you mean {folder.parent / near[0]}?"
  return f" Runs beside it: {', '.join(beside)}." if beside else ""


def _runs_in(folder: epath.Path) -> list[str]:
  if not folder.is_dir():
    return []
  return sorted(
    p.parent.name for p in folder.glob(f"*/{run_folder.NAMES['config']}")
  )
