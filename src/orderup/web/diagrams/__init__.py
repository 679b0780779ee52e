"""Pictures of how a shop's tasks are scheduled: what is drawn (drawing.py), as Mermaid and as SVG."""
