"""The folder that users see as `runs/`: names, records, artifacts, hashes, provenance."""
