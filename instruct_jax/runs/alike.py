"""Whether all processes of a job were given the same: config, data and code.

Compared before anything is built: what differs would show itself hours later,
as processes that wait for each other or as numbers that nobody can explain.
"""

import collections
import importlib.metadata
import pathlib
import platform
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import instruct_jax
from instruct_jax.base import errors, keys
from instruct_jax.parallel import link
from instruct_jax.runs import digests, plan, provenance, readers

_SHOWN = 3  # differences; what the rest has in common is mostly their cause

_NEED = "what it needs as"
Facts = dict[str, str]


def check(
  others: link.Link, stages: Sequence[plan.Stage], options: Mapping[str, Any]
) -> None:
  """UserError on all processes where one of them has been given another thing.

  Args:
    others: the processes of the job; every one calls this.
    stages: the plan, the named one last.
    options: of the command, by name.
  """
  mine = facts_of(stages, options)

  def judge(every: list[Facts]) -> str:
    for index, theirs in enumerate(every):
      if said := difference(every[0], theirs):
        return f"{others.name(index)} differs from {others.name(0)}: {said}"
    return ""

  if said := others.gather("alike", mine, judge):
    raise errors.UserError(said)


def facts_of(stages: Sequence[plan.Stage], options: Mapping[str, Any]) -> Facts:
  """All that has to be the same, in words, what is the cause of more first."""
  facts = {"python": platform.python_version()} | _versions()
  facts |= dict(_code()) | {name: str(x) for name, x in options.items()}
  names = collections.Counter()
  for stage in reversed(stages):  # A seed is in the names of their folders.
    name = stage.config.experiment
    names[name] += 1
    name += f" ({names[name]})" if names[name] > 1 else ""
    record = digests.record_of(stage.config, stage.needs)
    for path, digest in keys.flatten(record["data_digests"]).items():
      facts[f"the content of {path}"] = str(digest)
    for key, value in keys.flatten(record["config"]).items():
      facts[f"{name}: config.{key}"] = str(value)
    for need, digest in record["needs_digests"].items():
      facts[f"{name}: {_NEED} {need}"] = digest
  return facts


def runs(named: Iterable[str]) -> Facts:
  """What must be the same of runs that are read, and of checkpoints."""
  facts = {}
  for path in named:
    try:
      facts[f"what {path} holds"] = readers.digest_of(path)
    except errors.UserError:  # It goes on, or whoever opens it says more.
      facts[f"what {path} holds"] = "not finished"
  return facts


def difference(here: Facts, there: Facts) -> str:
  """'config.seed is 1, there 0; ...' of what differs first; '' of nothing."""
  found: dict[str, str] = {}
  for name in dict.fromkeys((*there, *here)):
    if here.get(name) == there.get(name):
      continue
    # A key of the command comes down to every stage: it is said once.
    key = name.partition(": ")[2] or name
    said = f"{there.get(name, 'absent')}, there {here.get(name, 'absent')}"
    found.setdefault(key, f"{name} is {said}")
  # What it is built on differs where anything does.
  found = {k: v for k, v in found.items() if _NEED not in k} or found
  more = f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
  return "; ".join(list(found.values())[:_SHOWN]) + more


def _versions() -> Facts:
  found = {}
  for name in provenance.PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = "absent"
  return found


def _code() -> Iterator[tuple[str, str]]:
  """(file, checksum) of this package's modules."""
  home = pathlib.Path(instruct_jax.__file__).parent
  for path in sorted(home.rglob("*.py")):
    name = path.relative_to(home.parent).as_posix()
    yield name, f"{zlib.crc32(path.read_bytes()):08x}"
