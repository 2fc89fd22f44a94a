"""The sets `preference` and `likert`: who judges, and what is found."""

import dataclasses
import json
import random
import types

import numpy as np
import pytest

from instruct_jax.base import errors
from instruct_jax.measuring import contract, models
from instruct_jax.sets import likert, preference
from instruct_jax.worlds.microworld import judge as world_judge
from instruct_jax.worlds.microworld import labelers
from instruct_jax.worlds.microworld import prompts as world_prompts
from tests import model_judge_test

serve = model_judge_test.serve


@dataclasses.dataclass(frozen=True)
class Speaker:
  """A model that says what it is told to."""

  said: tuple[str, ...]
  ended: bool = True
  heard: list = dataclasses.field(default_factory=list)
  reader = types.SimpleNamespace(ctx=None)

  def say(self, prompts, *, max_tokens, temperature):
    self.heard.append((list(prompts), max_tokens, temperature))
    return [models.Said(text, 3, ended=self.ended) for text in self.said]


def bench(tmp_path, records, speakers, name="preference", **more):
  path = tmp_path / "items.jsonl"
  path.write_text("".join(json.dumps(record) + "\n" for record in records))
  options = more.pop("options", {})
  return contract.Bench(
    name=name,
    files={"items": str(path)} | more.pop("files", {}),
    settings=contract.Settings(options={name: options}),
    names=tuple(speakers),
    open=lambda one: speakers[one],
    folder=tmp_path / "asked",
    **more,
  )


@pytest.fixture(scope="module")
def asked():
  """Six prompts of the microworld, with their specs."""
  drawn = [
    world_prompts.draw(random.Random(n), "validation", use_case="open_qa")
    for n in range(6)
  ]
  return [
    {"prompt": x.text, "spec": json.dumps(x.spec), "source": s, "core": str(n)}
    for n, (x, s) in enumerate(zip(drawn, ["gpt", "instruct"] * 3))
  ]


SPEAKERS = {
  "sft": Speaker(("ann lives in oslo .",) * 6),
  "ppo": Speaker((*["no idea ."] * 5, "ann lives in oslo .")),
}
PLAIN = [{"prompt": "p", "source": "gpt"}, {"prompt": "q", "source": "own"}]
TWO = {"a": Speaker(("long one", "x")), "b": Speaker(("one", "yyy"))}


def rates(found, rate="raw"):
  """{what a row is of beside its numbers: its value}."""
  return {
    tuple(v for k, v in row.items() if isinstance(v, str) and k != "rate"): (
      row["value"]
    )
    for name, rows in found.tables.items()
    for row in rows
    if name.startswith("win_rates") and row["rate"] == rate
  }


class TestWorld:
  def test_as_its_labelers_say(self, tmp_path, asked):
    found = preference.compare(bench(tmp_path, asked, SPEAKERS))
    shares = {}
    for group, panel in (
      ("training", labelers.training()),
      ("held_out", labelers.held_out()),
    ):
      won = 0.0
      for n, record in enumerate(asked):
        for labeler in panel:
          mine, theirs = (
            labeler.utility(
              record["prompt"],
              SPEAKERS[name].said[n],
              world_judge.grade(record["spec"], SPEAKERS[name].said[n]),
            )
            for name in ("ppo", "sft")
          )
          won += 0.5 if n == 5 else float(mine > theirs)
      shares[group] = won / (6 * len(panel))
    of = rates(found)
    for group, share in shares.items():
      np.testing.assert_allclose(of["ppo", "sft", group], share)
    np.testing.assert_allclose(
      of["ppo", "sft"], (shares["training"] + shares["held_out"]) / 2
    )
    assert {"gpt", "instruct"} <= {key[-1] for key in of}
    metric = found.metrics["ppo"]["win_rate"]
    assert (metric.value, metric.n) == (of["ppo", "sft"], 12)
    assert metric.stderr > 0
    assert "win_rate" not in found.metrics["sft"]
    assert "labelers of microworld" in found.notes[0]

  def test_it_goes_before_a_scorer_that_may_have_chosen(self, tmp_path, asked):
    found = preference.compare(
      bench(tmp_path, asked, SPEAKERS, scorer=scorer())
    )
    assert "labelers of microworld" in found.notes[0]
    options = {"judge": "reward"}
    found = preference.compare(
      bench(tmp_path, asked, SPEAKERS, scorer=scorer(), options=options)
    )
    assert "the reward model rm" in found.notes[0]

  def test_samples(self, tmp_path, asked):
    found = preference.compare(bench(tmp_path, asked, SPEAKERS))
    assert len(found.samples) == 6
    last = found.samples[-1]
    assert last["answers"] == dict.fromkeys(SPEAKERS, "ann lives in oslo .")
    assert [x["won"] for x in last["verdicts"]] == [0.5, 0.5]
    assert [x["labelers"] for x in last["verdicts"]] == ["training", "held_out"]

  def test_another_baseline(self, tmp_path, asked):
    found = preference.compare(
      bench(tmp_path, asked, SPEAKERS, options={"baseline": "ppo"})
    )
    assert set(rates(found)) >= {("sft", "ppo")}

  def test_how_models_are_asked(self, tmp_path, asked):
    speakers = {name: dataclasses.replace(x, heard=[]) for name, x in
                SPEAKERS.items()}  # fmt: skip
    options = {"temperature": "0.5", "max_tokens": "7"}
    preference.compare(bench(tmp_path, asked, speakers, options=options))
    prompts = [record["prompt"] for record in asked]
    assert speakers["sft"].heard == [(prompts, 7, 0.5)]

  def test_likert_and_flags(self, tmp_path, asked):
    found = likert.compare(bench(tmp_path, asked, SPEAKERS, name="likert"))
    grades = [
      world_judge.grade(x["spec"], "ann lives in oslo .") for x in asked
    ]
    (row,) = [
      r for r in found.tables["likert"] if r["subject"] == "sft" and len(r) == 6
    ]
    np.testing.assert_allclose(
      row["value"], np.mean([g["likert"] for g in grades])
    )
    of = {
      r["flag"]: r["value"]
      for r in found.tables["metadata"]
      if r["subject"] == "sft" and "source" not in r
    }
    np.testing.assert_allclose(
      of["wrong_task"], np.mean([g["fails_instruction"] for g in grades])
    )
    assert "hallucination" not in of  # nothing to keep to in an open question
    assert of["sexual"] == 0.0
    assert "hallucination" in found.notes[-1]
    assert "sexual" not in found.notes[-1]
    assert found.metrics["sft"]["likert"].value == row["value"]

  def test_an_answer_that_was_cut(self, tmp_path, asked):
    """It is no fluent one, which the judge and the labelers can see."""
    cut = {"cut": dataclasses.replace(SPEAKERS["sft"], ended=False)}
    found = likert.compare(bench(tmp_path, asked, cut, name="likert"))
    assert found.metrics["cut"]["inappropriate"].value == 1
    assert found.counts == {"responses cut by their length": 6}

  def test_prompts_without_a_spec(self, tmp_path, asked):
    given = [*asked[:2], {"prompt": "mine"}]
    wanted = bench(tmp_path, given, SPEAKERS, options={"judge": "world"})
    with pytest.raises(errors.UserError, match=r"prompt 3 \('mine'\) has no"):
      preference.compare(wanted)
    with pytest.raises(errors.UserError, match=r"prompt 3 \('mine'\) has no"):
      likert.compare(bench(tmp_path, given, SPEAKERS, name="likert"))

  def test_a_world_where_nobody_judges(self, tmp_path, asked):
    options = {"world": "files"}
    with pytest.raises(errors.UserError, match="world=files: nobody in this"):
      preference.compare(bench(tmp_path, asked, SPEAKERS, options=options))


def scorer(score=len, accuracy=None):
  return contract.Scorer(
    name="rm",
    described={},
    accuracy=accuracy or {},
    score=lambda prompts, answers, ended: np.asarray(
      [float(score(x)) for x in answers]
    ),
  )


class TestReward:
  def test_what_it_likes_better(self, tmp_path):
    """Longer ones: b loses the first, wins the second."""
    found = preference.compare(
      bench(tmp_path, PLAIN, TWO, scorer=scorer(accuracy={"on x": 0.7}))
    )
    assert rates(found) == {
      ("b", "a"): 0.5,
      ("b", "a", "gpt"): 0.0,
      ("b", "a", "own"): 1.0,
    }
    assert found.tables["judge_accuracy"] == [
      {"judge": "rm", "on": "on x", "value": 0.7}
    ]
    assert "no person" in found.notes[0]

  def test_its_accuracy_on_held_out_rankings(self, tmp_path):
    """Of three pairs it has one right, one wrong and one it cannot tell."""
    path = tmp_path / "held.jsonl"
    rows = [
      {"prompt": "p", "responses": ["aaa", "b", "c"], "ranks": [2, 1, 3]},
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    files = {"held_out": str(path)}
    found = preference.compare(
      bench(tmp_path, PLAIN, TWO, scorer=scorer(), files=files)
    )
    (row,) = found.tables["judge_accuracy"]
    # b over aaa: wrong; aaa over c: right; b over c: as long.
    assert (row["value"], row["n"], row["clusters"]) == (0.5, 3, 1)
    assert "unread" not in row

  def test_pairs_that_it_cannot_read_are_counted(self, tmp_path):
    path = tmp_path / "held.jsonl"
    row = {"prompt": "p", "responses": ["aaa", "b", "cc"], "ranks": [2, 1, 3]}
    path.write_text(json.dumps(row))

    def score(text):
      return np.nan if text == "aaa" else len(text)

    found = preference.compare(
      bench(
        tmp_path, PLAIN, TWO, scorer=scorer(score),
        files={"held_out": str(path)},
      )
    )  # fmt: skip
    (row,) = found.tables["judge_accuracy"]
    # b over cc: wrong; the two pairs of aaa: who knows.
    assert (row["value"], row["n"], row["unread"]) == (0.0, 1, 2)

  def test_prompts_that_it_cannot_read(self, tmp_path):
    def score(text):
      return np.nan if text == "x" else len(text)

    found = preference.compare(
      bench(tmp_path, PLAIN, TWO, scorer=scorer(score))
    )
    assert rates(found) == {("b", "a"): 0.0, ("b", "a", "gpt"): 0.0}
    assert found.counts["prompts longer than the judge reads"] == 1
    assert "is not known" in found.notes[0]
    with pytest.raises(errors.UserError, match="reads none of the prompts"):
      preference.compare(
        bench(tmp_path, PLAIN, TWO, scorer=scorer(lambda _: np.nan))
      )


class TestEndpoint:
  def options(self, server, **more):
    of = {"judge": "endpoint", "endpoint": server.url, "model": "j"}
    return of | more

  def test_what_it_says(self, serve, tmp_path):
    server = serve(model_judge_test.longer)
    given = bench(tmp_path, PLAIN, TWO, options=self.options(server))
    found = preference.compare(given)
    assert rates(found)["b", "a"] == 0.5
    assert found.counts == {
      "questions": 2,
      "answers": 4,
      "prompt tokens": 400,
      "completion tokens": 12,
    }
    assert "400 tokens read, 12 written" in found.notes[0]
    # Again: the same, and nobody is asked.
    assert preference.compare(given) == found
    assert sum(server.asked.values()) == 4
    assert server.bodies[0]["max_tokens"] == 16
    assert "Authorization" not in server.headers[0]

  def test_which_pairs(self, serve, tmp_path):
    three = TWO | {"c": Speaker(("zz", "zz"))}
    for pairs, asked_for in (("baseline", 8), ("all", 12)):
      server = serve(model_judge_test.longer)
      folder = tmp_path / pairs
      folder.mkdir()
      options = self.options(server, pairs=pairs, request='{"n": 1}')
      preference.compare(bench(folder, PLAIN, three, options=options))
      assert sum(server.asked.values()) == asked_for
      assert server.bodies[0]["n"] == 1
      assert "max_tokens" not in server.bodies[0]

  def test_half_of_the_answers(self, serve, tmp_path):
    server = serve(
      lambda a, b, times: (
        (400, {}, b"")
        if "x" in (a, b)
        else model_judge_test.longer(a, b, times)
      )
    )
    found = preference.compare(
      bench(tmp_path, PLAIN, TWO, options=self.options(server))
    )
    assert rates(found) == {("b", "a"): 0.0, ("b", "a", "gpt"): 0.0}
    assert (found.counts["failed"], found.counts["no verdict"]) == (2, 1)

  def test_no_verdict_at_all(self, serve, tmp_path):
    server = serve(lambda *_: "nonsense")
    with pytest.raises(errors.UserError, match="no verdict on any of 2"):
      preference.compare(
        bench(tmp_path, PLAIN, TWO, options=self.options(server))
      )

  @pytest.mark.parametrize(
    ("options", "said"),
    [
      ({"judge": "endpoint"}, r"preference\.endpoint=https://HOST/v1"),
      ({"request": "nonsense"}, "an object is right"),
      ({"pairs": "some"}, "unknown .*pairs 'some'"),
      ({"key": "NO_SUCH_VARIABLE"}, "NO_SUCH_VARIABLE is not set"),
      ({"workers": "0"}, "whole number from 1"),
    ],
  )
  def test_what_is_wrong_before_anybody_is_asked(
    self, tmp_path, options, said, monkeypatch
  ):
    monkeypatch.delenv("NO_SUCH_VARIABLE", raising=False)
    if "judge" not in options:
      options = options | {"judge": "endpoint", "model": "j"}
      options = {"endpoint": "http://127.0.0.1:9/v1"} | options
    speakers = {
      name: dataclasses.replace(x, heard=[]) for name, x in TWO.items()
    }
    with pytest.raises(errors.UserError, match=said):
      preference.compare(bench(tmp_path, PLAIN, speakers, options=options))
    assert not speakers["a"].heard


class TestPeople:
  def ranking(self, ranks, labeler="l1", prompt="p", **more):
    record = {"prompt": prompt, "responses": ["one", "two"], "ranks": ranks}
    return record | {"models": ["a", "b"], "labeler": labeler} | more

  def test_rankings(self, tmp_path):
    given = [
      self.ranking([1, 2], source="gpt"),
      self.ranking([1, 2], labeler="l2", source="gpt"),
      self.ranking([2, 1], prompt="q", source="own"),
    ]
    found = preference.compare(bench(tmp_path, given, {}))
    assert rates(found) == {
      ("b", "a"): 1 / 3,
      ("b", "a", "gpt"): 0.0,
      ("b", "a", "own"): 1.0,
    }
    (agreeing,) = found.tables["labeler_agreement"]
    assert agreeing["pairwise"] == 1.0
    assert [r["model"] for r in found.tables["strengths"]] == ["a", "b"]
    assert found.metrics["b"]["win_rate"].value == pytest.approx(1 / 3)
    assert len(found.samples) == 3
    turned = preference.compare(
      bench(tmp_path, given, {"m": None}, options={"baseline": "b"})
    )
    assert rates(turned)["a", "b"] == pytest.approx(2 / 3)

  def test_rankings_of_one_model(self, tmp_path):
    given = [self.ranking([1, 2], models=["a", "a"])]
    with pytest.raises(errors.UserError, match="compare no two models"):
      preference.compare(bench(tmp_path, given, {"m": None}))

  def test_judgments(self, tmp_path):
    given = [
      {"prompt": "p", "response": "r", "model": "a", "labeler": who,
       "likert": grade, "metadata": {"violent": False}}
      for who, grade in (("l1", 4), ("l2", 6))
    ]  # fmt: skip
    found = likert.compare(bench(tmp_path, given, {"m": None}, name="likert"))
    (row,) = found.tables["likert"]
    assert (row["subject"], row["value"]) == ("a", 5.0)
    (flag,) = found.tables["metadata"]
    assert (flag["flag"], flag["value"]) == ("violent", 0.0)
    assert [r["what"] for r in found.tables["labeler_agreement"]] == [
      "likert",
      "violent",
    ]
    assert found.notes[0] == "Judged by people."

  def test_ratings_of_rankings(self, tmp_path):
    given = [self.ranking([1, 2], ratings=[7, 3])]
    found = likert.compare(bench(tmp_path, given, {"m": None}, name="likert"))
    assert {r["subject"]: r["value"] for r in found.tables["likert"]} == {
      "a": 7.0,
      "b": 3.0,
    }
    given = [self.ranking([1, 2])]
    with pytest.raises(errors.UserError, match='neither "ratings" nor'):
      likert.compare(bench(tmp_path, given, {"m": None}, name="likert"))


def test_no_model_where_somebody_must_answer(tmp_path, asked):
  for one, name in ((preference, "preference"), (likert, "likert")):
    with pytest.raises(errors.UserError, match="--run: name the models"):
      one.compare(bench(tmp_path, asked, {}, name=name))


def test_one_model_alone(tmp_path, asked):
  found = preference.compare(bench(tmp_path, asked, {"a": None}))
  assert found.tables == {}
  assert "nobody to be preferred to" in found.notes[0]


@pytest.mark.parametrize(
  ("options", "said"),
  [
    ({}, "nobody judges"),
    ({"judge": "wrld"}, "unknown .*judge 'wrld'. Did you mean 'world'"),
    ({"judge": "reward"}, "--scorer=RUN names"),
    ({"baseline": "c", "judge": "world"}, "baseline 'c'"),
    ({"judge": "reward", "temperature": "hot"}, "temperature=hot: a number"),
  ],
)
def test_wrong_options(tmp_path, options, said):
  more = {"scorer": scorer()} if "temperature" in options else {}
  with pytest.raises(errors.UserError, match=said):
    preference.compare(bench(tmp_path, PLAIN, TWO, options=options, **more))
