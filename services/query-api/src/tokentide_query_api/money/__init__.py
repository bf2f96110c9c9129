"""What usage costs: compared, projected, judged and bounded."""
