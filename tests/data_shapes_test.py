"""Rows of well-known shapes are answered with the command that takes them."""

import json
import re
import shlex

import pytest

from instruct_jax.base import errors
from instruct_jax.data import __main__ as command
from instruct_jax.data import inspect
from instruct_jax.data.read import sources

MESSAGES = [
  {"role": "user", "content": "q"},
  {"role": "assistant", "content": "a"},
]
OTHER = [MESSAGES[0], {"role": "assistant", "content": "b"}]
TURNS = "\n\nHuman: q\n\nAssistant: {}"
ROWS = {
  "hh": {"chosen": TURNS.format("a"), "rejected": TURNS.format("b")},
  "ultrafeedback": {"chosen": MESSAGES, "rejected": OTHER},
  "pairs of texts": {"prompt": "q", "chosen": "a", "rejected": "b"},
  "pairs of another": {"question": "q", "chosen": "a", "rejected": "b"},
  "arena": {
    "conversation_a": MESSAGES,
    "conversation_b": OTHER,
    "winner": "model_a",
    "judge": "w",
  },
  "a and b": {
    "prompt": "q",
    "response_a": "a",
    "response_b": "b",
    "label": "A",
  },
  "1 and 2": {
    "Question": "q",
    "Answer1": "a",
    "answer2": "b",
    "choice": "first",
  },
  "llmbar": {"input": "q", "output_1": "a", "output_2": "b", "label": 1},
  "alpaca": {"instruction": "q", "input": "", "output": "a"},
  "dolly": {"instruction": "q", "context": "", "response": "a"},
  "t0": {"prompt": "q", "completion": "a"},
  "chat": {"conversations": MESSAGES},
  "q and a": {"question": "q", "answer": "a"},
  "Q and A": {"id": 3, "Question": "q", "Answer": "a"},
  "self-instruct": {
    "instruction": "q",
    "instances": [{"input": "", "output": "a"}],
  },
  "content": {"content": "words"},
}


def told(path, call):
  """The command that an error names."""
  with pytest.raises(errors.UserError) as caught:
    call()
  found = re.search(
    r"python -m instruct_jax\.data (convert (?!--help).*)", str(caught.value)
  )
  assert found, caught.value
  assert str(path) in found[1]
  return shlex.split(found[1])


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("wanted", ["rankings", "demonstrations"])
def test_what_is_told_works(name, wanted, tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  path = tmp_path / "my file.jsonl"
  path.write_text(json.dumps(ROWS[name]) + "\n")
  arguments = told(path, lambda: sources.read(path, wanted))
  assert arguments == told(path, lambda: inspect.guess_kind([str(path)]))
  command.main(arguments)
  capsys.readouterr()
  (out,) = (x.partition("=")[2] for x in arguments if x.startswith("--out="))
  kind = out.removesuffix(".jsonl")
  (record,) = sources.read(out, kind)
  assert record.get("responses", ["a", "b"]) == ["a", "b"]
  assert record.get("response", "a") == "a"
  assert record.get("ranks", [1, 2]) == [1, 2]


def test_a_table_of_a_known_shape(tmp_path):
  path = tmp_path / "a.csv"
  path.write_text("question,answer\nq,a\n")
  arguments = told(path, lambda: sources.read(path, "demonstrations"))
  assert arguments[:2] == ["convert", "columns"]


def test_what_is_nearly_a_key(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text('{"prompt": "q", "respons": "a"}\n')
  with pytest.raises(errors.UserError, match=r'"response", .* has "respons"'):
    inspect.guess_kind([str(path)])
  path.write_text('{"prompt": "q", "response": "a"}\n')
  with pytest.raises(errors.UserError, match=r'no "responses"[^?]*$'):
    sources.read(path, "rankings")
  path.write_text('{"prompt": "q", "respones": ["a", "b"], "ranks": [1, 2]}\n')
  with pytest.raises(errors.UserError, match=r'mean "respones"'):
    sources.read(path, "rankings")


def test_text_beside_records_is_named(tmp_path):
  (tmp_path / "README.md").write_text("# Data\n")
  (tmp_path / "a.jsonl").write_text('{"prompt": "q"}\n')
  names = [f"{tmp_path}/README.md", f"{tmp_path}/a.jsonl"]
  for given in (names, [f"{tmp_path}/*"]):
    with pytest.raises(errors.UserError, match=r"README\.md: plain text, but"):
      inspect.guess_kind(given)
  (tmp_path / "a.jsonl").write_text('{"text": "q"}\n')
  assert inspect.guess_kind(names) == "pretraining"
  with pytest.raises(errors.UserError, match=rf" {tmp_path}/\*\.jsonl$"):
    inspect.guess_kind([f"{tmp_path}/"])


def test_people_may_be_numbers(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text('{"prompt": "q", "user": 7, "labeler": 0}\n')
  wanted = {"prompt": "q", "user": "7", "labeler": "0"}
  assert sources.read(path, "prompts") == [wanted]
  path.write_text('{"prompt": "q", "user": true}\n')
  with pytest.raises(errors.UserError, match='"user" should be a string'):
    sources.read(path, "prompts")


def test_rows_of_ones_own_with_more_keys_are_no_shape(tmp_path):
  path = tmp_path / "a.jsonl"
  rows = {
    "rankings": {"prompt": "q", "responses": ["a", "b"], "ranks": [1, 2]},
    "demonstrations": {"prompt": "q", "response": "a", "label": 1},
    "pretraining": {"text": "t", "content": "c"},
    "prompts": {"prompt": "q", "label": "x"},
  }
  for kind, row in rows.items():
    path.write_text(json.dumps(row) + "\n")
    assert inspect.guess_kind([str(path)]) == kind
    assert sources.read(path, kind) == [row]


def test_the_door_names_its_commands(tmp_path, monkeypatch, capsys):
  with pytest.raises(errors.UserError, match="convert FORMAT FILE"):
    command.main([])
  shown = capsys.readouterr().err
  assert "data convert pairs FILE" in shown
  assert "ultrafeedback" in shown
  with pytest.raises(errors.UserError, match="Did you mean 'convert'"):
    command.main(["convrt", "hh", "a.jsonl"])
  for arguments in (["--help"], ["convert", "--help"]):
    with pytest.raises(SystemExit):
      command.main(arguments)
    shown = capsys.readouterr().out
    assert "--label=KEY" in shown or "--label=winner" in shown
    assert "oasst" in shown


def test_help_says_what_an_option_is_and_its_default(capsys):
  def shown(*arguments):
    with pytest.raises(SystemExit):
      command.main([*arguments, "--help"])
    return " ".join(capsys.readouterr().out.split())

  own = shown()
  for name in ("validation_fraction", "test_fraction", "prefix", "per_user"):
    said = own.rpartition(f"--{name} ")[2]
    assert "(default: " in said.partition(" --")[0]
  pairs, columns = shown("convert", "pairs"), shown("convert", "columns")
  assert "--label KEY" in pairs
  assert "--response" not in pairs
  assert "--lang" not in pairs
  assert "--text KEY KEY of a document; it needs --kind=pretraining" in columns
  assert "--score_a" not in columns
  assert "--lang" in shown("convert")


def test_text_needs_its_kind(tmp_path):
  path = tmp_path / "a.jsonl"
  path.write_text('{"t": "q"}\n')
  with pytest.raises(errors.UserError, match="needs --kind=pretraining"):
    command.main(["convert", "columns", str(path), "--text=t", "--out=o.jsonl"])


def test_a_file_that_is_called_like_an_option(tmp_path, monkeypatch, capsys):
  monkeypatch.chdir(tmp_path)
  (tmp_path / "-a.jsonl").write_text('{"prompt": "q"}\n')
  command.main(["-a.jsonl", "--json"])
  assert json.loads(capsys.readouterr().out)["records"] == 1
  command.main(["convert", "jsonl", "-a.jsonl", "--out=b.jsonl"])
  assert len(sources.read(tmp_path / "b.jsonl", "prompts")) == 1
