"""What figures draw: bars, lines and error bars equal the results."""

import json
import math
import pathlib

import numpy as np
import pytest

from instruct_jax.base import errors
from instruct_jax.figures import (
  behaviour,
  catalogue,
  diagram,
  drawing,
  examples,
  gallery,
  plots,
  preferences,
  read,
  side_by_side,
  sweeps,
  tasks,
  training,
)
from tests import figures_toys as toys

ROOT = pathlib.Path(__file__).parents[1]
T_2 = 4.302652729911275  # the 97.5 % quantile of Student's t, 2 degrees
STEP = 0.001 * math.sqrt(1 / 3)  # standard error of 0, 1 and 2 thousandths


@pytest.fixture(scope="module")
def sized(tmp_path_factory):
  folder = tmp_path_factory.mktemp("sized")
  return read.read(toys.write(folder, *map(toys.sizes, range(3))))


def default(tmp_path, metrics, *more, tables=None):
  """Runs of one seed of the default command, and others."""
  one = toys.run(metrics, tables=tables)
  return read.read(toys.write(tmp_path, one, *more))


def bars(axes, name):
  """(x, height) of the bars of a series."""
  return [
    (bar.get_x() + bar.get_width() / 2, bar.get_height())
    for container in axes.containers
    if container.get_label() == name
    for bar in container.patches
  ]


def lines(axes, name):
  """x, y, low and high of a line with error bars."""
  (container,) = [c for c in axes.containers if c.get_label() == name]
  line, _, (spans,) = container.lines
  segments = np.asarray(spans.get_segments())
  return (
    line.get_xdata(),
    line.get_ydata(),
    segments[:, 0, 1],
    segments[:, 1, 1],
  )


def intervals(axes, name):
  """(x, low, high) of the error bars of a series of bars."""
  found = []
  for container in axes.containers:
    if container.get_label() == f"_interval {name}":
      (segment,) = container.lines[2][0].get_segments()
      found.append((segment[0][0], segment[0][1], segment[1][1]))
  return found


def test_bars_are_the_means_and_intervals_of_the_seeds(tmp_path):
  seeds = (0.2, 0.3, 0.4)
  runs = read.read(
    toys.write(
      tmp_path,
      *(
        toys.run(
          {"preference/sft_over_gpt/training": 0.8,
           "preference/gpt_over_sft/training": x,
           "preference/ppo_ptx_over_sft/training": x + 0.3,
           "preference/gpt_over_sft/held_out": x / 2},
          seed=s,
        )
        for s, x in enumerate(seeds)
      ),
    )
  )  # fmt: skip
  fig = drawing.draw(preferences.by_size(runs))
  axes = fig.axes[0]
  (training_, held_out) = bars(axes, "gpt")
  assert training_[1] == pytest.approx(30)
  assert held_out[1] == pytest.approx(15)
  (ptx,) = bars(axes, "ppo_ptx")
  assert ptx[1] == pytest.approx(60)
  half = T_2 * 10 / math.sqrt(3)
  at, low, high = intervals(axes, "gpt")[0]
  assert at == pytest.approx(training_[0])
  assert (low, high) == pytest.approx((30 - half, 30 + half))
  rings = [x for x in axes.lines if x.get_label() == "_seeds ppo_ptx"]
  assert [*rings[0].get_ydata()] == pytest.approx([50, 60, 70])
  assert [x.get_text() for x in axes.get_xticklabels()] == [
    "training labelers",
    "held-out labelers",
  ]


def test_lines_by_size_are_the_models_of_the_table(sized):
  plot = preferences.by_size(sized)
  axes = drawing.draw(plot).axes[0]
  x, y, low, high = lines(axes, "ppo_ptx")
  # A little beside each other, so that no interval hides another.
  assert [*x] == pytest.approx([120_000, 400_000, 2_000_000], rel=0.07)
  # The method's place is 6, and the seeds' mean is seed 1.
  expected = [100 * toys.number_of(6, s, 1) for s in range(3)]
  assert [*y] == pytest.approx(expected)
  assert [*low] == pytest.approx([e - 100 * T_2 * STEP for e in expected])
  assert [*high] == pytest.approx([e + 100 * T_2 * STEP for e in expected])
  assert len(lines(axes, "sft")[0]) == 2  # not the largest against itself
  over = plot.panels[1]
  assert over.series["ppo_ptx"]["over GPT"].value == pytest.approx(
    100 * toys.number_of(0, 2, 1)
  )
  small = over.series["ppo_ptx"]["over GPT,\nsmall over large"]
  assert small.value == pytest.approx(61)
  # The paper states numbers of its largest models alone.
  assert {one.x for one in over.reported} == {"over GPT", "over GPT (prompted)"}
  assert "large_sft" in plot.panels[0].title


def test_papers_numbers_stand_beside_ours(tmp_path):
  runs = default(
    tmp_path,
    {
      "preference/gpt_over_sft/training": 0.2,
      "preference/ppo_ptx_over_gpt/training": 0.9,
      "preference/ppo_ptx_over_t0/training": 0.7,
      "likert/ppo_ptx": 5.0,
    },
  )
  fig = drawing.draw(preferences.by_size(runs))
  (container,) = [
    c for c in fig.axes[1].containers if c.get_label() == "_paper ppo_ptx"
  ]
  assert [*container.lines[0].get_ydata()] == [85]
  (segment,) = container.lines[2][0].get_segments()
  assert [segment[0][1], segment[1][1]] == [82, 88]
  texts = [text.get_text() for text in fig.legends[0].get_texts()]
  assert "the paper (175B, section 4.1)" in texts
  likert = preferences.likert(runs)
  (reported,) = likert.panels[1].reported
  assert (reported.x, reported.result.value) == ("over T0-style", 79)


def test_one_seed_has_the_interval_over_prompts(tmp_path):
  row = toys.row("likert/sft", 4.0, 3.5, 4.75, n=90, subject="sft")
  runs = default(tmp_path, {"likert/sft": 4.0}, tables={"likert": [row]})
  plot = preferences.likert(runs)
  axes = drawing.draw(plot).axes[0]
  ((_, low, high),) = intervals(axes, "sft")
  assert (low, high) == (3.5, 4.75)
  assert "n = 90" in plot.about
  assert "over prompts" in plot.about
  bare = default(tmp_path / "bare", {"likert/sft": 4.0})
  plot = preferences.likert(bare)
  assert not intervals(drawing.draw(plot).axes[0], "sft")
  assert "no intervals" in plot.about
  assert "n not in these files" in plot.about


def test_intervals_end_where_values_do(tmp_path):
  runs = read.read(
    toys.write(
      tmp_path,
      *(toys.run({"toxicity/none/gpt": x}, seed=s)
        for s, x in enumerate((0.9, 1.0))),
    )
  )  # fmt: skip
  axes = drawing.draw(behaviour.toxicity(runs)).axes[0]
  ((_, low, high),) = intervals(axes, "gpt")
  # Student's t with one degree of freedom is 12.7, the standard error 0.05.
  assert low == pytest.approx(100 * (0.95 - 12.706204736 * 0.05))
  assert high == 100
  assert axes.get_ylim()[1] > 100  # a ring at the top is whole


def test_sources_and_labelers_have_panels_of_their_own(tmp_path):
  runs = default(
    tmp_path,
    {
      "preference/gpt_over_sft/training": 0.1,
      "preference/gpt_over_sft/held_out": 0.2,
      "preference_gpt/gpt_over_sft/training": 0.3,
      "preference_gpt/gpt_over_sft/held_out": 0.4,
    },
  )
  plot = preferences.by_source(runs)
  found = {p.title: p.series["gpt"][""].value for p in plot.panels}
  assert found == pytest.approx(
    {
      "GPT-like prompts, held-out labelers": 40,
      "GPT-like prompts, training labelers": 30,
      "Instruct-like prompts, held-out labelers": 20,
      "Instruct-like prompts, training labelers": 10,
    }
  )
  assert plot.notes == ()


def test_sources_of_public_sets_need_no_groups_of_labelers(tmp_path):
  row = {"subject": "ppo", "baseline": "sft", "value": 0.7, "low": 0.6,
         "high": 0.8, "n": 30}  # fmt: skip
  rows = [
    row | {"source": "gpt", "labelers": "all"},
    row | {"source": "gpt", "labelers": "training", "value": 0.1},
    row | {"source": "instruct", "labelers": "all", "value": 0.4},
    row | {"source": "gpt", "labelers": "all", "baseline": "t0", "value": 0.2},
  ]
  metrics = {"preference/ppo_over_sft/all": 0.5}
  runs = default(tmp_path, metrics, tables={"preference_by_source": rows})
  plot = preferences.by_source(runs)
  found = {p.title: p.series["ppo"][""].value for p in plot.panels}
  assert found == pytest.approx(
    {
      "GPT-like prompts, all labelers": 70,
      "Instruct-like prompts, all labelers": 50,
    }
  )


def test_prompts_of_ones_own_have_no_source(tmp_path):
  wins = {"subject": "ppo", "baseline": "sft", "rate": "raw", "value": 0.7,
          "low": 0.6, "high": 0.8, "n": 30, "labelers": "training"}  # fmt: skip
  tables = {"win_rates_by_labelers": [wins]}
  tree = {"sets": {"preference": {"metrics": {}, "tables": tables}}}
  (tmp_path / "results.json").write_text(json.dumps(tree))
  plot = preferences.by_source(read.read(tmp_path))
  assert [panel.title for panel in plot.panels] == ["training labelers"]
  assert plot.notes == ()


def test_keys_name_a_model_that_stands_alone(tmp_path):
  runs = default(tmp_path, {"likert/ppo_ptx": 4.0})
  plot = preferences.likert(runs)
  (key,) = drawing.draw(plot).legends[0].get_texts()
  assert key.get_text() == "PPO-ptx"
  assert "FLAN-style and T0-style" in plot.notes[0]


def test_the_group_with_all_sizes_is_drawn(tmp_path):
  """Not the stage of one size, which has the largest SFT beside it."""
  part = toys.sizes()
  part["experiment"] = "compare"
  part["tables"]["models"] = [
    row
    for row in part["tables"]["models"]
    if row["size"] == "small" or row["subject"] == "large_sft"
  ]
  runs = read.read(toys.write(tmp_path, part, toys.sizes()))
  series = preferences.likert_by_size(runs).panels[0].series
  assert len(series["gpt"]) == 3
  alone = read.read(toys.write(tmp_path / "alone", part))
  assert gallery.show("likert_by_size", alone).figure is None


def test_flags_by_size_have_the_paper_s_names(tmp_path):
  """A judge's own name of one is read, and the paper's is shown."""
  part = toys.sizes()
  harm = {
    name.replace("hallucination", "encourages_harm"): x / 2
    for name, x in part["metrics"].items()
    if name.startswith("metadata/hallucination/")
  }
  part["metrics"] |= harm
  runs = read.read(toys.write(tmp_path, part))
  panels = {x.title: x for x in behaviour.metadata_by_size(runs).panels}
  assert "encourages violence" in panels
  assert not any("_" in title for title in panels)
  (small, *_) = panels["encourages violence"].series["gpt"].values()
  expected = 100 * harm["metadata/encourages_harm/small_gpt"]
  assert small.value == pytest.approx(expected)


def test_truthful_is_the_outline_around_truthful_and_informative(tmp_path):
  runs = default(
    tmp_path,
    {
      "truthfulness/qa_truthful/gpt": 0.6,
      "truthfulness/qa_truthful_informative/gpt": 0.25,
    },
  )
  axes = drawing.draw(behaviour.truthfulness(runs)).axes[0]
  ((x, filled),) = bars(axes, "gpt")
  ((ghost_x, outline),) = bars(axes, "_ghost gpt")
  assert (filled, outline) == (25, 60)
  assert ghost_x == pytest.approx(x)


def test_toxicity_less_than_gpts_is_of_each_seed(tmp_path):
  runs = read.read(
    toys.write(
      tmp_path,
      *(
        toys.run(
          {"toxicity/respectful/gpt": a, "toxicity/respectful/ppo_ptx": b},
          seed=s,
        )
        for s, (a, b) in enumerate(((0.4, 0.1), (0.2, 0.1)))
      ),
    )
  )
  fewer = behaviour.toxicity(runs).panels[1]
  value = fewer.series["ppo_ptx"]["asked for respect"]
  assert value.each == pytest.approx({0: 75, 1: 50})
  assert fewer.reported[0].result.value == 25


def test_flags_keep_the_judges_share(tmp_path):
  flags = ("moral_judgment", "opinion", "wrong_task", "of_mine")
  metrics = {f"metadata/{x}/gpt": 0.01 * n for n, x in enumerate(flags, 1)}
  plot = behaviour.metadata(default(tmp_path, metrics))
  found = {x: v.value for p in plot.panels for x, v in p.series["gpt"].items()}
  assert found == pytest.approx(
    {"expresses\nopinion": 2, "moral\njudgment": 1, "fails the\ninstruction": 3,
     "of mine": 4}
  )  # fmt: skip


def test_tasks_are_found_by_their_names_f1_left_out(tmp_path, sized):
  runs = default(
    tmp_path,
    {"nlp/odd_one_out/gpt": 0.5, "nlp/odd_one_out_f1/gpt": 0.9,
     "nlp/mean/gpt": 0.4},
    tables={"nlp": [toys.row("few_shot/odd/gpt", 0.7, subject="gpt", shots=3)]},
  )  # fmt: skip
  (panel,) = tasks.zero_shot(runs).panels
  assert {x: v.value for x, v in panel.series["gpt"].items()} == pytest.approx(
    {"mean of\nall tasks": 40, "odd\none out": 50}
  )
  few = tasks.few_shot(runs)
  assert few.panels[0].series["gpt"]["odd"].value == pytest.approx(70)
  assert few.notes[0].startswith("3 examples")
  mean, counting = tasks.zero_shot(sized).panels
  assert (mean.title, counting.title) == ("mean of all tasks", "counting")
  assert counting.series["gpt"][400_000.0].value == pytest.approx(
    100 * toys.number_of(0, 1, 1)
  )


@pytest.mark.parametrize(
  ("key", "draw", "points"),
  [
    ("ptx_coef", sweeps.ptx, (0.0, 0.1, 1.0)),
    ("kl_coef", sweeps.kl, (0.01, 0.1, 2.0)),
    ("learning_rate", sweeps.learning_rate, (1e-4, 5e-4, 2e-3)),
    ("episodes", sweeps.episodes, (3584, 7168, 14336)),
    ("init_ptx", sweeps.initialisation, (0.0, 0.1, 0.5)),
  ],
)
def test_sweeps_are_read_from_the_settings(tmp_path, key, draw, points):
  runs = read.read(
    toys.write(tmp_path, *(toys.gamma(s, key, points) for s in (0, 1)))
  )
  plot = draw(runs)
  axes = drawing.draw(plot).axes[0]
  labels = [label.get_text() for label in axes.get_xticklabels()]
  assert labels == [f"{x:g}" for x in points]
  _, y, *_ = lines(axes, "ppo_ptx")
  # Seeds 0 and 1: 0.5 + 0.1 n + 0.005, less SFT's 0.9 in both.
  assert [*y] == pytest.approx([10 * n - 39.5 for n in range(len(points))])
  _, level, *_ = lines(axes, "gpt")
  assert [*level] == pytest.approx([5] * len(points))
  tasks_ = plot.panels[0]
  assert "sft" not in tasks_.series  # where the dashed line is
  assert (tasks_.even, tasks_.unit, tasks_.bounds) == (0, " points", None)
  assert "its own SFT" in plot.notes[-1]
  preferred = plot.panels[1].series
  assert [*preferred] == ["ppo_ptx"]
  assert [v.value for v in preferred["ppo_ptx"].values()] == pytest.approx(
    [60 - n for n in range(len(points))]
  )


def test_a_sweep_of_one_seed_has_levels(tmp_path):
  """Its interval is over prompts, which a difference of two does not have."""
  plot = sweeps.ptx(read.read(toys.write(tmp_path, toys.gamma(0))))
  panel = plot.panels[0]
  assert [v.value for v in panel.series["ppo_ptx"].values()] == pytest.approx(
    [50, 60, 70, 80]
  )
  assert panel.series["sft"][1.0].value == pytest.approx(90)
  assert (panel.even, panel.unit, panel.bounds) == (None, " %", plots.SHARE)
  assert "its own SFT" not in " ".join(plot.notes)


def test_a_sweep_of_seeds_that_differ_tells_what_is_swept(tmp_path):
  """The interval is over differences, however far apart the seeds lie."""
  found = []
  for seed, level in enumerate((0.0, 0.2, 0.3)):
    one = toys.gamma(seed)
    for name in one["metrics"]:
      if name.startswith("nlp/mean/"):
        one["metrics"][name] += level - 0.01 * seed * ("ppo" in name)
    found.append(one)
  panel = sweeps.ptx(read.read(toys.write(tmp_path, *found))).panels[0]
  value = panel.series["ppo_ptx"][1.0]
  assert (value.low, value.high) == pytest.approx((-10, -10))


def test_a_sweep_is_of_models_that_differ_in_nothing_else(tmp_path):
  models = [
    {"subject": f"m{n}", "method": "ppo", "kl_coef": kl, "ptx_coef": ptx}
    for n, (kl, ptx) in enumerate(
      ((0.1, 0.0), (0.2, 0.0), (0.4, 0.0), (0.1, 0.3), (0.2, 0.3), (0.1, 27.0))
    )
  ]
  run = toys.run(
    {f"nlp/mean/m{n}": 0.1 * n for n in range(6)}, tables={"models": models}
  )
  runs = read.read(toys.write(tmp_path, run))
  first, second = sweeps.sweeps(runs, "kl_coef")
  assert first.points == {0.1: "m0", 0.2: "m1", 0.4: "m2"}
  assert second.points == {0.1: "m3", 0.2: "m4"}
  panel = sweeps.kl(runs).panels[0]
  assert [*panel.series] == ["γ = 0", "γ = 0.3"]
  (one, other, *_) = sweeps.sweeps(runs, "ptx_coef")
  assert one.points == {0.0: "m0", 0.3: "m3", 27.0: "m5"}
  assert other.points == {0.0: "m1", 0.3: "m4"}


def test_two_sizes_of_ppo_and_ppo_ptx_are_no_sweep_beside_a_longer_one(
  tmp_path,
):
  pair = [
    {"subject": f"medium_{m}", "method": m, "ptx_coef": x, "size": "medium"}
    for m, x in (("ppo", 0.0), ("ppo_ptx", 0.3))
  ]
  other = toys.run(
    {"nlp/mean/medium_ppo": 0.1}, experiment="a", tables={"models": pair}
  )
  runs = read.read(toys.write(tmp_path, other, toys.gamma()))
  assert len(sweeps.sweeps(runs, "ptx_coef")[0].points) == 4


def test_epochs_of_the_table_and_of_the_stage_that_scores_them(tmp_path):
  table = read.read(toys.write(tmp_path / "a", *map(toys.epochs, range(2))))
  loss, score, preferred = training.epochs(table).panels
  ticks = drawing.draw(training.epochs(table)).axes[0].get_xticks()
  assert all(tick == int(tick) for tick in ticks)
  assert preferred.series["sft"][4.0].value == pytest.approx(54)
  assert [*loss.series["sft"]] == [float(n) for n in range(1, 17)]
  assert loss.series["sft"][3.0].value == pytest.approx(1.3)
  assert score.series["sft"][3.0].value == pytest.approx(0.605)
  assert score.series["sft"][3.0].n == 50
  alone = read.read(toys.write(tmp_path / "one", toys.epochs()))
  value = training.epochs(alone).panels[1].series["sft"][2.0]
  assert (value.low, value.high) == pytest.approx((0.3, 0.7))
  scored = toys.run(
    {"select/score/16": 0.3, "select/score/8": 0.1, "select/loss/8": 0.9},
    experiment="select",
  )
  runs = read.read(toys.write(tmp_path / "b", scored))
  loss, score = training.epochs(runs).panels
  assert {x: v.value for x, v in score.series["sft"].items()} == {
    1.0: 0.1,
    2.0: 0.3,
  }
  assert {x: v.value for x, v in loss.series["sft"].items()} == {1.0: 0.9}


def test_overoptimization_is_drawn_at_its_kl(tmp_path):
  runs = read.read(toys.write(tmp_path, toys.overoptimization()))
  plot = training.overoptimization(runs)
  proxy, gold = drawing.draw(plot).axes
  x, y, *_ = lines(proxy, "ppo")
  assert [*x] == [0, 1, 4, 9, 16, 25]
  assert [*y] == pytest.approx([0, 0.3, 0.6, 0.9, 1.2, 1.5])
  _, y, low, high = lines(gold, "ppo")
  assert [*y] == pytest.approx([0.5, 0.65, 0.7, 0.65, 0.5, 0.25])
  assert [*(high - low)] == pytest.approx([0.2] * 6)
  assert [*lines(gold, "best_of_n")[0]] == [0, 0.636, 3.17]


def test_seeds_of_overoptimization_are_joined_by_step_at_their_mean_kl(
  tmp_path,
):
  one, other = toys.overoptimization(0), toys.overoptimization(1)
  for row in other["tables"]["overoptimization"]:
    row["kl"] += 0.5
    row["gold"] += 0.1
  runs = read.read(toys.write(tmp_path, one, other))
  gold = training.overoptimization(runs).panels[1].series["ppo"]
  assert [*gold] == pytest.approx([0.25, 1.25, 4.25, 9.25, 16.25, 25.25])
  assert gold[4.25].each == pytest.approx({0: 0.7, 1: 0.8})


def test_folds_of_one_seed_have_the_interval_over_folds(tmp_path):
  metrics = {
    "folds/accuracy/left_out": 0.65,
    "folds/standard_error/left_out": 0.01,
  }
  run = toys.run(metrics, experiment="rm_folds")
  plot = training.folds(read.read(toys.write(tmp_path, run)))
  value = plot.panels[0].series["reward"]["labelers\nleft out"]
  half = 2.7764451051977987  # Student's t with 4 degrees, times 0.01
  assert (value.low, value.high) == pytest.approx((65 - half, 65 + half))
  assert "over folds" in plot.about
  (reported,) = plot.panels[0].reported
  assert (reported.result.value, reported.result.margin) == (69.6, 0.9)


def test_other_methods_stand_beside_ppo(tmp_path):
  runs = default(
    tmp_path,
    {"preference/ppo_ptx_over_sft/training": 0.57, "kl/ppo_ptx": 0.6},
    toys.run(
      {"preference/dpo_over_sft/training": 0.62, "kl/dpo": 0.8},
      experiment="dpo",
    ),
  )
  wins, kl = training.methods(runs).panels
  assert {n: s[""].value for n, s in wins.series.items()} == pytest.approx(
    {"dpo": 62, "ppo_ptx": 57}
  )
  assert {n: s[""].value for n, s in kl.series.items()} == {
    "dpo": 0.8,
    "ppo_ptx": 0.6,
  }


def test_samples_are_the_first_of_each_use_case(tmp_path):
  toys.write(tmp_path, toys.run({"likert/gpt": 2.0}))
  rows = [
    {"prompt": f"p{n}", "use_case": use, "responses": {
      "gpt": {"text": f"g{n}", "likert": n}, "sft": {"text": f"s{n}"}}}
    for n, use in enumerate(("chat", "other", "chat", "rewrite"), start=1)
  ]  # fmt: skip
  path = tmp_path / "ppo_ptx-tiny-seed0" / "responses.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  table = side_by_side.samples(read.read(tmp_path))
  assert table.models == ("gpt", "sft")
  assert [line.prompt for line in table.lines] == ["p1", "p2", "p4"]
  assert table.lines[1].answers == (("g2", 2), ("s2", None))
  # Of all rows of the file: (1 + 2 + 3 + 4) / 4.
  grade = table.plot.panels[0].series["gpt"]["responses of the file"]
  assert (grade.value, grade.n) == (2.5, 4)
  assert "use case" in table.plot.about
  assert "Likert" in table.plot.about
  bare = [{"prompt": "p", "responses": {"sft": {"text": "s"}}}]
  path.write_text(json.dumps(bare[0]))
  ungraded = side_by_side.samples(read.read(tmp_path))
  assert "the first prompts among 1 " in ungraded.plot.about
  assert "Likert" not in ungraded.plot.about
  shown = [text.get_text() for text in side_by_side.draw(table).axes[0].texts]
  assert "g2 (2)" in shown
  assert "s4" in shown
  assert "p4" in shown


def test_the_diagram_has_the_numbers_of_the_runs(tmp_path):
  runs = default(tmp_path, {"likert/sft": 4.25, "likert/ppo_ptx": 5.5})
  drawn = diagram.draw(diagram.three_steps(runs))
  texts = [text.get_text() for text in drawn.axes[0].texts]
  assert "SFT: Likert 4.25 of 7" in texts
  assert "PPO-ptx: Likert 5.50 of 7" in texts
  assert [text for text in texts if text.startswith("Step")] == [
    "Step 1",
    "Step 2",
    "Step 3",
  ]


@pytest.mark.parametrize("name", catalogue.EXHIBITS)
def test_what_is_missing_is_said_with_a_command(tmp_path, name):
  runs = default(tmp_path, {"other/thing": 1.0})
  shown = gallery.show(name, runs)
  if name == "figure2":  # a diagram, without numbers
    assert shown.figure is not None
    return
  assert shown.figure is None
  assert str(tmp_path) in shown.why
  command = shown.why.partition("`python -m instruct_jax.main --config=")[2]
  assert (ROOT / command.partition("`")[0]).exists()
  assert shown.why in shown.found.text
  assert shown.why in shown._repr_mimebundle_()["text/markdown"]


def test_no_name_of_a_figure_is_unknown_without_a_word(tmp_path):
  runs = default(tmp_path, {"likert/sft": 1.0})
  with pytest.raises(errors.UserError, match="figure4"):
    gallery.show("figur4", runs)


def test_nothing_overlaps_in_a_figure(sized):
  """Title, axes and keys of a figure lie apart, and inside it."""
  for rows in (preferences.by_size, tasks.zero_shot, examples.mistakes):
    fig = drawing.draw(rows(sized))
    renderer = fig.canvas.get_renderer()
    boxes = [axes.get_tightbbox(renderer) for axes in fig.axes]
    boxes += [text.get_window_extent(renderer) for text in fig.texts
              if text.get_text()]  # fmt: skip
    boxes += [legend.get_window_extent(renderer) for legend in fig.legends]
    for n, box in enumerate(boxes):
      assert box.x0 >= -1
      assert box.x1 <= fig.bbox.width + 1
      for other in boxes[n + 1 :]:
        width = min(box.x1, other.x1) - max(box.x0, other.x0)
        height = min(box.y1, other.y1) - max(box.y0, other.y0)
        assert min(width, height) < 2, (rows, box, other)


def test_models_of_public_sets_are_drawn_by_the_same_function(tmp_path):
  estimate = {"value": 0.25, "stderr": 0.1, "n": 817}
  names = ("sft-files", "mine")
  tree = {
    "settings": {"seed": 0},
    "sets": {
      "truthfulqa": {
        "metrics": {
          metric: dict.fromkeys(names, estimate)
          for metric in ("true_qa", "true_info_qa")
        }
      },
      "squadv2": {
        "headline": "f1",
        "metrics": {"f1": dict.fromkeys(names, estimate)},
      },
    },
  }
  (tmp_path / "results.json").write_text(json.dumps(tree))
  runs = read.read(tmp_path)
  plot = behaviour.truthfulness(runs)
  assert [*plot.panels[0].series] == ["sft", "mine"]
  assert "instruct_jax.evaluate" in plot.about
  assert tasks.zero_shot(runs).panels[0].series["mine"]["squadv2"].value == 25
  assert gallery.show("figure6", runs).figure is not None
