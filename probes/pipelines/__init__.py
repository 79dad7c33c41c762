"""Do whole workflows work, from input to finished file?"""
