"""What the first lines of a page say: whose numbers these are, and from where.

Everything is read from a run's config and results; what they lack is not said.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from instruct_jax.base import terminal
from instruct_jax.report import captions, exhibits

Facts = list[tuple[str, str]]


def title(config: Mapping[str, Any], results: Mapping[str, Any]) -> str:
  """'ppo_ptx:tiny, seed 0'; "" where the run does not say what it is."""
  said = dict(config) | dict(results)
  experiment, variant = said.get("experiment"), said.get("variant")
  if not experiment:
    return ""
  name = f"{experiment}:{variant}" if variant else str(experiment)
  seed = said.get("seed")
  return name if seed is None else f"{name}, seed {seed}"


def world(config: Mapping[str, Any]) -> str:
  """In what world the numbers hold, and who judges there."""
  data = config.get("data")
  if not isinstance(data, Mapping) or not data.get("source"):
    return ""
  source = data["source"]
  if source == "microworld":
    return captions.MICROWORLD
  if source != "files":
    return captions.OTHER_WORLD.format(source=source)
  kinds = ("pretraining", "demonstrations", "rankings", "prompts")
  named = [f"{data[k]} ({k})" for k in kinds if data.get(k)]
  return captions.FILES.format(files=", ".join(named) or "none is named")


def provenance(results: Mapping[str, Any]) -> Facts:
  """When, by which command, code and machine a run was made."""
  made = _mapping(results, "provenance")
  facts = _made(made)
  evaluated = _mapping(results, "evaluated_by")
  if evaluated and any(
    evaluated.get(key) != made.get(key) for key in ("command", "commit")
  ):
    facts += [(f"evaluated: {name}", v) for name, v in _made(evaluated)[:3]]
  return facts


def _made(made: Mapping[str, Any]) -> Facts:
  commit = made.get("commit") or ""
  changed = (
    " with changes that are not committed" if made.get("changed") else ""
  )
  packages = _mapping(made, "packages")
  versions = [f"{name} {version}" for name, version in packages.items()]
  if made.get("python"):
    versions.insert(0, f"Python {made['python']}")
  facts = [
    (
      "date",
      str(made.get("date", "")).replace("T", " ").replace("+00:00", " UTC"),
    ),
    ("command", made.get("command")),
    ("commit", f"{commit}{changed}" if commit else ""),
    ("device", _device(made)),
    ("versions", ", ".join(versions)),
  ]
  return [(name, str(value)) for name, value in facts if value]


def _device(made: Mapping[str, Any]) -> str:
  if not made.get("device"):
    return ""
  parts = [f"{made.get('devices', 1)} × {made['device']}"]
  if made.get("processes", 1) != 1:
    parts.append(f"{made['processes']} processes")
  if made.get("cores"):
    parts.append(f"{made['cores']} cores")
  parts.append(made.get("system") or "")
  return ", ".join(filter(None, parts))


def facts(results: Mapping[str, Any], *, alone: bool = True) -> Facts:
  """What a run took, and the digests that tell whether two are the same.

  `alone` is off where the page is on other stages, too: these are the last's.
  """
  seconds = _mapping(results, "seconds")
  of_it = "" if alone else " of the last stage"
  said = [
    (f"steps{of_it}", results.get("steps")),
    (f"time{of_it}", duration(seconds.get("wall"))),
    ("of it compilation", duration(seconds.get("compile"))),
    (f"peak memory{of_it}", memory(results.get("peak_memory_bytes"))),
    ("digest of the config", results.get("config_digest")),
    ("digest of the parameters", results.get("parameters_digest")),
  ]
  return [(name, str(v)) for name, v in said if v not in (None, "")]


def stages(
  runs: Sequence[tuple[str, Mapping[str, Any]]],
) -> exhibits.Table | None:
  """A line for each (name, results) of the chain, and their time together."""
  lines, walls = [], []
  for name, results in runs:
    if not results:
      continue
    seconds = _mapping(results, "seconds")
    walls.append(seconds.get("wall") or 0.0)
    made = _mapping(results, "provenance")
    lines.append(
      (
        name,
        exhibits.Cell(str(results.get("steps") or "")),
        exhibits.Cell(duration(seconds.get("wall"))),
        exhibits.Cell(duration(seconds.get("compile"))),
        exhibits.Cell(memory(results.get("peak_memory_bytes"))),
        str(made.get("date", ""))[:10],
        str(made.get("commit", "")),
        str(results.get("parameters_digest") or ""),
      )
    )
  if len(lines) > 1:
    total = exhibits.Cell(duration(sum(walls)))
    lines.append(("together", exhibits.Cell(""), total, *[""] * 5))
  heads = ("run", "steps", "time", "compilation", "memory", "date", "commit",
           "parameters")  # fmt: skip
  return exhibits.Table(heads, tuple(lines)) if lines else None


def _mapping(tree: Mapping[str, Any], key: str) -> Mapping[str, Any]:
  value = tree.get(key)
  return value if isinstance(value, Mapping) else {}


def duration(seconds: Any) -> str:
  """'9.5 s', '1:15', "" for what is no number."""
  if not exhibits.is_finite(seconds):
    return ""
  return f"{seconds:.1f} s" if seconds < 60 else terminal.duration(seconds)


def memory(size: Any) -> str:
  """'1.50 GB', "" for what is no number."""
  return f"{size / 1e9:.2f} GB" if exhibits.is_finite(size) else ""
