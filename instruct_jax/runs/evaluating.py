"""The job 'evaluate': the policies of a chain, on sets of data."""

from typing import Any

from etils import epath
from ml_collections import ConfigDict

from instruct_jax import sets
from instruct_jax.base import errors
from instruct_jax.measuring import contract, found, options, running
from instruct_jax.report import evaluation
from instruct_jax.runs import readers

OUT = "sets"  # in the run's folder
_OTHERS = ("data", "reward", "rankings")  # needs that are not measured
_Z = 1.96  # standard errors of a 95 % interval

Findings = tuple[dict[str, float], dict[str, Any]]


def check(config: ConfigDict) -> None:
  """UserError for sets that are unknown, or of which no file is there."""
  readers.check_template("config.measure.template", config.measure.template)
  _options(config)
  there = _there(config)
  if all(one.missing for one in there.values()):
    name, one = next(iter(there.items()))
    raise errors.UserError(
      f"config.measure.data={config.measure.data}: nothing of"
      f" {', '.join(there)} is there; {name} needs {one.missing}"
    )


def digests(config: ConfigDict) -> dict[str, str]:
  """A hash of every file that is measured on."""
  return {
    f"measure.{name}.{role}": running.digest_of(spec)
    for name, one in _there(config).items()
    for role, spec in one.files.items()
  }


def measure(
  config: ConfigDict, folder: epath.Path, needs: dict[str, epath.Path]
) -> Findings:
  """Metrics {'SET/METRIC/MODEL': value} and the table of all of them.

  Writes what `measuring.running` does, and its page, in folder/sets. Raises
  UserError at the end where the files of a set are wrong.
  """
  section = config.measure
  given = [
    readers.given(
      *(name, path, readers.digest_of(path)), template=section.template
    )
    for name, path in needs.items()
    if name not in _OTHERS
  ]
  settings = contract.Settings(config.seed, section.limit, _options(config))
  chosen, out = _chosen(config), epath.Path(folder) / OUT
  results = running.measure(given, chosen, _there(config), settings, out)
  evaluation.write(out, results)
  if results["failed"]:
    name, why = next(iter(results["failed"].items()))
    raise errors.UserError(f"{name}: {why}")
  rows = [
    _row(name, metric, model, one)
    for name, entry in results["sets"].items()
    for metric, by_model in entry["metrics"].items()
    for model, one in by_model.items()
  ]
  tables: dict[str, Any] = {"sets": rows}
  for name, entry in results["sets"].items():
    tables |= {f"{name}_{key}": x for key, x in entry["tables"].items()}
  return {str(row["metric"]): float(row["value"]) for row in rows}, tables


def _row(
  name: str, metric: str, model: str, one: dict[str, Any]
) -> dict[str, Any]:
  spread = _Z * (one["stderr"] or 0)
  bounds = {"low": one["value"] - spread, "high": one["value"] + spread}
  return {
    "model": model,
    "set": f"{name} {metric}",
    "metric": f"{name}/{metric}/{model}",
    "value": one["value"],
    **({} if one["stderr"] is None else bounds),
    "n": one["n"],
  }


def _chosen(config) -> dict[str, contract.Set]:
  known = sets.all_sets()
  names = [x.strip() for x in config.measure.sets.split(",") if x.strip()]
  for name in names:
    if name not in known:
      raise errors.unknown("config.measure.sets", name, known)
  return {name: known[name] for name in names or known}


def _there(config) -> dict[str, found.Found]:
  return {
    name: found.of_set(one, config.measure.data, {}, "config.measure.data")
    for name, one in _chosen(config).items()
  }


def _options(config) -> options.Named:
  known = sets.all_sets()
  pairs = [x.strip() for x in config.measure.options.split(",") if x.strip()]
  given = options.split(pairs, "config.measure.options", known)
  options.check(known, given)
  return given
