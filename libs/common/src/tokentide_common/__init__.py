"""The words that every Tokentide service shares: events, merging, prices, boundaries, errors."""
