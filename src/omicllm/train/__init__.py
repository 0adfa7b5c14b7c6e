"""Lightning data modules and training plans."""
