"""A plan: all programs of a run, and what the run takes in all."""

import hashlib
import json
import math
import pathlib
from collections.abc import Collection
from typing import Any

import instruct_jax
from instruct_jax import paper
from instruct_jax.base import errors, progress
from instruct_jax.parallel import sharding
from instruct_jax.planning import (
  advice,
  jobs,
  measuring,
  programs,
  setting,
  stored,
  topology,
)

PETAFLOPS_DAY = 1e15 * 24 * 3600  # FLOPs
HOUR = 3600.0


def of(
  every: dict[str, jobs.Job],
  place: topology.Place,
  only: Collection[str] = (),
) -> dict[str, Any]:
  """The plan of a run's jobs, the last of which is its own update.

  Kept for the next time; says on the way what is compiled. Raises UserError
  where a config does not fit the devices, and for a name in `only` that no job
  has.
  """
  main, wanted = list(every)[-1], _chosen(every, only)
  key = _key(wanted, place)
  kept = stored.read(key)
  if kept is not None:
    return kept
  found = {}
  devices = topology.devices_of(place)
  with progress.Progress("programs", len(wanted), even=False) as line:
    for number, (name, job) in enumerate(wanted.items(), start=1):
      line.say(name)
      mesh = sharding.make_mesh(**job.config.mesh, devices=devices)
      with place.standing_in():
        given = setting.of(job.config, mesh)
        if job.program == "decoding_copy" and not programs.has_copy(given):
          continue
      one = measuring.measure(job.program, given, place)
      if not one["fits"]:
        one["to_change"] = advice.of(job, one, given.state)
      found[name] = one
      line.update(number)
  config = every[main].config
  made = {
    "topology": place.name,
    "slices": place.slices,
    "chips": place.chips,
    "chip": place.chip.name,
    "estimate": place.is_estimate,
    "mesh": config.mesh.to_dict(),
    "microbatches": config.microbatches,
    "remat": config.model.remat,
    "versions": place.versions,
    "fits": all(one["fits"] for one in found.values()),
    "programs": found,
    "run": run_of(config, found, main, place),
  }
  stored.write(key, made)
  return made


def _chosen(every, only):
  for name in only:
    if name not in every:
      raise errors.unknown("--only", name, every)
  return {name: x for name, x in every.items() if not only or name in only}


def run_of(
  config: Any, found: dict[str, Any], main: str, place: topology.Place
) -> dict[str, Any]:
  """What the steps of a run take, all responses as long as they can be.

  Numbers are None where a program that they are made of is not there, or does
  not fit; and of a run that goes by epochs, whose data say how many steps.
  """
  counts = _runs_of_step(config, found, main)
  steps = config.steps or None
  run: dict[str, Any] = {
    "steps": steps,
    "episodes": steps * config.batch.get("prompts", 0) if steps else None,
    "seconds_of_step": None,
    "seconds_of": {},
    "hours": None,
    "chip_hours": None,
    "petaflops_days": None,
    "paper_petaflops_days": paper.COMPUTE,
  }
  parts = {name: found.get(name) for name in counts}
  if any(one is None or one["seconds"] is None for one in parts.values()):
    return run
  each = {name: found[name]["seconds"] * n for name, n in counts.items()}
  run |= {"seconds_of": each, "seconds_of_step": sum(each.values())}
  if steps:
    needed = sum(found[name]["model_flops"] * n for name, n in counts.items())
    hours = run["seconds_of_step"] * steps / HOUR
    run |= {
      "hours": hours,
      "chip_hours": hours * place.chips,
      "petaflops_days": needed * steps / PETAFLOPS_DAY,
    }
  return run


def _runs_of_step(config, found, main):
  """{program: how often a step of the run's own algorithm runs it}."""
  counts: dict[str, int] = {main: 1}
  if "prompts" not in config.batch or "rl" not in config:
    return counts
  prompts = config.batch.prompts
  fill = found.get("prefill", {}).get("rows") or prompts
  slots = found.get("decode_step", {}).get("slots") or prompts
  # Every slot says the first token of a response as it is filled.
  tokens = config.data.response_length - 1
  if found.get("decode_step", {}).get("from_copy"):
    counts["decoding_copy"] = 1
  return counts | {
    "prefill": math.ceil(prompts / fill),
    "decode_step": math.ceil(prompts / slots) * tokens,
    "score": 1,
  }


def _key(wanted: dict[str, jobs.Job], place: topology.Place) -> str:
  """Names what a plan depends on: configs, code, devices and versions."""
  parts = {
    "configs": jobs.described(wanted),
    "code": _code(),
    "place": [place.name, place.slices],
    "versions": place.versions,
  }
  text = json.dumps(parts, sort_keys=True, default=str)
  return hashlib.sha256(text.encode()).hexdigest()


def _code() -> str:
  """A digest of the package's modules."""
  folder = pathlib.Path(instruct_jax.__file__).parent
  whole = hashlib.sha256()
  for path in sorted(folder.rglob("*.py")):
    whole.update(path.relative_to(folder).as_posix().encode())
    whole.update(path.read_bytes())
  return whole.hexdigest()
