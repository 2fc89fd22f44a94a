"""Who says which of two models' answers is better, or how good one is.

  world     a world's simulated labelers and its exact judge; prompts bring the
            "spec" that it grades by
  reward    a reward model: what it prefers is its own taste, so how often it
            is right about held-out comparisons stands beside it
  endpoint  a model behind an OpenAI-compatible endpoint, which costs something

N prompts, which all models have answered.
"""

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from instruct_jax import worlds
from instruct_jax.base import errors
from instruct_jax.data.clean import annotators
from instruct_jax.maths import statistics
from instruct_jax.measuring import contract, models
from instruct_jax.scoring import (
  comparisons,
  endpoint,
  judgments,
  model_judge,
)
from instruct_jax.worlds import interface

KINDS = ("world", "reward", "endpoint")
_TABLE_3 = {"fails_instruction": "wrong_task"}  # as `paper.METADATA` calls it
Records = Sequence[Mapping[str, Any]]
Answers = Mapping[str, Sequence[models.Said]]  # N by model


@dataclasses.dataclass(frozen=True)
class Verdicts:
  """What somebody said, and what to know of it."""

  comparisons: list[comparisons.Comparison]
  notes: tuple[str, ...] = ()
  counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
  tables: Mapping[str, comparisons.Rows] = dataclasses.field(
    default_factory=dict
  )


def world_of(name: str, flag: str) -> interface.World:
  """A world with a judge and labelers; UserError for another."""
  world = worlds.of(ml_collections.ConfigDict({"source": name}))
  if world.judge is None or not world.labelers:
    raise errors.UserError(f"{flag}={name}: nobody in this world judges")
  return world


def check_specs(world: interface.World, records: Records) -> None:
  """UserError where a prompt has no spec."""
  for number, record in enumerate(records, start=1):
    if "spec" not in record:
      raise errors.UserError(
        f'prompt {number} ({record["prompt"]!r:.60}) has no "spec", which the'
        f" judge of {world.name} grades by; its own prompts have one"
      )


def graded(
  world: interface.World, records: Records, said: Sequence[models.Said]
) -> list[interface.Grades]:
  """The world's grades of the answers [N] of one model."""
  judge = world.judge
  assert judge is not None
  return [
    judge.grade(record["spec"], one.text, one.ended)
    for record, one in zip(records, said)
  ]


def of_world(
  world: interface.World, records: Records, said: Answers
) -> Verdicts:
  """What each group of the world's labelers prefers.

  A comparison a prompt, two models and a group: the share of the group.
  """
  texts = {name: [one.text for one in of] for name, of in said.items()}
  grades = {name: graded(world, records, of) for name, of in said.items()}
  found = []
  for group, panel in world.labelers.items():
    worth = {
      name: np.asarray(
        [
          [x.utility(record["prompt"], text, grade) for x in panel]
          for record, text, grade in zip(records, texts[name], grades[name])
        ]
      )
      for name in said
    }
    labels = {"labelers": group}
    found += comparisons.of_worth(records, texts, worth, labels)
  return Verdicts(found, (f"Judged by the labelers of {world.name}.",))


def of_scorer(
  scorer: contract.Scorer,
  records: Records,
  said: Answers,
  rankings: Sequence[dict[str, Any]] | None,
) -> Verdicts:
  """What a reward model prefers, beside its accuracy on `rankings`, if any.

  Without them, what its own run found on held-out comparisons.
  """
  prompts = [record["prompt"] for record in records]
  texts = {name: [one.text for one in of] for name, of in said.items()}
  worth = {
    name: scorer.score(prompts, texts[name], [one.ended for one in of])
    for name, of in said.items()
  }
  reads = ~np.isnan(sum(worth.values()))
  if not reads.any():
    raise errors.UserError(
      f"the reward model {scorer.name} reads none of the prompts: all"
      f" {len(records)} are too long for it"
    )
  found = comparisons.of_worth(records, texts, worth, {})
  if rankings is not None:
    accuracy = [accuracy_row(scorer, rankings)]
  else:
    accuracy = [
      {"judge": scorer.name, "on": name, "value": value}
      for name, value in scorer.accuracy.items()
    ]
  beside = (
    "its accuracy on held-out comparisons stands beside it"
    if accuracy
    else "how often it is right about held-out comparisons is not known"
  )
  note = f"Judged by the reward model {scorer.name}, no person; {beside}."
  longer = int((~reads).sum())
  counts = {"prompts longer than the judge reads": longer} if longer else {}
  tables = {"judge_accuracy": accuracy} if accuracy else {}
  return Verdicts(found, (note,), counts, tables)


def accuracy_row(
  scorer: contract.Scorer, rankings: Sequence[dict[str, Any]]
) -> dict[str, Any]:
  """How often a reward model orders a pair as a labeler did, ties half.

  "unread" says of how many pairs it cannot tell, since they are too long.

  Raises UserError where the rankings order nothing.
  """
  scores = iter(
    scorer.score(
      [r["prompt"] for r in rankings for _ in r["responses"]],
      [text for r in rankings for text in r["responses"]],
      [
        ended
        for r in rankings
        for ended in r.get("ended") or [True] * len(r["responses"])
      ],
    )
  )
  right, clusters, unread = [], [], 0
  for record in rankings:
    mine = [next(scores) for _ in record["responses"]]
    signs = annotators.order(record)
    for i, j in itertools.combinations(range(len(mine)), 2):
      if signs[i, j] and np.isnan(mine[i] + mine[j]):
        unread += 1
      elif signs[i, j]:
        right.append((np.sign(mine[i] - mine[j]) * signs[i, j] + 1) / 2)
        clusters.append(record.get("core", record["prompt"]))
  if not right:
    raise errors.UserError(
      "the rankings order nothing that the reward model can read, so it has no"
      " accuracy on them"
    )
  share = statistics.proportion_interval(
    np.asarray(right), np.asarray(clusters)
  )
  labels = {"judge": scorer.name, "on": "these rankings"}
  too_long = {"unread": unread} if unread else {}
  return labels | dataclasses.asdict(share) | too_long


def of_endpoint(
  asked: endpoint.Endpoint,
  records: Records,
  said: Answers,
  *,
  pairs: Sequence[tuple[str, str]],
  bench: contract.Bench,
  workers: int,
) -> Verdicts:
  """What a model behind an endpoint prefers, of these pairs of models."""
  questions, of = [], []
  for a, b in pairs:
    for n, record in enumerate(records):
      answers = said[a][n].text, said[b][n].text
      questions.append(model_judge.Question(record["prompt"], *answers))
      of.append(comparisons.of_record(record, (a, b), answers, 0.5, {}))
      of[-1] = dataclasses.replace(of[-1], place=n)
  shares, counts = model_judge.judge(
    asked, questions, bench.folder / "judge.jsonl", workers=workers
  )
  found = [
    dataclasses.replace(one, won=share)
    for one, share in zip(of, shares)
    if share is not None
  ]
  if not found:
    raise errors.UserError(
      f"{asked.url}: no verdict on any of {len(questions)} questions:"
      f" {counts['failed']} have no answer, {counts['nonsense']} answers name"
      " neither of the two"
    )
  del counts["asked_now"]  # Numbers are the same when it is asked again.
  counts = {name.replace("_", " "): n for name, n in counts.items() if n}
  note = (
    f"Judged by {asked.model} ({asked.url}), in both orders, a tie where they"
    f" disagree; {counts.get('prompt tokens', 0)} tokens read,"
    f" {counts.get('completion tokens', 0)} written."
  )
  if counts.get("failed"):
    part = bench.folder.parent.parent / "parts" / bench.name
    note += (
      f" {counts['failed']} questions have no answer: the same command asks"
      f" them again once {part} is deleted."
    )
  return Verdicts(found, (note,), counts)


def options_of(text: str, flag: str) -> dict[str, Any]:
  """A request's options from JSON; UserError for what is no object."""
  try:
    options = json.loads(text)
  except ValueError:
    options = None
  if not isinstance(options, dict):
    raise errors.UserError(
      f'{flag}={text}: an object is right, as {{"temperature": 0}}'
    )
  return options


def judged(
  world: interface.World, records: Records, said: Answers
) -> list[judgments.Judgment]:
  """What the world's judge says of every answer: Likert, and table 3's flags
  where they can apply."""
  assert world.judge is not None
  found = []
  for name, of in said.items():
    for record, one, grade in zip(records, of, graded(world, records, of)):
      applies = world.judge.applies(record["spec"])
      found.append(
        judgments.Judgment(
          prompt=record["prompt"],
          response=one.text,
          model=name,
          likert=float(grade["likert"]),
          flags={
            _TABLE_3.get(flag, flag): bool(grade[flag])
            for flag in world.judge.flags
            if flag in applies
          },
          labels=comparisons.labels_of(record),
          cluster=str(record.get("core", record["prompt"])),
        )
      )
  return found
