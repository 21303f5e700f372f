"""Profiling: where a bundle's time goes, by operator and by layer of the model."""
