"""Files of every sort and what specs name, read into rows."""

import bz2
import datetime
import decimal
import gzip
import io
import json
import lzma
import pathlib
import shutil
import sys

import ml_collections
import numpy as np
import pytest
import tensorflow_datasets as tfds
from etils.epath import backend

from instruct_jax.base import errors
from instruct_jax.data.public import convert
from instruct_jax.data.read import compressed, files, sources, specs

ROWS = [{"prompt": f"why {n} é?", "x": n} for n in range(3)]


@pytest.fixture
def arrow():
  return pytest.importorskip("pyarrow", reason="the extra 'parquet'")


def as_lines(rows=ROWS):
  return "".join(json.dumps(row) + "\n" for row in rows).encode("utf-8")


def packers():
  def zstandard(content):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra 'parquet'")
    return pyarrow.compress(content, codec="zstd", asbytes=True)

  return {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstandard,
  }


@pytest.mark.parametrize("ending", compressed.ENDINGS)
def test_compressed_files_by_their_first_bytes(ending, tmp_path):
  pack = packers()[ending]
  content = as_lines()
  for name in (f"a.jsonl{ending}", "a.jsonl"):  # the name does not matter
    (tmp_path / name).write_bytes(pack(content) + pack(as_lines([{"y": 1}])))
    found = list(files.rows(tmp_path / name))
    assert [row for _, row in found] == [*ROWS, {"y": 1}]
    assert found[1][0] == f"{tmp_path / name}:2"
  (tmp_path / f"b.txt{ending}").write_bytes(pack(b"one\n\ntwo"))
  found = list(sources.read(tmp_path / f"b.txt{ending}", "pretraining"))
  assert found == [{"text": "one"}, {"text": "two"}]


def test_large_compressed_files_and_the_zeros_of_xz(tmp_path):
  rows = [{"prompt": f"{n} " * 200} for n in range(2000)]
  for ending, pack in packers().items():
    content = pack(as_lines(rows))
    zeros = bytes(70000) if ending == ".xz" else b""
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(content + zeros + pack(as_lines(rows)) + zeros)
    assert sources.read(path, "prompts") == rows + rows


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.json.gz"])
def test_an_array_is_known_by_its_bracket(name, tmp_path):
  content = b"\xef\xbb\xbf \r\n" + json.dumps(ROWS, indent=2).encode() + b"\n "
  if name.endswith(".gz"):
    content = gzip.compress(content)
  (tmp_path / name).write_bytes(content)
  found = list(files.rows(tmp_path / name))
  assert [row for _, row in found] == ROWS
  assert found[2][0] == f"{tmp_path / name}, record 3"
  (tmp_path / "empty.json").write_text(" [ ] ")
  assert list(files.rows(tmp_path / "empty.json")) == []
  (tmp_path / "spaces.json").write_text("\n" * 5000 + "[{}]")
  assert len(list(files.rows(tmp_path / "spaces.json"))) == 1


def test_parquet_gives_what_json_would(arrow, tmp_path):
  columns = {
    "prompt": ["a é", b"b"[:1].decode()],
    "user": [None, "u"],
    "raw": ["é".encode(), b"z"],
    "when": [datetime.datetime(2020, 1, 2, 3), None],
    "cost": [decimal.Decimal("1.50"), None],
    "score": [float("nan"), 2.5],
    "turns": [[{"role": "user", "n": 1}], []],
    "flag": [True, False],
  }
  import pyarrow.parquet

  path = tmp_path / "a.parquet"
  pyarrow.parquet.write_table(arrow.table(columns), path, row_group_size=1)
  found = list(files.rows(path))
  assert [where for where, _ in found] == [f"{path}, row {n}" for n in (1, 2)]
  assert [row for _, row in found] == [
    {
      "prompt": "a é",
      "raw": "é",
      "when": "2020-01-02 03:00:00",
      "cost": "1.50",
      "turns": [{"role": "user", "n": 1}],
      "flag": True,
    },
    {
      "prompt": "b",
      "user": "u",
      "raw": "z",
      "score": 2.5,
      "turns": [],
      "flag": False,
    },
  ]
  assert json.loads(json.dumps(found[0][1])) == found[0][1]
  assert sources.read(path, "prompts") == [row for _, row in found]
  (tmp_path / "b.jsonl").write_bytes(path.read_bytes())  # known by its start
  assert len(sources.read(tmp_path / "b.jsonl", "prompts")) == 2


def test_without_pyarrow_the_extra_is_named(monkeypatch, tmp_path):
  monkeypatch.setitem(sys.modules, "pyarrow", None)
  (tmp_path / "a.parquet").write_bytes(b"PAR1")
  (tmp_path / "a.jsonl.zst").write_bytes(b"\x28\xb5\x2f\xfd")
  for name in ("a.parquet", "a.jsonl.zst"):
    with pytest.raises(
      errors.UserError,
      match=rf"{name}: .*pip install 'instruct_jax\[parquet\]'",
    ):
      sources.read(tmp_path / name, "prompts")


def test_patterns_are_sorted_and_may_be_deep(tmp_path):
  for name in ("b/2.jsonl", "a/deep/1.jsonl", "3.jsonl"):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(as_lines([{"prompt": name}]))
  found = sources.read(f"{tmp_path}/**/*.jsonl", "prompts")
  assert [row["prompt"] for row in found] == [
    "3.jsonl",
    "a/deep/1.jsonl",
    "b/2.jsonl",
  ]


class Bucket:
  """Stands in for a remote store: gs://name/... lies in a folder."""

  def __init__(self, folder):
    self.folder = pathlib.Path(folder)

  def _local(self, path):
    return self.folder / str(path).removeprefix("gs://")

  def exists(self, path):
    return self._local(path).exists()

  def isdir(self, path):
    return self._local(path).is_dir()

  def open(self, path, mode):
    return io.BytesIO(self._local(path).read_bytes())

  def glob(self, path):
    found = self.folder.glob(str(path).removeprefix("gs://"))
    return [str(x.relative_to(self.folder)) for x in found]


def test_remote_files_and_patterns(monkeypatch, tmp_path):
  bucket = Bucket(tmp_path)
  monkeypatch.setattr(
    type(backend.fsspec_backend), "fs", lambda self, path: bucket
  )
  for n in (2, 1):
    path = tmp_path / "box" / "set" / f"{n}.jsonl.gz"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(as_lines([{"prompt": str(n)}])))
  one = sources.read("gs://box/set/1.jsonl.gz", "prompts")
  assert one == [{"prompt": "1"}]
  both = sources.read("gs://box/*/?.jsonl*", "prompts")
  assert [row["prompt"] for row in both] == ["1", "2"]
  with pytest.raises(errors.UserError, match=r"gs://box/none\*: no such file"):
    sources.read("gs://box/none*", "prompts")
  path.write_bytes(b"{")
  with pytest.raises(errors.UserError, match=r"gs://box/set/1\.jsonl\.gz:1: "):
    sources.read("gs://box/set/1.jsonl.gz", "prompts")

  def refused(path):
    raise RuntimeError("no credentials")

  monkeypatch.setattr(bucket, "exists", refused)
  with pytest.raises(errors.UserError, match=r"gs://box/x: .*no credentials"):
    sources.read("gs://box/x", "prompts")


class Feedback(tfds.core.GeneratorBasedBuilder):
  """Rankings and summaries, as a TFDS set has them."""

  VERSION = tfds.core.Version("1.0.0")
  BUILDER_CONFIGS = (tfds.core.BuilderConfig(name="small"),)
  url_infos = {}  # noqa: RUF012

  def _info(self):
    text, list_of = tfds.features.Text(), tfds.features.Sequence
    features = {
      "prompt": text,
      "responses": list_of(text),
      "ranks": list_of(np.int32),
      "info": {"post": text},
      "summaries": list_of({"text": text}),
      "choice": np.int64,
    }
    return tfds.core.DatasetInfo(
      builder=self, features=tfds.features.FeaturesDict(features)
    )

  def _split_generators(self, manager):
    return {
      name: self._generate_examples(name, count)
      for name, count in (("train", 5), ("test", 1))
    }

  def _generate_examples(self, name, count):
    for n in range(count):
      record = {
        "prompt": f"{name} {n} é",
        "responses": ["a", "b"],
        "ranks": [2, 1],
        "info": {"post": f"post {n}"},
        "summaries": [{"text": "short"}, {"text": "long"}],
        "choice": 1,
      }
      yield n, record


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
  folder = tmp_path_factory.mktemp("tfds")
  builder = Feedback(
    data_dir=folder, config="small", file_format="array_record"
  )
  builder.download_and_prepare()
  return folder


def test_a_tfds_set_is_read_as_files_are(prepared, tmp_path):
  spec = f"tfds:feedback/small:train?data_dir={prepared}"
  found = sources.read(spec, "rankings")
  assert sorted(r["prompt"] for r in found) == [
    f"train {n} é" for n in range(5)
  ]
  assert found[0]["ranks"] == [2, 1]
  assert found[0]["summaries"] == [{"text": "short"}, {"text": "long"}]
  assert json.loads(json.dumps(found)) == found
  assert found == sources.read(spec, "rankings")
  where = [where for where, _ in files.rows(spec)]
  assert where == [f"{spec}, record {n}" for n in range(1, 6)]
  names = {path.name for path in specs.paths(spec)}
  assert "dataset_info.json" in names
  assert any(name.startswith("feedback-train") for name in names)
  assert all(path.exists() for path in specs.paths(spec))
  part = f"tfds:feedback/small:train[:40%]?data_dir={prepared}"
  assert sources.read(part, "rankings") == found[:2]
  first = f"tfds:feedback/small?data_dir={prepared}"
  assert sources.read(first, "rankings") == found
  out = tmp_path / "out.jsonl"
  counts = convert.convert("tldr", [spec], out)
  assert counts["written"] == 5
  assert json.loads(out.read_text().splitlines()[0])["responses"] == [
    "long",
    "short",
  ]


def test_tfds_sets_of_a_mixture(prepared):
  test, train = (
    f"tfds:feedback/small:{name}?data_dir={prepared}"
    for name in ("test", "train")
  )
  found = sources.read(f"{test}=0.25, {train}=0.75", "rankings")
  assert [row["part"] for row in found] == [0] + [1] * 5


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("tfds:feedback/small:tran?data_dir={}", "'tran'. Did you mean 'train'"),
    ("tfds:feedback/smal:train?data_dir={}", "no such data set"),
    ("tfds:no_such_set:train?data_dir={}", "no such data set"),
    ("tfds:", "tfds:name/config:split"),
    ("tfds:feedback:train?folder={}", "tfds:name/config:split"),
    ("tfds:feedback:train?data_dir={}", 'no "text", which should be'),
    (
      "tfds:mnist:train?data_dir={}/other",
      "not prepared in .*tfds build mnist",
    ),
  ],
)
def test_what_is_wrong_with_a_tfds_spec(prepared, spec, message):
  spec = spec.format(prepared)
  with pytest.raises(errors.UserError, match=message):
    sources.read(spec, "pretraining")


def test_a_damaged_tfds_set(prepared, tmp_path):
  shutil.copytree(prepared, tmp_path / "copy")
  for path in (tmp_path / "copy").rglob("*-train.*"):
    path.write_bytes(path.read_bytes()[:100])
  spec = f"tfds:feedback/small:train?data_dir={tmp_path / 'copy'}"
  with pytest.raises(errors.UserError, match="record 1: cannot be read"):
    sources.read(spec, "rankings")


def test_weights_of_the_parts_of_a_mixture(tmp_path):
  a, b = tmp_path / "a.jsonl", tmp_path / "b=2.jsonl"
  a.write_bytes(as_lines())
  b.write_bytes(as_lines())
  spec = f"{a} = 0.7 ,{b}=.3"
  assert specs.parts(spec) == [
    specs.Part(str(a), 0.7),
    specs.Part(str(b), 0.3),
  ]
  assert [str(path) for path in specs.paths(spec)] == [str(a), str(b)]
  found = sources.read(spec, "prompts")
  assert [row["part"] for row in found] == [0, 0, 0, 1, 1, 1]
  plain = sources.read(f"{a},{b}", "prompts")
  assert plain == [*ROWS, *ROWS]
  assert specs.parts(f"{tmp_path}/*.jsonl=2")[0].weight == 2
  assert len(sources.read(f"{tmp_path}/*.jsonl=2", "prompts")) == 6
  assert specs.parts(b) == [specs.Part(b, None)]


@pytest.mark.parametrize(
  ("spec", "message"),
  [
    ("a=0.5,b", "give every part a weight"),
    ("a=0,b=0", "weights must be above 0"),
    ("a=-1,b=2", "weights must be above 0"),
    ("a=half,b=0.5", "give every part a weight"),
    ("a=nan", "a=nan: no such file"),
    ("a=1e3", "a=1e3: no such file"),
    ("a=1e3,b=2", "give every part a weight"),
    ("a=" + "9" * 400, "weights must be above 0"),
    ("=0.5", "=0.5: no such file"),
  ],
)
def test_wrong_weights(spec, message):
  with pytest.raises(errors.UserError, match=message):
    sources.read(spec, "prompts")


def test_what_a_build_wrote_is_read_back_and_checked(tmp_path):
  data = ml_collections.ConfigDict(
    {"source": "files", "k_max": 4, "prompts": "", "rankings": ""}
  )
  (tmp_path / "prompts-test.jsonl").write_text("")
  (tmp_path / "prompts-train.jsonl").write_bytes(as_lines())
  folders = {"data": tmp_path}
  assert sources.open_source(data, "prompts", "test", folders) == []
  assert sources.open_source(data, "prompts", "train", folders) == ROWS
  (tmp_path / "rankings-train.jsonl").write_bytes(as_lines())
  with pytest.raises(errors.UserError, match=r'train\.jsonl:1: no "responses"'):
    sources.open_source(data, "rankings", "train", folders)
