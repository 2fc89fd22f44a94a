"""The parts of a report: tables, curves, samples, pictures."""
