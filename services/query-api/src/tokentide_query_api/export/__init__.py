"""Exports: everything of a period in one answer, whatever its size."""
