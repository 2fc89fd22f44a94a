"""Builds what a plan names, like make.

What is there and still fits is reused; what is there and no longer fits is
moved aside, never overwritten. A stage is built, and evaluated, by the one job
that holds its lock.
"""

import functools
import logging
import resource
import sys
import time
from typing import Any

from etils import epath

from instruct_jax.base import chain as chain_lib
from instruct_jax.base import (
  compilation,
  errors,
  interrupt,
  progress,
  run_folder,
  storage,
)
from instruct_jax.parallel import hosts
from instruct_jax.report import closing, page
from instruct_jax.runs import (
  aside,
  costs,
  digests,
  machine,
  plan,
  provenance,
  seeds,
  stages,
  turns,
)

_log = logging.getLogger(__name__)


def build(
  stage: plan.Stage, *, wait: bool = True, keep_old: int = aside.KEEP
) -> dict[str, Any]:
  """Builds what is missing, `stage` last; returns its results.

  `stage` is also evaluated and reported, which is done for what a command names
  and not for what that needs.

  Args:
    stage: with all that it needs.
    wait: for other jobs that work in a folder, or read what has to be moved.
    keep_old: how many runs of a name that were broken off are kept aside.

  Raises UserError where a stage cannot run on this machine, or its folder holds
  something else or cannot be written, before any is built; and where another
  job is in the way and `wait` is off.
  """
  *needs, last = plan.in_order(stage)
  for each in (*needs, last):
    if _look(each) is None:
      machine.check(each.config)
  chain = _chain(needs, last)
  with turns.job(stage, wait=wait, keep_old=keep_old) as job:
    for need in needs:
      was_there = run_folder.files(need.folder).results.exists()
      with turns.turn(need, job):
        always = need.config.evaluation.always
        results = _build_one(need, chain, job, evaluate=always)
      if hosts.is_writer():
        tables = results["tables"]
        closing.print_data(tables, stream=sys.stderr, whole=not was_there)
    with turns.turn(last, job):
      results = _build_one(last, chain, job, evaluate=True)
      with progress.part(
        chain, last.name, "report", title=last.config.experiment
      ):
        folders = [s.folder for s in (*needs, last)]
        hosts.once("report", lambda: _report(folders))
  return results


def _chain(needs: list[plan.Stage], last: plan.Stage) -> chain_lib.Chain:
  """What is to be done, for the line that says how far it is."""
  parts = []
  for stage in (*needs, last):
    results = _look(stage)
    names = [] if results else [""]
    if stage is last or stage.config.evaluation.always:
      has_suite = stage.config.evaluation.suite != "none"
      if has_suite and (not results or _lacks_evaluation(stage, results)):
        names.append(costs.EVALUATION)
    parts += [
      chain_lib.Part(stage.name, name, costs.Estimate(stage, name))
      for name in names
    ]
  return chain_lib.Chain(parts)


def _look(stage: plan.Stage) -> dict[str, Any] | None:
  """The results of a run that is there and fits, as far as one can see."""
  files = run_folder.files(stage.folder)
  try:
    is_there = files.config.exists() and files.results.exists()
    if is_there and storage.read_json(files.config)["digest"] == stage.digest:
      results = _usable(files.results)
      return None if isinstance(results, str) else results
  except (errors.UserError, KeyError, OSError):
    pass  # Whoever builds it says so.
  return None


def _report(chain: list[epath.Path]) -> str:
  """Writes the page on a chain, and on other seeds of it that lie there."""
  others = seeds.beside(chain[-1])
  return str(page.write(chain[-1], chain, others.chains, others.left_out))


def _build_one(
  stage: plan.Stage,
  chain: chain_lib.Chain,
  job: turns.Job,
  *,
  evaluate: bool,
) -> dict[str, Any]:
  look = functools.partial(_finished, stage, job)
  results, why = hosts.once(f"look at {stage.name}", look)
  if results is None:
    hosts.once(f"needs of {stage.name}", lambda: _check_needs(stage))
    with aside.room(stage.folder, why=why, keep=job.keep_old):
      results = _start(stage, chain)
  elif (
    evaluate and stage.config.job == "dataset"
  ):  # Others mend what they read.
    stages.mend_data(stage.config, stage.folder)
  if evaluate and _lacks_evaluation(stage, results):
    start, title = time.monotonic(), stage.config.experiment
    with progress.part(chain, stage.name, costs.EVALUATION, title=title):
      outcome = stages.evaluate(stage.config, stage.folder, stage.folders)
    results["seconds"]["evaluation"] = round(time.monotonic() - start, 2)
    results["metrics"] |= outcome.metrics
    results["tables"] |= outcome.tables
    results["evaluations"] = outcome.evaluations
    results["evaluated_by"] = provenance.collect()
    results["evaluation_digest"] = digests.of_evaluation(
      stage.config, stage.needs
    )
    _write_once(run_folder.files(stage.folder).results, results)
  return results


def _lacks_evaluation(stage: plan.Stage, results: dict[str, Any]) -> bool:
  """Whether a run was evaluated otherwise, or before an evaluation came."""
  if results["evaluation_digest"] != digests.of_evaluation(
    stage.config, stage.needs
  ):
    return True
  return not set(stages.evaluations(stage.config)) <= set(
    results.get("evaluations", ())  # Runs of before have none.
  )


def _check_needs(stage: plan.Stage) -> None:
  """UserError where another job has built a need anew, with other settings."""
  for need in stage.needs.values():
    if not isinstance(need, plan.Stage):
      continue
    written = storage.read_json(run_folder.files(need.folder).config)
    if written["digest"] != need.digest:
      raise errors.UserError(
        f"{need.folder}: another job has built it with other settings. Give"
        " the two of them different --workdir."
      )


def _write_once(path: epath.Path, tree: Any) -> None:
  hosts.once(f"write {path.name}", lambda: storage.write_json(path, tree))


def _finished(
  stage: plan.Stage, job: turns.Job
) -> tuple[dict[str, Any] | None, str]:
  """The results of a run that is complete and still fits, else None.

  With them why what is there has to give way; '' where nothing has to. A run
  that was moved aside and fits again takes its place.
  """
  plan.check_kept(stage, job.named)  # Another job may have built it by now.
  written = plan.written_digest(stage)
  if not written:
    return None, ""
  if written != stage.digest:
    kept = {path for each in job.named for path in each.keeps()}
    earlier = aside.fitting(stage.folder, stage.digest, kept)
    if earlier is None:
      before = storage.read_json(run_folder.files(stage.folder).config)
      after = digests.record_of(stage.config, stage.needs)
      return None, digests.difference(before, after)
    with interrupt.deferred():
      moved = aside.move(stage.folder)
      earlier.rename(stage.folder)
    _log.warning(
      "%s: %s fits, and has its name again. What was there is now %s",
      *(stage.name, earlier.name, moved.name),
    )
    aside.prune(stage.folder, keep=job.keep_old)
  done = run_folder.files(stage.folder).results
  if not done.exists():
    if _has_saved(stage):
      _log.info("%s: continues where it stopped", stage.name)
    else:
      _log.info("%s: stopped before anything was saved", stage.name)
    return None, ""
  results = _usable(done)
  if isinstance(results, str):
    kept = done.parent / f"{done.name}.damaged"
    done.replace(kept)
    _log.warning(
      "%s: its results are made again from what else there is, because %s"
      " The damaged file is now %s",
      *(stage.name, results, kept.name),
    )
    return None, ""
  _log.info("%s: is there, and fits", stage.name)
  return results, ""


def _has_saved(stage: plan.Stage) -> bool:
  """Whether a run that has not finished has anything to go on from."""
  config = run_folder.files(stage.folder).config
  others = (path for path in stage.folder.iterdir() if path != config)
  is_begun = stage.config.job == "dataset" and any(others)
  return is_begun or aside.is_of_use(stage.folder)


def _usable(path: epath.Path) -> dict[str, Any] | str:
  """The results of a finished run, or a sentence that says what is wrong."""
  try:
    results = storage.read_json(path)
  except errors.UserError as error:
    return str(error)
  kinds = {"seconds": dict, "metrics": dict, "tables": dict,
           "evaluation_digest": str}  # fmt: skip
  wrong = [
    k for k, kind in kinds.items() if not isinstance(results.get(k), kind)
  ]
  return f'{path}: "{wrong[0]}" is missing or damaged.' if wrong else results


def _start(stage: plan.Stage, chain: chain_lib.Chain) -> dict[str, Any]:
  config, folder = stage.config, stage.folder
  _log.info("%s%s: starts", chain.title(stage.name), stage.name)
  start, compiled = time.monotonic(), compilation.compile_seconds()
  before = len(compilation.programs())
  hosts.once("folder", lambda: folder.mkdir(parents=True, exist_ok=True))
  _write_once(
    run_folder.files(folder).config,
    digests.record_of(stage.config, stage.needs),
  )
  with progress.part(chain, stage.name, title=config.experiment):
    result = stages.JOBS[config.job](config, folder, stage.folders)
  wall = time.monotonic() - start
  results = {
    "experiment": config.experiment,
    "variant": config.variant,
    "seed": config.seed if "seed" in config else 0,
    "steps": result.steps,
    "seconds": {
      "wall": round(max(wall, result.seconds), 2),
      "compile": round(compilation.compile_seconds() - compiled, 2),
    },
    "peak_memory_bytes": peak_memory_bytes(),
    "config_digest": stage.digest,
    "parameters_digest": result.parameters_digest,
    "provenance": provenance.collect(),
    "product": result.product,
    "evaluation_digest": "",
    "evaluations": {},
    "metrics": result.metrics,
    "tables": result.tables,
  }
  _write_once(run_folder.files(folder).results, results)
  _log.info("%s: done in %.0f s%s", stage.name, wall, _compiled(before))
  return results


def _compiled(before: int) -> str:
  """', compiling 5.1 s in 14 programs: ...' since there were so many."""
  said = compilation.summary(compilation.programs(before))
  return f", compiling {said}" if said else ""


def peak_memory_bytes() -> int:
  """The most memory this process has held so far, as the system counts it."""
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return peak if sys.platform == "darwin" else peak * 1024
