"""Who runs handlers."""
