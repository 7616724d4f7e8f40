"""What the policy on Stable Diffusion's UNets is made of."""
