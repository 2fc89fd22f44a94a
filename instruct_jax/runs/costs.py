"""What the parts of a chain will cost, before they are done.

Best is an earlier run of the same experiment beside it: an older one, another
seed. Without one it is the work, in passes of a token through a parameter,
which takes as long as the chain has needed for such work so far. That is rough,
and good enough for "about".
"""

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from etils import epath
from ml_collections import ConfigDict

from instruct_jax import algorithms, paper
from instruct_jax.base import chain, errors, run_folder, storage
from instruct_jax.runs import finished, plan

EVALUATION = "evaluation"  # the part after a stage's job, and its seconds
_UPDATE = 3  # passes: forward, and twice that backward
_ASKED = 19  # times that a suite asks about as many task prompts
# Jobs that ask no model: they are done in no time.
_QUICK = ("join", "leave_out", "mixture")


def chain_of(
  every: Sequence[plan.Stage],
  needs: Mapping[str, Collection[str]],
  watch: Callable[[], chain.Others] = chain.Others,
) -> chain.Chain:
  """What is to be done of stages, the named one last, with what it will cost.

  `needs` and `watch` are those of a `chain.Chain`.
  """
  parts = []
  for stage in every:
    results = finished.look(stage)
    names = [] if results else [""]
    if stage is every[-1] or stage.config.evaluation.always:
      has_suite = stage.config.evaluation.suite != "none"
      lacks = not results or finished.lacks_evaluation(stage, results)
      if has_suite and lacks:
        names.append(EVALUATION)
    parts += [
      chain.Part(stage.name, name, Estimate(stage, name)) for name in names
    ]
  made = chain.Chain(parts, needs, watch)
  made.estimate()
  return made


class Estimate:
  """What is known of the cost of a stage's job (name '') or evaluation."""

  def __init__(self, stage: plan.Stage, name: str):
    self._stage, self._name = stage, name

  def __call__(self) -> chain.Cost:
    """By an earlier run of the same, scaled to the work, and the work."""
    if self._stage.config.job in _QUICK and not self._name:
      return chain.Cost(seconds=1.0)
    rows = _rows(self._stage)
    work = _work(self._stage.config, self._name, rows)
    if self._earlier is None:
      return chain.Cost(work=work)
    seconds, compiled, config = self._earlier
    then = _work(config, self._name, rows)
    factor = work / then if work and then else 1.0
    return chain.Cost(compiled + factor * (seconds - compiled), work)

  @functools.cached_property
  def _earlier(self) -> tuple[float, float, ConfigDict] | None:
    """(seconds, those of compiling, config) of the newest run of the same."""
    for folder in _runs_like(self._stage):
      files = run_folder.files(folder)
      seconds = _read(files.results).get("seconds") or {}
      taken = seconds.get(self._name or "wall")
      if isinstance(taken, (int, float)):
        config = _read(files.config).get("config")
        config = ConfigDict(config if isinstance(config, dict) else {})
        # More steps compile no longer.
        compiled = 0.0 if self._name else seconds.get("compile", 0.0)
        return taken, min(taken, compiled), config
    return None


def _runs_like(stage: plan.Stage) -> list[epath.Path]:
  """Folders of the same experiment and variant, the newest first."""
  config = stage.config
  pattern = f"{config.experiment}-{config.variant}*"
  found = [
    (results.stat().mtime, str(folder))
    for folder in stage.folder.parent.glob(pattern)
    if (results := run_folder.files(folder).results).exists()
    and _read(results).get("experiment") == config.experiment
    and _read(results).get("variant") == config.variant
  ]
  return [epath.Path(folder) for _, folder in sorted(found, reverse=True)]


def _read(path: epath.Path) -> dict[str, Any]:
  """A JSON object; {} where there is none that can be read."""
  try:
    tree = storage.read_json(path)
  except (errors.UserError, OSError):
    return {}
  return tree if isinstance(tree, dict) else {}


def _rows(stage: plan.Stage) -> dict[str, float]:
  """Training rows by kind, as far as they are known.

  Of a comparison what its subjects have together: parameters.
  """
  rows: dict[str, float] = {}
  config, needs = stage.config, stage.needs
  if config.job == "compare":
    runs = [needs.get(x.run) for x in config.evaluation.subjects.values()]
    models = [
      run.config.model if isinstance(run, plan.Stage) else config.model
      for run in runs
    ]
    return {"parameters": sum(map(_size, models))}
  length = config.data.row_length
  if "data" in needs:
    metrics = _read(run_folder.files(needs["data"].folder).results)
    for kind in ("pretraining", "demonstrations", "prompts", "rankings"):
      rows |= _rows_of(metrics.get("metrics", {}), kind, length)
  if "rankings" in needs and isinstance(needs["rankings"], plan.Stage):
    # 0: those of the data set, without some
    rows["rankings"] = _ranked(needs["rankings"]) or rows.get("rankings", 0.0)
  return rows


def _ranked(stage: plan.Stage) -> float:
  """The training rankings that a stage writes, those of its needs with it."""
  if stage.config.job == "rankings":
    return stage.config.rankings.train
  parts = [stage.needs.get(name) for name in ("candidates", "rankings")]
  return sum(
    part.config.candidates.train
    if part.config.job == "candidates"
    else _ranked(part)
    for part in parts
    if isinstance(part, plan.Stage)
  )


def _rows_of(
  metrics: Mapping[str, Any], kind: str, length: int
) -> dict[str, float]:
  """The training rows of a kind, from the metrics of a data set."""
  count = metrics.get(f"{kind}/train_rows")  # the microworld's
  words = metrics.get(f"{kind}/train_words")
  if count and words and kind == "pretraining":
    return {kind: (words + count) / length}  # an end after each document
  if count:
    return {kind: count}
  of_split = metrics.get(kind, {})  # files'
  of_split = of_split.get("train", {}) if isinstance(of_split, dict) else {}
  count = of_split.get("rows") if isinstance(of_split, dict) else None
  return {kind: count} if isinstance(count, (int, float)) else {}


def _work(
  config: ConfigDict, name: str, rows: Mapping[str, float]
) -> float | None:
  """The work of a part; None where it cannot be known yet."""
  try:
    if name == EVALUATION:
      return _evaluation(config)
    return _WORK[config.job](config, rows) if config.job in _WORK else None
  except (AttributeError, KeyError, TypeError, ValueError, errors.UserError):
    return None  # a config of before, or one of somebody's own


def _training(config: ConfigDict, rows: Mapping[str, float]) -> float | None:
  steps = config.steps
  if config.epochs:
    if config.epoch_of not in rows:
      return None
    steps = (
      config.epochs * rows[config.epoch_of] / config.batch[config.epoch_of]
    )
  policy, reward = _size(config.model), _size(config.reward_model)
  updated = reward if config.product == "reward" else policy
  batch = algorithms.rows_of(config.batch)
  passes = dict.fromkeys(batch, _UPDATE * updated)
  if algorithms.named(config.algorithm).is_rewarded:
    # Sampled, scored by four networks, two of which are updated.
    updates = _UPDATE * config.rl.get("inner_epochs", 1)
    passes["prompts"] = (2 + updates) * policy + (2 + updates) * reward
  return steps * sum(
    size * _tokens(config, kind) * passes[kind] for kind, size in batch.items()
  )


def _ranking(config: ConfigDict, rows: Mapping[str, float]) -> float:
  del rows
  section = config[config.job]
  prompts = section.train + section.validation + section.test
  responses = prompts * (section.k_min + section.k_max) / 2
  return responses * _tokens(config, "prompts") * _size(config.model)


def _selection(config: ConfigDict, rows: Mapping[str, float]) -> float:
  del rows
  asked = config.selection.prompts * _tokens(config, "prompts")
  return 10 * asked * _size(config.model)


def _pool(config: ConfigDict, rows: Mapping[str, float]) -> float:
  """Responses of the pool, and about as many again of the kept steps."""
  del rows
  section = config.overoptimization
  asked = section.prompts * section.responses * _tokens(config, "prompts")
  return 3 * asked * _size(config.model)


def _evaluation(config: ConfigDict) -> float:
  subjects = max(1, len(config.evaluation.subjects))
  return subjects * _size(config.model) * _asked(config)


def _comparison(config: ConfigDict, rows: Mapping[str, float]) -> float:
  return rows["parameters"] * _asked(config)


def _asked(config: ConfigDict) -> float:
  """Tokens that a suite asks a subject about, and that it says."""
  section = config.evaluation
  asked = 3 * section.prompts + _ASKED * section.task_prompts
  asked += 2 * section.judged_prompts
  return asked * _tokens(config, "prompts")


def _folds(config: ConfigDict, rows: Mapping[str, float]) -> float:
  """Five models on held-out rankings, a tenth of those for training."""
  asked = rows["rankings"] / 10 * len(config.folds.splits)
  tokens = asked * _tokens(config, "rankings")
  return paper.RM_FOLDS * tokens * _size(config.reward_model)


def _tokens(config: ConfigDict, kind: str) -> float:
  """About how many tokens a row of a kind has."""
  data = config.data
  if kind == "pretraining":
    return data.row_length
  several = (4 + data.k_max) / 2 if kind == "rankings" else 1
  return data.prompt_length + several * data.response_length


def _size(model: ConfigDict) -> float:
  """About how many parameters a token passes through."""
  width = model.heads * model.head_size
  block = 4 * width * model.width + 2 * model.width * model.mlp_width
  return model.layers * block


_WORK = {
  "train": _training,
  "rankings": _ranking,
  "candidates": _ranking,
  "select": _selection,
  "compare": _comparison,
  "folds": _folds,
  "epochs": _selection,
  "overoptimization": _pool,
}
