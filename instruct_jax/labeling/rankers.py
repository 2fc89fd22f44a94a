"""Who ranks lists of candidates: `config.rankings.labeler`.

  world             the world's simulated labelers
  reward            a reward model, `config.rankings.model`: what it prefers is
                    its own taste, no person's (as the gold reward model of Gao
                    et al. 2022, arXiv:2210.10760, if it is a better one)
  people            whoever filled in `config.rankings.file`
  MODULE:FUNCTION   your own, called with prompts [N] and lists of responses
                    [N][K]; returns a list of K ranks for each, 1 the best

A ranker is a function of the split, the lists, what the judge thinks of them
(() without one) and a generator; it returns verdicts. K responses of a list.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from etils import epath
from ml_collections import ConfigDict

from instruct_jax import worlds
from instruct_jax.base import errors, outside
from instruct_jax.data import fingerprint
from instruct_jax.data.read import records, specs
from instruct_jax.inference import score as score_lib
from instruct_jax.labeling import candidates, quality
from instruct_jax.parallel import hosts
from instruct_jax.worlds import interface

WORLD, REWARD, PEOPLE = "world", "reward", "people"
KNOWN = (WORLD, REWARD, PEOPLE, "my_package.my_module:my_function")
ROUND, FIRST = "{round}", 2  # the first round that is iterated
TRAINING = "training"  # the group whose rankings the reward model reads
_KEY = "config.rankings.labeler"


@dataclasses.dataclass(frozen=True)
class Verdict:
  """What one labeler said of one list."""

  index: int  # of the list
  ranks: list[int]  # [K]
  labeler: str
  more: Mapping[str, Any] = dataclasses.field(default_factory=dict)


Lists = Sequence[candidates.Listed]
Ranker = Callable[
  [str, Lists, Sequence[quality.Grades], np.random.Generator], list[Verdict]
]


def check(config: ConfigDict) -> None:
  """UserError where nobody could rank, said before anything is built."""
  labeler = config.rankings.labeler
  if labeler == WORLD:
    check_world(worlds.of(config.data))
  elif ":" in labeler:
    outside.function(labeler, _KEY)
  elif labeler not in KNOWN:
    raise errors.unknown(_KEY, labeler, KNOWN)
  if labeler == PEOPLE and config.rankings.file:
    if config.rankings.round > FIRST and ROUND not in config.rankings.file:
      raise errors.UserError(
        f"config.rankings.file={config.rankings.file}: every round has"
        f" candidates of its own; with {ROUND} in the name each has a file"
      )
  elif config.rankings.file:
    raise errors.UserError(
      f"config.rankings.file={config.rankings.file}: it is read where"
      f" {_KEY}=people, not {labeler}"
    )


def file_of(section: ConfigDict) -> str:
  """The file of people's ranks, '{round}' in its name filled in."""
  return section.file.replace(ROUND, str(section.round))


def files_of(path: str) -> list[epath.Path]:
  """The files that people's ranks are in; none where nobody ranked yet."""
  try:
    return specs.paths(path) if path else []
  except errors.UserError:
    return []


def digests(section: ConfigDict) -> dict[str, str]:
  """{key: a hash of the content} of what of people's own ranks."""
  if section.labeler == PEOPLE:
    paths = files_of(file_of(section))
    return {"rankings.file": fingerprint.together(paths)}
  if ":" in section.labeler:
    return {"rankings.labeler": outside.digest(section.labeler, _KEY)}
  return {}


def check_world(world: interface.World) -> None:
  """UserError for a world without labelers."""
  if world.judge is None or TRAINING not in world.labelers:
    raise errors.UserError(
      f"data.source={world.name}: there is nobody who can rank; give"
      " rankings (data.rankings), or in experiments/iterated.py name who ranks:"
      f" {_KEY}=reward, people or my_package.my_module:my_function."
    )


def check_specs(found: Lists) -> None:
  """UserError for prompts that the world's judge cannot grade answers to."""
  if any("spec" not in one for one in found):
    raise errors.UserError(
      "these prompts have no 'spec' for the judge, so nobody here can rank;"
      " give rankings (data.rankings)."
    )


def of_world(labelers: interface.Labelers) -> Ranker:
  """The world's labelers, drawn at random: to test, one of each group."""

  def rank(split, lists, grades, rng):
    check_specs(lists)
    verdicts = []
    for n, listed in enumerate(lists):
      for group in (TRAINING,) if split == "train" else tuple(labelers):
        panel = labelers[group]
        labeler = panel[int(rng.integers(len(panel)))]
        ranks = labeler.rank(listed["prompt"], listed["responses"], grades[n])
        verdicts.append(Verdict(n, ranks, labeler.name, {"group": group}))
    return verdicts

  return rank


def of_scores(score: score_lib.Score, name: str) -> Ranker:
  """A reward model: the higher score ranks first, the same text the same."""

  def rank(split, lists, grades, rng):
    del split, grades, rng
    asked = dict.fromkeys(
      (listed["prompt"], text, ended)
      for listed in lists
      for text, ended in zip(listed["responses"], listed["ended"])
    )
    scores = dict(zip(asked, score(*map(list, zip(*asked)))))
    verdicts = []
    for n, listed in enumerate(lists):
      said = zip(listed["responses"], listed["ended"])
      of_list = [float(scores[listed["prompt"], *each]) for each in said]
      verdicts.append(Verdict(n, ranks_of(of_list), name))
    return verdicts

  return rank


def ranks_of(scores: Sequence[float]) -> list[int]:
  """Ranks [K] of scores [K], 1 for the highest; equal scores share one."""
  places = {s: n for n, s in enumerate(sorted(set(scores), reverse=True), 1)}
  return [places[score] for score in scores]


def of_function(path: str) -> Ranker:
  """A function of people's own, by its import path.

  Raises UserError where there is none, and where it fails or returns something
  else than ranks.
  """
  function = outside.function(path, _KEY)

  def rank(split, lists, grades, rng):
    del split, grades, rng
    # It may cost something, or say something else when it is asked again.
    said = hosts.once(f"ranks of {len(lists)} lists", lambda: _ask(lists))
    return [Verdict(n, ranks, path) for n, ranks in enumerate(said)]

  def _ask(lists):
    prompts = [listed["prompt"] for listed in lists]
    then = (
      ". What was ranked before is kept: mend it and give the command again."
    )
    with outside.calling(f"{_KEY}={path}: failed", then):
      said = function(prompts, [list(x["responses"]) for x in lists])
    return _checked_ranks(said, lists, f"{_KEY}={path}:")

  return rank


def _checked_ranks(said: Any, lists: Lists, what: str) -> list[list[int]]:
  """The ranks of every list; UserError, which begins with `what`, for less."""
  right = "a list of ranks is right for each list of responses, 1 the best"
  said = said.tolist() if isinstance(said, np.ndarray) else said
  if not isinstance(said, list | tuple):
    raise errors.UserError(f"{what} it returned {said!r:.80}; {right}")
  if len(said) != len(lists):
    raise errors.UserError(
      f"{what} it returned {len(said)} for {len(lists)} prompts; {right}"
    )
  found = []
  for listed, ranks in zip(lists, said):
    plain = _plain(ranks)
    wrong = (
      records.wrong_ranking(listed | {"ranks": plain}, 0)
      if isinstance(plain, list)
      else f"it should be a list, not {plain!r:.80}"
    )
    if wrong:
      raise errors.UserError(
        f"{what} of the prompt {listed['prompt']!r:.60} it returned"
        f" {ranks!r:.80}: {wrong}"
      )
    found.append(plain)
  return found


def _plain(ranks: Any) -> Any:
  """Ranks as lists of int, whatever array or tuple they came in."""
  if isinstance(ranks, np.ndarray):
    return ranks.tolist()
  if isinstance(ranks, list | tuple):
    return [int(x) if isinstance(x, np.integer) else x for x in ranks]
  return ranks
