"""Recipes, the view of a clip, run folders, networks and teachers by name, trainings side by side."""
