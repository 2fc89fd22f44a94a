"""Runs an experiment and whatever it needs first.

  python -m instruct_jax.main --config=experiments/ppo_ptx.py

Exit codes: 0 done; 2 bad input; 3 training diverged; 75 stopped by SIGTERM
after saving (the same command goes on).
"""

from absl import flags
from etils import epath
from ml_collections import config_flags

from instruct_jax.base import command, compilation, errors, interrupt, keys
from instruct_jax.report import page
from instruct_jax.runs import chain

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "An experiment: experiments/NAME.py or NAME.py:VARIANT."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", "runs", "The root of the runs; every stage has a folder in it."
)


def main(argv: list[str]) -> None:
  """Plans the chain, builds what is missing, prints the closing table."""
  del argv
  compilation.enable_cache()
  interrupt.install()
  if _CONFIG.value is None:
    raise errors.UserError(
      "--config is missing: name an experiment, as in "
      "--config=experiments/ppo_ptx.py"
    )
  given = config_flags.get_config_filename(flags.FLAGS["config"])
  source = epath.Path(given.partition(":")[0])
  reference = f"{source.name}:{_CONFIG.value.variant}"
  default, _ = chain.load_config(reference, source.parent)
  stage = chain.plan(
    _CONFIG.value,
    source,
    epath.Path(_WORKDIR.value),
    chain.overrides_of(_CONFIG.value, default),
  )
  results = chain.build(stage, evaluate=True)
  page.terminal(results)
  print(f"\nReport: {stage.folder / 'report.html'}")


def check_overrides(arguments: list[str]) -> None:
  """UserError for a config that is not there, or a key that it has not."""
  given = [a.lstrip("-").partition("=") for a in arguments]
  configs = [value for name, _, value in given if name == "config"]
  if not configs:
    return
  name, _, variant = configs[-1].partition(":")
  path = epath.Path(name)
  default, _ = chain.load_config(f"{path.name}:{variant}", path.parent)
  known = keys.flatten(default)
  sections = {key.rpartition(".")[0] for key in known}
  for name, _, _ in given:
    key = name.removeprefix("config.")
    if key != name and key not in known and key not in sections:
      raise errors.unknown("config key", key, known, show=5)


if __name__ == "__main__":
  command.run(main, check_overrides)
