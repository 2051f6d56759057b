"""Wrong specs in great number, each with the known place of its mistake, and their judge."""
