"""The method as pure functions on tensors: no models, no files, no network. Where to find what:

- `schedule`: noise levels σ of a sampling run; the only conversion between σ and model time.
- `transitions`: one step σ → σ' as a Gaussian N(mean, std²), and its log-prob (docs/method.md §1).
- `credit`: raw rewards → z per group → advantages A[b, t]; what a missing reward means
  (docs/method.md §2).
- `shaping`: SARS and its rivals (docs/method.md §2).
- `gains`: by how much the noise of one step changed a reward (docs/method.md §2).
- `rules`: the credit rules that a recipe may name, as a table.
- `timeweights`: TDW, the weight of each reward at each step, and its rivals (docs/method.md §2).
- `objective`: ratio, clipping, GRPO-Guard, KL (docs/method.md §3).

Symbols: x latents [B, …], v velocity (noise − image), σ noise level (1 noise, 0 image), G group
size, K rewards, B samples, T steps. A group is G neighbours among the B samples. Arithmetic is in
float32 whatever the inputs' lower precision; float64 stays float64. `docs/method.md` maps every
equation to its function and its test.
"""
