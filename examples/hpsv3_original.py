"""The original `hpsv3` package as a reward: it pins an old transformers, so it runs elsewhere.

In its own environment: likewise serve-reward examples.hpsv3_original:preference
"""

from functools import cache

from hpsv3 import HPSv3RewardInferencer


@cache
def model():
    return HPSv3RewardInferencer(device="cuda")  # downloads weights at its first use


def preference(images, tasks):
    """μ of each image, about −1 to 15."""
    prompts = [task.prompt for task in tasks]
    return model().reward(prompts=prompts, image_paths=list(images))[:, 0].float().cpu()
