"""What a change of an experiment means: fields by role, work to do again, cost, lock."""
