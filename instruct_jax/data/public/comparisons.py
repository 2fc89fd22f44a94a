"""Public comparisons of responses -> rankings.

HH-RLHF, FineGrained-RLHF, PandaLM, LLMBar, UltraFeedback and the summaries of
Stiennon et al. (2020).
"""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from instruct_jax.base import errors
from instruct_jax.data.public import dialogues, formats
from instruct_jax.data.read import files, typed

Counts, Record = formats.Counts, formats.Record

_PAIRS = list(itertools.combinations(range(4), 2))  # 12 13 14 23 24 34
_SCORES = ("overall_score", "fine-grained_score", "score", "rating")
_SPLITS = {
  "train": "train",
  "valid": "validation",
  "valid1": "validation",
  "valid2": "test",
  "test": "test",
}


def ranks_of(labels: Sequence[int]) -> list[int] | None:
  """Ranks of four outputs from their six pair labels, None if there are none.

  The pairs come in the order 12 13 14 23 24 34; 1: the first is better, 2: the
  second, 0: neither. The labels are ranks with ties if and only if ranking each
  output behind those that beat it gives the labels back.
  """
  ranks = [1] * 4
  for (i, j), label in zip(_PAIRS, labels):
    ranks[j] += label == 1
    ranks[i] += label == 2
  again = [
    0 if ranks[i] == ranks[j] else 1 + (ranks[i] > ranks[j]) for i, j in _PAIRS
  ]
  return ranks if again == list(labels) else None


def hh(rows: files.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """HH-RLHF: the prompt is the dialogue up to the last answer."""
  del kind
  for where, row in rows:
    counts["read"] += 1
    names = ("chosen", "rejected")
    prompt, better, other, worse = itertools.chain.from_iterable(
      dialogues.split(formats.key(row, name, str, where)) for name in names
    )
    if prompt != other:
      counts[formats.DIFFER] += 1
    else:
      yield from formats.pair(prompt, better, worse, counts)


def finegrained(
  rows: files.Rows, kind: str, counts: Counts, *, pairs: bool = False
) -> Iterator[Record]:
  """FineGrained-RLHF's QA feedback; questions without their long passages.

  Label sets that no ranking gives are dropped, or kept as `pairs`.
  """
  for where, row in rows:
    counts["read"] += 1
    prompt = formats.key(row, "question", str, where).strip()
    if kind != "rankings":
      is_answer = kind == "demonstrations"
      gold = formats.key(row, "gold", str, where) if is_answer else ""
      yield from formats.answer(prompt, gold, kind, counts)
      continue
    names = [f"prediction {n}" for n in (1, 2, 3, 4)]
    responses = [formats.key(row, name, str, where).strip() for name in names]
    labels = _labels(row, where)
    ranks = ranks_of(labels)
    reason = "the labels are not a weak order"
    if ranks is not None:
      yield from formats.ranking(prompt, responses, ranks, counts)
    elif not pairs:
      counts[f"dropped: {reason}"] += 1
    elif not prompt:
      counts[formats.NO_PROMPT] += 1
    else:
      counts[f"kept as pairs: {reason}"] += 1
      told = zip(_PAIRS, labels)
      won = [[i, j] if n == 1 else [j, i] for (i, j), n in told if n]
      yield {"prompt": prompt, "responses": responses, "pairs": won}


def pandalm(rows: files.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """PandaLM's test set: a record for each of three annotators."""
  for where, row in rows:
    counts["read"] += 1
    prompt = formats.joined(row, ("instruction", "input"), where)
    if kind == "prompts":
      yield from formats.answer(prompt, "", kind, counts)
      continue
    responses = [row.get(name) for name in ("response1", "response2")]
    if not all(isinstance(text, str) for text in responses):
      counts["dropped: a response that is no text"] += 1  # true, in six places
      continue
    responses = [text.strip() for text in responses]
    if responses[0] == responses[1]:
      counts[formats.SAME] += 1
      continue
    for name in ("annotator1", "annotator2", "annotator3"):
      ranks = _two(formats.key(row, name, int, where), name, where)
      found = formats.ranking(prompt, responses, ranks, counts)
      yield from (record | {"labeler": name} for record in found)


def llmbar(rows: files.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """LLMBar: input, two outputs and which follows the instruction."""
  del kind
  for where, row in rows:
    counts["read"] += 1
    names = ("output_1", "output_2")
    outputs = [formats.key(row, name, str, where) for name in names]
    label = formats.key(row, "label", int, where)
    if label not in (1, 2):
      raise errors.UserError(f'{where}: "label" should be 1 or 2, not {label}')
    better, worse = outputs if label == 1 else outputs[::-1]
    prompt = formats.key(row, "input", str, where)
    yield from formats.pair(prompt, better, worse, counts)


def ultrafeedback(
  rows: files.Rows, kind: str, counts: Counts
) -> Iterator[Record]:
  """Lists of scored completions; or chosen and rejected conversations."""
  for where, row in rows:
    counts["read"] += 1
    if isinstance(row.get("chosen"), list):
      yield from _binarized(row, where, counts)
      continue
    asked = "instruction" if "instruction" in row else "prompt"
    prompt = formats.key(row, asked, str, where).strip()
    if kind == "prompts":
      yield from formats.answer(prompt, "", kind, counts)
      continue
    scored = list(_scored(row, where, counts))
    if len(scored) < 2:
      counts["dropped: fewer than two scored completions"] += 1
      continue
    responses, scores = zip(*scored)
    ranks = formats.dense([-score for score in scores])
    yield from formats.ranking(prompt, responses, ranks, counts)


def tldr(rows: files.Rows, kind: str, counts: Counts) -> Iterator[Record]:
  """Comparisons of summaries of Reddit posts and of news (CNN/DM)."""
  del kind
  for where, row in rows:
    counts["read"] += 1
    summaries = formats.key(row, "summaries", list, where)
    choice = formats.key(row, "choice", int, where)
    if len(summaries) != 2 or choice not in (0, 1):
      raise errors.UserError(
        f'{where}: two "summaries" and a "choice" of 0 or 1 are right, not '
        f"{len(summaries)} and {choice}"
      )
    texts = [formats.key(one, "text", str, where) for one in summaries]
    prompt = _to_summarize(formats.key(row, "info", dict, where), where)
    more = {}
    if row.get("worker") is not None:
      more["labeler"] = formats.key(row, "worker", str, where)
    if row.get("split") is not None:
      split = formats.key(row, "split", str, where)
      if split not in _SPLITS:
        raise errors.unknown(f'"split" in {where}:', split, _SPLITS)
      more["split"] = _SPLITS[split]
    found = formats.pair(prompt, texts[choice], texts[1 - choice], counts)
    yield from (record | more for record in found)


def _labels(row: Record, where: str) -> list[int]:
  labels = formats.key(row, "preference", list, where)
  if len(labels) != len(_PAIRS) or any(
    type(n) is not int or n not in (0, 1, 2) for n in labels
  ):
    raise errors.UserError(
      f'{where}: "preference" should be six of 0, 1, 2, not '
      f"{typed.shown(labels)}"
    )
  return labels


def _two(label: int, name: str, where: str) -> list[int]:
  ranks = {0: [1, 1], 1: [1, 2], 2: [2, 1]}
  if label not in ranks:
    raise errors.UserError(
      f'{where}: "{name}" should be 0 (a tie), 1 or 2, not {label}'
    )
  return ranks[label]


def _scored(
  row: Record, where: str, counts: Counts
) -> Iterator[tuple[str, float]]:
  """(response, score) of the completions that have both, by one score.

  Scores that a judge did not give are spelled 'N/A' in the public files.
  """
  completions = formats.key(row, "completions", list, where)
  texts = [
    formats.key(one, "response", str, f"{where}, completion {n}").strip()
    for n, one in enumerate(completions, 1)
  ]
  has = (k for k in _SCORES if any(k in one for one in completions))
  name = next(has, None)
  if completions and name is None:
    raise errors.UserError(
      f"{where}: no score; a completion should have one of {', '.join(_SCORES)}"
    )
  for n, (text, one) in enumerate(zip(texts, completions), 1):
    score = one.get(name)
    if score is None or isinstance(score, str):
      counts["dropped: completions without a score"] += 1
    elif not text:
      counts["dropped: completions without a text"] += 1
    else:
      yield text, formats.key(one, name, float, f"{where}, completion {n}")


def _binarized(row: Record, where: str, counts: Counts) -> Iterator[Record]:
  chosen, rejected = (
    dialogues.conversation(formats.key(row, name, list, where), where)
    for name in ("chosen", "rejected")
  )
  reason = chosen.wrong or rejected.wrong
  if reason:
    counts[reason] += 1
    return
  if chosen.prompt != rejected.prompt:
    counts[formats.DIFFER] += 1
    return
  names = ("score_chosen", "score_rejected")
  scores: list[Any] = [
    formats.key(row, name, float, where)
    for name in names
    if row.get(name) is not None
  ]
  if len(scores) == 2 and scores[0] < scores[1]:
    counts["dropped: the scores contradict the choice"] += 1
    return
  tie = {"ranks": [1, 1]} if len(scores) == 2 and scores[0] == scores[1] else {}
  found = formats.pair(
    chosen.prompt, chosen.response, rejected.response, counts
  )
  yield from (record | tie for record in found)


def _to_summarize(info: Record, where: str) -> str:
  """The queries of github.com/openai/summarize-from-feedback."""
  if info.get("post") is None and info.get("article") is not None:
    article = formats.key(info, "article", str, where)
    return f"Article:\n{article}\n\nTL;DR:"
  post = formats.key(info, "post", str, where)
  subreddit = formats.optional(info, "subreddit", str, where)
  title = formats.optional(info, "title", str, where)
  head = [f"SUBREDDIT: r/{subreddit}"] if subreddit else []
  head += [f"TITLE: {title}"] if title else []
  return "\n\n".join([*head, f"POST: {post}", "TL;DR:"])
