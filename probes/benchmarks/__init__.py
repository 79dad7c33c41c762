"""How fast is it, against its target and its past?"""
