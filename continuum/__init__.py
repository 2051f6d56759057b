"""A declarative YAML experiment runner for (continued) pretraining with LitGPT."""

__version__ = "0.1.0"
