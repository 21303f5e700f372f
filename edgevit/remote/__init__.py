"""Boards over SSH: a bundle is copied there, run there, and its report comes back."""
