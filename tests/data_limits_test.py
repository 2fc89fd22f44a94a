"""What limits drop and cut is a table, and a warning where it is much."""

import json

import pytest

from instruct_jax.base import errors
from instruct_jax.data import inspect, prepare, showing
from instruct_jax.data.batch import histograms, limits
from instruct_jax.data.read import kinds
from instruct_jax.report import closing, exhibits
from tests import data_toys

LONG = {"prompt": "p" * 40, "responses": ["a", "b"], "ranks": [1, 2]}
SHORT = LONG | {"prompt": "p"}


def write(path, records):
  path.write_text("".join(json.dumps(record) + "\n" for record in records))
  return str(path)


def lines_of(kind, records, **changes):
  data = data_toys.section(**changes)
  rows = data_toys.rows_of(kind, records, **changes)
  return limits.warnings(kind, {"train": rows.counts}, data)


def test_a_warning_names_the_share_the_key_and_what_would_hold_most():
  (line,) = lines_of("rankings", [SHORT] * 4 + [LONG] * 5)
  # With the template's "Q " and " A" and end-of-text in front.
  assert line == (
    "rankings: dropped, as their prompts are longer than"
    " data.prompt_length=12: train 5 of 9 (55.6 %);"
    " --config.data.prompt_length=45 would hold 95 %, 45 99 %"
  )
  assert lines_of("rankings", [SHORT] * 4 + [LONG] * 5, prompt_length=45) == []


@pytest.mark.parametrize(("long", "warns"), [(1, False), (2, True)])
def test_more_than_a_tenth_is_much(long, warns):
  records = [SHORT] * (10 - long) + [LONG] * long
  assert bool(lines_of("rankings", records)) == warns


def test_responses_that_are_cut_are_counted_of_all_responses():
  long = SHORT | {"responses": ["a", "b" * 7, "c" * 9], "ranks": [1, 2, 2]}
  (line,) = lines_of("rankings", [long, SHORT])
  assert "responses cut to data.response_length=6: train 2 of 5 (40" in line
  assert "--config.data.response_length=10 would hold 95 %" in line
  given = [{"prompt": "p", "response": "r" * n} for n in (1, 2, 30)]
  (line,) = lines_of("demonstrations", given)
  assert ": train 1 of 3 (33.3 %); --config" in line
  assert lines_of("demonstrations", given, response_length=31) == []


@pytest.mark.parametrize("packed", [False, True])
def test_the_value_that_is_named_holds_what_it_says(packed):
  records = [
    {"prompt": "p" * (n % 50 + 1), "response": "r" * (n % 37 + 1)}
    for n in range(200)
  ]
  small = {"prompt_length": 20, "response_length": 8, "row_length": 200}
  counts = data_toys.rows_of(
    "demonstrations", records, packed=packed, **small
  ).counts
  for percent in (95, 99):
    large = small | {
      f"{name}_length": counts[f"{name}_p{percent}"]
      for name in ("prompt", "response")
    }
    more = data_toys.rows_of("demonstrations", records, **large).counts
    assert more["prompts_too_long"] <= (1 - percent / 100) * 200
    lower = large | {"prompt_length": large["prompt_length"] - 1}
    fewer = data_toys.rows_of("demonstrations", records, **lower).counts
    assert fewer["prompts_too_long"] > (1 - percent / 100) * 200


def test_text_that_is_cut_or_left_over():
  data = data_toys.section(row_length=8)
  left = {"train": {"tokens": 20, "tokens_dropped": 4, "rows": 2}}
  (line,) = limits.warnings("pretraining", left, data)
  assert "train 4 of 20 (20.0 %)" in line
  assert "a lower one, or --config.data.packing=True" in line
  documents = {"documents": 5, "documents_cut": 3, "document_p95": 30}
  cut = {"train": documents | {"document_p99": 31}}
  (line,) = limits.warnings("pretraining", cut, data)
  assert "3 of 5 (60.0 %); --config.data.row_length=30 would hold" in line


def test_every_split_that_loses_much_is_in_the_line():
  counts = {"records": 10, "prompt_p95": 20, "prompt_p99": 21}
  by_split = {
    "train": counts | {"prompts_too_long": 1},
    "validation": counts | {"prompts_too_long": 3, "prompt_p99": 25},
    "test": counts | {"prompts_too_long": 2, "prompt_p95": 22},
  }
  (line,) = limits.warnings("prompts", by_split, data_toys.section())
  assert "validation 3 of 10 (30.0 %), test 2 of 10 (20.0 %);" in line
  assert "=22 would hold 95 %, 25 99 %" in line
  assert "train" not in line


@pytest.fixture
def config(tmp_path):
  texts = [{"text": f"the fox {n} jumps over a lazy dog"} for n in range(60)]
  prompts = [{"prompt": f"what does dog {n} do?"} for n in range(40)]
  long = [{"prompt": f"{'and ' * 50} {n}?"} for n in range(40)]
  answers = {"responses": ["sleeps", "it jumps", "."], "ranks": [1, 2, 2]}
  circle = {"responses": list("abc"), "pairs": [[0, 1], [1, 2], [2, 0]]}
  data = data_toys.section(
    prompt_length=40,
    response_length=8,
    row_length=48,
    k_max=0,
    vocab_size=300,
    tokenizer="byte",
    validation_fraction=0.2,
    pretraining=write(tmp_path / "texts.jsonl", texts),
    demonstrations=write(
      tmp_path / "d.jsonl", [p | {"response": "it sleeps"} for p in prompts]
    ),
    prompts=write(tmp_path / "p.jsonl", prompts),
    rankings=write(
      tmp_path / "r.jsonl",
      [p | answers for p in prompts + long]
      + [p | answers | {"ranks": [1, 1, 1]} for p in prompts[:7]]
      + [p | circle for p in prompts[:3]],
    ),
  )
  return data_toys.config(data)


@pytest.mark.parametrize("packing", [False, True])
def test_a_data_set_says_what_it_lost(config, packing, tmp_path, capsys):
  config.data.packing = packing
  built = prepare.build(config, tmp_path / "out")
  assert prepare.build(config, tmp_path / "out") == built  # found built
  closing.print_closing({"metrics": built, "tables": built["tables"]})
  printed = capsys.readouterr().out
  assert "{" not in printed
  assert "'" not in printed
  warned = [row["warning"] for row in built["tables"]["data_warnings"]]
  assert [line.split("=")[0] for line in warned] == [
    "demonstrations: responses cut to data.response_length",
    "rankings: dropped, as their prompts are longer than data.prompt_length",
    "rankings: responses cut to data.response_length",
    "rankings: 3 of 90 have nothing but circles (a beats b, b beats c, c beats"
    " a): they stay and order nothing; look at them, or leave them out",
  ]
  for line in warned:
    assert f"warning: {line}\n" in printed
  closing.print_data(built["tables"], whole=False)
  assert capsys.readouterr().out.count("\n") == 4
  rows = {(r["kind"], r["split"]): r for r in built["tables"]["data_limits"]}
  assert list(rows) == [(k, s) for k in kinds.KINDS for s in kinds.SPLITS[:2]]
  for kind in ("pretraining", "demonstrations"):
    counts = built[kind]["train"]
    counts = counts["packed"] if packing else counts
    assert rows[kind, "train"]["rows"] == counts["rows"]
  lost = sum(rows["rankings", s]["dropped"] for s in kinds.SPLITS[:2])
  assert lost == 40
  cut = rows["rankings", "train"]
  assert cut["responses"] == 3 * cut["rows"]
  assert 0 < cut["cut"] <= cut["rows"]
  cleaned = {row["kind"]: row for row in built["tables"]["data_cleaning"]}
  assert (cleaned["rankings"]["all tied"], cleaned["rankings"]["kept"]) == (
    7,
    83,
  )
  text = rows["pretraining", "train"]
  assert text["counted in"] == "tokens"
  counts = built["pretraining"]["train"]
  counts = counts["packed"] if packing else counts
  assert text["dropped"] == counts.get("tokens_dropped", 0)
  for name in ("rankings", "all tied", "counted in"):
    assert name in printed


def test_the_report_keeps_keys_as_one_types_them(config, tmp_path):
  rows = prepare.build(config, tmp_path / "out")["tables"]["data_warnings"]
  table = exhibits.arrange("data_warnings", rows)
  assert [row[0] for row in table.rows] == [row["warning"] for row in rows]
  assert "--config.data.prompt_length=" in table.rows[1][0]


def test_k_max_is_the_rankings_and_moves_no_byte(config, tmp_path):
  first = prepare.build(config, tmp_path / "out")
  config.data.k_max = 3
  second = prepare.build(config, tmp_path / "again")
  files = sorted(p for p in (tmp_path / "out").rglob("*") if p.is_file())
  assert len(files) > 10
  for path in files:
    other = tmp_path / "again" / path.relative_to(tmp_path / "out")
    if path.name not in (prepare.SUMMARY_FILE, prepare.BEGUN_FILE):
      assert path.read_bytes() == other.read_bytes()
  assert first.pop("inputs") != second.pop("inputs")
  assert first == second


def sizes_of(records):
  return histograms.of([len(record["responses"]) for record in records])


def test_few_huge_rankings_are_named(monkeypatch):
  data = data_toys.section(response_length=100, k_max=0)
  usual = [SHORT] * 300
  assert limits.check_memory(sizes_of(usual), data) == ""
  huge = SHORT | {"responses": [str(n) for n in range(2000)]}
  line = limits.check_memory(sizes_of([*usual, huge]), data)
  assert "one has 2,000 responses, 99 % have 2 or fewer" in line
  assert "1.2 GiB" in line
  assert limits.check_memory(sizes_of([huge] * 301), data) == ""
  monkeypatch.setattr(limits, "_memory", lambda: 2**30)
  with pytest.raises(errors.UserError, match=r"1\.2 GiB.*there are 1\.0 GiB"):
    limits.check_memory(sizes_of([*usual, huge]), data)


def test_pairs_that_the_cut_makes_alike_are_in_the_table_and_a_warning():
  alike = SHORT | {"responses": ["same text 1", "same text 2", "x"]}
  alike |= {"ranks": [1, 2, 3]}
  records = [alike, alike | {"ranks": [2, 1, 3]}, SHORT]
  data = data_toys.section()
  counts = data_toys.rows_of("rankings", records).counts
  (row,) = limits.table("rankings", {"train": counts})
  row = dict(zip(limits.HEADERS, row, strict=True))
  assert [row[n] for n in ("pairs", "alike", "alike %")] == [7, 2, 28.6]
  *_, line = limits.warnings("rankings", {"train": counts}, data)
  assert line == (
    "rankings: pairs lost, as both responses are the same tokens within"
    " data.response_length=6: train 2 of 7 (28.6 %); a higher one tells apart"
    " what begins alike"
  )
  assert lines_of("rankings", records, response_length=12) == []


def test_a_warning_says_why_the_table_has_more():
  counts = {"records": 9, "prompt_p95": 45, "prompt_p99": 45, "rows": 3}
  counts |= {"prompts_too_long": 5, "too_few_completions": 1}
  (row,) = limits.table("rankings", {"train": counts})
  assert dict(zip(limits.HEADERS, row))["dropped"] == 6
  first, second = limits.warnings(
    "rankings", {"train": counts}, data_toys.section()
  )
  others = "6 with what is dropped for other reasons);"
  assert f"train 5 of 9 (55.6 %; {others}" in first
  assert f"train 1 of 9 (11.1 %; {others}" in second


def test_shares_of_a_column_have_as_many_decimals(capsys):
  tables = {
    "data_limits": [{"kind": "x", "cut %": n} for n in (0.0, 12.0, 3.5)]
  }
  closing.print_data(tables)
  printed = capsys.readouterr().out.split("\n")
  assert printed[-4:-1] == ["x       0.0", "x      12.0", "x       3.5"]


def test_what_ties_everything_or_is_dropped_whole_says_so(config, tmp_path):
  tied = [SHORT | {"ranks": [1, 1], "prompt": f"p {n}"} for n in range(12)]
  config.data.rankings = write(tmp_path / "r.jsonl", tied)
  says = r"data\.rankings .*: 12 of 1%d rankings tie .*responses, so %s"
  with pytest.raises(errors.UserError, match=says % (2, "none is left")):
    prepare.build(config, tmp_path / "out")
  one = SHORT | {"split": "validation"}
  config.data.rankings = write(tmp_path / "r.jsonl", [*tied, one])
  with pytest.raises(errors.UserError, match=says % (3, "the train split is")):
    prepare.build(config, tmp_path / "out")
  alike = [
    SHORT | {"prompt": f"p {n}", "responses": ["same text 1", "same text 2"]}
    for n in range(12)
  ]
  config.data.rankings = write(tmp_path / "r.jsonl", alike)
  with pytest.raises(errors.UserError, match="nothing is left of") as error:
    prepare.build(config, tmp_path / "out")
  assert "same tokens" in str(error.value)
  assert "data.response_length=8" in str(error.value)


def test_errors_say_it_in_words():
  counts = {"records": 9, "prompts_too_long": 5, "responses_cut": 0, "rows": 4}
  assert limits.in_words(counts) == (
    "9 records, 5 dropped, as their prompts are longer than data.prompt_length"
  )
  assert limits.in_words({"tokens": 5}) == "5 tokens"
  with pytest.raises(
    Exception, match="nothing is left of rankings: 1 records, "
  ):
    data_toys.rows_of("rankings", [LONG])


def test_inspection_prints_tables(tmp_path, capsys):
  path = write(tmp_path / "r.jsonl", [SHORT | {"labeler": "ann"}, LONG])
  inspect.main([path, "--prompt_length=12", "--response_length=3"])
  assert "{" not in capsys.readouterr().out
  words = LONG | {"prompt": "p " * 13}
  path = write(tmp_path / "r.jsonl", [SHORT, words])
  inspect.main([path, "--prompt_length=12", f"--out={tmp_path / 'out'}"])
  printed = capsys.readouterr().out
  assert "{" not in printed
  assert "warning: prompts dropped: 50.0 % are longer than 12; 13 would" in (
    printed
  )
  assert "What was taken out" in printed


def test_what_is_shown_holds_no_repr():
  assert showing.shown({"a": [1, 2], "b": True}) == "a: 1, 2, b: True"
  assert showing.shown(["x", "y\x1b"]) == "- x\n- y�"


def test_answers_that_are_left_out_stand_in_the_table():
  turns = [("user", "q"), ("assistant", "a" * 30), ("user", "r")]
  messages = [
    {"role": r, "content": t} for r, t in [*turns, ("assistant", "b")]
  ]
  record = kinds.with_prompt({"messages": messages}, "demonstrations")
  alone = {"prompt": "q", "response": "a"}
  changes = {"template": "human_assistant", "prompt_length": 30}
  rows = data_toys.rows_of("demonstrations", [record, alone], **changes)
  (row,) = limits.table("demonstrations", {"train": rows.counts})
  row = dict(zip(limits.HEADERS, row, strict=True))
  names = ("records", "dropped", "in turns", "left out", "left out %")
  assert [row[n] for n in names] == [2, 0, 2, 1, 50.0]
  lines = lines_of("demonstrations", [record, alone], **changes)
  assert "answers left out of conversations that have several" in lines[0]
  assert "train 1 of 2 (50.0 %)" in lines[0]


def test_where_nothing_is_left_the_error_names_what_would_hold_most():
  with pytest.raises(errors.UserError) as error:
    data_toys.rows_of("demonstrations", [{"prompt": "p" * 40, "response": "a"}])
  assert str(error.value).endswith(
    "data.prompt_length=12; --config.data.prompt_length=45 would hold 95 %, 45"
    " 99 %"
  )
