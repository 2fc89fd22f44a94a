"""`transformers` generates, in the way and batch size that suit it best.

The first run tries every way of the spec on the whole work ("eager", and
"static": the static cache and the compiled step) and keeps the fastest.
"""

import time

import channel
import loading
import torch
import transformers


def generate(spec: dict, link: channel.Channel) -> None:
  """Every prompt's response."""
  model = loading.policy(spec).eval()
  link.ready(**loading.facts(spec, model))
  chosen, tried = None, {}
  while True:
    if chosen is None:
      tried = {
        f"{way}, batch {size}": _timed(model, spec, way, size)
        for way, size in spec["ways"]
      }
      best = min(tried, key=tried.__getitem__)
      chosen = spec["ways"][list(tried).index(best)]
    rows = _respond(model, spec, *chosen)
    lengths = [len(row) for row in rows]
    link.done(
      lengths=lengths,
      units=sum(lengths),
      tokens_as_told=loading.as_told(spec, rows),
      chosen=f"{chosen[0]}, batch {chosen[1]}",
      tried=tried,
    )


def _timed(model, spec, way, size):
  """Seconds; the first call, which compiles, is left out."""
  if way == "static":
    _respond(model, spec, way, size, most=size)
  start = time.perf_counter()
  _respond(model, spec, way, size)
  return time.perf_counter() - start


@torch.no_grad()
def _respond(model, spec, way, size, most=None):
  """The responses' tokens up to the end, of the first `most` prompts."""
  settings = {
    "do_sample": True,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "max_new_tokens": spec["response"],
    "eos_token_id": loading.END,
    "pad_token_id": loading.PAD,
  }
  if way == "static":
    compiled = transformers.CompileConfig(fullgraph=False)
    compiled._compile_all_devices = True  # else on accelerators alone
    settings |= {"cache_implementation": "static", "compile_config": compiled}
  config = transformers.GenerationConfig(**settings)
  rows = []
  prompts = spec["prompts"][:most]
  for i in range(0, len(prompts), size):
    tokens, mask = loading.left(prompts[i : i + size], spec["prompt"])
    found = model.generate(
      input_ids=tokens, attention_mask=mask, generation_config=config
    )
    found = found[:, tokens.shape[1] :]
    lengths = loading.lengths_of(found)
    rows += [row[:n] for row, n in zip(found.tolist(), lengths)]
  return rows


if __name__ == "__main__":
  channel.serve({"generate": generate})
