"""Models are measured on sets: what is left to do is done, and written.

In the folder of results:

  results.json      every metric of every set and model, what is missing, why
  SET.jsonl         a set's samples, of all models: as asked, as answered
  parts/SET/        the same by model, as soon as it is known
  asked/SET/        every answer of a model, from which a killed command goes on
"""

import dataclasses
import functools
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from etils import epath

from instruct_jax.base import errors, progress, storage
from instruct_jax.data import fingerprint
from instruct_jax.data.read import files
from instruct_jax.inference import likelihood
from instruct_jax.maths import best_of
from instruct_jax.measuring import asked, contract, found, models
from instruct_jax.parallel import hosts
from instruct_jax.scoring import tasks

_log = logging.getLogger(__name__)

RESULTS = "results.json"
_ALL = "all models"  # the part of a set that compares them


@dataclasses.dataclass(frozen=True)
class Given:
  """A model that is to be measured."""

  name: str
  described: Mapping[str, Any]  # for results.json: its folder, its digest
  open: Callable[[], likelihood.Reader]


@dataclasses.dataclass
class _Work:
  """What the parts of one command share."""

  given: Sequence[Given]
  sets: Mapping[str, contract.Set]
  there: Mapping[str, found.Found]
  settings: contract.Settings
  out: epath.Path
  scorer: contract.Scorer | None = None
  failed: dict[str, str] = dataclasses.field(default_factory=dict)
  opened: dict[str, likelihood.Reader] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    self.digest_of = functools.cache(digest_of)

  def bench(self, name: str, of: Sequence[Given]) -> contract.Bench:
    """What a set may use, to measure some of the models."""
    return contract.Bench(
      name=name,
      files=self.there[name].files,
      settings=self.settings,
      names=tuple(one.name for one in of),
      open=lambda model: self._model(name, model),
      folder=self.out / "asked" / name,
      scorer=self.scorer if self.sets[name].is_scored else None,
    )

  def _model(self, name, model):
    (given,) = (one for one in self.given if one.name == model)
    if model not in self.opened:
      self.opened.clear()  # one at a time is held
      self.opened[model] = given.open()
    reader = self.opened[model]
    path = self.out / "asked" / name / f"{model}.jsonl"
    of = {"model": given.described["digest"], "template": reader.template}
    answers = asked.Answers(path, of)
    return models.Model(
      model, reader, answers, self.settings.seed, self._choice
    )

  @property
  def _choice(self):
    n = self.settings.best_of
    if n < 2 or self.scorer is None:
      return None
    return models.Choice(n, self.scorer.score)

  def header(self, name: str, of: Sequence[Given]) -> dict[str, Any]:
    """What the numbers of a part depend on."""
    chosen = self.there[name].files
    scorer = self.scorer if self.sets[name].is_scored or self._choice else None
    return {
      **({"scorer": dict(scorer.described)} if scorer else {}),
      **({"best_of": self.settings.best_of} if self._choice else {}),
      "models": {one.name: dict(one.described) for one in of},
      "files": {role: self.digest_of(spec) for role, spec in chosen.items()},
      "seed": self.settings.seed,
      "limit": self.settings.limit,
      "options": dict(self.settings.options.get(name, {})),
    }


def digest_of(spec: str) -> str:
  """Of the content of all that a path, pattern or `tfds:` spec names."""
  return fingerprint.together(files.paths(spec))


def measure(
  given: Sequence[Given],
  sets: Mapping[str, contract.Set],
  there: Mapping[str, found.Found],
  settings: contract.Settings,
  out: epath.PathLike,
  *,
  scorer: contract.Scorer | None = None,
) -> dict[str, Any]:
  """Measures every model on every set whose files are there.

  What has been measured before, of the same parameters, files and settings, is
  not measured again. Returns what results.json holds. Raises Interrupted after
  SIGTERM; a set whose files are wrong stands under "failed", the others go on.
  Where all fail nothing is written.
  """
  out = epath.Path(out)
  ready = {name: one for name, one in sets.items() if not there[name].missing}
  work = _Work(given, ready, there, settings, out, scorer)
  alone = [name for name, one in ready.items() if one.measure]
  parts = [(name, [one]) for one in given for name in alone]
  parts += [(name, [*given]) for name, one in ready.items() if one.compare]
  with progress.Progress("evaluation", len(parts), even=False) as line:
    for number, (name, of) in enumerate(parts, start=1):
      label = of[0].name if ready[name].measure else _ALL
      line.say(f"{name} {label}")
      _part(work, name, of, label)
      line.update(number)
  return _written(work, sets, parts)


def _part(work, name, of, label):
  """Measures a set of one model, or of all, unless that is known."""
  if name in work.failed:
    return
  folder = work.out / "parts" / name
  header = work.header(name, of)
  if _known(folder / f"{label}.json", header) is not None:
    return
  one, bench = work.sets[name], work.bench(name, of)
  run = one.measure or one.compare
  try:
    # pyrefly: ignore[not-callable]  # a set has one of the two
    measured = run(bench)
  except errors.UserError as error:
    work.failed[name] = str(error)
    _log.warning("%s: %s", name, error)
    return
  tree = {"of": header} | _tree(measured)
  hosts.once(
    f"part {name} {label}", lambda: _write(folder, label, tree, measured)
  )


def _write(folder, label, tree, measured):
  folder.mkdir(parents=True, exist_ok=True)
  lines = (json.dumps(row, ensure_ascii=False) for row in measured.samples)
  storage.write_lines(folder / f"{label}.jsonl", lines)
  storage.write_json(folder / f"{label}.json", tree)


def _known(
  path: epath.Path, header: Mapping[str, Any]
) -> dict[str, Any] | None:
  """What was measured of the same before."""
  if not path.exists():
    return None
  try:
    tree = storage.read_json(path)
  except errors.UserError as error:
    _log.warning("It is measured again: %s", error)
    return None
  return tree if tree.get("of") == json.loads(json.dumps(header)) else None


def _tree(measured: contract.Measured | contract.Compared) -> dict[str, Any]:
  """What a part's JSON holds of it, but for its samples."""
  tree: dict[str, Any] = {
    "metrics": _estimates(measured.metrics),
    "counts": dict(measured.counts),
    "notes": list(measured.notes),
    "samples": len(measured.samples),
  }
  if isinstance(measured, contract.Compared):
    tree["tables"] = measured.tables
  return tree


def _estimates(metrics):
  return {
    name: dataclasses.asdict(one)
    if isinstance(one, tasks.Estimate)
    else _estimates(one)
    for name, one in metrics.items()
  }


def _written(
  work: _Work,
  sets: Mapping[str, contract.Set],
  parts: Iterable[tuple[str, Sequence[Given]]],
) -> dict[str, Any]:
  """results.json of all parts, and the samples of each set."""
  tree: dict[str, Any] = {
    "models": {one.name: dict(one.described) for one in work.given},
    "settings": {"seed": work.settings.seed, "limit": work.settings.limit}
    | _chosen(work),
    "sets": {},
    "missing": {
      name: f"no file for {work.there[name].missing}; published at"
      f" {one.published}"
      for name, one in sets.items()
      if work.there[name].missing
    },
    "failed": work.failed,
  }
  for name, of in parts:
    if name in work.failed:
      continue
    one = work.sets[name]
    label = of[0].name if one.measure else _ALL
    part = storage.read_json(work.out / "parts" / name / f"{label}.json")
    _add(tree["sets"].setdefault(name, _described(work, name)), label, part)
  if tree["sets"] or not work.failed:  # What stood there says more.
    hosts.once("results", lambda: _write_all(work.out, tree))
  return tree


def _chosen(work: _Work) -> dict[str, Any]:
  """Of how many answers the best was given, by whom, how far from a model."""
  n = work.settings.best_of
  if n < 2 or work.scorer is None:
    return {}
  scorer = dict(work.scorer.described)
  return {"best_of": n, "best_of_kl": best_of.kl(n), "scorer": scorer}


def _described(work, name):
  one = work.sets[name]
  return {
    "about": one.about,
    "files": dict(work.there[name].files),
    "also_there": list(work.there[name].others),
    "published": one.published,
    "headline": one.headline,
    "plain": list(one.plain),
    "options": dict(work.settings.options.get(name, {})),
    "metrics": {},
    "counts": {},
    "notes": [],
    "tables": {},
  }


def _add(entry, label, part):
  """A part's numbers into a set's: by metric, then by model."""
  by_model = part["metrics"] if "tables" in part else {label: part["metrics"]}
  for model, metrics in by_model.items():
    for metric, one in metrics.items():
      entry["metrics"].setdefault(metric, {})[model] = one
  if part["counts"]:
    entry["counts"][label] = part["counts"]
  entry["notes"] += [x for x in part["notes"] if x not in entry["notes"]]
  entry["tables"].update(part.get("tables", {}))


def _write_all(out, tree):
  out.mkdir(parents=True, exist_ok=True)
  for name in tree["sets"]:
    with storage.writing(out / f"{name}.jsonl") as file:
      for part in sorted((out / "parts" / name).glob("*.jsonl"), key=str):
        if part.stem in (*tree["models"], _ALL):
          _copy(part, file)
  storage.write_json(out / RESULTS, tree)


def _copy(part, file):
  """A part's lines, with the model's name first."""
  for line in part.read_text().splitlines():
    row = json.loads(line)
    file.write(
      json.dumps({"model": part.stem} | row, ensure_ascii=False) + "\n"
    )
