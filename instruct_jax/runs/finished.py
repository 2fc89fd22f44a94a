"""Whether a stage is done already, by what stands in its folder."""

from typing import Any

from etils import epath

from instruct_jax.base import errors, run_folder, storage
from instruct_jax.runs import digests, plan, suites


def look(stage: plan.Stage) -> dict[str, Any] | None:
  """The results of a run that is there and fits, as far as one can see."""
  files = run_folder.files(stage.folder)
  try:
    is_there = files.config.exists() and files.results.exists()
    if is_there and storage.read_json(files.config)["digest"] == stage.digest:
      results = usable(files.results)
      return None if isinstance(results, str) else results
  except (errors.UserError, KeyError, OSError):
    pass  # Whoever builds it says so.
  return None


def usable(path: epath.Path) -> dict[str, Any] | str:
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


def lacks_evaluation(stage: plan.Stage, results: dict[str, Any]) -> bool:
  """Whether a run was evaluated otherwise, or before an evaluation came."""
  if results["evaluation_digest"] != digests.of_evaluation(
    stage.config, stage.needs
  ):
    return True
  return not set(suites.evaluations(stage.config)) <= set(
    results.get("evaluations", ())  # Runs of before have none.
  )
