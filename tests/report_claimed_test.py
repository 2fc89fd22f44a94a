"""The page says what a run has of each claim, and what it cannot say."""

import pytest

from instruct_jax.report import claimed, page
from tests import figures_claims_toys as toys
from tests import report_toys

HERE = {"data": {"source": "microworld"}}


def _section(results, seed=0, config=HERE):
  found = claimed.section(results, seed, config)
  assert found is not None
  return found


def _lines(section, claim):
  """The lines of a claim, its own first."""
  start = next(
    n for n, x in enumerate(section.lines) if x.words.startswith(f"{claim}. ")
  )
  rest = section.lines[start + 1 :]
  count = next((n for n, x in enumerate(rest) if x.is_claim), len(rest))
  return section.lines[start : start + 1 + count]


def test_one_run_decides_nothing():
  section = _section({"ppo_ptx": {0: toys.default()}})
  claim, wins, *_ = _lines(section, "1")
  assert claim.verdict == "not decided: 4 seeds missing"
  assert wins.words == "PPO-ptx over SFT, above 52 %"
  assert (wins.run, wins.seeds) == ("58.0 %", "")
  assert wins.verdict == "points to it"
  assert _lines(section, "4")[1].run == "2.10×"
  assert not section.has_seeds
  assert not any(line.verdict == "shown" for line in section.lines)


@pytest.mark.parametrize(
  ("share", "word"),
  [
    (0.521, "points to it"),
    (0.51, "points to neither"),
    (0.49, "points the other way"),
  ],
)
def test_where_a_number_points(share, word):
  tree = toys.default()
  tree["metrics"]["preference/ppo_ptx_over_sft/training"] = share
  _, wins, *_ = _lines(_section({"ppo_ptx": {0: tree}}), "1")
  assert wins.verdict == word


def test_all_seeds_give_the_verdict():
  section = _section({"ppo_ptx": toys.every()["ppo_ptx"]}, seed=1)
  claim, wins, *_ = _lines(section, "1")
  assert claim.verdict == "shown"
  assert wins.run == "59.0 %"
  assert wins.seeds.startswith("58.0 % [")
  assert wins.verdict == "shown"


def test_other_seeds_stand_beside_it():
  seeds = toys.every()["ppo_ptx"]
  del seeds[2]
  claim, wins, *_ = _lines(_section({"ppo_ptx": seeds}), "1")
  assert claim.verdict == "not decided: 1 seed missing"
  assert wins.seeds == "58.0 / 59.0 / 58.5 / 57.5 %"


def test_a_seed_that_does_not_decide_is_shown():
  section = _section({"ppo_ptx": {9: toys.default()}}, seed=9)
  claim, wins, *_ = _lines(section, "1")
  assert (wins.run, wins.verdict) == ("58.0 %", "points to it")
  assert claim.verdict == "not decided: 5 of 5 parts missing"


def test_what_needs_the_sweep_is_said():
  section = _section({"ppo_ptx": {0: toys.default()}})
  folds = _lines(section, "3")[-1]
  assert (folds.run, folds.verdict) == ("–", "needs the sweep")
  assert _lines(section, "3")[0].verdict == "not decided: 1 of 4 parts missing"
  ((what, which),) = section.missing
  assert what.startswith("measured by the sweep, python -m instruct_jax.main")
  assert which == "Claims 2, 8, 11, 12, A, B and C"


def test_what_a_default_run_lacks_is_said():
  tree = toys.default()
  tree["metrics"] = {
    k: x for k, x in tree["metrics"].items() if "mistakes" not in k
  }
  section = _section({"ppo_ptx": {0: tree}})
  *_, guard = _lines(section, "10")
  assert guard.verdict == "points to it"
  del tree["metrics"]["metadata/fails_instruction/ppo_ptx"]
  section = _section({"ppo_ptx": {0: tree}})
  assert ("not measured in this run", "Claim 10") in section.missing


def test_nothing_of_it_elsewhere():
  results = {"ppo_ptx": {0: toys.default()}}
  assert claimed.section(results, 0, {"data": {"source": "files"}}) is None
  assert claimed.section(results, 0, {}) is None
  assert claimed.section({"rm": {0: {"metrics": {}}}}, 0, HERE) is None


def _run(folder, experiment, tree, seed=0, variant="tiny"):
  results = report_toys.results_of(experiment) | tree
  results |= {"seed": seed, "variant": variant}
  config = HERE | {"experiment": experiment, "variant": variant, "seed": seed}
  return report_toys.write(folder, results=results, config=config)


def test_on_the_page(tmp_path):
  """Of all stages of the chain, and of the seeds beside it."""
  chosen = {"select/loss/8": 1.0, "select/loss/16": 1.5}
  chosen |= {"select/score/8": 0.1, "select/score/16": 0.2}
  select = _run(tmp_path / "select", "select", {"metrics": chosen})
  run = _run(tmp_path / "ppo_ptx", "ppo_ptx", toys.default())
  other = _run(tmp_path / "other", "ppo_ptx", toys.default(0.01), seed=1)
  text = page.write(run, [select, run], [[other]]).read_text()
  assert '<a href="#claims">' in text
  assert '<td class="n">58.0 / 59.0 %</td>' in text
  assert "least validation loss of a later epoch" in text
  assert '<td class="n">+0.500 nats</td>' in text
  alone = page.write(run, [select, run]).read_text()
  assert "58.0 / 59.0 %" not in alone


def test_a_run_that_learns_nothing_has_no_such_section(tmp_path):
  run = _run(tmp_path / "one", "ppo_ptx", toys.default(), variant="test")
  assert "#claims" not in page.write(run, [run]).read_text()
