"""torch, Lightning Fabric and LitGPT live here and nowhere else."""
