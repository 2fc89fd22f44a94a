"""How the time of an iteration grows: with batch, length, model size and K.

PPO iterations at fixed lengths and reward-model steps, our side alone, one
number changed at a time; a line each on log-log axes, with its exponent.
"""

import dataclasses
import os
import pathlib
import statistics
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks.suite import figures, measuring, rows, turns

FIGURE = turns.ROOT / "docs" / "growth.svg"
RESULTS = turns.ROOT / "benchmarks" / "results" / "growth.json"
BATCH, LENGTH = 16, 32  # episodes; tokens of a prompt, and of a response
WIDTHS = ((2, 128), (4, 256), (6, 384), (8, 512))  # layers, width


@dataclasses.dataclass(frozen=True)
class Line:
  """A number that is changed, and the row that each of its values makes."""

  name: str
  values: tuple[int, ...]
  row: Callable[[int], rows.Row]


def parameters(layers: int, width: int) -> int:
  """Of the blocks: what a token's cost is proportional to."""
  return 12 * layers * width**2


def _iteration(count=BATCH, length=LENGTH, layers=4, width=256):
  model = rows.TINY | {"layers": layers, "width": width}

  def spec():
    return rows.rollout(
      model,
      count=count,
      shortest=length,
      prompt=length,
      response=length,
      mean=length,
    ) | {"minibatches": 4}

  name = f"growth_{count}_{length}_{layers}_{width}"
  return rows.Row(name, name, "rl", spec, "tokens", None, "growth", 0.0)


def _ranking(K):
  return rows.Row(
    f"growth_k{K}",
    f"K = {K}",
    "rm",
    lambda: rows.ranking(rows.TINY, K, 128, 64),
    "pairs",
    None,
    "growth",
    0.0,
  )


LINES = (
  Line("batch: episodes", (8, 16, 32, 64), lambda n: _iteration(count=n)),
  Line("length: tokens of an episode", (32, 64, 128, 256),
       lambda n: _iteration(length=n // 2)),
  Line("model: parameters of the blocks",
       tuple(parameters(*pair) for pair in WIDTHS),
       lambda n: _iteration(**_shape(n))),
  Line("K: responses of a ranking", (2, 4, 9, 18), _ranking),
)  # fmt: skip


def _shape(count):
  layers, width = next(x for x in WIDTHS if parameters(*x) == count)
  return {"layers": layers, "width": width}


def measure(
  repeats: int,
  lines: Sequence[Line] = LINES,
  *,
  one: Callable[..., measuring.Result] = measuring.measure,
) -> dict[str, Any]:
  """{line: {values, seconds, exponent, problems}} of all lines."""
  load = os.getloadavg()[0]
  found: dict[str, Any] = {}
  seen: dict[str, measuring.Result] = {}
  for line in lines:
    points, problems = [], []
    for value in line.values:
      row = line.row(value)
      measuring.say(f"{line.name} = {value}")
      if row.name not in seen:
        seen[row.name] = one(row, repeats, peak=0.0)
      result = seen[row.name]
      problems += result["problems"]
      if not result["problems"]:
        points.append((value, result["sides"]["ours"]))
    found[line.name] = _line(points, problems)
  found["load"] = [round(load, 2), round(os.getloadavg()[0], 2)]
  return found


def _line(points, problems):
  values = [value for value, _ in points]
  seconds = [statistics.median(side["seconds"]) for _, side in points]
  made = {
    "values": values,
    "seconds": seconds,
    "least": [min(side["seconds"]) for _, side in points],
    "cpu_s": [side["cpu_s"] for _, side in points],
    "peak_GB": [side["peak_GB"] for _, side in points],
    "problems": problems,
  }
  if len(points) > 1:
    power, factor = figures.exponent(values, made["least"])
    made |= {"exponent": round(power, 3), "factor": factor}
  return made


def draw(found: dict[str, Any], path: os.PathLike | str) -> None:
  """Draws the lines side by side, as SVG without a date in it."""
  import matplotlib as mpl

  mpl.use("svg")
  from matplotlib import pyplot as plt

  lines = {k: x for k, x in found.items() if k != "load"}
  settings = {"svg.hashsalt": "growth", "font.size": 9}
  with mpl.rc_context(settings):
    figure, axes = plt.subplots(
      1, len(lines), figsize=(3 * len(lines), 2.8), squeeze=False
    )
    for axis, (name, line) in zip(axes[0], lines.items()):
      _panel(axis, name, line)
    axes[0, 0].set_ylabel("seconds")
    figure.tight_layout()
    figure.savefig(pathlib.Path(path), metadata={"Date": None})
    plt.close(figure)


def _panel(axis, name, line):
  axis.set_xlabel(name)
  if not line["values"]:
    return
  axis.loglog(line["values"], line["seconds"], "o", label="median")
  if "exponent" in line:
    power = line["exponent"]
    fitted = [line["factor"] * x**power for x in line["values"]]
    label = f"~ x^{power:.2f}, the least"
    axis.loglog(line["values"], fitted, "-", label=label)
  axis.legend(frameon=False)
