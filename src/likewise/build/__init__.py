"""The only room that knows concrete plug-ins by name: recipes → parts → runs."""
