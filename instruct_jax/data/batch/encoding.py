"""Records with prompts -> rows of tokens: demonstrations, prompts, rankings.

N records, K completions, P prompt, R response. A prompt is what
`templates.encode` makes of it, a response what `answers.encode` does: it ends
with its end token if it ended by itself and that still fits. A conversation
gives the rows that `conversations` says, each with the answers that a loss
counts (`data.loss_on`).
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import ml_collections
import numpy as np

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.data.batch import (
  conversations,
  histograms,
  limits,
  packing,
  padding,
  rows,
)
from instruct_jax.data.read import kinds
from instruct_jax.tokenizers import answers, messages, templates


def encode_records(
  records: Sequence[kinds.Record],
  data: ml_collections.ConfigDict,
  tokenizer: tokenizers.Tokenizer,
  kind: str,
  where: str,
  *,
  packed: bool = False,
  weights: tuple[float, ...] = (),
) -> rows.Rows:
  """Rows of demonstrations, prompts or rankings; `packed` demonstrations.

  With `weights`, records say of which "part" of the mixture they are.

  Raises:
    UserError: not one record is left (`where` names the source), or packed
      rows are shorter than a prompt and its response may be.
  """
  found = encode_piece(
    records, data, tokenizer, kind, packed=packed, weights=weights
  )
  counts = limits.finished(found.counts)
  if not len(found):
    raise errors.UserError(nothing_left(where, counts, data))
  counts["padding"] = round(found.table.padding, 4)
  return dataclasses.replace(found, counts=counts)


def encode_piece(
  records: Sequence[kinds.Record],
  data: ml_collections.ConfigDict,
  tokenizer: tokenizers.Tokenizer,
  kind: str,
  *,
  packed: bool = False,
  weights: tuple[float, ...] = (),
) -> rows.Rows:
  """Rows, maybe none, of some records; their counts are for `limits.merged`.

  Raises UserError where packed rows are shorter than a prompt and its response
  may be.
  """
  entry = kinds.KINDS[kind]
  for record in records if kinds.KINDS[kind].key == "prompt" else ():
    _check_turns(record["prompt"], data.template)
  exchanges, groups = _exchanges(records, kind, last=data.loss_on == "last")
  every = templates.encode(
    [record["prompt"] for record in exchanges], tokenizer, data.template
  )
  counts: dict[str, Any] = {
    "records": len(records),
    **limits.lengths("prompt", padding.lengths_of(every)),
  }
  if entry.answer:
    texts = [record[entry.answer] for record in exchanges]
    used, more = _answered(every, exchanges, texts, groups, tokenizer, data)
  else:
    fitting = _fitting(every, data.prompt_length).tolist()
    used = [conversations.Row(n, every[n], [], None) for n in fitting]
    more = {"prompts_too_long": len(records) - len(used)}
  counts |= more
  part = None
  if weights:
    parts = [exchanges[row.first]["part"] for row in used]
    part = np.asarray(parts, np.int32)
  if packed and entry.can_pack and entry.answer:
    table, part = _packed(used, part, len(weights) or None, tokenizer, data)
    counts["documents"] = len(used)
    index, source = np.arange(len(table), dtype=np.int32), ()
  else:
    table, good, more = _padded(kind, used, records, tokenizer, data)
    counts |= more
    of = np.repeat(np.arange(len(groups), dtype=np.int32), [*map(len, groups)])
    first = np.asarray([row.first for row in used], np.int32)
    index, source = of[first[good]], records
    part = None if part is None else part[good]
  counts["rows"] = len(table)
  return rows.Rows(kind, table, index, counts, source, weights, part)


SEVERAL = "responses"  # of `lengths`: how many a record has


def lengths(
  records: Sequence[kinds.Record], kind: str, tokenizer: tokenizers.Tokenizer
) -> dict[str, histograms.Histogram]:
  """How many tokens each text of the records has, uncut, by its key.

  They are what `data.prompt_length` (plus the template and one token) and
  `data.response_length` (plus one) are chosen by. Of lists of responses also
  how long those are.
  """
  entry = kinds.KINDS[kind]
  exchanges, _ = _exchanges(records, kind, last=False)
  texts = {key: [r[key] for r in exchanges] for key in entry.required}
  sizes = {}
  if entry.has_several:
    several = texts.pop(entry.response)
    texts["response"] = list(itertools.chain.from_iterable(several))
    sizes = {SEVERAL: histograms.of([len(some) for some in several])}
  return {
    name: histograms.of(padding.lengths_of(tokenizer.encode_batch(some)))
    for name, some in texts.items()
  } | sizes


def _exchanges(
  records: Sequence[kinds.Record], kind: str, *, last: bool
) -> tuple[Sequence[kinds.Record], list[range]]:
  """A record for each answer that counts, and the places of each record's."""
  if not kinds.KINDS[kind].answer:
    return records, [range(n, n + 1) for n in range(len(records))]
  every, groups = [], []
  for record in records:
    more = kinds.exchanges(record, kind, last=last)
    groups.append(range(len(every), len(every) + len(more)))
    every += more
  return every, groups


def _check_turns(prompt: str, template: str) -> None:
  """Raises UserError for a dialogue of several turns where there are none."""
  is_dialogue = isinstance(prompt, messages.Dialogue) and prompt.has_turns
  if is_dialogue and not templates.has_turns(template):
    raise errors.UserError(
      f"data.template={template!r} has no turns, but there are conversations"
      f" of several, as the one that begins {prompt[:40]!r}; take"
      " human_assistant, chatml, chat_template, or a text with {prompt} and"
      " '\\n\\nAssistant:' in it"
    )


def _answered(
  prompts: padding.Ids,
  records: Sequence[kinds.Record],
  texts: Sequence[str],
  groups: Sequence[range],
  tokenizer: tokenizers.Tokenizer,
  data: ml_collections.ConfigDict,
) -> tuple[list[conversations.Row], dict[str, Any]]:
  """Rows of prompts and their answers, and counts.

  Answers that have no token but their end are left out; of those that no row
  has room for, only what they cost is counted.
  """
  asked = [record["prompt"] for record in records]
  said = answers.encode(
    asked, texts, [True] * len(texts), tokenizer, data.template
  )
  used, held = conversations.rows_of(
    prompts,
    said,
    groups,
    prompt_length=data.prompt_length,
    response_length=data.response_length,
  )
  lengths = padding.lengths_of([said[n].ids for n in held])
  empty = {n for n, length in zip(held, lengths) if length < 2}  # the end alone
  limit, inside = data.response_length, set(held)
  lost = [len(group) - len(inside.intersection(group)) for group in groups]
  counts = {
    "prompts_too_long": sum(map(inside.isdisjoint, groups)),
    "responses": len(held),
    "responses_cut": sum(len(row.response) > limit for row in used),
    "responses_empty": len(empty),
    **limits.lengths("response", lengths),
  }
  if turns := sum(len(group) for group in groups if len(group) > 1):
    counts["turns"] = turns
    counts["turns_lost"] = sum(
      n for n, group in zip(lost, groups) if n < len(group)
    )
  return [row for row in used if row.first not in empty], counts


def fitting_prompts(
  texts: Sequence[str],
  tokenizer: tokenizers.Tokenizer,
  template: str,
  prompt_length: int,
) -> tuple[padding.Ids, np.ndarray]:
  """The tokens of the prompts that fit, and which [N'] int32 those are."""
  every = templates.encode(texts, tokenizer, template)
  kept = _fitting(every, prompt_length)
  return [every[n] for n in kept], kept


def _fitting(every: padding.Ids, prompt_length: int) -> np.ndarray:
  # Appendix C: prompts that are longer than the limit are dropped.
  kept = [n for n, ids in enumerate(every) if len(ids) <= prompt_length]
  return np.asarray(kept, np.int32)


def _padded(
  kind: str,
  used: Sequence[conversations.Row],
  records: Sequence[kinds.Record],
  tokenizer: tokenizers.Tokenizer,
  data: ml_collections.ConfigDict,
) -> tuple[rows.Padded, np.ndarray, dict[str, int]]:
  """The rows, which [N] of those used they are, and counts."""
  prompts = [row.prompt for row in used]
  arrays, counts = (
    padding.left_padded(prompts, data.prompt_length, tokenizer),
    {},
  )
  good = np.arange(len(used))
  if kinds.KINDS[kind].has_several:
    response = kinds.KINDS[kind].response
    ranked = [records[row.first] for row in used]
    more, good, counts = _completions(ranked, response, tokenizer, data)
    arrays = {n: array[good] for n, array in (arrays | more).items()}
  elif kinds.KINDS[kind].response:
    limit = data.response_length
    said = [row.response[:limit] for row in used]
    arrays |= padding.right_padded(said, limit, tokenizer)
    if _are_marked(used):
      counted = [conversations.targets_of(row)[:limit] for row in used]
      arrays["is_target"] = padding.masks(counted, limit)
  return rows.Padded(arrays), good, counts


def _are_marked(used: Sequence[conversations.Row]) -> bool:
  return any(row.is_target is not None for row in used)


def _packed(
  used: Sequence[conversations.Row],
  part: np.ndarray | None,
  parts: int | None,
  tokenizer: tokenizers.Tokenizer,
  data: ml_collections.ConfigDict,
) -> tuple[packing.Pieces, np.ndarray | None]:
  """Demonstrations, several a row of `data.row_length`; each row's part."""
  longest = data.prompt_length + data.response_length
  if longest > data.row_length:
    raise errors.UserError(
      f"data.packing: rows of data.row_length={data.row_length} tokens must "
      f"hold a prompt and its response, which may take {longest} "
      "(data.prompt_length + data.response_length)"
    )
  limit, marked = data.response_length, _are_marked(used)
  streams_, where, targets = [], [], []
  for n in range(parts or 1):
    every = range(len(used))
    of_part = every if parts is None else np.flatnonzero(part == n)
    mine = [used[int(i)] for i in of_part]
    both = [row.prompt + row.response[:limit] for row in mine]
    lengths, context = (
      padding.lengths_of(both),
      padding.lengths_of([row.prompt for row in mine]),
    )
    tokens = itertools.chain.from_iterable(both)
    streams_.append(np.fromiter(tokens, padding.dtype_of(tokenizer)))
    where.append((np.cumsum(lengths) - lengths, lengths, context))
    counted = itertools.chain.from_iterable(
      [False] * len(row.prompt) + conversations.targets_of(row)[:limit]
      for row in mine
    )
    targets += [np.fromiter(counted, bool)] if marked else []
  table, of_row = packing.pack(
    streams_, where, data.row_length, tokenizer.pad_id, targets
  )
  return table, None if parts is None else of_row


def _completions(
  records: Sequence[kinds.Record],
  response: str,
  tokenizer: tokenizers.Tokenizer,
  data: ml_collections.ConfigDict,
) -> tuple[rows.Batch, np.ndarray, dict[str, int]]:
  """The rankings' arrays [N, K, ...], which of them to keep, and counts.

  K is as many responses as one of them has: `data.k_max` makes no row wider.
  """
  sizes = [len(record[response]) for record in records]
  N, K = len(records), max(sizes, default=0)
  prompts, texts, ended, slots = [], [], [], []
  ranks, beats = np.zeros((N, K), np.int32), np.zeros((N, K, K), bool)
  for n, (record, k) in enumerate(zip(records, sizes)):
    prompts += [record["prompt"]] * k
    texts += record[response]
    ended += record.get("ended") or [True] * k
    ranks[n, :k] = record.get("ranks") or 1
    slots += range(n * K, n * K + k)
    # Ranks order all responses: pairs beside them say some of it again.
    beats[n, :k, :k] = ranks[n, :k, None] < ranks[n, :k]
    for winner, loser in () if record.get("ranks") else record["pairs"]:
      beats[n, winner, loser] = True
  every: padding.Ids = [[] for _ in range(N * K)]
  said, counts = padding.responses(prompts, texts, ended, tokenizer, data)
  for slot, ids in zip(slots, said):
    every[slot] = ids
  counts["pairs"] = int(beats.sum())
  tells, counts["pairs_alike"] = _telling(every, beats, sizes)
  good = np.flatnonzero(tells)
  counts["too_few_completions"] = N - len(good)
  padded = padding.right_padded(every, data.response_length, tokenizer)
  arrays = {
    "response": padded["response"].reshape(N, K, data.response_length),
    "response_length": padded["response_length"].reshape(N, K),
    "ranks": ranks,
    "beats": beats,
  }
  return arrays, good, counts


def _telling(
  every: padding.Ids, beats: np.ndarray, sizes: Sequence[int]
) -> tuple[np.ndarray, int]:
  """Which rankings [N] say something of what the model sees.

  Not those whose completions are all the same tokens, nor those that order
  the same ones only. Takes such pairs out of `beats` and counts them.
  """
  tells, alike, K = np.ones(len(sizes), bool), 0, beats.shape[1]
  for n, k in enumerate(sizes):
    places: dict[tuple[int, ...], list[int]] = {}
    for i in range(k):
      places.setdefault(tuple(every[n * K + i]), []).append(i)
    if len(places) == k:
      continue
    before = int(beats[n].sum())
    for twins in places.values():
      beats[n][np.ix_(twins, twins)] = False
    lost = before - int(beats[n].sum())
    alike += lost
    tells[n] = len(places) > 1 and not (lost and lost == before)
  return tells, alike


def nothing_left(
  where: str, counts: limits.Counts, data: ml_collections.ConfigDict
) -> str:
  """Why there is no row of what `where` names."""
  if not counts["records"]:
    return (
      f"{where} is empty; give more data, raise its fraction "
      "(data.validation_fraction, data.test_fraction), or mark lines with "
      '"split"'
    )
  why = [limits.in_words(counts, data), limits.remedies(counts)]
  return f"nothing is left of {where}: {'; '.join(filter(None, why))}"
