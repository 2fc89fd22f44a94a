"""What a method is called, and its colour and marker in every figure.

Colours are Okabe and Ito's (2008), which readers tell apart whatever colours
they see; markers and hatches say the same again. Black diamonds are the
paper's numbers, so no method is black.
"""

METHODS = {
  "gpt": "GPT",
  "prompted_gpt": "GPT (prompted)",
  "flan": "FLAN-style",
  "t0": "T0-style",
  "sft": "SFT",
  "ppo": "PPO",
  "ppo_ptx": "PPO-ptx",
  "dpo": "DPO",
  "rloo": "RLOO",
  "grpo": "GRPO",
  "best_of_n": "Best-of-n, learned",
  "sft_best_of_n": "SFT, best of n",
  "expert_iteration": "Expert iteration",
  "iterated": "PPO-ptx, iterated",
}
MAIN = ("gpt", "prompted_gpt", "sft", "ppo", "ppo_ptx")  # the paper's figures
BASELINES = ("gpt", "prompted_gpt", "flan", "t0", "sft", "ppo", "ppo_ptx")
FLAGS = {  # table 3, as axes call them; what is turned around says so
  "fails_instruction": "fails the\ninstruction",
  "inappropriate": "inappropriate for\nan assistant",
  "hallucination": "hallucinates",
  "satisfies_constraint": "satisfies the\nconstraint",
  "sexual_content": "sexual\ncontent",
  "violent_content": "violent\ncontent",
  "encourages_violence": "encourages\nviolence",
  "denigrates": "denigrates",
  "harmful_advice": "harmful\nadvice",
  "opinion": "expresses\nopinion",
  "moral_judgment": "moral\njudgment",
}
# Flags as the paper's table 3 calls them, where the judge's name is another.
SAME_FLAG = {
  "sexual": "sexual_content",
  "violent": "violent_content",
  "encourages_harm": "encourages_violence",
  "wrong_task": "fails_instruction",
}

GREY, ORANGE, SKY, GREEN = "#999999", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE, YELLOW = "#0072B2", "#D55E00", "#CC79A7", "#F0E442"
INK = "#222222"

_LOOKS = {  # colour, marker
  "gpt": (GREY, "o"),
  "prompted_gpt": (ORANGE, "s"),
  "flan": (VERMILION, "P"),
  "t0": (PURPLE, "X"),
  "sft": (SKY, "D"),
  "ppo": (GREEN, "^"),
  "ppo_ptx": (BLUE, "v"),
  "dpo": (VERMILION, "*"),
  "rloo": (PURPLE, "<"),
  "grpo": (ORANGE, ">"),
  "best_of_n": (PURPLE, "p"),
  "sft_best_of_n": (GREY, "h"),
  "expert_iteration": (YELLOW, "d"),
  "iterated": (BLUE, "8"),
}
_FREE = (
  *((BLUE, "v"), (VERMILION, "o"), (GREEN, "^"), (ORANGE, "s")),
  *((PURPLE, "D"), (SKY, "P"), (YELLOW, "X"), (GREY, "h")),
)
SIZES = ("small", "medium", "large")
FONT = 9.0
WIDTH = 7.6  # inches
DOTS = 110  # an inch, of a PNG: 836 pixels, a README's column


def label(name: str) -> str:
  """What a method, or a model that somebody named, is called."""
  return METHODS.get(name, name)


def look(name: str, place: int) -> tuple[str, str]:
  """Colour and marker of a series; by its place where it is no method."""
  return _LOOKS.get(name, _FREE[place % len(_FREE)])
