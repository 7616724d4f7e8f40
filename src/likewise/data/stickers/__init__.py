"""The sticker world: subjects, marks, scenes, prompts, tasks, and its benchmark."""
