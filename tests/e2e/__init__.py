"""Tests of the whole system, started as users start it."""
