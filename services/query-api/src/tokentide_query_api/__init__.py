"""Tokentide."""
