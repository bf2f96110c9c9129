"""The OTLP receiver: telemetry becomes usage events and activity facts."""
