"""Whole processes, some of them killed, frozen or cut off on the way."""
