"""Processes on several hosts: network namespaces of this machine, whose links can be cut.

A host has addresses of its own, and process ids of its own, so that no other host can know of its processes' end.
"""
