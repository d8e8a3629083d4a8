"""The networks of TMI-CLNet. ``spec`` needs no torch, all other modules do."""
