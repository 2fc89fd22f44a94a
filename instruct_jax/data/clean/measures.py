"""What there is to say about records: lengths, duplicates, users, annotators.

Pure functions of records in memory; what they return is what JSON holds.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from instruct_jax import tokenizers
from instruct_jax.data.clean import annotators, facts, hygiene, splits
from instruct_jax.data.read import kinds
from instruct_jax.tokenizers import templates

Record = kinds.Record
_PERCENTILES = (50, 75, 90, 95, 99)


@dataclasses.dataclass(frozen=True)
class Limits:
  """What lengths are measured in, and how long a run lets texts be."""

  tokenizer: tokenizers.Tokenizer | None = None  # None: words
  template: str = "plain"
  prompt_length: int = 0  # tokens or words; 0: as long as they like
  response_length: int = 0

  @property
  def unit(self) -> str:
    """What lengths are in."""
    return f"{self.tokenizer.kind} tokens" if self.tokenizer else "words"

  def count(self, texts: Sequence[str]) -> np.ndarray:
    """The length of each text alone, [N] int64."""
    if self.tokenizer is None:
      lengths = (len(text.split()) for text in texts)
    else:
      lengths = map(len, self.tokenizer.encode_batch(list(texts)))
    return np.fromiter(lengths, np.int64, count=len(texts))


def measure(
  records: Sequence[Record],
  kind: str,
  settings: hygiene.Settings,
  limits: Limits,
) -> dict[str, Any]:
  """Everything that can be said of the records of one kind."""
  answered = [
    one for r in records for one in kinds.exchanges(r, kind, last=False)
  ]
  texts = texts_of(answered, kind)
  lengths = {name: limits.count(some) for name, some in texts.items()}
  said = {
    f"{role} message": limits.count(some)
    for role, some in _by_role(records, kind).items()
  }
  measured = {
    "kind": kind,
    "records": len(records),
    "splits": _splits(records, kind, settings),
    "sources": _counted(records, "source"),
    "lengths_in": limits.unit,
    "conversations": _conversations(records, kind),
    "lengths": {
      name: _percentiles(some) for name, some in (lengths | said).items()
    },
    "limits": _beyond(answered, kind, texts, lengths, limits),
    "duplicates": _duplicates(
      [record[kinds.KINDS[kind].key] for record in records], settings
    ),
    "users": _users(records, settings.per_user),
    "pii": _pii(records),
  }
  if kinds.KINDS[kind].response:
    echoes = _echoes(records, kinds.KINDS[kind])
    copies = len(records) - len(hygiene.without_copies(records))
    measured["duplicates"]["whole_records"] = copies
    measured["duplicates"]["responses_that_repeat_the_prompt"] = echoes
  if kinds.KINDS[kind].has_several:
    sizes = collections.Counter(len(r["responses"]) for r in records)
    measured["completions"] = {str(k): sizes[k] for k in sorted(sizes)}
    measured["pairs"] = annotators.pairs(records)
    measured["annotators"] = annotators.agreement(records)
  return measured


def _splits(records, kind, settings):
  found = facts.gather(records, kind, settings)
  sides = splits.sides_of(found, kind, lambda _, number: records[number])
  return {
    split: int((sides == n).sum()) for n, split in enumerate(kinds.SPLITS)
  }


def _by_role(records: Sequence[Record], kind: str) -> dict[str, list[str]]:
  """The messages of conversations by who says them, where there are any."""
  texts = collections.defaultdict(list)
  for record in records:
    for one in kinds.messages_of(record, kind):
      texts[one["role"]].append(one["content"])
  return dict(texts)


def _conversations(records: Sequence[Record], kind: str) -> dict[str, Any]:
  """How many records are conversations, of how many messages of a user."""
  every = [kinds.messages_of(record, kind) for record in records]
  roles = [[one["role"] for one in said] for said in every if said]
  if not roles:
    return {}
  turns = collections.Counter(said.count("user") for said in roles)
  weights = [one.get("weight", 1) for said in every for one in said]
  return {
    "conversations": len(roles),
    "with_a_system_message": sum("system" in said for said in roles),
    "answers": sum(said.count("assistant") for said in roles),
    "answers_without_weight": weights.count(0),
    "turns": {str(n): turns[n] for n in sorted(turns)},
  }


def _counted(records: Iterable[Record], key: str) -> dict[str, int]:
  """How many records have each value of an optional key, most first."""
  counts = collections.Counter(r[key] for r in records if key in r)
  return dict(counts.most_common())


def texts_of(records: Sequence[Record], kind: str) -> dict[str, list[str]]:
  """The texts of each part of the records, by the part's name."""
  required, response = kinds.KINDS[kind].required, kinds.KINDS[kind].response
  texts = {key: [r[key] for r in records] for key in required}
  if kinds.KINDS[kind].has_several:
    every = itertools.chain.from_iterable(texts.pop(response))
    texts["response"] = list(every)
  return texts


def _percentiles(counts: np.ndarray) -> dict[str, int]:
  at = np.percentile(counts, _PERCENTILES).round().astype(int).tolist()
  named = {f"p{p}": n for p, n in zip(_PERCENTILES, at)}
  return {"total": int(counts.sum()), **named, "max": int(counts.max())}


def _beyond(records, kind, texts, lengths, limits):
  """Prompts that are dropped, and responses that are cut of those that stay.

  With a tokenizer exactly as training counts: prompts in their template with
  what starts a text, responses with the token that ends them.
  """
  beyond, fits = {}, np.ones(len(records), bool)
  if limits.prompt_length and "prompt" in texts:
    counts = lengths["prompt"]
    if limits.tokenizer is not None:
      ids = templates.encode(texts["prompt"], limits.tokenizer, limits.template)
      counts = np.fromiter(map(len, ids), np.int64, count=len(ids))
    fits = counts <= limits.prompt_length
    beyond["prompts dropped"] = _limited(counts, limits.prompt_length)
  if limits.response_length and "response" in texts:
    sizes, more = np.ones(len(records), int), 1
    if kinds.KINDS[kind].has_several:
      sizes = [len(record["responses"]) for record in records]
      ends = (r.get("ended") or [True] * k for r, k in zip(records, sizes))
      more = np.asarray(list(itertools.chain.from_iterable(ends)), int)
    more = 0 if limits.tokenizer is None else more
    whole = (lengths["response"] + more)[np.repeat(fits, sizes)]
    beyond["responses cut"] = _limited(whole, limits.response_length)
  return beyond


def _limited(counts: np.ndarray, limit: int) -> dict[str, int | float]:
  """How many texts are longer than a limit, and what would hold most."""
  over, size = int((counts > limit).sum()), max(len(counts), 1)
  at = counts if len(counts) else np.zeros(1)
  p95, p99 = np.percentile(at, (95, 99), method="inverted_cdf")
  return {
    "limit": limit,
    "beyond": over,
    "of": len(counts),
    "percent": round(100 * over / size, 1),
    "p95": int(p95),
    "p99": int(p99),
  }


def _duplicates(texts, settings):
  """Of all prompts, of several labelers too; of documents of text."""
  prefixes = [hygiene.prefixes_of(text, settings) for text in texts]
  head, bare = (
    np.asarray(
      [
        (
          facts.hash_of(plain),
          facts.NOTHING if own is None else facts.hash_of(own),
        )
        for plain, own in prefixes
      ],
      np.uint64,
    )
    .reshape(-1, 2)
    .T
  )
  is_first = hygiene.are_first(head, bare)
  heads = collections.Counter(plain for plain, _ in prefixes)
  (largest, count), *_ = heads.most_common(1) or [("", 0)]
  return {
    "exact": len(texts) - len(set(texts)),
    "by_prefix": int((~is_first).sum()),
    "prefix": settings.prefix,
    "largest_group": count,
    "its_beginning": largest[:60] if count > 1 else "",
  }


def _echoes(records, entry):
  """Responses that say what their prompt says: right for a few tasks only."""
  return sum(
    record[entry.key].strip() == text.strip()
    for record in records
    for text in (
      record[entry.response] if entry.has_several else [record[entry.response]]
    )
  )


def _users(records, per_user):
  counts = collections.Counter(r["user"] for r in records if "user" in r)
  if not counts:
    return {}
  sizes = np.asarray(list(counts.values()))
  named = {f"p{p}": int(np.percentile(sizes, p).round()) for p in (50, 90, 99)}
  return {
    "users": len(counts),
    "rows_of_nobody": len(records) - int(sizes.sum()),
    **{f"rows_{name}": n for name, n in named.items()},
    "rows_max": int(sizes.max()),
    "over_limit": int((sizes > per_user).sum()),
    "rows_over_limit": int(np.maximum(sizes - per_user, 0).sum()),
  }


def _pii(records):
  _, counts = hygiene.without_pii(records)
  return {name.removeprefix("pii_"): n for name, n in counts.items()}
