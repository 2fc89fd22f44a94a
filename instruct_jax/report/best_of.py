"""Subjects of which the reward picks one of n responses, on the page.

How many n are (`config.evaluation.subjects.*.best_of`) only a run's config
says, so its results are renamed where they are read: 'sft_best_of_n' of n = 8
is 'sft_best_of_8', which `wording.subject` knows how to write.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from instruct_jax.maths import best_of
from instruct_jax.report import wording

# What a reader must know of a table, by its name.
NOTES = {
  "preference": "{name} is of {n} responses to a prompt the one that the reward"
  " model likes best: it needs {n} times the sampling, and no training.",
  "score_wins": "{name} was chosen by this very reward model, so its figure is"
  " high by construction and no evidence of quality.",
  "score": "{name} was chosen by this very reward model, so its score is high"
  " by construction and no evidence of quality.",
  "kl": "{name} has no KL here, since nobody knows the probability of what is"
  " chosen of {n}: it is at most log n - (n - 1) / n = {bound:.2f} nats a"
  " response from the policy that says them.",
  "loss": "{name} is the same network as without the choice, and its loss"
  " the same.",
}


def counts(config: Mapping[str, Any]) -> dict[str, int]:
  """The subjects with a choice, and of how many; {} where nothing says so."""
  evaluation = config.get("evaluation")
  subjects = evaluation.get("subjects") if _is_tree(evaluation) else None
  found = {
    name: section.get("best_of")
    for name, section in (subjects.items() if _is_tree(subjects) else ())
    if _is_tree(section)
  }
  return {k: n for k, n in found.items() if isinstance(n, int) and n > 1}


def named(name: str, n: int) -> str:
  """('sft_best_of_n', 8) -> 'sft_best_of_8'."""
  return f"{name.removesuffix('_best_of_n')}_best_of_{n}"


def rows(
  table: Sequence[Mapping[str, Any]], config: Mapping[str, Any]
) -> list[dict[str, Any]]:
  """Rows whose "subject" and "baseline" say their n."""
  new = _names(config)
  return [
    {
      key: new.get(value, value)
      if key in ("subject", "baseline") and isinstance(value, str)
      else value
      for key, value in row.items()
    }
    for row in table
  ]


def records(
  said: Sequence[Mapping[str, Any]], config: Mapping[str, Any]
) -> tuple[dict[str, Any], ...]:
  """Records of responses.jsonl whose subjects say their n."""
  new = _names(config)

  def one(answer: Any) -> Any:
    if not _is_tree(answer) or not _is_tree(answer.get("preferred")):
      return answer
    return {**answer, "preferred": _renamed(answer["preferred"], new)}

  return tuple(
    {
      **record,
      "responses": {
        name: one(answer)
        for name, answer in _renamed(record["responses"], new).items()
      },
    }
    for record in said
  )


def note(
  table: str, there: Sequence[Mapping[str, Any]], config: Mapping[str, Any]
) -> str:
  """NOTES on the table of that name, of each subject with a choice.

  `there` are the rows of the table in which such a subject would stand.
  """
  if table not in NOTES or not any("subject" in row for row in there):
    return ""
  return " ".join(
    NOTES[table].format(
      name=wording.subject(named(name, n)),
      n=n,
      bound=best_of.kl(n),
    )
    for name, n in counts(config).items()
  )


def _names(config: Mapping[str, Any]) -> dict[str, str]:
  return {name: named(name, n) for name, n in counts(config).items()}


def _renamed(tree: Mapping[str, Any], new: Mapping[str, str]) -> dict[str, Any]:
  return {new.get(name, name): value for name, value in tree.items()}


def _is_tree(value: Any) -> TypeGuard[Mapping[str, Any]]:
  return isinstance(value, Mapping)
