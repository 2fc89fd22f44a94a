"""Run folders for tests: a data set, runs of random parameters, as on disk."""

import json

import jax

from experiments import ppo_ptx, rm, sft
from instruct_jax import tokenizers
from instruct_jax.inference import context
from instruct_jax.parallel import checkpoint
from tests import toys

SENTENCES = [
  "what job does ann have ? \n ann is a nurse .",
  "where does bob live ? \n bob lives in oslo .",
  "list three animals . \n a cow , a pig and a goat .",
]
EXPERIMENTS = {"sft": sft, "rm": rm, "ppo_ptx": ppo_ptx}


def write_json(path, tree):
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(tree, default=str))


def record_of(config, needs):
  """What config.json holds."""
  return {"digest": "d", "needs": needs, "config": config.to_dict()}


def dataset(root, texts=SENTENCES):
  """A finished data set with a word tokenizer."""
  folder = root / "dataset-test"
  tokenizers.train(texts, folder, kind="word", vocab_size=1000)
  config = sft.get_config("test").unlock()
  config.job, config.product = "dataset", ""
  write_json(folder / "config.json", record_of(config, {}))
  write_json(folder / "results.json", {"product": {}, "metrics": {}})
  return folder


def make(root, experiment, *, name="", seed=0, steps=(3,), done=True, **needs):
  """A run with a checkpoint of random parameters for every step.

  `needs` are folder names under `root`. Returns the folder and the parameters
  by step.
  """
  config = EXPERIMENTS[experiment].get_config("test")
  folder = root / (name or f"{experiment}-test")
  paths = {
    n: f"../{path}" for n, path in ({"data": "dataset-test"} | needs).items()
  }
  write_json(folder / "config.json", record_of(config, paths))
  ctx = context.make(config, {"data": root / "dataset-test"})
  role = config.product
  item = f"{'ema' if role in config.ema else 'params'}.{role}"
  found = {}
  with checkpoint.Checkpointer(folder / "checkpoints", keep_latest=9) as saver:
    for step in steps:
      key = jax.random.key(seed + step)
      found[step] = toys.init_params(ctx.model(role), key)
      saver.save(step, {item: found[step]})
  if done:
    product = {"run": ".", "step": steps[-1], "item": item}
    results = {"experiment": experiment, "metrics": {}, "product": product}
    results["config_digest"] = name or experiment
    write_json(folder / "results.json", results)
  return folder, found
