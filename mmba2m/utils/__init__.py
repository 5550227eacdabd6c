"""What tools and package share: the check of the installed stack."""
