"""Small real servers that stand in for third parties, all at one port of this machine, a file each.

    async with serve_sandbox(0, scale=100) as sandbox:
        sandbox.mealbox.products.switch("classic-box", status=503)
        ...  # talk to f"{sandbox.base_url}/mealbox"
        assert sandbox.mealbox.ledger.counts["/products/classic-box"] == 1

Third parties with an API of their own have one switch for all of their calls: sandbox.jira.switch(status=503).

What each answers can be switched to be slow, failing or malicious, here or by HTTP, and what came is written down. It
is for trying and testing: it listens on this machine only, and keeps nothing when it ends.
"""

from orderup.sandbox.behaviour import Body
from orderup.sandbox.ledger import Arrival, Ledger, Outcome
from orderup.sandbox.server import Sandbox, serve_sandbox

__all__ = ["Arrival", "Body", "Ledger", "Outcome", "Sandbox", "serve_sandbox"]
