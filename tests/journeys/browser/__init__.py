"""Pages in a real browser, of which several tests share one."""
