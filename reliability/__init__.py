"""What shows that stMFG can be trusted to run unattended; ``python -m reliability`` runs all of it."""
