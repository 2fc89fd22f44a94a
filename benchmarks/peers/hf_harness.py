"""lm-evaluation-harness, with `transformers`, finds likelihoods of tokens.

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
  with tempfile.TemporaryDirectory() as folder:
    tokenizer = loading.tokenizer(spec, pathlib.Path(folder))
  asked = [
    (("", ""), prompt, one)
    for prompt, some in zip(spec["prompts"], spec["choices"])
    for one in some
  ]
  sides = {
    size: huggingface.HFLM(
      pretrained=model, tokenizer=tokenizer, batch_size=size
    )
    for size in spec["ways"]
  }
  link.ready(**loading.facts(spec, model, "lm_eval"))
  chosen, tried = 0, {}
  while True:
    if not chosen:
      tried = {size: _timed(side, asked) for size, side in sides.items()}
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


def _timed(side, asked):
  start = time.perf_counter()
  _found(side, asked)
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
  channel.serve({"choices": choices})
