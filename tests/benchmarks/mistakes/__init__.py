"""The corpus of mistakes through the validations of DVC and of OmegaConf's structured configs."""
