"""The real world: every door a probe may knock at, one file each; `real.py` joins them."""
