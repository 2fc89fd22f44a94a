"""InstructGPT in JAX: pretraining, SFT, reward model, PPO and PPO-ptx."""

__version__ = "0.1.0"
