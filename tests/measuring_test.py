"""Models measured on sets: what is found, asked, remembered and written."""

import dataclasses
import json
import math

import numpy as np
import pytest
from etils import epath

from instruct_jax import sets as sets_lib
from instruct_jax.base import errors, interrupt
from instruct_jax.inference import continuing, likelihood
from instruct_jax.measuring import (
  asked,
  choices,
  contract,
  found,
  models,
  options,
  running,
  table,
)
from instruct_jax.report import evaluation
from instruct_jax.scoring import tasks
from tests import likelihood_test as by_hand


def model(tmp_path, name="m", seed=0, **mesh):
  answers = asked.Answers(tmp_path / "asked.jsonl", {"model": name})
  return models.Model(name, by_hand.reader(**mesh), answers, seed)


# Files


def a_set(**changes):
  given = {
    "about": "a set",
    "files": {"rows": ("*toy*/val.jsonl", "toy.csv"), "more": ("extra*",)},
    "published": "https://example.org",
    "headline": "accuracy",
    "optional": ("more",),
  }
  return contract.Set(**given | changes)


@pytest.mark.parametrize(
  ("names", "chosen", "others"),
  [
    (["toy.csv"], "toy.csv", []),
    (["deep/er/My_Toy_set/VAL.jsonl.bz2", "toy.csv"],
     "deep/er/My_Toy_set/VAL.jsonl.bz2", []),
    (["b_toy/val.jsonl", "a/b_toy/val.jsonl"], "b_toy/val.jsonl",
     ["a/b_toy/val.jsonl"]),
    ([".hidden/toy.csv", "x/toy.csv.gz"], "x/toy.csv.gz", []),
  ],
)  # fmt: skip
def test_files_are_found_by_what_they_may_be_called(
  tmp_path, names, chosen, others
):
  for name in names:
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("x")
  one = found.of_set(a_set(), str(tmp_path), {})
  assert one.files == {"rows": str(tmp_path / chosen)}
  assert list(one.others) == [str(tmp_path / name) for name in others]
  assert not one.missing


def test_files_that_are_missing_are_named(tmp_path):
  (tmp_path / "toy.csvx").write_text("x")
  one = found.of_set(a_set(), str(tmp_path), {})
  assert one.missing == "rows (*toy*/val.jsonl or toy.csv)"
  assert found.of_set(a_set(), "", {}).missing == one.missing


def test_a_file_may_be_named(tmp_path):
  path = tmp_path / "mine"
  path.write_text("x")
  one = found.of_set(a_set(), "", {"": str(path)})
  assert one.files == {"rows": str(path)}
  with pytest.raises(errors.UserError, match="rows"):
    found.of_set(a_set(), "", {"row": str(path)})
  with pytest.raises(errors.UserError, match="no such file"):
    found.of_set(a_set(), "", {"rows": str(tmp_path / "none")})
  with pytest.raises(errors.UserError, match="no such folder"):
    found.of_set(a_set(), str(tmp_path / "none"), {})


# Answers


def test_answers_are_remembered_by_call_and_place(tmp_path):
  path = tmp_path / "a" / "asked.jsonl"
  first = asked.Answers(path, {"model": "m"})
  first.add("x", {0: ["a", 1.25], 3: ["b", 0.1]})
  first.add("y", {0: None})
  again = asked.Answers(path, {"model": "m"})
  assert again.known("x") == {0: ["a", 1.25], 3: ["b", 0.1]}
  assert again.known("y") == {0: None}
  assert again.known("z") == {}


def test_a_line_that_was_broken_off_is_left_out(tmp_path):
  path = tmp_path / "asked.jsonl"
  asked.Answers(path, {"model": "m"}).add("x", {0: "a"})
  whole = path.read_bytes()
  path.write_bytes(whole + b'{"call": "x", "sa')
  again = asked.Answers(path, {"model": "m"})
  assert again.known("x") == {0: "a"}
  again.add("x", {1: "b"})
  assert asked.Answers(path, {"model": "m"}).known("x") == {0: "a", 1: "b"}


def test_answers_of_another_model_are_not_believed(tmp_path):
  path = tmp_path / "asked.jsonl"
  asked.Answers(path, {"model": "m"}).add("x", {0: "a"})
  other = asked.Answers(path, {"model": "other"})
  assert other.known("x") == {}
  assert asked.Answers(path, {"model": "m"}).known("x") == {}


# Models

PAIRS = [("the cat", " sat"), ("the cat", " ran"), ("a", "b")]


def test_nothing_is_asked_twice(tmp_path, monkeypatch):
  one = model(tmp_path)
  first = one.likelihoods(PAIRS)
  said = one.say(["the cat", "a"], max_tokens=4, temperature=1.0, n=2)
  assert first == likelihood.of_texts(by_hand.reader(), PAIRS)

  def never(*given, **named):
    raise AssertionError("asked again")

  monkeypatch.setattr(likelihood, "by_batch", never)
  monkeypatch.setattr(continuing, "by_batch", never)
  again = model(tmp_path)
  assert again.likelihoods(PAIRS) == first
  assert again.say(["the cat", "a"], max_tokens=4, temperature=1.0, n=2) == said
  with pytest.raises(AssertionError, match="asked again"):
    again.say(["the cat", "a"], max_tokens=5, temperature=1.0, n=2)
  with pytest.raises(AssertionError, match="asked again"):
    model(tmp_path, seed=1).say(["a"], max_tokens=4, temperature=1.0)


def test_what_was_broken_off_goes_on_with_the_same_answers(
  tmp_path, monkeypatch
):
  monkeypatch.setattr(continuing, "AT_ONCE", 2)
  prompts = ["the cat", "a", "what", "is it", "b"]
  whole = model(tmp_path).say(prompts, max_tokens=5, temperature=1.0)
  (tmp_path / "other").mkdir()
  calls = []

  def stop():
    calls.append(1)
    if len(calls) == 2:
      raise interrupt.Interrupted

  monkeypatch.setattr(interrupt, "check", stop)
  with pytest.raises(interrupt.Interrupted):
    model(tmp_path / "other").say(prompts, max_tokens=5, temperature=1.0)
  lines = (tmp_path / "other" / "asked.jsonl").read_text().splitlines()
  assert len(lines) == 3, "a head and two batches"
  assert (
    model(tmp_path / "other").say(prompts, max_tokens=5, temperature=1.0)
    == whole
  )


def test_responses_to_a_prompt_differ_and_stand_together(tmp_path):
  said = model(tmp_path).say(["a", "b"], max_tokens=6, temperature=1.0, n=3)
  assert len(said) == 6
  assert len({one.text for one in said[:3]}) > 1
  first = models.Model(
    "m", by_hand.reader(), asked.Answers(tmp_path / "x.jsonl", {})
  ).say(["a"], max_tokens=6, temperature=1.0, n=3)
  assert first == said[:3]


def by_letters(prompts, texts, ended):
  """Low letters are good; what the prompt 'b' gets nobody can tell."""
  assert len(prompts) == len(texts) == len(ended)
  scores = np.asarray([float(-sum(map(ord, text))) for text in texts])
  return np.where(np.asarray(prompts) == "b", np.nan, scores)


def test_each_answer_is_the_best_of_several(tmp_path):
  prompts = ["a", "b", "the cat"]
  one = model(tmp_path)
  every = one.say(prompts, max_tokens=6, temperature=1.0, n=8)
  chosen = dataclasses.replace(one, choice=models.Choice(4, by_letters))
  said = chosen.say(prompts, max_tokens=6, temperature=1.0, n=2)
  expected = []
  for first in range(0, 24, 4):
    four = every[first : first + 4]
    is_told = not 8 <= first < 16
    best = min(four, key=lambda x: sum(map(ord, x.text)))
    unchosen = dataclasses.replace(four[0], is_unchosen=True)
    expected.append(best if is_told else unchosen)
  assert said == expected
  counts = options.counts(said)
  assert counts["responses not chosen, too long for the scorer"] == 2
  assert said[::2] != [every[n] for n in (0, 8, 16)]
  # Where a set asks for the likeliest, temperature 1 has something to choose.
  greedy = chosen.say(["a"], max_tokens=6)
  assert greedy == chosen.say(["a"], max_tokens=6, temperature=1.0)


def test_who_can_read_no_answer_chooses_none(tmp_path):
  chosen = dataclasses.replace(
    model(tmp_path), choice=models.Choice(4, by_letters)
  )
  with pytest.raises(errors.UserError, match="best_of=4: --scorer reads none"):
    chosen.say(["b"], max_tokens=6)
  assert chosen.say([], max_tokens=6) == []


def test_more_responses_leave_those_before_as_they_were(tmp_path):
  one = model(tmp_path)
  prompts = ["a", "the cat"]
  many = one.say(prompts, max_tokens=6, temperature=1.0, n=5)
  few = one.say(prompts, max_tokens=6, temperature=1.0, n=2)
  first = one.say(prompts, max_tokens=6, temperature=1.0)
  assert few == [*many[0:2], *many[5:7]]
  assert first == [many[0], many[5]]


def test_no_more_is_said_than_half_of_what_the_model_reads(tmp_path):
  (one,) = model(tmp_path).say(["a"], max_tokens=1000)
  assert one.tokens <= by_hand.REACH // 2


# Choices


def by_hand_logprob(context, text):
  before = (*by_hand.TOKENIZER.start_ids, *by_hand.ids(context))
  return by_hand.by_hand(before, by_hand.ids(text))[0]


def test_choices_by_sum_and_by_byte(tmp_path):
  items = [
    choices.Item(("the cat",), (" sat", " ran away from it"), answer=1),
    choices.Item(("a", "b"), ("xyz", "xyz"), answer=0),
  ]
  measured = choices.measure(model(tmp_path), items)
  logprobs = {}
  for item in items:
    for context, text in item.asked:
      logprobs[context, text] = by_hand_logprob(context, text)
  for row, item in zip(measured.samples, items):
    sums = [logprobs[pair] for pair in item.asked]
    by_byte = [x / len(text) for x, (_, text) in zip(sums, item.asked)]
    assert row["taken"] == sums.index(max(sums))
    assert row["taken_normalised"] == by_byte.index(max(by_byte))
    assert row["logprobs"] == pytest.approx(sums, rel=1e-3)
  right = [row["taken"] == row["answer"] for row in measured.samples]
  assert measured.metrics["accuracy"].value == sum(right) / 2
  assert measured.metrics["accuracy"].n == 2
  assert measured.counts == {}


def test_contexts_that_were_cut_are_counted(tmp_path):
  items = [choices.Item(("abc " * 40,), (" x", " y"), answer=0)]
  measured = choices.measure(model(tmp_path), items)
  assert measured.counts == {"contexts cut on the left": 1}


# The whole


def toy_sets(calls):
  def likely(bench):
    calls.append((bench.name, bench.model.name))
    rows = table.rows(bench.files["rows"])
    items = bench.some([table.text(row, "text", where) for where, row in rows])
    said = bench.model.likelihoods([(text, " .") for text in items])
    values = [one.logprob for one in said]
    samples = [{"text": x, "logprob": y} for x, y in zip(items, values)]
    return contract.Measured(
      {"accuracy": tasks.mean(values)}, samples, {"odd": 1}, ("a note",)
    )

  def compare(bench):
    calls.append((bench.name, *bench.names))
    said = {n: bench.open(n).say(["a"], max_tokens=3) for n in bench.names}
    rows = [{"subject": n, "value": float(said[n][0].tokens)} for n in said]
    return contract.Compared({"lengths": rows}, [{"prompt": "a"}])

  rows = {"rows": ("rows.jsonl",)}
  return {
    "likely": a_set(files=rows, measure=likely, plain=("accuracy",)),
    "absent": a_set(measure=likely),
    "against": a_set(files={}, compare=compare),
  }


@pytest.fixture
def data(tmp_path):
  folder = tmp_path / "data"
  folder.mkdir()
  lines = [json.dumps({"text": text}) for text in ("a", "the cat", "b c")]
  (folder / "rows.jsonl").write_text("\n".join(lines))
  return folder


def given(name, digest="d", reader=None):
  described = {"run": f"runs/{name}", "digest": digest, "template": "none"}
  return running.Given(name, described, lambda: reader or by_hand.reader())


def measure(names, data, out, calls, *, limit=0, digest="d", best_of=1):
  found._names.cache_clear()
  found._matching.cache_clear()
  known = toy_sets(calls)
  there = {n: found.of_set(x, str(data), {}) for n, x in known.items()}
  settings = contract.Settings(limit=limit, best_of=best_of)
  models_ = [given(name, digest) for name in names]
  scorer = contract.Scorer("rm", {"run": "runs/rm"}, {}, by_letters)
  return running.measure(*(models_, known, there, settings, out), scorer=scorer)


def test_all_models_on_all_sets(tmp_path, data):
  calls = []
  results = measure(["m", "n"], data, tmp_path / "out", calls)
  assert calls == [("likely", "m"), ("likely", "n"), ("against", "m", "n")]
  one = results["sets"]["likely"]
  texts = ("a", "the cat", "b c")
  expected = sum(by_hand_logprob(text, " .") for text in texts) / 3
  for name in ("m", "n"):
    got = one["metrics"]["accuracy"][name]
    assert got["value"] == pytest.approx(expected, rel=1e-4)
    assert got["n"] == 3
    assert one["counts"][name] == {"odd": 1}
  assert one["notes"] == ["a note"]
  assert "toy" in results["missing"]["absent"]
  assert [r["subject"] for r in results["sets"]["against"]["tables"]["lengths"]]
  assert json.loads((tmp_path / "out/results.json").read_text()) == results
  lines = (tmp_path / "out/likely.jsonl").read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert [row["model"] for row in rows] == ["m"] * 3 + ["n"] * 3
  assert rows[1]["text"] == "the cat"


def test_what_is_known_is_not_measured_again(tmp_path, data):
  calls = []
  first = measure(["m"], data, tmp_path / "out", calls)
  calls.clear()
  assert measure(["m"], data, tmp_path / "out", calls) == first
  assert calls == []
  measure(["m", "n"], data, tmp_path / "out", calls)
  assert calls == [("likely", "n"), ("against", "m", "n")]
  calls.clear()
  measure(["m"], data, tmp_path / "out", calls, digest="other")
  assert calls == [("likely", "m"), ("against", "m")]
  calls.clear()
  limited = measure(
    ["m"], data, tmp_path / "out", calls, limit=2, digest="other"
  )
  assert calls == [("likely", "m"), ("against", "m")]
  assert limited["sets"]["likely"]["metrics"]["accuracy"]["m"]["n"] == 2
  (data / "rows.jsonl").write_text('{"text": "z"}')
  calls.clear()
  measure(["m"], data, tmp_path / "out", calls, limit=2, digest="other")
  assert calls == [("likely", "m")]


def test_the_best_of_n_is_another_measurement_and_says_so(
  tmp_path, data, capsys
):
  calls, out = [], tmp_path / "out"
  plain = measure(["m"], data, out, calls)
  assert "best_of" not in plain["settings"]
  calls.clear()
  results = measure(["m"], data, out, calls, best_of=4)
  assert calls == [("likely", "m"), ("against", "m")]
  assert results["settings"]["best_of"] == 4
  assert results["settings"]["best_of_kl"] == pytest.approx(math.log(4) - 0.75)
  evaluation.print_results(results)
  assert "of 4 the one that runs/rm likes best" in capsys.readouterr().out
  assert "0.64 nats" in evaluation.write(out, results).read_text()


def test_a_set_that_fails_does_not_stop_the_others(tmp_path, data):
  (data / "rows.jsonl").write_text('{"txet": "a"}')
  results = measure(["m"], data, tmp_path / "out", [])
  assert "text" in results["failed"]["likely"]
  assert "txet" in results["failed"]["likely"]
  assert "rows.jsonl:1" in results["failed"]["likely"]
  assert "against" in results["sets"]
  assert "likely" not in results["sets"]


def test_where_all_fail_what_was_found_before_stays(tmp_path, data):
  (data / "rows.jsonl").write_text("{}")
  known = {"likely": toy_sets([])["likely"]}
  out = tmp_path / "new" / "out"
  for content in (None, "before"):
    if content:
      out.mkdir(parents=True, exist_ok=True)
      (out / "results.json").write_text(content)
    there = {"likely": found.of_set(known["likely"], str(data), {})}
    results = running.measure(
      [given("m")], known, there, contract.Settings(), out
    )
    assert "text" in results["failed"]["likely"]
    assert not results["sets"]
    if content:
      assert (out / "results.json").read_text() == content
    else:
      assert not (out / "results.json").exists()


def test_as_many_groups_as_are_wanted_come_whole():
  settings = contract.Settings(limit=2)
  bench = contract.Bench(
    "toy", {}, settings, (), lambda name: None, epath.Path("unused")
  )
  items = [(n // 3, n) for n in range(12)]
  drawn = bench.some(items, of=lambda item: item[0])
  assert len(drawn) == 6
  assert len({group for group, _ in drawn}) == 2
  assert drawn == sorted(drawn)
  assert len(bench.some(items)) == 2
  everything = dataclasses.replace(bench, settings=contract.Settings())
  assert everything.some(items, of=lambda item: item[0]) == items


def test_models_that_only_a_file_names_have_columns():
  metrics = {"win_rate": {"b": {"value": 0.5, "stderr": 0.1, "n": 9}}}
  entry = {"metrics": metrics, "plain": []}
  assert evaluation._of(entry, []) == ["b"]
  assert evaluation._of(entry, ["a", "b"]) == ["b"]
  assert evaluation._of({"metrics": {}, "plain": []}, ["a"]) == ["a"]


def test_the_page_and_the_table_say_it(tmp_path, data, capsys):
  results = measure(["m", "n"], data, tmp_path / "out", [])
  page = evaluation.write(tmp_path / "out", results).read_text()
  for part in ("likely", "a note", "the cat", "no file for", "odd"):
    assert part in page
  evaluation.print_results(results)
  out = capsys.readouterr().out
  value = results["sets"]["likely"]["metrics"]["accuracy"]["m"]["value"]
  assert f"{value:.3f} ±" in out
  assert "Missing: absent" in out
  assert "Note: likely: a note" in out


def test_short_tables_are_printed_and_of_others_there_is_no_headline(
  tmp_path, data, capsys
):
  results = measure(["m"], data, tmp_path / "out", [])
  of_others = results["sets"]["likely"]["metrics"]["accuracy"]
  of_others["other"] = of_others.pop("m")
  short = [{"model": "other", "odd": 0.25}]
  results["sets"]["likely"]["tables"] = {"mine": short, "long": short * 13}
  evaluation.print_results(results)
  out = capsys.readouterr().out
  assert "likely: Mine" in out
  assert "0.25" in out
  assert "likely: Long: 13 rows, in the report" in out
  names = [row[0] for row in evaluation.headlines(results).rows]
  assert not any("likely" in name for name in names)


def test_fractions_are_shown_in_percent():
  entry = {"metrics": {"f1": {"m": {"value": 0.5, "stderr": 0.0123, "n": 9}}}}
  cells = evaluation.whole(entry | {"plain": []}, ["m", "n"]).rows[0]
  assert [str(cell) for cell in cells] == ["f1, %", "50.0 ± 1.2", "–", "9"]
  cells = evaluation.whole(entry | {"plain": ["f*"]}, ["m"]).rows[0]
  assert [str(cell) for cell in cells] == ["f1", "0.500 ± 0.012", "9"]


# Options


@pytest.mark.parametrize(
  ("pair", "words"),
  [
    ("squadv2.shots", "SET.NAME=VALUE"),
    ("=2", "SET.NAME=VALUE"),
    ("squad.shots=2", "squadv2"),
  ],
)
def test_options_that_are_no_pair_of_a_set(pair, words):
  with pytest.raises(errors.UserError, match=words):
    options.split([pair], "--set_option", sets_lib.all_sets())


def test_options_by_set():
  known = sets_lib.all_sets()
  given_ = options.split(["squadv2.shots=2"], "--set_option", known)
  assert given_ == {"squadv2": {"shots": "2"}}
  options.check(known, given_)
  with pytest.raises(errors.UserError, match="shots"):
    options.check(known, {"squadv2": {"shot": "2"}})
  with pytest.raises(errors.UserError, match=r"squadv2\.shots=x: a whole"):
    options.check(known, {"squadv2": {"shots": "x"}})
  with pytest.raises(errors.UserError, match="twice"):
    options.split(["squadv2.a=1", "squadv2.a=2"], "--set_option", known)


@pytest.mark.parametrize("name", sets_lib.all_sets())
def test_a_set_says_what_it_is(name):
  one = sets_lib.all_sets()[name]
  assert all([one.about, one.published, one.headline])
  assert bool(one.measure) != bool(one.compare)
  assert set(one.optional) <= set(one.files)
