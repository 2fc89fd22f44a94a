"""Worlds: what each has, what it lacks, and a world of one's own."""

import json
import sys

import pytest
import tensorflow_datasets as tfds

from experiments import common
from instruct_jax import tokenizers, worlds
from instruct_jax.base import errors
from instruct_jax.worlds import interface
from instruct_jax.worlds.microworld import prompts, tables


def data_of(source, **changes):
  data = common.data("files" if source == "files" else "test").unlock()
  data.update({"source": source, **changes})
  return data


@pytest.mark.parametrize("name", worlds.WORLDS)
def test_a_world_of_the_registry_is_called_as_it_is_there(name):
  world = worlds.of(data_of(name))
  assert isinstance(world, interface.World)
  assert world.name == name
  assert "{prompt}" in world.prompted_template


def test_an_unknown_world():
  with pytest.raises(errors.UserError, match="Did you mean 'microworld'"):
    worlds.of(data_of("micro"))
  with pytest.raises(errors.UserError, match="there is no module"):
    worlds.of(data_of("my_world_is.not"))
  with pytest.raises(errors.UserError, match="has no WORLD"):
    worlds.of(data_of("instruct_jax.base.errors"))


def test_a_world_of_ones_own(tmp_path, monkeypatch):
  (tmp_path / "town").mkdir()
  (tmp_path / "town" / "__init__.py").write_text("")
  (tmp_path / "town" / "world.py").write_text(
    "import dataclasses\n"
    "from instruct_jax.worlds import files\n"
    "WORLD = dataclasses.replace(files.WORLD, name='town',"
    " records=lambda data, kind, split, folders: [{'prompt': split}])\n"
  )
  monkeypatch.syspath_prepend(tmp_path)
  world = worlds.of(data_of("town.world"))
  for module in ("town", "town.world"):
    sys.modules.pop(module)
  assert world.name == "town"
  assert world.records(None, "prompts", "test", {}) == [{"prompt": "test"}]


def test_peoples_files_have_nobody_who_judges(tmp_path):
  path = tmp_path / "p.jsonl"
  path.write_text('{"prompt": "Who?", "split": "test"}\n')
  data = data_of("files", prompts=str(path))
  world = worlds.of(data)
  assert world.judge is None
  assert world.tasks is None
  assert not world.labelers
  assert not world.own_words
  assert world.holds(data, "prompts")
  assert not world.holds(data, "rankings")
  assert [r["prompt"] for r in world.records(data, "prompts", "test", {})] == [
    "Who?"
  ]
  assert world.records(data, "prompts", "train", {}) == []
  with pytest.raises(errors.UserError, match=r"data\.rankings is empty"):
    world.check(data_of("files", pretraining=str(path)), ("rankings",))
  before = world.digests(data)
  path.write_text('{"prompt": "Whom?", "split": "test"}\n')
  assert set(before) == {"data.prompts", "data.pii"}
  changed = world.digests(data)
  assert changed["data.prompts"] != before["data.prompts"]
  assert changed["data.pii"] == before["data.pii"]


def test_typed_text_becomes_a_worlds_own():
  tokenizer = tokenizers.ByteTokenizer()
  micro, files = worlds.of(data_of("microworld")), worlds.of(data_of("files"))
  assert micro.normalize("Ann's job?", tokenizer) == "ann job ?"
  assert files.normalize("Ann's job?", tokenizer) == "Ann's job?"


def test_the_microworld_has_everybody_but_rankings():
  data = data_of("microworld")
  world = worlds.of(data)
  assert [len(panel) for panel in world.labelers.values()] == [10, 5]
  assert set(world.labelers) == {"training", "held_out"}
  assert world.own_words
  assert not world.digests(data)
  assert world.weights(data, "prompts", {}) == ()
  held = {kind: world.holds(data, kind) for kind in data.sizes}
  assert all(held.values())
  assert not world.holds(data, "rankings")
  world.check(data, ("rankings",))
  with pytest.raises(errors.UserError, match=r"data\.template"):
    world.check(data_of("microworld", template="no place"), ())


def test_flags_apply_where_the_judge_can_see_them():
  judge = worlds.of(data_of("microworld")).judge
  always = set(judge.flags) - {"hallucination", "satisfies_constraint"}
  for more, flags in (
    ({}, set()),
    ({"source": [["ann", "job", "nurse"]]}, {"hallucination"}),
    ({"source": []}, set()),
    ({"constraints": [["words", 3]]}, {"satisfies_constraint"}),
    ({"language": "zorp"}, {"satisfies_constraint"}),
    ({"polite": True}, {"satisfies_constraint"}),
  ):
    spec = json.dumps({"task": "about", "subject": "ann", **more})
    assert judge.applies(spec) == always | flags


def text_of(item):
  """What decides the split: the first line, which the questions are about."""
  return item.prompt.split(" \n ")[0]


@pytest.mark.parametrize("split", tables.SPLITS[1:])
def test_every_task_keeps_to_its_split(split):
  tasks = worlds.of(data_of("microworld")).tasks
  for name, examples in tasks.answered.items():
    items = examples(split, 8)
    assert items
    other = {"validation": "test", "test": "train"}[split]
    elsewhere = {text_of(item) for item in examples(other, 64)}
    assert not elsewhere & {text_of(item) for item in items}, name
  topics = {question.topic for question in tasks.questions(split, False)}
  assert topics == set(tables.HELD_OUT_TOPICS[split])
  plain, asked = tasks.questions(split, False), tasks.questions(split, True)
  assert [q.topic for q in plain] == [q.topic for q in asked]
  assert all(
    a.prompt != q.prompt and q.prompt in a.prompt for a, q in zip(asked, plain)
  )
  leads = tasks.beginnings("none", split)
  assert {tables.split_of(lead) for lead in leads} == {split}
  other = {"validation": "test", "test": "validation"}[split]
  for questions_of in tasks.unseen.values():
    here, there = (
      {question.prompt for question in questions_of(name, 16)}
      for name in (split, other)
    )
    assert here
    assert not here & there


def test_unanswerable_is_asked_for_but_not_there():
  tasks = worlds.of(data_of("microworld")).tasks
  assert tasks.is_unanswerable('{"answer": null}')
  assert not tasks.is_unanswerable('{"answer": "rice"}')
  assert not tasks.is_unanswerable('{"task": "summarize"}')
  assert set(tasks.closed_domain) == set(prompts.CLOSED_DOMAIN)
  assert not tasks.speaks["zorp"]("ann likes rice .")


def test_records_of_the_microworld(tmp_path):
  class Toy(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = (tfds.core.BuilderConfig(name="prompts"),)

    def _info(self):
      features = {"prompt": tfds.features.Text(), "spec": tfds.features.Text()}
      features = tfds.features.FeaturesDict(features)
      return tfds.core.DatasetInfo(builder=self, features=features)

    def _split_generators(self, manager):
      return {"train": self._generate_examples(3)}

    def _generate_examples(self, count):
      for n in range(count):
        yield n, {"prompt": f"prompt {n} é", "spec": "{}"}

  builder = Toy(data_dir=tmp_path, config="prompts", file_format="array_record")
  builder.download_and_prepare()
  data = data_of("microworld")
  records = worlds.of(data).records
  found = records(data, "prompts", "train", {"data": tmp_path})
  assert sorted(r["prompt"] for r in found) == [
    f"prompt {n} é" for n in range(3)
  ]
  assert found[0].keys() == {"prompt", "spec"}
  with pytest.raises(errors.UserError, match="no 'pretraining' data set"):
    records(data, "pretraining", "train", {"data": tmp_path})
