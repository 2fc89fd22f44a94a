"""Several seeds of one experiment are shown together; nothing else is."""

import json
import shutil

import pytest

from instruct_jax.report import exhibits
from instruct_jax.report import page as report_page
from instruct_jax.report import seeds as report_seeds
from instruct_jax.runs import seeds

VALUES = {0: 0.60, 1: 0.50, 2: 0.55}


def write_run(root, stage, seed, needs=(), table=(), **config):
  """A finished run as it lies on disk, with what decides whether it fits."""
  suffix = f"-seed{seed}" if seed else ""
  folder = root / f"{stage}-tiny{suffix}"
  folder.mkdir(parents=True)
  digest = f"digest of {folder.name} {config}"
  record = {
    "digest": digest,
    "needs": {n: f"../{n}-tiny{suffix}" for n in needs},
    "needs_digests": {
      n: json.loads((root / f"{n}-tiny{suffix}/config.json").read_text())[
        "digest"
      ]
      for n in needs
    },
    "data_digests": {},
    "config": {
      "experiment": stage,
      "variant": "tiny",
      "seed": seed,
      "log_every": 10,
      "evaluation": {"prompts": 8, "seed": 0},
      **config,
    },
  }
  results = {
    "experiment": stage,
    "variant": "tiny",
    "seed": seed,
    "tables": {"preference": list(table)},
    "metrics": {},
  }
  (folder / "config.json").write_text(json.dumps(record))
  (folder / "results.json").write_text(json.dumps(results))
  return folder


def preference(value):
  return {
    "subject": "ppo",
    "baseline": "sft",
    "labelers": "training",
    "value": value,
    "low": value - 0.02,
    "high": value + 0.02,
    "n": 100,
    "clusters": 80,
    "metric": "preference/ppo_over_sft/training",
  }


def write_seeds(root):
  """Three seeds of a chain of two stages."""
  for seed, value in VALUES.items():
    write_run(root, "sft", seed, rate=0.1, log_every=seed + 1)
    table = [preference(value)]
    write_run(root, "ppo", seed, ("sft",), table, beta=0.02)


@pytest.fixture
def root(tmp_path):
  write_seeds(tmp_path)
  return tmp_path


def beside(root, name="ppo-tiny"):
  found = seeds.beside(root / name)
  return [chain[-1].name for chain in found.chains], found.left_out


def test_the_same_experiment_with_other_seeds(root):
  assert beside(root) == (["ppo-tiny-seed1", "ppo-tiny-seed2"], {})
  assert beside(root, "ppo-tiny-seed2") == (["ppo-tiny", "ppo-tiny-seed1"], {})
  first = seeds.beside(root / "ppo-tiny").chains[0]
  assert [path.name for path in first] == ["sft-tiny-seed1", "ppo-tiny-seed1"]


def change(root, name, *path, value):
  file = root / name / "config.json"
  tree = json.loads(file.read_text())
  section = tree
  for key in path[:-1]:
    section = section[key]
  section[path[-1]] = value
  file.write_text(json.dumps(tree))


@pytest.mark.parametrize(
  ("name", "path", "value", "reason"),
  [
    ("ppo-tiny-seed1", ("config", "beta"), 1.0, "other settings: beta"),
    ("sft-tiny-seed1", ("config", "rate"), 9, "other settings: needs.sft"),
    (
      "ppo-tiny-seed1",
      ("config", "evaluation", "prompts"),
      9,
      "other settings: evaluation.prompts",
    ),
    (
      "ppo-tiny-seed1",
      ("data_digests",),
      {"data.prompts": "x"},
      "other settings: files of data.prompts",
    ),
    ("ppo-tiny-seed1", ("config", "log_every"), 99, ""),
  ],
)
def test_other_settings_are_left_out_wherever_they_are(
  root, name, path, value, reason
):
  change(root, name, *path, value=value)
  _, left_out = beside(root)
  assert left_out == ({"ppo-tiny-seed1": reason} if reason else {})


def _unfinished(root):
  (root / "ppo-tiny-seed1/results.json").unlink()


def _cut(root):
  (root / "ppo-tiny-seed1/results.json").write_text('{"seed": 1, "tab')


def _emptied(root):
  (root / "ppo-tiny-seed1/config.json").write_text("{}")


def _no_run(root):
  (root / "ppo-tiny-seed1/config.json").unlink()


def _without_needs(root):
  shutil.rmtree(root / "sft-tiny-seed1")


def _not_evaluated(root):
  (root / "ppo-tiny-seed1/results.json").write_text('{"seed": 1, "tables": {}}')


def _with_results(text):
  return lambda root: (root / "ppo-tiny-seed1/results.json").write_text(text)


def _value(value):
  row = preference(0.5) | {"value": value}
  return _with_results(json.dumps({"seed": 1, "tables": {"preference": [row]}}))


_ODD = "cannot be read: damaged tables in results.json: preference"


@pytest.mark.parametrize(
  ("damage", "reason"),
  [
    (_value(None), _ODD),
    (_value("0.5"), _ODD),
    (_with_results('{"seed": 1, "tables": {"preference": 3}}'), _ODD),
    (_with_results("{}"), "cannot be read: 'tables' is missing from its files"),
    (_with_results('{"seed": 1, "tables": 3}'), "cannot be read: its config"),
    (_unfinished, "has not finished"),
    (_cut, "cannot be read"),
    (_emptied, "cannot be read"),
    (_no_run, "not a run"),
    (_without_needs, "cannot be read"),
    (_not_evaluated, "has not been evaluated"),
  ],
)
def test_what_is_wrong_with_a_seed_is_said_and_breaks_nothing(
  root, damage, reason
):
  damage(root)
  found = seeds.beside(root / "ppo-tiny")
  assert [chain[-1].name for chain in found.chains] == ["ppo-tiny-seed2"]
  assert list(found.left_out) == ["ppo-tiny-seed1"]
  assert found.left_out["ppo-tiny-seed1"].startswith(reason)
  page = write_page(root, found)
  assert "1 run of another seed is left out (ppo-tiny-seed1: " in page
  assert "Seeds 0 and 2 of this experiment" in page


def test_tables_that_are_odd_here_too_are_no_damage(root):
  for name in ("ppo-tiny", "ppo-tiny-seed1"):
    path = root / name / "results.json"
    results = json.loads(path.read_text())
    results["tables"]["mine"] = [{"value": "high"}]
    path.write_text(json.dumps(results))
  assert beside(root)[0] == ["ppo-tiny-seed1", "ppo-tiny-seed2"]


def test_earlier_runs_and_other_names_are_no_seeds(root):
  for name in ("ppo-tiny.old1", "ppo-tiny-seed1.old1", "ppo-tiny-seedx",
               "ppo-tinyer"):  # fmt: skip
    shutil.copytree(root / "ppo-tiny", root / name)
  assert beside(root) == (["ppo-tiny-seed1", "ppo-tiny-seed2"], {})


def test_where_nothing_was_measured_there_is_nothing_to_share(root):
  (root / "ppo-tiny/results.json").write_text('{"seed": 0, "tables": {}}')
  (root / "ppo-tiny-seed1/results.json").unlink()
  assert beside(root) == ([], {})


def test_a_run_whose_own_needs_are_gone_stands_alone(root):
  shutil.rmtree(root / "sft-tiny")
  assert beside(root) == ([], {})


def write_page(root, found):
  chain = [root / "sft-tiny", root / "ppo-tiny"]
  path = report_page.write(chain[-1], chain, found.chains, found.left_out)
  return " ".join(path.read_text().split())


def test_the_page_shows_every_seed_and_their_mean(root):
  page = write_page(root, seeds.beside(root / "ppo-tiny"))
  assert "Seeds 0, 1 and 2 of this experiment" in page
  assert "seeds: 55.0 (50.0 to 60.0)" in page
  assert (
    '<td class="n">55.0 (50.0 to 60.0)</td> <td class="n">100 (80)</td>' in page
  )
  for seed, value in VALUES.items():
    assert f">seed {seed}</th>" in page
    assert f">{100 * value:.1f} % <small>" in page


def test_rows_are_joined_by_their_labels_own_seed_first():
  own = {"t": [preference(0.6), preference(0.1) | {"labelers": "held_out"}]}
  other = {"t": [preference(0.5), {"value": 3.0, "labelers": "held_out"}]}
  broken = {"t": [preference(float("nan"))]}
  together = report_seeds.Together({7: own, 1: other, 2: broken}, own=7)
  joined = report_seeds.joined(own, together)["t"]
  assert [row[exhibits.SEEDS] for row in joined] == [(0.6, 0.5), (0.1,)]
  assert exhibits.cell(joined[0], percent=True).seeds
  assert not exhibits.cell(joined[1], percent=True).seeds
