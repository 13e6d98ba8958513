"""What a person or a machine can see of a running node: log lines and metrics."""
