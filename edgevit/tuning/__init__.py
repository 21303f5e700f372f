"""Tuning: `edgevit tune`, from a model's traits to the front of a measured search and a bundle of its best point.

Read in this order: `traits` and `worth` say what can be varied, `search_space` what is, `workbench` builds and
measures, edgevit.search decides what to try, and `tune` makes a result of it.
"""
