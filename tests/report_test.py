"""The report shows what is there, and needs nothing from outside."""

import html.parser
import json
import math
import re

import pytest

from instruct_jax.report import charts, closing, curves, exhibits
from instruct_jax.report import page as report_page

VOID = {"meta", "br", "link", "img"}
PROMPT = "what <b>job</b> does ann have ?"


class Page(html.parser.HTMLParser):
  """Checks that tags are balanced; collects text, ids and attributes."""

  def __init__(self, text):
    super().__init__()
    self.open, self.tags, self.attributes, self.words = [], [], [], []
    self.feed(text)
    assert not self.open
    self.text = re.sub(r"\s+", " ", " ".join(self.words))

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)
    self.attributes += attrs

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    if self.open[-1:] not in (["style"], ["script"]):
      self.words.append(data)


def read(path):
  text = path.read_text()
  assert text.startswith("<!DOCTYPE html>")
  assert len(text) < 1_500_000
  page = Page(text)
  assert not {"link", "img", "iframe"} & set(page.tags)
  assert page.tags.count("script") <= 1
  assert text.count("<script>") == page.tags.count("script")  # no source
  for name, value in page.attributes:
    if name in ("href", "src", "xlink:href"):
      assert value.startswith("#")
      assert f'id="{value[1:]}"' in text
  assert "@import" not in text
  assert set(re.findall(r"url\((.)", text)) <= {"#"}
  return page


def write(folder, *, results=None, log=(), samples=(), config=None):
  folder.mkdir(parents=True)
  config = config or {"experiment": folder.name, "variant": "tiny"}
  (folder / "config.json").write_text(json.dumps({"config": config}))
  if results is not None:
    (folder / "results.json").write_text(json.dumps(results))
  for name, lines in (("metrics", log), ("samples", samples)):
    if lines:
      text = "".join(json.dumps(line) + "\n" for line in lines)
      (folder / f"{name}.jsonl").write_text(text)
  return folder


def results_of(experiment, **more):
  return {
    "experiment": experiment,
    "variant": "tiny",
    "seed": 3,
    "steps": 120,
    "seconds": {"wall": 75.25, "compile": 9.5},
    "peak_memory_bytes": 1_500_000_000,
    "config_digest": "c0ffee",
    "parameters_digest": f"digest-of-{experiment}",
    "metrics": {"some/metric": 0.123},
    **more,
  }


def interval(value, **labels):
  bounds = {"low": value - 0.0321, "high": value + 0.0321}
  return {**labels, "value": value, **bounds, "n": 512, "clusters": 301}


TABLES = {
  "preference": [
    interval(
      value,
      subject=subject,
      baseline=baseline,
      labelers=group,
      metric=f"preference/{subject}_over_{baseline}/{group}",
    )
    for group in ("training", "held_out")
    for subject, baseline, value in (
      ("gpt", "sft", 0.1231),
      ("sft", "gpt", 0.8769),
      ("ppo_ptx", "sft", 0.6151),
      ("sft", "ppo_ptx", 0.3849),
    )
  ],
  "likert": [
    interval(2.02, subject="gpt", metric="likert/gpt"),
    interval(4.21, subject="sft", metric="likert/sft"),
    interval(5.43, subject="ppo_ptx", metric="likert/ppo_ptx"),
  ],
  "nlp": [
    interval(0.777, subject="sft", task="mean", metric="nlp/mean/sft"),
    interval(0.555, subject="ppo_ptx", task="mean", metric="nlp/mean/ppo_ptx"),
  ],
  "kl": [
    interval(0.0, subject="sft", per_token=0.0, metric="kl/sft"),
    interval(3.25, subject="ppo_ptx", per_token=0.4, metric="kl/ppo_ptx"),
  ],
  "toxicity": [
    interval(0.2, subject="sft", prompt="none", metric="toxicity/none/sft"),
    interval(0.1, subject="ppo_ptx", prompt="none", metric="toxicity/none/p"),
  ],
  "departures": [{"key": "kl_coef", "paper": 0.02, "here": 0.1}],
  "made_up_by_a_user": [interval(0.5, subject="sft", color="red")],
}
PROVENANCE = {
  "date": "2026-11-21T17:30:14+00:00",
  "command": "python -m instruct_jax.main --config=a.py",
  "commit": "abc123",
  "changed": True,
  "python": "3.11.7",
  "packages": {"jax": "0.10.2"},
  "device": "TPU v5",
  "devices": 1,
  "cores": 2,
}
CALIBRATION = [
  interval(p - 0.01, labelers=group, bin="70–75 %", predicted=p)
  for group in ("training", "held_out")
  for p in (0.72, 0.94)
]
REWARD = [
  interval(
    0.7011,
    labelers=group,
    predictor=predictor,
    metric=f"reward/{measure}/{group}",
  )
  for group in ("training", "held_out")
  for predictor, measure in (
    ("reward", "accuracy"),
    ("reward", "log_loss"),
    ("longer", "accuracy_longer"),
  )
]


@pytest.fixture
def chain(tmp_path):
  pretrain = write(
    tmp_path / "pretrain",
    results=results_of("pretrain"),
    log=[
      {"step": s, "pretraining/loss": 5 / s, "validation/pretraining/loss": 5.1}
      for s in range(1, 1200)
    ],
  )
  rm = write(
    tmp_path / "rm",
    results=results_of(
      "rm", tables={"reward": REWARD, "calibration": CALIBRATION}
    ),
    log=[{"step": 1, "rankings/loss": "NaN", "rankings/accuracy": 0.5}],
  )
  select = write(
    tmp_path / "select",
    results=results_of(
      "select", metrics={"select/score/32": 0.1, "select/score/64": 0.4}
    ),
  )
  names = (
    *("objective/score", "objective/kl", "policy/entropy", "ptx/loss"),
    "judge/likert",
  )
  ppo = write(
    tmp_path / "ppo_ptx",
    results=results_of("ppo_ptx", tables=TABLES, provenance=PROVENANCE),
    config={
      "experiment": "ppo_ptx",
      "variant": "tiny",
      "data": {"source": "microworld"},
    },
    log=[{"step": s} | dict.fromkeys(names, 1.0 / s) for s in range(1, 14)],
  )
  answer = {"text": "ann is <i>a nurse", "ended": True, "likert": 6}
  with (ppo / "responses.jsonl").open("w") as file:
    for n in range(100):
      prompt = PROMPT if n == 0 else f"prompt number {n}"
      responses = {"sft": answer, "ppo_ptx": answer | {"reward": 1.234}}
      record = {"prompt": prompt, "responses": responses}
      record["use_case"] = "open_qa" if n == 0 else "generation"
      file.write(json.dumps(record) + "\n")
    file.write('{"prompt": "half a li')
  return [pretrain, rm, select, ppo]


def test_whole_chain(chain):
  path = report_page.write(chain[-1], chain)
  assert path == chain[-1] / "report.html"
  page = read(path)
  for text in (
    "ppo_ptx:tiny",
    "1.50 GB",
    "1:15",
    "5:01",  # the four stages together
    "c0ffee",
    "digest-of-pretrain",
    "61.5 % [58.3, 64.7]",
    "over SFT",
    "training labelers",
    "512 (301)",
    "Labelers are simulated and the world is a microworld",
    "2026-11-21 17:30:14 UTC",
    "python -m instruct_jax.main --config=a.py",
    "abc123 with changes that are not committed",
    "1 × TPU v5, 2 cores",
    "Python 3.11.7, jax 0.10.2",
    "whose taste the reward model never saw",
    "5.43 [5.40, 5.46]",
    "77.7 %",
    "alignment tax",
    "0.40",  # KL a token
    "70.1 %",
    "72.4 ± 0.4 %",
    "the longer wins",
    "Departures from the paper",
    "kl coef",
    "Made up by a user",
    PROMPT,
    "ann is <i>a nurse",
    "Likert 6, reward +1.23",
    "100 of 100 test prompts",
    "Loss on text",
    "nats a token",
    "KL from where RL started, nats a response",
    "SFT epochs: reward model's score",
    "win rate against SFT, %",
    "judge's Likert, 1 to 7",
    "predicted: the favourite is preferred, %",
    "toxic continuations, %",
    "some/metric",
  ):
    assert text in page.text, text
  # Preference, likert, tasks, toxicity, calibration; the way; learning curves.
  assert page.tags.count("svg") == 5 + 1 + 1 + 1 + 1 + 5
  assert "half a li" not in page.text
  assert not list(path.parent.glob(".*part"))
  before = path.read_bytes()
  report_page.write(chain[-1], chain)
  assert path.read_bytes() == before


def test_lone_pretraining(tmp_path):
  folder = write(
    tmp_path / "pretrain-tiny",
    log=[{"step": 10, "pretraining/loss": 2.5}],
    samples=[
      {"step": 5, "prompt": "old", "response": "o"},
      {"step": 10, "prompt": "p1", "response": "r1", "score": 0.25},
    ],
    config={"experiment": "pretrain", "variant": "tiny"},
  )
  page = read(report_page.write(folder, [folder]))
  assert "pretrain:tiny" in page.text
  assert "Learning curves" in page.text
  assert "after step 10" in page.text
  assert "r1" in page.text
  assert "0.25" in page.text
  assert "old" not in page.text.split()
  for absent in ("Evaluations", "side by side", "Runs", "None", "simulated"):
    assert absent not in page.text


@pytest.mark.parametrize(
  "content", ["", "{", "[]", '{"tables": {"kl": 3, "nlp": [], "x": [1]}}']
)
def test_what_cannot_be_read_is_not_shown(tmp_path, content):
  folder = tmp_path / "run"
  folder.mkdir()
  for name in ("results.json", "config.json", "metrics.jsonl"):
    (folder / name).write_text(content)
  page = read(report_page.write(folder, [folder, tmp_path / "missing"]))
  assert "run" in page.text or "missing" in page.text
  assert "svg" not in page.tags


def test_empty_folder_outside_a_chain(tmp_path):
  assert "Evaluations" not in read(report_page.write(tmp_path, [])).text


def test_terminal_shows_subjects_side_by_side(capsys):
  closing.print_closing(results_of("ppo_ptx", tables=TABLES))
  out = capsys.readouterr().out
  assert "ppo_ptx:tiny, seed 3" in out
  header = next(line for line in out.splitlines() if "PPO-ptx" in line)
  assert re.findall(r"GPT|SFT|PPO-ptx", header) == ["GPT", "SFT", "PPO-ptx"]
  line = next(x for x in out.splitlines() if "over SFT, held-out" in x)
  assert "61.5 % [58.3, 64.7]" in line
  assert "12.3 % [9.1, 15.5]" in line
  assert "\x1b" not in out


def test_terminal_without_subjects_shows_metrics(capsys):
  found = {
    "validation/pretraining/loss": 2.345678,
    "rate/steps_per_second": 9.0,
  }
  closing.print_closing(results_of("pretrain", metrics=found))
  out = capsys.readouterr().out
  assert "2.346" in out
  assert "rate/" not in out
  closing.print_closing({})


def test_long_curves_are_thinned_to_the_end():
  line = (list(range(1, 5001)), [1.0 / n for n in range(1, 5001)])
  steps, values = charts._thinned(line)
  assert len(steps) == len(values) <= charts.POINTS
  assert steps[-1] == 5000
  assert charts._thinned(([7], [1.0])) == ([7], [1.0])


def test_curves_leave_out_what_is_not_finite():
  log = [
    {"step": 1, "objective/kl": math.nan, "gradient/a_norm": 1.0},
    {"step": 2, "objective/kl": 2.0, "gradient/a_norm": 1.0, "count/x": 1.0},
  ]
  assert list(curves.panels(log, {})) == [
    (
      "KL from where RL started",
      "nats a response",
      {"training": ([2], [2.0])},
    )
  ]


def test_numbers_for_people():
  def shown(value, percent=False):
    return str(exhibits.cell({"value": value}, percent=percent))

  assert shown(0.5, percent=True) == "50.0 %"
  assert shown(12) == "12"
  assert shown(0.00123) == "0.00123"
  assert shown(3.14159) == "3.14"
  assert shown(None) == "–"
  assert shown(math.nan) == "nan"
  infinite = {"value": 0.5, "low": -math.inf, "high": math.inf}
  assert str(exhibits.cell(infinite, percent=True)) == "50.0 %"


def test_a_table_that_nobody_described_closes_the_closing_table():
  rows = [
    {"subject": name, "kind": kind, "value": value, "metric": "m"}
    for name, kind, value in (("sft", "a", 0.25), ("ppo", "a", 0.5),
                              ("ppo", "b", 2.0))
  ]  # fmt: skip
  many = [{"subject": "sft", "kind": str(n), "value": 1.0} for n in range(9)]
  table = closing.arrange(
    {"rude_words": rows, "many": many, "other": [{"n": 1}]}
  )
  assert table.headers == ("", "SFT", "PPO", "n")
  lines = [tuple(map(str, line)) for line in table.rows]
  assert lines[:2] == [
    ("rude words, a", "0.25", "0.50", ""),
    ("rude words, b", "", "2.00", ""),
  ]
  assert [line[0] for line in lines[2:]] == [f"many, {n}" for n in range(4)]
  assert closing.arrange({"other": [{"n": 1}]}) is None
