"""Human studies: people compare images in pairs, without knowing which system drew which.

A study is a folder, which `likewise study-people create` makes, and which the app and the reports
read:

    people.json      what is asked of whom, and the secret part of the raters' address
    pairs.jsonl      every pair of images: the task, the systems, their automatic scores
    images/          all images, in one format and size, under names that tell nothing
    votes.sqlite     who was shown what, and every vote

Modules: `files` and `store` are the formats, `committing` lets writers share a commit, `design`
decides who sees what, `creating` makes a study, `ballots` and `findings` say what came out,
`reporting` and `page` write it down, and `preference_export` turns votes into preferences to learn
from. Nothing here knows a web server, or imports torch.
"""
