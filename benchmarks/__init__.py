"""Measurements to repeat on one's own machine; no part of the installed package."""
