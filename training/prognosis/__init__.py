"""Training of the networks of prognosis: losses, batches, what is left out at random."""
