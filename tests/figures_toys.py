"""Toy results in the shape of real ones, for what draws them."""

import json


def run(metrics, *, experiment="ppo_ptx", variant="tiny", seed=0, tables=None):
  """What results.json holds, as far as figures read it."""
  return {
    "experiment": experiment,
    "variant": variant,
    "seed": seed,
    "metrics": metrics,
    "tables": tables or {},
  }


def row(metric, value, low=None, high=None, n=100, **labels):
  """A row of an evaluation's table."""
  ends = {} if low is None else {"low": low, "high": high}
  return {"metric": metric, "value": value, **ends, "n": n, **labels}


def write(folder, *runs):
  """Writes runs as NAME-VARIANT-seedS/results.json; returns the folder."""
  for one in runs:
    name = f"{one['experiment']}-{one['variant']}-seed{one['seed']}"
    path = folder / name / "results.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(one))
  return folder
