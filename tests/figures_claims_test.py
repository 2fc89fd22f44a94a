"""The paper's claims: their margins, effects and verdicts, by hand."""

import math
import pathlib

import pytest

from experiments import figures, ppo, ppo_ptx, sizes, sweeps
from instruct_jax.figures import claims, criteria, effects, verdicts
from tests import figures_claims_toys as toys

BY_KEY = {claim.key: claim for claim in claims.CLAIMS}

# Of every part: a number that is just enough, one that is just too little, and
# one that is just the reverse (None: nothing is).
EDGES = {
  "1": [
    (0.521, 0.519, 0.499),
    (0.521, 0.519, 0.499),
    (0.521, 0.519, 0.499),
    (0.606, 0.604, 0.499),  # half of the way to 71 %
    (0.676, 0.674, 0.499),  # to 85 %
  ],
  "2": [(0.521, 0.519, 0.499), (10.1, 10, 9.9), (0.001, 0, -0.001)],
  "3": [
    (0.029, 0.03, 0.031),
    (-0.029, -0.03, -0.031),
    (0.521, 0.519, 0.499),
    (0.751, 0.75, 0.749),
  ],
  "4": [(1.51, 1.49, 0.99), (1.51, 1.49, 0.99), (-0.049, -0.05, -0.051)],
  "5": [(0.756, 0.757, 1.01), (0.99, 1, 1.01)],  # half of 1 - 21 / 41
  "6": [(0.874, 0.876, 1.01), (0.021, 0.019, -0.001)],
  "7": [
    (0.099, -0.11, 0.101),
    (-0.099, -0.11, 0.101),
    (0.099, 0.11, -0.101),
    (-0.099, 0.11, -0.101),
  ],
  "8": [
    (0.021, 0.019, -0.001),
    (0.51, 0.49, -0.01),
    (0.471, 0.47, 0.469),
    (0.011, 0.009, -0.001),
  ],
  "9": [(0.51, 0.49, -0.01)] * 4,
  "10": [
    (0.101, 0.1, 0.099),
    (0.101, 0.1, 0.099),
    (0.101, 0.099, -0.001),
    (0.751, 0.75, 0.749),
  ],
  "11": [(0.001, 0, -0.001), (0.001, 0, -0.001)],
  "12": [(0.641, 0.639, 0.499), (0.646, 0.644, 0.499)],  # 78 and 79 %
  "A": [(0.001, 0, -0.001), (-0.001, 0, 0.001)],
  "B": [(-0.029, -0.03, -0.031), (0.521, 0.519, 0.499)],
  "C": [(-0.029, -0.03, -0.031), (0.521, 0.519, 0.499)],
}


@pytest.mark.parametrize("key", BY_KEY)
def test_margins(key):
  """A margin or a side that changed is noticed, whichever it is."""
  parts = BY_KEY[key].parts
  assert len(parts) == len(EDGES[key])
  for part, (enough, little, contrary) in zip(parts, EDGES[key]):
    words = part.words
    assert part.criterion.points_to(enough) == criteria.SHOWN, words
    assert part.criterion.points_to(little) == criteria.NOT_SHOWN, words
    assert part.criterion.points_to(contrary) == criteria.REVERSED, words


def test_other_seeds_decide_again_by_the_same_criteria():
  for claim in claims.CLAIMS:
    again = claims.again(claim)
    assert len(again.parts) == len(claim.parts)
    for part, before in zip(again.parts, claim.parts):
      assert part.source.seeds == claims.AGAIN
      assert not set(before.source.seeds) & set(claims.AGAIN)
      assert part.criterion == before.criterion
      assert part.effect == before.effect
      assert part.source.runs == before.source.runs


def test_twelve_claims_and_what_the_successors_showed():
  assert [claim.key for claim in claims.PAPER] == [*map(str, range(1, 13))]
  assert [claim.key for claim in claims.SUCCESSORS] == ["A", "B", "C"]
  assert all(claim.why and claim.paper for claim in claims.CLAIMS)


def _effect(key, part, results):
  """The numbers that a part is made of, of seed 0."""
  chosen = BY_KEY[key].parts[part]
  found = effects.Found(results)
  top = chosen.effect(found)
  return top if chosen.by is None else top / chosen.by(found)


EFFECTS = {
  ("1", 0): 0.58,
  ("1", 4): 0.82,
  ("2", 0): 0.7,
  ("2", 1): 20,
  ("2", 2): 0.3,
  ("3", 0): -0.01,
  ("3", 2): 0.57,
  ("3", 3): 0.18 / 0.2,
  ("4", 0): 2.1,
  ("4", 1): 2.2,
  ("4", 2): 0.1,
  ("5", 0): 21 / 41,
  ("5", 1): 20 / 35,
  ("6", 0): 0.5,
  ("6", 1): 0.2,
  ("7", 0): -0.02,
  ("7", 3): 0.02,
  ("8", 0): 0.1,
  ("8", 1): 0.8,
  ("8", 2): 0.5,
  # β 0.5 lacks 6 points of tasks and 2 of wins, β 2 1 and 7: the less of 6, 7.
  ("8", 3): 0.06,
  ("9", 0): 3,
  ("9", 1): 2,
  ("9", 3): 1.5,
  ("10", 0): 0.6,
  ("10", 1): 0.3,
  ("10", 2): 0.3,
  ("10", 3): 0.9,
  ("11", 0): 0.05,
  ("11", 1): 0.5,
  ("12", 0): 0.78,
  ("12", 1): 0.79,
  ("A", 0): 2,  # (4 + 5) / 2 - (2 + 3) / 2
  ("A", 1): -3,  # (3 + 2) / 2 - (6 + 5) / 2
  ("B", 0): 0.02,
  ("C", 0): 0,
}


@pytest.mark.parametrize(("key", "part"), EFFECTS)
def test_effects(key, part):
  source = BY_KEY[key].parts[part].source
  results = toys.default() if source.is_default else toys.sweep()
  assert _effect(key, part, [results]) == pytest.approx(EFFECTS[key, part])


def test_all_is_shown_where_all_comes_out():
  words = {v.claim.key: v.word for v in verdicts.decide(toys.every())}
  assert words == dict.fromkeys(BY_KEY, criteria.SHOWN)


def _decide(key, results):
  (verdict,) = verdicts.decide(results, [BY_KEY[key]])
  return verdict


def test_interval_over_seeds_by_hand():
  """0.02 apart by seed: 0.58 ± t √(s² / 5), t = 2.776, s² = 6.25e-5."""
  part = _decide("1", toys.every()).parts[0]
  half = 2.7764 * math.sqrt(6.25e-5 / 5)
  assert part.interval.value == pytest.approx(0.58)
  assert part.interval.low == pytest.approx(0.58 - half, abs=1e-5)
  assert part.interval.high == pytest.approx(0.58 + half, abs=1e-5)
  assert part.values == pytest.approx(
    {n: 0.58 + shift for n, shift in enumerate(toys.SHIFTS)}
  )


def _with(results, experiment, name, values):
  for seed, value in enumerate(values):
    results[experiment][seed]["metrics"][name] = value
  return results


WINS = "preference/ppo_ptx_over_sft/training"


@pytest.mark.parametrize(
  ("values", "word"),
  [
    ([0.55, 0.56, 0.57, 0.55, 0.56], criteria.SHOWN),
    # Its mean is beyond the margin, its interval is not.
    ([0.50, 0.50, 0.60, 0.52, 0.53], criteria.NOT_SHOWN),
    ([0.515, 0.516, 0.514, 0.515, 0.515], criteria.NOT_SHOWN),
    ([0.46, 0.47, 0.48, 0.46, 0.47], criteria.REVERSED),
    # Below even, but not told from it.
    ([0.40, 0.55, 0.45, 0.52, 0.50], criteria.NOT_SHOWN),
  ],
)
def test_the_interval_decides(values, word):
  results = _with(toys.every(), "ppo_ptx", WINS, values)
  verdict = _decide("1", results)
  assert verdict.parts[0].outcome == word
  assert verdict.word == word


def test_one_part_that_is_not_shown_keeps_the_claim_from_it():
  wins = "preference/prompted_gpt_over_gpt/training"
  results = _with(toys.every(), "ppo_ptx", wins, [0.5, 0.51, 0.5, 0.49, 0.5])
  verdict = _decide("1", results)
  assert [one.outcome for one in verdict.parts].count(criteria.SHOWN) == 4
  assert verdict.word == criteria.NOT_SHOWN


def test_a_guard_never_reverses():
  truthful = "truthfulness/qa_truthful/ppo_ptx"
  results = _with(toys.every(), "ppo_ptx", truthful, [0.2, 0.21, 0.2, 0.2, 0.2])
  verdict = _decide("4", results)
  assert verdict.parts[2].outcome == criteria.REVERSED
  assert verdict.word == criteria.NOT_SHOWN


def test_the_rule_for_parts():
  shown, other = (criteria.SHOWN, False), (criteria.NOT_SHOWN, False)
  contrary, guard = (criteria.REVERSED, False), (criteria.REVERSED, True)
  absent = (criteria.NOT_MEASURED, True)
  assert criteria.together([shown, shown]) == criteria.SHOWN
  assert criteria.together([shown, other]) == criteria.NOT_SHOWN
  assert criteria.together([shown, contrary, other]) == criteria.REVERSED
  assert criteria.together([shown, guard]) == criteria.NOT_SHOWN
  assert criteria.together([shown, contrary, absent]) == criteria.NOT_MEASURED


@pytest.mark.parametrize(
  ("low", "high", "word"),
  [
    (-0.02, 0.02, criteria.SHOWN),
    (-0.02, 0.04, criteria.NOT_SHOWN),
    (0.031, 0.05, criteria.REVERSED),
    (-0.05, -0.031, criteria.REVERSED),
    (-math.inf, math.inf, criteria.NOT_SHOWN),
  ],
)
def test_no_difference(low, high, word):
  assert criteria.within(0.03).outcome(low, high) == word


def test_a_bias_that_grows_is_no_reverse_of_one_that_does_not_improve():
  entropy, stereotyped = BY_KEY["7"].parts[0], BY_KEY["7"].parts[2]
  assert entropy.criterion.outcome(-0.3, -0.2) == criteria.NOT_SHOWN
  assert entropy.criterion.outcome(0.2, 0.3) == criteria.REVERSED
  assert stereotyped.criterion.outcome(0.2, 0.3) == criteria.NOT_SHOWN
  assert stereotyped.criterion.outcome(-0.3, -0.2) == criteria.REVERSED


def test_seeds_that_are_missing_are_said():
  results = toys.every()
  del results["ppo_ptx"][1], results["ppo_ptx"][4]
  verdict = _decide("6", results)
  assert verdict.word == criteria.NOT_MEASURED
  assert (
    verdict.parts[0].lacking == "no results of the default run (seeds 1, 4)"
  )
  assert verdict.parts[0].pointing == dict.fromkeys((0, 2, 3), criteria.SHOWN)


def test_more_seeds_do_not_decide():
  results = toys.every()
  results["ppo_ptx"][5] = toys.default(-0.5)
  assert _decide("1", results).word == criteria.SHOWN
  assert 5 not in _decide("1", results).parts[0].values


def test_metrics_that_are_missing_are_said():
  results = toys.every()
  for seed in results["ppo_ptx"].values():
    del seed["metrics"]["hallucination/attempts/gpt"]
  results["ppo_ptx"][2]["metrics"]["hallucination/all/gpt"] = math.nan
  first, second = _decide("5", results).parts
  assert first.lacking == "hallucination/attempts/gpt (seeds 0, 1, 2, 3, 4)"
  assert second.lacking == "hallucination/all/gpt (seed 2)"


def test_a_win_may_be_told_from_the_other_side():
  results = toys.every()
  for seed in results["ppo_ptx"].values():
    won = seed["metrics"].pop(WINS)
    seed["metrics"]["preference/sft_over_ppo_ptx/training"] = 1 - won
  assert _decide("1", results).parts[0].interval.value == pytest.approx(0.58)
  for seed in results["ppo_ptx"].values():
    del seed["metrics"]["preference/sft_over_ppo_ptx/training"]
  assert WINS in _decide("1", results).parts[0].lacking


def test_models_beside_other_sizes_are_those_of_the_default_size():
  results = toys.every()
  for seed in results["figures"].values():
    metrics = seed["metrics"]
    for method in ("flan", "t0"):
      won = metrics.pop(f"preference/ppo_ptx_over_{method}/training")
      name = f"preference/medium_ppo_ptx_over_medium_{method}/training"
      metrics[name] = won
  assert _decide("12", results).word == criteria.SHOWN


def test_runs_of_their_own_stand_for_the_sweep():
  """DPO and PPO from runs of their own; folds from theirs."""
  results = toys.every()
  won = {"dpo": 0.61, "ppo": 0.57}
  for name, share in won.items():
    metric = f"preference/{name}_over_sft/training"
    results[name] = {n: {"metrics": {metric: share}} for n in range(3)}
  results["rm_folds"] = {}
  for n, seed in results.pop("figures").items():
    results["rm_folds"][n] = seed
  verdict = _decide("B", results)
  assert verdict.parts[0].interval.value == pytest.approx(0.04)
  assert _decide("3", results).word == criteria.SHOWN
  del results["ppo"]
  assert _decide("B", results).word == criteria.NOT_MEASURED


class TestPenalties:
  def _found(self, **changed):
    results = toys.sweep()
    rows = results["tables"]["models"]
    for row in rows:
      row.update(changed.get(row["subject"].replace(".", ""), {}))
    return effects.Found([results])

  def test_a_penalty_that_does_as_well_in_both_refutes(self):
    results = toys.sweep()
    results["metrics"]["nlp/mean/ppo_kl0.5"] = 0.7
    results["metrics"]["preference/ppo_kl0.5_over_sft/training"] = 0.6
    found = effects.Found([results])
    assert effects.shortfall_of_penalties(found) == pytest.approx(-0.02)

  def test_only_what_differs_in_the_penalty_alone_counts(self):
    found = self._found(ppo_kl05={"learning_rate": 1e-3})
    assert effects.shortfall_of_penalties(found) == pytest.approx(0.07)
    found = self._found(ppo_kl05={"ptx_coef": 0.3})
    assert effects.shortfall_of_penalties(found) == pytest.approx(0.07)

  def test_the_default_is_no_larger_penalty(self):
    results = toys.sweep()
    results["metrics"]["nlp/mean/ppo"] = 0.675  # lacks half a point
    found = effects.Found([results])
    assert effects.shortfall_of_penalties(found) == pytest.approx(0.06)

  def test_a_sweep_must_go_far_enough(self):
    found = self._found(ppo_kl2={"kl_coef": 0.9})
    with pytest.raises(effects.Missing, match="β of 10 times"):
      effects.shortfall_of_penalties(found)
    found = self._found(ppo={"kl_coef": None})
    with pytest.raises(effects.Missing, match="ppo with its kl_coef"):
      effects.shortfall_of_penalties(found)


class TestEpochs:
  def test_from_what_chose_the_epoch(self):
    """Steps in the order of their numbers."""
    chosen = {
      f"select/{kind}/{step}": value
      for kind, values in {"loss": [3, 1, 2], "score": [0, 4, 5]}.items()
      for step, value in zip((24, 8, 16), values)
    }
    found = effects.Found([{"metrics": chosen}])
    assert effects.loss_after_the_first_epoch(found) == 1  # 2 - 1
    assert effects.score_after_the_first_epoch(found) == -4  # 0 - 4

  def test_two_are_enough(self):
    chosen = {"select/loss/8": 1.0, "select/loss/16": 1.5}
    found = effects.Found(
      [{"metrics": chosen | {"select/score/8": 0.5, "select/score/16": 0.25}}]
    )
    assert effects.loss_after_the_first_epoch(found) == 0.5
    assert effects.score_after_the_first_epoch(found) == -0.25

  @pytest.mark.parametrize(
    ("rows", "what"),
    [
      ([], "^the table epochs"),
      ([{"epoch": 2, "loss": 1, "score": 1}] * 2, "the first epoch"),
      ([{"epoch": 1, "loss": 1}, {"epoch": 2, "loss": 1}], "loss and score"),
    ],
  )
  def test_missing(self, rows, what):
    found = effects.Found([{"tables": {"epochs": rows}}])
    with pytest.raises(effects.Missing, match=what):
      effects.loss_after_the_first_epoch(found)


def test_a_way_with_few_points_is_not_measured():
  results = toys.sweep()
  del results["tables"]["overoptimization"][2]
  with pytest.raises(effects.Missing, match="6 points"):
    effects.last_third("gold")(effects.Found([results]))


def test_a_table_without_parameters_is_not_measured():
  results = toys.sweep()
  for row in results["tables"]["models"]:
    row.pop("parameters", None)
  with pytest.raises(effects.Missing, match="parameters of large_gpt"):
    effects.parameters("large_gpt")(effects.Found([results]))


@pytest.mark.parametrize(
  ("unit", "value", "text"),
  [
    (criteria.SHARE, 0.5716, "57.2 %"),
    (criteria.POINTS, 0.031, "+3.1 points"),
    (criteria.POINTS, -0.0001, "0.0 points"),
    (criteria.TIMES, 2.104, "2.10×"),
    (criteria.BITS, 0.0123, "+0.012 bits"),
    (criteria.NATS, -0.0567, "-0.057 nats"),
    (criteria.TIMES, math.inf, "∞"),
    (criteria.TIMES, math.nan, "–"),
  ],
)
def test_numbers_as_people_read_them(unit, value, text):
  assert unit.number(value) == text


def test_criteria_in_words():
  assert criteria.above(0.52).described(criteria.SHARE) == "above 52 %"
  assert criteria.above(-0.03).described(criteria.POINTS) == "above -3 points"
  assert criteria.above(0.01).described(criteria.POINTS) == "above 1 point"
  assert criteria.below(0.875).described(criteria.TIMES) == "below 0.875×"
  words = criteria.within(0.03).described(criteria.POINTS)
  assert words == "within ± 3 points"


def test_no_effect_beyond_the_margin_is_a_mistake():
  for make in (
    lambda: criteria.above(0.5, nothing=0.6),
    lambda: criteria.below(0.5, nothing=0.4),
    lambda: criteria.within(-1),
  ):
    with pytest.raises(ValueError, match="margin"):
      make()


class TestExperiments:
  """What a claim asks for is what an experiment is configured to measure."""

  def _subjects(self, module, *variants):
    configs = [module.get_config(variant) for variant in variants]
    return {name for one in configs for name in one.evaluation.subjects}

  def test_default(self):
    due = {"gpt", "prompted_gpt", "sft", "ppo_ptx"}
    assert due <= self._subjects(ppo_ptx, "tiny")

  def test_sizes(self):
    names = (f"compare-tiny-{size}" for size in ("small", "medium", "large"))
    due = {"small_gpt", "large_gpt", "small_ppo_ptx"}
    due |= {f"medium_{name}" for name in ("ppo_ptx", "ppo", "flan", "t0")}
    assert due <= self._subjects(sizes, *names)

  def test_sweeps(self):
    """One comparison of γ has PPO and PPO-ptx, one of β what goes further."""
    due = {"gpt", "sft", "ppo", "ppo_ptx"}
    assert due <= self._subjects(sweeps, "compare-tiny-gamma")
    assert "ppo" in self._subjects(sweeps, "compare-tiny-kl")
    most = max(float(x) for x in sweeps.values("kl", "tiny"))
    default = ppo.get_config("tiny").rl.kl_coef
    assert most >= effects.MOST_PENALTY * default

  def test_what_the_successors_showed(self):
    name = "compare-tiny-alternatives"
    assert {"sft", "ppo", "dpo", "rloo"} <= self._subjects(figures, name)

  def test_every_run_is_an_experiment(self):
    names = {
      name
      for claim in claims.CLAIMS
      for part in claim.parts
      for runs in part.source.runs
      for name in runs
    }
    folder = pathlib.Path(figures.__file__).parent
    assert names <= {path.stem for path in folder.glob("*.py")}
