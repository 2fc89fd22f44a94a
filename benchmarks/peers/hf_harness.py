"""lm-evaluation-harness, with `transformers`: likelihoods, and what is said.

The first run tries every batch size of the spec and keeps the fastest.
"""

import math
import pathlib
import tempfile
import time

import channel
import loading
from lm_eval.models import huggingface


def choices(spec: dict, link: channel.Channel) -> None:
  """The likelihood of every continuation."""
  model = loading.policy(spec).eval()
  asked = [
    (("", ""), prompt, one)
    for prompt, some in zip(spec["prompts"], spec["choices"])
    for one in some
  ]
  sides = _sides(spec, model)
  link.ready(**loading.facts(spec, model, "lm_eval"))
  chosen, tried = 0, {}
  while True:
    if not chosen:
      tried = {
        size: _seconds(lambda side=side: _found(side, asked))
        for size, side in sides.items()
      }
      chosen = min(tried, key=tried.__getitem__)
    said = _found(sides[chosen], asked)
    mean = sum(said) / len(said)
    link.done(
      units=len(said),
      nats=mean,
      finite=math.isfinite(mean),
      padding=round(_padding(asked, chosen), 4),
      chosen=f"batch {chosen}",
      tried={f"batch {size}": seconds for size, seconds in tried.items()},
    )


def says(spec: dict, link: channel.Channel) -> None:
  """What is said greedily to every prompt, up to the end."""
  model = loading.policy(spec).eval()
  model.generation_config.eos_token_id = loading.END
  sides = _sides(spec, model)
  link.ready(**loading.facts(spec, model, "lm_eval"))
  chosen, tried = 0, {}
  while True:
    if not chosen:
      tried = {
        size: _seconds(lambda size=size: _said(sides[size], spec, size))
        for size in sides
      }
      chosen = min(tried, key=tried.__getitem__)
    rows = _said(sides[chosen], spec, chosen)
    lengths = [len(row) for row in rows]
    link.done(
      lengths=lengths,
      units=sum(lengths),
      tokens_as_told=loading.as_told(spec, rows),
      chosen=f"batch {chosen}",
      tried={f"batch {size}": seconds for size, seconds in tried.items()},
    )


def _sides(spec, model):
  """The harness's model by batch size."""
  with tempfile.TemporaryDirectory() as folder:
    tokenizer = loading.tokenizer(spec, pathlib.Path(folder))
  return {
    size: huggingface.HFLM(
      pretrained=model, tokenizer=tokenizer, batch_size=size
    )
    for size in spec["ways"]
  }


def _said(side, spec, size):
  """By its own call for a batch, in its order: the longest prompts first."""
  prompts = spec["prompts"]
  order = sorted(range(len(prompts)), key=lambda n: -len(prompts[n]))
  rows = [[] for _ in prompts]
  for start in range(0, len(order), size):
    some = order[start : start + size]
    tokens, mask = loading.left(
      [prompts[n] for n in some], len(prompts[some[0]])
    )
    width = tokens.shape[1]
    found = side._model_generate(
      context=tokens,
      max_length=width + spec["response"],
      stop=["no text"],  # the end is a token
      attention_mask=mask,
    )[:, width:]
    for n, row, length in zip(some, found.tolist(), loading.lengths_of(found)):
      rows[n] = row[:length]
  return rows


def _seconds(run):
  start = time.perf_counter()
  run()
  return time.perf_counter() - start


def _found(side, asked):
  said = side._loglikelihood_tokens(asked, disable_tqdm=True)
  return [nats for nats, _ in said]


def _padding(asked, size):
  """The share of a batch's tokens that are padding: it takes the longest
  first, each row as long as the longest of its batch."""
  lengths = sorted((len(a) + len(b) - 1 for _, a, b in asked), reverse=True)
  slots = sum(
    len(lengths[n : n + size]) * lengths[n]
    for n in range(0, len(lengths), size)
  )
  return 1 - sum(lengths) / slots


if __name__ == "__main__":
  channel.serve({"choices": choices, "says": says})
