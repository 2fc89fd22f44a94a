"""Plans a run on devices that are not here: memory, time and what to change.

  python -m instruct_jax.plan --config=experiments/ppo_ptx.py:1.3b \\
    --topology=v5e:4x4
  python -m instruct_jax.plan --config=experiments/rm.py:6b --json \\
    --topology=v5p:2x2x2 --config.mesh.fsdp=4 --config.mesh.tensor=2

Compiles what the run would run, by the devices' own compiler: a minute or more
of one core each (TPUs: the extra 'plan'). For GPUs (h100:8) CPU devices stand
in, so that memory is an estimate. A config that names no mesh gets all devices
along fsdp. --slices=2 plans for two such slices of TPUs, with `data` over the
network between them. Needs no data and no checkpoint; plans are kept.

Times are those of a roofline: products of matrices, bytes of memory and of
networks each over the published rate, the slowest of them; nothing real is as
fast. Exit codes: 0 all fits, 3 something does not, 2 bad input.
"""

import sys

from absl import flags
from etils import epath
from ml_collections import config_flags

from instruct_jax.base import command, errors, streams
from instruct_jax.planning import jobs, table, topology, whole
from instruct_jax.runs import overrides, plan, references

DOES_NOT_FIT = 3

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "An experiment: experiments/NAME.py or NAME.py:VARIANT."
)
_TOPOLOGY = flags.DEFINE_string(
  "topology", None, "The devices: v5e:4x4, v5p:2x2x1, h100:8, ..."
)
_SLICES = flags.DEFINE_integer("slices", 1, "So many such slices of TPUs.")
_ONLY = flags.DEFINE_string(
  "only", "", "These programs alone, with commas, as ppo_ptx_update."
)
_JSON = flags.DEFINE_bool("json", False, "One JSON object on stdout.")


def main(argv: list[str]) -> None:
  """Plans, prints, and ends with what the plan says."""
  del argv
  if _CONFIG.value is None or _TOPOLOGY.value is None:
    missing = "config" if _CONFIG.value is None else "topology"
    raise errors.UserError(
      f"--{missing} is missing: --config=experiments/ppo_ptx.py:1.3b"
      " --topology=v5e:4x4 is right"
    )
  place = topology.named(_TOPOLOGY.value, _SLICES.value)
  topology.prepare(place)
  given = config_flags.get_config_filename(flags.FLAGS["config"])
  source = epath.Path(given.partition(":")[0])
  reference = f"{source.name}:{given.partition(':')[2]}"
  default, _ = references.load_config(reference, source.parent)
  inherited = plan.overrides_of(_CONFIG.value, default)
  every = jobs.of(_CONFIG.value, source, place, inherited)
  only = [name.strip() for name in _ONLY.value.split(",") if name.strip()]
  found = whole.of(every, place, only)
  if _JSON.value:
    print(streams.json_line(found))
  else:
    table.show(found)
  if not found["fits"]:
    sys.exit(DOES_NOT_FIT)


if __name__ == "__main__":
  command.run_main(main, overrides.check)
