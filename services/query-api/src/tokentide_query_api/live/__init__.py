"""The live stream: what is counted, as it is counted."""
