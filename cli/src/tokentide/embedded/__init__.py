"""The whole system on one machine: the services of this repository, with other URLs."""
