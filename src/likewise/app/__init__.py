"""The web app: run directories, images and human studies in a browser.

Plain pages by Starlette and Jinja2, with small scripts of our own. The app reads folders and never
imports the trainer; only what lies in the folders that it was given is served. Modules:

- `catalogue` knows what is there, and `access` who may see it.
- `runs` and `telemetry` show what training does, `gallery` what evaluations drew.
- `playground` takes orders for images; who draws them is handed in.
- `rating` is the page that raters see, `studies` the pages about human studies.
- `server` puts them together.
"""
