"""What is in a source, before anything is trained on it.

  python -m instruct_jax.data FILE... [--kind=rankings] [--tokenizer=FOLDER]
  python -m instruct_jax.data FILE... --out=FOLDER     # cleaned and split

Shows records by split and source, completions a prompt, lengths and what the
limits would drop or cut, duplicates, rows a user, agreement between annotators,
personal data by kind, and samples. `--json` prints one JSON object instead.
`--out` writes <kind>-<split>.jsonl: duplicates gone, few rows a user, split by
user (by prompt where there is none), personal data gone from the training
prompts.
"""

import argparse
import collections
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.console
import rich.table
import rich.text
from etils import epath

from instruct_jax import errors, preferences, tokenizers
from instruct_jax.data import hygiene, pii, readers, sources

Record = sources.Record
_PERCENTILES = (50, 75, 90, 95, 99, 100)
_MOST_K = 1000  # completions a prompt; the limit of a run is data.k_max


def main(arguments: Sequence[str]) -> None:
  """The command line; raises UserError."""
  given = _parser().parse_args(arguments)
  settings = hygiene.Settings(
    prefix=given.prefix,
    per_user=given.per_user,
    validation_fraction=given.validation_fraction,
    test_fraction=given.test_fraction,
    remove_pii=not given.keep_pii,
  )
  if settings.validation_fraction + settings.test_fraction >= 1 or (
    min(settings.validation_fraction, settings.test_fraction) < 0
  ):
    raise errors.UserError(
      "--validation_fraction and --test_fraction must leave something to train"
      f" on, not {settings.validation_fraction} and {settings.test_fraction}"
    )
  kind = given.kind or guess_kind(given.inputs)
  if kind not in sources.KINDS:
    raise errors.unknown("--kind", kind, sources.KINDS)
  records = [
    record
    for spec in given.inputs
    for record in sources.read(spec, kind, k_max=_MOST_K)
  ]
  tokenizer = tokenizers.load(given.tokenizer) if given.tokenizer else None
  found = inspect(
    records,
    kind,
    settings,
    tokenizer=tokenizer,
    prompt_length=given.prompt_length,
    response_length=given.response_length,
  )
  if given.out:
    found["written"] = write(records, kind, settings, epath.Path(given.out))
  if given.json:
    print(json.dumps(found, ensure_ascii=False))
  else:
    _print(found, records[: given.samples])


def guess_kind(inputs: Sequence[str]) -> str:
  """The kind of records by the keys of the first; raises UserError."""
  part = sources.parts(inputs[0])[0].pattern
  if not part.startswith(readers.TFDS):
    first = readers.paths(part)[0]
    if not readers.holds_objects(first):
      return "pretraining"
  row = next(readers.rows(part), None)
  if row is None:
    raise errors.UserError(f"{part}: empty")
  where, row = row
  # The kinds with most keys first: demonstrations have prompts too.
  by_keys = sorted(sources.KINDS.items(), key=lambda item: -len(item[1]))
  for kind, keys in by_keys:
    if set(keys) <= set(row):
      return kind
  raise errors.UserError(
    f"{where}: has {', '.join(row) or 'no keys'}, which is none of "
    f"{', '.join(sources.KINDS)}; name the --kind, or convert it first:"
    " python -m instruct_jax.data convert --help"
  )


def inspect(
  records: Sequence[Record],
  kind: str,
  settings: hygiene.Settings,
  *,
  tokenizer: tokenizers.Tokenizer | None = None,
  prompt_length: int = 0,
  response_length: int = 0,
) -> dict[str, Any]:
  """Everything that is shown, as JSON holds it.

  Lengths are the tokenizer's tokens, or words without one; limits of 0 are
  none.
  """
  found = {
    "kind": kind,
    "records": len(records),
    "splits": dict(collections.Counter(_splits(records, kind, settings))),
    "sources": dict(
      collections.Counter(r["source"] for r in records if "source" in r)
    ),
    "lengths_in": f"{tokenizer.kind} tokens" if tokenizer else "words",
    "lengths": _lengths(records, tokenizer),
    "limits": _limits(records, tokenizer, prompt_length, response_length),
    "duplicates": _duplicates(records, settings.prefix),
    "users": _users(records, settings.per_user),
    "pii": _pii(records),
  }
  if kind == "rankings":
    sizes = collections.Counter(len(r["responses"]) for r in records)
    found["completions"] = {str(k): sizes[k] for k in sorted(sizes)}
    found |= {"annotators": _annotators(records), "pairs": _pairs(records)}
  return found


def write(
  records: Sequence[Record],
  kind: str,
  settings: hygiene.Settings,
  folder: epath.Path,
) -> dict[str, Any]:
  """Writes <kind>-<split>.jsonl and summary.json; what was done, counted.

  Prompts are cleaned as the paper did. Of the other kinds only what is there
  twice goes; they are split alike.
  """
  if kind == "prompts":
    cleaned = hygiene.clean(records, settings)
    by_split, counts = cleaned.by_split, cleaned.counts
  else:
    once = {json.dumps(r, sort_keys=True): r for r in records}
    by_split = {split: [] for split in sources.SPLITS}
    for record, split in zip(
      once.values(), _splits(list(once.values()), kind, settings)
    ):
      by_split[split].append(record)
    counts = {
      "read": len(records),
      "duplicates": len(records) - len(once),
      "kept": len(once),
    }
  folder.mkdir(parents=True, exist_ok=True)
  for split, kept in by_split.items():
    lines = (
      json.dumps(r | {"split": split}, ensure_ascii=False) + "\n" for r in kept
    )
    part = folder / f".{kind}-{split}.part"
    part.write_text("".join(lines), encoding="utf-8")
    part.replace(folder / f"{kind}-{split}.jsonl")
  sizes = {split: len(kept) for split, kept in by_split.items()}
  summary = {"folder": str(folder), "rows": sizes, "counts": counts}
  (folder / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
  return summary


def _splits(records, kind, settings):
  """The split of each record, people's together where a user is named."""
  fractions = {
    "validation_fraction": settings.validation_fraction,
    "test_fraction": settings.test_fraction,
  }
  for record in records:
    if kind == "prompts" and "user" in record and "split" not in record:
      record = {"prompt": f"user {record['user']}"}
    yield sources.split_of(record, **fractions)


def _texts(records):
  """The texts of each part of the records, by name."""
  found = collections.defaultdict(list)
  for record in records:
    for name in ("text", "prompt", "response"):
      if name in record:
        found[name].append(record[name])
    found["response"] += record.get("responses", [])
  return {name: texts for name, texts in found.items() if texts}


def _count(texts, tokenizer):
  if tokenizer is None:
    return [len(text.split()) for text in texts]
  return [len(ids) for ids in tokenizer.encode_batch(texts)]


def _lengths(records, tokenizer):
  found = {}
  for name, texts in _texts(records).items():
    counts = _count(texts, tokenizer)
    at = np.percentile(counts, _PERCENTILES).round().astype(int).tolist()
    found[name] = {"total": int(sum(counts))} | {
      "max" if p == 100 else f"p{p}": n for p, n in zip(_PERCENTILES, at)
    }
  return found


def _limits(records, tokenizer, prompt_length, response_length):
  """What is longer: prompts would be dropped, responses cut."""
  texts, found = _texts(records), {}
  for name, limit, what in (
    ("prompt", prompt_length, "prompts_dropped"),
    ("response", response_length, "responses_cut"),
  ):
    if limit and name in texts:
      counts = _count(texts[name], tokenizer)
      found[what] = sum(n > limit for n in counts)
  return found


def _duplicates(records, prefix):
  texts = [r.get("prompt", r.get("text", "")) for r in records]
  whole = collections.Counter(texts)
  heads = collections.Counter(hygiene.prefix_of(t, prefix) for t in texts)
  (largest, count), *_ = heads.most_common(1) or [("", 0)]
  return {
    "exact": len(texts) - len(whole),
    "by_prefix": len(texts) - len(heads),
    "prefix": prefix,
    "largest_group": count,
    "its_beginning": largest[:60] if count > 1 else "",
  }


def _users(records, per_user):
  counts = collections.Counter(r["user"] for r in records if "user" in r)
  if not counts:
    return {}
  sizes = sorted(counts.values())
  return {
    "users": len(counts),
    "median": int(np.median(sizes)),
    "max": sizes[-1],
    "over_limit": sum(n > per_user for n in sizes),
    "rows_over_limit": sum(max(0, n - per_user) for n in sizes),
  }


def _pii(records):
  found = collections.Counter()
  for texts in _texts(records).values():
    for text in texts:
      found.update(pii.remove(text)[1])
  return dict(found)


def _pairs(records):
  """Pairs of completions, and how many of them nobody ordered."""
  total = tied = 0
  for record in records:
    k = len(record["responses"])
    total += k * (k - 1) // 2
    if record.get("pairs") is not None:
      ordered = len(record["pairs"])
    else:
      ranks = np.asarray(record["ranks"])
      ordered = int((ranks[:, None] < ranks).sum())
    tied += k * (k - 1) // 2 - ordered
  return {"pairs": total, "ties": tied}


def _annotators(records):
  """Agreement of those who ranked the same responses to the same prompt."""
  same = collections.defaultdict(list)
  for record in records:
    if record.get("ranks"):
      same[record["prompt"], *record["responses"]].append(record)
  several = [group for group in same.values() if len(group) > 1]
  agreed, pairs, ours = 0, 0, collections.defaultdict(lambda: [0, 0])
  for group in several:
    ranks = np.asarray([record["ranks"] for record in group])
    one, both = preferences.agreement(ranks)
    agreed, pairs = agreed + one, pairs + both
    for a in range(len(group)):
      for b in range(a + 1, len(group)):
        names = sorted(group[n].get("labeler", "?") for n in (a, b))
        counts = ours[" and ".join(names)]
        one, both = preferences.agreement(ranks[[a, b]])
        counts[0] += one
        counts[1] += both
  labelers = collections.Counter(
    r["labeler"] for r in records if "labeler" in r
  )
  return {
    "labelers": dict(labelers.most_common(20)),
    "ranked_by_several": len(several),
    "agreement": round(agreed / pairs, 4) if pairs else None,
    "compared_pairs": pairs,
    "by_two": {
      names: round(x / n, 4) for names, (x, n) in sorted(ours.items()) if n
    }
    if len(ours) <= 20
    else {},
  }


def _print(found: dict[str, Any], samples: Sequence[Record]) -> None:
  console = rich.console.Console()
  table = rich.table.Table(title=f"{found['records']} {found['kind']}")
  table.add_column("what")
  table.add_column("found")
  for name, value in found.items():
    if name not in ("kind", "records") and value not in ({}, None):
      text = _shown(value)
      table.add_row(name.replace("_", " "), rich.text.Text(text))
  console.print(table)
  if samples:
    shown = rich.table.Table(title="samples", show_lines=True)
    names = list(dict.fromkeys(name for r in samples for name in r))
    for name in names:
      shown.add_column(name)
    for record in samples:
      cells = (_shown(record.get(name, "")) for name in names)
      shown.add_row(*(rich.text.Text(cell[:300]) for cell in cells))
    console.print(shown)


def _shown(value: Any) -> str:
  if isinstance(value, dict):
    return "\n".join(
      f"{k}: {_shown(v).replace(chr(10), ', ')}" for k, v in value.items()
    )
  if isinstance(value, list):
    return "\n".join(f"- {_shown(x)[:120]}" for x in value)
  return str(value)


class _Parser(argparse.ArgumentParser):
  """Its errors are ours."""

  def error(self, message: str) -> None:
    raise errors.UserError(message)


def _parser() -> argparse.ArgumentParser:
  parser = _Parser(
    prog="python -m instruct_jax.data",
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  usual = hygiene.Settings()
  parser.add_argument("inputs", nargs="+", help="files, patterns, tfds:...")
  parser.add_argument("--kind", default="", help=", ".join(sources.KINDS))
  parser.add_argument("--tokenizer", default="", help="a tokenizer's folder")
  parser.add_argument("--prompt_length", type=int, default=0)
  parser.add_argument("--response_length", type=int, default=0)
  parser.add_argument("--prefix", type=int, default=usual.prefix)
  parser.add_argument("--per_user", type=int, default=usual.per_user)
  parser.add_argument(
    "--validation_fraction", type=float, default=usual.validation_fraction
  )
  parser.add_argument(
    "--test_fraction", type=float, default=usual.test_fraction
  )
  parser.add_argument("--keep_pii", action="store_true")
  parser.add_argument("--samples", type=int, default=3)
  parser.add_argument("--out", default="", help="a folder")
  parser.add_argument("--json", action="store_true")
  return parser
