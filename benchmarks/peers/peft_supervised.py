"""Epochs of a plain training loop in torch, with adapters of PEFT."""

import math

import channel
import loading
import peft
import torch


def sft(spec: dict, link: channel.Channel) -> None:
  """Demonstrations, one a row, padded to the longest of their batch."""
  model = loading.policy(spec)
  facts = loading.facts(spec, model, "peft")
  config = peft.LoraConfig(
    r=spec["rank"],
    lora_alpha=16,
    target_modules=["c_attn", "c_proj", "c_fc"],  # every layer
    fan_in_fan_out=True,
    task_type="CAUSAL_LM",
  )
  model = peft.get_peft_model(model, config).train()
  trained = [x for x in model.parameters() if x.requires_grad]
  optimizer = torch.optim.AdamW(trained, lr=loading.RATE)
  both = list(zip(spec["prompts"], spec["responses"]))
  size = spec["batch"]
  batches = [both[i : i + size] for i in range(0, len(both), size)]
  link.ready(**facts)
  while True:
    units, losses = 0, []
    for batch in batches:
      tokens, mask, labels = _padded(batch)
      out = model(input_ids=tokens, attention_mask=mask, labels=labels)
      out.loss.backward()
      torch.nn.utils.clip_grad_norm_(trained, 1.0)
      optimizer.step()
      optimizer.zero_grad()
      units += int((labels[:, 1:] != -100).sum())
      losses.append(out.loss.item())
    mean = sum(losses) / len(losses)
    finite = math.isfinite(mean)
    link.done(units=units, losses={"loss": mean}, finite=finite)


def _padded(batch):
  """(tokens, mask, labels) [B, T], padded on the right."""
  T = max(len(p) + len(r) for p, r in batch)
  tokens = torch.full((len(batch), T), loading.PAD)
  labels = torch.full((len(batch), T), -100)
  mask = torch.zeros((len(batch), T), dtype=torch.long)
  for i, (prompt, response) in enumerate(batch):
    n, end = len(prompt), len(prompt) + len(response)
    tokens[i, :end] = torch.tensor([*prompt, *response])
    labels[i, n:end] = torch.tensor(response)
    mask[i, :end] = 1
  return tokens, mask, labels


if __name__ == "__main__":
  channel.serve({"sft": sft})
