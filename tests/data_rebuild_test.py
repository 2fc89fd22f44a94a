"""A data set of people's files that is broken off, or damaged once it is done.

What is complete stays, is gone on from, and is made again where it is damaged.
"""

import errno
import json

import pytest
from etils import epath

from experiments import dataset as dataset_experiment
from instruct_jax.base import errors, interrupt
from instruct_jax.data import building
from instruct_jax.data.batch import pool
from instruct_jax.runs import build, plan
from tests import processes

SOURCE = epath.Path(processes.ROOT / "experiments" / "dataset.py")
ENDS = [
  OSError(errno.ENOSPC, "full", "x"),
  interrupt.Interrupted(),
  KeyboardInterrupt(),
]


@pytest.fixture
def make(tmp_path, monkeypatch):
  """A function: builds the data set of some texts, with changes."""
  monkeypatch.setattr(building, "PIECE", 400)
  monkeypatch.setattr(building, "HELD_OUT", 1)
  for kind, records in {
    "texts": [{"text": f"the dog {n} sleeps and " * 3} for n in range(60)],
    "prompts": [{"prompt": f"what does dog {n} do?"} for n in range(40)],
  }.items():
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (tmp_path / f"{kind}.jsonl").write_text(lines)

  def stage(**changes):
    config = dataset_experiment.get_config("files").unlock()
    given = {
      **{"pretraining": str(tmp_path / "texts.jsonl"), "demonstrations": ""},
      **{"prompts": str(tmp_path / "prompts.jsonl"), "rankings": ""},
      **{"tokenizer": "byte", "row_length": 64, "prompt_length": 128},
      **{"response_length": 8, "template": "Q {prompt} A"},
      **{"validation_fraction": 0.2, "test_fraction": 0.2},
      **changes,
    }
    values = {f"data.{key}": value for key, value in given.items()}
    config.update_from_flattened_dict(values)
    return plan.plan(config, SOURCE, epath.Path(tmp_path / "runs"), {})

  return lambda **changes: build.build(stage(**changes))


def ends_after(monkeypatch, count, error):
  """Builds end with an error when so many pieces are made; which those are."""
  made, real = [], pool.make

  def broken_off(some, *args):
    for piece, manifest in real(some, *args):
      if len(made) == count:
        raise error
      made.append((piece.kind, piece.split, piece.number))
      yield piece, manifest

  monkeypatch.setattr(pool, "make", broken_off)
  return made


@pytest.fixture
def folder(tmp_path):
  return tmp_path / "runs" / "dataset-files"


@pytest.mark.parametrize("error", ENDS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("displaces", [False, True])
def test_complete_shards_of_a_broken_off_build_stay(
  make, folder, monkeypatch, error, displaces
):
  if displaces:
    make(row_length=32)
  with monkeypatch.context() as patch:
    first = ends_after(patch, 3, error)
    with pytest.raises(type(error)):
      make()
  assert len(list(folder.glob("*/pieces/*.json"))) == len(first) == 3
  earlier = folder.with_name("dataset-files.old1")
  assert (earlier / "results.json").exists() == displaces
  second = ends_after(monkeypatch, -1, error)
  make()
  assert set(first).isdisjoint(second)
  assert len(first + second) == len(list(folder.glob("*/pieces/*.json")))


def test_a_tokenizer_that_is_trained_is_complete(make, folder, monkeypatch):
  trained = {"tokenizer": "bpe", "vocab_size": 380}
  make(row_length=32, **trained)
  with monkeypatch.context() as patch:
    ends_after(patch, 0, interrupt.Interrupted())
    with pytest.raises(interrupt.Interrupted):
      make(**trained)
  before = (folder / "tokenizer").stat().st_mtime_ns
  assert folder.with_name("dataset-files.old1").exists()
  make(**trained)
  assert (folder / "tokenizer").stat().st_mtime_ns == before


def test_bad_input_that_shows_at_the_end_leaves_nothing(make, folder):
  with pytest.raises(errors.UserError, match="nothing is left"):
    make(prompt_length=4)
  assert not folder.exists()
  make()
  with pytest.raises(errors.UserError, match="nothing is left"):
    make(prompt_length=4)
  assert (folder / "results.json").exists()
  assert not folder.with_name("dataset-files.old1").exists()


DAMAGES = {
  "shard is gone": ("prompts/rows/1.0.0/prompts-train", None),
  "a byte is another": ("pretraining/rows/1.0.0/pretraining-train", -9),
  "records are cut": ("prompts-test.jsonl", 0),
  "list of shards is gone": ("pretraining/shards.json", None),
  "tokenizer is gone": ("tokenizer/info.json", None),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_a_finished_data_set_is_mended_by_its_command(
  make, folder, what, caplog
):
  results = make()
  name, place = DAMAGES[what]
  path = sorted(x for x in folder.rglob("*") if name in str(x))[0]
  before = path.read_bytes()
  if place is None:
    path.unlink()
  else:
    path.write_bytes(before[:place] + b"?" + before[place:][1:])
  caplog.clear()
  assert make() == results
  assert path.read_bytes() == before
  assert "made again" in caplog.text
  caplog.clear()
  make()
  assert "made again" not in caplog.text


def test_the_seconds_are_those_of_all_starts(make, folder, monkeypatch):
  with monkeypatch.context() as patch:
    ends_after(patch, 1, interrupt.Interrupted())
    with pytest.raises(interrupt.Interrupted):
      make()
  spent = folder / "spent.json"
  assert 0 < json.loads(spent.read_text())["seconds"] < 1000
  spent.write_text('{"seconds": 5000.0}')
  assert 5000 < make()["seconds"]["wall"] < 6000
  assert not spent.exists()
