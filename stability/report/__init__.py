"""From stored tables to one self-contained page."""
