"""From a corpus to tokens: reading, tokenizing, packing."""
