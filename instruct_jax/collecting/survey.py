"""The questions at the end (appendices B.3 and B.4, adapted).

Who the labelers are, and how the work was. Every question is voluntary; what is
asked of the person is asked in the paper's words as far as they fit anywhere.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from instruct_jax.collecting import kinds

_LONGEST = 2000  # characters
_AGREE = (
  "Strongly agree",
  "Agree",
  "Neither agree nor disagree",
  "Disagree",
  "Strongly disagree",
)


@dataclasses.dataclass(frozen=True)
class Question:
  """One of them; without options it is answered in words."""

  name: str
  text: str
  options: tuple[str, ...] = ()
  many: bool = False


QUESTIONS = (
  Question(
    "gender",
    "What gender do you identify as?",
    ("Male", "Female", "Nonbinary / other"),
  ),
  Question(
    "ethnicity",
    "What ethnicities do you identify as?",
    (
      "White / Caucasian",
      "Southeast Asian",
      "Indigenous / Native American / Alaskan Native",
      "East Asian",
      "Middle Eastern",
      "Latinx",
      "Black / of African descent",
      "South Asian",
      "Other",
    ),
    many=True,
  ),
  Question("nationality", "What is your nationality?"),
  Question(
    "age",
    "What is your age?",
    ("18-24", "25-34", "35-44", "45-54", "55-64", "65+"),
  ),
  Question(
    "education",
    "What is your highest attained level of education?",
    (
      "Less than high school degree",
      "High school degree",
      "Undergraduate degree",
      "Master's degree",
      "Doctorate degree",
    ),
  ),
  Question(
    "clear",
    "It was clear from the instructions what I was supposed to do.",
    _AGREE,
  ),
  Question("enjoyable", "I found the task enjoyable and engaging.", _AGREE),
  Question("repetitive", "I found the task repetitive.", _AGREE),
  Question("fair_pay", "I was paid fairly for doing the task.", _AGREE),
  Question("glad", "Overall, I'm glad I did this task.", _AGREE),
  Question("remarks", "What would have made the work better?"),
)


def check(answer: Any) -> dict[str, Any]:
  """What was answered, in the order of the questions; raises kinds.Wrong.

  A list of options where several may be chosen, else a text. What was left out
  is left out.
  """
  if not isinstance(answer, Mapping):
    raise kinds.Wrong({"answer": "must be an object"})
  known = {question.name for question in QUESTIONS}
  if extra := [name for name in answer if name not in known]:
    raise kinds.Wrong({"answer": f"{extra[0][:60]!r} was not asked"})
  given = {q.name: _one(q, answer.get(q.name)) for q in QUESTIONS}
  return {name: value for name, value in given.items() if value}


def from_form(fields: Mapping[str, str]) -> dict[str, Any]:
  """The answer in a form's fields; several options have a field each."""
  return {
    q.name: [
      fields[name]
      for name in (f"{q.name}-{n}" for n in range(len(q.options)))
      if name in fields
    ]
    if q.many
    else fields.get(q.name, "")
    for q in QUESTIONS
  }


def _one(question: Question, value: Any) -> Any:
  if value is None:
    return None
  values = value if question.many else [value]
  if not isinstance(values, list) or not all(
    isinstance(each, str) for each in values
  ):
    raise kinds.Wrong({question.name: f"{question.text} Answer in words."})
  if question.options and set(values) - {*question.options, ""}:
    raise kinds.Wrong({question.name: f"{question.text} Choose what is there."})
  if max((len(each) for each in values), default=0) > _LONGEST:
    raise kinds.Wrong(
      {question.name: f"{question.text} In {_LONGEST:,} characters at most."}
    )
  return value.strip() if isinstance(value, str) else value
