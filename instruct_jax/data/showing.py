"""What `inspect` has measured, as tables for people."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from instruct_jax.base import terminal
from instruct_jax.data import summary
from instruct_jax.data.read import kinds

_LONGEST = 300  # characters of a sample that are shown
_NAMED = {  # sections that are a list of figures
  "conversations": "Conversations",
  "duplicates": "Duplicates",
  "users": "Users",
  "pii": "Personal data",
  "pairs": "Pairs of responses",
  "annotators": "Annotators",
}
# Where there are responses, several of one prompt are no duplicates.
_SAME_PROMPTS = "Same prompts (no duplicates, but for whole records)"


def print_measured(measured: Mapping[str, Any]) -> None:
  """Prints what `measures.measure` found, and what was written."""
  of_sample = ""
  if sample := measured.get("sample"):
    of_sample = " of the sample"
    _print_sample(sample, measured)
  else:
    print(f"{measured['records']} {measured['kind']}")
  _print(f"Splits{of_sample}", ("split", "records"), measured["splits"].items())
  _print(
    f"Sources{of_sample}", ("source", "records"), measured["sources"].items()
  )
  lengths = measured["lengths"]
  if heads := next(iter(lengths.values()), {}):
    rows = [(name, *of_part.values()) for name, of_part in lengths.items()]
    _print(f"Lengths in {measured['lengths_in']}", ("", *heads), rows)
  _print_limits(measured["limits"])
  sizes = measured.get("completions", {}).items()
  _print("Responses of a ranking", ("K", "rankings"), sizes)
  named = dict(_NAMED)
  if kinds.KINDS[measured["kind"]].response:
    named["duplicates"] = _SAME_PROMPTS
  for name, title in named.items():
    _print_section(title + of_sample, measured.get(name) or {})
  if written := measured.get("written"):
    _print_written(written, measured["kind"])


def _print_sample(
  sample: Mapping[str, Any], measured: Mapping[str, Any]
) -> None:
  """Says that only some records were looked at, of how many, and of what."""
  count, kind, about = measured["records"], measured["kind"], sample["of_about"]
  many = f"about {_about(about)}" if about else "an unknown number of"
  print(
    f"a sample of {count:,} of {many} {kind}: every number below is the"
    " sample's, and of all there are more duplicates and rows a user; --all"
    " looks at everything"
  )
  if sample["first_of"]:
    names = ", ".join(map(shown, sample["first_of"]))
    print(
      f"only the beginning, since it cannot be read from the middle: {names}"
    )


def _about(count: int) -> str:
  """A count with two digits that count: 3.1 million."""
  for unit, size in (("billion", 10**9), ("million", 10**6)):
    if count >= size:
      return (
        f"{count / size:.2g} {unit}"
        if count < 100 * size
        else (f"{count / size:.0f} {unit}")
      )
  return f"{round(count, 1 - len(str(count)) + 1):,}"


def print_samples(samples: Sequence[kinds.Record]) -> None:
  """Prints the beginnings of records, key by key."""
  for number, record in enumerate(samples, 1):
    print(f"\nsample {number}")
    for key, value in record.items():
      most = 2 * _LONGEST if _is_conversation(value) else _LONGEST
      text = _cut(shown(value), most)
      several = "\n" in text
      print(f"  {shown(key)}:{'' if several else ' '}", end="")
      print(f"\n{text}".replace("\n", "\n    ") if several else text)


def shown(value: Any) -> str:
  """A value in lines, without what a terminal would take for a command."""
  if isinstance(value, dict):
    text = ", ".join(f"{key}: {shown(x)}" for key, x in value.items())
  elif _is_conversation(value):
    text = "\n".join(
      f"{x['role']}: {_cut(shown(x['content']), _LONGEST // 2)}" for x in value
    )
  elif isinstance(value, list) and any(isinstance(x, str) for x in value):
    text = "\n".join(f"- {_cut(shown(x), _LONGEST // 2)}" for x in value)
  elif isinstance(value, list):
    text = ", ".join(map(shown, value))
  else:
    text = str(value)
  return "".join(c if c.isprintable() or c == "\n" else "�" for c in text)


def _is_conversation(value: Any) -> bool:
  return isinstance(value, list) and all(
    isinstance(x, dict) and {"role", "content"} <= x.keys() for x in value
  )


def _print_limits(limits: Mapping[str, Mapping[str, Any]]) -> None:
  heads = ("", "limit", "beyond", "of", "%", "holds 95 %", "holds 99 %")
  rows = [(name, *row.values()) for name, row in limits.items()]
  _print("What the limits drop and cut", heads, rows)
  for name, row in limits.items():
    if 10 * row["beyond"] > row["of"]:
      print(
        f"warning: {name}: {row['percent']} % are longer than {row['limit']};"
        f" {row['p95']} would hold 95 % of them, {row['p99']} 99 %"
      )


def _print_section(title: str, section: Mapping[str, Any]) -> None:
  """The figures of a section, then those that have figures of their own."""
  figures, inner = [], {}
  for name, value in section.items():
    if isinstance(value, Mapping):
      inner[_words(name)] = value.items()
    elif value != "":
      figures.append((_words(name), shown(value)))
  _print(title, ("what", "value"), figures)
  for name, rows in inner.items():
    _print(f"{title}: {name}", ("what", "value"), rows)


def _print_written(written: Mapping[str, Any], kind: str) -> None:
  rows = [(split, count) for split, count in written["rows"].items()]
  _print(f"Written to {written['folder']}", ("split", kind), rows)
  counts = summary.cleaned(written["counts"])
  told = [(name, n) for name, n in counts.items() if n is not None]
  _print("What was taken out", ("what", kind), told)


def _print(title: str, heads: Sequence[str], rows: Iterable[Any]) -> None:
  cells = [
    [x if isinstance(x, int | float) else shown(x) for x in row] for row in rows
  ]
  if cells:
    print()
    terminal.table(cells, heads, title=shown(title), stream=sys.stdout)


def _words(name: str) -> str:
  return name.replace("_", " ")


def _cut(text: str, length: int) -> str:
  return text if len(text) <= length else f"{text[:length]} …"
