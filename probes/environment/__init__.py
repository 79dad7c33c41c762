"""Is this machine set up right?"""
