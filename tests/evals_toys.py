"""A small built microworld, tiny untrained models, and fake subjects."""

import atexit
import functools
import json
import pathlib
import random
import shutil
import tempfile

import jax
import numpy as np
from etils import epath

from experiments import rankings
from instruct_jax import tokenizers
from instruct_jax.data.batch import loader
from instruct_jax.evals import bench
from instruct_jax.inference import context, encode, respond
from instruct_jax.models import heads
from instruct_jax.parallel import sharding
from instruct_jax.worlds.microworld import answers, builder, playground
from tests import toys

SIZES = {
  "pretraining": (40, 4, 4),
  "demonstrations": (16, 12, 12),
  "prompts": (24, 24, 24),
}


def config_of(**changes):
  """The `:test` config of the rankings, with sections that evaluations read."""
  config = rankings.get_config("test").unlock()
  config.data.sizes.update(SIZES)
  config.rankings.update(
    {"train": 12, "validation": 4, "test": 4, "chunk": 4, "batch": 16}
  )
  config.evaluation.update(
    {
      "prompts": 16,
      "task_prompts": 8,
      "judged_prompts": 8,
      "batch": 16,
      "baseline": "sft",
    }
  )
  config.selection = {"prompts": 8, "batch": 8, "temperature": 1.0}
  config.update_from_flattened_dict(changes)
  return config.lock()


@functools.cache
def world() -> epath.Path:
  """The folder of the data set, built once a process."""
  folder = pathlib.Path(tempfile.mkdtemp(prefix="microworld"))
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  builder.build(config_of(), folder)
  return epath.Path(folder)


def make_context(config=None, **folders):
  """A context on the toy microworld."""
  config = config_of() if config is None else config
  where = world()
  tokenizer = tokenizers.load(where)
  model = toys.decoder_config(vocab_size=tokenizer.vocab_size)
  return context.Context(
    config=config,
    policy=heads.LanguageModel(model),
    scalar=heads.ScalarModel(model),
    tokenizer=tokenizer,
    mesh=sharding.make_mesh(**config.mesh),
    folders={"data": where, **folders},
  )


@functools.cache
def params(role: str, seed: int = 0):
  """Random parameters of a role."""
  ctx = make_context()
  return toys.init_params(ctx.model(role), jax.random.key(seed))


def fake_bench(ctx, records, **says):
  """A bench whose subjects say what functions of the prompts say.

  says: name -> function from a list of prompts to a list of texts.
  """

  def ask(subject, prompts, *, raw=False, temperature=None, columns=0):
    del raw, temperature, columns
    texts = says[subject.name](list(prompts))
    return responses(ctx, prompts, texts)

  subjects = tuple(bench.Subject(name, {}) for name in says)
  return bench.Bench(
    ctx, subjects, tuple(records), tuple(records), ask, None, {}
  )


def responses(ctx, prompts, texts):
  """Responses with these texts, all ended."""
  data = ctx.config.data
  ended = np.ones(len(texts), bool)
  prompt, is_prompt, _ = loader.encode_prompts(
    [""] * len(prompts), ctx.tokenizer, data.template, data.prompt_length
  )
  encoded = encode.responses(ctx, texts, ended)
  return respond.Responses(
    tuple(texts),
    ended,
    prompt,
    is_prompt,
    judged=encoded["response"],
    **encoded,
  )


def writer(records, maker=answers.ideal):
  """A subject that answers with `maker`: these records, and what the world asks
  of everybody."""
  specs = {record["prompt"]: json.loads(record["spec"]) for record in records}
  for prompt in playground.prompts("test", 8):
    specs[prompt.text] = prompt.spec

  def say(prompts):
    return [maker(random.Random(text), specs[text]) for text in prompts]

  return say
