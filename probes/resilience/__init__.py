"""What happens under load and when something breaks?"""
