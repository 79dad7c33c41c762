"""Are the models, caches and checkpoints there and sound?"""
