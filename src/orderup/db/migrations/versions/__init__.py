"""Revisions of the core tables, in one line: v0001_…, v0002_….

Each says whether it runs before or after the new code does: a server of the last release may still be at work while the
first of the new release migrates, so that a revision adds, and only the next release takes away.
"""
