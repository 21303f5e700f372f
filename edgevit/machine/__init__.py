"""Machines: what this one is, and what a board of another kind can run."""
