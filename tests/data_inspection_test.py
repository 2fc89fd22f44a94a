"""The inspection command: what it counts, and what it writes."""

import json
import pathlib
import subprocess
import sys

import pytest

from instruct_jax import tokenizers
from instruct_jax.data import __main__ as command
from instruct_jax.data import inspection, sources

PUBLIC = pathlib.Path(__file__).parents[2] / "shared" / "data"


def write(path, rows):
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return str(path)


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
  assert found["annotators"]["ranked_by_several"] == 1
  assert found["annotators"]["agreement"] == round(1 / 3, 4)
  assert found["annotators"]["by_two"] == {
    "ann and ben": 1.0,
    "ann and cat": 0.0,
    "ben and cat": 0.0,
  }
  assert found["pairs"] == {"pairs": 9, "ties": 3}
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
    "users": 2, "median": 3, "max": 5, "over_limit": 1, "rows_over_limit": 2
  }  # fmt: skip
  assert found["limits"] == {"prompts_dropped": 5}
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
  for split in sources.SPLITS:
    file = tmp_path / "out" / f"prompts-{split}.jsonl"
    records = sources.read(file, "prompts")
    assert len(records) == written["rows"][split]
    assert all(r["split"] == split for r in records)
    assert any("@" in r["prompt"] for r in records) == (split != "train")
    users[split] = {r["user"] for r in records}
  assert not users["train"] & users["test"]
  assert not users["train"] & users["validation"]


def test_other_kinds_lose_what_is_there_twice(tmp_path, capsys):
  rows = [{"prompt": f"p{n % 30}", "response": "r"} for n in range(60)]
  path = write(tmp_path / "d.jsonl", rows)
  found = shown(capsys, path, f"--out={tmp_path / 'out'}")
  counts = found["written"]["counts"]
  assert counts == {"read": 60, "duplicates": 30, "kept": 30}
  assert sum(found["written"]["rows"].values()) == 30


def test_the_tables_are_for_people(tmp_path, capsys):
  rows = [ranking("what is [this]?", [1, 2], labeler="ann")]
  command.main([write(tmp_path / "r.jsonl", rows), "--samples=1"])
  printed = capsys.readouterr().out
  assert "1 rankings" in printed
  assert "what is [this]?" in printed
  assert "answer 1" in printed


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ([], "required: inputs"),
    (["none.jsonl"], "none.jsonl: no such file"),
    (["a.jsonl", "--kind=ranking"], "Did you mean 'rankings'"),
    (["a.jsonl", "--kindd=x"], "unrecognized arguments"),
    (["a.jsonl", "--prefix=0"], "data.prefix must be 1 or more"),
    (["a.jsonl", "--prefix=x"], "invalid int value"),
    (["a.jsonl", "--test_fraction=1"], "must leave something to train on"),
    (["a.jsonl", "--kind=prompts"], 'no "prompt"'),
    (["a.jsonl"], "a.jsonl:1: has a, which is none of"),
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
  with pytest.raises(SystemExit) as exit_:
    command.main(arguments)
  assert exit_.value.code == 2
  found = capsys.readouterr()
  assert found.out == ""
  assert message in found.err


def test_as_a_program(tmp_path):
  path = write(tmp_path / "p.jsonl", [{"prompt": "x"}])
  found = subprocess.run(
    [sys.executable, "-m", "instruct_jax.data", path, "--json"],
    capture_output=True,
    text=True,
    check=False,
  )
  assert found.returncode == 0, found.stderr
  assert json.loads(found.stdout)["records"] == 1


def test_annotators_of_pandalm(tmp_path, capsys):
  source = PUBLIC / "pandalm" / "testset-v1.json"
  if not source.exists():
    pytest.skip(f"the public data set is not here: {source}")
  out = str(tmp_path / "p.jsonl")
  command.main(["convert", "pandalm", str(source), "--out", out])
  capsys.readouterr()
  found = shown(capsys, out)
  assert found["records"] == 3 * 993
  assert len(found["annotators"]["labelers"]) == 3
  assert found["annotators"]["ranked_by_several"] > 800
  assert 0.5 < found["annotators"]["agreement"] < 1


def test_many_records_take_seconds():
  records = [
    ranking(f"prompt {n} and more of it", [1, 2], user=f"u{n % 99}")
    for n in range(20_000)
  ]
  found = inspection.inspect(records, "rankings", inspection.hygiene.Settings())
  assert found["records"] == 20_000
