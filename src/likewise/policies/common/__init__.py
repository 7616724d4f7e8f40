"""What all policies on diffusers pipelines share."""
