"""The inspection command: what it counts, and what it writes."""

import itertools
import json
import os
import pathlib
import subprocess
import sys
import time

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from instruct_jax import tokenizers
from instruct_jax.base import errors
from instruct_jax.data import __main__ as command
from instruct_jax.data.batch import encoding
from instruct_jax.data.clean import hygiene, measures
from instruct_jax.data.read import kinds, sources
from instruct_jax.maths import preferences
from tests import data_toys

PUBLIC = pathlib.Path(__file__).parents[2] / "shared" / "data"


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


def inspected(records, kind):
  limits = measures.Limits()
  return measures.measure(records, kind, hygiene.Settings(), limits)


def ranking(prompt, ranks, **more):
  responses = [f"answer {n}" for n in range(len(ranks))]
  return {"prompt": prompt, "responses": responses, "ranks": ranks} | more


def shown(capsys, *arguments):
  """What --json prints."""
  command.main([*arguments, "--json"])
  return json.loads(capsys.readouterr().out)


def test_rankings(tmp_path, capsys):
  rows = [
    ranking("one", [1, 2], labeler="ann", source="x"),
    ranking("one", [1, 2], labeler="ben", source="x"),
    ranking("one", [2, 1], labeler="cat", source="y"),
    ranking("two words", [1, 1, 2], labeler="ann"),
    ranking("three", [1, 2, 3]) | {"pairs": [[0, 1]]},
  ]
  found = shown(capsys, write(tmp_path / "r.jsonl", rows))
  assert (found["kind"], found["records"]) == ("rankings", 5)
  assert found["completions"] == {"2": 3, "3": 2}
  assert found["sources"] == {"x": 2, "y": 1}
  annotators = found["annotators"]
  assert annotators["labelers"] == 3
  assert annotators["records_of"] == {"ann": 2, "ben": 1, "cat": 1}
  assert annotators["ranked_by_several"] == 1
  assert annotators["compared_pairs"] == 3
  assert annotators["agreement"] == round(1 / 3, 4)
  assert 0 <= annotators["interval"][0] < 1 / 3 < annotators["interval"][1] <= 1
  assert annotators["by_two"] == {
    "ann and ben": 1.0,
    "ann and cat": 0.0,
    "ben and cat": 0.0,
  }
  assert found["pairs"] == {
    "pairs": 9, "not_compared": 0, "ties": 1, "share_of_ties": 0.1111,
    "rankings_all_tied": 0, "rankings_with_circles": 0,
    "rankings_with_circles_alone": 0,
    "rankings_with_one_text_twice": 0,
  }  # fmt: skip
  assert found["lengths"]["prompt"]["max"] == 2
  assert found["lengths"]["response"] == {
    "total": 24, "p50": 2, "p75": 2, "p90": 2, "p95": 2, "p99": 2, "max": 2
  }  # fmt: skip
  assert found["duplicates"]["exact"] == 2
  assert sum(found["splits"].values()) == 5


def test_prompts_of_users_and_limits(tmp_path, capsys):
  rows = [
    {"prompt": f"question {n} of ann@example.com, please", "user": "ann"}
    for n in range(5)
  ] + [{"prompt": "short", "user": "ben"}]
  path = write(tmp_path / "p.jsonl", rows)
  found = shown(capsys, path, "--per_user=3", "--prompt_length=4", "--prefix=9")
  assert found["kind"] == "prompts"
  assert found["users"] == {
    "users": 2, "rows_of_nobody": 0, "rows_p50": 3, "rows_p90": 5,
    "rows_p99": 5, "rows_max": 5, "over_limit": 1, "rows_over_limit": 2,
  }  # fmt: skip
  assert found["limits"] == {
    "prompts dropped": {
      "limit": 4, "beyond": 5, "of": 6, "percent": 83.3, "p95": 5, "p99": 5
    }
  }  # fmt: skip
  assert found["duplicates"]["by_prefix"] == 4
  assert found["pii"] == {"email": 5}


def test_lengths_are_the_tokenizers(tmp_path, capsys):
  tokenizers.ByteTokenizer().save(tmp_path / "bytes")
  rows = [{"prompt": "abc", "response": "é"}]
  path = write(tmp_path / "d.jsonl", rows)
  found = shown(capsys, path, f"--tokenizer={tmp_path / 'bytes'}")
  assert found["kind"] == "demonstrations"
  assert found["lengths_in"] == "byte tokens"
  assert found["lengths"]["prompt"]["max"] == 3
  assert found["lengths"]["response"]["max"] == 2


@pytest.mark.parametrize("kind", ["demonstrations", "rankings", "prompts"])
def test_limits_drop_and_cut_as_training_does(kind):
  tokenizer, records = tokenizers.ByteTokenizer(), []
  for n in range(40):
    record = {"prompt": "p" * (n % 9 + 1)}
    if kind == "demonstrations":
      record["response"] = "r" * (n % 7 + 1)
    if kind == "rankings":
      responses = ["ab"[i] * (n % (5 + i) + 1) for i in range(2)]
      ended = {"ended": [n % 3 == 0, True]} if n % 2 else {}
      record |= {"responses": responses, "ranks": [1, 2]} | ended
    records.append(record)
  template, lengths = "<{prompt}>", {"prompt_length": 8, "response_length": 4}
  data = data_toys.section(template=template, k_max=4, **lengths)
  counts = encoding.encode_records(records, data, tokenizer, kind, "").counts
  limits = measures.Limits(tokenizer=tokenizer, template=template, **lengths)
  found = measures.measure(records, kind, hygiene.Settings(), limits)["limits"]
  parts = {"prompt": ("prompts dropped", "prompts_too_long", "records")}
  if kind != "prompts":
    parts["response"] = "responses cut", "responses_cut", "responses"
  for part, (name, beyond, of) in parts.items():
    assert found[name]["beyond"] == counts[beyond] > 0
    assert found[name]["of"] == counts[of]
    for percent in ("p95", "p99"):
      assert found[name][percent] == counts[f"{part}_{percent}"]


def test_plain_text_is_pretraining(tmp_path, capsys):
  (tmp_path / "a.txt").write_text("one two\n\nthree")
  found = shown(capsys, str(tmp_path / "a.txt"))
  assert (found["kind"], found["records"]) == ("pretraining", 2)


def test_cleaned_files_are_written_and_read_back(tmp_path, capsys):
  rows = [
    {"prompt": f"prompt {n} of ann@example.com", "user": f"u{n % 40}"}
    for n in range(200)
  ]
  path = write(tmp_path / "p.jsonl", [*rows, rows[0]])
  found = shown(capsys, path, f"--out={tmp_path / 'out'}", "--per_user=4")
  written = found["written"]
  assert written["counts"]["duplicates"] == 1
  assert written["counts"]["over_per_user"] == 40
  summary = json.loads((tmp_path / "out" / "summary.json").read_text())
  assert summary == written
  users = {}
  for split in kinds.SPLITS:
    file = tmp_path / "out" / f"prompts-{split}.jsonl"
    records = sources.read(file, "prompts")
    assert len(records) == written["rows"][split]
    assert all(r["split"] == split for r in records)
    assert any("@" in r["prompt"] for r in records) == (split != "train")
    users[split] = {r["user"] for r in records}
  assert not users["train"] & users["test"]
  assert not users["train"] & users["validation"]


def test_a_split_without_a_row_has_no_file(tmp_path, capsys):
  out, none = tmp_path / "out", ["--validation_fraction=0"]
  rows = [{"prompt": f"prompt {n}", "split": "train"} for n in range(3)]
  rows.append({"prompt": "another", "split": "validation"})
  many, few = write(tmp_path / "a.jsonl", rows), [str(tmp_path / "b.jsonl")]
  write(tmp_path / "b.jsonl", rows[:3])
  written = ["prompts-train.jsonl", "prompts-validation.jsonl"]
  for given, names in (([many], written), (few, written[:1])):
    found = shown(capsys, *given, f"--out={out}", *none)["written"]
    assert sorted(path.name for path in out.glob("*.jsonl")) == names
    assert list(found["rows"].values()) == [3, len(names) - 1, 0]
    files = [str(path) for path in sorted(out.glob("*.jsonl"))]
    assert shown(capsys, *files)["records"] == 2 + len(names)
  assert shown(capsys, *few, f"--out={out}", *none)["written"] == found


def test_other_kinds_lose_what_is_there_twice(tmp_path, capsys):
  rows = [{"prompt": f"p{n % 30}", "response": "r"} for n in range(60)]
  path = write(tmp_path / "d.jsonl", rows)
  found = shown(capsys, path, f"--out={tmp_path / 'out'}")
  counts = found["written"]["counts"]
  assert counts == {
    "read": 60,
    "duplicates": 30,
    "held_out_elsewhere": 0,
    "kept": 30,
  }
  assert sum(found["written"]["rows"].values()) == 30


def test_personal_data_goes_from_the_training_split_of_every_kind(
  tmp_path, capsys
):
  rows = [
    ranking(f"{split} {n} of ann@example.com", [2, 1]) | {"split": split}
    for n in range(3)
    for split in ("train", "test")
  ]
  for row in rows:
    row["responses"][0] = "call +1 415 555 2671"
  path, out = write(tmp_path / "r.jsonl", rows), tmp_path / "out"
  found = shown(capsys, path, f"--out={out}")
  assert found["pii"] == {"email": 6, "phone": 6}
  counts = found["written"]["counts"]
  assert (counts["pii_email"], counts["pii_phone"]) == (3, 3)
  train = (out / "rankings-train.jsonl").read_text()
  assert train.count("<phone>") == train.count("<email>") == 3
  assert (out / "rankings-test.jsonl").read_text().count("@") == 3
  shown(capsys, path, f"--out={out}", "--keep_pii")
  assert (out / "rankings-train.jsonl").read_text().count("@") == 3


def test_cleaned_files_stay_as_they_are(tmp_path, capsys):
  rows = [
    {"prompt": f"{n % 7} question {n % 90} of a{n}@b.co", "user": f"u{n % 9}"}
    for n in range(300)
  ] + [{"prompt": f"nobody {n} asks me@b{n}.co"} for n in range(50)]
  first, second = tmp_path / "first", tmp_path / "second"
  path = write(tmp_path / "p.jsonl", rows)
  shown(capsys, path, f"--out={first}", "--per_user=20")
  pattern = f"{first}/prompts-*.jsonl"
  found = shown(capsys, pattern, f"--out={second}", "--per_user=20")
  counts = found["written"]["counts"]
  assert counts["duplicates"] == counts["over_per_user"] == 0
  assert not any(name.startswith("pii") for name in counts)
  for split in kinds.SPLITS:
    name = f"prompts-{split}.jsonl"
    assert (first / name).read_bytes() == (second / name).read_bytes()


def test_people_who_are_marked_with_two_splits_are_named(tmp_path):
  rows = [
    {"prompt": "one", "user": "ann", "split": "train"},
    {"prompt": "two", "user": "ann", "split": "test"},
  ]
  with pytest.raises(errors.UserError, match="the user 'ann' has prompts in"):
    command.main([write(tmp_path / "p.jsonl", rows)])


@pytest.mark.parametrize("is_terminal", [False, True])
def test_what_is_printed_is_for_people(
  is_terminal, tmp_path, capsys, monkeypatch
):
  monkeypatch.setenv("COLUMNS", "150")
  if is_terminal:
    monkeypatch.setenv("FORCE_COLOR", "1")
  rows = [ranking("what is [this]?\x1b[2J", [1, 2], **{"[b]\x1b[3J": 1})] * 2
  command.main(["inspect", write(tmp_path / "r.jsonl", rows), "--samples=1"])
  printed = capsys.readouterr().out
  assert "2 rankings" in printed
  assert "what is [this]?" in printed
  assert "answer 1" in printed
  assert "[b]" in printed
  assert "\x1b[2J" not in printed
  assert "\x1b[3J" not in printed
  assert ("\x1b" in printed) == is_terminal
  assert ("│" in printed) == is_terminal


def test_what_is_called_a_duplicate(tmp_path, capsys):
  rows = [ranking("one", [1, 2], labeler=who) for who in ("ann", "ben", "ben")]
  path = write(tmp_path / "r.jsonl", rows)
  found = shown(capsys, path)["duplicates"]
  assert (found["exact"], found["whole_records"]) == (2, 1)
  command.main([path])
  printed = capsys.readouterr().out
  assert "\nSame prompts (no duplicates, but for whole records)\n" in printed
  command.main([write(tmp_path / "p.jsonl", [{"prompt": "one"}] * 2)])
  assert "\nDuplicates\n" in capsys.readouterr().out


def test_samples_are_from_all_over(tmp_path, capsys):
  rows = [{"prompt": f"prompt {n}"} for n in range(100)]
  path = write(tmp_path / "p.jsonl", rows)
  command.main([path, "--samples=4"])
  printed = capsys.readouterr().out
  for n in range(100):
    assert (f"prompt: prompt {n}\n" in printed) == (n % 25 == 0)
  command.main([path, "--samples=0"])
  assert "sample" not in capsys.readouterr().out


@pytest.mark.parametrize(
  ("kind", "row"),
  [
    ("pretraining", {"text": "t", "prompt": None}),
    ("demonstrations", {"prompt": "p", "response": "r", "responses": 1}),
    ("demonstrations", {"prompt": "p", "response": "r", "ended": 1.5}),
    ("prompts", {"prompt": "p", "response": ["a", 3], "text": None}),
  ],
)
def test_keys_of_other_kinds_do_not_matter(kind, row, tmp_path, capsys):
  path, out = write(tmp_path / "a.jsonl", [row]), tmp_path / "out"
  limits = ["--prompt_length=9", "--response_length=9"]
  found = shown(capsys, path, f"--kind={kind}", f"--out={out}", *limits)
  assert found["records"] == 1
  (written,) = (
    json.loads(line)
    for file in out.glob("*.jsonl")
    for line in file.read_text().splitlines()
  )
  del written["split"]
  assert written == row


def test_several_files_with_weights(tmp_path, capsys):
  one = write(tmp_path / "a.jsonl", [{"prompt": "x"}])
  other = write(tmp_path / "b.jsonl", [{"prompt": "y"}] * 2)
  assert shown(capsys, one, other)["records"] == 3
  assert shown(capsys, f"{one}=0.7,{other}=0.3")["records"] == 3


def test_nobody_agrees_with_themselves():
  records = [ranking("one", [1, 2], labeler=name) for name in "aab"]
  records.append(ranking("one", [2, 1]))  # by nobody knows whom
  found = inspected(records, "rankings")["annotators"]
  assert (found["ranked_by_several"], found["compared_pairs"]) == (1, 1)
  assert found["by_two"] == {"a and b": 1.0}
  found = inspected(records[:2], "rankings")["annotators"]
  assert (found["ranked_by_several"], found["compared_pairs"]) == (0, 0)
  assert "agreement" not in found


ranks_of_three = st.lists(st.integers(1, 3), min_size=3, max_size=3)


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(
  st.lists(st.lists(ranks_of_three, min_size=1, max_size=4), min_size=1),
  st.booleans(),
)
def test_agreement_is_the_papers(ranks, as_pairs):
  """Ranks [prompts, labelers, 3]; or what they say of pairs."""
  records, agreed, compared, ties = [], 0, 0, 0
  for n, group in enumerate(ranks):
    records += [
      ranking(f"prompt {n}", one, labeler=f"labeler {who}")
      for who, one in enumerate(group)
    ]
    alike, both = preferences.agreement(np.asarray(group))
    agreed, compared = agreed + alike, compared + both
  for record in records:
    order = record["ranks"]
    couples = list(itertools.permutations(range(3), 2))
    ties += sum(order[i] == order[j] for i, j in couples if i < j)
    if as_pairs:
      record["pairs"] = [[i, j] for i, j in couples if order[i] < order[j]]
      record["ranks"] = None
  found = inspected(records, "rankings")
  assert found["pairs"]["not_compared" if as_pairs else "ties"] == ties
  assert found["annotators"]["compared_pairs"] == compared
  if compared:
    rate = found["annotators"]["agreement"]
    assert rate == pytest.approx(agreed / compared, abs=1e-4)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "required: inputs"),
    (["none.jsonl"], "none.jsonl: no such file"),
    (["a.jsonl", "--kind=ranking"], "Did you mean 'rankings'"),
    (["a.jsonl", "--kindd=x"], "unrecognized arguments"),
    (["a.jsonl", "--prefix=0"], "--prefix=0: must be"),
    (["a.jsonl", "--prefix=x"], "--prefix=x: must be a whole number from 1"),
    (["a.jsonl", "--test_fraction=1"], "--test_fraction=1.0: must be"),
    (["a.jsonl", "--kind=prompts"], 'no "prompt"'),
    (["a.jsonl"], "a.jsonl:1: has a, which is none of"),
    (["a.jsonl", "--test_fraction=0.6", "--validation_fraction=0.5"], "leave"),
    (["a.jsonl", "--test_fraction=nan"], "--test_fraction=nan: must be"),
    (
      ["a.jsonl", "--validation_fraction=-1"],
      "--validation_fraction=-1.0: must",
    ),
    (["a.jsonl", "--per_user=0"], "--per_user=0: must be"),
    (["a.jsonl", "--samples=-1"], "--samples=-1: must be"),
    (["a.jsonl", "--prompt_length=-1"], "--prompt_length=-1: must be"),
    (["a.jsonl", "--template=plane"], "Did you mean 'plain'"),
    (["p.jsonl", "--tokenizer=nothing"], "nothing: no tokenizer here"),
    (["p.jsonl", "--out=a.jsonl"], "a.jsonl: is a file, where a folder is"),
    (["p.jsonl", "--out=a.jsonl/x"], "a.jsonl: is a file, where a folder is"),
    (["p.jsonl", "a.jsonl"], 'a.jsonl:1: no "prompt"'),
    (["p.jsonl=1,a.jsonl"], "give every part a weight"),
    ([""], "FILE='': must be"),
    (["."], "a folder"),
    (["r.jsonl"], 'r.jsonl:2: "responses" should hold 2 texts or more, not 1'),
    (["zero.txt"], "zero.txt"),
    (["latin.jsonl"], "latin.jsonl:1: not UTF-8"),
    (["empty.jsonl"], "empty.jsonl: empty"),
    (["bad.jsonl"], "bad.jsonl:1: not JSON"),
    (["tfds:no_such_set"], "no such data set"),
  ],
)
def test_bad_input_is_a_message(
  arguments, message, tmp_path, capsys, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  write(tmp_path / "a.jsonl", [{"a": 1}])
  (tmp_path / "empty.jsonl").write_text("")
  (tmp_path / "bad.jsonl").write_text("{")
  (tmp_path / "zero.txt").write_text("\n \n")
  (tmp_path / "latin.jsonl").write_bytes(b'{"prompt": "\xe9"}\n')
  write(tmp_path / "p.jsonl", [{"prompt": "x"}])
  write(tmp_path / "r.jsonl", [ranking("x", [1, 2]), ranking("x", [1])])
  with pytest.raises(errors.UserError) as error:
    command.main(arguments)
  assert capsys.readouterr().out == ""
  assert message in str(error.value)


def test_as_a_program(tmp_path):
  path = write(tmp_path / "p.jsonl", [{"prompt": "é"}])
  for name, character in (("utf-8", "é"), ("ascii", "\\xe9")):
    found = subprocess.run(
      [sys.executable, "-m", "instruct_jax.data", path],
      capture_output=True,
      encoding="utf-8",
      check=False,
      env=os.environ | {"PYTHONIOENCODING": name},
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.startswith("1 prompts\n")
    assert f"prompt: {character}\n" in found.stdout


def test_annotators_of_pandalm(tmp_path, capsys):
  source = PUBLIC / "pandalm" / "testset-v1.json"
  if not source.exists():
    pytest.skip(f"the public data set is not here: {source}")
  out = str(tmp_path / "p.jsonl")
  command.main(["convert", "pandalm", str(source), "--out", out])
  capsys.readouterr()
  found = shown(capsys, out)
  assert found["records"] == 3 * 993
  assert found["annotators"]["labelers"] == 3
  assert found["annotators"]["ranked_by_several"] > 800
  assert 0.5 < found["annotators"]["agreement"] < 1


def test_many_records_take_seconds():
  records = [
    ranking(f"prompt {n} and more of it", [1, 2], user=f"u{n % 99}")
    for n in range(20_000)
  ]
  start = time.process_time()
  found = inspected(records, "rankings")
  assert found["records"] == 20_000
  assert time.process_time() - start < 10
