"""Boxship beside its peers, in one run: only ratios taken in one run count on a noisy machine."""
