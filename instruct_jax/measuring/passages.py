"""Questions on passages, asked one behind the other, as conversations are."""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from instruct_jax.measuring import contract, options, prompts, shots

OPTIONS = {
  "shots": "other passages before each question, all of theirs answered",
  "history": "earlier questions of the passage shown at most, answered; all",
}
_MOST = 1000  # earlier questions: all


@dataclasses.dataclass(frozen=True)
class Question:
  """A question of a passage."""

  text: str
  answer: str  # as an example or an earlier question shows it
  about: Any  # what the set knows of it

  @property
  def asked(self) -> str:
    """What stands behind the passage."""
    return f"\n\nQ: {self.text}\n\nA:"

  @property
  def shown(self) -> str:
    """The same with its answer."""
    return f"{self.asked} {self.answer}"


@dataclasses.dataclass(frozen=True)
class Passage:
  """A passage with its questions."""

  opening: str  # before it
  text: str
  questions: tuple[Question, ...]

  @property
  def shown(self) -> str:
    """All of it with its answers."""
    return self.opening + self.text + "".join(x.shown for x in self.questions)

  def prompt(self, place: int, history: int) -> prompts.Prompt:
    """What asks one of the questions, so many of the earlier ones before it."""
    before = self.questions[max(0, place - history) : place]
    return prompts.Prompt(
      opening=self.opening,
      passage=self.text,
      history=tuple(one.shown for one in before),
      end=self.questions[place].asked,
    )


@dataclasses.dataclass(frozen=True)
class Answered:
  """What was said to a question, and the prompt as it was read."""

  passage: Passage
  question: Question
  prompt: str
  text: str


def ask(
  bench: contract.Bench,
  read: Callable[[str], Sequence[Passage]],
  start: str,
  *,
  max_tokens: int,
) -> tuple[list[Answered], dict[str, int]]:
  """The questions of the file of the role `items` that are wanted, answered;
  and counts of what was cut.

  `start` stands before all. Examples are passages of the file of the role
  `examples` where there is one, else of the same.
  """
  known = read(bench.files["items"])
  other = bench.files.get("examples")
  asked = _asked(bench, known, start, lambda: read(other) if other else known)
  said = prompts.ask(
    bench.model, [one for *_, one in asked], max_tokens=max_tokens
  )
  found = [
    Answered(passage, question, prompt, text)
    for (passage, question, _), prompt, text in zip(
      asked, said.prompts, said.texts
    )
  ]
  return found, said.counts


def _asked(
  bench: contract.Bench,
  known: Sequence[Passage],
  start: str,
  examples: Callable[[], Iterable[Passage]],
) -> list[tuple[Passage, Question, prompts.Prompt]]:
  """The questions that are wanted, with their prompts."""
  choose = shots.chooser(
    bench, lambda: [(one.text, f"{one.shown}\n\n") for one in examples()]
  )
  history = options.whole(bench, "history", _MOST)
  places = [(one, n) for one in known for n in range(len(one.questions))]
  return [
    (
      one,
      one.questions[n],
      dataclasses.replace(
        one.prompt(n, history), start=start, examples=choose(one.text)
      ),
    )
    for one, n in bench.some(places)
  ]
