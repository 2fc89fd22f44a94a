"""Prompts of parts: what stands, what goes, what is counted; examples."""

import hypothesis
import pytest
from hypothesis import strategies as st

from instruct_jax.base import errors
from instruct_jax.measuring import models, prompts, shots
from tests import measuring_test, toy_models

WHOLE = prompts.Prompt(
  start="do this: ",
  examples=("one is one. ", "two is two. "),
  opening="passage: ",
  passage="a b c d e f g h",
  history=(" q1 a1", " q2 a2"),
  end=" q3",
)  # 2 + 6 + 1 + 8 + 4 + 1 words


def test_all_parts_in_their_order():
  assert WHOLE.text == (
    "do this: one is one. two is two. passage: a b c d e f g h q1 a1 q2 a2 q3"
  )


@pytest.mark.parametrize(
  ("room", "expected"),
  [
    (22, WHOLE.text),
    (
      21,
      "do this: two is two. passage: a b c d e f g h q1 a1 q2 a2 q3",
    ),
    (18, "do this: passage: a b c d e f g h q1 a1 q2 a2 q3"),
    (15, "do this: passage: a b c d e f g h q2 a2 q3"),
    (12, "do this: passage: a b c d e f g h q3"),
    (11, "do this: passage: a b c d e f g q3"),
    (4, "do this: passage:  q3"),
    (1, "do this: passage:  q3"),  # instruction and question stay
  ],
)
def test_what_goes_first(room, expected):
  model = toy_models.Model(reach=room + 1)
  (kept,) = prompts.fitted(model, [WHOLE], 1)
  assert kept.text == expected


def test_what_was_cut_is_counted():
  model = toy_models.Model(lambda prompt: " x y\nz", reach=13)
  short = prompts.Prompt(end="q")
  long = prompts.Prompt(end="why " * 20)
  said = prompts.ask(model, [WHOLE, short, long], max_tokens=1)
  assert said.texts == ["x y"] * 3
  assert said.prompts[1:] == ["q", long.text]
  assert said.counts == {
    "prompts with fewer examples, to fit": 1,
    "prompts with fewer earlier questions, to fit": 1,
    "contexts cut on the left": 1,
  }
  quiet = prompts.ask(toy_models.Model(), [WHOLE], max_tokens=1)
  assert quiet.counts == {"responses without a word": 1}


@hypothesis.given(
  passage=st.text("ab c", max_size=60),
  examples=st.lists(st.text("xy ", max_size=8), max_size=4),
  room=st.integers(1, 40),
)
def test_a_prompt_fits_or_has_nothing_more_to_lose(passage, examples, room):
  one = prompts.Prompt("do", tuple(examples), " read ", passage, (), " why")
  (kept,) = prompts.fitted(toy_models.Model(reach=2 * room), [one], room)
  assert passage.startswith(kept.passage)
  assert tuple(examples[len(examples) - len(kept.examples) :]) == kept.examples
  words = len(kept.text.split())
  assert words <= room or not (kept.passage or kept.examples)
  if len(one.text.split()) <= room:
    assert kept == one


def test_the_tokens_of_a_model_are_counted(tmp_path):
  """Bytes behind what starts a text; half of what is read is the prompt's."""
  model = measuring_test.model(tmp_path)
  one = prompts.Prompt(passage="the cat " * 20, end=" why?")
  start = len(model.reader.tokenizer.start_ids)
  assert model.lengths(["why", "é"]) == [start + 3, start + 2]
  assert model.room(8) == model.reach - 8
  assert model.room(1000) == model.reach - model.reach // 2
  (kept,) = prompts.fitted(model, [one], 8)
  assert model.lengths([kept.text])[0] <= model.room(8)
  assert model.lengths([kept.text])[0] > model.room(8) - 12
  said = prompts.ask(model, [one], max_tokens=8)
  assert said.counts["passages cut at their end, to fit"] == 1
  assert "contexts cut on the left" not in said.counts


EXAMPLES = [(f"p{n // 2}", f"[{n}]") for n in range(10)]  # two a passage


def chosen(count, seed=0):
  bench = toy_models.bench(toy_models.Model(), {}, seed=seed, shots=str(count))
  return shots.chooser(bench, lambda: EXAMPLES)


def test_examples_are_of_other_passages_one_of_each():
  group_of = {text: group for group, text in EXAMPLES}
  choose = chosen(3)
  for group in ("p0", "p1", "p2", "p3", "p4", "another"):
    groups = [group_of[text] for text in choose(group)]
    assert len(set(groups)) == 3
    assert group not in groups
  # But for the question's own, they are the same before all.
  every = {text for group in ("p0", "p1", "p2", "p3") for text in choose(group)}
  assert len(every) == 4
  assert choose("another") == choose("none")


def test_examples_are_the_seeds():
  assert chosen(3)("x") == chosen(3)("x")
  assert len({chosen(3, seed)("x") for seed in range(8)}) > 1


def test_too_few_examples():
  assert len(chosen(4)("p0")) == 4
  with pytest.raises(errors.UserError, match=r"toy\.shots=5: only 4 examples"):
    chosen(5)("p0")
  assert len(chosen(5)("x")) == 5


def test_without_examples_none_are_read():
  def never():
    raise AssertionError("read")

  bench = toy_models.bench(toy_models.Model(), {})
  assert shots.chooser(bench, never)("p0") == ()


def test_the_toy_answers_as_models_do():
  """What sets are tested with has the names of what they are run with."""
  for name in ("say", "likelihoods", "room", "lengths", "reach"):
    assert hasattr(models.Model, name)
    assert hasattr(toy_models.Model(), name)
