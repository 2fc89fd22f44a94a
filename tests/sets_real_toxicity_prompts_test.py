"""RealToxicityPrompts: maxima and shares by hand, and who scores."""

import dataclasses
import json
import pathlib
import sys
import types

import numpy as np
import pytest

from instruct_jax.base import errors
from instruct_jax.measuring import classifiers, toxicity
from instruct_jax.sets import real_toxicity_prompts as rtp
from tests import toy_models

DATA = pathlib.Path(__file__).parents[2] / "shared/data/real_toxicity_prompts"
MINE = "tests.sets_real_toxicity_prompts_test:by_number"


def row(prompt, score, continuation=" and so", continued=0.1):
  return {
    "filename": "x.txt",
    "challenging": False,
    "prompt": {"text": prompt, "toxicity": score},
    "continuation": {"text": continuation, "toxicity": continued},
  }


def written(tmp_path, *rows):
  path = tmp_path / "prompts.jsonl"
  path.write_text("\n".join(json.dumps(one) for one in rows))
  return str(path)


def by_number(texts):
  """A scorer of one's own: a text is its toxicity."""
  return [float(text) for text in texts]


def wide(texts):
  return [1.5 for _ in texts]


def bench(tmp_path, model, rows, **options):
  files = {"items": written(tmp_path, *rows)}
  made = toy_models.bench(model, files, name="real_toxicity_prompts", **options)
  return dataclasses.replace(made, folder=tmp_path / "asked")


class Speaker(toy_models.Model):
  """Says the next of what it has for each of the prompts."""

  def __init__(self, said):
    super().__init__(says=self._next)
    self._said = {prompt: iter(of) for prompt, of in said.items()}
    self.settings = []

  def _next(self, prompt):
    return next(self._said[prompt])

  def say(self, prompts, **settings):
    self.settings.append(settings)
    return super().say(prompts, **settings)


RUDE = rtp.PROMPTS["biased"]
KIND = rtp.PROMPTS["respectful"]
SAID = {
  "One": ("0.1", "0.7", "0.4"), "Two": ("0.2", "0.3", "0.1"),
  KIND + "One": ("0", "0", "0"), KIND + "Two": ("0.3", "0.49", "0"),
  RUDE + "One": ("1", "1", "1"), RUDE + "Two": ("0.5", "0", "0.1"),
}  # fmt: skip


def test_maxima_shares_and_means_by_prompt(tmp_path):
  model = Speaker(SAID)
  rows = [row("One", 0.9), row("Two", None)]
  found = rtp.measure(
    bench(tmp_path, model, rows, scorer=MINE, samples="3", top_p="0.9")
  )
  values = {name: round(x.value, 6) for name, x in found.metrics.items()}
  expected = {
    "expected_max_none": 0.5, "any_toxic_none": 0.5, "mean_none": 0.3,
    "expected_max_respectful": 0.245, "any_toxic_respectful": 0.0,
    "mean_respectful": 0.131667,
    "expected_max_biased": 0.75, "any_toxic_biased": 1.0, "mean_biased": 0.6,
    # Of the prompt that is known to be toxic.
    "expected_max_none_toxic_prompts": 0.7,
    "any_toxic_none_toxic_prompts": 1.0, "mean_none_toxic_prompts": 0.4,
  }  # fmt: skip
  assert {name: values[name] for name in expected} == expected
  assert not any("other_prompts" in name for name in values)
  assert found.metrics["mean_none"].n == 2
  # Half the difference of two.
  assert found.metrics["mean_none"].stderr == pytest.approx(0.1)
  assert found.samples[0]["none"] == {
    "samples": ["0.1", "0.7", "0.4"], "toxicity": [0.1, 0.7, 0.4]
  }  # fmt: skip
  assert model.asked == list(SAID)
  for settings in model.settings:
    assert settings == {
      "max_tokens": 20, "temperature": 1.0, "top_p": 0.9, "n": 3
    }  # fmt: skip


def test_25_samples_unless_told(tmp_path):
  model = toy_models.Model(says=lambda prompt: "0.2")
  found = rtp.measure(bench(tmp_path, model, [row("One", 0.1)], scorer=MINE))
  assert len(found.samples[0]["biased"]["samples"]) == 25


def test_prompts_that_are_the_same_are_one(tmp_path):
  said = {"One": "0.2", "Two": "0.6"}
  model = toy_models.Model(says=lambda p: said[p.splitlines()[-1]])
  rows = [row("One", 0.1)] * 2 + [row("Two", 0.1)] * 2
  found = rtp.measure(bench(tmp_path, model, rows, scorer=MINE, samples="1"))
  one = found.metrics["mean_none"]
  # Two clusters with residuals that sum to 0.4 each: sqrt(2 (0.16 · 2)) / 4.
  assert (one.value, one.n) == (pytest.approx(0.4), 4)
  assert one.stderr == pytest.approx(np.sqrt(0.64) / 4)


# Who scores

SAFE, RUDE_WORDS = ["tree", "river", "lunch"], ["zounds", "gadzooks"]


def released(count=60):
  """Rows whose score is whether they hold a rude word."""
  rng = np.random.default_rng(0)
  rows = []
  for n in range(count):
    texts, scores = [], []
    for _ in range(2):
      is_rude = rng.random() < 0.4
      words = rng.choice(RUDE_WORDS if is_rude else SAFE, 2)
      texts.append(f"a {words[0]} number {n} {words[1]}")
      scores.append(0.9 if is_rude else 0.1)
    rows.append(row(texts[0], scores[0], texts[1], scores[1]))
  return rows


def test_a_scorer_is_fitted_on_released_scores(tmp_path):
  def says(prompt):
    return "gadzooks" if prompt.startswith(RUDE) else "a tree"

  model = toy_models.Model(says=says)
  rows = [*released(), row("unscored", None, " x", None)]
  found = rtp.measure(bench(tmp_path, model, rows, samples="2"))
  value = {name: one.value for name, one in found.metrics.items()}
  assert value["any_toxic_biased"] == 1
  assert value["any_toxic_none"] == value["any_toxic_respectful"] == 0
  assert value["scorer_error"] < 0.15 < value["scorer_error_of_mean"]
  assert value["scorer_right"] > 0.95
  assert value["scorer_right_majority"] < 0.75
  assert value["scorer_toxic"] == pytest.approx(value["scorer_toxic_released"])
  assert found.metrics["scorer_error"].n == 120
  assert found.counts == {"released texts without a score": 2}
  assert "none scores what it was fitted on" in found.notes[0]


def test_what_is_said_to_a_prompt_is_scored_by_one_that_never_saw_it(tmp_path):
  """A word that one prompt's continuation alone holds teaches nothing of it."""
  items = [rtp.Item(f"tree {n}", 0.0, "lunch", 0.0) for n in range(40)]
  items.append(rtp.Item("odd", 0.0, "abracadabra " * 3, 1.0))
  scored = [text for one in items for text in one.scored]
  fitted = toxicity.fitted(scored, tmp_path)
  other = next(
    one.prompt
    for one in items
    if classifiers.fold_of(one.prompt) != classifiers.fold_of("odd")
  )
  own, others = fitted.says(["odd", other], ["abracadabra"] * 2)
  assert own < 0.1 < others


def test_too_few_prompts_to_fit_a_scorer_on(tmp_path):
  model = toy_models.Model()
  with pytest.raises(errors.UserError, match="only 1"):
    rtp.measure(bench(tmp_path, model, [row("One", 0.1)]))
  with pytest.raises(errors.UserError, match="no text has a score"):
    rtp.measure(bench(tmp_path, model, [row("One", None, "x", None)]))
  assert not model.asked, "it is said before anything is asked"


def test_alt_profanity_check(tmp_path, monkeypatch):
  model = toy_models.Model(says=lambda prompt: "0.6")
  given = {"scorer": "alt-profanity-check", "samples": "1"}
  made = bench(tmp_path, model, [row("One", 0.1)], **given)
  monkeypatch.setitem(sys.modules, "profanity_check", None)
  with pytest.raises(errors.UserError, match="pip install alt-profanity-check"):
    rtp.measure(made)
  assert not model.asked
  there = types.SimpleNamespace(predict_prob=by_number)
  monkeypatch.setitem(sys.modules, "profanity_check", there)
  assert rtp.measure(made).metrics["expected_max_none"].value == 0.6


@pytest.mark.parametrize(
  ("options", "words"),
  [
    ({"scorer": MINE.replace("by_number", "wide")}, "from 0 to 1"),
    ({"scorer": "by_number"}, "my_package.my_module"),
    ({"scorer": MINE, "samples": "0"}, "from 1 on"),
    ({"scorer": MINE, "top_p": "2"}, "above 0, 1 at most"),
    ({"scorer": MINE, "top_p": "x"}, "above 0, 1 at most"),
  ],
)
def test_options_that_cannot_be(tmp_path, options, words):
  model = toy_models.Model(says=lambda prompt: "0.2")
  with pytest.raises(errors.UserError, match=words):
    rtp.measure(bench(tmp_path, model, [row("One", 0.1)], **options))


# Files


@pytest.mark.parametrize(
  ("one", "words"),
  [
    ({"text": "a"}, 'no column "prompt"'),
    ({"prompt": "a"}, "should be an object"),
    ({"prompt": {"txt": "a"}}, 'no column "text"'),
    ({"prompt": {"text": " "}}, "is empty"),
    (row("a", 1.2), "from 0 to 1"),
    (row("a", 0.2, "b", "high"), "a number"),
  ],
)
def test_another_shape(tmp_path, one, words):
  path = written(tmp_path, row("fine", 0.1), one)
  with pytest.raises(errors.UserError, match=words) as raised:
    list(rtp.read(path))
  assert "prompts.jsonl:2" in str(raised.value)


@pytest.mark.skipif(not DATA.exists(), reason=f"not here: {DATA}")
def test_the_published_rows():
  items = list(rtp.read(str(DATA / "quark_val.jsonl")))
  assert len(items) == 5000
  assert sum(one.toxicity is None for one in items) == 19
  assert sum(one.continued is None for one in items) == 32
