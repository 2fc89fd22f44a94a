"""Builds what an experiment needs first, like make.

A stage is one experiment with its resolved config and its own folder under the
root of the runs. What is there and still fits is reused; what is there and no
longer fits is moved aside, never overwritten.
"""

import dataclasses
import difflib
import hashlib
import importlib.util
import json
import logging
import resource
import sys
import time
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from instruct_jax import worlds
from instruct_jax.base import compilation, errors, keys, run_folder, storage
from instruct_jax.hf import folder as hf_folder
from instruct_jax.hf import imported
from instruct_jax.inference import rewards
from instruct_jax.parallel import hosts
from instruct_jax.report import page
from instruct_jax.runs import reading, stages

_log = logging.getLogger(__name__)

# Overrides of these pass down to what an experiment needs; nothing else does.
INHERITED = ("seed", "data", "model", "reward_model", "mesh", "pretrained")

# These change what is shown or kept, not what is computed.
UNDIGESTED = (
  "evaluation",
  "log_every",
  "pretrained",  # what is needed counts, by its content
  "samples",
  "samples_every",
  "save_every",
  "show",
  "time_phases",
  "validate_batches",
  "validate_every",
  "validation",
)


@dataclasses.dataclass(frozen=True)
class Stage:
  """An experiment, where it lies, and what it needs."""

  config: ConfigDict | None  # None: a finished run given by its path
  folder: epath.Path
  needs: dict[str, "Stage"]
  digest: str

  @property
  def name(self) -> str:
    """The folder's name, such as sft-tiny or sft-tiny-seed1."""
    return self.folder.name


def load_config(reference: str, beside: epath.Path) -> tuple[ConfigDict, Any]:
  """The default config of 'file.py' or 'file.py:variant', and the file.

  Raises UserError for a file that is not there and for an unknown variant.
  """
  name, _, variant = reference.partition(":")
  path = epath.Path(beside) / name
  if not path.exists():
    raise errors.UserError(
      f"there is no experiment '{name}' in '{beside}'{_near(beside, name)}"
    )
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  made = module.get_config(variant) if variant else module.get_config()
  return made, path


def _near(folder: epath.Path, name: str) -> str:
  there = [p.name for p in epath.Path(folder).glob("*.py")]
  near = difflib.get_close_matches(name, there, n=1, cutoff=0.5)
  return f". Did you mean '{near[0]}'?" if near else ""


def overrides_of(config: ConfigDict, default: ConfigDict) -> dict[str, Any]:
  """The keys of `config` that differ from `default` and pass down to needs."""
  before, found = keys.flatten(default), {}
  for key, value in keys.flatten(config).items():
    if key.split(".")[0] in INHERITED and before.get(key) != value:
      found[key] = value
  return found


def plan(
  config: ConfigDict,
  source: epath.Path,
  workdir: epath.Path,
  inherited: dict[str, Any],
  known: dict[str, Stage] | None = None,
) -> Stage:
  """The stage of `config`, read from `source`, with all that it needs.

  Nothing is built or written. Raises UserError where a config is impossible.
  """
  if known is None:
    known, inherited = {}, inherited | _adopted(config, source, inherited)
    config.update_from_flattened_dict(_fitting(inherited, config))
    stages.check_evaluation(config)
  stages.check(config)
  seed = config.get("seed", 0)  # A dataset has none.
  name = f"{config.experiment}-{config.variant}"
  folder = workdir / (f"{name}-seed{seed}" if seed else name)
  if str(folder) in known:
    return known[str(folder)]
  needs = {}
  for need, reference in _references(config).items():
    if not reference:
      raise errors.UserError(
        f"config.needs.{need} of {config.experiment}:{config.variant} is empty:"
        " name an experiment file beside it, or the folder of a finished run"
      )
    if ".py" not in reference:
      needs[need] = _given(need, reference)
      continue
    below, path = load_config(reference, source.parent)
    below.update_from_flattened_dict(_fitting(inherited, below))
    needs[need] = plan(below, path, workdir, inherited, known)
  stage = Stage(config, folder, needs, _digest(config, needs))
  known[str(folder)] = stage
  return stage


def _references(config: ConfigDict) -> dict[str, str]:
  """What a config needs, `config.pretrained` in the place of pretraining.

  Training whose reward has no model in it needs none.
  """
  found = dict(config.needs.items())
  if config.job == "train" and not rewards.needs_model(config.reward):
    found.pop("reward", None)
  for need, reference in found.items():
    if not reference or reference.startswith("pretrain.py"):
      found[need] = config.pretrained or reference
  return found


def _fitting(overrides: dict[str, Any], config: ConfigDict) -> dict[str, Any]:
  """Those of the overrides that the config has a key for."""
  known = keys.flatten(config)
  return {key: value for key, value in overrides.items() if key in known}


def _adopted(
  config: ConfigDict, source: epath.Path, inherited: dict[str, Any]
) -> dict[str, Any]:
  """The keys that checkpoints of the chain decide for all of its stages.

  A policy 'hf:/path' brings its decoder and its tokenizer, a reward model its
  decoder. What the command line says of a model stays.
  """
  found = _checkpoints(config, source, inherited)
  if not found:
    return {}
  world = worlds.of(config.data)
  if world.own_words:
    raise errors.UserError(
      f"{next(iter(found.values()))}: a pretrained model does not know the"
      f" {world.name}'s words; take the :files variant and your own data"
    )
  adopted = {}
  for section in ("model", "reward_model"):
    role = "reward" if section == "reward_model" else "policy"
    reference = found.get(role) or found.get("policy")
    if reference:
      there = hf_folder.Folder(hf_folder.path_of(reference))
      values = imported.model_section(there)
      adopted |= {f"{section}.{name}": x for name, x in values.items()}
  adopted["data.tokenizer"] = next(iter(found.values()))
  return {k: v for k, v in adopted.items() if k not in inherited}


def _checkpoints(
  config: ConfigDict,
  source: epath.Path,
  inherited: dict[str, Any],
  seen: set[str] | None = None,
) -> dict[str, str]:
  """'hf:/path' by role, 'policy' first, of all that a chain needs."""
  seen, found = set() if seen is None else seen, {}
  for need, reference in _references(config).items():
    if hf_folder.is_reference(reference):
      role = "reward" if need == "reward" else "policy"
      found.setdefault(role, reference)
    elif ".py" in reference and reference not in seen:
      seen.add(reference)
      below, path = load_config(reference, source.parent)
      below.update_from_flattened_dict(_fitting(inherited, below))
      for role, deeper in _checkpoints(below, path, inherited, seen).items():
        found.setdefault(role, deeper)
  return dict(sorted(found.items()))


def build(
  stage: Stage, *, evaluate: bool, done: set[str] | None = None
) -> dict[str, Any]:
  """Builds what is missing, `stage` last; returns its results.

  With `evaluate` the finished run is also evaluated and reported, which is
  done for what a command names and not for what that needs.
  """
  done = set() if done is None else done
  if stage.config is None or str(stage.folder) in done:
    return reading.read_results(stage.folder)
  for need in stage.needs.values():
    build(need, evaluate=False, done=done)
  done.add(str(stage.folder))
  results = hosts.once(f"look at {stage.name}", lambda: _finished(stage))
  if results is None:
    results = _run(stage)
  evaluate_now = evaluate or stage.config.evaluation.always
  wanted = _hash(keys.flatten(stage.config.evaluation)) if evaluate_now else ""
  if evaluate_now and results["evaluation_digest"] != wanted:
    outcome = stages.evaluate(stage.config, stage.folder, _folders(stage))
    results["metrics"] |= outcome.metrics
    results["tables"] |= outcome.tables
    results["evaluations"] = outcome.evaluations
    results["evaluation_digest"] = wanted
    _write_once(run_folder.files(stage.folder).results, results)
  if evaluate:
    chain = [s.folder for s in _in_order(stage) if s.config is not None]
    hosts.once("report", lambda: str(page.write(stage.folder, chain)))
  return results


def _write_once(path: epath.Path, tree: Any) -> None:
  hosts.once(f"write {path.name}", lambda: storage.write_json(path, tree))


def _given(need: str, reference: str) -> Stage:
  folder = epath.Path(reference)
  results = reading.read_results(
    folder
  )  # UserError if it is not a finished run.
  digest = results.get("parameters_digest") or results["config_digest"]
  _log.info("config.needs.%s: %s, as given", need, folder)
  return Stage(None, folder, {}, digest)


def _written(stage: Stage) -> str:
  """How config.json names what a run was built on."""
  if stage.config is not None:
    return f"../{stage.folder.name}"
  if hf_folder.is_reference(stage.folder):
    path = hf_folder.path_of(stage.folder).resolve()
    return f"{hf_folder.PREFIX}{path}"
  return str(stage.folder.resolve())


def _digest(config: ConfigDict, needs: dict[str, Stage]) -> str:
  """A hash of all that determines what a stage computes."""
  flat = {
    key: value
    for key, value in keys.flatten(config).items()
    if key.split(".")[0] not in (*UNDIGESTED, "needs")
  }
  flat |= {f"needs.{name}": stage.digest for name, stage in needs.items()}
  return _hash(flat | stages.data_digests(config))


def _hash(flat: dict[str, Any]) -> str:
  text = json.dumps(flat, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()[:16]


def _in_order(stage: Stage) -> list[Stage]:
  """The stage and its needs, each once, needs first."""
  found = {}
  for need in stage.needs.values():
    found |= {s.folder: s for s in _in_order(need)}
  found[stage.folder] = stage
  return list(found.values())


def _folders(stage: Stage) -> dict[str, epath.Path]:
  return {name: need.folder for name, need in stage.needs.items()}


def _finished(stage: Stage) -> dict[str, Any] | None:
  """The results of a run that is complete and still fits, else None.

  A run that no longer fits is moved aside, and the log says why.
  """
  written = run_folder.files(stage.folder).config
  if not written.exists():
    return None
  before = storage.read_json(written)
  if before["digest"] != stage.digest:
    aside = _free_name(stage.folder)
    _log.warning(
      "%s: built again, because %s. The earlier run is now %s",
      stage.name,
      _difference(before, _record(stage)),
      aside.name,
    )
    stage.folder.rename(aside)
    return None
  done = run_folder.files(stage.folder).results
  if not done.exists():
    _log.info("%s: continues where it stopped", stage.name)
    return None
  _log.info("%s: is there, and fits", stage.name)
  return storage.read_json(done)


def _free_name(folder: epath.Path) -> epath.Path:
  number = 1
  while (folder.parent / f"{folder.name}.old{number}").exists():
    number += 1
  return folder.parent / f"{folder.name}.old{number}"


def _record(stage: Stage) -> dict[str, Any]:
  """What config.json holds."""
  return {
    "digest": stage.digest,
    "needs": {name: _written(need) for name, need in stage.needs.items()},
    "needs_digests": {n: s.digest for n, s in stage.needs.items()},
    "data_digests": stages.data_digests(stage.config),
    "config": stage.config.to_dict(),
  }


def _difference(before: dict[str, Any], after: dict[str, Any]) -> str:
  """In words, what changed between two records."""
  parts = []
  for section, label in (
    ("config", "config."),
    ("needs_digests", "what it needs as "),
    ("data_digests", "the content of "),
  ):
    old = keys.flatten(json.loads(json.dumps(before[section], default=str)))
    new = keys.flatten(json.loads(json.dumps(after[section], default=str)))
    for key in sorted(old | new):
      top = key.split(".")[0]
      if old.get(key) != new.get(key) and top not in (*UNDIGESTED, "needs"):
        values = f" ({old.get(key)} -> {new.get(key)})"
        parts.append(f"{label}{key} changed{values}")
  return "; ".join(parts) or "its configuration changed"


def _run(stage: Stage) -> dict[str, Any]:
  config, folder = stage.config, stage.folder
  _log.info("%s: starts", stage.name)
  hosts.once("folder", lambda: folder.mkdir(parents=True, exist_ok=True))
  _write_once(run_folder.files(folder).config, _record(stage))
  start, compiled = time.monotonic(), compilation.compile_seconds()
  result = stages.JOBS[config.job](config, folder, _folders(stage))
  wall = time.monotonic() - start
  results = {
    "experiment": config.experiment,
    "variant": config.variant,
    "seed": config.get("seed", 0),
    "steps": result.steps,
    "seconds": {
      "wall": round(max(wall, result.seconds), 2),
      "compile": round(compilation.compile_seconds() - compiled, 2),
    },
    "peak_memory_bytes": peak_memory_bytes(),
    "config_digest": stage.digest,
    "parameters_digest": result.parameters_digest,
    "product": result.product,
    "evaluation_digest": "",
    "evaluations": {},
    "metrics": result.metrics,
    "tables": result.tables,
  }
  _write_once(run_folder.files(folder).results, results)
  _log.info("%s: done in %.0f s", stage.name, wall)
  return results


def peak_memory_bytes() -> int:
  """The most memory this process has held so far, as the system counts it."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else peak * 1024
