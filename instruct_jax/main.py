"""Runs an experiment and whatever it needs first.

  python -m instruct_jax.main --config=experiments/ppo_ptx.py
  python -m instruct_jax.main --config=experiments/ppo_ptx.py --print_config
  python -m instruct_jax.main --config=experiments/ppo_ptx.py --config.seed=1

The same command in another terminal, or on another machine that has the same
--workdir, shares the work. One command on many hosts, all with that --workdir,
is one job: Cloud TPUs, SLURM and Open MPI say which process is which; else

  python -m instruct_jax.main --config=experiments/ppo_ptx.py \
    --coordinator=HOST:PORT --processes=2 --process=0      (and --process=1)

Exit codes: 0 done; 2 bad input; 3 training diverged; 75 stopped by SIGTERM
after saving, or another process of the job is gone, 130 by Ctrl-C (the same
command goes on).
"""

import sys
from typing import Any

from absl import flags
from etils import epath
from ml_collections import ConfigDict, config_flags

from instruct_jax.base import (
  allocation,
  catalogue,
  command,
  compilation,
  errors,
  keys,
  run_folder,
)
from instruct_jax.data.read import answers
from instruct_jax.parallel import hosts
from instruct_jax.report import closing
from instruct_jax.runs import (
  aside,
  build,
  overrides,
  plan,
  processes,
  references,
)

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "An experiment: experiments/NAME.py or NAME.py:VARIANT."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", "runs", "The root of the runs; every stage has a folder in it."
)
_PRINT_CONFIG = flags.DEFINE_bool(
  "print_config", False, "Print every key, its value and what it means; end."
)
_NOWAIT = flags.DEFINE_bool(
  "nowait", False, "End with 2 where another job works in a folder."
)
_KEEP_OLD = flags.DEFINE_integer(
  "keep_old",
  aside.KEEP,
  "How many broken-off runs of a name are kept aside; finished ones all are.",
  lower_bound=0,
)
_PROFILE = flags.DEFINE_string(
  "profile", "", "Steps of training, as 3-5, that an XProf trace is written of."
)

flags.adopt_module_key_flags(processes)


def main(argv: list[str]) -> None:
  """Plans the chain, builds what is missing, prints the closing table."""
  del argv
  allocation.keep()
  compilation.enable_cache()
  if _CONFIG.value is None:
    raise errors.UserError(
      "--config is missing: name an experiment, as in "
      "--config=experiments/ppo_ptx.py"
    )
  given = config_flags.get_config_filename(flags.FLAGS["config"])
  source = epath.Path(given.partition(":")[0])
  reference = f"{source.name}:{given.partition(':')[2]}"
  default, _ = references.load_config(reference, source.parent)
  inherited = plan.overrides_of(_CONFIG.value, default)
  workdir = epath.Path(_WORKDIR.value)
  if _PROFILE.value:
    _profiled(_CONFIG.value, _PROFILE.value)
  if _PRINT_CONFIG.value:
    print_config(_CONFIG.value, source, workdir, inherited)
    return
  others = processes.join()
  with answers.held():  # People may go on labeling while a chain runs.
    stage = plan.plan(_CONFIG.value, source, workdir, inherited)
    options = {"wait": not _NOWAIT.value, "keep_old": _KEEP_OLD.value}
    processes.start(others, stages=plan.in_order(stage))
    results = build.build(stage, **options)
  if hosts.is_writer():
    closing.print_closing(results, stage.config.to_dict())
    print(f"\nReport: {run_folder.files(stage.folder).report}")


def _profiled(config: ConfigDict, steps: str) -> None:
  """Asks for a trace of the stage that is named; not of what it needs."""
  if "profile" not in config:
    raise errors.UserError(
      f"--profile={steps}: {config.experiment}.py trains nothing itself; name"
      " an experiment that does"
    )
  config.profile = steps


def print_config(
  config: ConfigDict,
  source: epath.Path,
  workdir: epath.Path,
  inherited: dict[str, Any],
) -> None:
  """The keys as the chain would run them; what would stop it, on stderr."""
  try:
    plan.plan(config, source, workdir, inherited)
  except errors.UserError as error:
    print(f"note: this would not run yet: {error}", file=sys.stderr)
  print("\n".join(keys.explained(keys.flatten(config))))


if __name__ == "__main__":
  command.run_main(
    main,
    overrides.check,
    more=catalogue.help_of,
    resumes="the same command goes on from the last save",
  )
