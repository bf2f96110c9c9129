"""Organisations, people, keys and who may do what: the routes besides reading usage."""
