"""The kinds of stages: one file each, found by `continuum.stage.stage_kinds`."""
