"""Whoever carries out the same orders: each a program of its own that prints one line of JSON.

An order is four tasks, one after the other, whose handlers do nothing. It is durable: a killed process loses none.
"""
