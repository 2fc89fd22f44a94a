"""What is measured of a finished run: the suite that its config names."""

from etils import epath
from ml_collections import ConfigDict

from instruct_jax.base import errors
from instruct_jax.evals import reward, suite
from instruct_jax.inference import context
from instruct_jax.runs import comparing, reading

Folders = dict[str, epath.Path]


def evaluate(
  config: ConfigDict, folder: epath.Path, needs: Folders
) -> suite.Outcome:
  """What is measured of a finished run, by `config.evaluation.suite`."""
  name = config.evaluation.suite
  return SUITES[name](config, folder, needs)


def _evaluate_policies(config, folder, needs):
  ctx = context.make(config, needs)
  return comparing.measure_policies(ctx, folder, needs)


def _evaluate_reward(config, folder, needs):
  ctx = context.make(config, needs)
  params = reading.load_parameters(folder, ctx, "reward")
  findings = reward.measure_accuracy(ctx, params)
  return suite.Outcome(*findings, {"reward": suite.MEASURED})


def _evaluate_nothing(config, folder, needs):
  del config, folder, needs
  return suite.Outcome({}, {})


def evaluations(config: ConfigDict) -> tuple[str, ...]:
  """The names that `results["evaluations"]` has once a run is evaluated.

  A finished run that lacks one has not been evaluated by all of them. Raises
  UserError for evaluations of people's own that are not there.
  """
  section = config.evaluation
  if config.job in comparing.JOBS:  # They evaluate, and nothing else.
    return ()
  if section.suite == "policies":
    return tuple(suite.evaluations_of(section.extra))
  if section.extra:
    raise errors.UserError(
      f"config.evaluation.extra={section.extra}: evaluations of your own need"
      f" config.evaluation.suite=policies, not {section.suite}"
    )
  return ("reward",) if section.suite == "reward" else ()


SUITES = {
  "policies": _evaluate_policies,
  "reward": _evaluate_reward,
  "none": _evaluate_nothing,
}
