"""Training side of the prognosis: cohorts, scaling, nested cross-validation, methods, measures."""
