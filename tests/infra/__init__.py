"""The parts that tests run against: real brokers, real stores, and ways to hurt them."""
