"""Builds the data set of an experiment by a Beam runner.

  python -m instruct_jax.data build --config=experiments/sft.py:files \\
    --config.data.pretraining=texts/*.txt --runner=direct --workers=4

  python -m instruct_jax.data build --config=experiments/sft.py:files \\
    --config.data.pretraining=gs://BUCKET/texts/*.txt \\
    --workdir=gs://BUCKET/runs --runner=dataflow -- --project=PROJECT \\
    --region=REGION --temp_location=gs://BUCKET/tmp

Only the data set is built, in its folder under --workdir: with the same config
`instruct_jax.main` takes it as it is. What follows -- is Beam's own. A build
that was broken off goes on with the same command.

Options:
  --config=FILE.py:VARIANT  an experiment, or the data set's own (dataset.py)
  --config.data.KIND=FILES  as for instruct_jax.main
  --workdir=runs            the root of the runs, seen by all workers
  --runner=direct           direct (this machine), dataflow, flink, spark or
                            portable
  --workers=0               processes of the direct runner; 0: one a core
"""

from absl import flags
from etils import epath
from ml_collections import config_flags

from instruct_jax.base import command, errors, ranges, run_folder, storage
from instruct_jax.data import beam, prepare, spread
from instruct_jax.data.read import kinds, specs
from instruct_jax.report import closing
from instruct_jax.runs import build, overrides, plan, references

_ANYWHERE = ("dataflow",)  # whose workers are on no machine of one's own


def main(arguments: list[str]) -> None:
  """The command line; raises UserError."""
  if {"--help", "-help", "-h"} & set(arguments):
    print(__doc__)
    return
  at = arguments.index("--") if "--" in arguments else len(arguments)
  own, options = arguments[:at], arguments[at + 1 :]
  values = _flags(own)
  if values.config is None:
    raise errors.UserError(
      "--config is missing: name an experiment, as in"
      " --config=experiments/sft.py:files"
    )
  beam.check(values.runner, workers=values.workers)
  mine = _stage_of_data(_planned(values))
  if values.runner in _ANYWHERE:
    _check_reach(mine, values.runner)
  run = beam.runner(values.runner, options, workers=values.workers)
  with prepare.by(spread.Spread(run)):
    results = build.build(mine)
  closing.print_closing(results, mine.config.to_dict())
  print(f"\nReport: {run_folder.files(mine.folder).report}")


def _flags(arguments: list[str]) -> flags.FlagValues:
  """The options, of this command alone: `main` has some of the same names."""
  values, argv = flags.FlagValues(), ["build", *arguments]
  config_flags.DEFINE_config_file(
    "config", None, "", flag_values=values, sys_argv=argv
  )
  flags.DEFINE_string("workdir", "runs", "", flag_values=values)
  flags.DEFINE_string("runner", "direct", "", flag_values=values)
  flags.DEFINE_integer("workers", 0, "", flag_values=values)
  left = command.read_flags(values, argv, overrides.check)
  if len(left) > 1:
    raise errors.UserError(
      f"unexpected argument '{left[1]}': options are --name=value, those of"
      " Beam stand behind --"
    )
  given = (values[name] for name in values)
  ranges.check_flags({flag.name: flag.value for flag in given if flag.present})
  return values


def _planned(values: flags.FlagValues) -> plan.Stage:
  """The stage of the experiment that is named, as `main` plans it."""
  given = config_flags.get_config_filename(values["config"])
  name, _, variant = given.partition(":")
  source, workdir = epath.Path(name), epath.Path(values.workdir)
  default, _ = references.load_config(f"{source.name}:{variant}", source.parent)
  inherited = plan.overrides_of(values.config, default)
  return plan.plan(values.config, source, workdir, inherited)


def _stage_of_data(stage: plan.Stage) -> plan.Stage:
  """The stage that builds the data set; UserError where there is none to."""
  found = [x for x in plan.in_order(stage) if x.config.job == "dataset"]
  if not found:
    raise errors.UserError(
      f"{stage.config.experiment}.py needs no data set that is to be built:"
      " --config.needs.data names one, or it reads none"
    )
  if found[0].config.data.source != "files":
    raise errors.UserError(
      f"config.data.source={found[0].config.data.source}: a runner is for files"
      " of people's own (the :files variants); this world is built in seconds,"
      " by instruct_jax.main"
    )
  return found[0]


def _check_reach(stage: plan.Stage, runner: str) -> None:
  """UserError where workers on other machines could not read, or write."""
  data = stage.config.data
  paths = [
    ("--workdir", stage.folder.parent),
    *(
      (f"config.data.{kind}", path)
      for kind in kinds.KINDS
      if data[kind]
      for path in specs.paths(data[kind])
    ),
  ]
  for name, path in paths:
    if not storage.is_remote(path):
      raise errors.UserError(
        f"{name}={path}: lies on this machine, where no worker of"
        f" --runner={runner} sees it; name a bucket, gs://BUCKET/..."
      )
