"""Predictions over HTTP from the current champion, with all that comes in on disk before it is answered."""
