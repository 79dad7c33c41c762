"""What are the card and the host doing, and are they sound?"""
