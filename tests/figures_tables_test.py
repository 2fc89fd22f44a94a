"""The tables of claims and of what is expected: from files, by toy results."""

import json
import math

import pytest

from instruct_jax.base import errors
from instruct_jax.figures import (
  claim_table,
  collected,
  criteria,
  expected,
  verdicts,
)
from tests import figures_claims_toys as toys


def write(folder, results=None, **more):
  """Writes {experiment: {seed: results}} as what was taken over."""
  folder.mkdir(exist_ok=True)
  for name, seeds in (results or toys.every()).items():
    for seed, tree in seeds.items():
      kept = {"experiment": name, "variant": "tiny", "seed": seed} | tree | more
      path = folder / f"{name}-tiny-seed{seed}.json"
      path.write_text(json.dumps(kept))
  return folder


def _json(capsys, folder):
  claim_table.main([f"--runs={folder}", "--format=json"])
  return json.loads(capsys.readouterr().out)


class TestClaims:
  def test_from_files_to_words(self, tmp_path, capsys):
    found = _json(capsys, write(tmp_path))
    assert {one["verdict"] for one in found["claims"]} == {"shown"}
    order = found["claims"][0]
    assert order["claim"] == "1"
    assert order["parts"][0]["value"] == pytest.approx(0.58)
    assert order["parts"][0]["criterion"] == "above 52 %"
    assert order["parts"][0]["seeds"]["1"] == pytest.approx(0.59)

  def test_runs_as_they_lie_in_a_workdir(self, tmp_path, capsys):
    for path in write(tmp_path / "flat").iterdir():
      home = tmp_path / "runs" / path.stem
      home.mkdir(parents=True)
      path.rename(home / "results.json")
    found = _json(capsys, tmp_path / "runs")
    assert {one["verdict"] for one in found["claims"]} == {"shown"}

  def test_other_variants_are_no_part_of_it(self, tmp_path):
    write(tmp_path)
    other = tmp_path / "ppo_ptx-large-seed0.json"
    tree = {"experiment": "ppo_ptx", "variant": "large", "seed": 0}
    other.write_text(json.dumps(tree | toys.default(-0.5)))
    found = collected.collect(tmp_path)
    name = "preference/ppo_ptx_over_sft/training"
    assert found.results["ppo_ptx"][0]["metrics"][name] == 0.58

  def test_another_world_is_left_out_and_said(self, tmp_path, capsys):
    results = toys.every()
    write(tmp_path, {"ppo_ptx": results["ppo_ptx"]}, world="new")
    write(tmp_path, {"figures": results["figures"]}, world="old")
    claim_table.main([f"--runs={tmp_path}"])
    said = capsys.readouterr().out
    why = "of another world than ppo_ptx-tiny-seed0"
    three = ", ".join(f"figures-tiny-seed{seed}" for seed in range(3))
    (row,) = (line for line in said.splitlines() if line.startswith(why))
    assert row.removeprefix(why).split(maxsplit=1) == ["3", three]
    assert "no results of the sweep run (seeds 0, 1, 2)" in said

  def test_many_that_are_left_out_are_counted(self, tmp_path, capsys):
    results = toys.every()
    write(tmp_path, {"ppo_ptx": results["ppo_ptx"]}, stages={})
    claim_table.main([f"--runs={tmp_path}"])
    said = capsys.readouterr().out
    names = ", ".join(f"ppo_ptx-tiny-seed{seed}" for seed in range(3))
    assert f"5  {names} and 2 more" in said
    found = _json(capsys, tmp_path)
    assert len(found["left_out"]) == 5

  def test_a_file_that_knows_of_no_world_is_left_out(self, tmp_path):
    write(tmp_path, stages={})
    found = collected.collect(tmp_path)
    assert found.results == {}
    assert "ppo_ptx-tiny-seed0" in found.left_out

  def test_what_was_tried(self, tmp_path, capsys):
    write(tmp_path)
    (tmp_path / "tried.json").write_text(json.dumps({"5": "more rankings"}))
    found = _json(capsys, tmp_path)
    tried = {one["claim"]: one["tried"] for one in found["claims"]}
    assert tried["5"] == "more rankings"
    assert tried["4"] == ""
    claim_table.main([f"--runs={tmp_path}", "--format=markdown"])
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.endswith("| what was tried |")
    assert rows[5].endswith("| more rankings |")

  @pytest.mark.parametrize(
    ("tree", "what"), [({"55": "x"}, "'55'"), ({"5": 1}, "must be a text")]
  )
  def test_what_was_tried_of_nothing(self, tmp_path, tree, what):
    write(tmp_path)
    (tmp_path / "tried.json").write_text(json.dumps(tree))
    with pytest.raises(errors.UserError, match=what):
      collected.collect(tmp_path)

  def test_cells(self):
    results = toys.every()
    del results["ppo_ptx"][3], results["ppo_ptx"][4]
    toxic, _ = verdicts.decide(results)[5].parts
    assert claim_table.found(toxic) == "0.50 / 0.52 / 0.47×"
    assert claim_table.seeds_of(toxic) == "seeds 0, 1, 2 of 5"
    results["ppo_ptx"] = {}
    (order, *_) = verdicts.decide(results)
    assert claim_table.line(order.parts[0]) == (
      "PPO-ptx over SFT: – (above 52 %; 0 of 5 seeds)"
    )
    _, small, *_ = verdicts.decide(results)
    assert claim_table.line(small.parts[1]) == (
      "guard: parameters, large by small: 20.00× [20.00, 20.00]"
      " (above 10×; 3 seeds)"
    )

  def test_an_infinite_interval_is_json(self):
    results = toys.every()
    for seed, share in enumerate((0.7, 0.6, 0.5)):  # as PPO has, or less
      results["figures"][seed]["metrics"]["nlp/mean/gpt"] = share
    tax = verdicts.decide(results)[7]
    assert tax.word == criteria.NOT_SHOWN
    part = claim_table.as_json(tax)["parts"][1]
    assert (part["low"], part["high"]) == (None, None)

  def test_the_readme_is_made_anew(self, tmp_path, capsys):
    write(tmp_path / "results")
    readme = tmp_path / "README.md"
    marks = claim_table.START, claim_table.STOP
    readme.write_text(f"before\n{marks[0]}\nold\n{marks[1]}\nafter\n")
    arguments = [f"--runs={tmp_path / 'results'}", f"--readme={readme}"]
    claim_table.main(arguments)
    assert capsys.readouterr().out == ""
    lines = readme.read_text().splitlines()
    assert lines[:2] == ["before", marks[0]]
    assert lines[-2:] == [marks[1], "after"]
    assert len(lines) == 6 + 15  # two of them the head
    readme.write_text("no table")
    with pytest.raises(errors.UserError, match="no table to replace"):
      claim_table.main(arguments)


WINS = "preference/ppo_ptx_over_sft/training"
HEAD = "| mean of seeds 0, 1, 2, 3, 4 [95 % of seeds] | GPT"


def _seeds(*values, low=None, high=None, name=WINS):
  row = {"metric": name, "value": 0.5, "low": low, "high": high}
  return {
    n: {"metrics": {name: value}, "tables": {"preference": [row]}}
    for n, value in enumerate(values)
  }


class TestExpected:
  def test_interval_by_hand(self):
    """s² = 6.25e-5, n = 5: 0.58 ± 2.776 s √1.2; of ten: 5.598 for 2.776."""
    seeds = {n: toys.default(x) for n, x in enumerate(toys.SHIFTS)}
    spread = expected.spreads(seeds)[
      "preference/{}_over_sft/training", "ppo_ptx"
    ]
    s = math.sqrt(6.25e-5)
    assert spread.mean == pytest.approx(0.58)
    half = 2.7764 * s * math.sqrt(1.2)
    assert spread.interval() == pytest.approx(
      (0.58 - half, 0.58 + half), rel=1e-4
    )
    half = 5.5976 * s * math.sqrt(1.2)  # t of 4 at 1 - 0.025 / 10
    wide = spread.interval(of=10)
    assert wide == pytest.approx((0.58 - half, 0.58 + half), rel=1e-4)

  def test_seeds_that_agree_by_chance_leave_what_prompts_do(self):
    """± 0.0196 over prompts are a standard error of 0.01."""
    seeds = _seeds(0.5, 0.5, 0.5, low=0.4804, high=0.5196)
    (spread,) = expected.spreads(seeds).values()
    assert spread.deviation == pytest.approx(0.01)
    (alone,) = expected.spreads(_seeds(0.5, 0.5, 0.5)).values()
    assert alone.deviation == 0

  def test_too_few_seeds(self):
    with pytest.raises(errors.UserError, match="2 seeds of ppo_ptx:tiny"):
      expected.spreads(_seeds(0.5, 0.5))

  @pytest.mark.parametrize(
    ("value", "unusual", "unlike"),
    [(0.57, False, False), (0.51, True, True), (0.65, True, True)],
  )
  def test_a_run_beside_the_seeds(self, value, unusual, unlike):
    """0.58 ± 0.01: 95 % of the seeds lie within 0.0497."""
    run = {"metrics": {WINS: value}, "tables": {}}
    (one,), lacking = expected.compare(run, _seeds(0.57, 0.58, 0.59))
    assert (one.is_unusual, one.is_unlike, lacking) == (unusual, unlike, [])

  def test_many_numbers_make_each_less_telling(self):
    """Likert of GPT does not decide; of PPO-ptx's two numbers each at 2.5 %."""
    seeds = {}
    for n, shift in enumerate((-0.01, 0, 0.01)):
      names = (WINS, "likert/ppo_ptx", "likert/gpt")
      seeds[n] = {"metrics": dict.fromkeys(names, 0.58 + shift), "tables": {}}
    run = {"metrics": {WINS: 0.52, "likert/ppo_ptx": 0.5, "likert/gpt": 9}}
    found, _ = expected.compare(run, seeds)
    words = {one.metric: (one.is_unusual, one.is_unlike) for one in found}
    assert words == {
      # t of 2 at 1 - 0.025 / 2 is 6.21: ± 0.0717.
      WINS: (True, False),
      "likert/ppo_ptx": (True, True),
      "likert/gpt": (True, False),
    }

  def test_what_a_run_lacks(self):
    found, lacking = expected.compare({"metrics": {}}, _seeds(0.5, 0.6, 0.5))
    assert (found, lacking) == ([], [WINS])

  def _run(self, folder, tree, config=None):
    folder.mkdir()
    run = {"experiment": "ppo_ptx", "variant": "tiny", "seed": 7}
    (folder / "results.json").write_text(json.dumps(run | tree))
    if config:
      record = json.dumps({"config": config})
      (folder / "config.json").write_text(record)
    return folder

  def _command(self, tmp_path, run):
    expected.main([f"--runs={tmp_path / 'results'}", f"--run={run}"])

  def test_exit_code_and_what_is_said(self, tmp_path, capsys):
    settings = {"rl.kl_coef": 0.1, "mesh.shape": "[1, 2]"}
    results = {"ppo_ptx": toys.every()["ppo_ptx"]}
    write(tmp_path / "results", results, settings=settings)
    config = {"rl": {"kl_coef": 0.2}, "mesh": {"shape": [1, 2]}}
    run = self._run(tmp_path / "one", toys.default(), config)
    self._command(tmp_path, run)
    said = capsys.readouterr().out
    assert "nothing is unlike the seeds" in said
    assert "preferred over SFT, training labelers, %: PPO-ptx" in said
    assert "toxic when asked for respect, %: GPT" not in said  # as expected
    assert "settings differ from those of the seeds: rl.kl_coef\n" in said
    odd = toys.default()
    odd["metrics"][WINS] = 0.3
    with pytest.raises(SystemExit) as left:
      self._command(tmp_path, self._run(tmp_path / "odd", odd))
    assert left.value.code == 1
    assert f"unlike the seeds: {WINS}" in capsys.readouterr().out

  def test_settings_that_are_written_otherwise_are_no_difference(
    self, tmp_path
  ):
    config = {
      "needs": {"policy": "sft.py"},
      "rl": {"kl_coef": 0.1, "ptx_coef": 1.0},
      "mesh": {"shape": [1, 2]},
    }
    run = self._run(tmp_path / "one", toys.default(), config)
    settings = {
      "needs.policy": "a hash",
      "rl.kl_coef": 0.1,
      "rl.ptx_coef": 0.3,
      "mesh.shape": "[1, 2]",
      "gone": 1,
    }
    assert expected.other_settings(run, settings) == ["rl.ptx_coef"]
    bare = self._run(tmp_path / "bare", toys.default())
    assert expected.other_settings(bare, settings) == []

  def test_what_is_no_such_run(self, tmp_path):
    write(tmp_path / "results")
    with pytest.raises(errors.UserError, match="no finished run"):
      self._command(tmp_path, tmp_path / "nothing")
    other = self._run(tmp_path / "dpo", {"experiment": "dpo"})
    with pytest.raises(errors.UserError, match="is dpo:tiny"):
      self._command(tmp_path, other)

  def test_shares_end_at_nothing_and_all_and_others_do_not(self):
    seeds = {}
    for n, value in enumerate((0.0, 0.1, 0.05)):
      names = ("toxicity/respectful/gpt", "kl/gpt")
      seeds[n] = {"metrics": dict.fromkeys(names, value), "tables": {}}
    lines = expected.markdown(seeds).splitlines()
    # 0.05 ± 4.303 · 0.05 · √(4 / 3)
    assert "| 5.0 [0.0, 29.8] |" in lines[2]
    assert "| 0.05 [-0.20, 0.30] |" in lines[3]

  def test_the_table(self, tmp_path, capsys):
    write(tmp_path)
    expected.main([f"--runs={tmp_path}"])
    head, _, wins, *_ = capsys.readouterr().out.splitlines()
    assert head == f"{HEAD} | prompted GPT | SFT | PPO-ptx |"
    assert wins == (
      "| preferred over SFT, training labelers, % | – | – | – |"
      " 58.0 [55.6, 60.4] |"
    )
