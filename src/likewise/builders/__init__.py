"""The only package that knows concrete plug-ins by name: recipes → parts → runs."""
