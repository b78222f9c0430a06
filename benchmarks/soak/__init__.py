"""Faults by the thousand: bad inputs, and runs that are killed at random moments."""
