"""Lists of candidates that people rank, out and in again.

Out goes `to_rank.jsonl`: a line a list, {"prompt", "responses" [k], "ended",
"split"}, without who said what, and each text once. In comes the same with
"ranks" [k] (1 the best, equal ranks are ties) and maybe "labeler", "ratings"
and "metadata", a line for everyone who ranked a list. In any form that
`data.read` knows.
"""

import collections
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath

from instruct_jax.base import errors
from instruct_jax.data.read import records, sources
from instruct_jax.labeling import candidates, rankers

_KEY = "config.rankings.file"
_PER_RESPONSE = ("ratings", "metadata")
_Name = tuple[str, frozenset[str]]  # what a list is known by


def to_rank(
  by_split: Mapping[str, Iterable[candidates.Listed]],
) -> Iterator[dict[str, Any]]:
  """The lines for people; what holds one text alone needs nobody."""
  for split, lists in by_split.items():
    for listed in lists:
      texts = _texts(listed)
      if len(texts) > 1:
        yield {
          "prompt": listed["prompt"],
          "responses": texts,
          "ended": [_ended(listed, text) for text in texts],
          "split": split,
        }


def _texts(listed: Mapping[str, Any]) -> list[str]:
  """Its different responses."""
  return list(dict.fromkeys(listed["responses"]))


def _ended(listed, text):
  """Whether it ended by itself; a model that said nothing has."""
  ended = listed["ended"][listed["responses"].index(text)]
  return bool(ended) or records.is_blank(text)


def _name(listed: Mapping[str, Any]) -> _Name:
  return listed["prompt"], frozenset(listed["responses"])


def read(
  path: str, by_split: Mapping[str, Sequence[candidates.Listed]]
) -> dict[_Name, list[dict[str, Any]]]:
  """What people said of each list.

  Raises UserError for a file that `data.read` refuses, ranks that are missing,
  prompts and responses that are none of the candidates, and candidates that
  nobody ranked.
  """
  wanted = {
    _name(listed): None
    for lists in by_split.values()
    for listed in lists
    if len(_texts(listed)) > 1
  }
  prompts = {prompt for prompt, _ in wanted}
  said = collections.defaultdict(list)
  for number, record in enumerate(sources.read(path, "rankings"), start=1):
    where = f"{_KEY}={path}: ranking {number}"
    if "ranks" not in record:
      raise errors.UserError(
        f'{where} has no "ranks"; a rank for each response is right, 1 the best'
      )
    name = _name(record)
    if name not in wanted:
      what = "responses" if record["prompt"] in prompts else "prompt"
      raise errors.UserError(
        f"{where}: its {what} ({record['prompt']!r:.60}) are none of the"
        " candidates: prompts and responses must be those that were to be"
        " ranked, each text as it was"
      )
    said[name].append(record)
  lacking = [name for name in wanted if name not in said]
  if lacking:
    raise errors.UserError(
      f"{_KEY}={path}: {len(lacking)} of {len(wanted)} lists have no ranks in"
      f" it, the first: {lacking[0][0]!r:.60}. Rank them too, equal ranks where"
      " nothing can be said"
    )
  return dict(said)


def ranker(said: Mapping[_Name, Sequence[Mapping[str, Any]]]) -> rankers.Ranker:
  """Who ranks as people have; a list of one text is a tie."""

  def rank(split, lists, grades, rng):
    del split, grades, rng
    verdicts = []
    for n, listed in enumerate(lists):
      if len(_texts(listed)) == 1:
        ranks = [1] * len(listed["responses"])
        verdicts.append(rankers.Verdict(n, ranks, "nobody"))
        continue
      for record in said[_name(listed)]:
        verdicts.append(_verdict(n, listed, record))
    return verdicts

  return rank


def _verdict(n, listed, record):
  """The ranks, and what else is said of each response, in our order."""
  place = {text: k for k, text in enumerate(record["responses"])}
  order = [place[text] for text in listed["responses"]]
  more = {
    key: [record[key][k] for k in order]
    for key in _PER_RESPONSE
    if isinstance(record.get(key), list)
  }
  ranks = np.unique([record["ranks"][k] for k in order], return_inverse=True)[1]
  ranks = [int(rank) + 1 for rank in ranks.ravel()]
  return rankers.Verdict(n, ranks, record.get("labeler", "people"), more)


def wait_for(path: str, lists: epath.Path) -> errors.UserError:
  """What to do where there is no file of ranks yet."""
  given = (
    f"Write it to {path}, and give the same command again."
    if path
    else "Then give the same command again, with the file's name:"
    " --config.rankings.file=ranked-{round}.jsonl ({round} stands for the"
    " round's number)."
  )
  there = f"{_KEY}={path} is not there yet" if path else f"{_KEY} names no file"
  return errors.UserError(
    f"people's ranks are needed now, and {there}. What to rank lies in {lists},"
    ' a JSON line a list. Give each "ranks": a number for each of its'
    ' "responses", 1 for the best, the same for ties; and a "labeler", if you'
    f" like. {given}"
  )
