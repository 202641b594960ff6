"""The one-shot pipeline: build everything, prove everything, relate, judge, write."""
