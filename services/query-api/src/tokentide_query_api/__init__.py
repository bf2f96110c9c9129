"""The query API: analytics over the calls of one organisation."""
