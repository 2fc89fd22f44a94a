"""Files by odd names, and files that are no data: what is said of each."""

import gzip
import io
import json
import os
import pickle
import tarfile
import zipfile

import numpy as np
import pytest

from instruct_jax import tokenizers
from instruct_jax.base import errors, pointers, storage
from instruct_jax.data.read import files, foreign, sources, specs
from instruct_jax.hf import folder as folder_lib

POINTER = pointers.START + b"v1\noid sha256:4d7a\nsize 12345\n"
ODD = (
  *("a[1].jsonl", "a*.jsonl", "a?.jsonl", "a,b.jsonl", "a=0.5", "a=1.jsonl"),
  *("a: b.jsonl", "a#b.jsonl", " a b .jsonl", "-a.jsonl", "~a.jsonl", "a,b=2"),
  *("tfds:a", "[a]", "a{b}.jsonl", "'a\".jsonl", "a%20b.jsonl", "é.jsonl"),
)


def lines(path, prompt):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps({"prompt": prompt}) + "\n")
  return path


@pytest.mark.parametrize("name", ODD)
def test_a_file_goes_before_what_its_name_could_mean(
  name, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  lines(tmp_path / name, "this")
  for other in ("a1.jsonl", "ab.jsonl", "b.jsonl", "a", "b", "other.jsonl"):
    lines(tmp_path / other, "other")
  for spec in (name, str(tmp_path / name), f"{tmp_path}/{name}=2"):
    assert [x["prompt"] for x in sources.read(spec, "prompts")] == ["this"]
  both = f"{tmp_path}/{name},{tmp_path}/other.jsonl"
  assert [x["prompt"] for x in sources.read(both, "prompts")] == [
    "this",
    "other",
  ]
  weighted = specs.parts(f"other.jsonl=0.25,{tmp_path}/{name}=0.75")
  assert [part.weight for part in weighted] == [0.25, 0.75]
  assert [str(x) for x in specs.paths(str(tmp_path / name))] == [
    str(tmp_path / name)
  ]


def test_patterns_in_folders_with_odd_names(tmp_path):
  for name in ("x[1]/a.jsonl", "x[1]/b.jsonl", "x1/c.jsonl"):
    lines(tmp_path / name, name)
  found = sources.read(f"{tmp_path}/x[1]/*.jsonl", "prompts")
  assert [x["prompt"] for x in found] == ["x[1]/a.jsonl", "x[1]/b.jsonl"]
  found = sources.read(f"{tmp_path}/x?/*.jsonl", "prompts")
  assert [x["prompt"] for x in found] == ["x1/c.jsonl"]
  (tmp_path / "a1").write_text('{"prompt": "p"}')
  assert len(sources.read(f"{tmp_path}/a[12]", "prompts")) == 1


def test_the_home_folder(tmp_path, monkeypatch):
  monkeypatch.setenv("HOME", str(tmp_path))
  lines(tmp_path / "in" / "a.jsonl", "home")
  for spec in ("~/in/a.jsonl", "~/in/*.jsonl"):
    assert sources.read(spec, "prompts") == [{"prompt": "home"}]


def zipped():
  stream = io.BytesIO()
  with zipfile.ZipFile(stream, "w") as file:
    file.writestr("xl/workbook.xml", "<x/>")
  return stream.getvalue()


def archived():
  stream = io.BytesIO()
  with tarfile.open(fileobj=stream, mode="w") as file:
    file.addfile(tarfile.TarInfo("a.jsonl"))
  return stream.getvalue()


def saved():
  stream = io.BytesIO()
  np.save(stream, np.arange(9))
  return stream.getvalue()


FOREIGN = {
  "a.xlsx": (zipped(), "save its sheet as CSV"),
  "a": (zipped(), "unpack it"),
  "a.zip": (zipped(), "unpack it"),
  "a.tar": (archived(), "unpack it"),
  "a.tar.gz": (gzip.compress(archived()), "unpack it"),
  "b.txt": (archived(), "unpack it"),
  "a.html": (b"<p>words</p>", "save its text"),
  "c.txt": (b"<!DOCTYPE html><html>words</html>", "save its text"),
  "a.xml": (b"<?xml version='1.0'?><a/>", "save its text"),
  "a.yaml": (b"- text: words\n", "json.dump"),
  "a.pkl": (pickle.dumps(["words"]), "never opened"),
  "d.txt": (pickle.dumps({"a": "words"}, protocol=2), "never opened"),
  "a.npy": (saved(), "an array of numbers"),
  "e.txt": (saved(), "an array of numbers"),
  "a.arrow": (b"ARROW1\0\0" + bytes(90), "to_parquet"),
  "f.jsonl": (b"ARROW1\0\0" + bytes(90), "to_parquet"),
  "a.png": (b"\x89PNG\r\n\x1a\n" + bytes(90), "an image"),
  "g.txt": (b"\xff\xd8\xff\xe0" + bytes(90), "an image"),
  "a.pdf": (b"%PDF-1.7\n", "save its text"),
  "a.docx": (zipped(), "save its text"),
  "a.db": (b"SQLite format 3\0" + bytes(90), "a database"),
  "h.txt": ("words".encode("utf-16"), "iconv -f UTF-16 -t UTF-8"),
  "a.csv": ("text\nwords\n".encode("utf-16"), "iconv -f UTF-16 -t UTF-8"),
  "i.txt": ("words é".encode("utf-16-le"), "iconv -f UTF-16LE"),
  "j.txt": ("words é".encode("utf-16-be"), "iconv -f UTF-16BE"),
  "k.txt": ("words".encode("utf-32"), "iconv -f UTF-32"),
  "a.safetensors": (b"\x08\0\0\0\0\0\0\0{}", "weights of a model"),
  "a.txt.lz4": (b"\x04\x22\x4d\x18" + bytes(9), "gzip, bzip2, xz"),
  "a.psv": (b"text|x\nwords|1\n", "with commas as .csv"),
  "l.txt": (POINTER, "git lfs pull"),
  "a.jsonl": (POINTER, "git lfs pull"),
  "b.csv": (POINTER, "git lfs pull"),
  "a.parquet": (POINTER, "git lfs pull"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("kind", ["pretraining", "rankings"])
def test_what_is_neither_text_nor_records_is_named(name, kind, tmp_path):
  content, message = FOREIGN[name]
  path = tmp_path / name
  path.write_bytes(content)
  with pytest.raises(errors.UserError) as caught:
    sources.read(path, kind)
  assert str(caught.value).startswith(f"{path}: ")
  assert message in str(caught.value)


@pytest.mark.parametrize(
  "content", [b"ORCHIDS", b"RIFF and raff", b"PKs", b"Objects", b"<p>", b"{}x"]
)
def test_text_that_starts_nearly_so_is_text(content, tmp_path):
  path = tmp_path / "a.txt"
  path.write_bytes(content)
  assert sources.read(path, "pretraining") == [{"text": content.decode()}]


def test_every_ending_stands_in_the_table_once():
  names = [x for names in foreign._ENDINGS for x in names.split()]
  assert len(names) == len(set(names))
  assert all(x.startswith(".") and x == x.lower() for x in names)


def test_pointers_are_named_by_every_reader(tmp_path):
  def refuses(call):
    with pytest.raises(errors.UserError, match="git lfs pull"):
      call()

  for name in ("model.safetensors", "tokenizer.json", "tokenizer.model"):
    (tmp_path / name).write_bytes(POINTER)
  (tmp_path / "config.json").write_text("{}")
  refuses(lambda: folder_lib.Folder(tmp_path))
  refuses(lambda: tokenizers.load(tmp_path))
  (tmp_path / "config.json").write_bytes(POINTER)
  refuses(lambda: storage.read_json(tmp_path / "config.json"))


@pytest.mark.parametrize("name", ["a.JSONL", "a.txt", "a"])
def test_objects_are_no_plain_text_by_another_name(name, tmp_path):
  path = tmp_path / name
  path.write_text('\n{"text": "one"}\n{"text": "two"}\n')
  wanted = [{"text": "one"}, {"text": "two"}]
  assert sources.read(path, "pretraining") == wanted
  path.write_text(json.dumps(wanted))
  assert sources.read(path, "pretraining") == wanted
  path.write_text("[Illustration]\n\n{a} words")
  if name != "a.JSONL":
    assert len(sources.read(path, "pretraining")) == 2


DOCUMENT = [{"prompt": "one"}, {"prompt": "two"}]


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
  "document",
  [{"data": DOCUMENT}, {"x": DOCUMENT}, {"v": 1, "rows": DOCUMENT, "z": [{}]}],
)
def test_the_rows_of_a_document(document, indent, tmp_path):
  path = tmp_path / "a.json"
  path.write_text(json.dumps(document, indent=indent))
  assert sources.read(path, "prompts") == DOCUMENT
  where = [where for where, _ in files.rows(path)]
  assert where[1].endswith("record 2")


@pytest.mark.parametrize("indent", [None, 2])
def test_a_document_that_is_a_row(indent, tmp_path):
  path = tmp_path / "a.json"
  for row in ({"messages": [{"role": "user"}]}, {"prompt": "q"}):
    path.write_text(json.dumps(row, indent=indent))
    assert [found for _, found in files.rows(path)] == [row]
  path.write_text(json.dumps({"train": DOCUMENT, "test": DOCUMENT}))
  with pytest.raises(errors.UserError, match="'train', 'test'; one of them"):
    list(files.rows(path))
  assert os.fspath(path)
