"""Weak scaling by plans: a step on ever more chips, each with as much to do.

  python -m benchmarks.scaling --series=h100
  python -m benchmarks.scaling --series=v5e --chips=16,32
  python -m benchmarks.scaling --table                     # of docs/plan.md
  python -m benchmarks.scaling --figure                    # FIGURE, of FILE

Nothing is run: as by `instruct_jax.plan` the PPO-ptx update of the 1.3B policy
with the 6.7B value network is compiled for each number of chips, one after the
other. The batch grows with them: of every minibatch a chip has four episodes
and 32 texts, which at 16 chips is the paper's. FILE keeps what else it has.
"""

import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

from etils import epath

from benchmarks import plans
from instruct_jax.base import command, errors, storage
from instruct_jax.figures import drawing, values
from instruct_jax.figures import plots as figure
from instruct_jax.planning import jobs, topology, whole
from instruct_jax.runs import references

FOLDER = pathlib.Path(__file__).resolve().parent / "results"
RESULTS, FIGURE = FOLDER / "scaling.json", FOLDER / "scaling.png"
SOURCE = epath.Path("experiments/ppo_ptx.py")
CONFIG, PROGRAM = "ppo_ptx.py:1.3b", "ppo_ptx_update"
ROWS = {"prompts": 32, "pretraining": 256}  # of a chip, a step
MICROBATCHES = 4  # a minibatch: an episode and eight texts of a chip each

# {series: {chips: (topology, slices)}}; along fsdp are all chips of a slice.
SERIES: Mapping[str, Mapping[int, tuple[str, int]]] = {
  "v5p": {
    8: ("v5p:2x2x2", 1),
    16: ("v5p:2x2x4", 1),
    32: ("v5p:2x4x4", 1),
    64: ("v5p:4x4x4", 1),
    128: ("v5p:4x4x8", 1),
    256: ("v5p:4x8x8", 1),
    512: ("v5p:8x8x8", 1),
    1024: ("v5p:8x8x16", 1),
  },
  "v5e": {
    8: ("v5e:2x4", 1),
    16: ("v5e:4x4", 1),
    32: ("v5e:4x8", 1),
    64: ("v5e:8x8", 1),
    128: ("v5e:8x16", 1),
    256: ("v5e:16x16", 1),
    512: ("v5e:16x16", 2),
    1024: ("v5e:16x16", 4),
  },
  "h100": {n: (f"h100:{n}", 1) for n in (8, 16, 32, 64, 128, 256, 512, 1024)},
}
_HEADERS = (
  ("devices", "mesh", "episodes, texts a step", "GB of"),
  ("GB over ICI", "GB over DCN", "FLOPs", "HBM", "ICI", "DCN", "MFU"),
)


def planned(series: str, chips: int) -> dict[str, Any]:
  """The plan of the update on so many chips, without what is not shown."""
  name, slices = SERIES[series][chips]
  place = topology.named(name, slices)
  batch = {kind: n * chips for kind, n in ROWS.items()}
  config, _ = references.load_config(CONFIG, SOURCE.parent)
  config.unlock().update_from_flattened_dict(
    {f"batch.{kind}": rows for kind, rows in batch.items()}
    | {"mesh.fsdp": place.each, "microbatches": MICROBATCHES}
  )
  # That job alone: what comes before it has batches of its own.
  found = whole.of({PROGRAM: jobs.Job("update", config.lock())}, place)
  kept = ("topology", "slices", "chips", "chip", "estimate", "mesh")
  return {key: found[key] for key in (*kept, "microbatches", "versions")} | {
    "batch": batch,
    "program": found["programs"][PROGRAM],
  }


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
  """The rows of {series: {chips: its plan}}, as docs/plan.md has them."""
  headers = [*_HEADERS[0], *_HEADERS[1]]
  lines = [headers, ["---", "---", *["---:"] * (len(headers) - 2)]]
  lines += [_line(one) for one in _ordered(found)]
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _ordered(found) -> Iterable[dict[str, Any]]:
  """All plans: series as in SERIES, chips rising."""
  for series in SERIES:
    for _, one in sorted(found.get(series, {}).items(), key=_chips):
      yield one


def _chips(item: tuple[str, Any]) -> int:
  return int(item[0])


def _line(one: dict[str, Any]) -> list[str]:
  program = one["program"]
  of = f"{one['slices']} × " if one["slices"] > 1 else ""
  said = " (an estimate)" if one["estimate"] else ""
  axes = [f"{axis} {n}" for axis, n in one["mesh"].items() if n > 1]
  memory, *times = plans.cells(program, ("flops", "hbm", "ici", "dcn"))
  return [
    f"{one['chips']:,} × {one['chip']}: {of}`{one['topology']}`{said}",
    " × ".join(axes),
    ", ".join(f"{one['batch'][kind]:,}" for kind in ROWS),
    memory,
    *(_gb(program[f"{network}_bytes"]) for network in ("ici", "dcn")),
    *times,
  ]


def _gb(size: float | None) -> str:
  return "–" if size is None else f"{size / 1e9:,.0f}"


def plot(found: Mapping[str, Mapping[str, Any]]) -> figure.Plot:
  """Seconds of a step, and what a chip is sent in it, by chips."""
  there = {name: found[name] for name in SERIES if found.get(name)}
  labels = {name: _label(one) for name, one in there.items()}
  times = {
    name: _points(one, lambda program: program["seconds"])
    for name, one in there.items()
  }
  sent = {
    name: _points(one, lambda program: program["collective_bytes"] / 1e12)
    for name, one in there.items()
  }
  common = {"x": "chips", "kind": figure.LINES, "scale": figure.LOG}
  return figure.Plot(
    title="Weak scaling of the PPO-ptx update, as planned: nothing was run",
    about=(
      "1.3B policy, 6.7B value network; a chip has 32 episodes and 256 texts"
      " a step, however many chips there are. Roofline at published rates."
    ),
    panels=tuple(
      figure.Panel(
        title=title,
        y=unit,
        series=series,
        labels=labels,
        limits=_from_zero(series),
        bounds=None,
        **common,
      )
      for title, unit, series in (
        ("a step's updates take", "seconds, at least", times),
        ("a chip receives", "TB a step, ICI and DCN", sent),
      )
    ),
    columns=2,
  )


def _label(of_chips: Mapping[str, Any]) -> str:
  one = next(iter(of_chips.values()))
  return one["chip"] + (" (an estimate)" if one["estimate"] else "")


def _points(of_chips, number) -> dict[float, values.Value]:
  """{chips: a value without an interval} of the plans with numbers."""
  return {
    float(chips): values.Value(x, x, x, {0: x})
    for chips, one in of_chips.items()
    if one["program"]["seconds"] is not None
    for x in [number(one["program"])]
  }


def _from_zero(series) -> tuple[float, float]:
  points = [x.value for line in series.values() for x in line.values()]
  return 0.0, 1.05 * max(points, default=1.0)


def main() -> None:
  """Plans one number of chips after the other, or shows what was planned."""
  parser = command.Parser("benchmarks.scaling", __doc__)
  parser.add_argument("--series", choices=SERIES)
  parser.add_argument("--chips", default="", help="with commas; '': all")
  parser.add_argument("--out", default=str(RESULTS))
  parser.add_argument("--table", action="store_true")
  parser.add_argument("--figure", action="store_true")
  given = parser.parse_args()
  path = pathlib.Path(given.out)
  found = storage.read_json(path) if path.exists() else {}
  if given.table:
    print(table(found))
  elif given.figure:
    storage.write(FIGURE, drawing.png(drawing.draw(plot(found))))
    print(FIGURE)
  elif not given.series:
    raise errors.UserError(f"--series is missing: one of {', '.join(SERIES)}")
  else:
    _plan(given.series, _asked(given.chips, given.series), path, found)


def _plan(
  series: str, counts: Iterable[int], path: pathlib.Path, found: dict[str, Any]
) -> None:
  """Plans and writes one number of chips after the other."""
  largest = SERIES[series][max(SERIES[series])]
  topology.prepare(topology.named(*largest))
  for chips in counts:
    one = planned(series, chips)
    found.setdefault(series, {})[str(chips)] = one
    storage.write_json(path, found)
    fits = "fits" if one["program"]["fits"] else "does not fit"
    print(one["chip"], chips, fits, flush=True)


def _asked(text: str, series: str) -> list[int]:
  """Numbers of chips, all of a series where none are named."""
  for part in text.split(",") if text else ():
    if not part.strip().isdigit() or int(part) not in SERIES[series]:
      raise errors.unknown("--chips", part.strip(), map(str, SERIES[series]))
  return [int(part) for part in text.split(",")] if text else [*SERIES[series]]


if __name__ == "__main__":
  command.run(main)
