"""PPO against a word list: a rule in the place of the reward model.

The score of a response is how many of `config.reward.words.words` it uses. The
KL coefficient adapts so that the policy stays `config.rl.kl_target` nats a
response from where it started (README, detail 12). For a pretrained model of
any size, as the README shows with a story-teller of 260,000 parameters:

  python -m experiments.story_prompts > prompts.jsonl
  python -m instruct_jax.main --config=experiments/ppo_words.py \\
    --config.pretrained=hf:stories260K --config.data.prompts=prompts.jsonl

Hardware: 2 CPU cores for a small model. Expected: the score rises while the KL
settles at its target; the README's results say by how much.
"""

from experiments import common, ppo

DEFAULTS = ppo.DEFAULTS | {
  "needs": {
    "data": "dataset.py",
    "policy": "pretrain.py",
    "sft": "pretrain.py",
  },
  "evaluation.subjects": {
    "sft": common.subject("sft"),
    "ppo_words": common.subject(),
  },
}
VARIANTS = {
  "files": ppo.FILES
  | {
    "reward.model.weight": 0.0,
    "reward.words.weight": 1.0,
    "reward.words.words": (
      *("happy", "friend", "smiled"),
      *("thank", "love", "hug"),
    ),
    "data.template": "plain",
    "data.prompt_length": 32,
    "data.response_length": 64,
    "data.row_length": 128,
    "rl.kl_target": 6.0,
    "rl.kl_horizon": 200.0,
    "rl.missing_end": "none",  # stories are longer than a response
    "batch.prompts": 128,
    "validation.prompts": 128,
    "steps": 80,
    "optimizer.policy.learning_rate": 2e-4,
    "evaluation.batch": 64,
  }
}


def get_config(variant="files"):
  """Variants: files."""
  return common.training("ppo_words", variant, "ppo", DEFAULTS, VARIANTS)
