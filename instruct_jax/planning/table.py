"""A plan as people read it."""

import sys
from collections.abc import Iterator
from typing import Any

from instruct_jax.base import terminal
from instruct_jax.planning import advice

_HEADERS = (
  "program",
  "fits",
  "GB",
  "of which given",
  "temporary",
  "other state",
  "PFLOP",
  "ICI GB",
  "DCN GB",
  "seconds",
  "bound by",
  "MFU, per cent",
)


def show(plan: dict[str, Any]) -> None:
  """Prints a plan to stdout."""
  for line in _head(plan):
    print(line)
  rows = [row(name, one) for name, one in plan["programs"].items()]
  terminal.table(rows, _HEADERS, stream=sys.stdout)
  for line in _refused(plan):
    print(line)
  for line in _run(plan):
    print(line)


def row(name: str, one: dict[str, Any]) -> tuple:
  """A program's line: bytes, FLOPs and seconds of a device."""
  sizes = one["bytes"]
  return (
    name,
    "yes" if one["fits"] else "NO",
    f"{_gb(sizes['total'])} / {_gb(sizes['hbm'])}",
    _gb(sizes["arguments"]),
    _gb(sizes["temporaries"]),
    _gb(sizes["state_besides"]),
    _scaled(one["flops"], 1e15),
    _scaled(one["ici_bytes"], 1e9),
    _scaled(one["dcn_bytes"], 1e9),
    _scaled(one["seconds"], 1),
    one.get("bound_by", terminal.NONE),
    terminal.NONE if one["mfu"] is None else f"{100 * one['mfu']:.1f}",
  )


def _head(plan: dict[str, Any]) -> Iterator[str]:
  mesh = " x ".join(f"{axis} {n}" for axis, n in plan["mesh"].items())
  of = f"{plan['slices']} x " if plan["slices"] > 1 else ""
  yield (
    f"{of}{plan['topology']}: {plan['chips']} chips, mesh {mesh},"
    f" {plan['microbatches']} microbatches, remat {plan['remat']}"
    f" ({plan['versions']})"
  )
  if plan["estimate"]:
    yield (
      "An estimate: CPU devices stand in for GPUs, and their compiler, which"
      " holds 16-bit numbers in 32 bits, for that of GPUs."
    )
  yield "Numbers are a device's; times are those of the published rates."


def _refused(plan: dict[str, Any]) -> Iterator[str]:
  for name, one in plan["programs"].items():
    if one["fits"]:
      continue
    sizes = one["bytes"]
    yield (
      f"{name} does not fit: {_gb(sizes['total'])} GB where a device has"
      f" {_gb(sizes['hbm'])}, {_gb(advice.too_much(one))} GB too much. What"
      " helps:"
    )
    yield from (f"  {change}" for change in one["to_change"])


def _run(plan: dict[str, Any]) -> Iterator[str]:
  run = plan["run"]
  if run["hours"] is None:
    yield "The run: not known, as long as not all of its programs are."
    return
  parts = ", ".join(
    f"{name} {terminal.number(x)} s" for name, x in run["seconds_of"].items()
  )
  yield (
    f"The run: {run['steps']} steps of"
    f" {terminal.number(run['seconds_of_step'])} s ({parts}),"
    f" {run['episodes']:,} episodes of the longest responses:"
    f" {terminal.number(run['hours'])} hours,"
    f" {terminal.number(run['chip_hours'])} chip-hours."
  )
  paper_said = run["paper_petaflops_days"]
  yield (
    f"The models need {terminal.number(run['petaflops_days'])} petaflop/s-days;"
    f" the paper's 175B took {paper_said['ppo_ptx']:g} for PPO-ptx,"
    f" {paper_said['sft']:g} for SFT and {paper_said['gpt3']:,g} for GPT-3"
    " itself (section 5.1)."
  )


def _gb(size: float) -> str:
  return f"{size / 1e9:.1f}"


def _scaled(value: float | None, unit: float) -> Any:
  return None if value is None else float(value) / unit
