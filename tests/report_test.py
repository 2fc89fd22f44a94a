"""The report shows what is there, and needs nothing from outside."""

import html.parser
import json
import math
import re

import pytest

from instruct_jax.report import (
  best_of,
  charts,
  closing,
  curves,
  exhibits,
  figures,
  header,
  samples,
)
from instruct_jax.report import page as report_page
from tests import report_toys
from tests.report_toys import PROMPT, TABLES, interval, results_of, write

VOID = {"meta", "br", "link", "img"}


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


@pytest.fixture
def chain(tmp_path):
  return report_toys.make_chain(tmp_path)


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
    "whose taste was never trained on",
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
    "KL from the starting policy, nats a response",
    "SFT epochs: reward model's score",
    "win rate against SFT, %",
    "judge's Likert, 1 to 7",
    "predicted: the favourite is preferred, %",
    "toxic continuations, %",
    "Expected calibration error: 4.4 % (held-out labelers).",
    "some/metric",
  ):
    assert text in page.text, text
  # Preference and six evaluations; the way; learning curves.
  assert page.tags.count("svg") == 7 + 1 + 1 + 1 + 1 + 6
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


def test_terminal_shows_a_reward_model_with_intervals(capsys):
  row = {
    "value": 0.6557,
    "low": 0.64,
    "high": 0.671,
    "n": 4793,
    "clusters": 274,
  }
  row |= {"labelers": "training", "predictor": "reward"}
  found = {"reward/accuracy/training": 0.6557, "rankings/loss": 0.5}
  rows = [row | {"metric": "reward/accuracy/training"}]
  closing.print_closing(
    results_of("rm", metrics=found, tables={"reward": rows})
  )
  out = capsys.readouterr().out
  assert "65.6 % [64.0, 67.1]" in out
  assert "4793" in out
  assert "reward/accuracy" not in out
  assert "rankings/loss" in out


def test_long_curves_are_thinned_to_the_end():
  line = (list(range(1, 5001)), [1.0 / n for n in range(1, 5001)])
  steps, values = charts._thinned(line)
  assert len(steps) == len(values) <= charts.POINTS
  assert steps[-1] == 5000
  assert charts._thinned(([7], [1.0])) == ([7], [1.0])


def test_ticks_keep_their_digits():
  lines = {"a": ([0, 1], [0.010, 0.014])}
  svg = charts.curves("rate", "rate", lines).svg
  ticks = re.findall(r">(0\.\d+)<", svg)
  assert len(ticks) == len(set(ticks)) >= 3
  assert not re.search(r"<[^>]*\d\.\d{3}", svg)  # but paths do not


def test_curves_leave_out_what_is_not_finite():
  log = [
    {"step": 1, "objective/kl": math.nan, "gradient/a_norm": 1.0},
    {"step": 2, "objective/kl": 2.0, "gradient/a_norm": 1.0, "count/x": 1.0},
  ]
  assert list(curves.panels(log, {})) == [
    (
      "KL from the starting policy",
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


@pytest.mark.parametrize(
  ("data", "said"),
  [
    ({"source": "microworld"}, "Labelers are simulated"),
    (
      {"source": "files", "rankings": "hh.jsonl", "prompts": "p/*.csv"},
      "people's own files: hh.jsonl (rankings), p/*.csv (prompts)",
    ),
    ({"source": "files"}, "none is named"),
    ({"source": "my_package.my_world"}, "The world is my_package.my_world"),
    ({}, ""),
    ("microworld", ""),
  ],
)
def test_the_page_says_whose_world_it_is(tmp_path, data, said):
  config = {"experiment": "sft", "variant": "tiny", "data": data}
  folder = write(tmp_path / "sft-tiny", config=config)
  text = report_page.write(folder, [folder]).read_text()
  assert said in text.replace("&#39;", "'")
  assert ('<p class="world">' in text) == bool(said)


def test_an_evaluation_by_another_command_is_said():
  made = report_toys.PROVENANCE
  facts = header.provenance({"provenance": made, "evaluated_by": made})
  assert [name for name, _ in facts] == [
    *("date", "command", "commit", "device", "versions")
  ]
  later = made | {"commit": "def456", "date": "2026-12-01T00:00:00+00:00"}
  facts = header.provenance({"provenance": made, "evaluated_by": later})
  assert ("evaluated: date", "2026-12-01 00:00:00 UTC") in facts
  assert header.provenance({}) == []


def sided(tmp_path, *responses):
  lines = [json.dumps({"prompt": "p", "responses": r}) for r in responses]
  (tmp_path / "responses.jsonl").write_text("\n".join(lines))
  return samples.side_by_side(samples.read(tmp_path, is_due=True).records)


def test_who_won_is_what_all_responses_have(tmp_path):
  a = {"text": "a", "reward": 1.0, "score": 0.2, "preferred": {"b": 0.9}}
  b = {"text": "b", "reward": 2.0, "score": 0.2, "preferred": {"a": 0.1}}
  shown = sided(tmp_path, {"a": a, "b": b})
  assert shown["rows"][0]["won"] == "a>b"
  assert shown["outcomes"] == [
    ("b>a", "b over a"),
    ("a>b", "a over b"),
    ("a=b", "b and a alike"),
  ]
  del b["preferred"]
  shown = sided(tmp_path, {"a": a, "b": b})
  assert shown["rows"][0]["won"] == "a=b"
  assert shown["measure"] == "the judge's score is higher"
  del a["score"]
  assert sided(tmp_path, {"a": a, "b": b})["rows"][0]["won"] == "b>a"
  same = sided(tmp_path, {"a": a, "b": b | {"text": "a"}})
  assert same["rows"][0]["won"] == "a=b"
  for nothing in ({"a": a}, {"b": "only text", "a": a}):
    shown = sided(tmp_path, {"a": a, "b": b}, nothing)
    assert shown["outcomes"] == []
    assert shown["rows"][0]["won"] == ""


def test_a_response_says_over_which_it_wins(tmp_path):
  said = {n: {"text": n, "score": s} for n, s in [("sft", 0.2), ("ppo", 0.4),
                                                 ("gpt", 0.2)]}  # fmt: skip
  answers = sided(tmp_path, said)["rows"][0]["answers"]
  assert [answer["won"] for answer in answers] == [
    "level with GPT",
    "wins over SFT, GPT",
    "level with SFT",
  ]


def page_with(chain, content):
  """The text of a chain's page with other bytes in responses.jsonl."""
  path = chain[-1] / "responses.jsonl"
  path.unlink()
  if content is not None:
    path.write_bytes(content)
  return read(report_page.write(chain[-1], chain)).text


def test_responses_that_are_gone_are_missed_with_the_remedy(chain):
  text = page_with(chain, None)
  assert "responses.jsonl is missing from this run's folder" in text
  assert "delete results.json in the same folder" in text
  assert "wins over another" not in text
  results = json.loads((chain[-1] / "results.json").read_text())
  path = chain[-1] / "results.json"
  path.write_text(json.dumps(results | {"tables": {}}))
  assert "is missing" not in read(report_page.write(chain[-1], chain)).text


@pytest.mark.parametrize(("against", "is_missed"), [((), 0), (("a",), 1)])
def test_responses_of_joined_runs_lie_where_these_do(chain, against, is_missed):
  """Unless they were held against each other, for which they are written."""
  path = chain[-1] / "config.json"
  record = json.loads(path.read_text())
  record["config"] |= {"job": "join", "join": {"against": against}}
  path.write_text(json.dumps(record))
  assert ("is missing" in page_with(chain, None)) == is_missed


def test_lines_that_cannot_be_read_are_counted(chain):
  good = json.dumps(report_toys.record(1)).encode()
  odd = b'{"responses": {"a": [1]}}', b'{"responses": 3}', b"[]", b"\xff{"
  text = page_with(chain, b"\n".join([good, *odd, b"[" * 100_000, good[:30]]))
  assert "6 lines of responses.jsonl could not be read." in text
  assert "1 of 1 test prompts that could be read" in text
  length = [{"subject": "sft", "value": 3.0, "n": 16}]
  said = results_of("ppo_ptx", tables={"length": length})
  (chain[-1] / "results.json").write_text(json.dumps(said))
  text = page_with(chain, good)
  assert "15 lines of 16 are missing from responses.jsonl." in text
  (chain[-1] / "responses.jsonl").write_bytes(b"\n".join([good] * 16))
  assert not samples.read(chain[-1], is_due=True, prompts=16).problem


def test_no_end_of_an_interval_lies_beyond_what_a_share_can_be():
  row = {"subject": "sft", "value": 0.02, "low": -0.1, "high": 1.2, "n": 3}
  assert str(exhibits.cell(row, percent=True)) == "2.0 % [0.0, 100.0]"
  point = figures._point(row, 100)
  assert (point.low, point.high) == (0, 100)
  assert figures._point(row, 1).low == -0.1


def test_costs_are_the_last_stage_s_where_there_are_others(chain):
  said = dict(header.facts(results_of("ppo"), alone=False))
  assert said["time of the last stage"] == "1:15"
  assert dict(header.facts(results_of("ppo")))["time"] == "1:15"
  page = read(report_page.write(chain[-1], chain))
  assert "peak memory of the last stage" in page.text


def test_long_responses_are_fewer(tmp_path):
  said = {name: {"text": name * 10_000} for name in "abcd"}
  shown = sided(tmp_path, *[said] * 400)
  assert 100 < len(shown["rows"]) < samples.RESPONSES
  letters = sum(len(w["text"]) for r in shown["rows"] for w in r["answers"])
  assert letters < samples.ALL_LETTERS


@pytest.mark.parametrize(
  ("references", "lines", "closes"),
  [
    ({"ppo": "sft"}, ["from SFT"], "KL from SFT, nats"),
    ({"sft": "gpt", "ppo": "gpt"}, ["from GPT"], "KL from GPT, nats"),
    (
      {"small_ppo": "small_sft", "large_ppo": "large_sft"},
      ["from SFT (small)", "from SFT (large)"],
      "KL from SFT, nats",
    ),
    ({"a": "sft", "b": "gpt"}, ["from SFT", "from GPT"],
     "KL from references, nats"),
    ({"ppo": None}, [""], "KL from SFT, nats"),  # of results of before
  ],
)  # fmt: skip
def test_kl_names_what_it_is_measured_from(references, lines, closes):
  rows = [
    {"subject": subject, "value": 1.0} | ({"reference": name} if name else {})
    for subject, name in references.items()
  ]
  assert [row[0] for row in exhibits.arrange("kl", rows).rows] == lines
  ((label, *_),) = closing.arrange({"kl": rows}).rows
  assert label == closes


def test_every_row_of_an_evaluation_says_its_n():
  table = exhibits.arrange("metadata", report_toys.WIDE["metadata"])
  assert table.headers[-1] == "n (independent)"
  assert [str(row[-1]) for row in table.rows] == ["512 (301)"] * 3
  rows = [
    {"subject": s, "value": 0.5, "n": n, "clusters": n} for s, n in [("a", 3),
                                                                    ("b", 5)]
  ]  # fmt: skip
  assert str(exhibits.arrange("x", rows).rows[0][-1]) == "3–5"


def titles_of(names):
  log = [{"step": 1} | dict.fromkeys(names, 1.0)]
  return [title for title, _, _ in curves.panels(log, {})]


def test_what_each_method_is_looked_at_for_is_drawn():
  own = (
    *("rewards/accuracy", "rewards/margin", "rewards/chosen"),
    *("rewards/rejected", "logprobs/chosen", "logprobs/rejected"),
    *("policy/forward_kl", "groups/zero_std", "groups/reward_std"),
    *("objective/kl_k3", "policy/kl_k3", "kl/loss", "best/score"),
    *("best/length", "best/end_rate", "objective/kl_bound"),
    *("objective/kl_reverse", "groups/equal_scores"),
  )
  for name in own:
    assert len(titles_of([name])) == 1, name
  assert len(set(titles_of(own))) == len(own)


def test_titles_hold_for_whatever_logs_the_metric():
  loss, returns = titles_of(["rankings/loss", "objective/return"])
  assert "equation" not in loss  # DPO's is another, IPO's another still
  assert "where the reward has it" in returns  # GRPO's KL is in the loss


def test_reading_aids_are_of_what_was_logged():
  ppo = [{"step": 1, "objective/kl": 1.0, "policy/ratio_first_minibatch": 1.0}]
  dpo = [{"step": 1, "rewards/margin": 1.0, "validation/rewards/margin": 0.5}]
  assert curves.reading([ppo]) == (
    "A KL that rises slowly. Ratios of 1 in the first minibatch."
  )
  said = curves.reading([dpo])
  assert "Training and validation" in said
  assert "margin" in said
  assert "atios" not in said
  assert curves.reading([ppo, dpo]).count(".") > said.count(".")
  assert not curves.reading([[{"step": 1}], []])


def test_reward_models_stand_beside_each_other_by_round():
  rows = [
    {"model": m, "comparisons": c, "labelers": "training", "value": v, "n": 9}
    | {"metric": f"reward_models/accuracy/{m}/{c}/training"}
    for m, values in (("iterated", (0.75, 0.5)), ("ppo_ptx", (0.65, 0.4)))
    for c, v in zip(("all", "round2/sft_hot"), values)
  ]
  table = exhibits.arrange("reward_models", rows)
  assert table.headers[1:3] == ("PPO-ptx", "PPO-ptx (iterated)")
  lines = [tuple(map(str, line)) for line in table.rows]
  assert lines == [
    ("all, training labelers", "65.0 %", "75.0 %", "9"),
    ("round 2: SFT hot, training labelers", "40.0 %", "50.0 %", "9"),
  ]


def test_a_choice_of_n_says_its_n_and_what_it_means(tmp_path, capsys):
  names = ("sft", "sft_best_of_n")
  tables = {
    name: [interval(0.5, subject=s, metric=f"{name}/{s}") for s in there]
    for name, there in (("kl", names[:1]), ("score", names), ("nlp", names))
  }
  tables["score_wins"] = [
    interval(0.75, subject=names[1], baseline="sft", metric="w")
  ]
  tables["preference"] = [
    interval(0.625, subject=a, baseline=b, labelers="training", metric="p")
    for a, b in (names, names[::-1])
  ]
  subjects = {name: {"best_of": n} for name, n in zip(names, (1, 8))}
  config = {"experiment": "best_of_n", "evaluation": {"subjects": subjects}}
  folder = write(
    tmp_path / "best_of_n-tiny",
    results=results_of("best_of_n", tables=tables),
    config=config,
  )
  said = {
    "sft": {"text": "a", "preferred": {"sft_best_of_n": 0.1}},
    "sft_best_of_n": {"text": "b", "preferred": {"sft": 0.9}},
  }
  line = json.dumps({"prompt": "p", "responses": said})
  (folder / "responses.jsonl").write_text(line)
  text = read(report_page.write(folder, [folder])).text
  assert "best of n" not in text
  assert "SFT (best of 8) over SFT" in text
  assert "wins over SFT" in text
  # log 8 - 7/8 = 2.0794 - 0.875
  assert text.count("1.20 nats a response") == 1
  assert text.count("chosen by this very reward model") == 2
  assert "8 times the sampling" in text
  closing.print_closing(results_of("best_of_n", tables=tables), config)
  out = capsys.readouterr().out
  assert "SFT (best of 8)" in out
  assert "1.20 nats" in out
  subjects["sft_best_of_n"]["best_of"] = 1
  (folder / "config.json").write_text(json.dumps({"config": config}))
  text = read(report_page.write(folder, [folder])).text
  assert "by construction" not in text
  assert "1.20 nats" not in text


@pytest.mark.parametrize(
  "config",
  [
    {},
    {"evaluation": 3},
    {"evaluation": {"subjects": [1]}},
    {"evaluation": {"subjects": {"a": 1, "b": {"best_of": "8"}, "c": {}}}},
  ],
)
def test_a_config_without_choices_renames_nothing(config):
  rows = [{"subject": "sft_best_of_n", "value": 1.0}]
  assert best_of.rows(rows, config) == rows
  assert not best_of.note("kl", rows, config)
