"""Builds what a plan names, like make.

What is there and still fits is reused; what is there and no longer fits is
moved aside, never overwritten. A stage is built, and evaluated, by the one job
that holds its lock; several jobs with the same command share the stages.
"""

import functools
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from etils import epath

from instruct_jax.base import chain as chain_lib
from instruct_jax.base import (
  compilation,
  errors,
  interrupt,
  memory,
  progress,
  run_folder,
  storage,
)
from instruct_jax.parallel import hosts
from instruct_jax.report import closing, page
from instruct_jax.runs import (
  aside,
  costs,
  crew,
  digests,
  finished,
  jobs,
  machine,
  plan,
  provenance,
  seeds,
  suites,
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
  every = plan.in_order(stage)
  for each in every:
    if finished.look(each) is None:
      machine.check(each.config)
  with turns.job(every, wait=wait, keep_old=keep_old) as job:
    chain = costs.chain_of(every, crew.needs_of(every), job.crew.seen)
    left = {each.folder: each for each in every}
    results: dict[str, Any] = {}
    while left:
      with turns.turn(lambda: _ready(left, chain), job, chain) as folder:
        results = _take_on(left.pop(folder), stage, chain, job)
        if folder == stage.folder:
          title = stage.config.experiment
          with progress.part(chain, stage.name, "report", title=title):
            hosts.once("report", lambda: _report(every, job.crew.began))
  return results


def _take_on(
  mine: plan.Stage, last: plan.Stage, chain: chain_lib.Chain, job: turns.Job
) -> dict[str, Any]:
  """Builds a stage under its lock, if it is not there, and says what it is."""
  was_there = run_folder.files(mine.folder).results.exists()
  evaluate = mine is last or mine.config.evaluation.always
  with job.crew.telling(mine):
    results = _build_one(mine, chain, job, evaluate=evaluate)
  if mine is not last and hosts.is_writer():
    tables = results["tables"]
    closing.print_data(tables, stream=sys.stderr, whole=not was_there)
  return results


def _ready(
  left: Mapping[epath.Path, plan.Stage], chain: chain_lib.Chain
) -> list[plan.Stage]:
  """The stages that can be done now: first those that are only to be read.

  Then those from which the longest way leads to the end.
  """
  free = [
    stage
    for stage in left.values()
    if not any(
      isinstance(need, plan.Stage) and need.folder in left
      for need in stage.needs.values()
    )
  ]
  ways = chain.ways()
  free.sort(key=lambda stage: -ways.get(stage.name, 0.0))
  return sorted(free, key=lambda stage: finished.look(stage) is None)


def _report(every: Sequence[plan.Stage], began: float) -> str:
  """Writes the page on a chain, and on other seeds of it that lie there.

  Unless another job has, of these results and since this command `began`.
  """
  folders = [stage.folder for stage in every]
  files = run_folder.files(folders[-1])
  written = storage.modified(files.report)
  if written > max(began, storage.modified(files.results)):
    return str(files.report)
  others = seeds.beside(folders[-1])
  return str(page.write(folders[-1], folders, others.chains, others.left_out))


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
    jobs.mend_data(stage.config, stage.folder)
  if evaluate and finished.lacks_evaluation(stage, results):
    start, title = time.monotonic(), stage.config.experiment
    with progress.part(chain, stage.name, costs.EVALUATION, title=title):
      outcome = suites.evaluate(stage.config, stage.folder, stage.folders)
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
  results = finished.usable(done)
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
  if stage.config.get("profile"):
    _log.warning(
      "warning: config.profile=%s: %s is trained, so there is nothing to trace;"
      " with another --workdir it is trained again",
      *(stage.config.profile, stage.name),
    )
  return results, ""


def _has_saved(stage: plan.Stage) -> bool:
  """Whether a run that has not finished has anything to go on from."""
  config = run_folder.files(stage.folder).config
  others = (path for path in stage.folder.iterdir() if path != config)
  is_begun = stage.config.job == "dataset" and any(others)
  return is_begun or aside.is_of_use(stage.folder)


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
    result = jobs.JOBS[config.job](config, folder, stage.folders)
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
    "peak_memory_bytes": memory.host_peak_bytes(),
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
