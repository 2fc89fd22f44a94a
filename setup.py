"""Installs instruct_jax.

Extras: baselines, beam, label, lm-eval, parquet, test, parity, plan, gpu, tpu,
notebooks, wandb.
"""

import setuptools

LABEL = [
  "httpx>=0.28",
  "markdown-it-py>=4",
  "python-multipart>=0.0.20",
  "SQLAlchemy>=2.0",
  "starlette>=1.0",
  "uvicorn>=0.30",
]

setuptools.setup(
  name="instruct_jax",
  version="0.1.0",
  description="InstructGPT in JAX: SFT, reward model, PPO and PPO-ptx",
  license="Apache-2.0",
  python_requires=">=3.11",
  packages=setuptools.find_packages(include=["instruct_jax*", "experiments*"]),
  package_data={
    "instruct_jax": [
      "report/*.html",
      "report/*.css",
      "report/*.js",
      "data/clean/*.json",
      "collecting/*.jsonl",
      "collecting/*.md",
      "collecting/static/*",
      "collecting/templates/*",
    ],
  },
  install_requires=[
    "absl-py>=2.1",
    "array_record>=0.8; platform_system != 'Windows'",
    "chex>=0.1.90",
    "etils[epath]>=1.12",
    "flax>=0.12",
    "jax>=0.10",
    "importlib_resources>=6",  # tensorflow-datasets uses it undeclared
    "Jinja2>=3.1",
    "matplotlib>=3.9",
    "ml_dtypes>=0.5",
    "ml_collections>=1.0",
    "numpy>=2.0",
    "optax>=0.2.6",
    "orbax-checkpoint>=0.12",
    "protobuf>=4",
    "python-stdnum>=1.20",
    "rich>=13",
    "rouge-score>=0.1.2",
    "sacrebleu>=2.4",
    "safetensors>=0.5",
    "scipy>=1.13",
    "sentencepiece>=0.2.2",
    "tensorboardX>=2.6",
    "tensorflow-datasets>=4.9.9",
    "tokenizers>=0.21",
  ],
  extras_require={
    "baselines": ["scikit-learn>=1.5"],
    # Beam wants protobuf before 7: in an environment of its own.
    "beam": ["apache-beam>=2.77"],
    "label": LABEL,
    "lm-eval": ["lm_eval>=0.4.10"],
    "parquet": ["pyarrow>=17"],
    "test": [
      *LABEL,
      "hypothesis>=6.100",
      "ipykernel>=6.29",
      "nbclient>=0.10",
      "pyarrow>=17",
      "pyrefly>=1.4",
      "pytest>=8",
      "pytest-timeout>=2.3",
      "pytest-xdist>=3.6",
      "ruff>=0.17",
      "scikit-learn>=1.5",
      "selenium>=4.30",
      "wandb>=0.22",
    ],
    "parity": ["peft>=0.15", "torch>=2.6", "transformers>=4.51"],
    "gpu": ["jax[cuda13]>=0.10"],
    "tpu": ["jax[tpu]>=0.10"],
    "plan": ["libtpu>=0.0.40; platform_system == 'Linux'"],
    "notebooks": ["jupyter", "nbclient>=0.10"],
    "wandb": ["wandb>=0.22"],
  },
)
