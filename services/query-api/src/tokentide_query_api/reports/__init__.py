"""Named reports: each a question that people ask by name, answered exactly."""
