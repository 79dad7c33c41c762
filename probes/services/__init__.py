"""Do the services answer, correctly and in time?"""
