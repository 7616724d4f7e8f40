"""What the policies of the FLUX.1 family share."""
