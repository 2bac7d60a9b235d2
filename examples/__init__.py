"""Examples that run: `python -m examples.service`."""
