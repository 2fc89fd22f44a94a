"""The subjects of an evaluation, loaded, and what is known of each.

A subject is a finished run's policy, plain or prompted, of the shape that the
run's own config gives it: several sizes can be compared on one bench.
"""

import json
from collections.abc import Mapping
from typing import Any

import jax
from etils import epath
from ml_collections import ConfigDict

from instruct_jax import paper
from instruct_jax.evals import bench, suite
from instruct_jax.hf import folder as hf_folder
from instruct_jax.inference import context
from instruct_jax.models import sizes
from instruct_jax.runs import reading, records

GPT, PROMPTED = "gpt", "prompted_gpt"


def load(
  ctx: context.Context, folder: epath.Path, needs: Mapping[str, epath.Path]
) -> list[bench.Subject]:
  """The subjects of `config.evaluation`, in the paper's order.

  Args:
    ctx: of the run that evaluates; a subject of another shape gets a context
      of its own, which all of that shape share.
    folder: the run's own, whose policy a subject without a run is.
    needs: the folders of the others.

  Raises UserError as `reading.load_parameters`.
  """
  contexts: dict[str, context.Context] = {}
  absent, found = suite.left_out(ctx.config), []
  for name, section in _in_order(ctx.config.evaluation.subjects):
    if name in absent:
      continue
    run = needs[section.run] if section.run else folder
    shape = records.read_config(run).model
    key = json.dumps(shape.to_dict(), sort_keys=True, default=str)
    if key not in contexts:
      contexts[key] = context.with_model(ctx, shape)
    own = contexts[key]
    step = section.get("step") or None
    params = reading.load_parameters(run, own, "policy", step=step)
    found.append(
      bench.Subject(
        name=name,
        params=params,
        prompted=section.prompted,
        best_of=section.best_of,
        temperature=None if section.temperature < 0 else section.temperature,
        ctx=None if own is ctx else own,
        facts=facts(name, section, run, params),
      )
    )
  return found


def _in_order(subjects: ConfigDict) -> list[tuple[str, ConfigDict]]:
  """Size by size, in the paper's order from GPT to PPO-ptx; others after."""
  rank = {name: i for i, name in enumerate(paper.MODELS)}

  def place(name):
    size, _, method = name.partition("_")
    if size not in sizes.STAND_INS:
      size, method = "", name
    order = ("", *sizes.STAND_INS)
    return order.index(size), rank.get(method, len(rank)), name

  return sorted(subjects.items(), key=lambda item: place(item[0]))


def facts(
  name: str, section: ConfigDict, run: epath.Path, params: dict[str, Any]
) -> dict[str, Any]:
  """A row of the table "models": what a subject is, and was trained with.

  Read from the configs of the run and of what it was built on; what does not
  apply, or is not known, is not there.
  """
  count = sum(x.size for x in jax.tree.leaves(params))
  row = {"subject": name, "method": name, "parameters": count, "run": run.name}
  if section.best_of > 1:
    row["best_of"] = section.best_of
  if hf_folder.is_reference(run):
    return row
  handed_on = records.product(run)
  config = records.read_config(handed_on.run)
  row["method"] = PROMPTED if section.prompted else _method(handed_on.run)
  row["size"] = sizes.name_of(config.model, source=config.data.source)
  row |= _training(handed_on, config) | _reinforcement(
    handed_on.run, config, section.get("step") or 0
  )
  return {key: value for key, value in row.items() if value not in (None, "")}


def _method(run: epath.Path) -> str:
  """gpt, flan, t0, sft, ppo, ppo_ptx; of another algorithm the experiment."""
  config = records.read_config(run)
  if config.algorithm == "ppo":
    return "ppo_ptx" if config.rl.ptx_coef else "ppo"
  if config.algorithm != "sft":
    return config.experiment
  if "demonstrations" not in config.loss:
    return GPT
  mixture = records.read_needs(run).get("demonstrations")
  if mixture is None:
    return "sft"
  return records.read_config(mixture).mixtures.name


def _training(handed_on: records.Product, config: ConfigDict) -> dict[str, Any]:
  """The learning rate, and the epochs that were gone through."""
  found: dict[str, Any] = {}
  if "policy" in config.optimizer:
    found["learning_rate"] = config.optimizer.policy.learning_rate
  kept = records.read_results(handed_on.run)["product"].get("epochs") or []
  if handed_on.step in kept:  # the one that was selected
    found["epochs"] = kept.index(handed_on.step) + 1
  elif config.epochs:
    found["epochs"] = config.epochs
  if (share := _text_share(config)) and "demonstrations" in config.loss:
    found["init_ptx"] = share
  return found


def _reinforcement(
  run: epath.Path, config: ConfigDict, step: int
) -> dict[str, Any]:
  """Of what was trained on rewards of its own responses, `step` (0: last)."""
  if "rl" not in config:
    return {}
  steps = step or records.read_results(run).get("steps") or config.steps
  start = records.read_needs(run).get("policy")
  found = {
    "kl_coef": config.rl.get("kl_coef"),
    "ptx_coef": config.rl.get("ptx_coef"),
    "episodes": steps * config.batch.prompts * config.rl.get("group_size", 1),
  }
  if start is not None and not hf_folder.is_reference(start):
    begun = records.product(start)
    trained = records.read_config(begun.run)
    found["init_ptx"] = _text_share(trained)
    # SFT's epoch that was selected, or those of the initialisation for RL.
    found["init_epochs"] = _training(begun, trained).get("epochs")
  return found


def _text_share(config: ConfigDict) -> float:
  """The share of pretraining text in the loss of supervised training."""
  loss = config.get("loss") or {}
  text, whole = loss.get("pretraining", 0.0), sum(loss.values())
  return text / whole if whole else 0.0
