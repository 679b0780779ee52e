"""Simulated people: customers, staff and workers, who reach a server as real ones would, over HTTP and WebSocket."""
