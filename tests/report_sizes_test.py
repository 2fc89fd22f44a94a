"""A page on many models: several sizes of each method, sweeps of a number."""

import re

import pytest

from instruct_jax.report import (
  charts,
  exhibits,
  figures,
  page,
  samples,
  wording,
)
from tests import report_toys

METHODS = ("gpt", "prompted_gpt", "sft", "ppo", "ppo_ptx")
NAMES = [f"{s}_{m}" for s in ("small", "medium", "large") for m in METHODS]
LIKERT = [
  report_toys.interval(1.0 + 0.3 * n, subject=name, metric=f"likert/{name}")
  for n, name in enumerate(NAMES)
]


@pytest.mark.parametrize(
  ("name", "parts", "words"),
  [
    ("ppo_ptx", ("", "ppo_ptx"), "PPO-ptx"),
    ("large_ppo_ptx", ("large", "ppo_ptx"), "PPO-ptx (large)"),
    ("small_prompted_gpt", ("small", "prompted_gpt"), "GPT (prompted) (small)"),
    ("ppo_ptx_gamma0_1", ("γ 0.1", "ppo_ptx"), "PPO-ptx (γ 0.1)"),
    ("ppo_kl2", ("β 2", "ppo"), "PPO (β 2)"),
    ("ppo_ptx_lr2e-4", ("learning rate 2e-4", "ppo_ptx"),
     "PPO-ptx (learning rate 2e-4)"),
    ("mine_kl2", ("", "mine_kl2"), "mine_kl2"),
    ("sft_best_of_8", ("", "sft_best_of_8"), "SFT (best of 8)"),
  ],
)  # fmt: skip
def test_names_in_words(name, parts, words):
  assert wording.parts(name) == parts
  assert wording.subject(name) == words


def test_a_chart_has_a_band_a_size_and_a_colour_a_method():
  chart = figures.of_table("likert", LIKERT)
  assert [key.name for key in chart.keys] == [
    "GPT", "GPT (prompted)", "SFT", "PPO", "PPO-ptx"
  ]  # fmt: skip
  for size in ("small", "medium", "large"):
    assert f">{size}<" in chart.svg


def test_sizes_of_one_label_stand_together_in_order():
  rows = [
    report_toys.interval(0.5, subject=f"{size}_gpt", flag=flag)
    for size in ("large", "small", "medium")
    for flag in ("hallucination", "opinion")
  ]
  svg = figures.of_table("metadata", rows).svg
  found = re.findall(r">(hallucination|opinion|small|medium|large)<", svg)
  sizes = ["small", "medium", "large"]
  assert found == [
    x for flag in ("hallucination", "opinion") for s in sizes for x in (flag, s)
  ]


def test_more_series_than_colours_are_still_told_apart():
  every = {f"m{n}": n for n in range(2 * charts.SERIES)}
  keys = charts._keys(tuple(every), every)
  assert len({(key.color, key.sign) for key in keys}) == len(every)


def test_the_largest_sft_is_the_baseline():
  def rows(*names):
    return [{"baseline": name} for name in names]

  assert exhibits.baseline_of(rows(*NAMES)) == "large_sft"
  assert exhibits.baseline_of(rows(*reversed(NAMES))) == "large_sft"
  assert exhibits.baseline_of(rows("large_sft", "sft", "ppo")) == "sft"
  assert exhibits.baseline_of(rows("large_ppo", "dpo", "dpo")) == "dpo"
  assert exhibits.baseline_of([]) is None


def test_many_subjects_become_lines():
  table = exhibits.arrange("likert", LIKERT)
  assert len(table.rows) == len(NAMES) + 1
  assert [str(row[0]) for row in table.rows[:2]] == [
    "GPT (small)", "GPT (prompted) (small)"
  ]  # fmt: skip
  assert table.rows[3][1].text.startswith("1.9")
  assert [str(cell) for cell in table.rows[-1]] == [exhibits.SIZES, "512 (301)"]
  few = exhibits.arrange("likert", LIKERT[:8])
  assert len(few.headers) == 2 + 8


def test_many_subjects_are_shown_against_the_baseline():
  said = {
    name: {"text": name, "score": float(n)} for n, name in enumerate(NAMES)
  }
  records = [{"prompt": "p", "responses": said}]
  shown = samples.side_by_side(records, "large_sft")
  won = shown["rows"][0]["won"].split()
  assert len(won) == len(NAMES) - 1
  assert "large_ppo>large_sft" in won
  assert "large_sft>small_gpt" in won
  assert len(shown["outcomes"]) == 3 * len(won)
  # Without one, or among few, all are.
  pairs = len(NAMES) * (len(NAMES) - 1) // 2
  everyone = samples.side_by_side(records)["rows"][0]["won"].split()
  assert len(everyone) == pairs


def test_the_curves_of_dozens_of_runs_are_left_out(tmp_path):
  log = [{"step": s, "pretraining/loss": 5 / s} for s in range(1, 4)]
  chain = [
    report_toys.write(tmp_path / f"run{n}", results={}, log=log)
    for n in range(page._MOST_CURVES + 1)
  ]
  text = page.write(chain[-1], chain).read_text()
  assert f"Those of {len(chain)} runs are too many for one page" in text
  text = page.write(chain[-1], chain[1:]).read_text()
  assert "too many for one page" not in text
  assert 'id="curves"' in text
