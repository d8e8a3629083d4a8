"""Training of the networks of prognosis: losses, batches, what is left out at random."""
"""Training side of the prognosis: cohorts, scaling, nested cross-validation, methods, measures."""
