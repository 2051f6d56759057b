"""Known ways to break continuum, each with the tests that must notice it."""
