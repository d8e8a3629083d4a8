"""Statistics, explanation scores, figures and report of a run: plain functions on arrays."""
