"""Reading usage out of answers, beside the client: pure, bounded, and unable to change an answer."""
