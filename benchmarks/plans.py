"""What the paper's runs take on the devices that their variants name.

  python -m benchmarks.plans                   # plans all: hours of one core
  python -m benchmarks.plans --variant=1.3b-on-v5e-4x4 --only=ppo_ptx_update
  python -m benchmarks.plans --table           # the README's table of FILE

Nothing is run: `instruct_jax.plan` compiles, each variant in a process of its
own. FILE keeps what else it has; what was compiled once is not again.
"""

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from etils import epath

from instruct_jax.base import command, errors, storage
from instruct_jax.planning import jobs, topology, whole
from instruct_jax.runs import references

HERE = pathlib.Path(__file__).resolve()
RESULTS = HERE.parent / "results" / "plans.json"
EXPERIMENT = "experiments/ppo_ptx.py"
TOPOLOGIES = {  # of a variant, and of what its config is told besides
  "1.3b-on-v5e-4x4": "v5e:4x4",
  "1.3b-on-v5e-4x4 --config.layout.rollout=train": "v5e:4x4",
  "1.3b-on-8x80gb": "h100:8",
  "6b-on-v5e-8x8": "v5e:8x8",
  "175b-on-v5p-4x8x8": "v5p:4x8x8",
}
FITS = (0, 3)  # exit codes: all fits, something does not


def plan(variant: str, only: str) -> dict[str, Any]:
  """The plan of a variant, or of some of its programs."""
  name, *words = variant.split()
  words += [f"--config={EXPERIMENT}:{name}", "--json", f"--only={only}"]
  words.append(f"--topology={TOPOLOGIES[variant]}")
  done = subprocess.run(
    [sys.executable, "-m", "instruct_jax.plan", *words],
    stdout=subprocess.PIPE,
    text=True,
  )
  if done.returncode not in FITS:
    raise errors.UserError(f"{variant}: the plan ended with {done.returncode}")
  return json.loads(done.stdout)


def merged(
  variant: str, old: dict[str, Any], new: dict[str, Any]
) -> dict[str, Any]:
  """A plan with the programs of another one of the same code and devices."""
  same = ("versions", "mesh", "microbatches")
  kept = (
    old.get("programs", {}) if all(old.get(k) == new[k] for k in same) else {}
  )
  programs = kept | new["programs"]
  return new | {
    "programs": programs,
    "fits": all(one["fits"] for one in programs.values()),
    "run": run_of(variant, programs),
  }


def run_of(variant: str, programs: dict[str, Any]) -> dict[str, Any]:
  """What a variant's run takes in all, of programs planned at any time."""
  name, *words = variant.split()
  source = epath.Path(EXPERIMENT)
  config, _ = references.load_config(f"{source.name}:{name}", source.parent)
  given = dict(word.removeprefix("--config.").split("=") for word in words)
  config.unlock().update_from_flattened_dict(given)
  place = topology.named(TOPOLOGIES[variant])
  every = jobs.of(config.lock(), source, place, {})
  main = list(every)[-1]
  return whole.run_of(every[main].config, programs, main, place)


def table(found: dict[str, Any]) -> str:
  """The README's rows of {variant: its plan}."""
  lines = [
    ["variant, devices", "program", "GB of", "FLOPs", "HBM", "ICI", "MFU"],
    ["---", "---", "---:", "---:", "---:", "---:", "---:"],
  ]
  for variant, one in found.items():
    where = f"`{variant}`, {one['chips']} × {one['chip']}"
    for name, program in one["programs"].items():
      lines.append([where, name.replace("_", " "), *cells(program)])
      where = ""
    lines.append(["", *whole_run(one["run"])])
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def whole_run(run: dict[str, Any]) -> list[str]:
  """A line for the run in all, where all of its programs are known."""
  if run["hours"] is None:
    return ["the run", *["–"] * 5]
  said = (
    f"the run: {run['hours']:.1f} hours, {run['chip_hours']:,.0f} chip-hours"
  )
  needed = f"{run['petaflops_days']:.1f} petaflop/s-days"
  return [f"{said}, models {needed}", *[""] * 5]


def cells(
  program: dict[str, Any], rates: Sequence[str] = ("flops", "hbm", "ici")
) -> list[str]:
  """Memory, seconds by what may decide them, the decisive one bold, and MFU."""
  sizes = program["bytes"]
  memory = f"{sizes['total'] / 1e9:.1f} of {sizes['hbm'] / 1e9:.1f}"
  if not program["fits"]:
    memory = f"**does not fit**: {memory}"
  if program["seconds"] is None:
    return [memory, *["–"] * (len(rates) + 1)]
  times = []
  for name in rates:
    taken = program["seconds_of"].get(name)
    text = "–" if taken is None else f"{taken:.3g}"
    times.append(f"**{text}**" if name == program["bound_by"] else text)
  return [memory, *times, f"{100 * program['mfu']:.0f} %"]


def main() -> None:
  """Plans one variant after the other."""
  parser = command.Parser("benchmarks.plans", __doc__)
  parser.add_argument("--variant", choices=TOPOLOGIES)
  parser.add_argument("--only", default="")
  parser.add_argument("--out", default=str(RESULTS))
  parser.add_argument("--table", action="store_true")
  given = parser.parse_args()
  path = pathlib.Path(given.out)
  found = json.loads(path.read_text()) if path.exists() else {}
  if given.table:
    print(table(found))
    return
  for variant in [given.variant] if given.variant else TOPOLOGIES:
    made = plan(variant, given.only)
    found[variant] = merged(variant, found.get(variant, {}), made)
    storage.write_json(path, found)
    print(variant, "fits" if made["fits"] else "does not fit", flush=True)


if __name__ == "__main__":
  command.run(main)
