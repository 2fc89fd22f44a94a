"""CSV and TSV: what is read, and what every damaged table says."""

import csv
import gzip
import io
import json

import pytest

from instruct_jax.base import errors
from instruct_jax.data import inspect
from instruct_jax.data.public import convert
from instruct_jax.data.read import files, sources, tables

ODD = ['a, "b"', "two\nlines\r\nand more", "tab\there", " é 😀 ", '"', "x;y|z"]


def table(path, rows, **form):
  """A CSV as the standard library writes it."""
  stream = io.StringIO(newline="")
  csv.writer(stream, **form).writerows(rows)
  path.write_bytes(stream.getvalue().encode())
  return path


def test_fields_come_back_as_they_were_written(tmp_path):
  rows = [["prompt", "response"], *([x, y] for x in ODD for y in ODD)]
  for ending, delimiter in ((".csv", ","), (".CSV", ",")):
    for quoting in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL):
      path = table(
        tmp_path / f"a{ending}", rows, delimiter=delimiter, quoting=quoting
      )
      found = sources.read(path, "demonstrations")
      assert [list(x.values()) for x in found] == rows[1:]
      assert {type(x) for row in found for x in row.values()} == {str}


def test_where_a_row_starts_is_the_line_that_is_named(tmp_path):
  path = tmp_path / "a.csv"
  path.write_text('prompt,response\n"one\ntwo",x\n\ny,z\n')
  assert [where for where, _ in files.rows(path)] == [f"{path}:2", f"{path}:5"]
  path.write_bytes(b"\xef\xbb\xbfprompt,response\r\nq,a\r\n")
  assert sources.read(path, "demonstrations") == [
    {"prompt": "q", "response": "a"}
  ]
  path.write_bytes(gzip.compress(path.read_bytes()))
  assert len(sources.read(path, "demonstrations")) == 1


def test_every_kind_of_record_from_a_table(tmp_path):
  rows = {
    "pretraining": [{"text": "a\n\nb"}, {"text": "1.5"}],
    "demonstrations": [{"prompt": "[1]", "response": "{}", "user": "u"}],
    "prompts": [{"prompt": "true", "split": "test"}],
    "rankings": [
      {"prompt": "q", "responses": ["a", "b,c"], "ranks": [1, 2]},
      {"prompt": "q", "responses": ["a", "b"], "pairs": [[0, 1]]},
    ],
  }
  for kind, records in rows.items():
    names = list(dict.fromkeys(name for x in records for name in x))
    cells = [
      [x if isinstance(x, str) else json.dumps(x) for x in values]
      for values in ([record.get(n, "") for n in names] for record in records)
    ]
    for ending, delimiter in ((".csv", ","), (".tsv", "\t")):
      path = tmp_path / f"{kind}{ending}"
      table(path, [names, *cells], delimiter=delimiter)
      assert sources.read(path, kind) == records
      assert inspect.guess_kind([str(path)]) == kind


def test_the_index_that_pandas_writes_is_left_out(tmp_path):
  path = tmp_path / "a.csv"
  path.write_text(",prompt\n0,q\n1,r\n")
  assert sources.read(path, "prompts") == [{"prompt": "q"}, {"prompt": "r"}]


def test_no_quotes_at_all_within_the_fields_of_a_tsv(tmp_path):
  path = tmp_path / "a.tsv"
  path.write_text('prompt\tuser\nhe said "no" , and\tu\n')
  assert sources.read(path, "prompts") == [
    {"prompt": 'he said "no" , and', "user": "u"}
  ]


WRONG = {
  "no such column": ("prompt,respons\nq,a\n", ': no column "response"'),
  "the header named": ("a,b\nq,a\n", "names a, b"),
  "near": ("prompt,respons\nq,a\n", 'did you mean "respons"'),
  "too few": ("prompt,response\nq,a\nq\n", ":3: 1 fields, .* names 2 columns"),
  "too many": ("prompt,response\nq,a,b\n", ":2: 3 fields, .* between quotes"),
  "twice": ("prompt,response,prompt\nq,a,b\n", ':1: .* "prompt" twice'),
  "no name": ("prompt,,response\nq,a,b\n", ":1: column 2 has no name"),
  "open": ('prompt,response\nq,a\nq,"a\nb,c\n', ":3: a quote .* never closed"),
  "not doubled": ('prompt,response\nq,"a"b"\n', ":2: the quotes of this row"),
  "semicolons": ("prompt;response\nq;a\n", ":1: .* separated by ';'"),
  "tabs": (
    "prompt\tresponse\nq\ta\n",
    ":1: .* separated by tabs.*name it .tsv",
  ),
  "bars": ("prompt|response\nq|a\n", r":1: .* separated by '\|'"),
  "for Excel": ("sep=,\nprompt,response\nq,a\n", ":1: a line with 'sep='"),
  "empty": ("prompt,response\n,a\n", ':2: "prompt" is empty'),
  "only a header": ("prompt,response\n", "empty; at least one row below"),
  "nothing": ("", "empty; at least one row below"),
  "a NUL": ("prompt,response\nq,a\0\n", ":2: a NUL byte"),
  "a split": ("prompt,response,split\nq,a,dev\n", ':2: "split" should be one'),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tables(name, tmp_path):
  content, message = WRONG[name]
  path = tmp_path / "a.csv"
  path.write_text(content)
  with pytest.raises(errors.UserError, match=rf"a\.csv.*{message}"):
    sources.read(path, "demonstrations")


def test_bytes_that_are_not_utf_8_are_named_with_their_line(tmp_path):
  path = tmp_path / "a.csv"
  path.write_bytes(b"prompt\n" + b"q\n" * 9000 + b"caf\xe9\n")
  with pytest.raises(errors.UserError, match=r"a\.csv:9002: not UTF-8 .byte 4"):
    sources.read(path, "prompts")
  packed = gzip.compress(b"prompt\n" + b"q\n" * 9000)
  path.write_bytes(packed[:-9])
  with pytest.raises(errors.UserError, match=r"a\.csv:\d+: a damaged"):
    sources.read(path, "prompts")


@pytest.mark.parametrize(
  "value", ["a|b", "['a', 'b']", '["a", "b"', "", "3", '{"a": 1}']
)
def test_a_list_is_json_in_its_field(value, tmp_path):
  rows = [["prompt", "responses", "ranks"], ["q", value, "[1, 2]"]]
  path = table(tmp_path / "a.csv", rows)
  with pytest.raises(errors.UserError, match=r':2: "responses".*as JSON'):
    sources.read(path, "rankings")


@pytest.mark.parametrize(
  "content",
  [
    'prompt\tuser\n"no\tu\nq\tv\nsaid "\tw\n',
    'user\tprompt\nu\t"no\nv\tsaid"\n',
  ],
)
def test_a_quote_that_is_text_swallows_no_rows_of_a_tsv(content, tmp_path):
  path = tmp_path / "a.tsv"
  path.write_text(content)
  with pytest.raises(errors.UserError, match=r"a\.tsv:2: a quote"):
    sources.read(path, "prompts")


def test_long_fields_are_read(tmp_path):
  long = "x, y\n" * 60_000  # more than csv's own limit
  path = table(tmp_path / "a.csv", [["prompt"], [long]])
  assert sources.read(path, "prompts") == [{"prompt": long}]


@pytest.mark.parametrize("header", ["id,text", "text\tlabel", '"text";"x"'])
def test_a_table_is_no_plain_text_by_another_name(header, tmp_path):
  path = tmp_path / "a.txt"
  path.write_text(f"{header}\n1,words\n")
  with pytest.raises(errors.UserError, match=r"a\.txt:1: looks like .* \.csv"):
    sources.read(path, "pretraining")
  with pytest.raises(errors.UserError, match=r"a\.txt:1: .* \.csv"):
    sources.read(path, "prompts")
  path.write_text("The text, and more.\nWords\n")
  assert len(sources.read(path, "pretraining")) == 1


DISGUISED = {
  "a.txt": ("id,question,answer\n1,Hi,a\n", "header of a table"),
  "b.txt": ("frage;antwort;note\nWas?;Nichts, da;1\nWer?;Ich;2\n", "';'"),
  "c.txt": ("a\tb c\tc\nd\te\tf\ng\t\ti\n", "tabs"),
  "d": ("\nHi,hello\nHo,hallo\nHa,x\n", "d:2: .* commas"),
  "e.txt": ('id,q\n1,"Hi, you"\n2,"a"\n', "commas"),
  "f.txt": ('"Who, me?",1\n"You",2\n"I",3\n', "commas"),
  "g.txt": ("a|b\nc, d.|e\nf|g\n", r"'\|'"),
  "h.txt": ("{'prompt': 'Hi'}\n{'prompt': \"Ho\"}\n", r"json\.dumps"),
  "i.txt": ("[{'prompt': 'Hi'}]", "no JSON"),
  "j.txt": ('{prompt: "Hi"}', "no JSON"),
  "k.txt": ('{"prompt": "Hi", "resp', "no JSON"),
  "a.json5": ("{prompt: 'Hi'}", "JSON with liberties"),
  "a.TOML": ("[[d]]\nprompt = 'Hi'", "a file of settings"),
  "a.sql": ("INSERT INTO x VALUES ('a');", "as CSV"),
  "a.arff": ("@RELATION x", "as CSV"),
  "a.py.gz": (gzip.compress(b"import os"), "a program"),
}


@pytest.mark.parametrize("name", DISGUISED)
def test_records_by_another_name_are_no_text(name, tmp_path):
  content, message = DISGUISED[name]
  path = tmp_path / name
  raw = content if isinstance(content, bytes) else content.encode()
  path.write_bytes(raw)
  with pytest.raises(errors.UserError, match=message):
    sources.read(path, "pretraining")
  convert.convert("text", [path], tmp_path / "out.jsonl")  # forces it
  assert len(sources.read(tmp_path / "out.jsonl", "pretraining")) == 1


PROSE = [
  "Roses, violets\nDaisies, tulips\nLilies, lilacs\n",
  "He came, he saw,\nHe went, he fell,\nHe rose, he won,\n",
  "He came; he saw\nHe went; he fell\nHe rose; he won\n",
  "So long lives this;\nSo long live we;\nSo long do you;\n",
  "\tIndented verse\n\tof three\n\tlines\n",
  "{Exit}\n{Enter: the king}\n[They fight]\n",
  "ROMEO: But soft, what light\nJULIET: O Romeo, Romeo\nROMEO: Shall I, more\n",
  '"It was; I saw it," he said\nto us; so far\nand on; it went\n',
  "| a | b |\n|---|---|\n| c | d |\n",
]


@pytest.mark.parametrize("content", PROSE)
def test_verse_and_dialogue_are_text(content, tmp_path):
  path = tmp_path / "a.txt"
  path.write_text(content)
  assert len(sources.read(path, "pretraining")) == 1


@pytest.mark.parametrize("name", ["a.log", "a.md"])
def test_logs_and_notes_are_text(name, tmp_path):
  path = tmp_path / name
  path.write_text("1\tINFO\ta\n2\tINFO\tb\n3\tINFO\tc\n")
  assert len(sources.read(path, "pretraining")) == 1


def test_a_cell_is_what_somebody_wants(tmp_path):
  assert tables.value_of("1", int) == tables.value_of("1.0", int) == 1
  assert tables.value_of("1.5", int) == "1.5"
  assert tables.value_of("1.5", float) == 1.5
  assert tables.value_of("[1]", list) == [1]
  assert tables.value_of("[1]", dict) == "[1]"
  assert tables.value_of("nan", int) == "nan"
  rows = [
    ["input", "output_1", "output_2", "label"],
    ["q", "a", "b", "2"],
    ["q", "3", "[]", "1.0"],
  ]
  out = tmp_path / "out.jsonl"
  convert.convert("llmbar", [table(tmp_path / "a.csv", rows)], out)
  assert [x["responses"] for x in sources.read(out, "rankings")] == [
    ["b", "a"],
    ["3", "[]"],
  ]
