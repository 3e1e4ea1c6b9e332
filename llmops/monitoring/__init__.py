"""How is it this morning, and what did people say?"""
